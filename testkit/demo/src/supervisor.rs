//! Runs the story in a child process and removes what it made, however it ends.
//!
//! The lab's processes end with the story's process: namespaces are held by programs that read from its pipes, and daemons
//! have it as the parent whose death kills them. The supervisor adopts them, so it knows when the last one is gone and the
//! directory with their files can be removed. If the supervisor is killed, the story's process is killed by the kernel.

use std::{
    io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, ExitCode, ExitStatus},
};

use anyhow::{Context as _, Result};
use clap::ValueEnum as _;
use nix::sys::{
    prctl::set_pdeathsig,
    signal::{SigSet, Signal},
};
use rustix::process::{WaitOptions, getppid, set_child_subreaper, waitpid};

use crate::privilege::Rights;

/// How the story's process ended.
enum Ending {
    /// By itself.
    Over(ExitStatus),
    /// The user, or the system, wants the demo to end.
    Interrupted,
}

/// Runs the story to its end or to the first signal; then nothing of it is left.
pub(crate) fn run_story(rights: Rights, overlayd: &Path, keep: bool, seconds: u64) -> Result<ExitCode> {
    let directory =
        tempfile::Builder::new().prefix("overlayd-demo-").tempdir().context("could not make a directory")?;
    set_child_subreaper(rustix::process::Pid::from_raw(1)).context("could not adopt the lab's processes")?;
    // Blocked signals wait until they are asked for; one that comes before the child exists is not lost.
    let awaited = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGCHLD]);
    awaited.thread_block().context("could not block signals")?;
    let mut child = start(rights, overlayd, keep, seconds, directory.path())?;
    let ending = await_ending(&mut child, &awaited)?;
    if matches!(ending, Ending::Interrupted) {
        child.kill().context("could not end the story")?;
        child.wait().context("could not end the story")?;
    }
    reap_all()?;
    directory.close().context("could not remove the demo's files")?;
    match ending {
        Ending::Over(status) if status.success() => Ok(ExitCode::SUCCESS),
        Ending::Over(_) => Ok(ExitCode::FAILURE),
        Ending::Interrupted if keep => {
            eprintln!("overlayd-demo: everything the demo made is removed");
            Ok(ExitCode::SUCCESS)
        }
        Ending::Interrupted => {
            eprintln!("overlayd-demo: interrupted; everything the demo made is removed");
            Ok(ExitCode::FAILURE)
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the demo starts this executable again")]
fn start(rights: Rights, overlayd: &Path, keep: bool, seconds: u64, directory: &Path) -> Result<Child> {
    let rights = rights.to_possible_value().context("every kind of rights has a name")?;
    let mut command = Command::new(std::env::current_exe().context("could not find the path of this program")?);
    command.args(["--story", rights.get_name(), "--seconds", &seconds.to_string(), "--overlayd"]).arg(overlayd);
    if keep {
        command.arg("--keep");
    }
    // A terminal sends Ctrl-C to a whole process group; only the supervisor is to act on it.
    command.process_group(0).env("TMPDIR", directory);
    command.spawn().context("could not start the story")
}

fn await_ending(child: &mut Child, awaited: &SigSet) -> Result<Ending> {
    loop {
        match awaited.wait().context("could not wait for signals")? {
            Signal::SIGCHLD => {
                if let Some(status) = child.try_wait().context("could not see how the story ended")? {
                    return Ok(Ending::Over(status));
                }
            }
            _ => return Ok(Ending::Interrupted),
        }
    }
}

/// Waits for the end of every adopted process.
fn reap_all() -> Result<()> {
    loop {
        match waitpid(None, WaitOptions::empty()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CHILD) => return Ok(()),
            Err(error) => return Err(error).context("could not wait for the lab's processes"),
        }
    }
}

/// Ties this process, the story's, to its supervisor, and lets signals reach what it starts.
pub(crate) fn follow_supervisor() -> Result<()> {
    let supervisor = getppid();
    set_pdeathsig(Signal::SIGKILL).context("could not tie this process to the supervisor")?;
    // The supervisor may have died before the line above.
    if getppid() != supervisor {
        return Err(io::Error::other("the supervisor is gone").into());
    }
    // The mask of the supervisor is inherited.
    SigSet::empty().thread_set_mask().context("could not unblock signals")
}
