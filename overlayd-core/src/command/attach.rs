//! What `attach_container` asks for.

use std::net::IpAddr;

use super::{InvalidRequest, RequestedContainer, parse};
use crate::protocol::{AttachContainer, AttachHandle};

/// Longest id of a namespace, in bytes. Attachers write the id into the mark of an interface, next to other things.
const LONGEST_NAMESPACE_ID: usize = 128;

/// Attach a container to the network of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachCommand {
    /// The container.
    pub container: RequestedContainer,
    /// The service.
    pub service: String,
    /// Whether it gets an interface on the overlay itself as well, where there is an overlay.
    pub join_global: bool,
    /// Whether the service goes with the last of its containers, as far as this one is concerned.
    pub ephemeral: bool,
    /// The isolation network it is a member of; any text is a name, the empty one too.
    pub isolation: Option<String>,
    /// The resolver it is told; the one remembered where it names none.
    pub dns_server: Option<IpAddr>,
    /// The search domain it is told; the one remembered where it names none.
    pub dns_domain: Option<String>,
}

impl TryFrom<AttachContainer> for AttachCommand {
    type Error = InvalidRequest;

    fn try_from(request: AttachContainer) -> Result<Self, InvalidRequest> {
        let service = parse::name("service", request.service)?;
        let isolation =
            request.isolation_network.map(|network| parse::name("isolation_network", network)).transpose()?;
        check_handle(&request.handle)?;
        let dns_server = request.dns_server.map(parse::resolver).transpose()?;
        let dns_domain = request.dns_domain.as_deref().map(parse::domain).transpose()?.flatten();
        Ok(Self {
            container: request.handle.into(),
            service,
            join_global: request.join_global,
            ephemeral: request.ephemeral,
            isolation,
            dns_server,
            dns_domain,
        })
    }
}

fn check_handle(handle: &AttachHandle) -> Result<(), InvalidRequest> {
    match handle {
        AttachHandle::LinuxPid { pid } if *pid == 0 => {
            Err(InvalidRequest::new("pid", format_args!("{pid} is no process")))
        }
        AttachHandle::LinuxNetns { path, .. } if !path.starts_with('/') => {
            Err(InvalidRequest::new("path", format_args!("`{path}` is no absolute path")))
        }
        AttachHandle::LinuxNetns { id, .. } if id.len() > LONGEST_NAMESPACE_ID => {
            let bytes = id.len();
            Err(InvalidRequest::new("id", format_args!("{bytes} bytes are more than {LONGEST_NAMESPACE_ID}")))
        }
        AttachHandle::LinuxNetns { id, .. } | AttachHandle::GuestManaged { id } | AttachHandle::HostShared { id } => {
            parse::check_name("id", id)?;
            if id.is_empty() { Err(InvalidRequest::new("id", "an empty one names nothing")) } else { Ok(()) }
        }
        AttachHandle::LinuxPid { .. } | AttachHandle::WindowsContainer { .. } => Ok(()),
    }
}
