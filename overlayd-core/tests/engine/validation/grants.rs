//! Edges, names and ports.

use overlayd_core::protocol::{Request, Response};
use serde_json::{Value, json};

use super::{
    Answer::{Fine, Refused},
    check, long, vary, with,
};
use crate::node::Node;

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
        ("node_endpoint", json!("0.0.0.0:0"), Refused("cannot be sent to")),
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
    let Response::EdgePeers { peers } = node.ok(Request::ListEdgePeers).await else { panic!() };
    let of = |name: &str| peers.iter().find(|peer| peer.name == name).unwrap();
    assert_eq!(of("b").expires_at_unix, u64::MAX, "beyond all time is no end");
    assert_eq!(of("c").allowed, ["10.77.9.0/26", "10.77.8.8/32"]);
    assert!(of("d").allowed.is_empty());
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
    let ports = |pid: u32, ports: &[Value]| json!({"op":"publish_ports","handle":{"platform":"linux_pid","pid":pid},"ports":ports});
    let port = |changes: Value| {
        let mut port = json!({"protocol":"tcp","host_port":8080,"container_port":80});
        port.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        ports(7, &[port])
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
        (ports(7, &vec![json!({"protocol":"tcp","host_port":1,"container_port":1}); 1025]), Refused("1025 entries")),
        (ports(7, &vec![json!({"protocol":"udp","host_port":5,"container_port":1}); 2]), Refused("named twice")),
        (ports(9, &[]), Refused("attach it first")),
    ];
    check(&node, rows).await;
}
