//! Which backends the daemon uses: the one file that mentions backend features. Features say what is in the binary,
//! settings say what is used.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result, bail};
use overlayd_core::{
    contract::{Attacher, DriftSignal, OverlayBackend},
    engine::Backends,
    names::InstanceId,
};
use overlayd_dns_responder::DnsResponder;
use overlayd_linux_bridge::{BridgeConfig, LinuxBridge, TableProtection};
use overlayd_nat_traversal::NatTraversal;
use overlayd_netlink::OwnChanges;

use crate::{
    options::WireGuardChoice,
    platform::absent_wireguard::AbsentWireGuard,
    settings::{RulesetOwnership, Settings},
};

/// What the backends need to know of this daemon.
#[derive(Debug, Clone)]
pub(crate) struct BackendContext {
    /// Whose objects on the host are ours.
    pub(crate) instance: InstanceId,
    /// Existing directory for what must outlive the process.
    pub(crate) state_dir: PathBuf,
    /// Directory of the control sockets of devices in user space.
    pub(crate) control_dir: PathBuf,
    /// Firewall mark of the encrypted packets; `None` leaves what is there.
    #[cfg_attr(
        not(any(feature = "userspace-wg", feature = "kernel-wg")),
        expect(dead_code, reason = "without WireGuard there are no encrypted packets")
    )]
    pub(crate) fwmark: Option<u32>,
    /// Where the runtime directories of network managers are; `None` where they are not to be told of the overlay.
    pub(crate) managers: Option<PathBuf>,
}

/// What all backends of a daemon share, so that a change made by one of them is not taken for drift by another.
#[derive(Debug, Clone, Default)]
struct ChangeSignals {
    /// Told of a change that another program made.
    drift: DriftSignal,
    /// The changes that this process made itself.
    own_changes: OwnChanges,
}

/// The backends for these settings.
pub(crate) fn choose_all(settings: &Settings, context: &BackendContext) -> Result<Backends> {
    let signals = ChangeSignals::default();
    let overlay = overlay(settings.wireguard, context, &signals)?;
    let attacher = attacher(settings.rules, context, &signals)?;
    let control_dir = context.control_dir.display();
    let managers = context.managers.is_some();
    tracing::info!(wireguard = overlay.name(), attacher = attacher.name(), %control_dir, managers, "backends chosen");
    let dns = Some(Arc::new(DnsResponder::new()) as _);
    let nat = Some(Arc::new(NatTraversal) as _);
    Ok(Backends { overlay, attacher, dns, nat, drift: signals.drift })
}

fn overlay(
    choice: WireGuardChoice,
    context: &BackendContext,
    signals: &ChangeSignals,
) -> Result<Arc<dyn OverlayBackend>> {
    let kernel = match choice {
        WireGuardChoice::Userspace => Err("it was not asked for".to_owned()),
        WireGuardChoice::Auto | WireGuardChoice::Kernel => kernel(context, signals),
    };
    choose(choice, kernel, userspace(context, signals))
}

/// The kernel's WireGuard, or why this binary on this host has none.
type KernelWireGuard = Result<Arc<dyn OverlayBackend>, String>;

fn choose(
    choice: WireGuardChoice,
    kernel: KernelWireGuard,
    userspace: Option<Arc<dyn OverlayBackend>>,
) -> Result<Arc<dyn OverlayBackend>> {
    match (choice, kernel, userspace) {
        (WireGuardChoice::Kernel | WireGuardChoice::Auto, Ok(backend), _) => Ok(backend),
        (WireGuardChoice::Kernel, Err(why), _) => {
            bail!("`wireguard = kernel` is set, but there is none: {why}; choose `userspace` or `auto`")
        }
        (WireGuardChoice::Userspace, _, None) => {
            bail!("this binary has no userspace WireGuard (feature userspace-wg): choose `auto`")
        }
        (WireGuardChoice::Userspace, _, Some(backend)) => Ok(backend),
        (WireGuardChoice::Auto, Err(why), Some(backend)) => {
            tracing::info!(%why, "no WireGuard in the kernel: packets go through this process");
            Ok(backend)
        }
        (WireGuardChoice::Auto, _, None) => {
            tracing::warn!(
                "there is no WireGuard in this binary, and none in the kernel: requests that need a device are refused"
            );
            Ok(Arc::new(AbsentWireGuard))
        }
    }
}

fn attacher(rules: RulesetOwnership, context: &BackendContext, signals: &ChangeSignals) -> Result<Arc<dyn Attacher>> {
    let BackendContext { instance, state_dir, .. } = context.clone();
    let protection = match rules {
        RulesetOwnership::Held => TableProtection::Held,
        RulesetOwnership::Common => TableProtection::None,
    };
    let ChangeSignals { drift, own_changes } = signals.clone();
    let bridge = LinuxBridge::watching(BridgeConfig { instance, state_dir, protection, own_changes }, drift);
    let bridge = bridge.context("could not take up the host's network")?;
    Ok(Arc::new(bridge))
}

/// WireGuard in user space. Its interfaces outlive the process: what containers send between two runs is dropped
/// there and goes nowhere else.
#[cfg(feature = "userspace-wg")]
fn userspace(context: &BackendContext, signals: &ChangeSignals) -> Option<Arc<dyn OverlayBackend>> {
    use overlayd_userspace_wg::{AtExit, Config, UserspaceWg};
    let BackendContext { instance, control_dir, managers, fwmark, .. } = context.clone();
    let managers = managers.map(overlayd_netlink::NetworkManagers::below);
    let config = Config { uapi_dir: control_dir, at_exit: AtExit::Persist, managers, fwmark, ..Config::new(instance) };
    let ChangeSignals { drift, own_changes } = signals.clone();
    let config = Config { drift, own_changes, ..config };
    Some(Arc::new(UserspaceWg::new(config)))
}

#[cfg(not(feature = "userspace-wg"))]
fn userspace(_: &BackendContext, _: &ChangeSignals) -> Option<Arc<dyn OverlayBackend>> {
    None
}

/// WireGuard in the kernel.
#[cfg(feature = "kernel-wg")]
fn kernel(context: &BackendContext, signals: &ChangeSignals) -> KernelWireGuard {
    use overlayd_kernel_wg::{Config, KernelWg};
    match overlayd_kernel_wg::probe() {
        Ok(overlayd_kernel_wg::KernelSupport::HasWireGuard) => {
            let BackendContext { instance, managers, fwmark, .. } = context.clone();
            let managers = managers.map(overlayd_netlink::NetworkManagers::below);
            let own_changes = signals.own_changes.clone();
            Ok(Arc::new(KernelWg::new(Config { managers, fwmark, own_changes, ..Config::new(instance) })))
        }
        Ok(overlayd_kernel_wg::KernelSupport::HasNone(why)) => Err(format!("{why}; is the module loaded?")),
        Err(error) => Err(format!("the kernel could not be asked: {error}")),
    }
}

#[cfg(not(feature = "kernel-wg"))]
fn kernel(_: &BackendContext, _: &ChangeSignals) -> KernelWireGuard {
    Err("this binary is built without it (feature kernel-wg)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stands for a backend; only its presence matters.
    fn some() -> Arc<dyn OverlayBackend> {
        Arc::new(AbsentWireGuard)
    }

    fn absent() -> KernelWireGuard {
        Err("not supported".to_owned())
    }

    #[test]
    fn auto_takes_the_kernel_where_it_is_there() {
        let (kernel, userspace) = (some(), some());
        let chosen = choose(WireGuardChoice::Auto, Ok(kernel.clone()), Some(userspace)).unwrap();
        assert!(Arc::ptr_eq(&chosen, &kernel));
    }

    #[test]
    fn auto_takes_user_space_where_the_kernel_has_none() {
        let userspace = some();
        let chosen = choose(WireGuardChoice::Auto, absent(), Some(userspace.clone())).unwrap();
        assert!(Arc::ptr_eq(&chosen, &userspace));
    }

    #[test]
    fn forcing_what_is_absent_says_what_is_missing() {
        let error = |choice, kernel, userspace| choose(choice, kernel, userspace).err().unwrap().to_string();
        assert!(error(WireGuardChoice::Kernel, absent(), Some(some())).contains("not supported"));
        assert!(error(WireGuardChoice::Userspace, absent(), None).contains("feature userspace-wg"));
    }
}
