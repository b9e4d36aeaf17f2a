//! The interfaces of the host, their addresses and routes: what a device needs beyond its packets.

use ipnet::IpNet;
use overlayd_core::{
    contract::{DevicePlan, Error, Result},
    names::{InstanceId, LinkName},
};
pub(crate) use overlayd_netlink::device::LinkPlan;
use overlayd_netlink::{Link, NetworkManagers, OrAbsent, OwnChanges, Rtnl, device, link, steps};

/// An interface as it was found.
pub(crate) struct Interface(Link);

/// The interfaces of the host, in the network namespace of the calling thread.
pub(crate) struct HostInterfaces {
    rtnl: Rtnl,
}

impl Interface {
    /// Number of the interface, which no other one gets while it exists.
    pub(crate) fn index(&self) -> u32 {
        self.0.index
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    /// Largest packet in bytes.
    pub(crate) fn mtu(&self) -> u16 {
        u16::try_from(self.0.mtu).unwrap_or(u16::MAX)
    }

    /// Whether it is a device of this instance.
    pub(crate) fn is_ours(&self, instance: &InstanceId) -> bool {
        device::is_ours(&self.0, "tun", instance.as_str())
    }

    /// Why a device of this name cannot be made.
    pub(crate) fn conflict(&self) -> Error {
        device::name_taken(&self.0)
    }
}

impl HostInterfaces {
    /// Those of the network namespace of the calling thread.
    pub(crate) fn here(own_changes: &OwnChanges) -> Result<Self> {
        // Noted as changes of this process, so that the watch of the host does not report them as drift.
        Ok(Self { rtnl: Rtnl::noting(own_changes.clone())? })
    }

    /// The interface of this name.
    pub(crate) fn named(&self, name: &LinkName) -> Result<Option<Interface>> {
        Ok(self.rtnl.link(name.as_str())?.map(Interface))
    }

    /// The interface of this number.
    pub(crate) fn numbered(&self, index: u32) -> Result<Option<Interface>> {
        Ok(self.rtnl.link(index)?.map(Interface))
    }

    /// All TUN interfaces.
    pub(crate) fn tunnels(&self) -> Result<Vec<Interface>> {
        Ok(self.rtnl.links_of("tun")?.into_iter().map(Interface).collect())
    }

    /// Addresses of the interface, without those that the kernel gave it; none when it is gone.
    pub(crate) fn addresses(&self, interface: &Interface) -> Result<Vec<IpNet>> {
        // Gone between the list and this question: reported without addresses, and missing in the next look.
        let found = device::addresses(&self.rtnl, interface.index()).or_absent()?;
        Ok(found.unwrap_or_default())
    }

    /// Puts the mark of this instance on a new interface, and keeps the kernel from giving it an address of its own.
    pub(crate) fn mark(&self, interface: &Interface, instance: &InstanceId) -> Result<()> {
        Ok(self.rtnl.run_all(device::adopt(interface.index(), instance.as_str()))?)
    }

    /// Gives the interface the addresses, routes and MTU of the plan.
    pub(crate) fn configure(&self, interface: &Interface, plan: &LinkPlan<'_>) -> Result<()> {
        device::configure(&self.rtnl, &interface.0, plan).map_err(configure_error)
    }

    /// Deletes the interface, if it is there.
    pub(crate) fn delete(&self, interface: &Interface) -> Result<()> {
        self.rtnl.run(link::delete(interface.index())).or_absent()?;
        Ok(())
    }

    /// The MTU in bytes that the plan asks for.
    pub(crate) fn mtu(&self, plan: &DevicePlan) -> Result<u16> {
        device::mtu(&self.rtnl, plan.mtu, &plan.addresses)
    }

    /// Refuses a plan whose routes would cut this host off from its own network.
    pub(crate) fn check_overlaps(&self, plan: &DevicePlan) -> Result<()> {
        // Looked at before anything is made: a route that takes the underlay's place would cut this host off at once.
        device::check_overlaps(&self.rtnl, plan.name.as_str(), &plan.addresses, &plan.routes)
    }

    /// Gives the network managers their interfaces back, where no device is left.
    pub(crate) fn release(&self, managers: Option<&NetworkManagers>) {
        if let Some(managers) = managers {
            managers.release(&self.rtnl);
        }
    }
}

/// Notes that a step is done, for tests that end the process there.
pub(crate) fn step_done(step: &'static str) {
    steps::done(step);
}

/// Addresses and routes of this instance were looked for before they were added, so what exists is another program's.
fn configure_error(error: overlayd_netlink::Error) -> Error {
    if !error.is_present() {
        return error.into();
    }
    let (action, _) = error.into_parts();
    let what = action.strip_prefix("add ").unwrap_or(&action).to_owned();
    Error::Conflict { what, by: "another program on this host".to_owned() }
}
