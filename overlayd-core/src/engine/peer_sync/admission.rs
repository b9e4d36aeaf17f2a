//! Identities that this node has issued are let in behind their fences, or not at all: also after the host has started
//! anew, and when another program has taken a fence away.

use std::{collections::BTreeSet, sync::MutexGuard};

use super::PeerSync;
use crate::{
    contract::{self, PeerChange},
    desired::{DeviceScope, PeerId},
    engine::Error,
    keys::PublicKey,
    sync::lock,
};

/// Where an issued identity was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum IssuedRemoval {
    FromDevice,
    /// There was no device at that moment.
    NoDevice,
}

impl PeerSync {
    /// Keeps the identity out from now on. Called before its record exists: a pass and a repeated setup tell the device
    /// every peer on record that is not withheld, and the fence of this one does not stand yet.
    pub(in crate::engine) fn keep_out(&self, issued: &PeerId) {
        self.withheld().insert(issued.public_key);
    }

    /// Lets in an identity whose fence stands.
    pub(in crate::engine) async fn let_in(&self, issued: &PeerId) -> Result<(), Error> {
        self.withheld().remove(&issued.public_key);
        self.send(std::slice::from_ref(issued)).await
    }

    /// There is no record of the identity, so that nothing lets it in any more.
    pub(in crate::engine) fn has_no_record(&self, issued: &PeerId) {
        self.withheld().remove(&issued.public_key);
    }

    /// Lets the identity in if its fence stands, and otherwise keeps it out until a pass has it stand.
    pub(in crate::engine) async fn admit(&self, who: &str, issued: &PeerId, fence: Result<(), &Error>) {
        let told = match fence {
            // Only after it has been kept out: otherwise its device has it already.
            Ok(()) if self.withheld().remove(&issued.public_key) => {
                tracing::info!(who, "fenced again, and let in again");
                self.send(std::slice::from_ref(issued)).await
            }
            Ok(()) => Ok(()),
            Err(error) => {
                let is_news = self.withheld().insert(issued.public_key);
                if is_news {
                    tracing::error!(who, %error, "kept out because it could not be fenced; every pass tries again");
                }
                self.remove_issued(issued).await.map(drop)
            }
        };
        if let Err(error) = told {
            tracing::warn!(who, %error, "the device was not told; the next pass tells it again");
        }
    }

    /// Takes an issued identity off the device, before its record is forgotten. It is kept out until then, so that
    /// nothing lets it in again while its fence falls.
    pub(in crate::engine) async fn remove_issued(&self, issued: &PeerId) -> Result<IssuedRemoval, Error> {
        self.keep_out(issued);
        let Some(device) = self.global.name() else { return Ok(IssuedRemoval::NoDevice) };
        let changes = [PeerChange::Remove(issued.public_key)];
        let memo = self.memos.of(&DeviceScope::Global);
        let mut memo = memo.lock().await;
        // Asked before the device is: a device that is not there yet lets no one in.
        let coming_up = self.global.is_coming_up();
        match self.context.host.devices.change_peers(&device, &changes).await {
            Err(Error::Host { source: contract::Error::NotFound(_), .. }) if coming_up => {
                return Ok(IssuedRemoval::NoDevice);
            }
            outcome => outcome?,
        }
        memo.note_accepted(&changes);
        Ok(IssuedRemoval::FromDevice)
    }

    /// The record of the identity is gone. A device that came up before that may have been told of it.
    pub(in crate::engine) async fn issued_is_forgotten(
        &self,
        issued: &PeerId,
        removal: IssuedRemoval,
    ) -> Result<(), Error> {
        self.has_no_record(issued);
        match removal {
            IssuedRemoval::FromDevice => Ok(()),
            IssuedRemoval::NoDevice => self.send(std::slice::from_ref(issued)).await,
        }
    }

    /// Issued identities that are kept out.
    pub(in crate::engine) fn withheld(&self) -> MutexGuard<'_, BTreeSet<PublicKey>> {
        lock(&self.withheld)
    }
}
