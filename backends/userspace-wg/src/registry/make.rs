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
    handover::Given,
    running::{Newcomers, Running},
};
use crate::{
    AtExit, Config,
    device::{Shared, Stands, Threads},
    handover::successor,
    io::{
        Offloads, link,
        tun::{Origin, Tun},
        udp::Sockets,
    },
    noise::{Engine, Moment, PeerConfig},
    uapi::{Server, Target},
};

/// Smallest MTU of an IPv4 interface (RFC 791).
const LEAST_MTU: u16 = 68;

/// A plan whose MTU is a number.
pub(super) struct Resolved<'a> {
    pub(super) plan: &'a DevicePlan,
    pub(super) mtu: u16,
}

/// What a device takes over from the one that it replaces.
#[derive(Default)]
pub(super) struct Heritage {
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
pub(super) fn bind(port: u16, mark: u32, offloads: Offloads) -> Result<Sockets> {
    Sockets::bind(port, mark, offloads).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            Error::Conflict { what: format!("UDP port {port}"), by: "another socket of this host".to_owned() }
        }
        _ => Error::host(format!("listen on UDP port {port}"), error),
    })
}

/// Makes the device, or takes over the interface that an earlier process of ours has left. A failure leaves nothing
/// new behind.
pub(super) fn make(rtnl: &Rtnl, config: &Config, plan: &Resolved<'_>, heritage: &Heritage) -> Result<Running> {
    let name = &plan.plan.name;
    let origin = match rtnl.link(name.as_str()).map_err(host)? {
        None => Origin::New,
        Some(found) if link::is_ours(&found, &config.instance) => Origin::Adopted,
        Some(found) => return Err(taken(&found)),
    };
    let port = if plan.plan.listen_port == 0 { heritage.port } else { plan.plan.listen_port };
    let sockets = bind(port, config.fwmark.unwrap_or(0), config.offloads)?;
    let tun = open(name, origin, config.offloads)?;
    steps::done("open a TUN interface");
    let found = rtnl.link(name.as_str()).map_err(host)?;
    let found = found.ok_or_else(|| Error::NotFound(format!("interface {name}, just made,")))?;
    let newcomers = match origin {
        Origin::New => Newcomers::Quietly,
        Origin::Adopted => Newcomers::Greeted,
    };
    let mut engine = engine(config, plan);
    let now = Moment::boot_clock();
    for peer in &heritage.peers {
        engine.set_peer(now, peer);
        engine.greet_peer(now, &peer.key);
    }
    let parts = Parts { tun, sockets, engine, gates: Stands::Open };
    let outcome = equip(rtnl, config, plan, &found, parts).map(|equipped| equipped.running(config, &found, newcomers));
    if outcome.is_err() && origin == Origin::New {
        // One that persists outlives its descriptor.
        rtnl.run(request::delete(found.index)).or_absent().map_err(host)?;
    }
    outcome
}

/// Takes over a device that an older process still carries, which goes on with what this one cannot do yet. A failure
/// leaves it with that process.
pub(super) fn take_over(rtnl: &Rtnl, config: &Config, plan: &Resolved<'_>, given: Given) -> Result<Running> {
    let name = &plan.plan.name;
    let found = rtnl.link(name.as_str()).map_err(host)?;
    let found = found.filter(|found| link::is_ours(found, &config.instance));
    let found = found.ok_or_else(|| Error::NotFound(format!("interface {name}, which the older process gave,")))?;
    let Given { tun, sockets, wire } = given;
    let known = successor::attach(&wire);
    let known = known.map_err(|error| Error::host(format!("take over {name} from the older process"), error))?;
    let mut engine = engine(config, plan);
    let now = Moment::boot_clock();
    known.iter().for_each(|known| engine.take_on(now, known));
    let talking: Vec<_> = known.iter().filter(|known| known.talks).map(|known| known.config.key).collect();
    tracing::info!(device = %name, peers = known.len(), talking = talking.len(), "taking over from the older process");
    let parts = Parts { tun, sockets, engine, gates: Stands::Closed };
    let equipped = equip(rtnl, config, plan, &found, parts)?;
    let running = equipped.running(config, &found, Newcomers::Quietly);
    running.mark_packets()?;
    running.follow(name, wire, talking).map_err(|error| Error::host(format!("start a thread of {name}"), error))?;
    Ok(running)
}

fn engine(config: &Config, plan: &Resolved<'_>) -> Engine {
    Engine::new(*plan.plan.private_key.as_bytes(), plan.mtu, config.limits)
}

fn open(name: &LinkName, origin: Origin, offloads: Offloads) -> Result<Tun> {
    Tun::open(name, origin, offloads.tun).map_err(|error| match error.kind() {
        io::ErrorKind::ResourceBusy => {
            Error::Conflict { what: format!("interface {name}"), by: "another process".to_owned() }
        }
        _ => Error::host(format!("open TUN interface {name}"), error),
    })
}

/// What a device is made of.
struct Parts {
    tun: Tun,
    sockets: Sockets,
    engine: Engine,
    gates: Stands,
}

struct Equipped {
    control: Server,
    threads: Threads,
    shared: Arc<Shared>,
}

impl Equipped {
    fn running(self, config: &Config, found: &Link, newcomers: Newcomers) -> Running {
        Running {
            control: Mutex::new(Some(self.control)),
            handover: Mutex::default(),
            _threads: self.threads,
            shared: self.shared,
            index: found.index,
            instance: config.instance.clone(),
            fwmark: config.fwmark,
            newcomers,
            listed: Mutex::default(),
        }
    }
}

fn equip(rtnl: &Rtnl, config: &Config, plan: &Resolved<'_>, found: &Link, parts: Parts) -> Result<Equipped> {
    let name = &plan.plan.name;
    let Parts { tun, sockets, engine, gates } = parts;
    link::adopt(rtnl, found.index, &config.instance).map_err(host)?;
    if config.at_exit == AtExit::Persist {
        tun.persist().map_err(|error| Error::host(format!("make interface {name} persist"), error))?;
    }
    steps::done("make a TUN interface persist");
    link::configure(rtnl, found, &plan.link()).map_err(host)?;
    let start = |error| Error::host(format!("start the threads of {name}"), error);
    let shared = Arc::new(Shared::new(tun, engine, sockets, gates).map_err(start)?);
    let control = control(config, name, &shared)?;
    steps::done("make a control socket");
    let threads = Threads::start(name.as_str(), &shared).map_err(start)?;
    Ok(Equipped { control, threads, shared })
}

/// The device's control socket.
pub(super) fn control(config: &Config, name: &LinkName, shared: &Arc<Shared>) -> Result<Server> {
    let target = Target::new(Arc::downgrade(shared), name.clone(), config.drift.clone());
    let control = Server::start(&config.uapi_dir, name, target);
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
