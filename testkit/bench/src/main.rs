//! `cargo xtask`: the tasks that need the whole tree, which is one so far: measuring beside other programs.

mod attach;
mod build;
mod dns;
mod load;
mod peers;
mod processes;
mod report;
mod small;
mod tunnel;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, ValueEnum};

use crate::report::Report;

/// Tasks of the development of overlayd.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
enum Task {
    /// Measure overlayd beside the programs it is compared with, as root.
    Bench(Options),
}

/// What is measured, and how long.
#[derive(Debug, Clone, Args)]
struct Options {
    /// Comparisons to run [default: all]
    #[arg(long, value_delimiter = ',', value_name = "WHICH")]
    only: Vec<Comparison>,
    /// Times that every contender of a comparison has its turn
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: usize,
    /// Seconds of each transfer
    #[arg(long, default_value_t = 4, value_name = "S")]
    seconds: u32,
    /// Measure only with the programs that are there, and install none
    #[arg(long)]
    offline: bool,
}

/// What can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Comparison {
    /// WireGuard in user space: rates, processor time, round trips
    Tunnel,
    /// Containers that come and go
    Attach,
    /// Requests over the socket, and many peers
    Control,
    /// Names
    Dns,
    /// Start-up, memory, size
    Small,
}

fn main() -> Result<()> {
    let Task::Bench(options) = Task::parse();
    let overlayd = build::overlayd()?;
    let mut report = Report::default();
    for comparison in Comparison::value_variants() {
        if options.only.is_empty() || options.only.contains(comparison) {
            eprintln!("== {comparison:?}");
            match comparison {
                Comparison::Tunnel => tunnel::compare(&options, &overlayd, &mut report)?,
                Comparison::Attach => attach::compare(&options, &overlayd, &mut report)?,
                Comparison::Control => load::measure("control", "Requests and peers", &mut report)?,
                Comparison::Dns => dns::compare(&options, &mut report)?,
                Comparison::Small => small::compare(&mut report)?,
            }
        }
    }
    let directory = PathBuf::from("target/bench");
    report.write(&directory).with_context(|| format!("could not write to {}", directory.display()))?;
    println!("{}", report.markdown());
    println!("written to {}", directory.join("report.md").display());
    Ok(())
}
