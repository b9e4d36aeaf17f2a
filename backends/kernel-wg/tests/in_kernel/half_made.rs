//! Devices of a process that was killed while it made them, at every point where it may have been.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    sync::mpsc,
    time::Duration,
};

use rustix::process::{Pid, Signal};

use crate::hosts::{DEVICE, Host, Kind, cable, command, eventually, peer};

/// What the process does after it made the interface in a group, in its order, as far as it got, on a host that sends
/// redirects: the kernel switches that off when the device comes up.
const STEPS: [&str; 6] = [
    "ip link set DEVICE alias ALIAS",
    "ip link set DEVICE addrgenmode none",
    "ip link set DEVICE group SWITCHING",
    "ip link set DEVICE up",
    "sysctl -qw net.ipv4.conf.all.send_redirects=1",
    "ip link set DEVICE group 0",
];

#[test]
fn a_device_that_was_not_finished_is_recognised_and_taken_over() {
    let (a, b) = cable(Kind::Kernel, Kind::Kernel);
    let made = birth(&a);
    for reached in 0..=STEPS.len() {
        made.leave_half(&a, reached);
        assert_eq!(a.status().public_key, None, "after {reached} steps it is ours, and has no key yet");
        a.ensure(&a.plan(&["10.77.0.1/24"])).unwrap();
        let shown = a.must(&format!("ip -d link show {DEVICE}"));
        for trait_of_a_finished_one in [made.alias.as_str(), "group default", "addrgenmode none"] {
            assert!(shown.contains(trait_of_a_finished_one), "after {reached} steps: {shown}");
        }
        assert!(!a.must(&format!("ip address show {DEVICE}")).contains("fe80:"), "after {reached} steps");
        assert_eq!(redirects(&a), "1", "after {reached} steps");
        b.ensure(&b.plan(&["10.77.0.2/24"])).unwrap();
        a.set(peer(b.public(), "192.0.2.2:51820", &["10.77.0.2/32"]));
        b.set(peer(a.public(), "192.0.2.1:51820", &["10.77.0.1/32"]));
        a.must_ping("10.77.0.2");
        a.remove();
        b.remove();
    }
}

#[test]
fn a_device_that_was_not_finished_is_removed_by_name() {
    let (a, _b) = cable(Kind::Kernel, Kind::Kernel);
    let made = birth(&a);
    for reached in 0..=STEPS.len() {
        made.leave_half(&a, reached);
        a.remove();
        assert!(!a.run(&format!("ip link show {DEVICE}")).status.success(), "after {reached} steps it is still there");
        assert_eq!(redirects(&a), "1", "after {reached} steps");
    }
}

#[test]
fn a_device_that_somebody_put_down_comes_up_without_changing_the_host() {
    let (a, _b) = cable(Kind::Kernel, Kind::Kernel);
    let made = birth(&a);
    let plan = a.plan(&["10.77.0.1/24"]);
    a.ensure(&plan).unwrap();
    a.must(&format!("ip link set {DEVICE} down group 77"));
    a.ensure(&plan).unwrap();
    assert_eq!(redirects(&a), "1");
    assert!(a.must(&format!("ip link show {DEVICE}")).contains("group 77"), "the group is an administrator's choice");
    // Killed on the way.
    a.must(&format!("ip link set {DEVICE} down group {}", made.switching));
    a.must(&format!("ip link set {DEVICE} up"));
    assert_eq!(redirects(&a), "0");
    a.restart();
    a.ensure(&plan).unwrap();
    assert_eq!(redirects(&a), "1");
}

#[test]
fn a_device_that_was_not_finished_is_nobody_elses() {
    let (a, b) = cable(Kind::Kernel, Kind::Kernel);
    let made = birth(&a);
    // Another instance: on its host the same interface is not its own.
    for reached in 0..=STEPS.len() {
        made.leave_half(&b, reached);
        assert_eq!(b.ensure(&b.plan(&["10.77.0.1/24"])).unwrap_err().code(), "conflict", "after {reached} steps");
        b.remove();
        b.must(&format!("ip link del {DEVICE}"));
    }
    a.must(&format!("ip link add {DEVICE} type wireguard"));
    assert_eq!(a.ensure(&a.plan(&["10.77.0.1/24"])).unwrap_err().code(), "conflict", "without any mark");
}

/// The setting of the host that the kernel changes.
fn redirects(host: &Host) -> String {
    host.must("sysctl -n net.ipv4.conf.all.send_redirects").trim().to_owned()
}

/// The groups by which the host's instance knows an interface before it is finished, and the mark.
struct Birth {
    group: String,
    /// The group while the device comes up.
    switching: String,
    alias: String,
}

impl Birth {
    /// Puts on the host what a process leaves that was killed after so many steps, and starts the next one.
    fn leave_half(&self, host: &Host, reached: usize) {
        host.must(&format!("ip link add {DEVICE} group {} type wireguard", self.group));
        for step in &STEPS[..reached] {
            let step = step.replace("ALIAS", &self.alias).replace("SWITCHING", &self.switching);
            host.must(&step.replace("DEVICE", DEVICE));
        }
        host.restart();
    }
}

/// Watches the kernel's messages while the host makes a device, which is removed again.
fn birth(host: &Host) -> Birth {
    let mut monitor = command("ip -oneline -details monitor link");
    monitor.stdout(Stdio::piped());
    let mut monitor = host.rtnl.netns().run(|| monitor.spawn()).unwrap().unwrap();
    let lines = BufReader::new(monitor.stdout.take().unwrap()).lines();
    let (told, news) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            // No process listens at the end.
            told.send(line).unwrap_or_default();
        }
    });
    eventually("the monitor listens", || {
        host.must("ip link add monitored type dummy");
        host.must("ip link del monitored");
        news.recv_timeout(Duration::from_millis(100)).is_ok()
    });
    host.must("sysctl -qw net.ipv4.conf.all.send_redirects=1");
    host.ensure(&host.plan(&["10.77.0.1/24"])).unwrap();
    let alias = word(&host.must(&format!("ip link show {DEVICE}")), "alias ").unwrap();
    host.remove();
    let told = std::iter::from_fn(|| news.recv_timeout(Duration::from_secs(10)).ok());
    let mut told = told.filter(|line| line.contains(&format!(" {DEVICE}: ")));
    let first = told.next().expect("the birth is told");
    assert!(!first.contains("alias"), "{first}");
    let group = word(&first, "group ").unwrap();
    let later = told.filter_map(|line| word(&line, "group ")).find(|later| *later != group);
    let switching = later.expect("it comes up in another group");
    assert!(!["default", "0"].contains(&switching.as_str()), "it comes up in no group");
    rustix::process::kill_process(Pid::from_child(&monitor), Signal::TERM).unwrap();
    monitor.wait().unwrap();
    reader.join().unwrap();
    Birth { group, switching, alias }
}

fn word(text: &str, after: &str) -> Option<String> {
    text.split(after).nth(1)?.split_whitespace().next().map(str::to_owned)
}
