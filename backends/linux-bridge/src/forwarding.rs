//! Makes the host pass packets on between interfaces, no further than needed, and stop when no network needs it.
//!
//! IPv4 has one switch, `ip_forward`. IPv6 asks the interface by which a packet arrives (`force_forwarding`, kernel 6.17)
//! or else one switch, `conf/all/forwarding`, which also makes the host a router that ignores router advertisements on
//! every interface; that side effect is taken back for each of them.

use overlayd_core::contract;
use overlayd_netlink::{Netns, OrAbsent, sysctl};

use crate::settings::HostSettings;

/// How the kernel is told to pass IPv6 packets on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ipv6Switch {
    /// For packets that arrive by single interfaces.
    PerInterface,
    /// For all.
    Global,
}

impl Ipv6Switch {
    /// What this kernel has.
    pub(crate) fn of_kernel(settings: &HostSettings) -> contract::Result<Self> {
        let present = settings.read("ipv6/conf/all/force_forwarding")?.is_some();
        Ok(if present { Self::PerInterface } else { Self::Global })
    }
}

/// Passes IPv4 packets on.
pub(crate) fn hold_ipv4(settings: &mut HostSettings) -> contract::Result<()> {
    const SWITCH: &str = "ipv4/ip_forward";
    if !settings.is_held(SWITCH) && settings.read(SWITCH)?.as_deref() == Some("0") {
        // Turning the switch off again turns off each interface, so those that were on by themselves are noted.
        for interface in settings.interfaces("ipv4")? {
            let own = format!("ipv4/conf/{interface}/forwarding");
            if settings.read(&own)?.as_deref() == Some("1") {
                settings.keep(&own)?;
            }
        }
    }
    settings.hold(SWITCH, "1")
}

/// Passes on IPv6 packets that arrive by these interfaces of others, as an uplink; those that do not exist are left out.
pub(crate) fn hold_ipv6(settings: &mut HostSettings, switch: Ipv6Switch, arriving: &[String]) -> contract::Result<()> {
    match switch {
        Ipv6Switch::PerInterface => {
            for interface in arriving {
                settings.hold(&force_forwarding(interface), "1")?;
            }
            Ok(())
        }
        Ipv6Switch::Global => hold_all_ipv6(settings),
    }
}

/// Passes on IPv6 packets that arrive by an interface of this instance, for as long as it exists.
pub(crate) fn pass_from(settings: &HostSettings, switch: Ipv6Switch, interface: &str) -> contract::Result<()> {
    match switch {
        Ipv6Switch::PerInterface => settings.write(&force_forwarding(interface), "1"),
        Ipv6Switch::Global => Ok(()),
    }
}

/// Passes on IPv6 packets that arrive by the host's end of a container interface, for as long as it exists. Kernels with
/// the global switch have it on, or nothing.
pub(crate) fn pass_from_leg(netns: &Netns, interface: &str) -> contract::Result<()> {
    sysctl::write(netns, &force_forwarding(interface), "1").or_absent()?;
    Ok(())
}

/// The setting by which packets that arrive by this interface are passed on.
pub(crate) fn force_forwarding(interface: &str) -> String {
    format!("ipv6/conf/{interface}/force_forwarding")
}

fn hold_all_ipv6(settings: &mut HostSettings) -> contract::Result<()> {
    const SWITCH: &str = "ipv6/conf/all/forwarding";
    if settings.read(SWITCH)?.as_deref() != Some("0") {
        return Ok(());
    }
    let mut others = settings.interfaces("ipv6")?;
    others.push("default".into());
    let mut hosts = Vec::new();
    for interface in others {
        let (own, advertised) =
            (format!("ipv6/conf/{interface}/forwarding"), format!("ipv6/conf/{interface}/accept_ra"));
        match settings.read(&own)?.as_deref() {
            Some("0") => hosts.push(own),
            _ => settings.keep(&own)?,
        }
        // 2 accepts router advertisements even on a router: none is lost while the switch turns everything around.
        if settings.read(&advertised)?.as_deref() == Some("1") {
            settings.hold(&advertised, "2")?;
        }
    }
    settings.hold(SWITCH, "1")?;
    hosts.iter().try_for_each(|own| settings.write(own, "0"))
}

#[cfg(test)]
#[path = "forwarding_tests.rs"]
mod tests;
