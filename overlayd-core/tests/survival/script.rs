//! What an orchestrator asks of a node, from the first request to the last, and how it asks again.

use std::net::IpAddr;

use overlayd_core::{
    contract::{PortProtocol, Target},
    engine::Engine,
    keys::{PrivateKey, PublicKey},
    protocol::{
        AttachContainer, AttachHandle, OverlayMode, PeerScope, PeerSpec, PortSpec, Request, Response,
        SetupGlobalOverlay,
    },
};
use overlayd_testkit::{
    fake::FakeMachine,
    requests::{self, attach, process},
};

/// A machine with all containers that the script speaks of but one: process 66 is never there.
pub(crate) fn machine() -> FakeMachine {
    let machine = FakeMachine::default();
    (7..=12).for_each(|pid| machine.attacher.start(&Target::Process(pid)));
    machine.attacher.start(&Target::Namespace("/run/netns/pod".into()));
    machine
}

/// All operations in an order in which each has something to do.
pub(crate) fn operations() -> Vec<Request> {
    [setting_up(), attaching(), names_and_addresses(), peers(), edges(), detaching(), tearing_down()].concat()
}

/// Asks as an orchestrator does that got no answer the first time.
pub(crate) async fn ask_again(engine: &Engine, request: &Request) -> Response {
    let reply = engine.answer(request.clone()).await;
    match (request, &reply) {
        // The key went with the daemon that made it, so the edge is made anew.
        (Request::MintEdgePeer { name, .. }, Response::Err { message, .. }) if message.contains("already minted") => {
            assert_eq!(engine.answer(Request::RevokeEdgePeer { name: name.clone() }).await, Response::Ok);
            engine.answer(request.clone()).await
        }
        _ => reply,
    }
}

pub(crate) fn public_key(number: u8) -> PublicKey {
    PrivateKey::from_bytes([number; 32]).public_key()
}

fn pod() -> AttachHandle {
    AttachHandle::LinuxNetns { id: "pod".into(), path: "/run/netns/pod".into() }
}

fn guest() -> AttachHandle {
    AttachHandle::GuestManaged { id: "vm".into() }
}

fn agent() -> AttachHandle {
    AttachHandle::HostShared { id: "agent".into() }
}

pub(crate) fn setup_global(instance: &str) -> Request {
    Request::SetupGlobalOverlay(SetupGlobalOverlay { instance_id: instance.into(), ..requests::overlay() })
}

fn set_up(service: &str, mode: OverlayMode) -> Request {
    Request::SetupServiceOverlay { service: service.into(), mode }
}

fn setting_up() -> Vec<Request> {
    vec![
        Request::SetLocalNodeId { node_id: 3 },
        Request::SetLocalWgPubkey { pubkey: public_key(9).to_base64() },
        setup_global("n1"),
        setup_global("n2"),
        set_up("web", OverlayMode::Auto),
        set_up("common", OverlayMode::Shared),
        set_up("ledger", OverlayMode::Dedicated),
        set_up("jobs", OverlayMode::Isolated),
        set_up("shifting", OverlayMode::Auto),
        set_up("shifting", OverlayMode::Dedicated),
        set_up("passing", OverlayMode::Auto),
    ]
}

fn attaching() -> Vec<Request> {
    let fenced = |handle| AttachContainer { isolation_network: Some("tenant".into()), ..attach(handle, "web") };
    let attaches = [
        attach(process(7), "web"),
        AttachContainer { join_global: true, ..attach(process(8), "web") },
        fenced(process(9)),
        attach(pod(), "common"),
        attach(process(10), "ledger"),
        AttachContainer { ephemeral: true, ..attach(process(11), "passing") },
        fenced(guest()),
        fenced(agent()),
        attach(process(66), "web"),
        attach(process(12), "unknown"),
    ];
    let publish = |host_port: u16| Request::PublishPorts { handle: process(7), ports: vec![port(host_port)] };
    attaches.into_iter().map(Request::AttachContainer).chain([publish(8080), publish(9090)]).collect()
}

fn port(host_port: u16) -> PortSpec {
    PortSpec { protocol: PortProtocol::Tcp, host_ip: None, host_port, host_port_end: None, container_port: 80 }
}

fn names_and_addresses() -> Vec<Request> {
    let ip: IpAddr = [10, 77, 4, 9].into();
    vec![
        Request::RegisterDns { name: "db".into(), ip },
        Request::RegisterDns { name: "cache".into(), ip },
        Request::UnregisterDns { name: "cache".into() },
        Request::AllocateIp { service: "web".into(), join_global: false },
        Request::AllocateIp { service: "nowhere".into(), join_global: true },
        Request::ReleaseIp { ip: [10, 77, 4, 2].into() },
    ]
}

fn peer(number: u8, ranges: &str, scope: PeerScope) -> Request {
    let peer = PeerSpec {
        public_key: public_key(number).to_base64(),
        endpoint: format!("198.51.100.{number}:51820"),
        allowed_ips: ranges.into(),
        persistent_keepalive_secs: 25,
        candidates: vec![],
    };
    Request::AddPeer { peer, scope }
}

fn ledger() -> PeerScope {
    PeerScope::Service { service: "ledger".into() }
}

fn peers() -> Vec<Request> {
    let (first, second) = (public_key(1).to_base64(), public_key(2).to_base64());
    let global = PeerScope::Global;
    vec![
        peer(1, "10.77.8.0/26,10.77.9.0/26", PeerScope::Global),
        // Takes a range from the first one.
        peer(2, "10.77.9.0/26", PeerScope::Global),
        peer(3, "10.77.12.0/26", ledger()),
        Request::AddAllowedIp { pubkey: first.clone(), cidr: "10.77.10.0/26".into(), scope: global.clone() },
        Request::RemoveAllowedIp { pubkey: first.clone(), cidr: "10.77.10.0/26".into(), scope: global.clone() },
        Request::AddAllowedIp { pubkey: public_key(3).to_base64(), cidr: "10.77.13.0/26".into(), scope: ledger() },
        Request::RemovePeer { pubkey: second, scope: global },
        Request::RemovePeer { pubkey: public_key(3).to_base64(), scope: ledger() },
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

fn detaching() -> Vec<Request> {
    let handles = [process(7), process(8), process(9), process(11), pod(), guest(), agent()];
    handles.into_iter().map(|handle| Request::DetachContainer { handle }).collect()
}

fn tearing_down() -> Vec<Request> {
    vec![
        Request::TeardownServiceOverlay { service: "ledger".into() },
        Request::PruneOrphanBridges { live_bridge_names: vec![] },
        Request::TeardownServiceOverlay { service: "web".into() },
        Request::TeardownGlobalOverlay,
        setup_global("n1"),
        Request::Shutdown,
    ]
}
