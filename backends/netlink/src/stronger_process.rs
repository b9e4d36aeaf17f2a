//! Opening a process's network namespace where looking into the process is forbidden.
//!
//! `/proc/PID/ns/net` and pidfds open for those who may trace the process (`ptrace(2)`, access mode
//! `PTRACE_MODE_READ`), which without `CAP_SYS_PTRACE` means: who has every capability that it has. The routing
//! interface asks for less: with `CAP_NET_ADMIN` over the namespace a link may be moved there by PID. So a TUN device,
//! which is never brought up, is moved there, and then tells where it is (`TUNGETDEVNETNS`). It ends with its descriptor.

use std::{fs::File, os::fd::OwnedFd};

use crate::{Error, Netns, Result, Rtnl, link, netns::ffi};

/// Opens the network namespace of the process with this PID. It takes the kernel a grace period, some milliseconds.
fn open(pid: u32) -> Result<OwnedFd> {
    let failed = |error: std::io::Error| Error::new(format!("reach the network namespace of process {pid}"), error);
    let tun = File::options().read(true).write(true).open("/dev/net/tun").map_err(failed)?;
    let name = ffi::create_tun(&tun).map_err(|error| failed(error.into()))?;
    let request = link::change(name.as_str()).into_netns_of(pid).request();
    Rtnl::here()?.run(request.named(format!("enter the network namespace of process {pid}")))?;
    ffi::namespace_of_tun(&tun).map_err(|error| failed(error.into()))
}

impl Netns {
    /// That of the process with this PID, also where [`Netns::of_process`] is denied because the process has
    /// capabilities that the caller has not. Takes some milliseconds. The caller has to see afterwards, by a
    /// pidfd, that the process still lived: then it was not another one's.
    pub fn of_stronger_process(pid: u32) -> Result<Self> {
        Self::new("take a network namespace over", open(pid)?)
    }
}
