use proptest::prelude::*;

use super::*;
use crate::{
    contract::{AttachmentId, Target},
    protocol::{AttachContainer, AttachHandle, PeerSpec, SetupGlobalOverlay},
};

fn attach(handle: AttachHandle) -> Request {
    Request::AttachContainer(AttachContainer {
        handle,
        service: "web".into(),
        join_global: false,
        ephemeral: false,
        isolation_network: None,
        dns_server: None,
        dns_domain: None,
    })
}

fn refusal(request: Request) -> String {
    Command::try_from(request).unwrap_err().to_string()
}

#[test]
fn every_kind_of_handle_names_a_container() {
    let named = |handle| {
        let Ok(Command::Attach(command)) = Command::try_from(attach(handle)) else { panic!() };
        command.container
    };
    let id = || "a".to_owned();
    let windows = named(AttachHandle::WindowsContainer { container_id: id(), ip: None });
    let compute = RequestedContainer::Namespaced { id: AttachmentId::Compute(id()), target: Target::Compute(id()) };
    assert_eq!(windows, compute);
    assert_eq!(named(AttachHandle::GuestManaged { id: id() }).id(), AttachmentId::Guest(id()));
    assert_eq!(named(AttachHandle::HostShared { id: id() }).id(), AttachmentId::Host(id()));
    assert_eq!(named(AttachHandle::LinuxPid { pid: 7 }).id(), AttachmentId::Process(7));
}

#[test]
fn a_refusal_names_the_member_as_the_request_does() {
    assert_eq!(refusal(attach(AttachHandle::LinuxPid { pid: 0 })), "invalid pid: 0 is no process");
    let relative = AttachHandle::LinuxNetns { id: "a".into(), path: "ns".into() };
    assert_eq!(refusal(attach(relative)), "invalid path: `ns` is no absolute path");
    let overlay = SetupGlobalOverlay { cluster_cidr: "10.77.0.0/16".into(), ..SetupGlobalOverlay::default() };
    assert!(refusal(Request::SetupGlobalOverlay(overlay)).starts_with("invalid wg_port: "));
    let reserved = Request::SetupServiceOverlay { service: SHARED_SERVICE.into(), mode: OverlayMode::Auto };
    assert!(refusal(reserved).contains("reserved"));
}

#[test]
fn an_edge_reaches_the_whole_overlay_only_where_the_list_is_left_out() {
    let minted = |allow: &[&str]| {
        Command::try_from(Request::MintEdgePeer {
            name: " laptop ".into(),
            ttl_secs: 60,
            allow: allow.iter().map(|&entry| entry.into()).collect(),
            node_endpoint: "gw.example.net:51820".into(),
        })
    };
    let Ok(Command::MintEdge(edge)) = minted(&[]) else { panic!() };
    assert_eq!((edge.name.as_str(), edge.access), ("laptop", RequestedAccess::WholeOverlay));
    let Ok(Command::MintEdge(edge)) = minted(&["web", " ", "10.77.9.3"]) else { panic!() };
    let RequestedAccess::Only(grants) = edge.access else { panic!() };
    assert_eq!(grants.iter().map(|grant| grant.range.is_some()).collect::<Vec<_>>(), [false, true]);
    assert!(minted(&["", " "]).unwrap_err().to_string().contains("names nothing"));
}

proptest! {
    /// What is accepted as a peer becomes a command in which all is of the shape that the engine relies on.
    #[test]
    fn a_peer_that_passes_can_be_given_to_a_device(
        endpoint in "[0-9a-z.:\\[\\]]{0,24}",
        allowed_ips in "[0-9a-f:./, ]{0,40}",
        keepalive in any::<u64>(),
    ) {
        let key = PublicKey::from_bytes([7; 32]);
        let peer = PeerSpec {
            public_key: key.to_base64(),
            endpoint,
            allowed_ips,
            persistent_keepalive_secs: keepalive,
            candidates: vec![],
        };
        match Command::try_from(Request::AddPeer { peer, scope: PeerScope::Global }) {
            Ok(Command::AddPeer(command)) => {
                prop_assert_eq!((command.scope, command.public_key), (DeviceScope::Global, key));
                prop_assert!(command.record.allowed_ips.iter().all(|range| *range == range.trunc()));
                prop_assert_eq!(command.record.keepalive.map_or(0, |secs| u64::from(secs.get())), keepalive);
            }
            Ok(other) => prop_assert!(false, "{:?}", other),
            Err(error) => prop_assert!(["endpoint", "allowed_ips", "persistent_keepalive_secs"].contains(&error.member)),
        }
    }
}
