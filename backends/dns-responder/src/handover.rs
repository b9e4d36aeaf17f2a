//! How a successor takes over: it binds the same addresses itself, so this process has to have closed its sockets by then.

use async_trait::async_trait;
use overlayd_core::contract::{Dns as _, Handover, HandoverPart, Result};

use crate::DnsResponder;

#[async_trait]
impl Handover for DnsResponder {
    /// Closes the sockets; if the successor is gone, the engine that is started again binds them. Clients repeat a query that is lost (RFC 1035, section 7.2), and the successor answers it.
    async fn prepare(&self) -> Result<Vec<HandoverPart>> {
        self.clear().await?;
        Ok(Vec::new())
    }
}
