//! What the demo measures with, all in this process: a thread steps into the network of another process and opens its
//! sockets there.

pub(super) mod capture;
pub(super) mod ping;
pub(super) mod tcp;

use std::{fs::File, os::fd::AsFd as _, thread};

use anyhow::{Context as _, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Work going on in another network.
pub(super) struct Within<T>(thread::JoinHandle<Result<T>>);

impl<T> Within<T> {
    /// What the work came to.
    pub(super) fn join(self) -> Result<T> {
        self.0.join().map_err(|_| anyhow!("a probe panicked"))?
    }
}

/// Does `work` on a thread of its own inside the network of process `pid`.
pub(super) fn within<T: Send + 'static>(pid: u32, work: impl FnOnce() -> Result<T> + Send + 'static) -> Within<T> {
    Within(thread::spawn(move || {
        enter(pid).with_context(|| format!("could not enter the network of process {pid}"))?;
        work()
    }))
}

/// Does `work` like [`within`], and waits for it without holding up the runtime.
pub(super) async fn inside<T: Send + 'static>(
    pid: u32,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(move || within(pid, work).join()).await?
}

fn enter(pid: u32) -> Result<()> {
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(())
}
