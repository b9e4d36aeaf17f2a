//! Texts of the wire become types here, or a refusal that says which member is wrong and why.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
};

use ipnet::IpNet;

use super::InvalidRequest;
use crate::{desired::EndpointSpec, keys::PublicKey, names::is_dns_name, protocol::NatCandidateWire};

pub(crate) fn range(member: &'static str, text: &str) -> Result<IpNet, InvalidRequest> {
    text.trim()
        .parse()
        .map_err(|_| InvalidRequest::new(member, format_args!("`{text}` is no CIDR such as 10.77.0.0/16")))
}

/// Ranges that no overlay can have: unspecified, loopback, link-local, multicast and IPv4-mapped addresses, and what is
/// reserved (RFC 6890).
const UNUSABLE: [&str; 9] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/127",
    "::ffff:0:0/96",
    "fe80::/10",
    "ff00::/8",
];

/// A range that nodes and containers can have addresses of.
pub(crate) fn overlay_range(member: &'static str, text: &str) -> Result<IpNet, InvalidRequest> {
    let asked = range(member, text)?;
    let unusable = UNUSABLE.iter().filter_map(|text| text.parse::<IpNet>().ok());
    let mut met = unusable.filter(|net| net.contains(&asked.trunc()) || asked.contains(net));
    match met.next() {
        None => Ok(asked),
        Some(net) => Err(InvalidRequest::new(
            member,
            format_args!("{asked} overlaps {net}, which hosts cannot have addresses of"),
        )),
    }
}

/// Longest name of anything, in bytes.
const LONGEST_NAME: usize = 255;

/// Most AllowedIPs of a peer.
pub(crate) const MOST_RANGES: usize = 16_384;
/// Most candidates that are kept of a peer.
const MOST_CANDIDATES: usize = 64;

/// Refuses a list that is longer than any caller needs, and would take memory for ever.
pub(crate) fn at_most(member: &'static str, most: usize, count: usize) -> Result<(), InvalidRequest> {
    if count <= most {
        Ok(())
    } else {
        Err(InvalidRequest::new(member, format_args!("{count} entries are more than {most}")))
    }
}

/// A name of the caller's choice; any text will do, the empty one too.
pub(crate) fn name(member: &'static str, text: String) -> Result<String, InvalidRequest> {
    check_name(member, &text).map(|()| text)
}

/// Whether a text is short enough for a name.
pub(crate) fn check_name(member: &'static str, text: &str) -> Result<(), InvalidRequest> {
    match text.len() {
        0..=LONGEST_NAME => Ok(()),
        bytes => Err(InvalidRequest::new(member, format_args!("{bytes} bytes are more than {LONGEST_NAME}"))),
    }
}

/// A search domain; the empty text names none.
pub(crate) fn domain(text: &str) -> Result<Option<String>, InvalidRequest> {
    match text.strip_suffix('.').unwrap_or(text) {
        "" => Ok(None),
        domain if is_dns_name(domain) => Ok(Some(text.to_owned())),
        _ => Err(InvalidRequest::new("dns_domain", format_args!("`{text}` is no DNS name"))),
    }
}

/// The address of a resolver.
pub(crate) fn resolver(ip: IpAddr) -> Result<IpAddr, InvalidRequest> {
    if ip.is_unspecified() || ip.is_multicast() {
        return Err(InvalidRequest::new("dns_server", format_args!("{ip} is no address to ask")));
    }
    Ok(ip)
}

/// The first of the candidates that can be understood: a kind that is known, and an address that can be sent to.
pub(crate) fn candidates(all: Vec<NatCandidateWire>) -> Vec<NatCandidateWire> {
    let known = |kind: &str| ["host", "server-reflexive", "relay"].contains(&kind);
    let is_place = |text: &str| matches!(endpoint(text), Ok(EndpointSpec::Address(_)));
    let usable = all.into_iter().filter(|found| known(&found.candidate_type) && is_place(&found.address));
    usable.take(MOST_CANDIDATES).collect()
}

/// The public key of a peer. The key of zeros has no private half, and the kernel reads it as "no key".
pub(crate) fn public_key(member: &'static str, text: &str) -> Result<PublicKey, InvalidRequest> {
    let key = PublicKey::from_base64(text).map_err(|error| InvalidRequest::new(member, error))?;
    if key.is_zero() {
        return Err(InvalidRequest::new(member, "the key of zeros belongs to no peer"));
    }
    Ok(key)
}

/// A comma-separated list of CIDRs; a bare address stands for itself. Host bits are dropped and repetitions too.
pub(crate) fn allowed_ips(text: &str) -> Result<Vec<IpNet>, InvalidRequest> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    at_most("allowed_ips", MOST_RANGES, items.clone().count())?;
    let mut seen = HashSet::new();
    let mut ranges = items.map(|item| allowed_ip("allowed_ips", item)).collect::<Result<Vec<_>, _>>()?;
    ranges.retain(|range| seen.insert(*range));
    Ok(ranges)
}

/// One CIDR or bare address, without host bits.
pub(crate) fn allowed_ip(member: &'static str, text: &str) -> Result<IpNet, InvalidRequest> {
    let text = text.trim();
    let range = text.parse::<IpNet>().or_else(|_| text.parse().map(|ip: std::net::IpAddr| IpNet::from(ip)));
    range
        .map(|range| range.trunc())
        .map_err(|_| InvalidRequest::new(member, format_args!("`{text}` is neither a CIDR nor an address")))
}

/// `address:port`, `[address]:port` or `name:port`. A wildcard address with port 0 means that the peer is not known
/// yet.
pub(crate) fn endpoint(text: &str) -> Result<EndpointSpec, InvalidRequest> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match (address.ip().is_unspecified(), address.port()) {
            (true, 0) => Ok(EndpointSpec::Roaming),
            (true, _) => Err(bad_endpoint(text, "the wildcard address cannot be sent to")),
            (false, 0) => Err(bad_endpoint(text, "port 0 cannot be sent to")),
            (false, _) => Ok(EndpointSpec::Address(address)),
        };
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(|| bad_endpoint(text, "`host:port` is needed"))?;
    let port = port.parse().map_err(|_| bad_endpoint(text, "the port is no number from 1 to 65535"))?;
    if port == 0 {
        return Err(bad_endpoint(text, "port 0 cannot be sent to"));
    }
    // A last label of digits is a mistyped address (RFC 1123, section 2.1).
    let numeric = host.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if numeric || !is_dns_name(host) {
        return Err(bad_endpoint(text, "the host is neither an address nor a name"));
    }
    Ok(EndpointSpec::Name { host: host.to_ascii_lowercase(), port })
}

pub(crate) fn keepalive(secs: u64) -> Result<Option<NonZeroU16>, InvalidRequest> {
    u16::try_from(secs).map(NonZeroU16::new).map_err(|_| {
        InvalidRequest::new("persistent_keepalive_secs", format_args!("{secs} is more than 65535 seconds"))
    })
}

/// A name to register: labels of letters, digits, `-` and `_`, lowercase, a final dot kept as the sign of an absolute
/// name (RFC 1035 sizes).
pub(crate) fn dns_name(text: &str) -> Result<String, InvalidRequest> {
    let name = text.to_ascii_lowercase();
    if is_dns_name(name.strip_suffix('.').unwrap_or(&name)) {
        Ok(name)
    } else {
        Err(InvalidRequest::new("name", format_args!("`{text}` is no DNS name")))
    }
}

fn bad_endpoint(text: &str, why: &str) -> InvalidRequest {
    InvalidRequest::new("endpoint", format_args!("`{text}` is no address of a peer: {why}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_endpoint_is_an_address_a_name_or_unknown() {
        assert_eq!(endpoint("0.0.0.0:0").unwrap(), EndpointSpec::Roaming);
        assert_eq!(endpoint("[::]:0").unwrap(), EndpointSpec::Roaming);
        let address = endpoint("[2001:db8::7]:51820").unwrap();
        assert_eq!(address, EndpointSpec::Address("[2001:db8::7]:51820".parse().unwrap()));
        let name = endpoint("Gw.example.net:51820").unwrap();
        assert_eq!(name, EndpointSpec::Name { host: "gw.example.net".into(), port: 51820 });
        for bad in ["", "gw", "gw:", "gw:0", "gw:70000", "0.0.0.0:1", "10.0.0.1:0", "10.0.0.300:1", ":1", "a b:1"] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn allowed_ips_are_a_list_without_host_bits_or_repetitions() {
        let ranges = allowed_ips("10.77.8.3/26, 10.77.8.0/26,fd00::1,10.1.1.1").unwrap();
        let text: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["10.77.8.0/26", "fd00::1/128", "10.1.1.1/32"]);
        assert!(allowed_ips("").unwrap().is_empty());
        assert!(allowed_ips("10.0.0.0/33").is_err());
    }

    #[test]
    fn candidates_that_make_no_sense_and_those_beyond_64_are_left_out() {
        let candidate = |kind: &str, address: &str| NatCandidateWire {
            candidate_type: kind.into(),
            address: address.into(),
            priority: 1,
        };
        let odd = [candidate("wormhole", "192.0.2.1:1"), candidate("host", "nowhere"), candidate("host", "0.0.0.0:1")];
        let fine = (1..=100).map(|port| candidate("relay", &format!("192.0.2.1:{port}")));
        let kept = candidates(odd.into_iter().chain(fine).collect());
        assert_eq!((kept.len(), kept[0].address.as_str()), (64, "192.0.2.1:1"));
    }

    #[test]
    fn a_keepalive_fits_sixteen_bits() {
        assert_eq!(keepalive(0).unwrap(), None);
        assert_eq!(keepalive(25).unwrap().unwrap().get(), 25);
        assert!(keepalive(65_536).is_err());
    }

    #[test]
    fn a_registered_name_is_a_dns_name() {
        assert_eq!(dns_name("Ledger.atlas.internal.").unwrap(), "ledger.atlas.internal.");
        for bad in ["", ".", "a..b", "../etc", "a b", "-a", &"a".repeat(64)] {
            assert!(dns_name(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_passes_the_door_reads_the_same_again(text in "[0-9a-f:./, ]{0,40}") {
            for range in allowed_ips(&text).unwrap_or_default() {
                prop_assert_eq!(range, range.trunc());
                prop_assert_eq!(allowed_ips(&range.to_string()).unwrap(), vec![range]);
            }
        }

        #[test]
        fn an_endpoint_that_passes_can_be_sent_to(text in "\\PC{0,40}") {
            match endpoint(&text) {
                Ok(EndpointSpec::Address(address)) => prop_assert!(address.port() != 0 && !address.ip().is_unspecified()),
                Ok(EndpointSpec::Name { port, .. }) => prop_assert!(port != 0),
                Ok(EndpointSpec::Roaming) => {}
                Err(error) => prop_assert!(error.to_string().contains("endpoint")),
            }
        }
    }
}
