//! The backend keeps the contract, on hosts that are network namespaces. Needs root.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Mutex,
};

use async_trait::async_trait;
use overlayd_core::{
    contract::{Attacher, AttachmentId, NetworkName, PortPlan, PortProtocol, Target},
    names::{InstanceId, LinkName},
};
use overlayd_linux_bridge::{BridgeConfig, LinuxBridge, TableProtection};
use overlayd_netlink::{Netns, OwnChanges, Rtnl, link::NewBridge};
use overlayd_testkit::{
    contract::{
        HostFacts,
        attach::{AttachHarness, SeenLink, TestContainer},
    },
    lab::{
        self, Namespace, NamespaceConfinement,
        probe::{self, ReachService},
    },
};

/// How containers are named to the backend.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Handles {
    Processes,
    Namespaces,
}

struct Here {
    handles: Handles,
    host: Namespace,
    /// Both daemons' data, in directories `ours` and `theirs`.
    state: tempfile::TempDir,
    backend: LinuxBridge,
    neighbour: LinuxBridge,
    containers: HashMap<AttachmentId, Namespace>,
    /// What listens in containers, by port.
    services: Mutex<HashMap<(AttachmentId, u16), ReachService>>,
}

impl Here {
    async fn new(handles: Handles) -> Self {
        assert!(lab::available(), "SKIPPED");
        let (host, state) = (Namespace::host(), tempfile::tempdir().unwrap());
        let [backend, neighbour] = ["ours", "theirs"].map(|who| {
            std::fs::create_dir(state.path().join(who)).unwrap();
            open(&host, state.path().join(who))
        });
        Self { handles, host, state, backend, neighbour, containers: HashMap::new(), services: Mutex::default() }
    }

    fn rtnl(&self) -> Rtnl {
        self.host.enter(Rtnl::here).unwrap()
    }
}

fn open(host: &Namespace, state_dir: PathBuf) -> LinuxBridge {
    let (instance, protection) = (InstanceId::of_data_dir(&state_dir), TableProtection::default());
    let config = BridgeConfig { instance, state_dir, protection, own_changes: OwnChanges::default() };
    host.enter(|| LinuxBridge::new(config)).unwrap()
}

/// A fact without what the kernel changes by itself, some time after an interface is connected or not.
fn without_carrier(mut fact: String) -> Option<String> {
    for word in [" linkdown", "NO-CARRIER,", ",LOWER_UP", " state UP", " state DOWN", " state LOWERLAYERDOWN"] {
        fact = fact.replace(word, "");
    }
    // The route for multicast comes with the first connection.
    (!fact.contains("multicast ff00::/8")).then_some(fact)
}

#[async_trait]
impl AttachHarness for Here {
    fn backend(&self) -> &dyn Attacher {
        &self.backend
    }

    fn neighbour(&self) -> &dyn Attacher {
        &self.neighbour
    }

    async fn restart(&mut self) {
        self.backend = open(&self.host, self.state.path().join("ours"));
    }

    async fn host(&self) -> HostFacts {
        // Links of detached containers are deleted a little later.
        self.backend.settle().await.unwrap();
        let mut facts: HostFacts = lab::facts(&self.host).into_iter().filter_map(without_carrier).collect();
        for who in ["ours", "theirs"] {
            let files = std::fs::read_dir(self.state.path().join(who)).unwrap();
            facts.extend(files.map(|file| format!("file {who} {}", file.unwrap().file_name().display())));
        }
        facts
    }

    async fn put_foreign_network(&self, name: &NetworkName) {
        self.rtnl().run(NewBridge { name: &name.0, mac: None, group: 0 }.request()).unwrap();
    }

    async fn start_container(&mut self) -> TestContainer {
        let namespace = Namespace::container(NamespaceConfinement::None);
        let pid = namespace.pid();
        let container = match self.handles {
            Handles::Processes => TestContainer { id: AttachmentId::Process(pid), target: Target::Process(pid) },
            Handles::Namespaces => TestContainer {
                id: AttachmentId::Namespace(format!("pod-{pid}")),
                target: Target::Namespace(format!("/proc/{pid}/ns/net").into()),
            },
        };
        self.containers.insert(container.id.clone(), namespace);
        container
    }

    async fn stop_container(&mut self, container: &TestContainer) {
        let namespace = self.containers.remove(&container.id).expect("a container of this test");
        let inside = Netns::at_path(format!("/proc/{}/ns/net", namespace.pid())).unwrap();
        let inner = Rtnl::inside(&inside).unwrap().links().unwrap();
        let outer: Vec<u32> = inner.iter().filter_map(|link| link.peer).collect();
        drop((inside, namespace));
        let host = self.rtnl();
        for _ in 0..2000 {
            if outer.iter().all(|&index| host.link(index).unwrap().is_none()) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("the namespace of {container:?} does not end");
    }

    async fn inside(&self, container: &TestContainer) -> Vec<SeenLink> {
        let rtnl = self.containers[&container.id].enter(Rtnl::here).unwrap();
        let routes = rtnl.routes().unwrap();
        let mut links = rtnl.links().unwrap();
        links.retain(|link| link.name != "lo");
        links.sort_by(|a, b| a.name.cmp(&b.name));
        let told = links.iter().map(|link| {
            let addresses = rtnl.addresses(link.index).unwrap();
            let by_this = |route: &&overlayd_netlink::Route| route.link == Some(link.index);
            SeenLink {
                name: LinkName::new(link.name.clone()).unwrap(),
                addresses: addresses.iter().filter(|a| a.is_global()).map(|a| a.net).collect(),
                mtu: u16::try_from(link.mtu).unwrap(),
                default_gateway: routes
                    .iter()
                    .filter(by_this)
                    .find(|route| route.destination.prefix_len() == 0)
                    .and_then(|route| route.gateway),
            }
        });
        told.collect()
    }

    async fn reaches(&self, container: &TestContainer, address: IpAddr) -> bool {
        probe::ping(&self.containers[&container.id], address, 56).is_some()
    }

    async fn is_published(&self, container: &TestContainer, port: &PortPlan) -> bool {
        let key = (container.id.clone(), port.container_port);
        let any = (Ipv4Addr::UNSPECIFIED, port.container_port).into();
        let mut services = self.services.lock().unwrap();
        let start = || ReachService::start(&self.containers[&container.id], any, PortProtocol::Tcp);
        let service = services.entry(key).or_insert_with(start);
        // A port that leads nowhere is refused at once.
        service.asked_by(&self.host, (Ipv4Addr::new(10, 77, 8, 1), port.host_ports.0).into(), None).is_some()
    }

    fn forbidden(&self) -> Option<TestContainer> {
        // The process that holds the host's namespace open.
        let pid = self.host.pid();
        Some(TestContainer { id: AttachmentId::Process(pid), target: Target::Process(pid) })
    }

    fn alien(&self) -> TestContainer {
        TestContainer { id: AttachmentId::Compute("vm".into()), target: Target::Compute("vm".into()) }
    }
}

mod by_process {
    overlayd_testkit::attach_contract!(super::Here::new(super::Handles::Processes));
}

mod by_namespace {
    overlayd_testkit::attach_contract!(super::Here::new(super::Handles::Namespaces));
}
