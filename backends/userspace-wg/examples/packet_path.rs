//! The path of a frame through two devices, a number of times, for counting instructions:
//! `packet_path STEP TIMES [OTHER PEERS]`.
//!
//! The count for one time is the difference between two runs divided by the difference in times; `testkit/count` does that
//! and leaves the cipher out.
#![allow(clippy::unwrap_used, reason = "a tool for measurements")]

#[path = "../benches/support/path.rs"]
mod path;

use std::hint::black_box;

use path::Path;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, step, times, others @ ..] = &arguments[..] else {
        panic!("packet_path cut|seal|open|gather|packet|wake TIMES [OTHER PEERS]")
    };
    let mut path = Path::among(others.first().map_or(0, |others| others.parse().unwrap()));
    for _ in 0..times.parse::<u32>().unwrap() {
        let done = match step.as_str() {
            "cut" => path.cut(),
            "seal" => path.seal(),
            "open" => {
                path.seal();
                path.open()
            }
            "gather" => {
                path.seal();
                path.open();
                path.coalesce()
            }
            "packet" => path.packet(),
            "wake" => path.wake(),
            other => panic!("no such step: {other}"),
        };
        black_box(done);
    }
}
