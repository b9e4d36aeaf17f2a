use std::{io, sync::Arc};

use ipnet::IpNet;
use overlayd_core::contract::{DeviceMtu, DevicePlan, Error, Result};
use overlayd_netlink::{
    Link, OrAbsent, Rtnl, link as request,
    overlap::{self, CutOff},
};

use super::{
    host,
    running::{Newcomers, Running},
};
use crate::{
    AtExit, Config,
    device::{Shared, Threads},
    host::{
        link,
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
pub(super) fn bind(port: u16, mark: u32) -> Result<Sockets> {
    Sockets::bind(port, mark).map_err(|error| match error.kind() {
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
    let sockets = bind(port, config.fwmark.unwrap_or(0))?;
    let tun = Tun::open(name, origin).map_err(|error| match error.kind() {
        io::ErrorKind::ResourceBusy => {
            Error::Conflict { what: format!("interface {name}"), by: "another process".to_owned() }
        }
        _ => Error::host(format!("open TUN interface {name}"), error),
    })?;
    let found = rtnl.link(name.as_str()).map_err(host)?;
    let found = found.ok_or_else(|| Error::NotFound(format!("interface {name}, just made,")))?;
    let newcomers = match origin {
        Origin::New => Newcomers::Quietly,
        Origin::Adopted => Newcomers::Greeted,
    };
    let outcome =
        equip(rtnl, config, plan, &heritage.peers, &found, tun, sockets).map(|(control, threads, shared)| Running {
            _control: control,
            _threads: threads,
            shared,
            index: found.index,
            instance: config.instance.clone(),
            fwmark: config.fwmark,
            newcomers,
        });
    if outcome.is_err() && origin == Origin::New {
        // One that persists outlives its descriptor.
        rtnl.run(request::delete(found.index)).or_absent().map_err(host)?;
    }
    outcome
}

fn equip(
    rtnl: &Rtnl,
    config: &Config,
    plan: &Resolved<'_>,
    peers: &[PeerConfig],
    found: &Link,
    tun: Tun,
    sockets: Sockets,
) -> Result<(Server, Threads, Arc<Shared>)> {
    let name = &plan.plan.name;
    link::adopt(rtnl, found.index, &config.instance).map_err(host)?;
    if config.at_exit == AtExit::Persist {
        tun.persist().map_err(|error| Error::host(format!("make interface {name} persist"), error))?;
    }
    link::configure(rtnl, found, &plan.link()).map_err(host)?;
    let mut engine = Engine::new(*plan.plan.private_key.as_bytes(), plan.mtu, config.limits);
    let now = Moment::boot_clock();
    for peer in peers {
        engine.set_peer(now, peer);
        engine.greet_peer(now, &peer.key);
    }
    let start = |error| Error::host(format!("start the threads of {name}"), error);
    let shared = Arc::new(Shared::new(tun, engine, sockets).map_err(start)?);
    let control = Server::start(&config.uapi_dir, name, Target::new(Arc::downgrade(&shared)));
    let control = control.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            let what = format!("control socket {}", crate::uapi::socket_path(&config.uapi_dir, name).display());
            Error::Conflict { what, by: "another process that listens there".to_owned() }
        }
        _ => Error::host(format!("make the control socket of {name}"), error),
    })?;
    let threads = Threads::start(name.as_str(), &shared).map_err(start)?;
    Ok((control, threads, shared))
}

fn taken(found: &Link) -> Error {
    let by = match found.alias.as_deref() {
        Some(alias) => format!("an interface marked `{alias}`"),
        None => "an interface that is not ours".to_owned(),
    };
    Error::Conflict { what: format!("interface {}", found.name), by }
}
