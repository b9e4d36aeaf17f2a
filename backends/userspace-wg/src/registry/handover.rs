//! Devices that go from one process to another without missing a packet.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, MutexGuard, PoisonError},
    thread::{Builder, JoinHandle},
};

use overlayd_core::{
    contract::{Error, Result},
    keys::PublicKey,
    names::LinkName,
};

use super::{devices::DeviceRegistry, make, running::RunningDevice};
use crate::{
    handover::{
        channel::HandoverChannel,
        predecessor::{self, HandoverEnd},
        successor,
    },
    io::{tun::Tun, udp::UdpSockets},
};

/// A device on its way to another process.
#[derive(Debug)]
pub struct ExportedDevice {
    /// Its interface.
    pub name: LinkName,
    /// The interface, the channel to the older process, the UDP sockets of IPv4 and, where there is one, IPv6.
    pub descriptors: Vec<OwnedFd>,
}

/// What became of devices that were lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandoverResult {
    /// They are the other process's, all of them.
    Over,
    /// At least one came back.
    Back,
}

/// A device that an older process carries, as it was received.
pub(super) struct ReceivedDevice {
    pub(super) tun: Tun,
    pub(super) sockets: UdpSockets,
    pub(super) channel: HandoverChannel,
}

/// The thread that speaks with the other process. Its end ends the conversation.
pub(super) struct HandoverThread {
    channel: Arc<HandoverChannel>,
    thread: Option<JoinHandle<HandoverEnd>>,
}

impl HandoverThread {
    /// Waits for the thread's own end.
    fn join(&mut self) -> HandoverEnd {
        // A panic has been printed, and the other process sees its end of the channel.
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or(HandoverEnd::Aborted)
    }
}

impl Drop for HandoverThread {
    fn drop(&mut self) {
        self.channel.drop_sessions();
        self.join();
    }
}

impl RunningDevice {
    /// Speaks with the older process until it is done.
    pub(super) fn follow(
        &self,
        name: &LinkName,
        channel: HandoverChannel,
        with_sessions: Vec<PublicKey>,
    ) -> std::io::Result<()> {
        let (channel, shared) = (Arc::new(channel), self.shared.clone());
        let own = channel.clone();
        let thread = Builder::new().name(format!("{name}-take")).spawn(move || {
            successor::run(&shared, &own, with_sessions);
            HandoverEnd::Aborted
        })?;
        *self.handover() = Some(HandoverThread { channel, thread: Some(thread) });
        Ok(())
    }

    fn export(&self, name: &LinkName) -> std::io::Result<ExportedDevice> {
        let (channel, theirs) = HandoverChannel::pair()?;
        let mut descriptors = vec![self.shared.tun.as_fd().try_clone_to_owned()?, theirs];
        descriptors.extend(self.shared.sockets().handles()?);
        let (channel, shared) = (Arc::new(channel), self.shared.clone());
        let own = channel.clone();
        let thread = Builder::new().name(format!("{name}-give")).spawn(move || predecessor::run(&shared, &own))?;
        drop(self.control.lock().unwrap_or_else(PoisonError::into_inner).take());
        *self.handover() = Some(HandoverThread { channel, thread: Some(thread) });
        Ok(ExportedDevice { name: name.clone(), descriptors })
    }

    fn handover(&self) -> MutexGuard<'_, Option<HandoverThread>> {
        self.handover.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DeviceRegistry {
    /// Prepares every device to be taken over by another process.
    pub(crate) fn export(&self) -> Result<Vec<ExportedDevice>> {
        let failed = |name: &LinkName| {
            let action = format!("lend {name} to another process");
            move |error| Error::host(action, error)
        };
        self.all().iter().map(|(name, device)| device.export(name).map_err(failed(name))).collect()
    }

    /// Waits until all are taken over, or one is not.
    pub(crate) fn await_handover(&self) -> HandoverResult {
        let ends = self.all().into_iter().filter_map(|(_, device)| {
            let handover = device.handover().take();
            handover.map(|mut handover| handover.join())
        });
        // All are waited for, whatever the first one says.
        let ends: Vec<HandoverEnd> = ends.collect();
        if ends.iter().all(|end| *end == HandoverEnd::ReceivedDevice) {
            HandoverResult::Over
        } else {
            HandoverResult::Back
        }
    }

    /// The other process is gone: what it has taken is made again when it is asked for, the rest goes on.
    pub(crate) fn abort_handover(&self) -> Result<()> {
        for (name, device) in self.all() {
            drop(device.handover().take());
            let mut control = device.control.lock().unwrap_or_else(PoisonError::into_inner);
            if control.is_none() && device.shared.failure().is_none() {
                *control = Some(make::control(&self.config, &name, &device.shared)?);
            }
        }
        Ok(())
    }

    /// Keeps what an older process has lent until it is asked for.
    pub(crate) fn inherit(&self, await_handover: Vec<ExportedDevice>) -> Result<()> {
        for ExportedDevice { name, descriptors } in await_handover {
            let mut descriptors = descriptors.into_iter();
            let incomplete = || Error::Invalid(format!("the older process gave too few descriptors for {name}"));
            let mut next = || descriptors.next().ok_or_else(incomplete);
            let (tun, channel, v4) = (Tun::from_descriptor(next()?), HandoverChannel::from(next()?), next()?);
            let tun = tun.map_err(|error| Error::host(format!("use the interface {name}"), error))?;
            let sockets = UdpSockets::from_descriptors(v4, descriptors.next());
            let sockets = sockets.map_err(|error| Error::host(format!("use the sockets of {name}"), error))?;
            self.received().insert(name, ReceivedDevice { tun, sockets, channel });
        }
        Ok(())
    }

    fn all(&self) -> Vec<(LinkName, Arc<RunningDevice>)> {
        self.map().iter().map(|(name, device)| (name.clone(), device.clone())).collect()
    }
}
