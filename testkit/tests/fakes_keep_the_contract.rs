//! The fakes pass the same suites as the real backends.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::SystemTime,
};

use async_trait::async_trait;
use overlayd_core::{
    contract::{
        Attacher, AttachmentId, Candidate, CandidateKind, DeviceInfo, Dns, Nat, NetworkName, OverlayBackend, PortPlan,
        Target,
    },
    keys::PrivateKey,
    names::LinkName,
};
use overlayd_testkit::{
    contract::{
        HostFacts,
        attach::{AttachHarness, SeenLink, TestContainer},
        dns::DnsHarness,
        nat::NatHarness,
        overlay::OverlayHarness,
    },
    fake::{FakeAttacher, FakeDns, FakeNat, FakeOverlay, SeenInterface, second_instance},
};

struct Overlay {
    own: FakeOverlay,
    neighbour: FakeOverlay,
}

impl Overlay {
    async fn new() -> Self {
        let own = FakeOverlay::default();
        Self { neighbour: own.neighbour(second_instance()), own }
    }
}

#[async_trait]
impl OverlayHarness for Overlay {
    fn backend(&self) -> &dyn OverlayBackend {
        &self.own
    }

    fn neighbour(&self) -> &dyn OverlayBackend {
        &self.neighbour
    }

    async fn restart(&mut self) {
        self.own = self.own.restarted();
    }

    async fn host(&self) -> HostFacts {
        self.own.host()
    }

    async fn put_foreign_link(&self, name: &LinkName) {
        self.own.put_foreign_link(name.clone());
    }

    async fn handshake_from(&self, device: &DeviceInfo, remote: &PrivateKey, from: Ipv4Addr) -> SocketAddr {
        let from = SocketAddr::from((from, 40_404));
        assert!(self.own.handshake(&device.name, &remote.public_key(), from, SystemTime::now()));
        from
    }
}

struct Networks {
    own: FakeAttacher,
    neighbour: FakeAttacher,
    started: u32,
}

impl Networks {
    async fn linux() -> Self {
        Self::on(FakeAttacher::linux())
    }

    async fn windows() -> Self {
        Self::on(FakeAttacher::windows())
    }

    fn on(own: FakeAttacher) -> Self {
        Self { neighbour: own.neighbour(second_instance()), own, started: 0 }
    }

    fn is_windows(&self) -> bool {
        self.own.name() == "fake-windows"
    }

    fn process(pid: u32) -> TestContainer {
        TestContainer { id: AttachmentId::Process(pid), target: Target::Process(pid) }
    }

    fn compute(number: u32) -> TestContainer {
        let id = format!("wc-{number}");
        TestContainer { id: AttachmentId::Compute(id.clone()), target: Target::Compute(id) }
    }
}

#[async_trait]
impl AttachHarness for Networks {
    fn backend(&self) -> &dyn Attacher {
        &self.own
    }

    fn neighbour(&self) -> &dyn Attacher {
        &self.neighbour
    }

    async fn restart(&mut self) {
        self.own = self.own.restarted();
    }

    async fn host(&self) -> HostFacts {
        self.own.host()
    }

    async fn put_foreign_network(&self, name: &NetworkName) {
        self.own.put_foreign_network(name.clone());
    }

    async fn start_container(&mut self) -> TestContainer {
        self.started += 1;
        let number = 1000 + self.started;
        let container = if self.is_windows() { Self::compute(number) } else { Self::process(number) };
        self.own.start(&container.target);
        container
    }

    async fn stop_container(&mut self, container: &TestContainer) {
        self.own.stop(&container.target);
    }

    async fn inside(&self, container: &TestContainer) -> Vec<SeenLink> {
        self.own.inside(&container.target).into_iter().map(as_link).collect()
    }

    async fn reaches(&self, container: &TestContainer, address: IpAddr) -> bool {
        self.own.reaches(&container.target, address)
    }

    async fn is_published(&self, container: &TestContainer, port: &PortPlan) -> bool {
        self.own.is_published(&container.target, port)
    }

    fn forbidden(&self) -> Option<TestContainer> {
        (!self.is_windows()).then(|| Self::process(FakeAttacher::DAEMON_PID))
    }

    fn alien(&self) -> TestContainer {
        if self.is_windows() { Self::process(7) } else { Self::compute(7) }
    }
}

fn as_link(seen: SeenInterface) -> SeenLink {
    SeenLink { name: seen.name, addresses: vec![seen.address], mtu: seen.mtu, default_gateway: seen.default_gateway }
}

struct Names(FakeDns);

impl Names {
    async fn new() -> Self {
        Self(FakeDns::default())
    }
}

#[async_trait]
impl DnsHarness for Names {
    fn backend(&self) -> &dyn Dns {
        &self.0
    }

    fn free_address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 5353))
    }

    async fn ask(&self, server: SocketAddr, name: &str) -> Option<BTreeSet<IpAddr>> {
        self.0.ask(server, name)
    }
}

struct Traversal(FakeNat);

impl Traversal {
    async fn new() -> Self {
        let nat = FakeNat::default();
        let address = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 51820));
        nat.set_candidates(vec![Candidate { kind: CandidateKind::Host, address, priority: 100 }]);
        Self(nat)
    }
}

#[async_trait]
impl NatHarness for Traversal {
    fn backend(&self) -> &dyn Nat {
        &self.0
    }
}

mod overlay {
    overlayd_testkit::overlay_contract!(super::Overlay::new());
}

mod linux {
    overlayd_testkit::attach_contract!(super::Networks::linux());
}

mod windows {
    overlayd_testkit::attach_contract!(super::Networks::windows());
}

mod dns {
    overlayd_testkit::dns_contract!(super::Names::new());
}

mod nat {
    overlayd_testkit::nat_contract!(super::Traversal::new());
}
