use std::{
    io,
    sync::{Arc, Mutex},
};

use overlayd_core::{
    contract::{Error, Result},
    names::LinkName,
    sync::lock,
};

use super::{
    plan::{self, ResolvedPlan},
    running::{InheritedState, NewPeerPolicy, RunningDevice},
};
use crate::{
    AtExit, Config,
    device::{DeviceThreads, GateState, SharedDevice},
    handover::{self, HandoverThread, ReceivedDevice},
    io::{
        KernelOffloads,
        interfaces::{HostInterfaces, Interface, step_done},
        tun::{InterfaceOrigin, Tun},
        udp::UdpSockets,
    },
    noise::{SteadyTime, Tunnel},
    uapi::{ControlServer, ControlTarget},
};

/// Makes the device, or takes over the interface that an earlier process of this instance has left. A failure leaves
/// nothing new behind.
pub(super) fn make(
    interfaces: &HostInterfaces,
    config: &Config,
    plan: &ResolvedPlan<'_>,
    inherited: &InheritedState,
) -> Result<RunningDevice> {
    let name = &plan.plan.name;
    let origin = match interfaces.named(name)? {
        None => InterfaceOrigin::New,
        Some(found) if found.is_ours(&config.instance) => InterfaceOrigin::Adopted,
        Some(found) => return Err(found.conflict()),
    };
    // The sockets first: a port that is taken is the usual refusal, and there is nothing to undo yet.
    let port = if plan.plan.listen_port == 0 { inherited.port } else { plan.plan.listen_port };
    let sockets = plan::bind(port, config.fwmark.unwrap_or(0), config.offloads)?;
    let tun = open(name, origin, config.offloads)?;
    step_done("open a TUN interface");
    let found = interfaces.named(name)?;
    let found = found.ok_or_else(|| Error::NotFound(format!("interface {name}, just made,")))?;
    let new_peers = match origin {
        InterfaceOrigin::New => NewPeerPolicy::HandshakeOnDemand,
        InterfaceOrigin::Adopted => NewPeerPolicy::HandshakeAtOnce,
    };
    let mut tunnel = new_tunnel(config, plan);
    let now = SteadyTime::boot_clock();
    for peer in &inherited.peers {
        tunnel.set_peer(now, peer);
        tunnel.start_handshake(now, &peer.key);
    }
    let parts = DeviceParts { tun, sockets, tunnel, gates: GateState::Open };
    let outcome = assemble(interfaces, config, plan, &found, parts, new_peers);
    if outcome.is_err() && origin == InterfaceOrigin::New {
        // One that was made to persist outlives its descriptor.
        interfaces.delete(&found)?;
    }
    outcome
}

/// Takes over a device that an older process still carries, which goes on with what this one cannot do yet. A failure
/// leaves it with that process.
pub(super) fn take_over(
    interfaces: &HostInterfaces,
    config: &Config,
    plan: &ResolvedPlan<'_>,
    received: ReceivedDevice,
) -> Result<RunningDevice> {
    let name = &plan.plan.name;
    let found = interfaces.named(name)?.filter(|found| found.is_ours(&config.instance));
    let found = found.ok_or_else(|| Error::NotFound(format!("interface {name}, which the older process gave,")))?;
    // A failure drops the channel, by which the older process learns that it keeps the device.
    let ReceivedDevice { tun, sockets, channel } = received;
    let peers = handover::attach(&channel)
        .map_err(|error| Error::host(format!("take over {name} from the older process"), error))?;
    let mut tunnel = new_tunnel(config, plan);
    let now = SteadyTime::boot_clock();
    let mut with_sessions = Vec::new();
    for peer in &peers {
        tunnel.import_peer(now, peer);
        if peer.has_session {
            with_sessions.push(peer.config.key);
        }
    }
    let sessions = with_sessions.len();
    tracing::info!(device = %name, peers = peers.len(), sessions, "taking over from the older process");
    // Closed until the older process says that it no longer reads.
    let parts = DeviceParts { tun, sockets, tunnel, gates: GateState::Closed };
    let running = assemble(interfaces, config, plan, &found, parts, NewPeerPolicy::HandshakeOnDemand)?;
    // The sockets have the mark that the older process was told, and the settings may have changed.
    running.mark_packets()?;
    let thread = HandoverThread::take_over(name, &running.shared, channel, with_sessions)
        .map_err(|error| Error::host(format!("start a thread of {name}"), error))?;
    *lock(&running.handover) = Some(thread);
    Ok(running)
}

fn new_tunnel(config: &Config, plan: &ResolvedPlan<'_>) -> Tunnel {
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

/// Configures the interface and starts the threads and the control socket.
fn assemble(
    interfaces: &HostInterfaces,
    config: &Config,
    plan: &ResolvedPlan<'_>,
    found: &Interface,
    parts: DeviceParts,
    new_peers: NewPeerPolicy,
) -> Result<RunningDevice> {
    let name = &plan.plan.name;
    let DeviceParts { tun, sockets, tunnel, gates } = parts;
    // The mark comes first: when anything after this fails, a later start knows the interface as its own.
    interfaces.mark(found, &config.instance)?;
    if config.at_exit == AtExit::Persist {
        tun.persist().map_err(|error| Error::host(format!("make interface {name} persist"), error))?;
    }
    step_done("make a TUN interface persist");
    interfaces.configure(found, &plan.link())?;
    let shared = SharedDevice::new(tun, tunnel, sockets, gates).map_err(|error| Error::host(starting(name), error))?;
    let shared = Arc::new(shared);
    let control = control(config, name, &shared)?;
    step_done("make a control socket");
    let threads = DeviceThreads::start(name.as_str(), &shared).map_err(|error| Error::host(starting(name), error))?;
    Ok(RunningDevice {
        control: Mutex::new(Some(control)),
        handover: Mutex::default(),
        _threads: threads,
        shared,
        index: found.index(),
        instance: config.instance.clone(),
        fwmark: config.fwmark,
        new_peers,
        peer_list: Mutex::default(),
    })
}

fn starting(name: &LinkName) -> String {
    format!("start the threads of {name}")
}

/// The device's control socket.
pub(super) fn control(config: &Config, name: &LinkName, shared: &Arc<SharedDevice>) -> Result<ControlServer> {
    let target = ControlTarget::new(Arc::downgrade(shared), name.clone(), config.drift.clone());
    ControlServer::start(&config.uapi_dir, name, target).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            let what = format!("control socket {}", crate::uapi::socket_path(&config.uapi_dir, name).display());
            Error::Conflict { what, by: "another process that listens there".to_owned() }
        }
        _ => Error::host(format!("make the control socket of {name}"), error),
    })
}
