//! The overlay network daemon and its command line.

#[cfg_attr(not(test), expect(dead_code, unused_imports, reason = "the daemon that listens is wired next to it"))]
mod ipc;

fn main() {}
