//! Changes of a link.

use super::{AdminState, LinkRef, Mac, RTM_NEWLINK, RTM_SETLINK, header, ifla};
use crate::{Request, message::MessageBuilder};

/// What a bridge port does with packets (`linux/if_bridge.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortState {
    /// Nothing passes in either direction.
    Disabled,
    /// Packets pass.
    Forwarding,
}

/// IPv4 setting of one interface, numbered as in the kernel (`linux/ip.h`, `IPV4_DEVCONF_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Ipv4Setting {
    /// Whether packets that arrive here are routed on.
    Forwarding = 1,
    /// How the way back to a packet's source is checked: 0 not, 1 strictly, 2 loosely.
    ReversePath = 8,
}

/// Address family numbers (`linux/socket.h`).
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
/// `IFLA_INET_CONF`, `IFLA_INET6_ADDR_GEN_MODE` and its value for no generated address.
const INET_CONF: u16 = 1;
const INET6_ADDR_GEN_MODE: u16 = 8;
const ADDR_GEN_MODE_NONE: u8 = 1;
/// `IFLA_BRPORT_STATE` and what the two states are called there; `IFLA_BRPORT_MODE`.
const BRPORT_STATE: u16 = 1;
const BRPORT_MODE: u16 = 4;

/// Changes of one link that the kernel makes in one request, in its own order.
#[derive(Debug)]
#[must_use = "a change does nothing until its request is run"]
pub struct LinkChange<'a> {
    by: LinkRef<'a>,
    state: AdminState,
    attributes: MessageBuilder,
    ipv4: Vec<(Ipv4Setting, u32)>,
    generates_address: bool,
    kind: u16,
}

impl<'a> LinkChange<'a> {
    pub(super) fn new(by: LinkRef<'a>) -> Self {
        let attributes = MessageBuilder::attributes();
        let kind = RTM_SETLINK;
        Self { by, state: AdminState::Keep, attributes, ipv4: Vec::new(), generates_address: true, kind }
    }

    /// Administratively up.
    pub fn up(mut self) -> Self {
        self.state = AdminState::Up;
        self
    }

    /// Administratively down.
    pub fn down(mut self) -> Self {
        self.state = AdminState::Down;
        self
    }

    /// Largest packet in bytes. On a bridge this also stops it from following its ports.
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.attributes.attribute_u32(ifla::MTU, mtu);
        self
    }

    /// Hardware address.
    pub fn mac(mut self, mac: Mac) -> Self {
        self.attributes.attribute(ifla::ADDRESS, &mac);
        self
    }

    /// Makes it a port of the bridge with this index; 0 frees it.
    pub fn master(mut self, bridge: u32) -> Self {
        self.attributes.attribute_u32(ifla::MASTER, bridge);
        self
    }

    /// Free text on the interface, at most 255 bytes.
    pub fn alias(mut self, alias: &str) -> Self {
        self.attributes.attribute(ifla::IFALIAS, alias.as_bytes());
        self
    }

    /// Interface group.
    pub fn group(mut self, group: u32) -> Self {
        self.attributes.attribute_u32(ifla::GROUP, group);
        self
    }

    /// Sets one of its IPv4 settings.
    pub fn ipv4(mut self, setting: Ipv4Setting, value: u32) -> Self {
        self.ipv4.push((setting, value));
        self
    }

    /// Keeps the kernel from giving it an IPv6 link-local address when it comes up, by a later request: within one the
    /// kernel looks at this last.
    pub fn no_link_local(mut self) -> Self {
        self.generates_address = false;
        self
    }

    /// What it does as a bridge port. With spanning tree off the state stays until the port goes down and up.
    pub fn port_state(self, state: PortState) -> Self {
        let code = match state {
            PortState::Disabled => 0,
            PortState::Forwarding => 3,
        };
        self.port_setting(BRPORT_STATE, code)
    }

    /// As a bridge port it may get back what came in by it.
    pub fn hairpin(self) -> Self {
        self.port_setting(BRPORT_MODE, 1)
    }

    fn port_setting(mut self, setting: u16, value: u8) -> Self {
        self.attributes.nest(ifla::LINKINFO, |info| {
            info.attribute_text(ifla::INFO_SLAVE_KIND, "bridge");
            info.nest(ifla::INFO_SLAVE_DATA, |data| data.attribute_u8(setting, value));
        });
        // Settings of a port are taken by this message only.
        self.kind = RTM_NEWLINK;
        self
    }

    /// Moves it to the network namespace of the process with this PID.
    pub(crate) fn into_netns_of(mut self, pid: u32) -> Self {
        self.attributes.attribute_u32(ifla::NET_NS_PID, pid);
        self
    }

    /// The request that makes all the changes.
    pub fn request(mut self) -> Request {
        self.append_settings();
        let mut request = header(format!("change link {}", self.by), self.kind, 0, self.by, self.state);
        request.message().append(self.attributes.body());
        request
    }

    fn append_settings(&mut self) {
        if self.ipv4.is_empty() && self.generates_address {
            return;
        }
        let (ipv4, generates_address) = (&self.ipv4, self.generates_address);
        self.attributes.nest(ifla::AF_SPEC, |spec| {
            if !ipv4.is_empty() {
                spec.nest(AF_INET, |family| {
                    family.nest(INET_CONF, |settings| {
                        ipv4.iter().for_each(|&(setting, value)| settings.attribute_u32(setting as u16, value));
                    });
                });
            }
            if !generates_address {
                spec.nest(AF_INET6, |family| family.attribute_u8(INET6_ADDR_GEN_MODE, ADDR_GEN_MODE_NONE));
            }
        });
    }
}
