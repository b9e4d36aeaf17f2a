//! The identities of this node: its own key, and those that it keeps for services and guests.

use super::Error;
use crate::{
    keyring::{Keyring, KeyringError, key_name},
    keys::{PrivateKey, PublicKey},
};

/// In the names of the keys of dedicated services.
const SERVICE: &str = "service";
/// In the names of the keys of guests.
const GUEST: &str = "guest";

/// The key of this node, and the keyring with all others.
#[derive(Debug)]
pub(super) struct NodeIdentity {
    keyring: Keyring,
    private_key: PrivateKey,
    /// The public half of it. Working it out takes longer than the rest of most requests.
    public_key: PublicKey,
}

impl NodeIdentity {
    /// The node's key, made at the first start.
    pub(super) fn load(keyring: Keyring) -> Result<Self, KeyringError> {
        let private_key = keyring.load_or_generate("node")?;
        Ok(Self { public_key: private_key.public_key(), private_key, keyring })
    }

    pub(super) fn private_key(&self) -> &PrivateKey {
        &self.private_key
    }

    pub(super) fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The key of a dedicated service, the same for as long as the node lives.
    pub(super) fn service_key(&self, service: &str) -> Result<PrivateKey, Error> {
        Ok(self.keyring.load_or_generate(&key_name(SERVICE, service))?)
    }

    /// The key of a guest, the same for as long as the guest is attached.
    pub(super) fn guest_key(&self, id: &str) -> Result<PrivateKey, Error> {
        Ok(self.keyring.load_or_generate(&key_name(GUEST, id))?)
    }

    pub(super) fn forget_guest_key(&self, id: &str) -> Result<(), Error> {
        Ok(self.keyring.remove(&key_name(GUEST, id))?)
    }

    /// Forgets the keys of all other guests.
    pub(super) fn keep_guest_keys<'a>(&self, ids: impl Iterator<Item = &'a str>) -> Result<(), Error> {
        // Names are hashed in file names, so that they are compared as hashes.
        let kept: std::collections::BTreeSet<String> = ids.map(|id| key_name(GUEST, id)).collect();
        Ok(self.keyring.keep(GUEST, |name| kept.contains(name))?)
    }
}
