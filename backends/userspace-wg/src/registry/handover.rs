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

use super::{devices::Devices, make, running::Running};
use crate::{
    handover::{
        channel::Wire,
        predecessor::{self, End},
        successor,
    },
    io::{tun::Tun, udp::Sockets},
};

/// A device on its way to another process.
#[derive(Debug)]
pub struct Lent {
    /// Its interface.
    pub name: LinkName,
    /// The interface, the channel to the older process, the UDP sockets of IPv4 and, where there is one, IPv6.
    pub descriptors: Vec<OwnedFd>,
}

/// What became of devices that were lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handed {
    /// They are the other process's, all of them.
    Over,
    /// At least one came back.
    Back,
}

/// A device that an older process carries, as it was received.
pub(super) struct Given {
    pub(super) tun: Tun,
    pub(super) sockets: Sockets,
    pub(super) wire: Wire,
}

/// The thread that speaks with the other process. Its end ends the conversation.
pub(super) struct Handover {
    wire: Arc<Wire>,
    thread: Option<JoinHandle<End>>,
}

impl Handover {
    /// Waits for the thread's own end.
    fn join(&mut self) -> End {
        // A panic has been printed, and the other process sees its end of the channel.
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or(End::Kept)
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        self.wire.hang_up();
        self.join();
    }
}

impl Running {
    /// Speaks with the older process until it is done.
    pub(super) fn follow(&self, name: &LinkName, wire: Wire, talking: Vec<PublicKey>) -> std::io::Result<()> {
        let (wire, shared) = (Arc::new(wire), self.shared.clone());
        let own = wire.clone();
        let thread = Builder::new().name(format!("{name}-take")).spawn(move || {
            successor::run(&shared, &own, talking);
            End::Kept
        })?;
        *self.handover() = Some(Handover { wire, thread: Some(thread) });
        Ok(())
    }

    fn lend(&self, name: &LinkName) -> std::io::Result<Lent> {
        let (wire, theirs) = Wire::pair()?;
        let mut descriptors = vec![self.shared.tun.as_fd().try_clone_to_owned()?, theirs];
        descriptors.extend(self.shared.sockets().handles()?);
        let (wire, shared) = (Arc::new(wire), self.shared.clone());
        let own = wire.clone();
        let thread = Builder::new().name(format!("{name}-give")).spawn(move || predecessor::run(&shared, &own))?;
        drop(self.control.lock().unwrap_or_else(PoisonError::into_inner).take());
        *self.handover() = Some(Handover { wire, thread: Some(thread) });
        Ok(Lent { name: name.clone(), descriptors })
    }

    fn handover(&self) -> MutexGuard<'_, Option<Handover>> {
        self.handover.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Devices {
    /// Prepares every device to be taken over by another process.
    pub(crate) fn lend(&self) -> Result<Vec<Lent>> {
        let failed = |name: &LinkName| {
            let action = format!("lend {name} to another process");
            move |error| Error::host(action, error)
        };
        self.all().iter().map(|(name, device)| device.lend(name).map_err(failed(name))).collect()
    }

    /// Waits until all are taken over, or one is not.
    pub(crate) fn lent(&self) -> Handed {
        let ends = self.all().into_iter().filter_map(|(_, device)| {
            let handover = device.handover().take();
            handover.map(|mut handover| handover.join())
        });
        // All are waited for, whatever the first one says.
        let ends: Vec<End> = ends.collect();
        if ends.iter().all(|end| *end == End::Given) { Handed::Over } else { Handed::Back }
    }

    /// The other process is gone: what it has taken is made again when it is asked for, the rest goes on.
    pub(crate) fn reclaim(&self) -> Result<()> {
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
    pub(crate) fn inherit(&self, lent: Vec<Lent>) -> Result<()> {
        for Lent { name, descriptors } in lent {
            let mut descriptors = descriptors.into_iter();
            let incomplete = || Error::Invalid(format!("the older process gave too few descriptors for {name}"));
            let mut next = || descriptors.next().ok_or_else(incomplete);
            let (tun, wire, v4) = (Tun::given(next()?), Wire::from(next()?), next()?);
            let tun = tun.map_err(|error| Error::host(format!("use the interface {name}"), error))?;
            let sockets = Sockets::given(v4, descriptors.next());
            let sockets = sockets.map_err(|error| Error::host(format!("use the sockets of {name}"), error))?;
            self.given().insert(name, Given { tun, sockets, wire });
        }
        Ok(())
    }

    fn all(&self) -> Vec<(LinkName, Arc<Running>)> {
        self.map().iter().map(|(name, device)| (name.clone(), device.clone())).collect()
    }
}
