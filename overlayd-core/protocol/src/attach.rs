//! What `attach_container` carries.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{AttachHandle, unset};

/// Members of `attach_container`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachContainer {
    /// Which container.
    pub handle: AttachHandle,
    /// To which service's network.
    pub service: String,
    /// Whether to give it an interface on the node's slice too.
    pub join_global: bool,
    /// Whether the network goes when the last container leaves.
    #[serde(default)]
    pub ephemeral: bool,
    /// The isolated network it is a member of; an empty string is a network too.
    #[serde(default, skip_serializing_if = "unset")]
    pub isolation_network: Option<String>,
    /// Its resolver.
    #[serde(default, skip_serializing_if = "unset")]
    pub dns_server: Option<IpAddr>,
    /// Its search domain.
    #[serde(default, skip_serializing_if = "unset")]
    pub dns_domain: Option<String>,
}

impl AttachContainer {
    /// The container joins the service's network, and nothing else.
    pub fn new(handle: AttachHandle, service: impl Into<String>) -> Self {
        Self {
            handle,
            service: service.into(),
            join_global: false,
            ephemeral: false,
            isolation_network: None,
            dns_server: None,
            dns_domain: None,
        }
    }

    /// It gets an interface on the node's slice as well.
    pub fn join_global(self) -> Self {
        Self { join_global: true, ..self }
    }

    /// The service's network goes when the last container leaves.
    pub fn ephemeral(self) -> Self {
        Self { ephemeral: true, ..self }
    }

    /// It may reach only members of this isolated network.
    pub fn isolation_network(self, name: impl Into<String>) -> Self {
        Self { isolation_network: Some(name.into()), ..self }
    }

    /// A guest's resolver. On Linux the caller writes the container's resolver configuration itself.
    pub fn dns_server(self, server: IpAddr) -> Self {
        Self { dns_server: Some(server), ..self }
    }

    /// A guest's search domain.
    pub fn dns_domain(self, domain: impl Into<String>) -> Self {
        Self { dns_domain: Some(domain.into()), ..self }
    }
}
