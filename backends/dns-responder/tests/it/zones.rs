//! What is said about names of our zones.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use domain::{
    base::{
        Message, MessageBuilder, Name, Rtype, Ttl,
        iana::{Class, Opcode, OptRcode, Rcode},
    },
    rdata::{Ns, Ptr, Soa},
};
use overlayd_core::contract::{Dns as _, DnsPlan};
use overlayd_dns_responder::DnsResponder;

use crate::ask::{addresses, by_tcp, by_udp, own_address, query};

/// `web` has two addresses, `db.tier.data` one, `many` a hundred; the cluster's reverse names are ours.
pub(crate) fn plan(listen: SocketAddr) -> DnsPlan {
    let name = |name: &str, ips: &[&str]| {
        (format!("{name}.atlas.local"), ips.iter().map(|ip| ip.parse().unwrap()).collect::<BTreeSet<_>>())
    };
    let many = (0..100).map(|last| format!("10.77.9.{last}")).collect::<Vec<_>>();
    DnsPlan {
        listen: vec![listen],
        zones: BTreeSet::from(["atlas.local".to_owned()]),
        reverse: BTreeSet::from(["10.77.0.0/16".parse().unwrap()]),
        records: BTreeMap::from([
            name("web", &["10.77.1.2", "fd77::2"]),
            name("www", &["10.77.1.2"]),
            name("db.tier.data", &["10.77.1.3"]),
            name("outside", &["192.0.2.8"]),
            name("bare", &[]),
            name("many", &many.iter().map(String::as_str).collect::<Vec<_>>()),
        ]),
        ..DnsPlan::default()
    }
}

pub(crate) async fn serving() -> (DnsResponder, SocketAddr) {
    let (responder, server) = (DnsResponder::new(), own_address());
    responder.apply(&plan(server)).await.unwrap();
    (responder, server)
}

async fn ask(server: SocketAddr, name: &str, rtype: Rtype) -> Message<Vec<u8>> {
    by_udp(server, &query(name, rtype, Some(1232))).await.unwrap()
}

/// `answers/authorities rcode`, and the owner of the SOA where there is one.
fn shape(message: &Message<Vec<u8>>) -> (u16, Rcode, Option<String>) {
    let soa = message.authority().unwrap().limit_to::<Soa<_>>().next().map(|soa| soa.unwrap().owner().to_string());
    (message.header_counts().ancount(), message.header().rcode(), soa)
}

#[tokio::test]
async fn a_missing_type_is_told_from_a_missing_name() {
    let (_responder, server) = serving().await;
    let atlas = || Some("atlas.local".to_owned());
    for (name, rtype, expected) in [
        ("web.atlas.local", Rtype::A, (1, Rcode::NOERROR, None)),
        ("web.atlas.local", Rtype::AAAA, (1, Rcode::NOERROR, None)),
        ("web.atlas.local", Rtype::ANY, (2, Rcode::NOERROR, None)),
        ("web.atlas.local", Rtype::TXT, (0, Rcode::NOERROR, atlas())),
        ("www.atlas.local", Rtype::AAAA, (0, Rcode::NOERROR, atlas())),
        ("bare.atlas.local", Rtype::A, (0, Rcode::NOERROR, atlas())),
        ("data.atlas.local", Rtype::A, (0, Rcode::NOERROR, atlas())),
        ("tier.data.atlas.local", Rtype::A, (0, Rcode::NOERROR, atlas())),
        ("atlas.local", Rtype::A, (0, Rcode::NOERROR, atlas())),
        ("ata.atlas.local", Rtype::A, (0, Rcode::NXDOMAIN, atlas())),
        ("under.web.atlas.local", Rtype::A, (0, Rcode::NXDOMAIN, atlas())),
        ("atlas.local", Rtype::SOA, (1, Rcode::NOERROR, None)),
        ("web.atlas.local", Rtype::AXFR, (0, Rcode::REFUSED, None)),
    ] {
        let answer = ask(server, name, rtype).await;
        assert_eq!(shape(&answer), expected, "{name} {rtype}");
    }
}

#[tokio::test]
async fn addresses_of_the_cluster_have_names() {
    let (_responder, server) = serving().await;
    let names = |message: &Message<Vec<u8>>| -> Vec<String> {
        let pointers = message.answer().unwrap().limit_to::<Ptr<_>>();
        pointers.map(|pointer| pointer.unwrap().data().ptrdname().to_string()).collect()
    };
    let answer = ask(server, "2.1.77.10.in-addr.arpa", Rtype::PTR).await;
    assert_eq!(names(&answer), ["web.atlas.local", "www.atlas.local"]);
    let v6 = Name::<Vec<u8>>::reverse_from_addr("fd77::2".parse().unwrap()).unwrap().to_string();
    assert_eq!(names(&ask(server, &v6, Rtype::PTR).await), ["web.atlas.local"]);
    assert_eq!(names(&ask(server, "8.2.0.192.in-addr.arpa", Rtype::PTR).await), ["outside.atlas.local"]);

    let zone = || Some("77.10.in-addr.arpa".to_owned());
    for (name, expected) in [
        ("9.1.77.10.in-addr.arpa", (0, Rcode::NXDOMAIN, zone())),
        ("1.77.10.in-addr.arpa", (0, Rcode::NOERROR, zone())),
        ("200.77.10.in-addr.arpa", (0, Rcode::NXDOMAIN, zone())),
        ("x.2.1.77.10.in-addr.arpa", (0, Rcode::NXDOMAIN, zone())),
        ("77.10.in-addr.arpa", (0, Rcode::NOERROR, zone())),
        // In no local zone, and there is no upstream.
        ("10.in-addr.arpa", (0, Rcode::REFUSED, None)),
        ("9.2.0.192.in-addr.arpa", (0, Rcode::REFUSED, None)),
    ] {
        assert_eq!(shape(&ask(server, name, Rtype::PTR).await), expected, "{name}");
    }
}

#[tokio::test]
async fn a_zone_names_its_server_and_the_serial_grows_with_changes() {
    let (responder, server) = serving().await;
    let serial = async || {
        let answer = ask(server, "atlas.local", Rtype::SOA).await;
        let soa = answer.answer().unwrap().limit_to::<Soa<_>>().next().unwrap().unwrap();
        assert_eq!(soa.data().mname().to_string(), "ns.atlas.local");
        soa.data().serial()
    };
    let first = serial().await;
    responder.apply(&plan(server)).await.unwrap();
    assert_eq!(serial().await, first, "the same plan is no change");
    let gone = overlayd_core::contract::DnsChange::Remove("www.atlas.local".to_owned());
    responder.change_records(&[gone]).await.unwrap();
    assert!(serial().await > first);

    let answer = ask(server, "ATLAS.local", Rtype::NS).await;
    let ns = answer.answer().unwrap().limit_to::<Ns<_>>().next().unwrap().unwrap();
    assert_eq!(ns.data().nsdname().to_string().to_ascii_lowercase(), "ns.atlas.local");
    assert_eq!(ask(server, "ns.atlas.local", Rtype::A).await.header().rcode(), Rcode::NOERROR);
}

#[tokio::test]
async fn the_question_comes_back_as_it_was_written() {
    let (_responder, server) = serving().await;
    for name in ["wEb.AtLaS.LocaL", "nOpE.AtLaS.LocaL"] {
        let asked = query(name, Rtype::A, None);
        let answer = by_udp(server, &asked).await.unwrap();
        assert_eq!(answer.as_slice()[12..asked.len()], asked[12..], "{name}");
        assert_eq!(answer.header().id(), 0x5a17);
        assert!(answer.header().aa() && answer.header().rd());
    }
}

#[tokio::test]
async fn records_live_as_long_as_planned_and_absence_for_seconds() {
    let (responder, server) = serving().await;
    responder.apply(&DnsPlan { ttl: std::time::Duration::from_secs(77), ..plan(server) }).await.unwrap();
    let answer = ask(server, "web.atlas.local", Rtype::A).await;
    assert_eq!(answer.answer().unwrap().next().unwrap().unwrap().ttl(), Ttl::from_secs(77));
    let absent = ask(server, "nope.atlas.local", Rtype::A).await;
    assert_eq!(absent.authority().unwrap().next().unwrap().unwrap().ttl(), Ttl::from_secs(5));
}

#[tokio::test]
async fn what_does_not_fit_a_datagram_comes_over_tcp() {
    let (responder, server) = serving().await;
    for edns in [None, Some(512), Some(4096)] {
        let query = query("many.atlas.local", Rtype::A, edns);
        let cut = by_udp(server, &query).await.unwrap();
        assert!(cut.header().tc(), "{edns:?}");
        assert!(cut.as_slice().len() <= 1232);
        assert_eq!(cut.opt().is_some(), edns.is_some());
        let whole = by_tcp(server, &query).await.unwrap();
        assert!(!whole.header().tc());
        assert_eq!(addresses(&whole).len(), 100);
    }
    // Forty addresses fit the usual size, but not the oldest one.
    let forty = (0..40).map(|last| format!("10.77.8.{last}").parse().unwrap()).collect();
    let change = overlayd_core::contract::DnsChange::Set("forty.atlas.local".to_owned(), forty);
    responder.change_records(&[change]).await.unwrap();
    assert!(by_udp(server, &query("forty.atlas.local", Rtype::A, None)).await.unwrap().header().tc());
    let answer = by_udp(server, &query("forty.atlas.local", Rtype::A, Some(1232))).await.unwrap();
    assert_eq!((answer.header().tc(), addresses(&answer).len()), (false, 40));
}

#[tokio::test]
async fn askers_get_the_addresses_of_a_name_in_turn() {
    let (_responder, server) = serving().await;
    let mut first = BTreeSet::new();
    for id in 0..200_u16 {
        let mut query = query("many.atlas.local", Rtype::A, None);
        query[..2].copy_from_slice(&id.to_be_bytes());
        let answer = by_tcp(server, &query).await.unwrap();
        let record = answer.answer().unwrap().limit_to::<domain::rdata::A>().next().unwrap().unwrap();
        first.insert(record.data().addr());
    }
    assert_eq!(first.len(), 100);
}

#[tokio::test]
async fn edns_is_answered_with_edns() {
    let (_responder, server) = serving().await;
    let answer = ask(server, "web.atlas.local", Rtype::A).await;
    assert_eq!(answer.opt().unwrap().udp_payload_size(), 1232);
    assert!(by_udp(server, &query("web.atlas.local", Rtype::A, None)).await.unwrap().opt().is_none());

    let mut newer = query("web.atlas.local", Rtype::A, Some(1232));
    let at = newer.len() - 5;
    newer[at] = 1;
    assert_eq!(by_udp(server, &newer).await.unwrap().opt_rcode(), OptRcode::BADVERS);
}

#[tokio::test]
async fn what_is_not_understood_is_said_so() {
    let (_responder, server) = serving().await;
    let plain = || query("web.atlas.local", Rtype::A, None);
    let rcode = async |query: Vec<u8>| by_udp(server, &query).await.unwrap().header().rcode();

    let mut notify = plain();
    notify[2] = 4 << 3;
    let answer = by_udp(server, &notify).await.unwrap();
    assert_eq!((answer.header().rcode(), answer.header().opcode()), (Rcode::NOTIMP, Opcode::NOTIFY));

    let mut chaos = plain();
    let last = chaos.len() - 1;
    chaos[last] = Class::CH.to_int() as u8;
    assert_eq!(rcode(chaos).await, Rcode::REFUSED);

    let mut two = MessageBuilder::new_vec().question();
    for _ in 0..2 {
        two.push((&"web.atlas.local".parse::<Name<Vec<u8>>>().unwrap(), Rtype::A)).unwrap();
    }
    assert_eq!(rcode(two.finish()).await, Rcode::FORMERR);
    assert_eq!(rcode(query("web.atlas.local", Rtype::from_int(250), None)).await, Rcode::NOTIMP);
    assert_eq!(rcode(query("web.atlas.local", Rtype::from_int(65_280), None)).await, Rcode::NOERROR);
    let cut = plain()[..20].to_vec();
    assert_eq!(rcode(cut).await, Rcode::FORMERR);
}
