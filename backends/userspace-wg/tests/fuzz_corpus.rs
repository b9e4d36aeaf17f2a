//! The fuzz targets' corpus, replayed by every test run.

#[path = "../fuzz/properties.rs"]
mod properties;

use std::{fs, path::Path};

fn replay(target: &str, property: fn(&[u8]), least: usize) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let inputs = fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut replayed = 0;
    for input in inputs {
        let path = input.expect("the corpus can be listed").path();
        property(&fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())));
        replayed += 1;
    }
    assert!(replayed >= least, "only {replayed} inputs in {}", directory.display());
}

#[test]
fn the_control_socket_s_text_holds_for_its_corpus() {
    replay("uapi", properties::uapi, 8);
}

#[test]
fn a_device_holds_for_its_corpus_of_datagrams() {
    replay("datagrams", properties::datagrams, 10);
}

#[test]
fn frames_and_what_becomes_of_them_hold_for_their_corpus() {
    replay("frames", properties::frames, 30);
}
