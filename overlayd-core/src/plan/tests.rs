use super::*;
use crate::{
    contract::{NetworkName, Target},
    desired::{Change, Lifetime, Phase},
    protocol::OverlayMode,
};

fn desired(cluster: &str, slice: &str, block: &str) -> Desired {
    Desired::load([
        Change::Overlay(Some(OverlayRecord {
            deployment: "atlas".into(),
            instance_id: "n1".into(),
            cluster: cluster.parse().unwrap(),
            slice: Some(slice.parse().unwrap()),
            port: 51820,
            nat: None,
            device: LinkName::new("zl-atlas-n1-g").unwrap(),
        })),
        Change::Service(
            "web".into(),
            Some(ServiceRecord {
                mode: OverlayMode::Auto,
                block: block.parse().unwrap(),
                network: NetworkName("zl-bce5df779a-b".into()),
                guid: None,
                dedicated: None,
                lifetime: Lifetime::Kept,
            }),
        ),
    ])
}

fn record(ip: &str, global_ip: Option<&str>) -> AttachmentRecord {
    AttachmentRecord {
        id: AttachmentId::Process(31337),
        target: Target::Process(31337),
        service: "web".into(),
        service_ip: ip.parse().unwrap(),
        global_ip: global_ip.map(|ip| ip.parse().unwrap()),
        isolation: None,
        ports: vec![],
        issued: None,
        identity: None,
        namespace: None,
        phase: Phase::Wanted,
    }
}

#[test]
fn a_container_gets_its_service_leg_and_its_overlay_leg() {
    let desired = desired("10.77.0.0/16", "10.77.4.0/26", "10.77.78.192/26");
    let record = record("10.77.78.194", Some("10.77.4.2"));
    let plan = attachment(&desired, &record, 1420, Inbound::Anyone).unwrap();
    let service = ServiceLeg {
        network: NetworkName("zl-bce5df779a-b".into()),
        address: "10.77.78.194/26".parse().unwrap(),
        gateway: "10.77.78.193".parse().unwrap(),
        mtu: 1420,
    };
    let overlay = OverlayLeg {
        address: "10.77.4.2".parse().unwrap(),
        range: "10.77.0.0/16".parse().unwrap(),
        source: "10.77.4.1".parse().unwrap(),
        device: LinkName::new("zl-atlas-n1-g").unwrap(),
        mtu: 1420,
    };
    assert_eq!((plan.service, plan.overlay), (Some(service), Some(overlay)));
}

#[test]
fn an_ipv6_container_is_planned_alike() {
    let desired = desired("fd77:1::/48", "fd77:1:0:4::/64", "fd77:1:0:5e::4100/120");
    let plan = attachment(&desired, &record("fd77:1:0:5e::4102", None), 1280, Inbound::Anyone).unwrap();
    let leg = plan.service.unwrap();
    assert_eq!(leg.address, "fd77:1:0:5e::4102/120".parse().unwrap());
    assert_eq!(leg.gateway, "fd77:1:0:5e::4101".parse::<IpAddr>().unwrap());
    assert_eq!(plan.overlay, None);
}

#[test]
fn the_device_holds_the_node_address_with_the_mask_of_the_cluster() {
    let desired = desired("10.64.0.0/12", "10.77.4.0/26", "10.77.78.192/26");
    let plan = global_device(&desired, desired.overlay().unwrap(), PrivateKey::generate());
    assert_eq!((plan.addresses, plan.routes), (vec!["10.77.4.1/12".parse().unwrap()], vec![]));
}

#[test]
fn the_network_of_a_service_has_its_gateway_and_never_masquerades_the_overlay() {
    let desired = desired("10.77.0.0/16", "10.77.4.0/26", "10.77.78.192/26");
    let plan = network(&desired, desired.service("web").unwrap(), 1420);
    assert_eq!(plan.gateways, ["10.77.78.193/26".parse().unwrap()]);
    assert_eq!(plan.overlay.unwrap().ranges, ["10.77.0.0/16".parse().unwrap()]);
}
