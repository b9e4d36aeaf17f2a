use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use overlayd_core::{
    contract::{
        AttachPlan, Attached, Attacher, AttachmentId, Error, Finding, Guid, HostNetworks, NetworkInfo, NetworkName,
        NetworkPlan, PortPlan, Result, Target, TargetIdentity,
    },
    names::InstanceId,
};

pub use self::interface::SeenInterface;
use self::world::{FakeAttachment, FakeNetwork, FakeWorld};
use super::{FaultScript, RecordedCall, first_instance};

mod check;
mod fence;
mod guid;
mod interface;
mod world;

/// Local networks in memory, as Linux or as Windows has them. Networks and attachments outlive the handle.
#[derive(Debug, Clone)]
pub struct FakeAttacher {
    world: Arc<Mutex<FakeWorld>>,
    platform: FakePlatform,
    instance: InstanceId,
    script: FaultScript,
}

/// Whose rules the fake follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FakePlatform {
    Linux,
    Windows,
}

impl FakeAttacher {
    /// A Linux host: containers are processes and namespaces, networks are bridges without a GUID.
    pub fn linux() -> Self {
        Self::on(FakePlatform::Linux)
    }

    /// A Windows host: containers are compute systems; networks, endpoints and namespaces have GUIDs that carry our
    /// mark; a container has one endpoint in one namespace; egress is the type of the network.
    pub fn windows() -> Self {
        Self::on(FakePlatform::Windows)
    }

    /// A process in the daemon's own network namespace: attaching it is refused.
    pub const DAEMON_PID: u32 = 1;

    fn on(platform: FakePlatform) -> Self {
        Self { world: Arc::default(), platform, instance: first_instance(), script: FaultScript::default() }
    }

    /// The record of calls, and the way to make some fail.
    pub fn script(&self) -> &FaultScript {
        &self.script
    }

    /// What a new process of the same daemon finds: the same host, a fresh script.
    pub fn restarted(&self) -> Self {
        self.neighbour(self.instance.clone())
    }

    /// A host of its own that is now as this one is, for the same daemon.
    pub fn copy(&self) -> Self {
        let world = Arc::new(Mutex::new(self.world().clone()));
        Self { world, platform: self.platform, instance: self.instance.clone(), script: FaultScript::default() }
    }

    /// A host of its own with the same containers, on which the daemon has not done anything yet.
    pub fn untouched(&self) -> Self {
        let copy = self.copy();
        copy.world().forget(&self.instance);
        copy
    }

    /// Another daemon on the same host.
    pub fn neighbour(&self, instance: InstanceId) -> Self {
        Self { world: Arc::clone(&self.world), platform: self.platform, instance, script: FaultScript::default() }
    }

    /// Starts a container at this target. A second start replaces the first one: a recycled PID.
    pub fn start(&self, target: &Target) {
        self.world().start(target);
    }

    /// Ends the container; its interfaces go with it, the host's record of the attachment stays.
    pub fn stop(&self, target: &Target) {
        self.world().stop(target);
    }

    /// Puts something on the host that has this network's name and is not ours.
    pub fn put_foreign_network(&self, name: NetworkName) {
        self.world().put_foreign(name);
    }

    /// The network disappears behind the daemon's back, and with it the links of its members.
    pub fn vanish(&self, network: &NetworkName) {
        self.world().networks.remove(network);
    }

    /// From now on these are found on the host.
    pub fn set_findings(&self, findings: Vec<Finding>) {
        self.world().findings = findings;
    }

    /// The interfaces that the container sees, in the order of its plan.
    pub fn inside(&self, target: &Target) -> Vec<SeenInterface> {
        self.world().inside(target)
    }

    /// Whether the container can reach this address, as far as fences let it: a gateway or another member of one of its
    /// networks.
    pub fn reaches(&self, from: &Target, address: IpAddr) -> bool {
        self.world().reaches(from, address)
    }

    /// Whether the first port of the host's leads to the container, at the container's port.
    pub fn is_published(&self, to: &Target, port: &PortPlan) -> bool {
        self.world().is_published(to, port)
    }

    /// Everything on the host, one line per fact.
    pub fn host(&self) -> BTreeSet<String> {
        self.world().lines()
    }

    fn world(&self) -> MutexGuard<'_, FakeWorld> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn guid(&self, kind: &str, name: &str) -> Option<Guid> {
        match self.platform {
            FakePlatform::Linux => None,
            FakePlatform::Windows => Some(guid::derive(&self.instance, kind, name)),
        }
    }

    /// Plugs in interface by interface, as a host does: a call dropped half-way leaves some of them.
    async fn plug(&self, call: &RecordedCall, plan: &AttachPlan, identity: &TargetIdentity) -> Result<Attached> {
        let namespace = self.guid("namespace", &plan.id.to_string());
        let attachment = FakeAttachment {
            mark: self.instance.clone(),
            plan: plan.clone(),
            identity: identity.clone(),
            namespace: namespace.clone(),
            endpoint: self.guid("endpoint", &plan.id.to_string()),
            plugged: 0,
        };
        self.world().attachments.insert(plan.id.clone(), attachment);
        for _ in interface::interfaces_of(plan) {
            self.script.half_way(call).await?;
            self.world().plug_one(&plan.id);
        }
        Ok(Attached { identity: identity.clone(), namespace })
    }
}

#[async_trait]
impl Attacher for FakeAttacher {
    fn name(&self) -> &'static str {
        match self.platform {
            FakePlatform::Linux => "fake-linux",
            FakePlatform::Windows => "fake-windows",
        }
    }

    async fn ensure_network(&self, plan: &NetworkPlan) -> Result<NetworkInfo> {
        let call = self.script.enter("ensure_network", &plan.name).await?;
        check::network(self.platform, plan)?;
        let before = self.world().claim_network(self.platform, &self.instance, plan)?;
        let guid = before.as_ref().map_or_else(|| self.guid("network", &plan.name.0), |network| network.guid.clone());
        if before.is_none() {
            let network = FakeNetwork::bare(self.instance.clone(), plan.clone(), guid.clone());
            self.world().networks.insert(plan.name.clone(), network);
        }
        if let Err(error) = self.script.half_way(&call).await {
            if before.is_none() {
                self.world().networks.remove(&plan.name);
            }
            return Err(error);
        }
        self.world()
            .networks
            .insert(plan.name.clone(), FakeNetwork::full(self.instance.clone(), plan.clone(), guid.clone()));
        Ok(NetworkInfo { guid })
    }

    async fn remove_network(&self, name: &NetworkName) -> Result<()> {
        let call = self.script.enter("remove_network", name).await?;
        self.script.half_way(&call).await?;
        self.world().remove_network(&self.instance, name);
        Ok(())
    }

    async fn attach(&self, plan: &AttachPlan) -> Result<Attached> {
        let call = self.script.enter("attach", &plan.id).await?;
        let identity = {
            let world = self.world();
            check::target(self.platform, plan)?;
            let identity = world.identity(&plan.target)?;
            check::known(plan, &identity)?;
            check::interfaces(self.platform, &self.instance, &world, plan)?;
            world.check_ports(plan)?;
            identity
        };
        if let Some(done) = self.world().already(plan, &identity) {
            return Ok(done);
        }
        let before = self.world().attachments.get(&plan.id).cloned();
        let result = self.plug(&call, plan, &identity).await;
        if result.is_err() {
            self.world().put_back(&plan.id, before);
        }
        result
    }

    async fn detach(&self, id: &AttachmentId) -> Result<()> {
        let call = self.script.enter("detach", id).await?;
        self.script.half_way(&call).await?;
        self.world().detach(&self.instance, id);
        Ok(())
    }

    async fn observe(&self) -> Result<HostNetworks> {
        self.script.enter("observe", "").await?;
        Ok(self.world().observed(&self.instance))
    }
}

fn unsupported(what: impl Into<String>, reason: &str) -> Error {
    Error::Unsupported { what: what.into(), reason: reason.into() }
}
