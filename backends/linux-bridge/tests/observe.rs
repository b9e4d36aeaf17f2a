//! What is seen of the host is what it is now, no matter which program changed it. Needs root.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Bench, V4, container};
use overlayd_core::contract::{Attacher, AttachmentId, HostNetworks};
use overlayd_testkit::lab::Namespace;

/// A bench with one network and a container on it.
async fn one() -> (Bench, Namespace, String) {
    let bench = Bench::new(V4);
    bench.backend.ensure_network(&bench.web()).await.unwrap();
    let guest = container();
    bench.backend.attach(&bench.plan(&guest, &bench.web(), 2)).await.unwrap();
    let link = format!("veth-{}-s", guest.pid());
    (bench, guest, link)
}

async fn seen(bench: &Bench) -> HostNetworks {
    bench.backend.observe().await.unwrap()
}

async fn is_in_place(bench: &Bench, guest: &Namespace) -> bool {
    let id = AttachmentId::Process(guest.pid());
    seen(bench).await.attachments.iter().any(|attachment| attachment.id == id && attachment.alive)
}

#[tokio::test]
async fn what_others_do_to_a_container_interface_is_seen_at_once() {
    let (bench, guest, link) = one().await;
    let ip = |words: &str| bench.host.run(&[&["ip", "link"], &*words.split(' ').collect::<Vec<_>>()].concat());
    let mark = bench.host.run(&["cat", &format!("/sys/class/net/{link}/ifalias")]);
    let mark = mark.trim();
    let web = bench.web().name.0;
    assert!(is_in_place(&bench, &guest).await);
    for (there, back) in [
        (format!("set {link} down"), format!("set {link} up")),
        (format!("set {link} nomaster"), format!("set {link} master {web}")),
        (format!("set {link} alias other"), format!("set {link} alias {mark}")),
    ] {
        ip(&there);
        assert!(!is_in_place(&bench, &guest).await, "{there}");
        ip(&back);
        assert!(is_in_place(&bench, &guest).await, "{back}");
    }
    ip(&format!("delete {link}"));
    assert!(!is_in_place(&bench, &guest).await);
}

#[tokio::test]
async fn links_of_others_are_members_of_a_bridge_for_as_long_as_they_are_on_it() {
    let (bench, _guest, _) = one().await;
    let web = bench.web().name.0;
    let members = async || seen(&bench).await.networks.iter().find(|network| network.name.0 == web).unwrap().members;
    assert_eq!(members().await, 1);
    bench.host.run(&["ip", "link", "add", "tap-of-others", "type", "veth", "peer", "name", "far"]);
    assert_eq!(members().await, 1);
    bench.host.run(&["ip", "link", "set", "tap-of-others", "master", &web]);
    assert_eq!(members().await, 2);
    bench.host.run(&["ip", "link", "set", "tap-of-others", "nomaster"]);
    assert_eq!(members().await, 1);
    bench.host.run(&["ip", "link", "set", "tap-of-others", "master", &web]);
    bench.host.run(&["ip", "link", "delete", "tap-of-others"]);
    assert_eq!(members().await, 1);
}
