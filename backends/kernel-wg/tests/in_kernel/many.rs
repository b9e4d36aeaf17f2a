//! Thousands of peers.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use overlayd_core::{
    contract::{PeerChange, PeerPlan},
    keys::PublicKey,
};

use crate::hosts::{Kind, cable, peer};

const PEERS: u16 = 10_000;

fn numbered(number: u16) -> PeerPlan {
    let [high, low] = number.to_be_bytes();
    let mut key = [0x33; 32];
    (key[0], key[1]) = (high, low);
    let v4 = IpNet::new(Ipv4Addr::new(10, 99, high, low).into(), 32).unwrap();
    let v6 = IpNet::new(Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, number).into(), 128).unwrap();
    PeerPlan { allowed_ips: vec![v4, v6], ..peer(PublicKey::from_bytes(key), "192.0.2.2:51820", &[]) }
}

#[test]
fn ten_thousand_peers_are_set_listed_changed_and_removed() {
    let (a, _b) = cable(Kind::Kernel, Kind::Kernel);
    a.ensure(&a.plan(&["10.77.0.1/24"])).unwrap();
    let plans: Vec<PeerPlan> = (0..PEERS).map(numbered).collect();
    a.change(plans.iter().cloned().map(PeerChange::Set).collect()).unwrap();
    let seen = a.status();
    assert_eq!(seen.peers.len(), usize::from(PEERS));
    for plan in &plans {
        let peer = seen.peers.iter().find(|peer| peer.public_key == plan.public_key).expect("every peer is listed");
        assert_eq!(peer.allowed_ips, plan.allowed_ips);
    }
    let moved = PeerPlan { allowed_ips: vec!["10.99.0.1/32".parse().unwrap()], ..numbered(PEERS) };
    a.change(vec![PeerChange::Set(moved.clone()), PeerChange::Remove(plans[7].public_key)]).unwrap();
    assert_eq!(a.peer(&plans[1].public_key).allowed_ips, plans[1].allowed_ips[1..]);
    assert_eq!(a.peer(&moved.public_key).allowed_ips, moved.allowed_ips);
    assert_eq!(a.status().peers.len(), usize::from(PEERS));
}

#[test]
fn a_peer_with_thousands_of_ranges_is_set_and_listed_whole() {
    let (a, _b) = cable(Kind::Kernel, Kind::Kernel);
    a.ensure(&a.plan(&["10.77.0.1/24"])).unwrap();
    let ranges: Vec<IpNet> = (0..4000).map(|n| numbered(n).allowed_ips[1]).collect();
    let plan = PeerPlan { allowed_ips: ranges.clone(), ..numbered(1) };
    a.set(plan.clone());
    let seen = a.peer(&plan.public_key);
    assert_eq!(seen.allowed_ips, ranges);
    assert_eq!(seen.endpoint, Some("192.0.2.2:51820".parse().unwrap()));
    a.set(PeerPlan { allowed_ips: ranges[..1].to_vec(), ..plan.clone() });
    assert_eq!(a.peer(&plan.public_key).allowed_ips, ranges[..1]);
}
