//! What the daemon answers to every member of every request that could be nonsense. `docs/protocol.md` has the same in
//! words, in the same order.

use overlayd_core::protocol::Request;
use serde_json::{Value, json};

use crate::node::{Node, some_key};

/// What a request is answered with.
enum Answer {
    /// A success, whatever the reply carries.
    Fine,
    /// An error that says this.
    Refused(&'static str),
}

use Answer::{Fine, Refused};

/// The request `base` with the member changed.
fn with(base: &Value, member: &str, value: Value) -> Value {
    let mut request = base.clone();
    request[member] = value;
    request
}

async fn check(node: &Node, rows: impl IntoIterator<Item = (Value, Answer)>) {
    for (row, answer) in rows {
        let request: Request = serde_json::from_value(row.clone()).unwrap_or_else(|error| panic!("{row}: {error}"));
        let shown = row.to_string().chars().take(200).collect::<String>();
        match answer {
            Fine => drop(node.ok(request).await),
            Refused(why) => {
                let message = node.refused(request).await;
                assert!(message.contains(why), "{shown} was refused with: {message}");
                assert!(message.len() < 1000, "{shown} was refused with {} bytes", message.len());
            }
        }
    }
}

/// The base request with one member after the other changed.
async fn vary(node: &Node, base: Value, rows: impl IntoIterator<Item = (&'static str, Value, Answer)>) {
    check(node, rows.into_iter().map(|(member, value, answer)| (with(&base, member, value), answer))).await;
}

fn long(length: usize) -> String {
    "x".repeat(length)
}

#[tokio::test]
async fn the_node_is_told_what_it_is_as_the_caller_likes() {
    let node = Node::fresh().await;
    let told = [
        (json!({"op":"set_local_node_id","node_id":0}), Fine),
        (json!({"op":"set_local_node_id","node_id":u64::MAX}), Fine),
        (json!({"op":"set_local_wg_pubkey","pubkey":some_key().to_base64()}), Fine),
        (json!({"op":"set_local_wg_pubkey","pubkey":"not a key"}), Fine),
        (json!({"op":"set_local_wg_pubkey","pubkey":""}), Fine),
        (json!({"op":"set_local_wg_pubkey","pubkey":long(256)}), Refused("256 bytes")),
    ];
    check(&node, told).await;
}

fn setup() -> Value {
    json!({"op":"setup_global_overlay","deployment":"atlas","instance_id":"n1","cluster_cidr":"10.77.0.0/16",
           "slice_cidr":"10.77.4.0/26","wg_port":51820})
}

#[tokio::test]
async fn an_overlay_that_no_host_could_have_is_refused_and_leaves_nothing() {
    let node = Node::fresh().await;
    let rows = [
        ("deployment", json!("a/b"), Refused("no interface name")),
        ("deployment", json!(long(256)), Refused("256 bytes")),
        ("instance_id", json!(long(256)), Refused("256 bytes")),
        ("cluster_cidr", json!(""), Refused("invalid cluster CIDR")),
        ("cluster_cidr", json!("10.77.0.0"), Refused("invalid cluster CIDR")),
        ("cluster_cidr", json!("10.77.0.0/33"), Refused("invalid cluster CIDR")),
        ("cluster_cidr", json!("0.0.0.0/0"), Refused("no range for hosts")),
        ("cluster_cidr", json!("127.0.0.0/16"), Refused("no range for hosts")),
        ("cluster_cidr", json!("239.1.0.0/16"), Refused("no range for hosts")),
        ("cluster_cidr", json!("::/0"), Refused("no range for hosts")),
        ("cluster_cidr", json!("fe80::/64"), Refused("no range for hosts")),
        ("slice_cidr", json!("here"), Refused("invalid slice CIDR")),
        ("slice_cidr", json!("10.78.0.0/26"), Refused("does not lie inside")),
        ("slice_cidr", json!("fd00::/120"), Refused("does not lie inside")),
        ("slice_cidr", json!("10.0.0.0/8"), Refused("does not lie inside")),
        ("slice_cidr", json!("10.77.4.0/31"), Refused("no room")),
        ("wg_port", json!(0), Refused("invalid wg_port")),
    ];
    vary(&node, setup(), rows).await;
    let tiny = json!({"op":"setup_global_overlay","deployment":"a","instance_id":"b","cluster_cidr":"10.77.0.0/32","wg_port":1});
    check(&node, [(tiny, Refused("no room"))]).await;
    assert!(node.host().is_empty(), "{:?}", node.host());
    assert_eq!(node.status().await.interface, None);
}

#[tokio::test]
async fn an_overlay_takes_host_bits_and_empty_names_as_they_are() {
    for (member, value) in [
        ("cluster_cidr", json!("10.77.3.9/16")),
        ("slice_cidr", json!("10.77.4.9/26")),
        ("deployment", json!("")),
        ("instance_id", json!("")),
        ("deployment", json!(long(255))),
        ("nat", json!({"enabled":true,"stun_servers":["nonsense",""],"hole_punch_timeout_secs":u64::MAX})),
    ] {
        let node = Node::fresh().await;
        check(&node, [(with(&setup(), member, value), Fine)]).await;
        assert_eq!(node.status().await.node_ip.unwrap().to_string(), "10.77.4.1");
    }
}

#[tokio::test]
async fn a_service_may_be_called_anything_but_the_reserved_name() {
    let node = Node::ready().await;
    let base = json!({"op":"setup_service_overlay","service":"web","mode":"auto"});
    let rows = [
        ("service", json!(""), Fine),
        ("service", json!("../a b/\u{e9}\n"), Fine),
        ("service", json!(long(255)), Fine),
        ("service", json!(long(256)), Refused("256 bytes")),
        ("service", json!("__zlayer_shared_bridge__"), Refused("reserved")),
    ];
    vary(&node, base, rows).await;
    let rest = [
        (json!({"op":"teardown_service_overlay","service":"unknown"}), Fine),
        (json!({"op":"allocate_ip","service":"unknown","join_global":false}), Fine),
        (json!({"op":"allocate_ip","service":long(256),"join_global":false}), Refused("256 bytes")),
        (json!({"op":"release_ip","ip":"192.0.2.1"}), Fine),
        (json!({"op":"release_ip","ip":"10.77.4.1"}), Fine),
    ];
    check(&node, rest).await;
    node.start_process(7);
    check(&node, [(json!({"op":"setup_service_overlay","service":"web","mode":"auto"}), Fine)]).await;
    let held = node.attach(7).await.to_string();
    check(&node, [(json!({"op":"release_ip","ip":held}), Refused("belongs to an attached container"))]).await;
}

#[tokio::test]
async fn a_container_that_cannot_be_named_is_refused_and_leaves_nothing() {
    let node = Node::ready().await;
    let before = node.host();
    let base =
        json!({"op":"attach_container","handle":{"platform":"linux_pid","pid":7},"service":"web","join_global":false});
    let rows = [
        ("handle", json!({"platform":"linux_pid","pid":0}), Refused("0 is no process")),
        ("handle", json!({"platform":"linux_pid","pid":u32::MAX}), Refused("is no process")),
        ("handle", json!({"platform":"linux_pid","pid":4_194_304}), Refused("gone")),
        ("handle", json!({"platform":"linux_netns","id":"c1","path":"run/netns/c1"}), Refused("no absolute path")),
        ("handle", json!({"platform":"linux_netns","id":"","path":"/run/netns/c1"}), Refused("names nothing")),
        ("handle", json!({"platform":"guest_managed","id":""}), Refused("names nothing")),
        ("handle", json!({"platform":"guest_managed","id":long(256)}), Refused("256 bytes")),
        ("handle", json!({"platform":"host_shared","id":""}), Refused("names nothing")),
        ("handle", json!({"platform":"windows_container","container_id":"x"}), Refused("only supported on Windows")),
        ("service", json!("unknown"), Refused("no service bridge for service unknown")),
        ("service", json!(long(256)), Refused("256 bytes")),
        ("isolation_network", json!(long(256)), Refused("256 bytes")),
        ("dns_server", json!("0.0.0.0"), Refused("no address to ask")),
        ("dns_server", json!("ff02::fb"), Refused("no address to ask")),
        ("dns_domain", json!("../etc"), Refused("no DNS name")),
        ("dns_domain", json!("a b"), Refused("no DNS name")),
        ("dns_domain", json!(long(254)), Refused("no DNS name")),
    ];
    vary(&node, base, rows).await;
    assert_eq!(node.host(), before);
    let unknown = [
        json!({"platform":"linux_pid","pid":0}),
        json!({"platform":"linux_netns","id":"","path":""}),
        json!({"platform":"guest_managed","id":"unknown"}),
        json!({"platform":"windows_container","container_id":"no-guid"}),
    ];
    check(&node, unknown.map(|handle| (json!({"op":"detach_container","handle":handle}), Fine))).await;
}

#[tokio::test]
async fn a_container_takes_what_is_unusual_but_clear() {
    let rows = [
        ("isolation_network", json!("")),
        ("isolation_network", json!("a/b c")),
        ("dns_domain", json!("")),
        ("dns_domain", json!("atlas.internal.")),
        ("join_global", json!(true)),
    ];
    for (member, value) in rows {
        let node = Node::ready().await;
        node.start_process(7);
        let base = json!({"op":"attach_container","handle":{"platform":"linux_pid","pid":7},"service":"web","join_global":false});
        check(&node, [(with(&base, member, value), Fine)]).await;
    }
}

#[tokio::test]
async fn the_network_with_the_empty_name_is_a_network_and_not_the_absence_of_one() {
    let node = Node::ready().await;
    node.start_process(7);
    let base =
        json!({"op":"attach_container","handle":{"platform":"linux_pid","pid":7},"service":"web","join_global":false});
    check(&node, [(with(&base, "isolation_network", json!("")), Fine), (base, Refused("isolation network"))]).await;
}

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
        ("public_key", json!(own), Refused("this node's own key")),
        ("endpoint", json!(""), Refused("invalid peer endpoint")),
        ("endpoint", json!("198.51.100.1"), Refused("host:port")),
        ("endpoint", json!("198.51.100.1:0"), Refused("port 0")),
        ("endpoint", json!("0.0.0.0:51820"), Refused("nowhere to send to")),
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
async fn an_edge_gets_what_it_was_granted_or_nothing() {
    let node = Node::ready().await;
    let base = json!({"op":"mint_edge_peer","name":"laptop","ttl_secs":900,"allow":["web"],"node_endpoint":"203.0.113.80:51820"});
    let rows = [
        ("name", json!("  "), Refused("must not be empty")),
        ("name", json!(long(256)), Refused("256 bytes")),
        ("allow", json!(["", " "]), Refused("names nothing")),
        ("allow", json!(["unknown"]), Refused("`unknown`")),
        ("allow", json!(["0.0.0.0/0"]), Refused("not inside the cluster range")),
        ("allow", json!(["192.0.2.0/24"]), Refused("not inside the cluster range")),
        ("allow", json!(vec!["web"; 1025]), Refused("1025 entries")),
        ("node_endpoint", json!(""), Refused("node_endpoint")),
        ("node_endpoint", json!("0.0.0.0:0"), Refused("nowhere to send to")),
        ("node_endpoint", json!("203.0.113.80:0"), Refused("port 0")),
        ("node_endpoint", json!("203.0.113.80"), Refused("host:port")),
        ("node_endpoint", json!("a b:51820"), Refused("neither an address nor a name")),
    ];
    vary(&node, base.clone(), rows).await;
    let minted = [
        with(&base, "name", json!("a")),
        with(&with(&base, "name", json!("over at once")), "ttl_secs", json!(0)),
        with(&with(&base, "name", json!("b")), "ttl_secs", json!(u64::MAX)),
        with(&with(&base, "name", json!("c")), "allow", json!([" 10.77.9.9/26 ", "", "10.77.8.8"])),
        with(&with(&base, "name", json!("d")), "allow", json!([])),
        with(&with(&base, "name", json!("e")), "node_endpoint", json!(" gw.example.net:51820 ")),
    ];
    check(&node, minted.map(|request| (request, Fine))).await;
    let rest = [
        (with(&base, "name", json!(" a ")), Refused("already minted")),
        (json!({"op":"revoke_edge_peer","name":"unknown"}), Fine),
        (json!({"op":"revoke_edge_peer","name":" a "}), Fine),
        (with(&base, "name", json!("a")), Refused("already minted")),
        (json!({"op":"revoke_edge_peer","name":"a"}), Fine),
        (with(&base, "name", json!("a")), Fine),
    ];
    check(&node, rest).await;
}

#[tokio::test]
async fn names_and_ports_are_checked_at_the_door() {
    let node = Node::ready().await;
    node.start_process(7);
    node.attach(7).await;
    let port = |changes: Value| {
        let mut port = json!({"protocol":"tcp","host_port":8080,"container_port":80});
        port.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        json!({"op":"publish_ports","handle":{"platform":"linux_pid","pid":7},"ports":[port]})
    };
    let rows = [
        (json!({"op":"unregister_dns","name":"a..b"}), Refused("no DNS name")),
        (json!({"op":"unregister_dns","name":"unknown.atlas.local"}), Fine),
        (json!({"op":"register_dns","name":"../etc","ip":"10.77.4.9"}), Refused("no DNS name")),
        (json!({"op":"register_dns","name":"","ip":"10.77.4.9"}), Refused("no DNS name")),
        (json!({"op":"register_dns","name":long(64),"ip":"10.77.4.9"}), Refused("no DNS name")),
        (json!({"op":"write_scoped_resolver","zone":"../etc","node_ip":"10.77.4.1"}), Refused("macOS-only")),
        (json!({"op":"remove_scoped_resolver","zone":""}), Refused("macOS-only")),
        (json!({"op":"prune_orphan_bridges","live_bridge_names":["", "no/link", long(4096)]}), Fine),
        (port(json!({"host_port":0})), Refused("port 0")),
        (port(json!({"container_port":0})), Refused("port 0")),
        (port(json!({"host_port_end":8079})), Refused("ends before it starts")),
        (port(json!({"host_port_end":8090,"container_port":65530})), Refused("do not fit")),
        (port(json!({"host_ip":"2001:db8::1"})), Refused("another family")),
        (port(json!({"host_port_end":8090,"host_ip":"192.0.2.1"})), Fine),
    ];
    check(&node, rows).await;
}
