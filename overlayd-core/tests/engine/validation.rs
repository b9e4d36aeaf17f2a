//! What the daemon answers to every member of every request that could be nonsense. `docs/protocol.md` has the same in
//! words, in the same order.

mod grants;
mod peers;

use overlayd_core::protocol::Request;
use serde_json::{Value, json};

use crate::node::{Node, some_key};

/// What a request is answered with.
enum Answer {
    /// A success with any reply.
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
        ("cluster_cidr", json!("0.0.0.0/0"), Refused("hosts cannot have")),
        ("cluster_cidr", json!("127.0.0.0/16"), Refused("hosts cannot have")),
        ("cluster_cidr", json!("239.1.0.0/16"), Refused("hosts cannot have")),
        ("cluster_cidr", json!("::/0"), Refused("hosts cannot have")),
        ("cluster_cidr", json!("fe80::/64"), Refused("hosts cannot have")),
        ("cluster_cidr", json!("169.254.0.0/16"), Refused("hosts cannot have")),
        ("cluster_cidr", json!("240.0.0.0/8"), Refused("hosts cannot have")),
        ("cluster_cidr", json!("::ffff:10.77.0.0/112"), Refused("hosts cannot have")),
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
    for (name, value) in [
        ("cluster_cidr", json!("10.77.3.9/16")),
        ("slice_cidr", json!("10.77.4.9/26")),
        ("deployment", json!("")),
        ("instance_id", json!("")),
        ("deployment", json!(long(255))),
        ("nat", json!({"enabled":true,"stun_servers":["nonsense",""],"hole_punch_timeout_secs":u64::MAX})),
    ] {
        let node = Node::fresh().await;
        check(&node, [(with(&setup(), name, value.clone()), Fine)]).await;
        let status = node.status().await;
        assert_eq!(status.node_ip.unwrap().to_string(), "10.77.4.1");
        for (told, member) in [(status.overlay_cidr, "cluster_cidr"), (status.slice_cidr, "slice_cidr")] {
            assert_eq!(told.unwrap(), with(&setup(), name, value.clone())[member], "{member}");
        }
    }
}

#[tokio::test]
async fn a_running_overlay_is_not_moved_and_its_traversal_may_change() {
    let node = Node::ready().await;
    let rows = [
        ("cluster_cidr", json!("10.0.0.0/8"), Refused("tear it down before")),
        ("slice_cidr", json!("10.77.8.0/26"), Refused("tear it down before")),
        ("instance_id", json!("n2"), Refused("tear it down before")),
        ("nat", json!({}), Fine),
        ("wg_port", json!(51999), Fine),
    ];
    vary(&node, setup(), rows).await;
    assert_eq!(node.status().await.slice_cidr.unwrap(), "10.77.4.0/26");
}

#[tokio::test]
async fn a_client_introduces_itself_in_few_words() {
    let node = Node::fresh().await;
    let rows = [
        ("client", json!(""), Fine),
        ("client", json!(long(256)), Refused("256 bytes")),
        ("events", json!(["of_another_release"]), Fine),
        ("events", json!(vec!["x"; 65]), Refused("65 entries")),
    ];
    vary(&node, json!({"op":"hello"}), rows).await;
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
        ("handle", json!({"platform":"linux_pid","pid":u32::MAX}), Refused("the container is gone")),
        ("handle", json!({"platform":"linux_pid","pid":4_194_304}), Refused("gone")),
        ("handle", json!({"platform":"linux_netns","id":"c1","path":"run/netns/c1"}), Refused("no absolute path")),
        ("handle", json!({"platform":"linux_netns","id":"","path":"/run/netns/c1"}), Refused("names nothing")),
        ("handle", json!({"platform":"linux_netns","id":long(129),"path":"/run/netns/c1"}), Refused("129 bytes")),
        ("handle", json!({"platform":"guest_managed","id":""}), Refused("names nothing")),
        ("handle", json!({"platform":"guest_managed","id":long(256)}), Refused("256 bytes")),
        ("handle", json!({"platform":"host_shared","id":""}), Refused("names nothing")),
        ("handle", json!({"platform":"windows_container","container_id":"x"}), Refused("not supported here")),
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
