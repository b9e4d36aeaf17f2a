//! The fuzz targets' corpus, and inputs near it, tried by every test run.

#[path = "../fuzz/properties.rs"]
mod properties;

use std::path::Path;

use overlayd_testkit::fuzz;

fn replay(target: &str, property: fn(&[u8]), least: usize, variations: usize) {
    fuzz::replay(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz"), target, property, least, variations);
}

#[test]
fn the_control_socket_s_text_holds_for_its_corpus() {
    replay("uapi", properties::uapi, 8, 20_000);
}

#[test]
fn a_device_holds_for_its_corpus_of_datagrams() {
    replay("datagrams", properties::datagrams, 10, 1_000);
}

#[test]
fn frames_and_what_becomes_of_them_hold_for_their_corpus() {
    replay("frames", properties::frames, 30, 10_000);
}
