//! The path of a frame through two devices, a number of times, for counting instructions:
//! `packet_path STEP TIMES [OTHER PEERS]`.
//!
//! The count for one frame is the difference between two runs divided by the difference in times:
//!
//! ```text
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/examples/packet_path seal 100
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/examples/packet_path seal 200
//! ```
#![allow(clippy::unwrap_used, reason = "a tool for measurements")]

#[path = "../benches/support/path.rs"]
mod path;

use std::hint::black_box;

use path::Path;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, step, times, others @ ..] = &arguments[..] else { panic!("packet_path cut|seal|open|gather TIMES") };
    let mut path = Path::among(others.first().map_or(0, |others| others.parse().unwrap()));
    for _ in 0..times.parse::<u32>().unwrap() {
        match step.as_str() {
            "cut" => black_box(path.cut()),
            "seal" => black_box({
                path.seal();
                path::FRAME
            }),
            "open" => black_box({
                path.seal();
                path.open();
                path::FRAME
            }),
            "gather" => black_box({
                path.seal();
                path.open();
                path.gather()
            }),
            other => panic!("no such step: {other}"),
        };
    }
}
