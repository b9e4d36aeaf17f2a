use std::{
    io,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use tokio::net::UnixStream;

use super::{Client, ClientOptions, Connector, Stream};

/// Reaches a daemon through its Unix socket.
#[derive(Debug, Clone)]
pub struct UnixConnector(pub PathBuf);

#[async_trait]
impl Connector for UnixConnector {
    fn endpoint(&self) -> String {
        self.0.display().to_string()
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(UnixStream::connect(&self.0).await?))
    }
}

impl Client {
    /// A client of the daemon at this Unix socket.
    pub fn unix(socket: &Path, options: ClientOptions) -> Self {
        Self::new(UnixConnector(socket.to_owned()), options)
    }
}
