//! Who connects containers, and how each is asked to.

use std::{
    cell::RefCell,
    collections::HashMap,
    io::Write as _,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Result, anyhow};
use overlayd_core::protocol::{AttachHandle, OverlayMode, Request, Response};
use overlayd_lab::{Host, LabClient, LabCluster, Namespace, attach_request};
use serde_json::json;

use crate::{
    peers::{Peer, Peers, Source, program},
    tunnel::shared_control,
};

/// One who connects containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contender {
    Overlayd,
    Zlayer,
    /// The `bridge` and `host-local` plugins of container networking, without masquerading.
    Cni,
    Netavark,
}

/// All of them; the first is what the others are compared with.
pub(super) const ALL: &[Contender] = &[Contender::Overlayd, Contender::Zlayer, Contender::Cni, Contender::Netavark];

/// There or back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Attach,
    Detach,
}

/// Where a contender keeps its things, and the gateways of the networks it made.
pub(super) struct Place {
    directory: PathBuf,
    gateways: Vec<IpAddr>,
}

impl Place {
    pub(super) fn gateway(&self, number: usize) -> IpAddr {
        self.gateways[number % self.gateways.len()]
    }
}

const SERVICES: [&str; 4] = ["one", "two", "three", "four"];

thread_local! {
    /// Each client has a connection of its own, to the daemon it last spoke to.
    static CONNECTIONS: RefCell<HashMap<PathBuf, LabClient>> = RefCell::default();
}

impl Contender {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Overlayd => "overlayd",
            Self::Zlayer => crate::tunnel::ZLAYER.program,
            Self::Cni => "CNI bridge",
            Self::Netavark => "netavark",
        }
    }

    /// The program of the contender; otherwise why it is not there.
    pub(super) fn find(self, peers: &Peers, overlayd: &Path) -> Result<PathBuf, String> {
        let debian = |program, package| peers.find(&Peer { program, source: Source::Debian(package) });
        match self {
            Self::Overlayd => Ok(overlayd.to_owned()),
            Self::Zlayer => peers.find(&crate::tunnel::ZLAYER),
            // The name is also that of a program of iproute2.
            Self::Cni => debian("host-local", "containernetworking-plugins").map(|path| path.with_file_name("bridge")),
            Self::Netavark => debian("iptables", "iptables").and_then(|_| debian("netavark", "netavark")),
        }
    }

    /// Makes the networks.
    pub(super) fn prepare(self, host: &mut Host, directory: &Path) -> Result<Place> {
        let directory = directory.to_owned();
        let constant = |address: [u8; 4]| {
            Ok(Place { directory: directory.clone(), gateways: vec![Ipv4Addr::from(address).into()] })
        };
        match self {
            Self::Overlayd => {}
            Self::Zlayer => shared_control(host),
            Self::Cni => return constant([10, 88, 0, 1]),
            Self::Netavark => return constant([10, 89, 0, 1]),
        }
        host.log_filter = Some("error".into());
        let mut client = host.start();
        client.ask(LabCluster::V4.setup(0));
        let gateways = SERVICES.map(|service| {
            let request = Request::SetupServiceOverlay { service: service.into(), mode: OverlayMode::Auto };
            match client.ask(request) {
                Response::ServiceOverlay(made) => gateway(host, &made.name),
                other => Err(anyhow!("{service} was answered {other:?}")),
            }
        });
        Ok(Place { directory, gateways: gateways.into_iter().collect::<Result<_>>()? })
    }

    /// Attaches or detaches one container.
    pub(super) fn call(
        self,
        host: &Host,
        at: &Path,
        place: &Place,
        way: Way,
        number: usize,
        container: &Namespace,
    ) -> Result<(), String> {
        match self {
            Self::Overlayd | Self::Zlayer => request(host, way, number, container),
            Self::Cni => cni(host, at, place, way, number, container),
            Self::Netavark => netavark(host, at, place, way, number, container),
        }
    }
}

/// The address of a bridge.
fn gateway(host: &Host, bridge: &str) -> Result<IpAddr> {
    let text = host.run(&["ip", "-o", "-4", "address", "show", "dev", bridge]);
    let address = text.split("inet ").nth(1).and_then(|rest| rest.split('/').next());
    Ok(address.ok_or_else(|| anyhow!("{bridge} has no address"))?.parse()?)
}

fn request(host: &Host, way: Way, number: usize, container: &Namespace) -> Result<(), String> {
    let pid = container.pid();
    let request = match way {
        Way::Attach => attach_request(pid, SERVICES[number % SERVICES.len()]),
        Way::Detach => Request::DetachContainer { handle: AttachHandle::LinuxPid { pid } },
    };
    CONNECTIONS.with_borrow_mut(|connections| {
        let client = connections.entry(host.socket()).or_insert_with(|| host.client());
        match client.call(request).map_err(|error| error.to_string())? {
            Response::Err { message, .. } => Err(message),
            _ => Ok(()),
        }
    })
}

/// As a runtime calls a plugin: with the network as its input.
fn cni(host: &Host, at: &Path, place: &Place, way: Way, number: usize, container: &Namespace) -> Result<(), String> {
    let network = json!({
        "cniVersion": "0.4.0", "name": "bench", "type": "bridge", "bridge": "cni0", "isGateway": true,
        "ipam": {
            "type": "host-local", "dataDir": place.directory.join("cni"),
            "ranges": [[{ "subnet": "10.88.0.0/16" }]], "routes": [{ "dst": "0.0.0.0/0" }],
        },
    });
    let plugins = at.parent().unwrap_or(at).to_owned();
    let environment = [
        ("CNI_COMMAND", if way == Way::Attach { "ADD" } else { "DEL" }.to_owned()),
        ("CNI_CONTAINERID", format!("container{number}")),
        ("CNI_NETNS", format!("/proc/{}/ns/net", container.pid())),
        ("CNI_IFNAME", "eth0".to_owned()),
        ("CNI_PATH", plugins.display().to_string()),
    ];
    execute(host, at, &[], &environment, &network.to_string())
}

fn netavark(
    host: &Host,
    at: &Path,
    place: &Place,
    way: Way,
    number: usize,
    container: &Namespace,
) -> Result<(), String> {
    let [.., high, low] = u32::try_from(number + 2).map_err(|error| error.to_string())?.to_be_bytes();
    let networks = json!({
        "container_id": format!("{number:064x}"), "container_name": format!("container{number}"),
        "networks": { "bench": { "static_ips": [format!("10.89.{high}.{low}")], "interface_name": "eth0" } },
        "network_info": { "bench": {
            "name": "bench", "id": format!("{:064x}", 1), "driver": "bridge", "network_interface": "podman1",
            "subnets": [{ "subnet": "10.89.0.0/16", "gateway": "10.89.0.1" }],
            "ipv6_enabled": false, "internal": false, "dns_enabled": false, "ipam_options": { "driver": "host-local" },
        } },
    });
    let config = place.directory.join("netavark").display().to_string();
    let netns = format!("/proc/{}/ns/net", container.pid());
    let command = if way == Way::Attach { "setup" } else { "teardown" };
    execute(host, at, &["--config", &config, command, &netns], &[], &networks.to_string())
}

fn execute(
    host: &Host,
    at: &Path,
    arguments: &[&str],
    environment: &[(&str, String)],
    input: &str,
) -> Result<(), String> {
    let mut command = program(&at.display().to_string());
    command.args(arguments).envs(environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A child is born in the namespaces of the thread that starts it.
    let mut child = host.namespace.enter(|| command.spawn()).map_err(|error| error.to_string())?;
    let mut stdin = child.stdin.take().ok_or("stdin is piped")?;
    stdin.write_all(input.as_bytes()).map_err(|error| error.to_string())?;
    drop(stdin);
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let words = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    if output.status.success() { Ok(()) } else { Err(words) }
}
