use overlayd_netlink::{Netns, Rtnl, link, link::NewVeth, sysctl};

use super::*;

/// A namespace with an uplink, and where its memory is.
struct Host {
    netns: Netns,
    dir: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let netns = Netns::create().unwrap();
        for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            sysctl::write(&netns, setting, "0").unwrap();
        }
        let rtnl = Rtnl::inside(&netns).unwrap();
        rtnl.run(NewVeth::pair("up0", "far0").request()).unwrap();
        rtnl.run_all([link::up("up0"), link::up("far0")]).unwrap();
        sysctl::write(&netns, "ipv6/conf/up0/accept_ra", "1").unwrap();
        Self { netns, dir: tempfile::tempdir().unwrap() }
    }

    fn settings(&self) -> HostSettings {
        HostSettings::load(self.netns.try_clone().unwrap(), self.dir.path(), "boot").unwrap()
    }

    fn read(&self, setting: &str) -> String {
        sysctl::read(&self.netns, setting).unwrap().unwrap()
    }

    fn all(&self) -> Vec<String> {
        let settings = ["ipv4/ip_forward", "ipv4/conf/up0/forwarding", "ipv4/conf/far0/forwarding"];
        let ipv6 = ["all", "default", "up0", "far0"].map(|name| format!("ipv6/conf/{name}"));
        let ipv6 = ipv6.iter().flat_map(|conf| [format!("{conf}/forwarding"), format!("{conf}/accept_ra")]);
        settings.into_iter().map(String::from).chain(ipv6).map(|name| format!("{name} {}", self.read(&name))).collect()
    }
}

#[test]
fn ipv4_is_restored_with_the_interfaces_that_were_on_by_themselves() {
    let host = Host::new();
    sysctl::write(&host.netns, "ipv4/conf/up0/forwarding", "1").unwrap();
    let before = host.all();
    hold_ipv4(&mut host.settings()).unwrap();
    hold_ipv4(&mut host.settings()).unwrap();
    assert_eq!(host.read("ipv4/ip_forward"), "1");
    host.settings().restore().unwrap();
    assert_eq!(host.all(), before);
}

#[test]
fn ipv6_is_passed_on_from_the_uplink_alone_where_the_kernel_can() {
    let host = Host::new();
    let mut settings = host.settings();
    assert_eq!(Ipv6Switch::of_kernel(&settings).unwrap(), Ipv6Switch::PerInterface, "kernel 6.17 is needed here");
    let before = host.all();
    hold_ipv6(&mut settings, Ipv6Switch::PerInterface, &["up0".into(), "missing".into()]).unwrap();
    assert_eq!(host.read(&force_forwarding("up0")), "1");
    assert_eq!(host.all(), before, "nothing else changes");
    settings.restore().unwrap();
    assert_eq!(host.read(&force_forwarding("up0")), "0");
}

#[test]
fn the_global_switch_leaves_every_interface_a_host_that_hears_advertisements() {
    let host = Host::new();
    sysctl::write(&host.netns, "ipv6/conf/far0/forwarding", "1").unwrap();
    let before = host.all();
    hold_ipv6(&mut host.settings(), Ipv6Switch::Global, &[]).unwrap();
    hold_ipv6(&mut host.settings(), Ipv6Switch::Global, &[]).unwrap();
    assert_eq!(host.read("ipv6/conf/all/forwarding"), "1");
    assert_eq!(host.read("ipv6/conf/up0/forwarding"), "0");
    assert_eq!(host.read("ipv6/conf/default/forwarding"), "0");
    assert_eq!(host.read("ipv6/conf/up0/accept_ra"), "2");
    host.settings().restore().unwrap();
    assert_eq!(host.all(), before);
}
