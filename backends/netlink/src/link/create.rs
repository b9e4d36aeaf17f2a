//! Links to create.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::{AdminState, HEADER, LinkRef, Mac, RTM_NEWLINK, header, ifla};
use crate::{
    Request,
    message::{MessageBuilder, NLM_F_CREATE, NLM_F_EXCL},
};

/// `IFLA_BR_STP_STATE`, `IFLA_BR_MCAST_SNOOPING` (`linux/if_link.h`).
const BR_STP_STATE: u16 = 5;
const BR_MCAST_SNOOPING: u16 = 23;
/// `VETH_INFO_PEER` (`linux/veth.h`).
const VETH_INFO_PEER: u16 = 1;

/// A bridge to create: spanning tree off, multicast flooded like broadcast, down.
///
/// Multicast snooping is off because without a querier on the network a snooping bridge stops delivering groups,
/// and neighbour discovery of IPv6 is multicast.
#[derive(Debug, Clone, Copy)]
pub struct NewBridge<'a> {
    /// Interface name.
    pub name: &'a str,
    /// Hardware address; a fixed one keeps the bridge from changing it with its ports.
    pub mac: Option<Mac>,
    /// Interface group, 0 for none.
    pub group: u32,
}

impl NewBridge<'_> {
    /// The request that creates it; an existing link of that name is an error.
    pub fn request(&self) -> Request {
        let mut request = creation(format!("create bridge {}", self.name), self.name);
        let message = request.message();
        append_common(message, self.mac, None, self.group);
        message.nest(ifla::LINKINFO, |info| {
            info.attribute_text(ifla::INFO_KIND, "bridge");
            info.nest(ifla::INFO_DATA, |data| {
                data.attribute_u32(BR_STP_STATE, 0);
                data.attribute_u8(BR_MCAST_SNOOPING, 0);
            });
        });
        request
    }
}

/// A veth pair to create, both ends down, the peer directly in its namespace. No device is moved afterwards, which
/// would cost some 20 ms.
#[derive(Debug, Clone, Copy)]
pub struct NewVeth<'a> {
    /// Name of the end in this namespace.
    pub name: &'a str,
    /// Hardware address of this end; `None` lets the kernel choose.
    pub mac: Option<Mac>,
    /// Interface group of this end, 0 for none.
    pub group: u32,
    /// Index of the bridge that this end becomes a port of.
    pub master: Option<u32>,
    /// Name of the other end.
    pub peer: &'a str,
    /// Hardware address of the other end.
    pub peer_mac: Option<Mac>,
    /// Namespace of the other end; `None` is this one.
    pub peer_netns: Option<BorrowedFd<'a>>,
    /// Largest packet in bytes, of both ends.
    pub mtu: Option<u32>,
}

impl<'a> NewVeth<'a> {
    /// A pair in this namespace, everything else left to the kernel.
    pub fn pair(name: &'a str, peer: &'a str) -> Self {
        Self { name, mac: None, group: 0, master: None, peer, peer_mac: None, peer_netns: None, mtu: None }
    }

    /// With the other end in this namespace.
    #[must_use]
    pub fn into_netns(self, netns: &'a impl AsFd) -> Self {
        Self { peer_netns: Some(netns.as_fd()), ..self }
    }

    /// The request that creates it; an existing link of either name is an error.
    pub fn request(&self) -> Request {
        let action = format!("create veth pair {} and {}", self.name, self.peer);
        let mut request = creation(action, self.name);
        let message = request.message();
        append_common(message, self.mac, self.mtu, self.group);
        append_queue(message);
        if let Some(master) = self.master {
            message.attribute_u32(ifla::MASTER, master);
        }
        message.nest(ifla::LINKINFO, |info| {
            info.attribute_text(ifla::INFO_KIND, "veth");
            info.nest(ifla::INFO_DATA, |data| data.nest(VETH_INFO_PEER, |peer| self.append_peer(peer)));
        });
        request
    }

    fn append_peer(&self, message: &mut MessageBuilder) {
        message.append(&[0; HEADER]);
        message.attribute_text(ifla::IFNAME, self.peer);
        append_common(message, self.peer_mac, self.mtu, 0);
        append_queue(message);
        if let Some(netns) = self.peer_netns {
            message.attribute_u32(ifla::NET_NS_FD, netns.as_raw_fd() as u32);
        }
    }
}

/// A device of the kernel's WireGuard to create, down, without key, port and peers. Its UDP sockets will be in the
/// namespace of the [`crate::Rtnl`] that creates it.
#[derive(Debug, Clone, Copy)]
pub struct NewWireGuard<'a> {
    /// Interface name.
    pub name: &'a str,
    /// Interface group, 0 for none.
    pub group: u32,
}

impl NewWireGuard<'_> {
    /// The request that creates it; an existing link of that name is an error, and a kernel without WireGuard answers
    /// `EOPNOTSUPP`.
    pub fn request(&self) -> Request {
        let mut request = creation(format!("create WireGuard device {}", self.name), self.name);
        let message = request.message();
        append_common(message, None, None, self.group);
        message.nest(ifla::LINKINFO, |info| info.attribute_text(ifla::INFO_KIND, "wireguard"));
        request
    }
}

fn creation(action: String, name: &str) -> Request {
    header(action, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, LinkRef::Name(name), AdminState::Keep)
}

/// One queue each way. A veth uses no more unless it is told to, but the kernel makes one for each CPU and takes the others
/// away again, for which it waits until no CPU can know of them any more: once for each end, while all other changes of
/// links wait.
fn append_queue(message: &mut MessageBuilder) {
    message.attribute_u32(ifla::NUM_TX_QUEUES, 1);
    message.attribute_u32(ifla::NUM_RX_QUEUES, 1);
}

fn append_common(message: &mut MessageBuilder, mac: Option<Mac>, mtu: Option<u32>, group: u32) {
    if let Some(mac) = mac {
        message.attribute(ifla::ADDRESS, &mac);
    }
    if let Some(mtu) = mtu {
        message.attribute_u32(ifla::MTU, mtu);
    }
    if group != 0 {
        message.attribute_u32(ifla::GROUP, group);
    }
}
