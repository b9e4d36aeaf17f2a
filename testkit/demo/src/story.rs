//! What happens in the demo, in order.

use std::{
    net::IpAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use overlayd_core::protocol::{NatConfigSpec, OverlayMode, PeerScope, Request, SetupGlobalOverlay};
use overlayd_lab::{
    Lab, Underlay,
    probe::{ping, throughput},
};

use crate::{
    privilege::Rights,
    show::{Show, millis, rate},
    site::Site,
};

mod ending;
mod wiretap;

const CLUSTER: &str = "10.77.0.0/16";
/// The ranges of the two nodes.
const SLICES: [&str; 2] = ["10.77.0.0/26", "10.77.0.64/26"];
/// The service whose network the containers join.
pub(crate) const SERVICE: &str = "web";
/// UDP port of WireGuard on both hosts.
pub(crate) const PORT: u16 = 51820;
/// Pings of each direction.
const PINGS: u32 = 10;
/// Bytes in a ping, as `ping(8)` sends them.
const PAYLOAD: usize = 56;
/// How long the first handshake may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// The demo as it was asked for.
pub(crate) struct Story {
    /// Leave everything running at the end.
    pub(crate) keep: bool,
    /// How long throughput is measured.
    pub(crate) seconds: u64,
    pub(crate) rights: Rights,
    /// The daemon to show.
    pub(crate) overlayd: PathBuf,
    pub(crate) show: Show,
}

/// A container's end of a conversation.
pub(crate) struct End<'a> {
    pub(crate) site: &'a Site,
    pub(crate) address: IpAddr,
}

impl Story {
    /// Tells it from the first cable to the last status. A failure is a panic, as it is in the lab: hosts then print the end
    /// of their daemons' logs.
    pub(crate) fn tell(&self) {
        std::panic::set_hook(Box::new(|panic| {
            let payload = panic.payload();
            let text = payload.downcast_ref::<&str>().copied();
            let message = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
            eprintln!("overlayd-demo: {}", message.unwrap_or("the demo failed"));
        }));
        self.show.chapter("The lab");
        if self.rights == Rights::UserNamespace {
            self.show.say("(not root: everything happens in a new user namespace)");
        }
        let mut lab = Lab::new(2, &Underlay::default(), &self.overlayd);
        let mut hosts = lab.hosts.drain(..);
        let (Some(first), Some(second), None) = (hosts.next(), hosts.next(), hosts.next()) else {
            panic!("the lab has two hosts");
        };
        drop(hosts);
        let mut a = Site::start("a", first, self.show);
        let mut b = Site::start("b", second, self.show);
        if let Err(error) = self.run(&lab, &mut a, &mut b) {
            panic!("{error:#}");
        }
    }

    fn run(&self, lab: &Lab, a: &mut Site, b: &mut Site) -> Result<()> {
        let address_a = self.set_up(a, 1, SLICES[0])?;
        let address_b = self.set_up(b, 2, SLICES[1])?;
        self.introduce(a, b)?;
        let ends = [End { site: a, address: address_a }, End { site: b, address: address_b }];
        self.ping(&ends)?;
        self.measure(&ends)?;
        wiretap::prove(self.show, lab, &ends)?;
        self.show.chapter("What the daemons say");
        for site in [&mut *a, &mut *b] {
            site.await_handshake()?;
            site.show_status(&self.overlayd.to_string_lossy());
        }
        if self.keep {
            ending::keep(self, [(a, address_b), (b, address_a)])
        } else {
            ending::tidy_up(self.show, [a, b])
        }
    }

    /// Overlay, service and one container on a host; the container's address.
    fn set_up(&self, site: &mut Site, node_id: u64, slice: &str) -> Result<IpAddr> {
        self.show.chapter(&format!("Host {}: overlay, service `{SERVICE}`, one container", site.name));
        site.ask(Request::SetLocalNodeId { node_id })?;
        site.ask(Request::SetupGlobalOverlay(SetupGlobalOverlay {
            deployment: "demo".into(),
            instance_id: site.name.into(),
            cluster_cidr: CLUSTER.into(),
            slice_cidr: Some(slice.into()),
            wg_port: PORT,
            host_adapter_mandatory: true,
            nat: Some(NatConfigSpec::default()),
        }))?;
        site.ask(Request::SetupServiceOverlay { service: SERVICE.into(), mode: OverlayMode::Auto })?;
        site.attach()
    }

    /// Each host learns the other's key, address and ranges.
    fn introduce(&self, a: &mut Site, b: &mut Site) -> Result<()> {
        self.show.chapter("Each host learns of the other");
        let peer_a = a.as_peer(SLICES[0])?;
        let peer_b = b.as_peer(SLICES[1])?;
        a.ask(Request::AddPeer { peer: peer_b, scope: PeerScope::Global })?;
        b.ask(Request::AddPeer { peer: peer_a, scope: PeerScope::Global })?;
        Ok(())
    }

    fn ping(&self, [a, b]: &[End<'_>; 2]) -> Result<()> {
        self.show.chapter(&format!("Ping from {} to {}", a.address, b.address));
        let first = first_answer(a, b.address)?;
        self.show.say(format!("first answer, with the handshake, after {}", millis(first)));
        for (from, to) in [(a, b), (b, a)] {
            let times: Option<Vec<_>> = (0..PINGS).map(|_| ping(&from.site.container, to.address, PAYLOAD)).collect();
            let times = times.with_context(|| format!("{} did not answer a ping from {}", to.address, from.address))?;
            let min = times.iter().min().copied().unwrap_or_default();
            let max = times.iter().max().copied().unwrap_or_default();
            let mean = times.iter().sum::<Duration>() / PINGS;
            let summary = format!("min/avg/max {}/{}/{}", millis(min), millis(mean), millis(max));
            self.show.proved(format!("{} → {}: {PINGS} of {PINGS}, {summary}", from.address, to.address));
        }
        Ok(())
    }

    fn measure(&self, [a, b]: &[End<'_>; 2]) -> Result<()> {
        self.show.chapter("TCP from container to container");
        let duration = Duration::from_secs(self.seconds);
        for (from, to) in [(a, b), (b, a)] {
            let arrived = throughput(&from.site.container, &to.site.container, to.address, duration);
            let arrived = arrived.map_err(|reason| anyhow!("the throughput measurement failed: {reason}"))?;
            ensure!(!arrived.time.is_zero(), "nothing was measured");
            let bits_per_second = arrived.bytes as f64 * 8.0 / arrived.time.as_secs_f64();
            let figures = format!("{} ({} MB)", rate(bits_per_second), arrived.bytes / 1_000_000);
            self.show.proved(format!("{} → {}: {figures}", from.address, to.address));
        }
        Ok(())
    }
}

/// Pings until there is an answer; how long that took.
fn first_answer(from: &End<'_>, to: IpAddr) -> Result<Duration> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if ping(&from.site.container, to, PAYLOAD).is_some() {
            return Ok(start.elapsed());
        }
    }
    bail!("{to} did not answer a ping within {} s", PATIENCE.as_secs())
}
