//! The demo, run as a user runs it. Needs root, or unprivileged user namespaces.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    io::{BufRead as _, BufReader},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

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
    let outcome = start(&directory, &["--seconds", "1"]).wait_with_output().unwrap();
    let out = String::from_utf8(outcome.stdout).unwrap();
    assert!(outcome.status.success(), "{out}\n{}", String::from_utf8_lossy(&outcome.stderr));
    for proof in ["10 of 10", "bit/s", "readable in none of", "is read on the cable", "lo, eth0"] {
        assert!(out.contains(proof), "{proof} is not in\n{out}");
    }
    assert!(is_empty(&directory));
}

#[test]
fn an_interrupted_demo_takes_its_hosts_along() {
    let directory = tempfile::tempdir().unwrap();
    let (demo, mut said) = start_and_listen(&directory, &["--seconds", "60"]);
    let daemons = said.until("TCP from container");
    kill_process(Pid::from_child(&demo), Signal::INT).unwrap();
    let outcome = demo.wait_with_output().unwrap();
    assert_eq!(outcome.status.code(), Some(1));
    let complaint = String::from_utf8(outcome.stderr).unwrap();
    assert!(complaint.contains("interrupted"), "{complaint}");
    daemons.iter().for_each(ended);
    assert!(is_empty(&directory));
}

#[test]
fn a_killed_demo_takes_its_hosts_along() {
    let directory = tempfile::tempdir().unwrap();
    let (mut demo, mut said) = start_and_listen(&directory, &["--seconds", "60"]);
    let daemons = said.until("TCP from container");
    demo.kill().unwrap();
    demo.wait().unwrap();
    daemons.iter().for_each(ended);
}

#[test]
fn a_kept_demo_can_be_asked_with_the_command_line_and_ends_with_a_signal() {
    let directory = tempfile::tempdir().unwrap();
    let (demo, mut said) = start_and_listen(&directory, &["--seconds", "1", "--keep"]);
    let daemons = said.until("removes it all");
    let ask = |arguments: &[&str]| ask(&said.socket_of_first_host(), arguments);

    let services: Value = serde_json::from_str(&ask(&["services", "--json"])).unwrap();
    assert_eq!((&services[0]["service"], &services[0]["attachments"]), (&"web".into(), &1.into()));
    let peers = ask(&["peers"]);
    assert!(peers.contains("192.0.2.2:51820") && peers.contains(" s ago"), "{peers}");

    let container = said.container_of_first_host().to_string();
    let first = ask(&["attach", "--pid", &container, "--service", "web"]);
    assert!(first.starts_with("attached with address 10.77."), "{first}");
    assert_eq!(ask(&["attach", "--pid", &container, "--service", "web"]), first, "the same again");
    assert_eq!(ask(&["detach", "--pid", &container]), "detached\n");
    assert!(ask(&["services"]).lines().any(|line| line.starts_with("web") && line.ends_with(" 0")));

    kill_process(Pid::from_child(&demo), Signal::INT).unwrap();
    let outcome = demo.wait_with_output().unwrap();
    assert!(outcome.status.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
    daemons.iter().for_each(ended);
    assert!(is_empty(&directory));
}

/// The daemon that was built with these tests.
fn overlayd() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_overlayd-demo")).with_file_name("overlayd");
    assert!(path.exists(), "there is no {}: run `cargo build --package overlayd` first", path.display());
    path
}

#[expect(clippy::disallowed_methods, reason = "a test runs the binary")]
fn program(path: impl AsRef<Path>) -> Command {
    let mut command = Command::new(path.as_ref());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// Starts the demo with its files below `directory`.
fn start(directory: &TempDir, arguments: &[&str]) -> Child {
    let mut command = program(env!("CARGO_BIN_EXE_overlayd-demo"));
    command.arg("--overlayd").arg(overlayd()).args(arguments).env("TMPDIR", directory.path());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn start_and_listen(directory: &TempDir, arguments: &[&str]) -> (Child, Said) {
    let mut demo = start(directory, arguments);
    let output = BufReader::new(demo.stdout.take().unwrap());
    (demo, Said { output, lines: Vec::new() })
}

/// What a demo prints, read as far as it was waited for.
struct Said {
    output: BufReader<ChildStdout>,
    lines: Vec<String>,
}

impl Said {
    /// Reads until a line has these words; the daemons that were named before.
    fn until(&mut self, words: &str) -> Vec<OwnedFd> {
        loop {
            let mut line = String::new();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "the demo ended early: {:#?}", self.lines);
            let found = line.contains(words);
            self.lines.push(line.trim_end().to_owned());
            if found {
                break;
            }
        }
        let pids = self.lines.iter().filter_map(|line| line.split_once("daemon is process "));
        let daemons: Vec<OwnedFd> = pids
            .map(|(_, pid)| pidfd_open(Pid::from_raw(pid.parse().unwrap()).unwrap(), PidfdFlags::empty()).unwrap())
            .collect();
        assert_eq!(daemons.len(), 2);
        daemons
    }

    fn socket_of_first_host(&self) -> String {
        let line = self.lines.iter().find(|line| line.contains("its daemon")).unwrap();
        line.split_whitespace().skip_while(|word| *word != "--socket").nth(1).unwrap().to_owned()
    }

    fn container_of_first_host(&self) -> u32 {
        let line = self.lines.iter().find(|line| line.contains("its container")).unwrap();
        line.split_whitespace().find_map(|word| word.parse().ok()).unwrap()
    }
}

/// What a command of the daemon's binary prints.
fn ask(socket: &str, arguments: &[&str]) -> String {
    let outcome = program(overlayd()).args(arguments).args(["--socket", socket]).output().unwrap();
    assert!(outcome.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&outcome.stderr));
    String::from_utf8(outcome.stdout).unwrap()
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
