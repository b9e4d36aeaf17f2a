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

/// One line per fact, as an operator would write it down.
fn told(plan: &AttachPlan) -> Vec<String> {
    plan.interfaces.iter().flat_map(tell_interface).collect()
}

fn tell_interface(interface: &InterfacePlan) -> Vec<String> {
    let InterfacePlan { name, host_name, address, mtu, uplink, .. } = interface;
    let mut lines = vec![format!("{name} {address} mtu {mtu} <-> {host_name} {uplink:?}")];
    lines.extend(interface.routes.iter().map(|route| match route.gateway {
        Some(gateway) => format!("{name} route {} via {gateway}", route.destination),
        None => format!("{name} route {} on-link", route.destination),
    }));
    lines
}

#[test]
fn a_container_gets_its_service_leg_and_its_global_leg() {
    let desired = desired("10.77.0.0/16", "10.77.4.0/26", "10.77.78.192/26");
    let plan =
        attachment(&desired, &record("10.77.78.194", Some("10.77.4.2")), 1420, Inbound::Anyone).unwrap().unwrap();
    assert_eq!(
        told(&plan),
        [
            "eth0 10.77.78.194/26 mtu 1420 <-> veth-31337-s Network(NetworkName(\"zl-bce5df779a-b\"))",
            "eth0 route 0.0.0.0/0 via 10.77.78.193",
            "eth1 10.77.4.2/32 mtu 1420 <-> veth-31337-g Routed { source: 10.77.4.1, overlay: zl-atlas-n1-g }",
            "eth1 route 10.77.0.0/16 on-link",
        ]
    );
}

#[test]
fn an_ipv6_container_is_planned_alike() {
    let desired = desired("fd77:1::/48", "fd77:1:0:4::/64", "fd77:1:0:5e::4100/120");
    let plan = attachment(&desired, &record("fd77:1:0:5e::4102", None), 1280, Inbound::Anyone).unwrap().unwrap();
    assert_eq!(
        told(&plan),
        [
            "eth0 fd77:1:0:5e::4102/120 mtu 1280 <-> veth-31337-s Network(NetworkName(\"zl-bce5df779a-b\"))",
            "eth0 route ::/0 via fd77:1:0:5e::4101",
        ]
    );
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

#[test]
fn a_container_known_by_its_namespace_has_host_ends_of_its_own() {
    let one = host_end(&AttachmentId::Namespace("cni-1".into()), 's').unwrap();
    let other = host_end(&AttachmentId::Namespace("cni-2".into()), 's').unwrap();
    assert_ne!(one, other);
    assert_eq!(one.as_str().len(), 14);
}
