//! The overlay network daemon and its command line.

fn main() {}
