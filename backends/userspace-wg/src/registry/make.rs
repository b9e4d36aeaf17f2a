use std::{
    io,
    sync::{Arc, Mutex},
};

use ipnet::IpNet;
use overlayd_core::{
    contract::{DeviceMtu, DevicePlan, Error, Result},
    names::LinkName,
};
use overlayd_netlink::{
    Link, OrAbsent, Rtnl, link as request,
    overlap::{self, CutOff},
    steps,
};

use super::{
    devices::host,
    handover::ReceivedDevice,
    running::{NewPeerPolicy, RunningDevice},
};
use crate::{
    AtExit, Config,
    device::{DeviceThreads, GateState, SharedDevice},
    handover::successor,
    io::{
        KernelOffloads, link,
        tun::{InterfaceOrigin, Tun},
        udp::UdpSockets,
    },
    noise::{PeerConfig, SteadyTime, Tunnel},
    uapi::{ControlServer, ControlTarget},
};

/// Smallest MTU of an IPv4 interface (RFC 791).
const LEAST_MTU: u16 = 68;

/// A plan whose MTU is a number.
pub(super) struct ResolvedPlan<'a> {
    pub(super) plan: &'a DevicePlan,
    pub(super) mtu: u16,
}

/// What a device takes over from the one that it replaces.
#[derive(Default)]
pub(super) struct InheritedState {
    pub(super) peers: Vec<PeerConfig>,
    /// The port, where the plan leaves it to the host; 0 for none.
    pub(super) port: u16,
}

/// What is wrong with the plan itself.
pub(super) fn check(plan: &DevicePlan) -> Result<()> {
    match plan.mtu {
        DeviceMtu::Bytes(mtu) if mtu < LEAST_MTU => {
            Err(Error::Invalid(format!("an MTU of {mtu} is less than the {LEAST_MTU} bytes that IPv4 needs")))
        }
        DeviceMtu::Bytes(_) | DeviceMtu::FromUnderlay => Ok(()),
    }
}

/// Refuses ranges whose routes would cut this host off from its own network.
pub(super) fn check_overlaps(rtnl: &Rtnl, plan: &DevicePlan) -> Result<()> {
    let ranges: Vec<IpNet> = plan.addresses.iter().chain(&plan.routes).copied().collect();
    match overlap::check(rtnl, plan.name.as_str(), &ranges).map_err(host)? {
        None => Ok(()),
        Some(CutOff { what, by }) => Err(Error::Conflict { what, by }),
    }
}

/// Binds the port in both families.
pub(super) fn bind(port: u16, mark: u32, offloads: KernelOffloads) -> Result<UdpSockets> {
    UdpSockets::bind(port, mark, offloads).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            Error::Conflict { what: format!("UDP port {port}"), by: "another socket of this host".to_owned() }
        }
        _ => Error::host(format!("listen on UDP port {port}"), error),
    })
}

/// Makes the device, or takes over the interface that an earlier process of ours has left. A failure leaves nothing
/// new behind.
pub(super) fn make(
    rtnl: &Rtnl,
    config: &Config,
    plan: &ResolvedPlan<'_>,
    inherited: &InheritedState,
) -> Result<RunningDevice> {
    let name = &plan.plan.name;
    let origin = match rtnl.link(name.as_str()).map_err(host)? {
        None => InterfaceOrigin::New,
        Some(found) if link::is_ours(&found, &config.instance) => InterfaceOrigin::Adopted,
        Some(found) => return Err(taken(&found)),
    };
    let port = if plan.plan.listen_port == 0 { inherited.port } else { plan.plan.listen_port };
    let sockets = bind(port, config.fwmark.unwrap_or(0), config.offloads)?;
    let tun = open(name, origin, config.offloads)?;
    steps::done("open a TUN interface");
    let found = rtnl.link(name.as_str()).map_err(host)?;
    let found = found.ok_or_else(|| Error::NotFound(format!("interface {name}, just made,")))?;
    let newcomers = match origin {
        InterfaceOrigin::New => NewPeerPolicy::Quietly,
        InterfaceOrigin::Adopted => NewPeerPolicy::Greeted,
    };
    let mut tunnel = tunnel(config, plan);
    let now = SteadyTime::boot_clock();
    for peer in &inherited.peers {
        tunnel.set_peer(now, peer);
        tunnel.start_handshake(now, &peer.key);
    }
    let parts = DeviceParts { tun, sockets, tunnel, gates: GateState::Open };
    let outcome =
        prepare(rtnl, config, plan, &found, parts).map(|equipped| equipped.running(config, &found, newcomers));
    if outcome.is_err() && origin == InterfaceOrigin::New {
        // One that persists outlives its descriptor.
        rtnl.run(request::delete(found.index)).or_absent().map_err(host)?;
    }
    outcome
}

/// Takes over a device that an older process still carries, which goes on with what this one cannot do yet. A failure
/// leaves it with that process.
pub(super) fn take_over(
    rtnl: &Rtnl,
    config: &Config,
    plan: &ResolvedPlan<'_>,
    received: ReceivedDevice,
) -> Result<RunningDevice> {
    let name = &plan.plan.name;
    let found = rtnl.link(name.as_str()).map_err(host)?;
    let found = found.filter(|found| link::is_ours(found, &config.instance));
    let found = found.ok_or_else(|| Error::NotFound(format!("interface {name}, which the older process gave,")))?;
    let ReceivedDevice { tun, sockets, channel } = received;
    let exported = successor::attach(&channel);
    let exported = exported.map_err(|error| Error::host(format!("take over {name} from the older process"), error))?;
    let mut tunnel = tunnel(config, plan);
    let now = SteadyTime::boot_clock();
    exported.iter().for_each(|exported| tunnel.import_peer(now, exported));
    let with_sessions: Vec<_> =
        exported.iter().filter(|exported| exported.has_session).map(|exported| exported.config.key).collect();
    tracing::info!(device = %name, peers = exported.len(), with_sessions = with_sessions.len(), "taking over from the older process");
    let parts = DeviceParts { tun, sockets, tunnel, gates: GateState::Closed };
    let equipped = prepare(rtnl, config, plan, &found, parts)?;
    let running = equipped.running(config, &found, NewPeerPolicy::Quietly);
    running.mark_packets()?;
    running
        .follow(name, channel, with_sessions)
        .map_err(|error| Error::host(format!("start a thread of {name}"), error))?;
    Ok(running)
}

fn tunnel(config: &Config, plan: &ResolvedPlan<'_>) -> Tunnel {
    Tunnel::new(*plan.plan.private_key.as_bytes(), plan.mtu, config.limits)
}

fn open(name: &LinkName, origin: InterfaceOrigin, offloads: KernelOffloads) -> Result<Tun> {
    Tun::open(name, origin, offloads.tun).map_err(|error| match error.kind() {
        io::ErrorKind::ResourceBusy => {
            Error::Conflict { what: format!("interface {name}"), by: "another process".to_owned() }
        }
        _ => Error::host(format!("open TUN interface {name}"), error),
    })
}

/// What a device is made of.
struct DeviceParts {
    tun: Tun,
    sockets: UdpSockets,
    tunnel: Tunnel,
    gates: GateState,
}

struct PreparedDevice {
    control: ControlServer,
    threads: DeviceThreads,
    shared: Arc<SharedDevice>,
}

impl PreparedDevice {
    fn running(self, config: &Config, found: &Link, newcomers: NewPeerPolicy) -> RunningDevice {
        RunningDevice {
            control: Mutex::new(Some(self.control)),
            handover: Mutex::default(),
            _threads: self.threads,
            shared: self.shared,
            index: found.index,
            instance: config.instance.clone(),
            fwmark: config.fwmark,
            newcomers,
            peer_list: Mutex::default(),
        }
    }
}

fn prepare(
    rtnl: &Rtnl,
    config: &Config,
    plan: &ResolvedPlan<'_>,
    found: &Link,
    parts: DeviceParts,
) -> Result<PreparedDevice> {
    let name = &plan.plan.name;
    let DeviceParts { tun, sockets, tunnel, gates } = parts;
    link::adopt(rtnl, found.index, &config.instance).map_err(host)?;
    if config.at_exit == AtExit::Persist {
        tun.persist().map_err(|error| Error::host(format!("make interface {name} persist"), error))?;
    }
    steps::done("make a TUN interface persist");
    link::configure(rtnl, found, &plan.link()).map_err(host)?;
    let start = |error| Error::host(format!("start the threads of {name}"), error);
    let shared = Arc::new(SharedDevice::new(tun, tunnel, sockets, gates).map_err(start)?);
    let control = control(config, name, &shared)?;
    steps::done("make a control socket");
    let threads = DeviceThreads::start(name.as_str(), &shared).map_err(start)?;
    Ok(PreparedDevice { control, threads, shared })
}

/// The device's control socket.
pub(super) fn control(config: &Config, name: &LinkName, shared: &Arc<SharedDevice>) -> Result<ControlServer> {
    let target = ControlTarget::new(Arc::downgrade(shared), name.clone(), config.drift.clone());
    let control = ControlServer::start(&config.uapi_dir, name, target);
    control.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            let what = format!("control socket {}", crate::uapi::socket_path(&config.uapi_dir, name).display());
            Error::Conflict { what, by: "another process that listens there".to_owned() }
        }
        _ => Error::host(format!("make the control socket of {name}"), error),
    })
}

fn taken(found: &Link) -> Error {
    let by = match found.alias.as_deref() {
        Some(alias) => format!("an interface marked `{alias}`"),
        None => "an interface that is not ours".to_owned(),
    };
    Error::Conflict { what: format!("interface {}", found.name), by }
}
