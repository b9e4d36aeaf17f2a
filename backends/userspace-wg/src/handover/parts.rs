//! The descriptors of a device as they go from one process to the other.

use std::os::fd::{AsFd as _, OwnedFd};

use overlayd_core::{
    contract::{Error, HandoverPart, HandoverResource, Result},
    names::LinkName,
};

use super::HandoverChannel;
use crate::{
    device::SharedDevice,
    io::{tun::Tun, udp::UdpSockets},
};

/// A device that an older process carries, as it was received.
pub(crate) struct ReceivedDevice {
    pub(crate) tun: Tun,
    pub(crate) sockets: UdpSockets,
    pub(crate) channel: HandoverChannel,
}

/// What the successor needs of a device: the interface, the channel to this process, the UDP sockets of IPv4 and, where
/// there is one, IPv6. Other releases read this order.
pub(super) fn export(name: &LinkName, shared: &SharedDevice, channel: OwnedFd) -> std::io::Result<HandoverPart> {
    let mut descriptors = vec![shared.tun.as_fd().try_clone_to_owned()?, channel];
    descriptors.extend(shared.sockets().duplicates()?);
    let resources = descriptors.into_iter().map(HandoverResource::new).collect();
    Ok(HandoverPart { name: name.to_string(), resources })
}

impl ReceivedDevice {
    /// Takes the descriptors of a part, and the name of the interface that it belongs to.
    pub(crate) fn import(part: HandoverPart) -> Result<(LinkName, Self)> {
        let HandoverPart { name, resources } = part;
        let name = LinkName::new(name.clone()).map_err(|_| {
            Error::Invalid(format!("the older process gave a device {name:?}, which is no interface name"))
        })?;
        let mut resources = resources.into_iter();
        let tun = descriptor(&name, resources.next())?;
        let channel = descriptor(&name, resources.next())?;
        let v4 = descriptor(&name, resources.next())?;
        let v6 = resources.next().map(|resource| descriptor(&name, Some(resource))).transpose()?;
        let tun = Tun::from_descriptor(tun)
            .map_err(|error| Error::host(format!("use the interface {name} of the older process"), error))?;
        let sockets = UdpSockets::from_descriptors(v4, v6)
            .map_err(|error| Error::host(format!("use the sockets of {name} of the older process"), error))?;
        Ok((name, Self { tun, sockets, channel: HandoverChannel::from(channel) }))
    }
}

fn descriptor(name: &LinkName, resource: Option<HandoverResource>) -> Result<OwnedFd> {
    let resource =
        resource.ok_or_else(|| Error::Invalid(format!("the older process gave too few descriptors for {name}")))?;
    let taken = resource.take::<OwnedFd>();
    taken.map_err(|_| Error::Invalid(format!("the older process gave something for {name} that is no descriptor")))
}
