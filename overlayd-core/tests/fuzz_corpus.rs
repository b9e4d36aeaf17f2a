//! The fuzz targets' corpus, and inputs near it, tried by every test run.

#[path = "../fuzz/properties.rs"]
mod properties;

use std::path::Path;

use overlayd_testkit::fuzz;

fn replay(target: &str, property: fn(&[u8]), least: usize, variations: usize) {
    fuzz::replay(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz"), target, property, least, variations);
}

#[test]
fn the_frame_decoder_holds_for_its_corpus() {
    replay("frame", properties::frame, 20, 20_000);
}

#[test]
fn the_edge_token_decoder_holds_for_its_corpus() {
    replay("edge_token", properties::edge_token, 6, 5_000);
}

#[test]
fn a_node_holds_for_its_corpus_of_requests() {
    replay("requests", properties::requests, 6, 300);
}
