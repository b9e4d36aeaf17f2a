//! The fuzz target's corpus, and inputs near it, tried by every test run.

#[path = "../fuzz/properties.rs"]
mod properties;

use std::path::Path;

use overlayd_testkit::fuzz;

#[test]
fn what_is_asked_and_answered_holds_for_its_corpus() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    fuzz::replay(&fuzz, "message", properties::message, 20, 20_000);
}
