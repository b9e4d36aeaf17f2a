//! What requests cost an engine whose host is in memory, from the frame on the wire to the frame of the reply.
//!
//! What changes something has a request that takes it back in the same time, and is recorded twice. The store is a file in
//! memory where there is a place for that, so that no disk is measured.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that cannot go on fails")]

#[path = "support/node.rs"]
mod node;

use std::path::Path;

use divan::Bencher;
use node::{Node, requests};
use tempfile::TempDir;

const PEERS: [u32; 2] = [10, 10_000];

fn main() {
    divan::main();
}

#[divan::bench(args = PEERS)]
fn hello(bencher: Bencher<'_, '_>, peers: u32) {
    ask(bencher, "hello", peers);
}

#[divan::bench(args = PEERS)]
fn status(bencher: Bencher<'_, '_>, peers: u32) {
    ask(bencher, "status", peers);
}

#[divan::bench(args = PEERS)]
fn add_and_remove_peer(bencher: Bencher<'_, '_>, peers: u32) {
    ask(bencher, "peer", peers);
}

#[divan::bench(args = PEERS)]
fn add_and_remove_allowed_ip(bencher: Bencher<'_, '_>, peers: u32) {
    ask(bencher, "allowed-ip", peers);
}

#[divan::bench(args = PEERS)]
fn register_and_unregister_dns(bencher: Bencher<'_, '_>, peers: u32) {
    ask(bencher, "dns", peers);
}

#[divan::bench(args = PEERS)]
fn attach_and_detach(bencher: Bencher<'_, '_>, peers: u32) {
    ask(bencher, "attach", peers);
}

fn ask(bencher: Bencher<'_, '_>, step: &str, peers: u32) {
    let (node, requests) = (Node::new(directory(), peers), requests(step));
    bencher.bench_local(|| node.ask(&requests));
}

fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}
