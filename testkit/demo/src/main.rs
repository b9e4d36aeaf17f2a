//! The demo: two hosts on this machine, each with its own daemon, driven over the socket as an orchestrator drives them.
//!
//! [`daemon`] builds the program that is shown, [`privilege`] obtains the rights to make namespaces, [`supervisor`] runs
//! the story in a process of its own and removes what it made, [`story`] is what happens, on the lab of `overlayd-lab`,
//! [`site`] is one of its hosts, and [`show`] prints it.

mod daemon;
mod privilege;
mod show;
mod site;
mod story;
mod supervisor;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Parser;

use self::{privilege::Rights, show::Show, story::Story};

/// Builds two hosts on this machine, connects containers across them, and shows that it works
#[derive(Debug, Parser)]
#[command(name = "overlayd-demo", version)]
struct Options {
    /// Leave everything running until Ctrl-C, and say how to enter it
    #[arg(long)]
    keep: bool,
    /// Seconds to measure throughput for
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// The daemon to show [default: the one of this source tree, which is built first]
    #[arg(long, value_name = "PROGRAM")]
    overlayd: Option<PathBuf>,
    /// Tell the story, with these rights; set by the supervisor
    #[arg(long, hide = true, requires = "overlayd")]
    story: Option<Rights>,
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("overlayd-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<ExitCode> {
    let overlayd = daemon::executable(options.overlayd.as_deref())?;
    match options.story {
        Some(rights) => {
            supervisor::follow_supervisor()?;
            let story = Story { keep: options.keep, seconds: options.seconds, rights, overlayd, show: Show::new() };
            story.tell();
            Ok(ExitCode::SUCCESS)
        }
        None => {
            // The daemon is built before: cargo needs the user's own rights.
            let rights = privilege::obtain()?;
            supervisor::run_story(rights, &overlayd, options.keep, options.seconds)
        }
    }
}
