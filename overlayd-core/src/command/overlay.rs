//! What `setup_global_overlay` asks for.

use ipnet::IpNet;

use super::{InvalidRequest, parse};
use crate::protocol::{NatConfigSpec, SetupGlobalOverlay};

/// Set the global overlay up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayCommand {
    /// First part of all names.
    pub deployment: String,
    /// Second part of all names.
    pub instance_id: String,
    /// The whole overlay; host bits stay as given.
    pub cluster: IpNet,
    /// This node's part of it; the one on record, or the whole, where none is named.
    pub slice: Option<IpNet>,
    /// UDP port of the device, not 0.
    pub port: u16,
    /// NAT traversal; the one on record where none is named.
    pub nat: Option<NatConfigSpec>,
}

impl TryFrom<SetupGlobalOverlay> for OverlayCommand {
    type Error = InvalidRequest;

    fn try_from(request: SetupGlobalOverlay) -> Result<Self, InvalidRequest> {
        let deployment = parse::name("deployment", request.deployment)?;
        let instance_id = parse::name("instance_id", request.instance_id)?;
        if request.wg_port == 0 {
            return Err(InvalidRequest::new("wg_port", "it must not be 0: other nodes send to this port"));
        }
        let cluster = parse::overlay_range("cluster CIDR", &request.cluster_cidr)?;
        let slice = request.slice_cidr.as_deref().map(|slice| parse::range("slice CIDR", slice)).transpose()?;
        check_slice(cluster, slice.unwrap_or(cluster))?;
        Ok(Self { deployment, instance_id, cluster, slice, port: request.wg_port, nat: request.nat })
    }
}

fn check_slice(cluster: IpNet, slice: IpNet) -> Result<(), InvalidRequest> {
    if !cluster.contains(&slice.network()) || slice.prefix_len() < cluster.prefix_len() {
        let reason = format_args!("{slice} does not lie inside the cluster range {cluster}");
        return Err(InvalidRequest::new("slice CIDR", reason));
    }
    // The first address is this node's, and each container needs another one.
    if slice.max_prefix_len() - slice.prefix_len() < 2 {
        let member = if slice == cluster { "cluster CIDR" } else { "slice CIDR" };
        let reason = format_args!("{slice} has no room for this node and its containers");
        return Err(InvalidRequest::new(member, reason));
    }
    Ok(())
}
