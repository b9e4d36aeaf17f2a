//! A host with an outside and an overlay, for tests with real packets.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses its part")]

use std::{net::IpAddr, path::Path};

use ipnet::IpNet;
use overlayd_core::{
    contract::{
        AttachPlan, AttachmentId, DriftSignal, Egress, NetworkName, NetworkPlan, OverlayLeg, OverlayLink, ServiceLeg,
        Target,
    },
    names::{InstanceId, LinkName},
};
use overlayd_linux_bridge::{BridgeConfig, LinuxBridge, TableProtection};
use overlayd_netlink::OwnChanges;
use overlayd_testkit::lab::{self, Namespace, NamespaceConfinement};

pub const MTU: u16 = 1420;

/// The addresses of one family.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// Of the network `web`, whose first host is the gateway; and of another one.
    pub web: &'static str,
    pub db: &'static str,
    /// This node's address on the overlay, another node's, and the whole overlay.
    pub node: &'static str,
    pub remote: &'static str,
    pub cluster: &'static str,
    /// A container's address on the overlay.
    pub global: &'static str,
    /// The host's uplink and the world behind it.
    pub uplink: &'static str,
    pub outside: &'static str,
    pub bits: u8,
    /// An address of the overlay that no device leads to.
    pub lost: &'static str,
}

pub const V4: Family = Family {
    web: "10.77.8.{}/26",
    db: "10.77.9.{}/26",
    node: "10.77.4.1",
    remote: "10.77.7.1",
    cluster: "10.77.0.0/16",
    global: "10.77.4.9",
    uplink: "192.0.2.1",
    outside: "192.0.2.99",
    bits: 24,
    lost: "10.77.99.99",
};

pub const V6: Family = Family {
    web: "fd77:8::{}/120",
    db: "fd77:9::{}/120",
    node: "fd77:4::1",
    remote: "fd77:7::1",
    cluster: "fd77::/16",
    global: "fd77:4::9",
    uplink: "2001:db8::1",
    outside: "2001:db8::99",
    bits: 64,
    lost: "fd77:99::99",
};

/// A host in a namespace, its world, its peer on the overlay, and the backend.
pub struct Bench {
    pub family: Family,
    pub host: Namespace,
    pub outside: Namespace,
    pub remote: Namespace,
    pub backend: LinuxBridge,
    state: tempfile::TempDir,
    protection: TableProtection,
}

impl Bench {
    pub fn new(family: Family) -> Self {
        Self::with(family, TableProtection::default())
    }

    /// With rules that others may take away or not.
    pub fn with(family: Family, protection: TableProtection) -> Self {
        assert!(lab::available(), "SKIPPED");
        let [host, outside, remote] = [(); 3].map(|()| Namespace::host());
        wire(&host, "up0", &outside, &[(family.uplink, family.outside, family.bits)]);
        host.run(&["ip", "route", "add", "default", "via", family.outside]);
        let state = tempfile::tempdir().unwrap();
        let backend = backend(&host, state.path(), protection);
        let bench = Self { family, host, outside, remote, backend, state, protection };
        bench.add_overlay();
        bench
    }

    /// The backend of a new process of the same daemon.
    pub fn restart(&mut self) {
        self.restart_with(self.protection);
    }

    /// The same, of a process that is configured otherwise.
    pub fn restart_with(&mut self, protection: TableProtection) {
        self.backend = backend(&self.host, self.state.path(), protection);
    }

    /// The process ends; what works on is another host's.
    pub fn end(&mut self) {
        self.backend = backend(&self.outside, self.state.path(), self.protection);
    }

    /// A stand-in for the overlay device: what enters it comes out at the remote node.
    pub fn add_overlay(&self) {
        let family = self.family;
        let prefix: IpNet = family.cluster.parse().unwrap();
        wire(&self.host, "ov0", &self.remote, &[(family.node, family.remote, prefix.prefix_len())]);
        // A real device resolves no neighbours: the other end takes what comes.
        let mac = self.remote.run(&["cat", "/sys/class/net/eth0/address"]);
        for net in [family.web, family.db] {
            let net: IpNet = net.replace("{}", "0").parse().unwrap();
            let net = net.trunc().to_string();
            self.remote.run(&["ip", "route", "add", &net, "via", family.node, "onlink", "dev", "eth0"]);
        }
        let global = IpNet::from(family.global.parse::<IpAddr>().unwrap()).to_string();
        self.remote.run(&["ip", "route", "add", &global, "via", family.node, "onlink", "dev", "eth0"]);
        self.host.run(&["ip", "neigh", "replace", family.lost, "lladdr", mac.trim(), "dev", "ov0"]);
    }

    pub fn remove_overlay(&self) {
        self.host.run(&["ip", "link", "del", "ov0"]);
    }

    pub fn network(&self, name: &str, template: &str, egress: Egress) -> NetworkPlan {
        NetworkPlan {
            name: NetworkName(name.into()),
            guid: None,
            gateways: vec![numbered(template, 1)],
            mtu: MTU,
            egress,
            overlay: Some(OverlayLink {
                devices: vec![name_of("ov0")],
                ranges: vec![self.family.cluster.parse().unwrap()],
            }),
        }
    }

    pub fn web(&self) -> NetworkPlan {
        self.network("lbt-web", self.family.web, Egress::Masquerade)
    }

    pub fn plan(&self, container: &Namespace, network: &NetworkPlan, number: u8) -> AttachPlan {
        let pid = container.pid();
        let gateway = network.gateways[0];
        let number = u32::from(number);
        let address = match gateway {
            IpNet::V4(net) => IpAddr::V4((u32::from(net.network()) + number).into()),
            IpNet::V6(net) => IpAddr::V6((u128::from(net.network()) + u128::from(number)).into()),
        };
        let leg = ServiceLeg {
            network: network.name.clone(),
            address: IpNet::new(address, gateway.prefix_len()).unwrap(),
            gateway: gateway.addr(),
            mtu: MTU,
        };
        AttachPlan {
            id: AttachmentId::Process(pid),
            target: Target::Process(pid),
            known: None,
            service: Some(leg),
            overlay: None,
            resolver: None,
            fence: None,
            ports: Vec::new(),
        }
    }

    /// The leg by which a container is part of the overlay itself.
    pub fn overlay_leg(&self) -> OverlayLeg {
        let family = self.family;
        OverlayLeg {
            address: ip(family.global),
            range: family.cluster.parse().unwrap(),
            source: ip(family.node),
            device: name_of("ov0"),
            mtu: MTU,
        }
    }
}

/// The address that a plan gives to the container on its service's network.
pub fn service_ip(plan: &AttachPlan) -> IpAddr {
    plan.service.as_ref().unwrap().address.addr()
}

fn backend(host: &Namespace, state_dir: &Path, protection: TableProtection) -> LinuxBridge {
    let instance = InstanceId::of_data_dir(state_dir);
    let config = BridgeConfig { instance, state_dir: state_dir.into(), protection, own_changes: OwnChanges::default() };
    host.enter(|| LinuxBridge::watching(config, DriftSignal::default())).unwrap()
}

pub fn container() -> Namespace {
    Namespace::container(NamespaceConfinement::None)
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn numbered(template: &str, number: u32) -> IpNet {
    template.replace("{}", &number.to_string()).parse().unwrap()
}

pub fn name_of(text: &str) -> LinkName {
    LinkName::new(text).unwrap()
}

/// A cable from an interface of this name on the host to `eth0` of another namespace, with these addresses.
fn wire(host: &Namespace, name: &str, far: &Namespace, addresses: &[(&str, &str, u8)]) {
    let pid = far.pid().to_string();
    host.run(&["ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", &pid]);
    for (near_address, far_address, bits) in addresses {
        let (near_address, far_address) = (format!("{near_address}/{bits}"), format!("{far_address}/{bits}"));
        let nodad: &[&str] = if near_address.contains(':') { &["nodad"] } else { &[] };
        host.run(&[&["ip", "addr", "add", &near_address, "dev", name], nodad].concat());
        far.run(&[&["ip", "addr", "add", &far_address, "dev", "eth0"], nodad].concat());
    }
    far.run(&["ip", "link", "set", "eth0", "up"]);
    host.run(&["ip", "link", "set", name, "up"]);
}
