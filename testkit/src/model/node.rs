//! What a node should answer and hold, told without any of the engine's means: a few maps and the rules of the protocol.

mod peers;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use overlayd_core::{
    desired::{Lifetime, SHARED_SERVICE},
    protocol::{OverlayMode, Response},
};

use super::{
    ops::ModelRequest,
    view::{AttachedContainer, ModelView, mode},
};

/// Addresses of the slice that can be leased: a /28 less its ends and the node's own.
const SLICE: usize = 13;
/// With fewer addresses in use or at rest than this, none that rests needs to be leased.
const PLENTY: usize = 6;
/// The node as it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NodeModel {
    pub(super) now: u64,
    /// Seconds that an address rests.
    cool_down: u64,
    /// How often the container of each process has been started; the last one runs.
    running: BTreeMap<u32, u32>,
    starts: u32,
    view: ModelView,
    /// Whether each service lies in the range that is used before there is an overlay.
    elsewhere: BTreeMap<String, bool>,
    /// The start of the container that each attachment means.
    meant: BTreeMap<u32, u32>,
    rests: BTreeMap<IpAddr, u64>,
    /// The service that was left by a detach that has not ended yet.
    leaving: BTreeMap<u32, String>,
    /// Which of the allocated addresses are from the slice.
    from_slice: BTreeSet<IpAddr>,
}

impl NodeModel {
    /// A node that nothing was asked of yet, at this Unix second, where addresses rest for so many.
    pub(super) fn at(now: u64, cool_down: u64) -> Self {
        Self { now, cool_down, ..Self::default() }
    }

    pub(super) fn view(&self) -> &ModelView {
        &self.view
    }

    /// The allocated addresses, in order.
    pub(super) fn allocated(&self) -> Vec<IpAddr> {
        self.view.allocated.iter().copied().collect()
    }

    pub(super) fn has_edge(&self, name: &str) -> bool {
        self.view.edges.contains_key(name)
    }

    pub(super) fn start(&mut self, pid: u32) {
        self.starts += 1;
        self.running.insert(pid, self.starts);
    }

    pub(super) fn end(&mut self, pid: u32) {
        self.running.remove(&pid);
    }

    /// Looking after drift and starting anew: who is gone is detached, and services that were left are removed.
    pub(super) fn settle(&mut self) {
        let gone: Vec<u32> = self.view.attached.keys().copied().filter(|pid| !self.is_there(*pid)).collect();
        gone.into_iter().for_each(|pid| self.unplug(pid));
        let left = |name: &str, (_, lifetime): &(String, Lifetime)| {
            *lifetime == Lifetime::Left && self.members(name).is_empty()
        };
        let services = self.view.services.iter().filter(|(name, service)| left(name, service));
        let names: Vec<String> = services.map(|(name, _)| name.clone()).collect();
        names.iter().for_each(|name| self.remove_service(name));
    }

    /// Whether this reply to `op` is right, which then is done. `released` is the address that a release is about.
    pub(super) fn explains(&mut self, op: &ModelRequest, released: Option<IpAddr>, reply: &Response) -> bool {
        let refused = matches!(reply, Response::Err { .. });
        match self.carry_out(op, released, address_in(reply)) {
            Ok(()) => !refused,
            Err(ExpectedRefusal) => refused,
        }
    }

    /// What some operations do before, which others that are asked at the same time may come after.
    pub(super) fn begin(&mut self, op: &ModelRequest) {
        if let ModelRequest::SetUpService(name, how) = op
            && self.view.services.get(*name).is_some_and(|(known, _)| *known != mode(*how))
            && self.members(name).is_empty()
        {
            self.remove_service(name);
        }
    }

    /// What some operations do afterwards, which others that are asked at the same time may come before.
    pub(super) fn finish(&mut self, op: &ModelRequest) {
        if let ModelRequest::Detach(pid) = op
            && let Some(name) = self.leaving.remove(pid)
            && self.view.services.get(&name).is_some_and(|(_, lifetime)| *lifetime == Lifetime::Left)
            && self.members(&name).is_empty()
        {
            self.remove_service(&name);
        }
    }

    /// The states that a daemon may leave on record that ends during `op`, as the next start makes of them.
    pub(super) fn after_a_crash(&self, op: &ModelRequest, released: Option<IpAddr>, told: Option<IpAddr>) -> Vec<Self> {
        let mut states = vec![self.clone()];
        let mut done = self.clone();
        // Refused or not: what was on record in between is withdrawn by the next start.
        drop(done.carry_out(op, released, told));
        states.push(done);
        match op {
            ModelRequest::Attach { pid, .. } => {
                // On record, and then found to be gone.
                let mut recorded = self.clone();
                recorded.running.entry(*pid).or_insert(0);
                let ip = told.or(Some([10, 0, 0, 0].into()));
                drop(recorded.carry_out(op, released, ip));
                recorded.running.clone_from(&self.running);
                states.push(recorded.clone());
                // Attached, but not yet on record as one for whom the service lasts; the one who was there before may
                // have left it.
                let mut before = self.clone();
                if !self.is_there(*pid) {
                    before.unplug(*pid);
                }
                recorded.view.services.clone_from(&before.view.services);
                states.push(recorded);
                let mut kept = self.clone();
                drop(kept.carry_out(op, released, told));
                kept.view.services.clone_from(&before.view.services);
                states.push(kept);
            }
            ModelRequest::SetUpService(name, _) => {
                let mut between = self.clone();
                between.remove_service(name);
                states.push(between);
            }
            ModelRequest::TearDownService(name) => {
                let mut partly = self.clone();
                for pid in self.members(name) {
                    partly.unplug(pid);
                    states.push(partly.clone());
                }
            }
            _ => {}
        }
        states.iter_mut().for_each(Self::settle);
        states
    }

    fn is_there(&self, pid: u32) -> bool {
        self.running.get(&pid).is_some_and(|start| self.meant.get(&pid) == Some(start))
    }

    fn members(&self, service: &str) -> Vec<u32> {
        let attached = self.view.attached.iter().filter(|(_, attached)| attached.service == service);
        attached.map(|(pid, _)| *pid).collect()
    }

    fn leased(&self) -> BTreeSet<IpAddr> {
        let attached = self.view.attached.values().map(|attached| attached.ip);
        attached.chain(self.view.allocated.iter().copied()).chain(self.view.edges.values().copied()).collect()
    }

    fn slice_is_full(&self) -> bool {
        let global = self.view.attached.values().filter(|attached| attached.global).count();
        self.view.overlay && global + self.view.edges.len() + self.from_slice.len() >= SLICE
    }

    /// An address that may be leased now.
    fn is_free(&self, ip: IpAddr) -> bool {
        let rests = self.rests.iter().filter(|(_, until)| **until > self.now).count();
        let rested = self.rests.get(&ip).is_none_or(|until| *until <= self.now);
        !self.leased().contains(&ip) && (rested || self.leased().len() + rests >= PLENTY)
    }

    fn rest(&mut self, ip: IpAddr) {
        self.rests.insert(ip, self.now + self.cool_down);
    }

    fn unplug(&mut self, pid: u32) {
        let Some(attached) = self.view.attached.remove(&pid) else { return };
        self.meant.remove(&pid);
        self.rest(attached.ip);
        if self.members(&attached.service).is_empty()
            && let Some((_, lifetime)) = self.view.services.get_mut(&attached.service)
            && *lifetime == Lifetime::UntilEmpty
        {
            *lifetime = Lifetime::Left;
        }
    }

    fn remove_service(&mut self, name: &str) {
        self.members(name).into_iter().for_each(|pid| self.unplug(pid));
        self.view.services.remove(name);
        self.elsewhere.remove(name);
    }

    fn carry_out(
        &mut self,
        op: &ModelRequest,
        released: Option<IpAddr>,
        told: Option<IpAddr>,
    ) -> Result<(), ExpectedRefusal> {
        match op {
            ModelRequest::SetUp => self.set_up(),
            ModelRequest::TearDown => {
                let Self { now, cool_down, running, starts, view, .. } = std::mem::take(self);
                let view = ModelView { names: view.names, ..ModelView::default() };
                *self = Self { now, cool_down, running, starts, view, ..Self::default() };
                Ok(())
            }
            ModelRequest::SetUpService(name, how) => self.set_up_service(name, *how),
            ModelRequest::TearDownService(name) => {
                self.remove_service(name);
                Ok(())
            }
            ModelRequest::Attach { pid, service, global, ephemeral, fenced } => {
                self.attach(*pid, service, [*global, *ephemeral, *fenced], told)
            }
            ModelRequest::Detach(pid) => {
                let service = self.view.attached.get(pid).map(|attached| attached.service.clone());
                self.unplug(*pid);
                self.leaving.extend(service.map(|service| (*pid, service)));
                Ok(())
            }
            ModelRequest::Publish(pid, port) => self.publish(*pid, *port),
            ModelRequest::Allocate(service) => self.allocate(service, told),
            ModelRequest::Release(_) => self.release(released),
            ModelRequest::AddPeer(..)
            | ModelRequest::RemovePeer(_)
            | ModelRequest::AddRange(..)
            | ModelRequest::RemoveRange(..) => self.change_peer(op),
            ModelRequest::Mint(name, allow) => self.mint(name, *allow, told),
            ModelRequest::Revoke(name) => {
                self.view.edges.remove(*name).into_iter().for_each(|ip| self.rest(ip));
                Ok(())
            }
            ModelRequest::Register(name) => {
                self.view.names.insert((*name).to_owned());
                Ok(())
            }
            ModelRequest::Unregister(name) => {
                self.view.names.remove(*name);
                Ok(())
            }
        }
    }

    fn set_up(&mut self) -> Result<(), ExpectedRefusal> {
        refuse_if(!self.view.overlay && self.elsewhere.values().any(|elsewhere| *elsewhere))?;
        self.view.overlay = true;
        Ok(())
    }

    fn set_up_service(&mut self, name: &str, how: OverlayMode) -> Result<(), ExpectedRefusal> {
        if let Some((known, _)) = self.view.services.get(name)
            && *known != mode(how)
        {
            refuse_if(!self.members(name).is_empty())?;
            self.remove_service(name);
        }
        let here = !self.view.overlay;
        let elsewhere = match how {
            // All shared services are on one bridge, which stays until the teardown.
            OverlayMode::Shared => *self.elsewhere.entry(SHARED_SERVICE.into()).or_insert(here),
            OverlayMode::Auto | OverlayMode::Dedicated | OverlayMode::Isolated => here,
        };
        self.elsewhere.entry(name.to_owned()).or_insert(elsewhere);
        let (_, lifetime) =
            self.view.services.entry(name.to_owned()).or_insert_with(|| (mode(how), Lifetime::UntilEmpty));
        if *lifetime == Lifetime::Left {
            *lifetime = Lifetime::UntilEmpty;
        }
        Ok(())
    }

    fn attach(
        &mut self,
        pid: u32,
        service: &str,
        [global, ephemeral, fenced]: [bool; 3],
        told: Option<IpAddr>,
    ) -> Result<(), ExpectedRefusal> {
        if self.view.attached.contains_key(&pid) && !self.is_there(pid) {
            self.unplug(pid);
        }
        if let Some(known) = self.view.attached.get(&pid) {
            refuse_if(known.service != service || known.fenced != fenced)?;
            refuse_if(told.is_some_and(|ip| ip != known.ip))?;
            self.use_service(service, ephemeral);
            return Ok(());
        }
        let global = global && self.view.overlay;
        refuse_if(!self.view.services.contains_key(service))?;
        refuse_if(global && self.slice_is_full())?;
        let start = *self.running.get(&pid).ok_or(ExpectedRefusal)?;
        let ip = told.filter(|ip| self.is_free(*ip)).ok_or(ExpectedRefusal)?;
        self.use_service(service, ephemeral);
        self.rests.remove(&ip);
        self.meant.insert(pid, start);
        self.view
            .attached
            .insert(pid, AttachedContainer { service: service.to_owned(), ip, global, fenced, port: None });
        Ok(())
    }

    fn use_service(&mut self, service: &str, ephemeral: bool) {
        self.view.services.entry(service.to_owned()).and_modify(|(_, lifetime)| {
            *lifetime = if ephemeral && *lifetime != Lifetime::Kept { Lifetime::UntilEmpty } else { Lifetime::Kept };
        });
    }

    fn publish(&mut self, pid: u32, port: Option<u16>) -> Result<(), ExpectedRefusal> {
        let others = self.view.attached.iter().filter(|(other, _)| **other != pid);
        let taken = port.is_some() && others.into_iter().any(|(_, attached)| attached.port == port);
        refuse_if(taken || !self.view.attached.contains_key(&pid))?;
        if !self.is_there(pid) {
            self.unplug(pid);
            return Err(ExpectedRefusal);
        }
        self.view.attached.entry(pid).and_modify(|attached| attached.port = port);
        Ok(())
    }

    fn allocate(&mut self, service: &str, told: Option<IpAddr>) -> Result<(), ExpectedRefusal> {
        let known = self.view.services.contains_key(service);
        refuse_if(!known && self.slice_is_full())?;
        let ip = told.filter(|ip| self.is_free(*ip)).ok_or(ExpectedRefusal)?;
        self.rests.remove(&ip);
        self.view.allocated.insert(ip);
        if !known && self.view.overlay {
            self.from_slice.insert(ip);
        }
        Ok(())
    }

    fn release(&mut self, ip: Option<IpAddr>) -> Result<(), ExpectedRefusal> {
        if let Some(ip) = ip.filter(|ip| self.view.allocated.remove(ip)) {
            self.from_slice.remove(&ip);
            self.rest(ip);
        }
        Ok(())
    }

    fn mint(&mut self, name: &str, allow: Option<&str>, told: Option<IpAddr>) -> Result<(), ExpectedRefusal> {
        refuse_if(self.view.edges.contains_key(name) || !self.view.overlay)?;
        refuse_if(allow.is_some_and(|service| !self.view.services.contains_key(service)))?;
        refuse_if(self.slice_is_full())?;
        let ip = told.filter(|ip| self.is_free(*ip)).ok_or(ExpectedRefusal)?;
        self.rests.remove(&ip);
        self.view.edges.insert(name.to_owned(), ip);
        Ok(())
    }
}

/// The request is refused.
struct ExpectedRefusal;

fn refuse_if(reason: bool) -> Result<(), ExpectedRefusal> {
    if reason { Err(ExpectedRefusal) } else { Ok(()) }
}

/// The address that a reply names.
pub fn address_in(reply: &Response) -> Option<IpAddr> {
    match reply {
        Response::Attached(attached) => Some(attached.ip),
        Response::Ip { ip } => Some(*ip),
        Response::EdgeConfig(config) => Some(config.overlay_ip),
        _ => None,
    }
}
