//! Any value of the wire's types.

use std::net::IpAddr;

use overlayd_protocol::{
    AttachContainer, AttachHandle, AttachResult, DedicatedServiceStatus, DriftStatus, EdgeConfig, EdgePeerStatus,
    Event, FindingStatus, Frame, GuestOverlayConfig, Hello, HelloReply, NatCandidateWire, NatConfigSpec, NatPeerWire,
    NatStatusWire, OverlayMode, PeerScope, PeerSpec, PeerStatus, RelayServerSpec, Request, Response, SecretText,
    ServiceOverlayInfo, ServiceStatus, SetupGlobalOverlay, StatusSnapshot, TurnServerSpec,
};
use proptest::{collection::vec, option::of, prelude::*, sample::select};

/// Any text, control characters, quotes and the far planes of Unicode included.
fn text() -> BoxedStrategy<String> {
    prop_oneof![3 => "[a-z0-9./:=+-]{0,20}", 1 => any::<String>()].boxed()
}

fn texts() -> BoxedStrategy<Vec<String>> {
    vec(text(), 0..4).boxed()
}

fn secret() -> BoxedStrategy<SecretText> {
    text().prop_map(SecretText::from).boxed()
}

fn address() -> BoxedStrategy<IpAddr> {
    any::<IpAddr>().boxed()
}

fn mode() -> BoxedStrategy<OverlayMode> {
    use OverlayMode::{Auto, Dedicated, Isolated, Shared};
    select(vec![Auto, Shared, Dedicated, Isolated]).boxed()
}

fn scope() -> BoxedStrategy<PeerScope> {
    prop_oneof![Just(PeerScope::Global), text().prop_map(|service| PeerScope::Service { service })].boxed()
}

fn handle() -> BoxedStrategy<AttachHandle> {
    prop_oneof![
        any::<u32>().prop_map(|pid| AttachHandle::LinuxPid { pid }),
        (text(), of(address())).prop_map(|(container_id, ip)| AttachHandle::WindowsContainer { container_id, ip }),
        text().prop_map(|id| AttachHandle::GuestManaged { id }),
        text().prop_map(|id| AttachHandle::HostShared { id }),
        (text(), text()).prop_map(|(id, path)| AttachHandle::LinuxNetns { id, path }),
    ]
    .boxed()
}

fn candidate() -> BoxedStrategy<NatCandidateWire> {
    (text(), text(), any::<u32>())
        .prop_map(|(candidate_type, address, priority)| NatCandidateWire { candidate_type, address, priority })
        .boxed()
}

fn peer() -> BoxedStrategy<PeerSpec> {
    (text(), text(), text(), any::<u64>(), vec(candidate(), 0..3))
        .prop_map(|(public_key, endpoint, allowed_ips, persistent_keepalive_secs, candidates)| PeerSpec {
            public_key,
            endpoint,
            allowed_ips,
            persistent_keepalive_secs,
            candidates,
        })
        .boxed()
}

fn nat() -> BoxedStrategy<NatConfigSpec> {
    let turn = (text(), text(), secret()).prop_map(|(addr, username, credential)| TurnServerSpec {
        addr,
        username,
        credential,
    });
    let relay = (any::<u16>(), text(), any::<u64>(), of(secret())).prop_map(
        |(listen_port, external_addr, max_sessions, auth_credential)| RelayServerSpec {
            listen_port,
            external_addr,
            max_sessions,
            auth_credential,
        },
    );
    (any::<bool>(), texts(), vec(turn, 0..3), any::<[u64; 3]>(), of(relay))
        .prop_map(|(enabled, stun_servers, turn_servers, numbers, relay_server)| NatConfigSpec {
            enabled,
            stun_servers,
            turn_servers,
            hole_punch_timeout_secs: numbers[0],
            stun_refresh_interval_secs: numbers[1],
            max_candidate_pairs: numbers[2],
            relay_server,
        })
        .boxed()
}

fn setup() -> BoxedStrategy<SetupGlobalOverlay> {
    ((text(), text(), text(), of(text())), any::<u16>(), any::<bool>(), of(nat()))
        .prop_map(|((deployment, instance_id, cluster_cidr, slice_cidr), wg_port, host_adapter_mandatory, nat)| {
            SetupGlobalOverlay {
                deployment,
                instance_id,
                cluster_cidr,
                slice_cidr,
                wg_port,
                host_adapter_mandatory,
                nat,
            }
        })
        .boxed()
}

fn attach() -> BoxedStrategy<AttachContainer> {
    (handle(), text(), any::<[bool; 2]>(), of(text()), of(address()), of(text()))
        .prop_map(|(handle, service, [join_global, ephemeral], isolation_network, dns_server, dns_domain)| {
            AttachContainer { handle, service, join_global, ephemeral, isolation_network, dns_server, dns_domain }
        })
        .boxed()
}

pub(crate) fn request() -> BoxedStrategy<Request> {
    let names = prop_oneof![
        text().prop_map(|pubkey| Request::SetLocalWgPubkey { pubkey }),
        text().prop_map(|service| Request::TeardownServiceOverlay { service }),
        text().prop_map(|name| Request::RevokeEdgePeer { name }),
        text().prop_map(|name| Request::UnregisterDns { name }),
        text().prop_map(|zone| Request::RemoveScopedResolver { zone }),
        texts().prop_map(|live_bridge_names| Request::PruneOrphanBridges { live_bridge_names }),
        (of(text()), texts()).prop_map(|(client, events)| Request::Hello(Hello { client, events })),
    ];
    let peers = prop_oneof![
        (peer(), scope()).prop_map(|(peer, scope)| Request::AddPeer { peer, scope }),
        (text(), scope()).prop_map(|(pubkey, scope)| Request::RemovePeer { pubkey, scope }),
        (text(), text(), scope()).prop_map(|(pubkey, cidr, scope)| Request::AddAllowedIp { pubkey, cidr, scope }),
        (text(), text(), scope()).prop_map(|(pubkey, cidr, scope)| Request::RemoveAllowedIp { pubkey, cidr, scope }),
        (text(), any::<u64>(), texts(), text()).prop_map(|(name, ttl_secs, allow, node_endpoint)| {
            Request::MintEdgePeer { name, ttl_secs, allow, node_endpoint }
        }),
    ];
    let addresses = prop_oneof![
        address().prop_map(|ip| Request::ReleaseIp { ip }),
        (text(), address()).prop_map(|(name, ip)| Request::RegisterDns { name, ip }),
        (text(), address(), of(any::<u16>())).prop_map(|(zone, node_ip, port)| Request::WriteScopedResolver {
            zone,
            node_ip,
            port
        }),
        (text(), any::<bool>()).prop_map(|(service, join_global)| Request::AllocateIp { service, join_global }),
    ];
    prop_oneof![
        any::<u64>().prop_map(|node_id| Request::SetLocalNodeId { node_id }),
        setup().prop_map(Request::SetupGlobalOverlay),
        attach().prop_map(Request::AttachContainer),
        handle().prop_map(|handle| Request::DetachContainer { handle }),
        (text(), mode()).prop_map(|(service, mode)| Request::SetupServiceOverlay { service, mode }),
        names,
        peers,
        addresses,
        select(vec![
            Request::TeardownGlobalOverlay,
            Request::ListEdgePeers,
            Request::Status,
            Request::NatTick,
            Request::NatStatus,
            Request::Shutdown,
        ]),
    ]
    .boxed()
}

fn status() -> BoxedStrategy<StatusSnapshot> {
    let peer = (text(), text(), text(), any::<i64>()).prop_map(
        |(public_key, endpoint, allowed_ips, last_handshake_unix_secs)| PeerStatus {
            public_key,
            endpoint,
            allowed_ips,
            last_handshake_unix_secs,
        },
    );
    let dedicated = ((text(), text(), text(), text()), any::<u16>(), address(), any::<u32>()).prop_map(
        |((service, interface, public_key, subnet), listen_port, overlay_ip, peer_count)| DedicatedServiceStatus {
            service,
            interface,
            public_key,
            listen_port,
            overlay_ip,
            subnet,
            peer_count,
        },
    );
    let service =
        (text(), mode(), text(), of(text()), any::<u32>()).prop_map(|(service, mode, name, subnet, attachments)| {
            ServiceStatus { service, mode, name, subnet, attachments }
        });
    let drift = of(any::<[u64; 2]>().prop_map(|[healed, ended]| DriftStatus { healed, ended }));
    let finding = vec(text(), 5).prop_map(|mut texts| FindingStatus {
        code: texts.pop().unwrap(),
        severity: texts.pop().unwrap(),
        subject: texts.pop().unwrap(),
        text: texts.pop().unwrap(),
        remedy: texts.pop().unwrap(),
    });
    let found = (vec(text(), 0..3), drift, vec(finding, 0..3));
    let lists = (vec(peer, 0..3), vec(dedicated, 0..3), vec(service, 0..3), found);
    (vec(of(text()), 4), of(address()), any::<[u32; 2]>(), lists)
        .prop_map(|(mut texts, node_ip, [peer_count, service_count], lists)| {
            let (peers, dedicated_services, services, (obstacles, drift, findings)) = lists;
            StatusSnapshot {
                interface: texts.pop().flatten(),
                node_ip,
                public_key: texts.pop().flatten(),
                overlay_cidr: texts.pop().flatten(),
                slice_cidr: texts.pop().flatten(),
                peer_count,
                service_count,
                peers: peers.into(),
                dedicated_services,
                services,
                obstacles,
                drift,
                findings,
            }
        })
        .boxed()
}

fn issued() -> BoxedStrategy<Response> {
    let resolver = || (of(address()), of(text()));
    let guest = (address(), any::<u8>(), secret(), text(), any::<u16>(), vec(peer(), 0..3), resolver()).prop_map(
        |(overlay_ip, prefix_len, private_key, public_key, listen_port, peers, (dns_server, dns_domain))| {
            Response::GuestConfig(GuestOverlayConfig {
                overlay_ip,
                prefix_len,
                private_key,
                public_key,
                listen_port,
                peers,
                dns_server,
                dns_domain,
            })
        },
    );
    prop_oneof![guest, edge().prop_map(Response::EdgeConfig)].boxed()
}

pub(crate) fn edge() -> BoxedStrategy<EdgeConfig> {
    let who = (text(), address(), any::<u8>(), secret(), text());
    (any::<u32>(), who, vec(peer(), 0..3), (of(address()), of(text())), any::<u64>())
        .prop_map(
            |(
                version,
                (name, overlay_ip, prefix_len, private_key, public_key),
                peers,
                (dns_server, dns_domain),
                end,
            )| {
                EdgeConfig {
                    version,
                    name,
                    overlay_ip,
                    prefix_len,
                    private_key,
                    public_key,
                    peers,
                    dns_server,
                    dns_domain,
                    expires_at_unix: end,
                }
            },
        )
        .boxed()
}

pub(crate) fn response() -> BoxedStrategy<Response> {
    let nat_peer = (text(), text(), of(text())).prop_map(|(node_id, connection_type, remote_endpoint)| NatPeerWire {
        node_id,
        connection_type,
        remote_endpoint,
    });
    let nat_status =
        (vec(candidate(), 0..3), vec(nat_peer, 0..3), any::<u64>()).prop_map(|(candidates, peers, last_refresh)| {
            Response::NatStatus(NatStatusWire { candidates, peers, last_refresh })
        });
    let service = (text(), mode(), of(text()), of(any::<u16>()), of(address()), of(text())).prop_map(
        |(name, mode, wg_public_key, wg_port, overlay_ip, subnet)| {
            Response::ServiceOverlay(ServiceOverlayInfo { name, mode, wg_public_key, wg_port, overlay_ip, subnet })
        },
    );
    let edge_peer = (text(), address(), text(), any::<[u64; 2]>(), of(any::<i64>()), texts()).prop_map(
        |(name, overlay_ip, public_key, [minted_at_unix, expires_at_unix], last_handshake_unix_secs, allowed)| {
            EdgePeerStatus {
                name,
                overlay_ip,
                public_key,
                minted_at_unix,
                expires_at_unix,
                last_handshake_unix_secs,
                allowed,
            }
        },
    );
    let hello = (any::<u32>(), text(), texts(), of(text()))
        .prop_map(|(version, build, features, backend)| HelloReply { version, build, features, backend });
    prop_oneof![
        Just(Response::Ok),
        address().prop_map(|ip| Response::Ip { ip }),
        (address(), of(text()))
            .prop_map(|(ip, namespace_guid)| Response::Attached(AttachResult { ip, namespace_guid })),
        text().prop_map(|name| Response::BridgeName { name }),
        status().prop_map(Response::Status),
        nat_status,
        texts().prop_map(|reclaimed| Response::PrunedBridges { reclaimed }),
        service,
        issued(),
        vec(edge_peer, 0..3).prop_map(|peers| Response::EdgePeers { peers }),
        (text(), of(text())).prop_map(|(message, code)| Response::Err { message, code }),
        hello.prop_map(Response::Hello),
    ]
    .boxed()
}

fn event() -> BoxedStrategy<Event> {
    prop_oneof![
        (text(), any::<bool>()).prop_map(|(pubkey, healthy)| Event::PeerHealthChanged { pubkey, healthy }),
        (text(), text()).prop_map(|(pubkey, endpoint)| Event::NatEndpointChanged { pubkey, endpoint }),
    ]
    .boxed()
}

pub(crate) fn frame() -> BoxedStrategy<Frame> {
    prop_oneof![
        5 => (any::<u64>(), request()).prop_map(|(id, request)| Frame::Request { id, request }),
        5 => (any::<u64>(), response()).prop_map(|(id, response)| Frame::Response { id, response }),
        1 => event().prop_map(Frame::Event),
    ]
    .boxed()
}
