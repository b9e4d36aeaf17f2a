//! The daemon next to the real network managers, which would take every link for theirs.
//!
//! ```text
//!   one, two, three ── web bridge ── host 0 (overlayd, a manager) ── free0, an unrelated link
//! ```

use overlayd_core::protocol::{AttachContainer, OverlayMode, PeerScope, PeerSpec, Request};
use overlayd_testkit::{
    lab::{self, Host, LabClient, LabCluster, Namespace, Underlay, probe::pings},
    requests::{attach, process},
};

use crate::{Program, container, until};

/// What networkd would give to every link, were it not told otherwise.
const UNWANTED: &str = "198.51.100.77";
/// Where Debian has networkd.
const NETWORKD: &str = "/lib/systemd/systemd-networkd";

/// Whether all the programs are installed; a test without them says that it is skipped.
fn installed(programs: &[&str]) -> bool {
    let places = ["", "/usr/sbin/", "/usr/bin/", "/sbin/", "/bin/"];
    let has = |program: &&str| places.iter().any(|place| std::path::Path::new(&format!("{place}{program}")).is_file());
    match programs.iter().find(|program| !has(program)) {
        None => true,
        Some(missing) => {
            println!("SKIPPED: {missing} is not installed");
            false
        }
    }
}

/// The overlay with a service of each kind that has routes of its own, and two containers, one of them with two legs.
fn at_work(host: &Host, client: &mut LabClient) -> Vec<Namespace> {
    LabCluster::V4.raise(client, 0, &["web"], host.v4());
    client.ask(Request::SetupServiceOverlay { service: "db".into(), mode: OverlayMode::Dedicated });
    let key = overlayd_core::keys::PrivateKey::from_bytes([9; 32]).public_key().to_base64();
    let peer = PeerSpec {
        public_key: key,
        endpoint: "192.0.2.200:51421".into(),
        allowed_ips: "10.77.240.0/26".into(),
        persistent_keepalive_secs: 0,
        candidates: Vec::new(),
    };
    client.ok(Request::AddPeer { peer, scope: PeerScope::Service { service: "db".into() } });
    let containers = vec![container(), container()];
    let both = AttachContainer { join_global: true, ..attach(process(containers[0].pid()), "web") };
    client.ask(Request::AttachContainer(both));
    client.attach(containers[1].pid(), "web");
    containers
}

/// The names of the links that are the daemon's.
fn our_links(host: &Host) -> Vec<String> {
    let said = host.run(&["ip", "-oneline", "link", "show"]);
    let names = said.lines().filter_map(|line| line.split(": ").nth(1)).filter_map(|name| name.split('@').next());
    names.filter(|name| name.starts_with("zl-") || name.starts_with("veth-")).map(Into::into).collect()
}

/// Addresses and routes that lead over the daemon's links.
fn ours(host: &Host) -> Vec<String> {
    let commands = [&["ip", "-4", "-oneline", "address"][..], &["ip", "-4", "route", "show", "table", "all"]];
    let said = commands.map(|command| host.run(command)).concat();
    let mut lines: Vec<String> = said
        .lines()
        .filter(|line| line.contains("zl-") || line.contains("veth-"))
        .map(|line| line.trim_end().into())
        .collect();
    lines.sort();
    lines
}

/// A link that a manager may take.
fn free_link(host: &Host) {
    host.run(&["ip", "link", "add", "free0", "type", "veth", "peer", "name", "free1"]);
    host.run(&["ip", "link", "set", "free0", "up"]);
    host.run(&["ip", "link", "set", "free1", "up"]);
}

#[test]
fn networkd_that_is_to_manage_every_link_leaves_ours_alone() {
    if !lab::available() || !installed(&[NETWORKD]) {
        return;
    }
    let mut lab = crate::lab(1, &Underlay::default());
    let host = &mut lab.hosts[0];
    // Where /sys is read-only there is no udev to wait for.
    host.run(&["mount", "-o", "remount,ro", "/sys"]);
    host.run(&["install", "-d", "-o", "systemd-network", "/run/systemd/netif", "/run/systemd/netif/links"]);
    host.run(&["install", "-d", "-o", "systemd-network", "/run/systemd/netif/leases", "/run/systemd/netif/lldp"]);
    host.run(&["mkdir", "-p", "/run/systemd/network"]);
    let every = format!("[Match]\nName=*\n[Network]\nAddress={UNWANTED}/32\n");
    host.namespace.feed(&["tee", "/run/systemd/network/50-every.network"], &every);
    let uplink = "[Match]\nName=eth0 lo\n[Link]\nUnmanaged=yes\n";
    host.namespace.feed(&["tee", "/run/systemd/network/05-uplink.network"], uplink);
    let mut client = host.start();
    let mut containers = at_work(host, &mut client);
    let before = ours(host);
    free_link(host);
    let _networkd = Program::start(&host.namespace, &[NETWORKD]);
    let address_of = |link: &str| host.run(&["ip", "-4", "-oneline", "address", "show", "dev", link]);
    until("networkd takes what is free", || address_of("free0").contains(UNWANTED));
    containers.push(container());
    let third = client.attach(containers[2].pid(), "web");
    for link in our_links(host) {
        let index = host.run(&["cat", &format!("/sys/class/net/{link}/ifindex")]);
        let state = format!("/run/systemd/netif/links/{}", index.trim());
        let is_seen = || host.namespace.try_run(&["cat", &state]).is_ok_and(|said| said.contains("ADMIN_STATE="));
        until("networkd has seen the link", is_seen);
        until("networkd has settled", || host.run(&["cat", &state]).contains("ADMIN_STATE=unmanaged"));
        assert!(!address_of(&link).contains(UNWANTED), "{link}");
    }
    assert!(pings(&containers[0], third));
    client.detach(containers[2].pid());
    until("all is as before", || ours(host) == before);
    drop(client);
    host.terminate();
    assert_eq!(ours(host), before);
}

/// A bus with nothing on it but what connects to it.
const BUS: &str = r#"<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy></busconfig>
"#;

#[test]
fn network_manager_leaves_our_links_alone() {
    if !lab::available() || !installed(&["NetworkManager", "nmcli", "dbus-daemon"]) {
        return;
    }
    let mut lab = crate::lab(1, &Underlay::default());
    let host = &mut lab.hosts[0];
    host.run(&["mount", "-o", "remount,ro", "/sys"]);
    host.run(&["mount", "-t", "tmpfs", "tmpfs", "/var/lib/NetworkManager"]);
    host.run(&["mkdir", "-p", "/run/NetworkManager", "/run/dbus", "/run/none"]);
    host.namespace.feed(&["tee", "/run/bus.conf"], BUS);
    // The machine's own resolv.conf is none of its business.
    let settings = "[main]\nplugins=keyfile\ndns=none\nrc-manager=unmanaged\n[keyfile]\npath=/run/none\n";
    host.namespace.feed(&["tee", "/run/nm.conf"], settings);
    let mut client = host.start();
    let mut containers = at_work(host, &mut client);
    let before = ours(host);
    free_link(host);
    let _bus =
        Program::start(&host.namespace, &["dbus-daemon", "--config-file=/run/bus.conf", "--nofork", "--nopidfile"]);
    until("the bus is there", || host.namespace.try_run(&["test", "-S", "/run/dbus/system_bus_socket"]).is_ok());
    let command = ["NetworkManager", "--no-daemon", "--config=/run/nm.conf", "--config-dir=/run/none"];
    let _manager = Program::start(&host.namespace, &command);
    let state = |link: &str| {
        let said =
            host.namespace.try_run(&["nmcli", "--terse", "--fields", "DEVICE,STATE", "device"]).unwrap_or_default();
        let line = said.lines().find_map(|line| line.strip_prefix(link)?.strip_prefix(':').map(str::to_owned));
        line.unwrap_or_default()
    };
    until("NetworkManager takes what is free", || state("free0").starts_with("connect"));
    containers.push(container());
    let third = client.attach(containers[2].pid(), "web");
    for link in our_links(host) {
        until("NetworkManager has seen the link", || !state(&link).is_empty());
        assert_eq!(state(&link), "unmanaged", "{link}");
    }
    assert!(pings(&containers[0], third));
    client.detach(containers[2].pid());
    until("all is as before", || ours(host) == before);
}
