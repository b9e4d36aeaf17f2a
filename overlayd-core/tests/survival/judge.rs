//! Whether a machine is as it should be.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use overlayd_core::{
    contract::AttachmentId,
    desired::{Desired, Origin, Phase},
    protocol::{Request, Response},
};
use overlayd_testkit::fake::FakeMachine;

/// What a machine is like between two daemons.
pub(crate) struct Moment {
    /// What was asked for, without what may differ between two runs: issued addresses and keys.
    pub(crate) outline: BTreeSet<String>,
    /// The address of each container.
    pub(crate) addresses: BTreeMap<AttachmentId, IpAddr>,
}

impl Moment {
    /// Of a machine without a daemon.
    pub(crate) fn of(machine: &FakeMachine) -> Self {
        let desired = machine.desired();
        let attachments = desired.attachments().iter();
        let addresses = attachments.map(|(handle, record)| (handle.clone(), record.service_ip)).collect();
        Self { outline: outline(&desired), addresses }
    }
}

/// The host is what the records say, no address is held twice, and every key has a record.
pub(crate) async fn is_consistent(machine: &FakeMachine) -> Result<(), String> {
    let desired = machine.desired();
    one_holder_each(&desired)?;
    nothing_is_half_way(&desired)?;
    guest_keys_have_records(machine, &desired)?;
    let mut fresh = machine.untouched();
    let engine = fresh.start().await;
    let (planned, is) = (fresh.host(), machine.host());
    FakeMachine::crash(engine).await;
    let (left, missing): (Vec<_>, Vec<_>) = (is.difference(&planned).collect(), planned.difference(&is).collect());
    match left.is_empty() && missing.is_empty() {
        true => Ok(()),
        false => Err(format!("the host is not what the records say: left {left:#?}, missing {missing:#?}")),
    }
}

/// Everything is torn down, and then nothing of it is left.
pub(crate) async fn tears_down_to_nothing(machine: &mut FakeMachine) -> Result<(), String> {
    let engine = machine.start().await;
    let reply = engine.answer(Request::TeardownGlobalOverlay).await;
    let host = machine.host();
    FakeMachine::crash(engine).await;
    if reply != Response::Ok {
        return Err(format!("teardown was answered {reply:?}"));
    }
    let leases = leases(&machine.desired());
    match host.is_empty() && leases.is_empty() {
        true => Ok(()),
        false => Err(format!("after the teardown there is still {host:#?}, leased {leases:?}")),
    }
}

fn leases(desired: &Desired) -> Vec<(IpAddr, String)> {
    let attached = desired.attachments().iter().flat_map(|(handle, record)| {
        let ips = [Some(record.service_ip), record.global_ip].into_iter().flatten();
        ips.map(move |ip| (ip, handle.to_string()))
    });
    let allocated = desired.allocations().keys().map(|ip| (*ip, "no container".to_owned()));
    let edges = desired.edges().iter().map(|(name, edge)| (edge.ip, format!("edge {name}")));
    attached.chain(allocated).chain(edges).collect()
}

fn one_holder_each(desired: &Desired) -> Result<(), String> {
    let mut holders = BTreeMap::new();
    for (ip, holder) in leases(desired) {
        if let Some(other) = holders.insert(ip, holder.clone()) {
            return Err(format!("{ip} is held by {holder} and by {other}"));
        }
        if desired.rests().contains_key(&ip) {
            return Err(format!("{ip} is held by {holder}, and rests"));
        }
    }
    Ok(())
}

fn nothing_is_half_way(desired: &Desired) -> Result<(), String> {
    match desired.attachments().iter().find(|(_, record)| record.phase == Phase::Leaving) {
        Some((handle, _)) => Err(format!("{handle} is still leaving")),
        None => Ok(()),
    }
}

fn guest_keys_have_records(machine: &FakeMachine, desired: &Desired) -> Result<(), String> {
    let keys = machine.keys().into_iter().filter(|name| name.starts_with("guest-")).count();
    let guests = desired.attachments().keys().filter(|handle| matches!(handle, AttachmentId::Guest(_))).count();
    match keys == guests {
        true => Ok(()),
        false => Err(format!("{keys} keys of guests for {guests} guests")),
    }
}

fn outline(desired: &Desired) -> BTreeSet<String> {
    let services = desired.services().iter().map(|(name, record)| {
        let device = record.dedicated.as_ref().map(|dedicated| (&dedicated.device, dedicated.port));
        format!("service {name} {:?} {} {} {:?} {device:?}", record.mode, record.block, record.network, record.lifetime)
    });
    let attachments = desired.attachments().iter().map(|(handle, record)| {
        let (service, fence, ports) = (&record.service, &record.isolation, &record.ports);
        format!("{handle} in {service}, fence {fence:?}, ports {ports:?}, global {}", record.global_ip.is_some())
    });
    let asked = desired.peers().iter().filter(|(_, record)| record.origin == Origin::Asked);
    let peers = asked.map(|(id, record)| format!("peer {id:?} {record:?}"));
    let issued = desired.peers().values().filter(|record| record.origin == Origin::Issued).count();
    let edges = desired.edges().iter().map(|(name, edge)| format!("edge {name} {:?}", edge.access.ranges()));
    let names = desired.dns().iter().map(|(name, addresses)| format!("name {name} {addresses:?}"));
    let node = [
        format!("{:?} {:?} {:?}", desired.node(), desired.overlay(), desired.resolver()),
        format!("{issued} issued identities"),
    ];
    services.chain(attachments).chain(peers).chain(edges).chain(names).chain(node).collect()
}
