use proptest::prelude::*;

use super::*;
use crate::{
    contract::{AttachmentId, NetworkName, Target},
    protocol::OverlayMode,
};

fn overlay(cluster: &str, slice: Option<&str>) -> Change {
    Change::Overlay(Some(OverlayRecord {
        deployment: "atlas".into(),
        instance_id: "n1".into(),
        cluster: cluster.parse().unwrap(),
        slice: slice.map(|slice| slice.parse().unwrap()),
        port: 51820,
        nat: None,
        device: crate::names::LinkName::new("zl-atlas-n1-g").unwrap(),
    }))
}

fn service(name: &str, block: &str) -> Change {
    Change::Service(
        name.into(),
        Some(ServiceRecord {
            mode: OverlayMode::Auto,
            block: block.parse().unwrap(),
            network: NetworkName(format!("zl-{name}-b")),
            guid: None,
            dedicated: None,
            lifetime: Lifetime::Kept,
        }),
    )
}

fn attachment(pid: u32, service: &str, ip: IpAddr, global_ip: Option<IpAddr>) -> Change {
    let record = AttachmentRecord {
        id: AttachmentId::Process(pid),
        target: Target::Process(pid),
        service: service.into(),
        service_ip: ip,
        global_ip,
        isolation: None,
        ports: vec![],
        issued: None,
        identity: None,
        namespace: None,
        phase: Phase::Wanted,
    };
    Change::Attachment(AttachmentId::Process(pid), Some(record))
}

#[test]
fn leases_are_what_the_records_say_in_any_order_of_reading() {
    let ip = "10.77.78.194".parse().unwrap();
    let global = "10.77.4.2".parse().unwrap();
    let records = [
        attachment(7, "web", ip, Some(global)),
        Change::Rest("10.77.78.195".parse().unwrap(), Some(100)),
        service("web", "10.77.78.192/26"),
        overlay("10.77.0.0/16", Some("10.77.4.0/26")),
    ];
    let mut desired = Desired::load(records);
    assert!(desired.is_leased(ip) && desired.is_leased(global));
    assert_eq!(desired.pick_service_ip("web", 50).unwrap().to_string(), "10.77.78.196");
    assert_eq!(desired.pick_service_ip("web", 100).unwrap().to_string(), "10.77.78.195");
    assert_eq!(desired.pick_slice_ip(50).unwrap().to_string(), "10.77.4.3");
    assert_eq!(desired.members("web").count(), 1);
}

#[test]
fn without_a_slice_addresses_come_from_the_cluster_range_around_the_blocks() {
    let mut desired = Desired::load([overlay("10.9.0.0/24", None), service("web", "10.9.0.0/26")]);
    assert_eq!(desired.node_ip().unwrap().to_string(), "10.9.0.1");
    assert_eq!(desired.pick_slice_ip(0).unwrap().to_string(), "10.9.0.64");
    assert!(!desired.block_is_free(&"10.9.0.0/26".parse().unwrap()));
}

#[test]
fn a_service_never_gets_a_block_inside_the_slice() {
    let desired = Desired::load([overlay("10.77.0.0/16", Some("10.77.4.0/24"))]);
    assert!(!desired.block_is_free(&"10.77.4.128/26".parse().unwrap()));
    assert!(desired.block_is_free(&"10.77.5.128/26".parse().unwrap()));
}

fn arbitrary_change() -> impl Strategy<Value = Change> {
    let ip = (2u8..62).prop_map(|host| IpAddr::from([10, 77, 78, host]));
    let peer = (0u8..3, prop::collection::vec(0u8..4, 0..3)).prop_map(|(key, ranges)| {
        let id = PeerId { scope: DeviceScope::Global, public_key: PublicKey::from_bytes([key; 32]) };
        let record = PeerRecord {
            endpoint: EndpointSpec::Roaming,
            allowed_ips: ranges.iter().map(|n| format!("10.{n}.0.0/16").parse().unwrap()).collect(),
            keepalive: None,
            candidates: vec![],
            origin: Origin::Asked,
        };
        Change::Peer(id, (!ranges.is_empty()).then_some(record))
    });
    prop_oneof![
        (1u32..5, ip.clone(), any::<bool>()).prop_map(|(pid, ip, put)| match attachment(pid, "web", ip, None) {
            Change::Attachment(handle, _) if !put => Change::Attachment(handle, None),
            put => put,
        }),
        (ip.clone(), any::<bool>()).prop_map(|(ip, put)| Change::Allocation(ip, put.then(|| "web".into()))),
        (ip, prop::option::of(0u64..9)).prop_map(|(ip, until)| Change::Rest(ip, until)),
        peer,
    ]
}

proptest! {
    #[test]
    fn a_change_survives_its_text(change in arbitrary_change()) {
        let text = serde_json::to_string(&change).unwrap();
        prop_assert_eq!(serde_json::from_str::<Change>(&text).unwrap(), change);
    }

    #[test]
    fn taking_changes_back_restores_the_records(changes in prop::collection::vec(arbitrary_change(), 1..20)) {
        let base = || Desired::load([overlay("10.77.0.0/16", Some("10.77.4.0/26")), service("web", "10.77.78.0/26")]);
        let mut desired = base();
        let undo: Vec<Change> = changes.into_iter().map(|change| desired.apply(change)).collect();
        for change in undo.into_iter().rev() {
            desired.apply(change);
        }
        let fresh = base();
        prop_assert_eq!(&desired.attachments, &fresh.attachments);
        prop_assert_eq!(&desired.allocations, &fresh.allocations);
        prop_assert_eq!(&desired.rests, &fresh.rests);
        prop_assert_eq!(&desired.peers, &fresh.peers);
        prop_assert_eq!(&desired.routes, &fresh.routes);
        prop_assert_eq!(&desired.members, &fresh.members);
    }
}
