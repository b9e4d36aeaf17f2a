use overlayd_core::{
    contract::{Error, PeerChange, PeerEndpoint, PeerPlan, Result},
    keys::PublicKey,
};

use super::running::NewPeerPolicy;
use crate::{
    device::SharedDevice,
    noise::{EndpointUpdate, PeerConfig, SteadyTime},
};

/// Applies the changes in order, all or none, while no packet is under way in the engine.
pub(super) fn change(device: &SharedDevice, newcomers: NewPeerPolicy, changes: &[PeerChange]) -> Result<()> {
    let now = SteadyTime::boot_clock();
    device.with_tunnel(|tunnel| {
        let own = tunnel.public_key();
        changes.iter().try_for_each(|change| check(change, &own))?;
        for change in changes {
            match change {
                PeerChange::Set(plan) => {
                    let greeted = newcomers == NewPeerPolicy::Greeted && !tunnel.has_peer(&plan.public_key);
                    tunnel.set_peer(now, &config(plan));
                    if greeted {
                        tunnel.start_handshake(now, &plan.public_key);
                    }
                }
                PeerChange::Remove(key) => tunnel.remove_peer(key),
            }
        }
        Ok(())
    })
}

fn check(change: &PeerChange, own: &PublicKey) -> Result<()> {
    let PeerChange::Set(plan) = change else { return Ok(()) };
    if plan.public_key == *own {
        return Err(Error::Invalid(format!("the device's own key {own} cannot be its peer")));
    }
    if plan.public_key.as_bytes() == &[0; 32] {
        return Err(Error::Invalid("the key of zeros is nobody's and cannot be a peer".to_owned()));
    }
    match plan.endpoint {
        PeerEndpoint::Set(endpoint) if endpoint.port() == 0 => {
            Err(Error::Invalid(format!("peer {} cannot be reached at port 0", plan.public_key)))
        }
        PeerEndpoint::Set(_) | PeerEndpoint::Keep => Ok(()),
    }
}

fn config(plan: &PeerPlan) -> PeerConfig {
    PeerConfig {
        key: plan.public_key,
        psk: plan.preshared_key.clone(),
        endpoint: match plan.endpoint {
            PeerEndpoint::Keep => EndpointUpdate::Keep,
            PeerEndpoint::Set(endpoint) => EndpointUpdate::Set(endpoint),
        },
        keepalive: plan.keepalive,
        allowed_ips: plan.allowed_ips.clone(),
    }
}
