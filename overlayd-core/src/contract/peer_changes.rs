//! What every WireGuard backend refuses about changes to the peers of a device, before it applies any of them.

use super::{Error, PeerChange, PeerEndpoint, PeerPlan, Result};
use crate::keys::PublicKey;

/// Checks the changes for a device whose own public key is `own`; `None` where the device has no key yet.
///
/// A peer must not be the device itself (WireGuard drops such a peer without a word, and the caller would take it for
/// set up), nor have the key of zeros, which means "no key" to the kernel. An endpoint needs a port. That a key or a
/// range occurs twice is no error: changes apply in order, and the last one holds.
pub fn check_peer_changes(own: Option<&PublicKey>, changes: &[PeerChange]) -> Result<()> {
    changes.iter().try_for_each(|change| match change {
        PeerChange::Set(plan) => check_peer(own, plan),
        PeerChange::Remove(_) => Ok(()),
    })
}

fn check_peer(own: Option<&PublicKey>, plan: &PeerPlan) -> Result<()> {
    let key = plan.public_key;
    if own == Some(&key) {
        return Err(Error::Invalid(format!("the device's own key {key} cannot be its peer")));
    }
    if key.is_zero() {
        return Err(Error::Invalid("the key of zeros is no peer's key".to_owned()));
    }
    match plan.endpoint {
        PeerEndpoint::Set(endpoint) if endpoint.port() == 0 => {
            Err(Error::Invalid(format!("the endpoint {endpoint} of peer {key} needs a port from 1 to 65535")))
        }
        PeerEndpoint::Set(_) | PeerEndpoint::Keep => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::PrivateKey;

    fn set(public_key: PublicKey, endpoint: PeerEndpoint) -> PeerChange {
        PeerChange::Set(PeerPlan { public_key, preshared_key: None, endpoint, allowed_ips: vec![], keepalive: None })
    }

    #[test]
    fn the_devices_own_key_the_key_of_zeros_and_port_0_are_refused() {
        let own = PrivateKey::generate().public_key();
        let other = PrivateKey::generate().public_key();
        let zeros = PublicKey::from_bytes([0; 32]);
        let nowhere = PeerEndpoint::Set("192.0.2.1:0".parse().unwrap());
        for bad in [set(own, PeerEndpoint::Keep), set(zeros, PeerEndpoint::Keep), set(other, nowhere)] {
            let error = check_peer_changes(Some(&own), &[set(other, PeerEndpoint::Keep), bad]).unwrap_err();
            assert_eq!(error.code(), "invalid_plan");
        }
    }

    #[test]
    fn removing_any_key_and_naming_one_twice_are_allowed() {
        let own = PrivateKey::generate().public_key();
        let other = set(PrivateKey::generate().public_key(), PeerEndpoint::Keep);
        assert!(check_peer_changes(Some(&own), &[PeerChange::Remove(own), other.clone(), other]).is_ok());
        assert!(check_peer_changes(None, &[set(own, PeerEndpoint::Keep)]).is_ok());
    }
}
