//! What happens in the demo, in order.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;
use overlayd_core::{
    ipam::block_mask,
    protocol::{
        AttachContainer, AttachHandle, NatConfigSpec, OverlayMode, PeerScope, PeerSpec, Request, Response,
        SetupGlobalOverlay,
    },
};

use super::{
    host::Host,
    lab::Lab,
    privilege::Rights,
    probe::{inside, ping, tcp},
    show::{Show, millis, rate},
};
use crate::cli::args::Demo;

pub(super) mod ending;
pub(super) mod wiretap;

const CLUSTER: &str = "10.77.0.0/16";
const SERVICE: &str = "web";
/// UDP port of WireGuard on both hosts.
const PORT: u16 = 51820;

/// The demo as it was asked for.
pub(super) struct Story {
    pub(super) options: Demo,
    pub(super) rights: Rights,
    pub(super) show: Show,
}

/// A host with the container on it.
pub(super) struct Site {
    pub(super) host: Host,
    slice: &'static str,
    pub(super) container: u32,
    pub(super) address: Ipv4Addr,
}

impl Story {
    /// Tells it from the first cable to the last status.
    pub(super) async fn run(&self, lab: &mut Lab) -> Result<()> {
        let a = Host::start(lab, "a", Ipv4Addr::new(192, 0, 2, 1), self.show).await?;
        let b = Host::start(lab, "b", Ipv4Addr::new(192, 0, 2, 2), self.show).await?;
        let a = self.set_up(lab, a, 1, "10.77.0.0/26").await?;
        let b = self.set_up(lab, b, 2, "10.77.0.64/26").await?;
        self.introduce(&a, &b).await?;
        self.ping(&a, &b).await?;
        self.measure(&a, &b).await?;
        wiretap::prove(self, lab, &a, &b).await?;
        self.show.chapter("What the daemons say");
        for site in [&a, &b] {
            site.host.handshake_seen().await?;
            site.host.show_status().await?;
        }
        if self.options.keep { ending::keep(self, lab, &a, &b) } else { ending::tidy_up(self, &a, &b).await }
    }

    /// Overlay, service and one container on a host.
    async fn set_up(&self, lab: &mut Lab, host: Host, node_id: u64, slice: &'static str) -> Result<Site> {
        self.show.chapter(&format!("Host {}: overlay, service `{SERVICE}`, one container", host.name));
        host.ask(Request::SetLocalNodeId { node_id }).await?;
        host.ask(Request::SetupGlobalOverlay(SetupGlobalOverlay {
            deployment: "demo".into(),
            instance_id: host.name.into(),
            cluster_cidr: CLUSTER.into(),
            slice_cidr: Some(slice.into()),
            wg_port: PORT,
            host_adapter_mandatory: true,
            nat: Some(NatConfigSpec::default()),
        }))
        .await?;
        host.ask(Request::SetupServiceOverlay { service: SERVICE.into(), mode: OverlayMode::Auto }).await?;
        let container = lab.container()?;
        let attach = AttachContainer {
            handle: AttachHandle::LinuxPid { pid: container },
            service: SERVICE.into(),
            join_global: false,
            ephemeral: false,
            isolation_network: None,
            dns_server: None,
            dns_domain: None,
        };
        let address = match host.ask(Request::AttachContainer(attach)).await? {
            Response::Attached(attached) => attached.ip,
            other => bail!("host {} answered `{}` to `attach_container`", host.name, other.result()),
        };
        let IpAddr::V4(address) = address else { bail!("the container got {address}, which is not in {CLUSTER}") };
        Ok(Site { host, slice, container, address })
    }

    /// Each host learns the other's key, address and ranges.
    async fn introduce(&self, a: &Site, b: &Site) -> Result<()> {
        self.show.chapter("Each host learns of the other");
        let (of_a, of_b) = (peer(a).await?, peer(b).await?);
        a.host.ask(Request::AddPeer { peer: of_b, scope: PeerScope::Global }).await?;
        b.host.ask(Request::AddPeer { peer: of_a, scope: PeerScope::Global }).await?;
        Ok(())
    }

    async fn ping(&self, a: &Site, b: &Site) -> Result<()> {
        self.show.chapter(&format!("Ping from {} to {}", a.address, b.address));
        let target = b.address;
        let first = inside(a.container, move || ping::first_answer(target, Duration::from_secs(15))).await?;
        self.show.say(format!("first answer, with the handshake, after {}", millis(first)));
        for (from, to) in [(a, b), (b, a)] {
            let target = to.address;
            let pings = inside(from.container, move || ping::ping(target, 10)).await?;
            ping::expect_all(&pings)?;
            let (min, mean, max) = pings.summary();
            let times = format!("min/avg/max {}/{}/{}", millis(min), millis(mean), millis(max));
            self.show.proved(format!("{} → {}: 10 of 10, {times}", from.address, to.address));
        }
        Ok(())
    }

    async fn measure(&self, a: &Site, b: &Site) -> Result<()> {
        self.show.chapter("TCP from container to container");
        for (from, to) in [(a, b), (b, a)] {
            let (source, target, address) = (from.container, to.container, IpAddr::V4(to.address));
            let duration = Duration::from_secs(self.options.seconds);
            let work = move || tcp::throughput(source, target, address, duration);
            let through = tokio::task::spawn_blocking(work).await?.context("the throughput measurement")?;
            let figures = format!("{} ({} MB)", rate(through.bits_per_second()), through.bytes / 1_000_000);
            self.show.proved(format!("{} → {}: {figures}", from.address, to.address));
        }
        Ok(())
    }
}

/// What another host has to know of this one: its key, its address, its slice and its block of the service.
async fn peer(site: &Site) -> Result<PeerSpec> {
    let status = site.host.status().await?;
    let cluster: IpNet = CLUSTER.parse()?;
    let block = IpNet::new(site.address.into(), block_mask(&cluster))?.trunc();
    Ok(PeerSpec {
        public_key: status.public_key.context("the node has no key")?,
        endpoint: format!("{}:{PORT}", site.host.address),
        allowed_ips: format!("{},{block}", site.slice),
        persistent_keepalive_secs: 25,
        candidates: Vec::new(),
    })
}
