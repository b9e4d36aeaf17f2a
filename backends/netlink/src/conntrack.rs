//! What the kernel remembers of connections (`linux/netfilter/nfnetlink_conntrack.h`).

use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::{
    OrAbsent, Request, Result,
    channel::NetlinkChannel,
    message::{attribute_of, attributes, nested_attribute},
};

/// `NFNL_SUBSYS_CTNETLINK`, the upper byte of a message type, with `IPCTNL_MSG_CT_GET` and `IPCTNL_MSG_CT_DELETE`.
const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
/// Bytes of `struct nfgenmsg`, whose first one is the family.
const HEADER: usize = 4;
/// `CTA_TUPLE_ORIG`, and in it `CTA_TUPLE_PROTO` with `CTA_PROTO_NUM` and `CTA_PROTO_DST_PORT`.
const ORIGINAL: u16 = 1;
const PROTOCOL: [u16; 3] = [ORIGINAL, 2, 1];
const DESTINATION_PORT: [u16; 3] = [ORIGINAL, 2, 3];
/// `CTA_ID` tells this flow from a later one between the same ends, and `CTA_ZONE` from one of another zone.
const TELL_APART: [u16; 2] = [12, 18];
/// `IPPROTO_UDP`.
const UDP: u8 = 17;

/// A flow that is to be forgotten: its family, and the attributes that name it.
struct FlowName {
    family: u8,
    attributes: Vec<(u16, Vec<u8>)>,
}

/// Forgets the UDP flows that were sent to one of these ports of the host (first and last, inclusive), in the calling
/// thread's network namespace. What a flow was translated to at its start holds for all of its packets, so that a flow
/// goes on to where its port led before.
pub fn forget_udp_to(ports: &[(u16, u16)]) -> Result<usize> {
    if ports.is_empty() {
        return Ok(0);
    }
    let mut channel = NetlinkChannel::open(NETLINK_NETFILTER)?;
    let flows = channel.dump(list, |payload| udp_to(ports, payload))?;
    let mut forgotten = 0;
    for flow in flows {
        let outcomes = channel.acknowledge(&[delete(&flow)])?;
        // One that is absent has ended by itself.
        if outcomes.into_iter().collect::<Result<()>>().or_absent()?.is_some() {
            forgotten += 1;
        }
    }
    Ok(forgotten)
}

fn list() -> Request {
    let mut request = Request::new("list connections".to_owned(), GET, 0);
    request.message().append(&[0; HEADER]);
    request
}

fn udp_to(ports: &[(u16, u16)], payload: &[u8]) -> Option<FlowName> {
    let family = *payload.first()?;
    let described = payload.get(HEADER..)?;
    if nested_attribute(described, &PROTOCOL)? != [UDP] {
        return None;
    }
    let port = u16::from_be_bytes(nested_attribute(described, &DESTINATION_PORT)?.try_into().ok()?);
    if !ports.iter().any(|(first, last)| (*first..=*last).contains(&port)) {
        return None;
    }
    attribute_of(described, ORIGINAL)?;
    let naming = attributes(described).filter(|(kind, _)| *kind == ORIGINAL || TELL_APART.contains(kind));
    Some(FlowName { family, attributes: naming.map(|(kind, value)| (kind, value.to_vec())).collect() })
}

fn delete(flow: &FlowName) -> Request {
    let mut request = Request::new("forget a UDP flow".to_owned(), DELETE, 0);
    let message = request.message();
    message.append(&[flow.family, 0, 0, 0]);
    for (kind, value) in &flow.attributes {
        if *kind == ORIGINAL {
            message.nest(*kind, |tuple| tuple.append(value));
        } else {
            message.attribute(*kind, value);
        }
    }
    request
}
