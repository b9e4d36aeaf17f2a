//! Names outside of the local zones.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
};

use domain::base::{Message, Rtype, iana::Rcode};
use overlayd_core::contract::{Dns as _, DnsPlan, Upstreams};
use overlayd_dns_responder::DnsResponder;
use tokio::net::UdpSocket;

use crate::{
    ask::{PATIENCE, addresses, by_tcp, by_udp, own_address, query},
    upstream::{Manner, Upstream},
    zones::plan,
};

const IP: std::net::Ipv4Addr = std::net::Ipv4Addr::new(192, 0, 2, 1);
const OTHER: std::net::Ipv4Addr = std::net::Ipv4Addr::new(192, 0, 2, 2);

async fn forwarding(upstreams: Upstreams) -> (DnsResponder, SocketAddr) {
    let (responder, server) = (DnsResponder::new(), own_address());
    responder.apply(&DnsPlan { upstreams, ..plan(server) }).await.unwrap();
    (responder, server)
}

async fn to(upstreams: &[&Upstream]) -> (DnsResponder, SocketAddr) {
    forwarding(Upstreams::Servers(upstreams.iter().map(|upstream| upstream.address).collect())).await
}

async fn ask(server: SocketAddr, name: &str) -> Message<Vec<u8>> {
    by_udp(server, &query(name, Rtype::A, Some(1232))).await.unwrap()
}

#[tokio::test]
async fn other_names_are_asked_of_the_upstream_and_remembered() {
    let upstream = Upstream::start(Manner::Address(IP, 600)).await;
    let (_responder, server) = to(&[&upstream]).await;
    for name in ["www.example.net", "WWW.eXample.net", "www.example.net"] {
        let answer = ask(server, name).await;
        assert_eq!(addresses(&answer), [IP.into()].into());
        assert!(answer.header().ra() && !answer.header().aa() && answer.opt().is_some());
        let question = answer.sole_question().unwrap();
        assert_eq!(question.qname().to_string(), name, "letter case comes back");
    }
    assert!(addresses(&by_tcp(server, &query("www.example.net", Rtype::A, Some(1232))).await.unwrap()).len() == 1);
    assert_eq!(upstream.asked(), 1);
    assert_eq!(addresses(&ask(server, "web.atlas.local").await).len(), 1);
    assert_eq!(upstream.asked(), 1, "our names never leave");
}

#[tokio::test]
async fn absence_is_remembered_as_long_as_the_zone_says() {
    let forgetful = Upstream::start(Manner::Absent(0)).await;
    let lasting = Upstream::start(Manner::Absent(600)).await;
    for (upstream, asked) in [(forgetful, 3), (lasting, 1)] {
        let (_responder, server) = to(&[&upstream]).await;
        for _ in 0..3 {
            let answer = ask(server, "nope.example.net").await;
            assert_eq!((answer.header().rcode(), answer.header_counts().nscount()), (Rcode::NXDOMAIN, 1));
        }
        assert_eq!(upstream.asked(), asked);
    }
}

#[tokio::test]
async fn a_dead_or_unwilling_upstream_is_passed_over_and_then_avoided() {
    let unwilling = Upstream::start(Manner::Code(Rcode::SERVFAIL)).await;
    let good = Upstream::start(Manner::Address(IP, 0)).await;
    let (_responder, server) =
        forwarding(Upstreams::Servers(vec![own_address(), unwilling.address, good.address])).await;
    for round in 1..4 {
        assert_eq!(addresses(&ask(server, "www.example.net").await).len(), 1);
        assert_eq!((unwilling.asked(), good.asked()), (1, round));
    }
}

#[tokio::test]
async fn total_failure_is_told_and_no_upstream_is_a_refusal() {
    let unwilling = Upstream::start(Manner::Code(Rcode::REFUSED)).await;
    let (_responder, server) = to(&[&unwilling]).await;
    assert_eq!(ask(server, "www.example.net").await.header().rcode(), Rcode::SERVFAIL);
    let (_responder, server) = forwarding(Upstreams::None).await;
    assert_eq!(ask(server, "www.example.net").await.header().rcode(), Rcode::REFUSED);
}

#[tokio::test]
async fn forged_answers_are_ignored() {
    let upstream = Upstream::start(Manner::Forged(IP)).await;
    let (_responder, server) = to(&[&upstream]).await;
    assert_eq!(addresses(&ask(server, "www.example.net").await), [IP.into()].into());
}

#[tokio::test]
async fn a_large_answer_is_fetched_over_tcp_and_cut_for_the_asker() {
    let upstream = Upstream::start(Manner::Large(100)).await;
    let (_responder, server) = to(&[&upstream]).await;
    assert!(ask(server, "www.example.net").await.header().tc());
    let whole = by_tcp(server, &query("www.example.net", Rtype::A, None)).await.unwrap();
    assert_eq!(addresses(&whole).len(), 100);
    assert!(whole.opt().is_none());
}

#[tokio::test]
async fn a_server_older_than_edns_is_asked_plainly() {
    let upstream = Upstream::start(Manner::Old(IP)).await;
    let (_responder, server) = to(&[&upstream]).await;
    assert_eq!(addresses(&ask(server, "www.example.net").await), [IP.into()].into());
}

#[tokio::test]
async fn split_zones_have_their_own_servers() {
    let (everywhere, corp) = (Manner::Address(IP, 60), Manner::Address(OTHER, 60));
    let (everywhere, corp) = (Upstream::start(everywhere).await, Upstream::start(corp).await);
    let (responder, server) = (DnsResponder::new(), own_address());
    let plan = DnsPlan {
        upstreams: Upstreams::Servers(vec![everywhere.address]),
        split: BTreeMap::from([("corp.example".to_owned(), vec![corp.address])]),
        ..plan(server)
    };
    responder.apply(&plan).await.unwrap();
    for (name, ip) in [("a.corp.example", OTHER), ("corp.example", OTHER), ("notcorp.example", IP)] {
        assert_eq!(addresses(&ask(server, name).await), [ip.into()].into(), "{name}");
    }
}

#[tokio::test]
async fn the_same_question_is_asked_once_at_a_time_and_holds_up_nobody() {
    let silent = Upstream::start(Manner::Silence).await;
    let (_responder, server) = to(&[&silent]).await;
    let asking = async { tokio::join!(ask(server, "slow.example.net"), ask(server, "slow.example.net")) };
    let others = async {
        for _ in 0..50 {
            assert_eq!(addresses(&ask(server, "web.atlas.local").await).len(), 1);
        }
        silent.asked()
    };
    let ((first, second), asked) = tokio::join!(asking, others);
    assert!(asked <= 1);
    assert_eq!((first.header().rcode(), second.header().rcode()), (Rcode::SERVFAIL, Rcode::SERVFAIL));
}

#[tokio::test]
async fn a_forwarder_never_asks_itself() {
    let (responder, server) = (DnsResponder::new(), own_address());
    let upstreams = Upstreams::Servers(vec![server]);
    responder.apply(&DnsPlan { upstreams, ..plan(server) }).await.unwrap();
    assert_eq!(ask(server, "www.example.net").await.header().rcode(), Rcode::REFUSED);
}

#[tokio::test]
async fn a_loop_of_two_forwarders_ends() {
    let (first, second) = (own_address(), own_address());
    let responders = [DnsResponder::new(), DnsResponder::new()];
    for (responder, here, there) in [(&responders[0], first, second), (&responders[1], second, first)] {
        responder.apply(&DnsPlan { upstreams: Upstreams::Servers(vec![there]), ..plan(here) }).await.unwrap();
    }
    assert_eq!(ask(first, "www.example.net").await.header().rcode(), Rcode::SERVFAIL);
}

#[tokio::test]
async fn without_a_resolv_conf_other_names_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("resolv.conf");
    let (_responder, server) = forwarding(Upstreams::ResolvConf(vec![missing])).await;
    assert_eq!(ask(server, "www.example.net").await.header().rcode(), Rcode::REFUSED);
}

#[tokio::test]
async fn a_flood_of_unanswered_names_from_one_client_leaves_room_for_another() {
    let silent = Upstream::start(Manner::Silence).await;
    let good = Upstream::start(Manner::Address(IP, 600)).await;
    let server = own_address();
    let responder = DnsResponder::new();
    let split = BTreeMap::from([("dead.example".to_owned(), vec![silent.address])]);
    let upstreams = Upstreams::Servers(vec![good.address]);
    responder.apply(&DnsPlan { upstreams, split, ..plan(server) }).await.unwrap();
    let flood = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 66), 0)).await.unwrap();
    flood.connect(server).await.unwrap();
    for number in 0..1000 {
        flood.send(&query(&format!("n{number}.dead.example"), Rtype::A, None)).await.unwrap();
    }
    // What is over its share is answered at once. After the first such answer the flood has all that it can get.
    let mut buffer = [0; 512];
    let len = tokio::time::timeout(PATIENCE, flood.recv(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(Message::from_octets(&buffer[..len]).unwrap().header().rcode(), Rcode::SERVFAIL);
    assert!(silent.asked() <= 128, "{} questions of one client at a time", silent.asked());
    for name in ["www.example.net", "mail.example.net", "ftp.example.net"] {
        assert_eq!(addresses(&ask(server, name).await), [IP.into()].into());
    }
    let framed = by_tcp(server, &query("last.example.net", Rtype::A, None)).await.unwrap();
    assert_eq!(addresses(&framed).len(), 1);
}
