//! A daemon replaces itself while it works: the successor, which it starts itself, is given the listening socket and the
//! devices, and only when it serves does the older process end. Whichever of them dies on the way, the other goes on.
//!
//! ```text
//!   older process                                      successor
//!   start ───────────────────────────────────────────▶ reads its settings
//!         ◀─────────────────────────────────── able ── (or why not: nothing has happened)
//!   lets requests end, closes the store
//!         ── listener, devices, go ──────────────────▶ opens the store, catches up with the host, answers
//!         ◀──────────────────────────────── serving ──
//!   hands its devices over, ends ────────────────────▶ is the daemon
//! ```

use anyhow::Result;
use async_trait::async_trait;

mod channel;
mod message;
mod predecessor;
mod successor;

pub(crate) use self::{
    predecessor::{HandoverBundle, PredecessorProcess, refuse},
    successor::SuccessorProcess,
};

/// Set for a successor to the PID of the process that started it; its standard input is then the channel to that one.
/// A value that is not the parent's PID was meant for another process.
const VARIABLE: &str = "OVERLAYD_SUCCEEDS";

/// A backend whose packets go through this process, and how it lets another process carry them.
#[async_trait]
pub(crate) trait Lend: Send + Sync {
    /// Prepares all devices to be taken over; until that happens they work as before.
    async fn lend(&self) -> Result<Vec<LentDevice>>;

    /// Waits until all that was lent is the successor's, or until that one is gone; whether it is the successor's.
    async fn lent(&self) -> Result<bool>;

    /// Takes back what was lent to a successor that is gone.
    async fn reclaim(&self) -> Result<()>;

    /// Takes devices from an older process: each when it is asked for.
    fn inherit(&self, devices: Vec<LentDevice>) -> Result<()>;
}

#[async_trait]
impl Lend for crate::platform::absent_wireguard::AbsentWireGuard {
    async fn lend(&self) -> Result<Vec<LentDevice>> {
        Ok(Vec::new())
    }

    async fn lent(&self) -> Result<bool> {
        Ok(true)
    }

    async fn reclaim(&self) -> Result<()> {
        Ok(())
    }

    fn inherit(&self, devices: Vec<LentDevice>) -> Result<()> {
        anyhow::ensure!(devices.is_empty(), "this binary has no userspace WireGuard (feature userspace-wg)");
        Ok(())
    }
}

/// Descriptors of one device in user space on their way to a successor; what they are is the backend's affair.
#[derive(Debug)]
pub(crate) struct LentDevice {
    /// Name of the interface.
    pub(crate) name: String,
    /// In the backend's order.
    pub(crate) descriptors: Vec<std::os::fd::OwnedFd>,
}
