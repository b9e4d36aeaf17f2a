//! How a successor takes over: it binds the same addresses itself, so this process has to have closed its sockets by then.

use async_trait::async_trait;
use overlayd_core::contract::{Dns as _, Error, Handover, HandoverOutcome, HandoverPart, Result};

use crate::DnsResponder;

#[async_trait]
impl Handover for DnsResponder {
    /// Closes the sockets. Clients repeat a query that is lost (RFC 1035, section 7.2), and the successor answers it.
    async fn prepare(&self) -> Result<Vec<HandoverPart>> {
        self.clear().await?;
        Ok(Vec::new())
    }

    async fn complete(&self) -> Result<HandoverOutcome> {
        // Nothing was handed over that a successor could be slow to take.
        Ok(HandoverOutcome::Done)
    }

    async fn abort(&self) -> Result<()> {
        // The engine that is started again applies its plan, which binds the sockets.
        Ok(())
    }

    async fn inherit(&self, parts: Vec<HandoverPart>) -> Result<()> {
        match parts.first() {
            None => Ok(()),
            Some(part) => {
                let name = &part.name;
                Err(Error::Invalid(format!(
                    "dns-responder inherits nothing from an older process, and was given `{name}`"
                )))
            }
        }
    }
}
