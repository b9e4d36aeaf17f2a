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
mod forwarding;
mod handover;
mod host;
mod inside;
mod interfaces;
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
        AttachPlan, Attached, Attacher, AttachmentId, DriftSignal, Error, Handover, HostNetworks, NetworkInfo,
        NetworkName, NetworkPlan, Result,
    },
    names::InstanceId,
    sync::{KeyedLocks, run_blocking},
};
use overlayd_netlink::{NetnsPool, OwnChanges};
use tokio::sync::{Mutex, oneshot};

pub use crate::rules::TableProtection;
use crate::{drift::DriftMonitor, host::HostContext, network::BridgeNetworks};

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

/// What blocking work of this crate does, for errors.
const ACTION: &str = "finish a call to the kernel";

/// The [`Attacher`] for Linux.
#[derive(Debug)]
pub struct LinuxBridge {
    host: Arc<HostContext>,
    networks: Arc<Mutex<BridgeNetworks>>,
    attachments: Arc<KeyedLocks<AttachmentId>>,
    /// Threads that enter the namespaces of containers.
    pool: NetnsPool,
    /// Reports what other programs change; `None` for a backend that was made without a drift signal.
    monitor: Option<Arc<DriftMonitor>>,
}

/// How many attaches run at the same time. The kernel serialises most of their work under the RTNL lock, so that more than
/// one that waits there and one that prepares its requests would only take processor time from other work.
const POOL_SIZE: usize = 2;

impl LinuxBridge {
    /// Opens the calling thread's network namespace and takes stock of what an earlier run left in it. Blocks for some
    /// milliseconds. Needs `CAP_NET_ADMIN` and `CAP_SYS_ADMIN`.
    pub fn new(config: BridgeConfig) -> Result<Self> {
        let host = Arc::new(HostContext::open(config.instance, config.protection, config.own_changes)?);
        let networks = BridgeNetworks::found(host.clone(), &config.state_dir)?;
        let pool = NetnsPool::here(POOL_SIZE)?;
        Ok(Self { host, networks: Arc::new(Mutex::new(networks)), attachments: Arc::default(), pool, monitor: None })
    }

    /// As [`LinuxBridge::new`], and reports to `drift` what other programs change: a network, a container interface, a
    /// rule or a device of the overlay. It also reports containers that end.
    pub fn watching(config: BridgeConfig, drift: DriftSignal) -> Result<Self> {
        let bridge = Self::new(config)?;
        let monitor = DriftMonitor::start(bridge.host.clone(), bridge.attachments.clone(), drift)?;
        Ok(Self { monitor: Some(Arc::new(monitor)), ..bridge })
    }

    /// Waits until the links of detached containers are deleted, which happens a little after each detach.
    pub async fn settle(&self) -> Result<()> {
        let host = self.host.clone();
        run_blocking(ACTION, move || host.reaper.finish()).await
    }
}

#[async_trait]
impl Attacher for LinuxBridge {
    fn name(&self) -> &'static str {
        "linux-bridge"
    }

    async fn ensure_network(&self, plan: &NetworkPlan) -> Result<NetworkInfo> {
        let mut networks = self.networks.clone().lock_owned().await;
        let plan = plan.clone();
        run_blocking(ACTION, move || networks.ensure(&plan)).await?;
        Ok(NetworkInfo::default())
    }

    async fn remove_network(&self, network: &NetworkName) -> Result<()> {
        let mut networks = self.networks.clone().lock_owned().await;
        let network = network.clone();
        run_blocking(ACTION, move || networks.remove(&network)).await
    }

    async fn attach(&self, plan: &AttachPlan) -> Result<Attached> {
        let guard = self.attachments.exclusive(plan.id.clone()).await;
        let host = self.host.clone();
        let monitor = self.monitor.clone();
        let plan = plan.clone();
        let (done, attached) = oneshot::channel();
        self.pool.run(move |worker| {
            let outcome = attach::attach(worker, &host, &plan).map(|(attached, process)| {
                if let (Some(monitor), Some(pidfd)) = (monitor, process) {
                    monitor.watch_process(&plan.id, pidfd);
                }
                attached
            });
            drop(guard);
            // A caller that gave up has dropped the other end; the attach is complete all the same.
            drop(done.send(outcome));
        });
        let ended = attached.await;
        ended.map_err(|e| Error::Host { action: "finish an attach".into(), source: e.into() })?
    }

    async fn detach(&self, id: &AttachmentId) -> Result<()> {
        let guard = self.attachments.exclusive(id.clone()).await;
        let host = self.host.clone();
        let monitor = self.monitor.clone();
        let id = id.clone();
        run_blocking(ACTION, move || {
            let _guard = guard;
            if let Some(monitor) = monitor {
                monitor.forget_process(&id);
            }
            detach::detach(&host, &id)
        })
        .await
    }

    fn handover(&self) -> Option<&dyn Handover> {
        Some(self)
    }

    async fn observe(&self) -> Result<HostNetworks> {
        let host = self.host.clone();
        let monitor = self.monitor.clone();
        run_blocking(ACTION, move || {
            let links = match monitor {
                Some(monitor) => monitor.links()?,
                None => host.rtnl.links()?,
            };
            observe::observe(&host, links)
        })
        .await
    }
}
