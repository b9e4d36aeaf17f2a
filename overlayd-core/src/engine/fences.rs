//! Identities that this node has issued are let in behind their fences, or not at all: also after the host has started
//! anew, and when somebody has taken a fence away.

use std::{
    collections::BTreeSet,
    sync::{MutexGuard, PoisonError},
};

use super::{Engine, Error, locks::Key};
use crate::{
    contract::{AttachmentId, Target},
    desired::{AttachmentRecord, Handle, PeerId},
    keys::PublicKey,
};

impl Engine {
    /// Has all fences around mere addresses stand, before a device has them or lets them in.
    pub(super) async fn refence(&self) {
        self.refence_edges(|_| false).await;
        let fenced: Vec<(Handle, AttachmentRecord)> = {
            let desired = self.desired();
            let addresses =
                desired.attachments().iter().filter(|(_, record)| matches!(record.target, Target::Address(_)));
            let fenced = addresses.filter(|(_, record)| record.isolation.is_some());
            fenced.map(|(handle, record)| (handle.clone(), record.clone())).collect()
        };
        for (handle, record) in fenced {
            let outcome = self.plug(&record).await;
            match &record.issued {
                Some(issued) => self.admit(&handle.to_string(), issued, outcome.as_ref().map(|_| ())).await,
                None => {
                    outcome.map_or_else(|error| tracing::error!(%handle, %error, "could not be fenced again"), |_| ())
                }
            }
        }
    }

    /// Has the fences of those edges stand that `stands` says do not, and of those that are kept out.
    pub(super) async fn refence_edges(&self, stands: impl Fn(&AttachmentId) -> bool) {
        let names: Vec<String> = {
            let (desired, withheld) = (self.desired(), self.withheld());
            let fallen = desired.edges().iter().filter(|(name, edge)| {
                withheld.contains(&edge.public_key) || !stands(&AttachmentId::Edge((*name).clone()))
            });
            fallen.map(|(name, _)| name.clone()).collect()
        };
        for name in names {
            let _edge = self.locks.exclusive(Key::Edge(name.clone())).await;
            let edge = self.desired().edges().get(&name).cloned();
            let Some(edge) = edge else { continue };
            let outcome = self.ensure_edge_fence(&name, &edge).await;
            let issued = PeerId { service: None, public_key: edge.public_key };
            self.admit(&format!("edge {name}"), &issued, outcome.as_ref().copied()).await;
        }
    }

    /// Lets the identity in if its fence stands, and otherwise keeps it out until a pass has it stand.
    pub(super) async fn admit(&self, who: &str, issued: &PeerId, fence: Result<(), &Error>) {
        let told = match fence {
            Ok(()) if self.withheld().remove(&issued.public_key) => {
                tracing::info!(who, "fenced again, and let in again");
                self.send_peers(std::slice::from_ref(issued)).await
            }
            Ok(()) => Ok(()),
            Err(error) => {
                let news = self.withheld().insert(issued.public_key);
                if news {
                    tracing::error!(who, %error, "kept out because it could not be fenced; every pass tries again");
                }
                self.drop_issued(issued).await.map(|_| ())
            }
        };
        if let Err(error) = told {
            tracing::warn!(who, %error, "the device was not told; the next pass tells it again");
        }
    }

    pub(super) fn withheld(&self) -> MutexGuard<'_, BTreeSet<PublicKey>> {
        self.withheld.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
