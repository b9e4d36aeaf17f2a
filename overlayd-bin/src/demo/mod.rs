//! `overlayd demo`: two hosts on this machine, each with its own daemon, driven over the socket as an orchestrator
//! drives them.
//!
//! [`privilege`] obtains the rights, [`lab`] builds hosts and containers out of [`part`] processes, [`host`] talks to
//! a host's daemon, [`story`] is what happens, [`probe`] measures it and [`show`] prints it.

mod host;
mod lab;
mod part;
mod privilege;
mod probe;
mod show;
mod story;

use anyhow::{Result, bail};
use tokio::signal::unix::{SignalKind, signal};

pub(crate) use self::part::run as run_part;
use self::{
    lab::{Lab, Lifetime},
    privilege::Rights,
    show::Show,
    story::Story,
};
use crate::cli::args::Demo;

/// Runs the demo and removes what it made, however it ends.
pub(crate) fn run(options: Demo) -> Result<()> {
    let rights = privilege::obtain()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(until_interrupted(options, rights));
    // A probe may still wait for an answer from a network that is gone; nobody waits for the probe.
    runtime.shutdown_background();
    outcome
}

async fn until_interrupted(options: Demo, rights: Rights) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        outcome = tell(options, rights) => outcome,
        _ = interrupt.recv() => bail!("interrupted; everything the demo made is removed"),
        _ = terminate.recv() => bail!("terminated; everything the demo made is removed"),
    }
}

/// The lab lives as long as this future: dropped half-way, it is removed.
async fn tell(options: Demo, rights: Rights) -> Result<()> {
    let show = Show::new();
    show.chapter("The lab");
    if rights == Rights::UserNamespace {
        show.say("(not root: everything happens in a user namespace of our own)");
    }
    let mut lab = Lab::new(if options.keep { Lifetime::Kept } else { Lifetime::Demo }).await?;
    let outcome = Story { options, rights, show }.run(&mut lab).await;
    match outcome {
        Ok(()) if options.keep => lab.leave(),
        Ok(()) => {}
        Err(_) => lab.show_logs(),
    }
    outcome
}
