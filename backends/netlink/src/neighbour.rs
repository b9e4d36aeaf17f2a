//! Entries of the neighbour table (`rtnetlink(7)`, `RTM_*NEIGH`).

use std::net::IpAddr;

use crate::{
    Request,
    link::Mac,
    message::{NLM_F_CREATE, NLM_F_REPLACE, family_of},
};

/// Type of the message that makes a neighbour known (`linux/rtnetlink.h`).
const RTM_NEWNEIGH: u16 = 28;

/// `NDA_DST` and `NDA_LLADDR` (`linux/neighbour.h`).
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
/// An entry that is never checked nor forgotten.
const NUD_PERMANENT: u16 = 0x80;

/// Says for good that `address` is behind `mac` on the link, so that it is never asked for.
pub fn pin(link: u32, address: IpAddr, mac: Mac) -> Request {
    let mut request =
        Request::new(format!("pin neighbour {address} on link #{link}"), RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE);
    let (index, state) = (link.to_ne_bytes(), NUD_PERMANENT.to_ne_bytes());
    // struct ndmsg: family, padding, index, state, flags, type
    let header = [family_of(address), 0, 0, 0, index[0], index[1], index[2], index[3], state[0], state[1], 0, 0];
    let message = request.message();
    message.append(&header);
    message.attribute_ip(NDA_DST, address);
    message.attribute(NDA_LLADDR, &mac);
    request
}
