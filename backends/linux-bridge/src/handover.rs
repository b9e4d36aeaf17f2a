//! How a successor takes over: the daemon's rules are the only thing here that one process holds and another cannot change.

use async_trait::async_trait;
use overlayd_core::{
    contract::{Error, Handover, HandoverOutcome, HandoverPart, Result},
    sync::run_blocking,
};

use crate::LinuxBridge;

#[async_trait]
impl Handover for LinuxBridge {
    /// Releases the tables. They stay as they are, so that packets pass as before and the fences stand.
    async fn prepare(&self) -> Result<Vec<HandoverPart>> {
        // A held table belongs to the netlink socket that made it: closing that socket releases it, and only then can the
        // successor claim it.
        let host = self.host.clone();
        run_blocking("release the nftables tables", move || host.rules().release_tables()).await?;
        Ok(Vec::new())
    }

    async fn complete(&self) -> Result<HandoverOutcome> {
        // The successor claims the tables when it opens them; there is nothing to wait for.
        Ok(HandoverOutcome::Done)
    }

    async fn abort(&self) -> Result<()> {
        // The next change of this process claims the tables again.
        Ok(())
    }

    async fn inherit(&self, parts: Vec<HandoverPart>) -> Result<()> {
        match parts.first() {
            None => Ok(()),
            Some(part) => Err(Error::Invalid(format!(
                "linux-bridge inherits nothing from an earlier process, and was given `{}`",
                part.name
            ))),
        }
    }
}
