//! The demo, run as a user runs it. Needs root, or unprivileged user namespaces.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{
    io::{BufRead as _, BufReader},
    os::fd::OwnedFd,
    process::{Child, Stdio},
    time::Duration,
};

use common::{Outcome, overlayd, run};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};
use serde_json::Value;
use tempfile::TempDir;

/// Longest wait for a process to end.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn the_demo_shows_packets_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let outcome = finish(start(&directory, &["--seconds", "1"]));
    assert_eq!(outcome.code, Some(0), "{}\n{}", outcome.out, outcome.err);
    for proof in ["10 of 10", "bit/s", "readable in none of", "is read on the cable", "lo, uplink"] {
        assert!(outcome.out.contains(proof), "{proof} is not in\n{}", outcome.out);
    }
    assert!(is_empty(&directory));
}

#[test]
fn an_interrupted_demo_takes_its_hosts_along() {
    let directory = tempfile::tempdir().unwrap();
    let (demo, daemons) = start_until_busy(&directory);
    kill_process(Pid::from_child(&demo), Signal::INT).unwrap();
    let outcome = finish(demo);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.err.contains("interrupted"), "{}", outcome.err);
    daemons.iter().for_each(ended);
    assert!(is_empty(&directory));
}

#[test]
fn a_killed_demo_takes_its_hosts_along() {
    let directory = tempfile::tempdir().unwrap();
    let (mut demo, daemons) = start_until_busy(&directory);
    demo.kill().unwrap();
    demo.wait().unwrap();
    daemons.iter().for_each(ended);
}

#[test]
fn a_kept_demo_can_be_asked_with_the_command_line_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let kept = Kept(finish(start(&directory, &["--seconds", "1", "--keep"])));
    assert_eq!(kept.0.code, Some(0), "{}", kept.0.err);
    let state = kept.state("a");
    let ask = |arguments: &[&str]| run(&[arguments, &["--data-dir", &state]].concat());

    let services: Value = serde_json::from_str(&ask(&["services", "--json"]).out).unwrap();
    assert_eq!((&services[0]["service"], &services[0]["attachments"]), (&"web".into(), &1.into()));
    let peers = ask(&["peers"]).out;
    assert!(peers.contains("192.0.2.2:51820") && peers.contains(" s ago"), "{peers}");

    let container = kept.container().to_string();
    let first = ask(&["attach", "--pid", &container, "--service", "web"]);
    assert!(first.out.starts_with("attached with address 10.77."), "{}{}", first.out, first.err);
    assert_eq!(ask(&["attach", "--pid", &container, "--service", "web"]).out, first.out, "the same again");
    assert_eq!(ask(&["detach", "--pid", &container]).out, "detached\n");
    assert!(ask(&["services"]).out.lines().any(|line| line.starts_with("web") && line.ends_with(" 0")));
}

/// Starts the demo with its files below `directory`.
fn start(directory: &TempDir, arguments: &[&str]) -> Child {
    let mut command = overlayd();
    command.arg("demo").args(arguments).env("TMPDIR", directory.path()).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn finish(demo: Child) -> Outcome {
    demo.wait_with_output().unwrap().into()
}

/// Starts a demo that would measure for a minute, reads until it does, and returns it with its daemons.
fn start_until_busy(directory: &TempDir) -> (Child, Vec<OwnedFd>) {
    let mut demo = start(directory, &["--seconds", "60"]);
    let mut daemons = Vec::new();
    let mut said = BufReader::new(demo.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("TCP from container") {
        line.clear();
        assert_ne!(said.read_line(&mut line).unwrap(), 0, "the demo ended early");
        let line = line.trim_end();
        if let Some((_, pid)) = line.split_once("daemon is process ") {
            let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
            daemons.push(pidfd_open(pid, PidfdFlags::empty()).unwrap());
        }
    }
    // What is buffered is lost, and not needed: the end is looked for in standard error.
    demo.stdout = Some(said.into_inner());
    assert_eq!(daemons.len(), 2);
    (demo, daemons)
}

/// Waits for the end of a process.
fn ended(process: &OwnedFd) {
    let patience = Timespec { tv_sec: PATIENCE.as_secs().try_into().unwrap(), tv_nsec: 0 };
    let mut wait = [PollFd::new(process, PollFlags::IN)];
    assert_eq!(poll(&mut wait, Some(&patience)).unwrap(), 1, "a daemon outlived its demo");
}

fn is_empty(directory: &TempDir) -> bool {
    directory.path().read_dir().unwrap().next().is_none()
}

/// A demo that was left running; removed on drop as it says one can.
struct Kept(Outcome);

impl Kept {
    /// State directory of a host.
    fn state(&self, host: &str) -> String {
        let ending = format!("/{host}");
        let state =
            self.0.out.split_whitespace().find(|word| word.contains("overlayd-demo-") && word.ends_with(&ending));
        state.unwrap().to_owned()
    }

    /// Process of the first host's container.
    fn container(&self) -> u32 {
        let line = self.0.out.lines().find(|line| line.contains("its container")).unwrap();
        line.split_whitespace().find_map(|word| word.parse().ok()).unwrap()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let Some(line) = self.0.out.lines().find(|line| line.contains("kill -9")) else { return };
        for pid in line.split([' ', ';']).skip_while(|word| *word != "-9").skip(1).map_while(|word| word.parse().ok()) {
            // One that is gone already is what is wanted.
            kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).ok();
        }
    }
}
