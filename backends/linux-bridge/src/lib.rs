//! Attacher for Linux: bridges, veth pairs, network namespaces, egress and nftables.
//!
//! A network is a bridge with the gateway's addresses. A container interface is a veth pair whose inner end is created
//! inside the container's namespace, and whose outer end is a port of the bridge, or, for a routed one, has a host
//! route to the container's address. All that the packets may do beyond their bridge is in one nftables table.
//!
//! Every link carries the instance's mark as its alias; nothing without it is touched. All work happens in the network
//! namespace of the thread that called [`LinuxBridge::new`].

mod attach;
mod detach;
mod drift;
mod error;
mod forwarding;
mod host;
mod inside;
mod interfaces;
mod keyed;
mod mark;
mod network;
mod observe;
mod reaper;
mod rules;
mod settings;
mod target;
mod veth;

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use overlayd_core::{
    contract::{
        AttachPlan, Attached, Attacher, AttachmentId, DriftSignal, Error, HostNetworks, NetworkInfo, NetworkName,
        NetworkPlan, Result,
    },
    names::InstanceId,
};
use overlayd_netlink::{Crew, OwnChanges};
use tokio::sync::{Mutex, oneshot};

pub use crate::rules::TableProtection;
use crate::{drift::DriftMonitor, host::HostContext, keyed::Keyed, network::BridgeNetworks};

/// What the backend must know of the daemon.
#[derive(Debug, Clone)]
pub struct BridgeConfig {
    /// Whose objects these are.
    pub instance: InstanceId,
    /// Existing directory for what the host is to get back, such as settings of the kernel.
    pub state_dir: PathBuf,
    /// Whether others may take our rules away.
    pub protection: TableProtection,
    /// The record of what this process changes, which all backends of the host share.
    pub own_changes: OwnChanges,
}

/// The [`Attacher`] for Linux.
#[derive(Debug)]
pub struct LinuxBridge {
    host: Arc<HostContext>,
    networks: Arc<Mutex<BridgeNetworks>>,
    attachments: Arc<Keyed<AttachmentId>>,
    /// Those who enter containers.
    crew: Crew,
    /// Notices what others change, where somebody wants to hear of it.
    sentinel: Option<Arc<DriftMonitor>>,
}

/// Attaches at the same time: one that the kernel works for, and one that prepares its requests. The kernel makes most of
/// them wait for each other, and those who wait take the processors from everyone else.
const CREW: usize = 2;

impl LinuxBridge {
    /// Opens the calling thread's network namespace and takes stock of what an earlier run left in it. Blocks for some
    /// milliseconds. Needs `CAP_NET_ADMIN` and `CAP_SYS_ADMIN`.
    pub fn new(config: BridgeConfig) -> Result<Self> {
        let host = Arc::new(HostContext::open(config.instance, config.protection, config.own_changes)?);
        let networks = BridgeNetworks::found(host.clone(), &config.state_dir)?;
        let crew = Crew::here(CREW).map_err(error::host)?;
        Ok(Self { host, networks: Arc::new(Mutex::new(networks)), attachments: Arc::default(), crew, sentinel: None })
    }

    /// The same, and from now on `drift` is told of what others change of ours, be it a network, a container interface,
    /// a rule or a device of the overlay, and of containers that end.
    pub fn watching(config: BridgeConfig, drift: DriftSignal) -> Result<Self> {
        let bridge = Self::new(config)?;
        let sentinel = DriftMonitor::start(bridge.host.clone(), bridge.attachments.clone(), drift)?;
        Ok(Self { sentinel: Some(Arc::new(sentinel)), ..bridge })
    }

    /// Lets go of the rules, which stay as they are, so that another process of the same daemon can change them.
    pub async fn let_go(&self) -> Result<()> {
        let host = self.host.clone();
        blocking(move || host.rules().let_go()).await
    }

    /// Waits until the links of detached containers are deleted, which happens a little after each detach.
    pub async fn settle(&self) -> Result<()> {
        let host = self.host.clone();
        blocking(move || host.reaper.finish()).await
    }
}

#[async_trait]
impl Attacher for LinuxBridge {
    fn name(&self) -> &'static str {
        "linux-bridge"
    }

    async fn ensure_network(&self, plan: &NetworkPlan) -> Result<NetworkInfo> {
        let (mut networks, plan) = (self.networks.clone().lock_owned().await, plan.clone());
        blocking(move || networks.ensure(&plan)).await?;
        Ok(NetworkInfo::default())
    }

    async fn remove_network(&self, network: &NetworkName) -> Result<()> {
        let (mut networks, network) = (self.networks.clone().lock_owned().await, network.clone());
        blocking(move || networks.remove(&network)).await
    }

    async fn attach(&self, plan: &AttachPlan) -> Result<Attached> {
        let turn = self.attachments.lock(&plan.id).await;
        let (host, plan, sentinel) = (self.host.clone(), plan.clone(), self.sentinel.clone());
        let (done, attached) = oneshot::channel();
        self.crew.run(move |visitor| {
            let outcome = attach::attach(visitor, &host, &plan).map(|(attached, process)| {
                if let (Some(sentinel), Some(pidfd)) = (sentinel, process) {
                    sentinel.watch_process(&plan.id, pidfd);
                }
                attached
            });
            drop(turn);
            // The caller may have given up.
            drop(done.send(outcome));
        });
        let ended = attached.await;
        ended.map_err(|e| Error::Host { action: "finish an attach".into(), source: e.into() })?
    }

    async fn detach(&self, id: &AttachmentId) -> Result<()> {
        let turn = self.attachments.lock(id).await;
        let (host, id, sentinel) = (self.host.clone(), id.clone(), self.sentinel.clone());
        blocking(move || {
            let _turn = turn;
            if let Some(sentinel) = sentinel {
                sentinel.forget_process(&id);
            }
            detach::detach(&host, &id)
        })
        .await
    }

    async fn observe(&self) -> Result<HostNetworks> {
        let (host, sentinel) = (self.host.clone(), self.sentinel.clone());
        blocking(move || {
            let links = match sentinel {
                Some(sentinel) => sentinel.links()?,
                None => host.rtnl.links().map_err(error::host)?,
            };
            observe::observe(&host, links)
        })
        .await
    }
}

/// Runs work off the executor's threads: the kernel makes requests wait for each other. The work goes on to its end even
/// when the caller gives up; the lock that it carries makes the next call wait for that.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|e| Error::Host { action: "finish a call to the kernel".into(), source: e.into() })?
}
