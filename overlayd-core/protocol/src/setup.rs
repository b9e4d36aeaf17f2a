//! What `setup_global_overlay` carries.

use serde::{Deserialize, Serialize};

use super::{NatConfigSpec, unset};

/// Members of `setup_global_overlay`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupGlobalOverlay {
    /// Name of the deployment; part of the device's name.
    pub deployment: String,
    /// Name of the node in it; part of the device's name.
    pub instance_id: String,
    /// The cluster's range.
    pub cluster_cidr: String,
    /// The node's part of it.
    #[serde(default, skip_serializing_if = "unset")]
    pub slice_cidr: Option<String>,
    /// UDP port of the node's device.
    pub wg_port: u16,
    /// Whether to fail, rather than serve guests alone, when the host cannot have a device.
    #[serde(default)]
    pub host_adapter_mandatory: bool,
    /// NAT traversal; unset means built-in values, enabled.
    #[serde(default, skip_serializing_if = "unset")]
    pub nat: Option<NatConfigSpec>,
}

impl SetupGlobalOverlay {
    /// A node of the deployment, without a slice and with built-in values for NAT traversal.
    pub fn new(
        deployment: impl Into<String>,
        instance_id: impl Into<String>,
        cluster_cidr: impl Into<String>,
        wg_port: u16,
    ) -> Self {
        Self {
            deployment: deployment.into(),
            instance_id: instance_id.into(),
            cluster_cidr: cluster_cidr.into(),
            wg_port,
            ..Self::default()
        }
    }

    /// The part of the cluster's range that belongs to this node.
    pub fn slice_cidr(self, slice_cidr: impl Into<String>) -> Self {
        Self { slice_cidr: Some(slice_cidr.into()), ..self }
    }

    /// Fails when the host cannot have a device, instead of serving guests alone.
    pub fn require_adapter(self) -> Self {
        Self { host_adapter_mandatory: true, ..self }
    }

    /// NAT traversal with these values.
    pub fn nat(self, nat: NatConfigSpec) -> Self {
        Self { nat: Some(nat), ..self }
    }
}
