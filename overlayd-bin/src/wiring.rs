//! Which backends the daemon uses: the one file that mentions backend features. Features say what is in the binary,
//! settings say what is used.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result, bail};
use overlayd_core::{
    contract::{Attacher, OverlayBackend},
    engine::Backends,
    names::InstanceId,
};
use overlayd_dns_responder::DnsResponder;

use crate::{absent::Absent, cli::args::WireGuardChoice, settings::Settings};

/// What the backends need to know of this daemon.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    /// Whose objects on the host are ours.
    pub(crate) instance: InstanceId,
    /// Existing directory for what must outlive the process.
    pub(crate) state_dir: PathBuf,
    /// Directory of the control sockets of devices in user space.
    pub(crate) control_dir: PathBuf,
}

/// The backends for these settings.
pub(crate) fn backends(settings: &Settings, surroundings: &Surroundings) -> Result<Backends> {
    let overlay = overlay(settings.wireguard, surroundings)?;
    let attacher = attacher(surroundings)?;
    let control_dir = surroundings.control_dir.display();
    tracing::info!(wireguard = overlay.name(), attacher = attacher.name(), %control_dir, "backends chosen");
    let dns = Arc::new(DnsResponder::new());
    Ok(Backends { overlay, attacher, dns: Some(dns), nat: None })
}

fn overlay(choice: WireGuardChoice, surroundings: &Surroundings) -> Result<Arc<dyn OverlayBackend>> {
    match (choice, userspace(surroundings)) {
        (WireGuardChoice::Kernel, _) => bail!("this binary has no kernel WireGuard: choose `userspace` or `auto`"),
        (WireGuardChoice::Userspace, None) => bail!("this binary has no userspace WireGuard: choose `auto`"),
        (WireGuardChoice::Auto | WireGuardChoice::Userspace, Some(backend)) => Ok(backend),
        (WireGuardChoice::Auto, None) => {
            tracing::warn!("this binary has no WireGuard at all: whatever needs a device is refused");
            Ok(Arc::new(Absent))
        }
    }
}

fn attacher(surroundings: &Surroundings) -> Result<Arc<dyn Attacher>> {
    use overlayd_linux_bridge::{Config, LinuxBridge};
    let Surroundings { instance, state_dir, .. } = surroundings.clone();
    let bridge = LinuxBridge::new(Config { instance, state_dir }).context("could not take up the host's network")?;
    Ok(Arc::new(bridge))
}

/// WireGuard in user space. Its interfaces outlive the process: what containers send between two runs is dropped
/// there and goes nowhere else.
#[cfg(feature = "userspace-wg")]
fn userspace(surroundings: &Surroundings) -> Option<Arc<dyn OverlayBackend>> {
    use overlayd_userspace_wg::{AtExit, Config, UserspaceWg};
    let Surroundings { instance, control_dir, .. } = surroundings.clone();
    let config = Config { uapi_dir: control_dir, at_exit: AtExit::Persist, ..Config::new(instance) };
    Some(Arc::new(UserspaceWg::new(config)))
}

#[cfg(not(feature = "userspace-wg"))]
fn userspace(_: &Surroundings) -> Option<Arc<dyn OverlayBackend>> {
    None
}
