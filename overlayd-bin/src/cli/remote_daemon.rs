//! The daemon as the command line reaches it.

use std::{path::PathBuf, time::Duration};

use overlayd_client::{Client, ClientError, ClientOptions};
use overlayd_core::protocol::{Request, Response};

use super::failure::CommandFailure;
use crate::options::DaemonLocation;

/// Longest wait for a reply: longer than any deadline of a daemon with usual settings.
const PATIENCE: Duration = Duration::from_secs(120);

/// A daemon to talk to.
pub(crate) struct RemoteDaemon {
    client: Client,
    socket: PathBuf,
}

impl RemoteDaemon {
    /// The daemon at `socket`, which is there or is not.
    fn at(socket: PathBuf) -> Self {
        Self { client: Client::unix(&socket, ClientOptions::default().attempts(1).timeout(PATIENCE)), socket }
    }

    /// Asks one thing; a refusal is a reply as any other.
    pub(crate) async fn ask(&self, request: Request) -> Result<Response, CommandFailure> {
        match self.client.call(request).await {
            Ok(reply) => Ok(reply),
            // Printed by `call` as the reply it is.
            Err(ClientError::Refused { message, code }) => Ok(Response::Err { message, code }),
            Err(ClientError::Unreachable { source, .. }) => {
                Err(CommandFailure::NoDaemon { socket: self.socket.clone(), reason: source.to_string() })
            }
            Err(error) => Err(CommandFailure::Other(error.into())),
        }
    }
}

/// Asks the daemon at `place` one thing.
pub(super) fn ask_once(location: &DaemonLocation, request: Request) -> Result<Response, CommandFailure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?;
    runtime.block_on(RemoteDaemon::at(location.socket()).ask(request))
}
