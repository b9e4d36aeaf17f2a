//! The successor's side: what it says to the daemon that started it, and what it is given.

use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
};

use anyhow::{Context as _, Result, bail};
use overlayd_core::contract::HandoverPart;

use super::{
    VARIABLE,
    channel::{self, UpgradeChannel},
    from_descriptors,
    message::{HANDOVER_VERSION, UpgradeMessage},
};

/// The daemon that started this process to be replaced by it.
#[derive(Debug)]
pub(crate) struct PredecessorProcess {
    channel: UpgradeChannel,
}

/// What it has given.
#[derive(Debug)]
pub(crate) struct HandoverBundle {
    /// The listening socket, with the callers that wait there.
    pub(crate) listener: OwnedFd,
    /// The devices in user space.
    pub(crate) devices: Vec<HandoverPart>,
}

impl PredecessorProcess {
    /// The one that this process is to succeed, if it was started for that.
    pub(crate) fn of_this_process() -> Result<Option<Self>> {
        if !was_started_by_one() {
            return Ok(None);
        }
        // Standard input is freed for good: a second reader of the channel would take messages away from this one.
        let null = File::open("/dev/null").context("could not open /dev/null")?;
        let socket = std::io::stdin().as_fd().try_clone_to_owned().context("could not take the channel")?;
        nix::unistd::dup2_stdin(null).context("could not close standard input")?;
        let channel = UpgradeChannel::new(socket).context("standard input is no channel to the older daemon")?;
        Ok(Some(Self { channel }))
    }

    /// Says that this process could take over, and waits for what it is given.
    pub(crate) async fn able(&self) -> Result<HandoverBundle> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        self.say(&UpgradeMessage::Able { handover: HANDOVER_VERSION, version }).await?;
        let mut listener = None;
        let mut devices = Vec::new();
        loop {
            match self.channel.receive().await.context("could not hear the older daemon")? {
                Some((UpgradeMessage::Listener, mut descriptors)) => listener = descriptors.pop(),
                Some((UpgradeMessage::Device { name }, descriptors)) => {
                    devices.push(from_descriptors(name, descriptors))
                }
                Some((UpgradeMessage::Go, _)) => break,
                Some((other, _)) => bail!("the older daemon said {other:?} out of turn"),
                None => bail!("the older daemon ended, or goes on itself"),
            }
        }
        Ok(HandoverBundle { listener: listener.context("the older daemon gave no listening socket")?, devices })
    }

    /// Says that requests are answered here from now on.
    pub(crate) async fn serving(&self) -> Result<()> {
        self.say(&UpgradeMessage::Serving).await
    }

    /// Says why this process cannot take over after all. A daemon that is gone need not know.
    pub(crate) async fn unable(&self, reason: &anyhow::Error) {
        if let Err(error) = self.say(&unable(reason)).await {
            tracing::warn!(%error, "the older daemon was not told");
        }
    }

    /// Resolves when the older daemon has ended, and everything it had is here; never without one.
    pub(crate) async fn end_of(older: Option<&Self>) {
        let Some(Self { channel }) = older else { return std::future::pending().await };
        // An error of the channel means the same as its end: nothing more comes from there.
        while let Ok(Some(_)) = channel.receive().await {}
    }

    async fn say(&self, message: &UpgradeMessage) -> Result<()> {
        self.channel.send(message, &[]).await.context("could not tell the older daemon")
    }
}

/// Tells the daemon that started this process, if one did, why this one cannot be its successor. For failures so early
/// that there is nothing to wait with.
pub(crate) fn refuse(reason: &anyhow::Error) {
    if was_started_by_one()
        && let Err(error) = channel::send(std::io::stdin().as_fd(), &unable(reason), &[])
    {
        eprintln!("overlayd: the older daemon was not told: {error}");
    }
}

fn unable(reason: &anyhow::Error) -> UpgradeMessage {
    // A message is one datagram, and an error chain has no bound of its own.
    const LONGEST: usize = 2000;
    UpgradeMessage::Unable { reason: format!("{reason:#}").chars().take(LONGEST).collect() }
}

fn was_started_by_one() -> bool {
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
    parent.is_some() && std::env::var(VARIABLE).ok() == parent
}
