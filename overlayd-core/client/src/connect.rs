use std::{io, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{ClientError, ClientResult};

/// Pause after the first failed try to connect; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Reaches a daemon: one per platform and kind of endpoint.
#[async_trait]
pub trait Connector: Send + Sync + 'static {
    /// The daemon's end, for messages.
    fn endpoint(&self) -> String;

    /// Tries once.
    async fn connect(&self) -> io::Result<Box<dyn Stream>>;
}

/// Tries up to `attempts` times, and at least once.
pub(super) async fn with_patience(connector: &dyn Connector, attempts: u32) -> ClientResult<Box<dyn Stream>> {
    let attempts = attempts.max(1);
    let mut pause = FIRST_PAUSE;
    let mut tried = 1;
    loop {
        match connector.connect().await {
            Ok(stream) => return Ok(stream),
            Err(error) if tried == attempts => {
                let endpoint = connector.endpoint();
                return Err(ClientError::Unreachable { endpoint, attempts, source: Arc::new(error) });
            }
            Err(error) => tracing::debug!(%error, tried, attempts, "could not connect yet"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
        tried += 1;
    }
}
