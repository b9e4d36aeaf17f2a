//! What requests about peers ask for.

use ipnet::IpNet;

use super::{InvalidRequest, parse};
use crate::{
    desired::{DeviceScope, Origin, PeerRecord},
    keys::PublicKey,
    protocol::{PeerScope, PeerSpec},
};

/// Add a peer to a device, or change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCommand {
    /// The device.
    pub scope: DeviceScope,
    /// The peer.
    pub public_key: PublicKey,
    /// Where it is, and what is behind it.
    pub record: PeerRecord,
}

impl PeerCommand {
    pub(super) fn new(spec: PeerSpec, scope: PeerScope) -> Result<Self, InvalidRequest> {
        let record = PeerRecord {
            endpoint: parse::endpoint(&spec.endpoint)?,
            allowed_ips: parse::allowed_ips(&spec.allowed_ips)?,
            keepalive: parse::keepalive(spec.persistent_keepalive_secs)?,
            candidates: parse::candidates(spec.candidates),
            origin: Origin::Asked,
        };
        // The key last: a request with several mistakes is told the same one as ever.
        let public_key = parse::public_key("public key", &spec.public_key)?;
        Ok(Self { scope: scope.into(), public_key, record })
    }
}

/// Add a range to a peer, or take it away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeCommand {
    /// The device of the peer.
    pub scope: DeviceScope,
    /// The peer.
    pub public_key: PublicKey,
    /// The range, without host bits.
    pub range: IpNet,
}

impl RangeCommand {
    pub(super) fn new(pubkey: &str, cidr: &str, scope: PeerScope) -> Result<Self, InvalidRequest> {
        let range = parse::allowed_ip("CIDR", cidr)?;
        let public_key = parse::public_key("public key", pubkey)?;
        Ok(Self { scope: scope.into(), public_key, range })
    }
}
