//! All devices of this process on their way to another one; `crate::handover` does it for each.

use std::sync::Arc;

use overlayd_core::{
    contract::{Error, HandoverOutcome, HandoverPart, Result},
    names::LinkName,
    sync::lock,
};

use super::{devices::DeviceRegistry, make, running::RunningDevice};
use crate::handover::{HandoverThread, ReceivedDevice};

impl DeviceRegistry {
    /// Prepares every device to be taken over by another process. The control sockets end: both processes would want
    /// the same path.
    pub(crate) fn prepare_handover(&self) -> Result<Vec<HandoverPart>> {
        self.all().iter().map(|(name, device)| offer(name, device)).collect()
    }

    /// Waits until every device is taken over, or one is not.
    pub(crate) fn complete_handover(&self) -> HandoverOutcome {
        let mut outcome = HandoverOutcome::Done;
        // All are waited for, also after one that failed: the caller aborts, and no thread may still be giving then.
        for (_, device) in self.all() {
            let thread = lock(&device.handover).take();
            if thread.is_some_and(|mut thread| thread.join() == HandoverOutcome::SuccessorGone) {
                outcome = HandoverOutcome::SuccessorGone;
            }
        }
        outcome
    }

    /// The other process is gone: a device that it has taken is made again when it is asked for, the others go on.
    pub(crate) fn abort_handover(&self) -> Result<()> {
        for (name, device) in self.all() {
            drop(lock(&device.handover).take());
            let mut control = lock(&device.control);
            if control.is_none() && device.shared.failure().is_none() {
                *control = Some(make::control(&self.config, &name, &device.shared)?);
            }
        }
        Ok(())
    }

    /// Keeps the devices of an older process until they are asked for.
    pub(crate) fn inherit(&self, parts: Vec<HandoverPart>) -> Result<()> {
        for part in parts {
            let (name, device) = ReceivedDevice::import(part)?;
            self.received().insert(name, device);
        }
        Ok(())
    }

    fn all(&self) -> Vec<(LinkName, Arc<RunningDevice>)> {
        self.map().iter().map(|(name, device)| (name.clone(), device.clone())).collect()
    }
}

fn offer(name: &LinkName, device: &RunningDevice) -> Result<HandoverPart> {
    let (thread, part) = HandoverThread::offer(name, &device.shared)
        .map_err(|error| Error::host(format!("prepare {name} to be taken over by another process"), error))?;
    // Only once the thread stands: a device that cannot be offered keeps its control socket.
    drop(lock(&device.control).take());
    *lock(&device.handover) = Some(thread);
    Ok(part)
}
