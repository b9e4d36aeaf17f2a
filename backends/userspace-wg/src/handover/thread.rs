//! The thread on each side that speaks with the other process.

use std::{
    io,
    sync::Arc,
    thread::{Builder, JoinHandle},
};

use overlayd_core::{
    contract::{HandoverOutcome, HandoverPart},
    keys::PublicKey,
    names::LinkName,
};

use super::{HandoverChannel, parts, predecessor, successor};
use crate::device::SharedDevice;

/// The thread that speaks with the other process. Dropping it closes the channel and waits for the thread.
pub(crate) struct HandoverThread {
    channel: Arc<HandoverChannel>,
    thread: Option<JoinHandle<HandoverOutcome>>,
}

impl HandoverThread {
    /// Offers the device to a successor, which is given the part.
    pub(crate) fn offer(name: &LinkName, shared: &Arc<SharedDevice>) -> io::Result<(Self, HandoverPart)> {
        let (channel, other) = HandoverChannel::pair()?;
        let part = parts::export(name, shared, other)?;
        let shared = shared.clone();
        let thread = Self::start(format!("{name}-give"), channel, move |channel| predecessor::run(&shared, channel))?;
        Ok((thread, part))
    }

    /// Takes the device over from an older process. The successor needs sessions with the peers that have one there.
    pub(crate) fn take_over(
        name: &LinkName,
        shared: &Arc<SharedDevice>,
        channel: HandoverChannel,
        with_sessions: Vec<PublicKey>,
    ) -> io::Result<Self> {
        let shared = shared.clone();
        Self::start(format!("{name}-take"), channel, move |channel| {
            successor::run(&shared, channel, with_sessions);
            HandoverOutcome::Done
        })
    }

    fn start(
        name: String,
        channel: HandoverChannel,
        run: impl FnOnce(&Arc<HandoverChannel>) -> HandoverOutcome + Send + 'static,
    ) -> io::Result<Self> {
        let channel = Arc::new(channel);
        let own = channel.clone();
        let thread = Builder::new().name(name).spawn(move || run(&own))?;
        Ok(Self { channel, thread: Some(thread) })
    }

    /// Waits until the thread ends by itself.
    pub(crate) fn join(&mut self) -> HandoverOutcome {
        // A panic has been printed, and the other process sees its end of the channel.
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or(HandoverOutcome::SuccessorGone)
    }
}

impl Drop for HandoverThread {
    fn drop(&mut self) {
        self.channel.close();
        self.join();
    }
}
