//! What is asked of the daemon, and how it is asked again.

use overlayd_core::{
    contract::PortProtocol,
    keys::PrivateKey,
    protocol::{AttachContainer, AttachHandle, OverlayMode, PeerScope, PeerSpec, PortSpec, Request, Response},
};
use overlayd_testkit::{
    lab::{LabClient, LabCluster, Namespace},
    requests::attach,
};

/// Containers that a script has to choose from.
pub(super) const CONTAINERS: usize = 5;

/// Some of the operations, each with something to do. After the last one there is a shutdown.
pub(super) struct Script {
    /// What is asked so that there is something to do.
    pub(super) before: Vec<Request>,
    /// What is asked while the daemon ends.
    pub(super) requests: Vec<Request>,
    /// Whether the shutdown afterwards is a matter of this script as well.
    pub(super) shutdown_counts: bool,
}

impl Script {
    fn new(before: Vec<Request>, requests: Vec<Request>) -> Self {
        Self { before, requests, shutdown_counts: false }
    }

    /// Whether any request is about this container.
    pub(super) fn names(&self, container: &Namespace) -> bool {
        let (pid, path) = (container.pid(), netns(container));
        let names = |handle: &AttachHandle| match handle {
            AttachHandle::LinuxPid { pid: of } => *of == pid,
            AttachHandle::LinuxNetns { path: of, .. } => *of == path,
            _ => false,
        };
        self.before.iter().chain(&self.requests).any(|request| match request {
            Request::AttachContainer(attach) => names(&attach.handle),
            _ => false,
        })
    }

    pub(super) fn setting_up(_: &[Namespace]) -> Self {
        Self::new(Vec::new(), setting_up())
    }

    pub(super) fn peers(_: &[Namespace]) -> Self {
        Self::new(setting_up(), peers())
    }

    pub(super) fn edges(_: &[Namespace]) -> Self {
        Self::new(setting_up(), edges())
    }

    pub(super) fn attaching(containers: &[Namespace]) -> Self {
        Self::new(setting_up(), attaching(containers).plain)
    }

    pub(super) fn attaching_to_a_device(containers: &[Namespace]) -> Self {
        Self::new(setting_up(), attaching(containers).dedicated)
    }

    pub(super) fn attaching_others(containers: &[Namespace]) -> Self {
        let Attaching { plain, dedicated, others } = attaching(containers);
        Self::new([setting_up(), plain, dedicated].concat(), others)
    }

    pub(super) fn detaching(containers: &[Namespace]) -> Self {
        Self::new([setting_up(), attaching(containers).all()].concat(), detaching(containers))
    }

    /// Some of everything is still there when it is torn down.
    pub(super) fn tearing_down(containers: &[Namespace]) -> Self {
        let mut before = [setting_up(), peers(), edges()].concat();
        before.extend(attaching(containers).that_stay());
        Self { before, requests: tearing_down(), shutdown_counts: true }
    }
}

/// Asks as an orchestrator does that got no answer the first time.
pub(super) fn ask_again(client: &mut LabClient, request: &Request) -> Response {
    let reply = client.call(request.clone()).expect("an answer");
    match (request, &reply) {
        // The key went with the daemon that made it, so the edge is made anew.
        (Request::MintEdgePeer { name, .. }, Response::Err { message, .. }) if message.contains("already minted") => {
            client.ok(Request::RevokeEdgePeer { name: name.clone() });
            client.ask(request.clone())
        }
        _ => reply,
    }
}

fn setting_up() -> Vec<Request> {
    let set_up = |service: &str, mode| Request::SetupServiceOverlay { service: service.into(), mode };
    vec![
        Request::SetLocalNodeId { node_id: 0 },
        LabCluster::V4.setup(0),
        set_up("web", OverlayMode::Auto),
        set_up("ledger", OverlayMode::Dedicated),
        set_up("common", OverlayMode::Shared),
    ]
}

fn key(number: u8) -> String {
    PrivateKey::from_bytes([number; 32]).public_key().to_base64()
}

fn peers() -> Vec<Request> {
    let peer = |number: u8, ranges: &str, scope| Request::AddPeer {
        peer: PeerSpec {
            public_key: key(number),
            endpoint: "192.0.2.200:51820".into(),
            allowed_ips: ranges.into(),
            persistent_keepalive_secs: 0,
            candidates: vec![],
        },
        scope,
    };
    let ledger = || PeerScope::Service { service: "ledger".into() };
    vec![
        peer(1, "10.77.8.0/26,10.77.9.0/26", PeerScope::Global),
        // Takes a range from the first one.
        peer(2, "10.77.9.0/26", PeerScope::Global),
        peer(3, "10.77.12.0/26", ledger()),
        Request::AddAllowedIp { pubkey: key(1), cidr: "10.77.10.0/26".into(), scope: PeerScope::Global },
        Request::RemovePeer { pubkey: key(2), scope: PeerScope::Global },
        Request::RemovePeer { pubkey: key(3), scope: ledger() },
    ]
}

fn edges() -> Vec<Request> {
    let mint = |name: &str, allow: Vec<String>| Request::MintEdgePeer {
        name: name.into(),
        ttl_secs: 3600,
        allow,
        node_endpoint: "203.0.113.1:51820".into(),
    };
    vec![mint("laptop", vec!["web".into()]), mint("phone", vec![]), Request::RevokeEdgePeer { name: "laptop".into() }]
}

fn netns(container: &Namespace) -> String {
    format!("/proc/{}/ns/net", container.pid())
}

fn handles(containers: &[Namespace]) -> Vec<AttachHandle> {
    let by_pid = |container: &Namespace| AttachHandle::LinuxPid { pid: container.pid() };
    let path = netns(&containers[4]);
    let mut handles: Vec<_> = containers[..4].iter().map(by_pid).collect();
    handles.push(AttachHandle::LinuxNetns { id: "by-path".into(), path });
    handles.push(AttachHandle::GuestManaged { id: "vm".into() });
    handles.push(AttachHandle::HostShared { id: "agent".into() });
    handles
}

/// Containers come by what is particular about them.
struct Attaching {
    /// Processes in networks of the node's overlay, the last of which names its namespace and is in `common`.
    plain: Vec<Request>,
    /// A process in a service with a device of its own.
    dedicated: Vec<Request>,
    /// All else, with ports.
    others: Vec<Request>,
}

impl Attaching {
    fn all(self) -> Vec<Request> {
        [self.plain, self.dedicated, self.others].concat()
    }

    /// Those that are not detached before the teardown.
    fn that_stay(mut self) -> Vec<Request> {
        [self.plain.split_off(self.plain.len() - 1), self.dedicated].concat()
    }
}

fn attaching(containers: &[Namespace]) -> Attaching {
    let [plain, global, fenced, dedicated, by_path, guest, agent] =
        <[AttachHandle; 7]>::try_from(handles(containers)).expect("seven handles");
    let tenant = || Some("tenant".to_owned());
    let publish = |ports| Request::PublishPorts { handle: plain.clone(), ports };
    let port = PortSpec {
        protocol: PortProtocol::Tcp,
        host_ip: None,
        host_port: 8080,
        host_port_end: None,
        container_port: 80,
    };
    let processes = [
        attach(plain.clone(), "web"),
        AttachContainer { join_global: true, ..attach(global, "web") },
        AttachContainer { isolation_network: tenant(), ..attach(fenced, "web") },
        attach(by_path, "common"),
    ];
    let others = [AttachContainer { isolation_network: tenant(), ..attach(guest, "web") }, attach(agent, "web")];
    let ports = [publish(vec![port.clone()]), publish(vec![PortSpec { host_port: 9090, ..port }])];
    Attaching {
        plain: processes.map(Request::AttachContainer).to_vec(),
        dedicated: vec![Request::AttachContainer(attach(dedicated, "ledger"))],
        others: [others.map(Request::AttachContainer), ports].concat(),
    }
}

/// The containers in `ledger` and `common` stay, for the teardown.
fn detaching(containers: &[Namespace]) -> Vec<Request> {
    let mut handles = handles(containers);
    handles.drain(3..5);
    handles.into_iter().map(|handle| Request::DetachContainer { handle }).collect()
}

fn tearing_down() -> Vec<Request> {
    vec![
        Request::TeardownServiceOverlay { service: "ledger".into() },
        Request::PruneOrphanBridges { live_bridge_names: vec![] },
        Request::TeardownGlobalOverlay,
    ]
}
