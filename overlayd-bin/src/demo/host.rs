//! A host of the lab, as an orchestrator sees it: a socket to ask at.

use std::{
    net::Ipv4Addr,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail};
use overlayd_core::protocol::{Request, Response, StatusSnapshot};

use super::{lab::Lab, show::Show};
use crate::cli::{remote::Remote, tables};

/// Longest wait for news of a daemon.
const PATIENCE: Duration = Duration::from_secs(30);

/// A host and its daemon.
pub(super) struct Host {
    /// Its name in the story.
    pub(super) name: &'static str,
    /// Its address on the network between the hosts.
    pub(super) address: Ipv4Addr,
    /// Its daemon's process.
    pub(super) pid: u32,
    /// Its daemon's state.
    pub(super) state: PathBuf,
    remote: Remote,
    show: Show,
}

impl Host {
    /// Starts the host and waits for its daemon to answer.
    pub(super) async fn start(lab: &mut Lab, name: &'static str, address: Ipv4Addr, show: Show) -> Result<Self> {
        let (pid, state) = lab.host(name, address).await?;
        let remote = Remote::just_started(&state);
        remote.ask(Request::Status).await.with_context(|| format!("the daemon of host {name}"))?;
        show.proved(format!("host {name}: {address}, daemon is process {pid}"));
        Ok(Self { name, address, pid, state, remote, show })
    }

    /// Asks, shows both sides, and fails on a refusal.
    pub(super) async fn ask(&self, request: Request) -> Result<Response> {
        self.show.asked(self.name, &serde_json::to_string(&request)?);
        let reply = self.remote.ask(request).await?;
        self.show.answered(self.name, &serde_json::to_string(&reply)?);
        match reply {
            Response::Err { message } => bail!("host {} said no: {message}", self.name),
            reply => Ok(reply),
        }
    }

    /// Asks for `status`, without a word about it.
    pub(super) async fn status(&self) -> Result<StatusSnapshot> {
        match self.remote.ask(Request::Status).await? {
            Response::Status(status) => Ok(status),
            other => bail!("host {} answered `{}` to `status`", self.name, other.result()),
        }
    }

    /// Waits until the daemon has seen a handshake: it looks at its devices now and then, and tells what is new.
    pub(super) async fn handshake_seen(&self) -> Result<()> {
        let mut events = self.remote.events();
        let seen = async {
            while self.status().await?.peers.iter().all(|peer| peer.last_handshake_unix_secs == 0) {
                events.recv().await?;
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, seen)
            .await
            .with_context(|| format!("host {} reports no handshake", self.name))?
    }

    /// Asks for `status` and shows it as the command line does.
    pub(super) async fn show_status(&self) -> Result<()> {
        let status = self.status().await?;
        self.show.asked(self.name, "status");
        for line in tables::status(&status, SystemTime::now()).lines() {
            self.show.say(line);
        }
        Ok(())
    }
}
