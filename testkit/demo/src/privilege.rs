//! Makes namespaces possible: as root directly, otherwise as root of a user namespace of its own.

use std::fs;

use anyhow::{Context as _, Result};
use nix::{
    sched::{CloneFlags, unshare},
    unistd::{getegid, geteuid},
};
use rustix::thread::{CapabilitySet, capabilities};

const NEEDS: &str = "the demo builds network namespaces: run it as root, or allow unprivileged user namespaces \
                     (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces, \
                     kernel.apparmor_restrict_unprivileged_userns)";

/// Device of interfaces whose packets a process handles.
const TUN: &str = "/dev/net/tun";

/// With whose rights the demo works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Rights {
    /// Those of the machine's root.
    Root,
    /// Those of root in a user namespace of its own.
    UserNamespace,
}

/// Obtains the rights, or says what is missing. To be called while the process has a single thread.
pub(crate) fn obtain() -> Result<Rights> {
    let needed = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN;
    if capabilities(None)?.effective.contains(needed) {
        return Ok(Rights::Root);
    }
    become_root_of_own_namespace().context(NEEDS)?;
    Ok(Rights::UserNamespace)
}

/// Tries it on a thread of its own, so that this one stays where it is.
fn may_make_networks() -> bool {
    let attempt = std::thread::spawn(|| unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).is_ok());
    attempt.join().unwrap_or(false)
}

fn become_root_of_own_namespace() -> Result<()> {
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER).context("could not make a user namespace")?;
    let map = |file: &str, text: String| fs::write(file, text).with_context(|| format!("could not write {file}"));
    map("/proc/self/setgroups", "deny".into())?;
    map("/proc/self/uid_map", format!("0 {uid} 1"))?;
    map("/proc/self/gid_map", format!("0 {gid} 1"))?;
    anyhow::ensure!(may_make_networks(), "the user namespace may not make networks");
    let tun = fs::File::options().read(true).write(true).open(TUN);
    tun.with_context(|| format!("user {uid} may not open {TUN}, which WireGuard in user space needs"))?;
    Ok(())
}
