use overlayd_core::contract::{PeerChange, PeerEndpoint, PeerPlan, Result, check_peer_changes};

use super::running::NewPeerPolicy;
use crate::{
    device::SharedDevice,
    noise::{EndpointUpdate, PeerConfig, SteadyTime},
};

/// Applies the changes in order, all or none, while no packet is under way in the tunnel.
pub(super) fn change(device: &SharedDevice, policy: NewPeerPolicy, changes: &[PeerChange]) -> Result<()> {
    let now = SteadyTime::boot_clock();
    device.with_tunnel(|tunnel| {
        check_peer_changes(Some(&tunnel.public_key()), changes)?;
        for change in changes {
            match change {
                PeerChange::Set(plan) => {
                    let is_new = !tunnel.has_peer(&plan.public_key);
                    tunnel.set_peer(now, &config(plan));
                    if is_new && policy == NewPeerPolicy::HandshakeAtOnce {
                        tunnel.start_handshake(now, &plan.public_key);
                    }
                }
                PeerChange::Remove(key) => tunnel.remove_peer(key),
            }
        }
        Ok(())
    })
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
