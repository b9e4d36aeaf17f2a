use ipnet::IpNet;
use overlayd_core::{contract::DeviceMtu, names::InstanceId};
pub(crate) use overlayd_netlink::device::{LinkPlan, addresses, configure};
use overlayd_netlink::{Link, Result, Rtnl, device};

/// Whether the interface is a device of this instance.
pub(crate) fn is_ours(link: &Link, instance: &InstanceId) -> bool {
    device::is_ours(link, "tun", instance.as_str())
}

/// Puts our mark on a new interface and keeps the kernel from giving it an address of its own.
pub(crate) fn adopt(rtnl: &Rtnl, index: u32, instance: &InstanceId) -> Result<()> {
    rtnl.run_all(device::adopt(index, instance.as_str()))
}

/// The MTU in bytes that the plan asks for, of a device with these addresses.
pub(crate) fn mtu(rtnl: &Rtnl, wanted: DeviceMtu, addresses: &[IpNet]) -> Result<u16> {
    match wanted {
        DeviceMtu::Bytes(bytes) => Ok(bytes),
        DeviceMtu::FromUnderlay => device::underlay_mtu(rtnl, addresses),
    }
}
