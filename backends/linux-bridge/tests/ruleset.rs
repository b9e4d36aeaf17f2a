//! The text of the nftables ruleset, for a host that has one of everything in both address families. Needs root and `nft`.
//!
//! `tests/golden/ruleset.nft` is what `nft list ruleset` prints then. A change of the rules shows there as a difference
//! that a reader of nftables can review. To accept it: `OVERLAYD_BLESS=1 cargo test -p overlayd-linux-bridge --test ruleset`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::Path;

use common::{Bench, Family, MTU, V4, V6, container, ip, name_of, numbered};
use overlayd_core::{
    contract::{
        AttachPlan, Attacher, AttachmentId, Egress, FencePlan, Inbound, NetworkName, NetworkPlan, OverlayLeg,
        OverlayLink, PortPlan, PortProtocol, ServiceLeg, Target,
    },
    names::InstanceId,
};
use overlayd_linux_bridge::{BridgeConfig, LinuxBridge, TableProtection};
use overlayd_testkit::lab::Namespace;

/// Set to accept the ruleset of today as the golden one.
const BLESS: &str = "OVERLAYD_BLESS";

#[tokio::test]
async fn the_ruleset_of_a_host_with_one_of_everything_is_the_golden_one() {
    let bench = Bench::new(V4);
    let state_dir = tempfile::tempdir().unwrap();
    // Names of tables and hardware addresses of bridges derive from the instance, so it is the same in every run.
    let config = BridgeConfig {
        instance: InstanceId::of_data_dir("/golden".as_ref()),
        state_dir: state_dir.path().into(),
        protection: TableProtection::default(),
        own_changes: overlayd_netlink::OwnChanges::default(),
    };
    let backend = bench.host.enter(|| LinuxBridge::new(config)).unwrap();
    let egress = network("golden-egress", V4, Egress::Masquerade);
    let closed = network("golden-closed", V6, Egress::None);
    backend.ensure_network(&egress).await.unwrap();
    backend.ensure_network(&closed).await.unwrap();
    let containers = [(); 5].map(|()| container());
    let [free, open, members, routed_v4, routed_v6] = &containers;
    for plan in [
        on_bridge("free", free, &egress, 2),
        AttachPlan {
            fence: fence(V4, "open", Inbound::Anyone),
            ports: ports(Some(V4.uplink)),
            ..on_bridge("open", open, &egress, 3)
        },
        AttachPlan {
            fence: fence(V6, "members", Inbound::MembersOnly),
            ports: ports(Some(V6.uplink)),
            ..on_bridge("members", members, &closed, 2)
        },
        on_routes("routed-v4", routed_v4, V4),
        on_routes("routed-v6", routed_v6, V6),
        at_address(AttachmentId::Guest("vm".into()), "10.77.4.20", fence(V4, "open", Inbound::Anyone)),
        at_address(AttachmentId::Edge("laptop".into()), "fd77:4::20", fence(V6, "members", Inbound::MembersOnly)),
    ] {
        backend.attach(&plan).await.unwrap();
    }
    let ruleset = stable(&bench.host.run(&["nft", "list", "ruleset"]));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ruleset.nft");
    if std::env::var_os(BLESS).is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &ruleset).unwrap();
    }
    let golden = std::fs::read_to_string(&file).unwrap();
    let differs = ruleset.lines().zip(golden.lines()).position(|(now, then)| now != then);
    assert!(
        ruleset == golden,
        "the ruleset differs from {}, first in line {}; set {BLESS}=1 to accept it:\n{ruleset}",
        file.display(),
        differs.unwrap_or_else(|| ruleset.lines().count().min(golden.lines().count())) + 1,
    );
}

/// The ruleset without what differs from run to run and from one version of `nft` to another: elements of a set are listed
/// in the order of their random hashes, and the owner of a table by its process.
fn stable(ruleset: &str) -> String {
    let mut text = String::new();
    let mut lines = ruleset.lines();
    while let Some(line) = lines.next() {
        let line = line.split(" # progname").next().unwrap_or_default().trim_end();
        let Some((indent, first)) = line.split_once("elements = { ") else {
            text.push_str(line.strip_suffix(",persist").unwrap_or(line));
            text.push('\n');
            continue;
        };
        let mut list = first.to_owned();
        while !list.ends_with('}') {
            list.push_str(lines.next().expect("a list of elements ends with a brace").trim());
        }
        let mut elements: Vec<&str> = list.trim_end_matches('}').split(',').map(str::trim).collect();
        elements.sort_unstable();
        text.push_str(&format!("{indent}elements = {{\n"));
        for element in elements {
            text.push_str(&format!("{indent}\t{element},\n"));
        }
        text.push_str(&format!("{indent}}}\n"));
    }
    text
}

fn network(name: &str, family: Family, egress: Egress) -> NetworkPlan {
    NetworkPlan {
        name: NetworkName(name.into()),
        guid: None,
        gateways: vec![numbered(family.web, 1)],
        mtu: MTU,
        egress,
        overlay: Some(OverlayLink { devices: vec![name_of("ov0")], ranges: vec![family.cluster.parse().unwrap()] }),
    }
}

/// A container that is known by its namespace: then nothing of the ruleset derives from a PID.
fn plan(name: &str, container: &Namespace, service: Option<ServiceLeg>, overlay: Option<OverlayLeg>) -> AttachPlan {
    AttachPlan {
        id: AttachmentId::Namespace(name.into()),
        target: Target::Namespace(format!("/proc/{}/ns/net", container.pid()).into()),
        known: None,
        service,
        overlay,
        resolver: None,
        fence: None,
        ports: Vec::new(),
    }
}

fn on_bridge(name: &str, container: &Namespace, network: &NetworkPlan, number: u32) -> AttachPlan {
    let gateway = network.gateways[0].addr();
    let family = if gateway.is_ipv4() { V4 } else { V6 };
    let address = numbered(family.web, number);
    let leg = ServiceLeg { network: network.name.clone(), address, gateway, mtu: MTU };
    plan(name, container, Some(leg), None)
}

fn on_routes(name: &str, container: &Namespace, family: Family) -> AttachPlan {
    let leg = OverlayLeg {
        address: ip(family.global),
        range: family.cluster.parse().unwrap(),
        source: ip(family.node),
        device: name_of("ov0"),
        mtu: MTU,
    };
    plan(name, container, None, Some(leg))
}

fn at_address(id: AttachmentId, address: &str, fence: Option<FencePlan>) -> AttachPlan {
    let target = Target::Address(ip(address));
    AttachPlan { id, target, known: None, service: None, overlay: None, resolver: None, fence, ports: Vec::new() }
}

fn fence(family: Family, network: &str, inbound: Inbound) -> Option<FencePlan> {
    let reachable = vec![ip(family.node).into()];
    let overlay = vec![family.cluster.parse().unwrap()];
    Some(FencePlan { network: network.into(), reachable, overlay, inbound })
}

/// A port of each transport at all addresses, and a range at this one.
fn ports(host_ip: Option<&str>) -> Vec<PortPlan> {
    let at_all = |protocol, port| PortPlan { protocol, host_ip: None, host_ports: (port, port), container_port: 80 };
    let range = PortPlan {
        protocol: PortProtocol::Tcp,
        host_ip: host_ip.map(ip),
        host_ports: (9000, 9002),
        container_port: 90,
    };
    vec![at_all(PortProtocol::Tcp, 8000), at_all(PortProtocol::Udp, 5300), range]
}
