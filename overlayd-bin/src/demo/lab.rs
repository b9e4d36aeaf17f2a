//! Two hosts on a switch, each a process in a network of its own, and containers, each another. All of it ends with
//! the processes; nothing is made in the network of this machine.

use std::{
    io::{BufRead as _, BufReader},
    net::{IpAddr, Ipv4Addr},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use nlink::{
    Connection, Route,
    netlink::{
        link::{BridgeLink, VethLink},
        namespace::NetnsRef,
    },
};

use tempfile::TempDir;

use super::part::{self, READY};
use crate::cli::args::Part;

/// Interface of a host on the network between the hosts.
pub(super) const UPLINK: &str = "uplink";
/// The bridge that is the network between the hosts.
const SWITCH: &str = "switch";
/// How much of a daemon's log is shown when the demo fails.
const LOG_LINES: usize = 20;

/// Whether the processes of a lab can outlive the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// They end with the demo, however it ends.
    Demo,
    /// They can be left running.
    Kept,
}

/// The processes and files of the lab; removed on drop, unless [`Lab::leave`] was called.
pub(super) struct Lab {
    lifetime: Lifetime,
    directory: TempDir,
    parts: Vec<Child>,
    logs: Vec<PathBuf>,
    switch: u32,
}

impl Lab {
    /// Starts the switch and makes a directory for the hosts' state.
    pub(super) async fn new(lifetime: Lifetime) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("overlayd-demo-").tempdir()?;
        let mut lab = Self { lifetime, directory, parts: Vec::new(), logs: Vec::new(), switch: 0 };
        lab.switch = lab.start(Part::Switch, None)?;
        let netlink = network_of(lab.switch)?;
        netlink.add_link(BridgeLink::new(SWITCH)).await?;
        netlink.set_link_up(SWITCH).await?;
        Ok(lab)
    }

    /// Starts a host whose daemon keeps its state below the lab's directory; returns its process and that directory.
    pub(super) async fn host(&mut self, name: &str, address: Ipv4Addr) -> Result<(u32, PathBuf)> {
        let state = self.directory.path().join(name);
        std::fs::create_dir(&state)?;
        self.logs.push(state.join(part::LOG));
        let pid = self.start(Part::Host, Some(&state))?;
        self.plug(name, pid, address).await.with_context(|| format!("could not connect host {name}"))?;
        Ok((pid, state))
    }

    /// Starts a container; returns its process.
    pub(super) fn container(&mut self) -> Result<u32> {
        self.start(Part::Container, None)
    }

    /// Process in the network between the hosts.
    pub(super) fn switch(&self) -> u32 {
        self.switch
    }

    /// Directory that holds the hosts' state.
    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// All processes of the lab.
    pub(super) fn processes(&self) -> Vec<u32> {
        self.parts.iter().map(Child::id).collect()
    }

    /// The switch's end of a host's cable.
    pub(super) fn port(host: &str) -> String {
        format!("port-{host}")
    }

    /// Leaves everything running; from now on it is nobody's.
    pub(super) fn leave(&mut self) {
        self.directory.disable_cleanup(true);
        self.parts.clear();
    }

    /// Prints the last lines of every daemon's log, for a demo that failed.
    pub(super) fn show_logs(&self) {
        for log in &self.logs {
            let text = std::fs::read_to_string(log).unwrap_or_else(|error| error.to_string());
            let lines: Vec<_> = text.lines().collect();
            eprintln!("\nthe end of {}:", log.display());
            for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
                eprintln!("  {line}");
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the demo starts this executable as the parts of its lab")]
    fn start(&mut self, part: Part, state: Option<&Path>) -> Result<u32> {
        let name = clap::ValueEnum::to_possible_value(&part).context("every part has a name")?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("demo-part").arg(name.get_name()).process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        if self.lifetime == Lifetime::Kept {
            command.arg("--keep");
        }
        if let Some(state) = state {
            command.arg("--state").arg(state);
        }
        let mut child = command.spawn().context("could not start a part of the lab")?;
        let pid = child.id();
        let said = child.stdout.take();
        self.parts.push(child);
        let mut line = String::new();
        BufReader::new(said.context("its output is piped")?).read_line(&mut line)?;
        ensure!(line.trim_end() == READY, "the {} did not start; its reason is above", name.get_name());
        Ok(pid)
    }

    /// Runs a cable from the switch to a host.
    async fn plug(&self, name: &str, pid: u32, address: Ipv4Addr) -> Result<()> {
        let port = Self::port(name);
        let switch = network_of(self.switch)?;
        switch.add_link(VethLink::new(&port, UPLINK).peer_netns_pid(pid)).await?;
        switch.set_link_master(port.as_str(), SWITCH).await?;
        switch.set_link_up(port.as_str()).await?;
        let host = network_of(pid)?;
        host.add_address_by_name(UPLINK, IpAddr::V4(address), 24).await?;
        host.set_link_up(UPLINK).await?;
        Ok(())
    }
}

/// Netlink in the network of process `pid`.
pub(super) fn network_of(pid: u32) -> Result<Connection<Route>> {
    Connection::new_in(NetnsRef::Pid(pid)).with_context(|| format!("could not enter the network of process {pid}"))
}

impl Drop for Lab {
    fn drop(&mut self) {
        for part in &mut self.parts {
            if let Err(error) = part.kill().and_then(|()| part.wait()) {
                eprintln!("overlayd demo: could not end process {}: {error}", part.id());
            }
        }
    }
}
