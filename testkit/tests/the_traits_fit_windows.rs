//! What docs/decisions/0030-the-traits-fit-windows-hcn.md says, said again in code.

use overlayd_core::{
    contract::{
        AttachPlan, Attached, Attacher, AttachmentId, Egress, Guid, NetworkName, NetworkPlan, OverlayLeg, Resolver,
        ServiceLeg, Target,
    },
    names::LinkName,
};
use overlayd_testkit::fake::{FakeAttacher, second_instance};

#[tokio::test]
async fn a_network_has_a_guid_that_a_new_process_finds_again() {
    let host = FakeAttacher::windows();
    let first = host.ensure_network(&network("atlas-overlay", Egress::Masquerade)).await.unwrap();
    assert!(first.guid.is_some());
    let again = host.restarted().ensure_network(&network("atlas-overlay", Egress::Masquerade)).await.unwrap();
    assert_eq!(again, first);
}

#[tokio::test]
async fn a_recorded_guid_is_tried_before_the_name() {
    let host = FakeAttacher::windows();
    let other = host.neighbour(second_instance());
    let made = other.ensure_network(&network("atlas-overlay", Egress::Masquerade)).await.unwrap();
    let by_name = network("atlas-overlay", Egress::Masquerade);
    assert_eq!(host.ensure_network(&by_name).await.unwrap_err().code(), "conflict");
    let by_guid = NetworkPlan { guid: made.guid.clone(), ..by_name };
    assert_eq!(host.ensure_network(&by_guid).await.unwrap(), made);
}

#[tokio::test]
async fn a_container_gets_a_namespace_and_is_detached_by_its_guid() {
    let host = FakeAttacher::windows();
    host.ensure_network(&network("atlas-overlay", Egress::Masquerade)).await.unwrap();
    let before = host.host();
    let (one, two) = (attach(&host, "wc-1", 2).await, attach(&host, "wc-2", 3).await);
    assert_ne!(one.namespace, two.namespace);
    let seen = host.observe().await.unwrap().attachments;
    assert_eq!(seen[0].namespace, one.namespace);
    for attached in [one, two] {
        let namespace = AttachmentId::ComputeNamespace(attached.namespace.expect("a namespace"));
        host.restarted().detach(&namespace).await.unwrap();
    }
    assert_eq!(host.host(), before);
}

#[tokio::test]
async fn an_unknown_namespace_is_detached_already() {
    let host = FakeAttacher::windows();
    let unknown = Guid("6f1d2c3b-4a59-4e68-9777-8695a4b3c2d1".into());
    host.detach(&AttachmentId::ComputeNamespace(unknown)).await.unwrap();
}

#[tokio::test]
async fn egress_is_the_type_of_the_network_and_cannot_change_under_members() {
    let host = FakeAttacher::windows();
    host.ensure_network(&network("atlas-shared", Egress::Nat)).await.unwrap();
    host.ensure_network(&network("atlas-shared", Egress::Masquerade)).await.expect("nothing is plugged in yet");
    host.ensure_network(&network("atlas-shared", Egress::Nat)).await.expect("nor now");
    let target = Target::Compute("wc-1".into());
    host.start(&target);
    host.attach(&plan("wc-1", "atlas-shared", 2)).await.unwrap();
    let changed = host.ensure_network(&network("atlas-shared", Egress::Masquerade)).await;
    assert_eq!(changed.unwrap_err().code(), "conflict");
}

#[tokio::test]
async fn an_overlay_leg_is_unsupported() {
    let host = FakeAttacher::windows();
    host.ensure_network(&network("atlas-overlay", Egress::Masquerade)).await.unwrap();
    host.start(&Target::Compute("wc-1".into()));
    let before = host.host();
    let leg = OverlayLeg {
        address: "10.77.4.9".parse().unwrap(),
        range: "10.77.0.0/16".parse().unwrap(),
        source: "10.77.4.1".parse().unwrap(),
        device: LinkName::new("zl-atlas-n1-g").unwrap(),
        mtu: 1420,
    };
    let both = AttachPlan { overlay: Some(leg), ..plan("wc-1", "atlas-overlay", 2) };
    assert_eq!(host.attach(&both).await.unwrap_err().code(), "unsupported");
    let alone = AttachPlan { service: None, ..both };
    assert_eq!(host.attach(&alone).await.unwrap_err().code(), "unsupported");
    assert_eq!(host.host(), before);
}

async fn attach(host: &FakeAttacher, id: &str, number: u8) -> Attached {
    host.start(&Target::Compute(id.into()));
    host.attach(&plan(id, "atlas-overlay", number)).await.expect("planned")
}

fn network(name: &str, egress: Egress) -> NetworkPlan {
    NetworkPlan {
        name: NetworkName(name.into()),
        guid: None,
        gateways: vec!["10.77.4.1/26".parse().expect("an address")],
        mtu: 1420,
        egress,
        overlay: None,
    }
}

fn plan(name: &str, network: &str, number: u8) -> AttachPlan {
    let id = AttachmentId::Compute(name.into());
    let leg = ServiceLeg {
        network: NetworkName(network.into()),
        address: format!("10.77.4.{number}/26").parse().expect("an address"),
        gateway: "10.77.4.1".parse().expect("an address"),
        mtu: 1420,
    };
    AttachPlan {
        id,
        target: Target::Compute(name.into()),
        known: None,
        service: Some(leg),
        overlay: None,
        resolver: Some(Resolver {
            server: "10.77.4.1".parse().expect("an address"),
            domain: Some("atlas.local".into()),
        }),
        fence: None,
        ports: vec![],
    }
}
