//! A host of the lab with one container on it, as an orchestrator sees it: a socket to ask at.

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};
use overlayd_core::protocol::{AttachContainer, AttachHandle, PeerSpec, Request, Response, StatusSnapshot};
use overlayd_lab::{Host, LabClient, Namespace, NamespaceConfinement};

use crate::{
    show::Show,
    story::{PORT, SERVICE},
};

/// A host, its daemon and a container.
pub(crate) struct Site {
    /// Its name in the story.
    pub(crate) name: &'static str,
    pub(crate) host: Host,
    pub(crate) container: Namespace,
    client: LabClient,
    show: Show,
}

impl Site {
    /// Starts the daemon of the host and waits for its first answer.
    pub(crate) fn start(name: &'static str, mut host: Host, show: Show) -> Self {
        let client = host.start();
        show.proved(format!("host {name}: {}, daemon is process {}", host.v4(), host.daemon_pid()));
        Self { name, host, container: Namespace::container(NamespaceConfinement::None), client, show }
    }

    /// Asks, shows both sides, and fails on a refusal.
    pub(crate) fn ask(&mut self, request: Request) -> Result<Response> {
        self.show.asked(self.name, &serde_json::to_string(&request)?);
        let reply = self.call(request)?;
        self.show.answered(self.name, &serde_json::to_string(&reply)?);
        match reply {
            Response::Err { message, .. } => bail!("host {} refused: {message}", self.name),
            reply => Ok(reply),
        }
    }

    /// Attaches the container to the service; its address there.
    pub(crate) fn attach(&mut self) -> Result<IpAddr> {
        let attach = AttachContainer {
            handle: self.handle(),
            service: SERVICE.into(),
            join_global: false,
            ephemeral: false,
            isolation_network: None,
            dns_server: None,
            dns_domain: None,
        };
        match self.ask(Request::AttachContainer(attach))? {
            Response::Attached(attached) => Ok(attached.ip),
            other => bail!("host {} answered `{}` to `attach_container`", self.name, other.result()),
        }
    }

    /// How the daemon is told of the container.
    pub(crate) fn handle(&self) -> AttachHandle {
        AttachHandle::LinuxPid { pid: self.container.pid() }
    }

    /// What another host has to know of this one: its key, its address, its slice and its block of the service.
    pub(crate) fn as_peer(&mut self, slice: &str) -> Result<PeerSpec> {
        let status = self.status()?;
        let service = status.services.first().context("the node has no service")?;
        let block = service.subnet.as_deref().context("the service has no block")?;
        Ok(PeerSpec {
            allowed_ips: format!("{slice},{block}"),
            public_key: status.public_key.context("the node has no key")?,
            endpoint: format!("{}:{PORT}", self.host.v4()),
            persistent_keepalive_secs: 25,
            candidates: Vec::new(),
        })
    }

    /// Waits until the daemon has seen a handshake: it looks at its device now and then.
    pub(crate) fn await_handshake(&mut self) -> Result<()> {
        let status =
            self.client.status_until(|status| status.peers.iter().any(|peer| peer.last_handshake_unix_secs > 0));
        anyhow::ensure!(
            status.peers.iter().all(|peer| peer.last_handshake_unix_secs > 0),
            "host {} reports no handshake",
            self.name
        );
        Ok(())
    }

    /// Runs `overlayd status` on the host and shows what it prints.
    pub(crate) fn show_status(&self, overlayd: &str) {
        let socket = self.host.socket();
        let printed = self.host.run(&[overlayd, "status", "--socket", &socket.to_string_lossy()]);
        self.show.asked(self.name, "overlayd status");
        for line in printed.lines() {
            self.show.say(line);
        }
    }

    fn status(&mut self) -> Result<StatusSnapshot> {
        match self.call(Request::Status)? {
            Response::Status(status) => Ok(status),
            other => bail!("host {} answered `{}` to `status`", self.name, other.result()),
        }
    }

    fn call(&mut self, request: Request) -> Result<Response> {
        self.client.call(request).with_context(|| format!("the daemon of host {}", self.name))
    }
}
