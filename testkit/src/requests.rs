//! Requests as most tests make them; what a test is about is changed in them.

use std::net::SocketAddr;

use ipnet::IpNet;
use overlayd_core::{
    desired::{Change, DeviceScope, EndpointSpec, Origin, PeerId, PeerRecord},
    keys::PublicKey,
    protocol::{AttachContainer, AttachHandle, OverlayMode, PeerScope, PeerSpec, Request, SetupGlobalOverlay},
};

/// The overlay 10.77.0.0/16, of which 10.77.4.0/26 is the node's.
pub fn overlay() -> SetupGlobalOverlay {
    SetupGlobalOverlay {
        deployment: "atlas".into(),
        instance_id: "n1".into(),
        cluster_cidr: "10.77.0.0/16".into(),
        slice_cidr: Some("10.77.4.0/26".into()),
        wg_port: 51820,
        ..SetupGlobalOverlay::default()
    }
}

/// A service on a network of the node's own.
pub fn service(name: &str) -> Request {
    Request::SetupServiceOverlay { service: name.into(), mode: OverlayMode::Auto }
}

/// The handle of a process.
pub fn process(pid: u32) -> AttachHandle {
    AttachHandle::LinuxPid { pid }
}

/// The plain attach of something to a service.
pub fn attach(handle: AttachHandle, service: &str) -> AttachContainer {
    AttachContainer {
        handle,
        service: service.into(),
        join_global: false,
        ephemeral: false,
        isolation_network: None,
        dns_server: None,
        dns_domain: None,
    }
}

/// One of the peers of a node that has very many, by its number.
#[derive(Debug, Clone, Copy)]
pub struct NumberedContainer(pub u32);

impl NumberedContainer {
    /// The same key each time, and another for each number.
    pub fn key(self) -> PublicKey {
        let mut bytes = [7; 32];
        bytes[..4].copy_from_slice(&self.0.to_be_bytes());
        PublicKey::from_bytes(bytes)
    }

    /// Where it is said to be; nothing listens there.
    pub fn endpoint(self) -> SocketAddr {
        let [_, high, middle, low] = self.0.to_be_bytes();
        ([127, high, middle, low], 9).into()
    }

    /// What is behind it.
    pub fn range(self) -> IpNet {
        let [_, high, middle, low] = self.0.to_be_bytes();
        IpNet::new_assert([10, 100 + high, middle, low].into(), 32)
    }

    /// The peer as it is on record.
    pub fn on_record(self) -> Change {
        let record = PeerRecord {
            endpoint: EndpointSpec::Address(self.endpoint()),
            allowed_ips: vec![self.range()],
            keepalive: None,
            candidates: Vec::new(),
            origin: Origin::Asked,
        };
        Change::Peer(PeerId { scope: DeviceScope::Global, public_key: self.key() }, Some(record))
    }

    /// The request that adds it.
    pub fn add(self) -> Request {
        let peer = PeerSpec {
            public_key: self.key().to_base64(),
            endpoint: self.endpoint().to_string(),
            allowed_ips: self.range().to_string(),
            persistent_keepalive_secs: 0,
            candidates: Vec::new(),
        };
        Request::AddPeer { peer, scope: PeerScope::Global }
    }
}
