//! How a successor takes over: the daemon's rules are the only thing here that one process holds and another cannot change.

use async_trait::async_trait;
use overlayd_core::{
    contract::{Handover, HandoverPart, Result},
    sync::run_blocking,
};

use crate::LinuxBridge;

#[async_trait]
impl Handover for LinuxBridge {
    /// Releases the tables, which the next change claims again. They stay as they are, so that packets pass as before and the fences stand.
    async fn prepare(&self) -> Result<Vec<HandoverPart>> {
        // A held table belongs to the netlink socket that made it: closing that socket releases it, and only then can the
        // successor claim it.
        let host = self.host.clone();
        run_blocking("release the nftables tables", move || host.rules().release_tables()).await?;
        Ok(Vec::new())
    }
}
