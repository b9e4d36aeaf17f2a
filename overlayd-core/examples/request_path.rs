//! Requests to an engine on a host in memory, a number of times, for counting instructions:
//! `request_path STEP TIMES [PEERS]`. `testkit/count` runs it.
//!
//! The count for one request is the difference between two runs divided by the difference in times.
#![allow(clippy::unwrap_used, reason = "a tool for measurements")]

#[path = "../benches/support/node.rs"]
mod node;

use std::hint::black_box;

use node::{Node, requests};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [step, times, peers @ ..] = &arguments[..] else { panic!("request_path STEP TIMES [PEERS]") };
    let peers = peers.first().map_or(10, |peers| peers.parse().unwrap());
    let node = Node::new(tempfile::tempdir().unwrap(), peers);
    let requests = requests(step);
    for _ in 0..times.parse::<u32>().unwrap() {
        black_box(node.ask(&requests));
    }
}
