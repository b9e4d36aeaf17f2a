//! Load on the real daemon: how fast it attaches and detaches containers, takes peers and answers, next to what the
//! kernel and the disk need by themselves in the same run.
//!
//! ```sh
//! cargo bench -p overlayd --bench load -- attach        # or: control, small, all
//! cargo bench -p overlayd --bench load -- attach --containers 200 --beside 1000 --json target/load.json
//! ```
//!
//! Needs root and network namespaces of its own; leaves nothing behind.
#![allow(clippy::unwrap_used, reason = "a load generator that cannot go on ends")]

mod attach;
mod control;
mod floor;
mod nat;
mod node;
mod pipeline;
mod small;
mod stats;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use self::stats::Report;

/// What to measure, and on what.
#[derive(Debug, Clone, Parser)]
struct Args {
    /// What to measure.
    #[arg(value_enum, default_value_t = What::All)]
    what: What,
    /// Containers that come and go in each round.
    #[arg(long, default_value_t = 200)]
    containers: usize,
    /// Containers that are there all the while in the rounds with many.
    #[arg(long, default_value_t = 1000)]
    beside: usize,
    /// Clients at the same time.
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// Peers of the node.
    #[arg(long, default_value_t = 10_000)]
    peers: usize,
    /// The daemon to load, if not the one built with this.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_overlayd"))]
    overlayd: PathBuf,
    /// Where to write the figures as JSON as well.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Cargo passes it to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Attach,
    Control,
    Small,
    All,
}

fn main() {
    let args = Args::parse();
    assert!(overlayd_testkit::lab::available(), "a lab is needed");
    let mut report = Report::default();
    let wants = |what| args.what == what || args.what == What::All;
    if wants(What::Attach) {
        attach::measure(&args, &mut report);
    }
    if wants(What::Control) {
        control::measure(&args, &mut report);
    }
    if wants(What::Small) {
        small::measure(&args, &mut report);
    }
    if let Some(path) = &args.json {
        std::fs::write(path, report.json()).unwrap();
    }
}
