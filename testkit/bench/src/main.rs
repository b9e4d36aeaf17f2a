//! `cargo xtask`: the tasks that need the whole tree, which is one so far: measuring overlayd and other programs side by side.

mod attach;
mod build;
mod dns;
mod load;
mod peers;
mod processes;
mod report;
mod small;
mod targets;
mod tunnel;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    time::Instant,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::{Args, Parser, ValueEnum};

use crate::{peers::Peers, report::Report};

/// Tasks of the development of overlayd.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
enum Task {
    /// Measure overlayd and the programs it is compared with, as root.
    Bench(Options),
}

/// What is measured, and how long.
#[derive(Debug, Clone, Args)]
struct Options {
    /// Parts to run [default: all]
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    only: Vec<Part>,
    /// Times that every contender of a comparison has its turn
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: usize,
    /// Seconds of each transfer, and of each run of questions
    #[arg(long, default_value_t = 3, value_name = "S")]
    seconds: u32,
    /// Containers that there are all the while in the rounds with many
    #[arg(long, default_value_t = 1000, value_name = "N")]
    beside: usize,
    /// Peers of a node that has many
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    peers: usize,
    /// The daemon to measure [default: that of this tree, built as it is released]
    #[arg(long, value_name = "FILE")]
    overlayd: Option<PathBuf>,
    /// Directories with programs to compare with, looked into before PATH
    #[arg(long, env = "OVERLAYD_BENCH_PEERS", value_delimiter = ':', value_name = "DIRECTORY")]
    programs: Vec<PathBuf>,
    /// Compare with the programs that are there, and install none
    #[arg(long)]
    offline: bool,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
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

/// What every part is given.
struct Bench {
    options: Options,
    /// The binary that is measured.
    overlayd: PathBuf,
    peers: Peers,
    report: Report,
}

impl Bench {
    fn run(&mut self, part: Part) -> Result<()> {
        match part {
            Part::Tunnel => tunnel::compare(self),
            Part::Attach => attach::compare(self),
            Part::Control => load::measure(self, load::CONTROL),
            Part::Dns => dns::compare(self),
            Part::Small => small::compare(self),
        }
    }
}

fn main() -> Result<()> {
    let Task::Bench(options) = Task::parse();
    ensure!(overlayd_lab::available(), "a lab is needed");
    let mut bench = Bench {
        overlayd: match &options.overlayd {
            // The lab starts it from elsewhere.
            Some(given) => given.canonicalize().with_context(|| format!("no daemon at {}", given.display()))?,
            None => build::overlayd()?,
        },
        peers: Peers::new(&options.programs, options.offline),
        options,
        report: Report::default(),
    };
    let only = bench.options.only.clone();
    let mut failed = Vec::new();
    for part in Part::value_variants().iter().filter(|part| only.is_empty() || only.contains(part)) {
        eprintln!("== {part:?}");
        let begun = Instant::now();
        if let Err(why) = survived(|| bench.run(*part)) {
            eprintln!("   {part:?} ended early: {why}");
            failed.push(format!("{part:?}: {why}"));
        }
        eprintln!("   {part:?} took {} s", begun.elapsed().as_secs());
    }
    let directory = PathBuf::from("target/bench");
    bench.report.finish(&bench.peers, &failed);
    bench.report.write(&directory).with_context(|| format!("could not write to {}", directory.display()))?;
    println!("{}", bench.report.markdown());
    println!("written to {}", directory.join("report.md").display());
    ensure!(failed.is_empty(), "not everything was measured:\n{}", failed.join("\n"));
    Ok(())
}

/// What the work came to; the lab panics with the reason where it cannot be what is asked of it.
fn survived<T>(work: impl FnOnce() -> Result<T>) -> Result<T, String> {
    let outcome = catch_unwind(AssertUnwindSafe(work));
    outcome.unwrap_or_else(|_| Err(anyhow!("a panic, whose words are above"))).map_err(|error| format!("{error:#}"))
}
