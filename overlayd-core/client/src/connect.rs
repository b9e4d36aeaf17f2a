//! Reaching the daemon: how a connection is made, and how often it is tried.

use std::{io, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{ClientError, ClientResult};

/// Pause after the first failed try to connect; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// Bytes both ways.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Reaches a daemon: one per platform and kind of endpoint.
#[async_trait]
pub trait Connector: Send + Sync + 'static {
    /// The daemon's end, for messages.
    fn endpoint(&self) -> String;

    /// Who may use the endpoint and what a user can do who may not, as one clause. Asked when connecting was denied.
    fn access(&self) -> Option<String> {
        None
    }

    /// Tries once.
    async fn connect(&self) -> io::Result<Box<dyn ByteStream>>;
}

/// Tries up to `attempts` times, and at least once.
pub(super) async fn connect_with_retries(
    connector: &dyn Connector,
    attempts: u32,
) -> ClientResult<Box<dyn ByteStream>> {
    let attempts = attempts.max(1);
    let mut pause = FIRST_PAUSE;
    let mut tried = 1;
    loop {
        match connector.connect().await {
            Ok(stream) => return Ok(stream),
            Err(error) if tried == attempts => return Err(not_connected(connector, attempts, error)),
            // A denied try is repeated as well: a daemon that starts sets the group of its socket after it has made it.
            Err(error) => tracing::debug!(%error, tried, attempts, "could not connect yet"),
        }
        // The published pauses: a daemon that was started a moment ago is found soon, and a host that has none is not
        // kept busy.
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
        tried += 1;
    }
}

/// The error of the last try.
fn not_connected(connector: &dyn Connector, attempts: u32, error: io::Error) -> ClientError {
    let endpoint = connector.endpoint();
    if error.kind() == io::ErrorKind::PermissionDenied {
        let access = connector.access().unwrap_or_else(|| "the system denies it".into());
        return ClientError::NotPermitted { endpoint, access, source: Arc::new(error) };
    }
    ClientError::Unreachable { endpoint, attempts, source: Arc::new(error) }
}
