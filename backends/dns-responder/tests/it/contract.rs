use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use async_trait::async_trait;
use domain::base::Rtype;
use overlayd_core::contract::Dns;
use overlayd_dns_responder::DnsResponder;
use overlayd_testkit::contract::dns::DnsHarness;

use crate::ask::{addresses, by_tcp, by_udp, own_address, query};

struct RealResponder {
    responder: DnsResponder,
}

impl RealResponder {
    async fn new() -> Self {
        Self { responder: DnsResponder::new() }
    }
}

#[async_trait]
impl DnsHarness for RealResponder {
    fn backend(&self) -> &dyn Dns {
        &self.responder
    }

    fn free_address(&self) -> SocketAddr {
        own_address()
    }

    async fn ask(&self, server: SocketAddr, name: &str) -> Option<BTreeSet<IpAddr>> {
        let mut found = BTreeSet::new();
        for rtype in [Rtype::A, Rtype::AAAA] {
            let query = query(name, rtype, None);
            let (udp, tcp) = (by_udp(server, &query).await, by_tcp(server, &query).await);
            assert_eq!(udp.as_ref().map(addresses), tcp.as_ref().map(addresses), "UDP and TCP agree");
            found.append(&mut addresses(&udp?));
        }
        Some(found)
    }
}

overlayd_testkit::dns_contract!(RealResponder::new());
