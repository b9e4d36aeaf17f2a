//! Queries while records change.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
};

use domain::base::{Rtype, iana::Rcode};
use overlayd_core::contract::{Dns as _, DnsChange, DnsPlan};
use overlayd_dns_responder::DnsResponder;

use crate::ask::{addresses, by_udp, own_address, query};

const RECORDS: u16 = 200;
const CHANGES: u16 = 1000;

fn name(record: u16) -> String {
    format!("h{record}.atlas.local")
}

/// Both addresses are of the same version, so an answer with two versions is torn.
fn version(version: u16) -> BTreeSet<std::net::IpAddr> {
    let [high, low] = version.to_be_bytes();
    BTreeSet::from([Ipv4Addr::new(10, 1, high, low).into(), Ipv4Addr::new(10, 2, high, low).into()])
}

async fn ask_until(done: &AtomicBool, server: SocketAddr) -> usize {
    let mut answered = 0;
    while !done.load(Ordering::Relaxed) {
        let record = answered as u16 % RECORDS;
        let answer = by_udp(server, &query(&name(record), Rtype::A, None)).await.expect("an answer");
        assert_eq!(answer.header().rcode(), Rcode::NOERROR);
        let versions: BTreeSet<[u8; 2]> = addresses(&answer)
            .into_iter()
            .map(|ip| match ip {
                std::net::IpAddr::V4(ip) => [ip.octets()[2], ip.octets()[3]],
                std::net::IpAddr::V6(_) => panic!("only IPv4 is registered"),
            })
            .collect();
        assert_eq!((addresses(&answer).len(), versions.len()), (2, 1), "the answer is of one moment");
        answered += 1;
    }
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_query_fails_while_records_change() {
    let (responder, server) = (DnsResponder::new(), own_address());
    let plan = DnsPlan {
        listen: vec![server],
        zones: BTreeSet::from(["atlas.local".to_owned()]),
        records: (0..RECORDS).map(|record| (name(record), version(0))).collect(),
        ..DnsPlan::default()
    };
    responder.apply(&plan).await.unwrap();
    let done = AtomicBool::new(false);
    let change = async {
        for at in 0..CHANGES {
            let changes = [DnsChange::Set(name(at % RECORDS), version(at))];
            responder.change_records(&changes).await.unwrap();
            // Whole plans and other sockets come in between as well.
            if at % 100 == 0 {
                let listen = vec![server, own_address()];
                responder.apply(&DnsPlan { listen, ..plan.clone() }).await.unwrap();
            }
            by_udp(server, &query(&name(0), Rtype::A, None)).await.expect("an answer");
        }
        done.store(true, Ordering::Relaxed);
    };
    let (answered, ()) = tokio::join!(ask_until(&done, server), change);
    assert!(answered > 100, "{answered}");
}
