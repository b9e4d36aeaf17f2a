//! Peers, their keys, endpoints and ranges.

use serde_json::{Value, json};

use super::{
    Answer::{Fine, Refused},
    check, vary,
};
use crate::node::{Node, some_key};

#[tokio::test]
async fn a_peer_that_makes_no_sense_is_refused() {
    let node = Node::ready().await;
    let own = node.status().await.public_key.unwrap();
    let key = some_key().to_base64();
    let base = json!({"op":"add_peer","public_key":key,"endpoint":"198.51.100.1:51820","allowed_ips":"10.77.8.0/26","persistent_keepalive_secs":25});
    let many = |count: u32| {
        let range = |n: u32| std::net::Ipv4Addr::from(0x0b00_0000 + n).to_string();
        (0..count).map(range).collect::<Vec<_>>().join(",")
    };
    let rows = [
        ("public_key", json!(""), Refused("public key")),
        ("public_key", json!("AAAA"), Refused("public key")),
        ("public_key", json!("=".repeat(44)), Refused("public key")),
        ("public_key", json!(format!("{}=", "A".repeat(43))), Refused("no peer")),
        ("public_key", json!(own), Refused("this node's own key")),
        ("endpoint", json!(""), Refused("invalid endpoint: `` is no address of a peer")),
        ("endpoint", json!("198.51.100.1"), Refused("host:port")),
        ("endpoint", json!("198.51.100.1:0"), Refused("port 0")),
        ("endpoint", json!("0.0.0.0:51820"), Refused("cannot be sent to")),
        ("endpoint", json!("198.51.100.300:1"), Refused("neither an address nor a name")),
        ("endpoint", json!("a b:1"), Refused("neither an address nor a name")),
        ("allowed_ips", json!("10.77.8.0/33"), Refused("neither a CIDR nor an address")),
        ("allowed_ips", json!("10.77.8.0/26;10.77.9.0/26"), Refused("neither a CIDR nor an address")),
        ("allowed_ips", json!(many(16_385)), Refused("16385 entries")),
        ("persistent_keepalive_secs", json!(65_536), Refused("more than 65535")),
        ("scope", json!({"scope":"service","service":"web"}), Refused("no dedicated overlay for service web")),
        ("scope", json!({"scope":"service","service":"unknown"}), Refused("no dedicated overlay for service unknown")),
    ];
    vary(&node, base.clone(), rows).await;
    assert_eq!(node.status().await.peer_count, 0);
    let rows = [
        ("endpoint", json!("0.0.0.0:0"), Fine),
        ("endpoint", json!("[2001:db8::7]:51820"), Fine),
        ("allowed_ips", json!(""), Fine),
        ("allowed_ips", json!("10.77.8.3/26, 10.77.8.0/26,fd00::1,"), Fine),
        ("allowed_ips", json!("192.0.2.0/24,0.0.0.0/0"), Fine),
        ("allowed_ips", json!(many(4_000)), Fine),
        ("persistent_keepalive_secs", json!(0), Fine),
        ("candidates", json!([{"candidate_type":"wormhole","address":"nowhere","priority":u32::MAX}]), Fine),
    ];
    vary(&node, base, rows).await;
    assert_eq!(node.status().await.peer_count, 1);
}

#[tokio::test]
async fn the_own_key_of_a_dedicated_device_is_no_peer_of_it() {
    let node = Node::ready().await;
    check(&node, [(json!({"op":"setup_service_overlay","service":"db","mode":"dedicated"}), Fine)]).await;
    let own = node.status().await.dedicated_services[0].public_key.clone();
    let add = json!({"op":"add_peer","public_key":own,"endpoint":"198.51.100.1:51820","allowed_ips":"","persistent_keepalive_secs":0,
                     "scope":{"scope":"service","service":"db"}});
    check(&node, [(add, Refused("cannot be its peer"))]).await;
    assert_eq!(node.status().await.dedicated_services[0].peer_count, 0);
}

#[tokio::test]
async fn ranges_of_peers_are_checked_one_by_one() {
    let node = Node::ready().await;
    let (key, stranger) = (some_key().to_base64(), some_key().to_base64());
    let add =
        json!({"op":"add_peer","public_key":key,"endpoint":"0.0.0.0:0","allowed_ips":"","persistent_keepalive_secs":0});
    check(&node, [(add, Fine)]).await;
    let base = json!({"op":"add_allowed_ip","pubkey":key,"cidr":"10.77.8.0/26"});
    let rows = [
        ("cidr", json!(""), Refused("neither a CIDR nor an address")),
        ("cidr", json!("10.77.8.0/26,10.77.9.0/26"), Refused("neither a CIDR nor an address")),
        ("cidr", json!("10.77.8.9/26"), Fine),
        ("cidr", json!("10.77.9.9"), Fine),
        ("pubkey", json!("AAAA"), Refused("public key")),
        ("pubkey", json!(stranger), Refused("unknown peer")),
    ];
    vary(&node, base, rows).await;
    assert_eq!(node.status().await.peers[0].allowed_ips, "10.77.8.0/26,10.77.9.9/32");
    let base = json!({"op":"remove_allowed_ip","pubkey":key,"cidr":"10.77.8.9/26"});
    let rows = [
        ("cidr", json!("nonsense"), Refused("neither a CIDR nor an address")),
        ("cidr", json!("10.99.0.0/16"), Fine),
        ("pubkey", json!(stranger), Fine),
        ("pubkey", json!(key), Fine),
    ];
    vary(&node, base, rows).await;
    assert_eq!(node.status().await.peers[0].allowed_ips, "10.77.9.9/32");
    let rest = [
        (json!({"op":"remove_peer","pubkey":"AAAA"}), Refused("public key")),
        (json!({"op":"remove_peer","pubkey":stranger}), Fine),
    ];
    check(&node, rest).await;
}

#[tokio::test]
async fn scopes_without_a_device_are_refused_whatever_is_asked() {
    let node = Node::ready().await;
    let (pubkey, scope) = (some_key().to_base64(), json!({"scope":"service","service":"web"}));
    for (op, cidr) in
        [("remove_peer", None), ("add_allowed_ip", Some("10.77.8.0/26")), ("remove_allowed_ip", Some("10.77.8.0/26"))]
    {
        let request = json!({"op":op,"pubkey":pubkey,"cidr":cidr,"scope":scope});
        check(&node, [(request, Refused("no dedicated overlay for service web"))]).await;
    }
}

#[tokio::test]
async fn a_range_has_one_holder_on_a_device_and_another_on_another_device() {
    let node = Node::ready().await;
    check(&node, [(json!({"op":"setup_service_overlay","service":"db","mode":"dedicated"}), Fine)]).await;
    let (one, two) = (some_key().to_base64(), some_key().to_base64());
    let add = |key: &str, ranges: &str, scope: Value| {
        let request = json!({"op":"add_peer","public_key":key,"endpoint":"0.0.0.0:0","allowed_ips":ranges,"persistent_keepalive_secs":0,"scope":scope});
        (request, Fine)
    };
    let (global, dedicated) = (json!({"scope":"global"}), json!({"scope":"service","service":"db"}));
    let held = async |key: &str| {
        let peers = node.status().await.peers;
        peers.iter().find(|peer| peer.public_key == key).map(|peer| peer.allowed_ips.clone()).unwrap()
    };
    check(&node, [add(&one, "10.77.8.0/26,10.77.9.0/26", global.clone())]).await;
    check(&node, [add(&two, "10.77.8.7/26,10.77.8.0/27", global.clone())]).await;
    assert_eq!((held(&one).await, held(&two).await), ("10.77.9.0/26".into(), "10.77.8.0/26,10.77.8.0/27".into()));
    check(&node, [add(&two, "10.77.9.0/26", dedicated)]).await;
    assert_eq!(held(&one).await, "10.77.9.0/26");
    check(&node, [(json!({"op":"add_allowed_ip","pubkey":one,"cidr":"10.77.8.0/27"}), Fine)]).await;
    assert_eq!((held(&one).await, held(&two).await), ("10.77.9.0/26,10.77.8.0/27".into(), "10.77.8.0/26".into()));
}

#[tokio::test]
async fn a_peer_never_holds_more_ranges_than_one_request_may_bring() {
    let node = Node::ready().await;
    let key = some_key().to_base64();
    let ranges =
        (0..16_384u32).map(|n| std::net::Ipv4Addr::from(0x0b00_0000 + n).to_string()).collect::<Vec<_>>().join(",");
    let add = json!({"op":"add_peer","public_key":key,"endpoint":"0.0.0.0:0","allowed_ips":ranges,"persistent_keepalive_secs":0});
    let more = |cidr: &str| json!({"op":"add_allowed_ip","pubkey":key,"cidr":cidr});
    check(&node, [(add, Fine), (more("10.77.9.0/26"), Refused("16385 entries")), (more("11.0.0.7"), Fine)]).await;
}
