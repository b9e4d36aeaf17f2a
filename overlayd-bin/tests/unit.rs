//! The systemd unit in `dist/`: what systemd makes of it, and that it fits this binary.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::process::Command;

use common::run;

const UNIT: &str = include_str!("../dist/overlayd.service");
/// Where packages put the binary.
const INSTALLED: &str = "/usr/bin/overlayd";

/// The value of a setting that is given once.
fn value(setting: &str) -> &'static str {
    let mut values = UNIT.lines().filter_map(|line| line.strip_prefix(setting)?.strip_prefix('='));
    let value = values.next().unwrap_or_else(|| panic!("{setting} is not set"));
    assert_eq!(values.next(), None, "{setting} is set twice");
    value
}

#[test]
fn the_binary_takes_the_flags_of_the_unit() {
    let mut words = value("ExecStart").split(' ');
    assert_eq!(words.next(), Some(INSTALLED));
    let arguments: Vec<&str> = words.chain(["--help"]).collect();
    let outcome = run(&arguments);
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    assert!(outcome.out.contains("Usage"), "{}", outcome.out);
    assert!(arguments.windows(2).any(|pair| pair == ["--data-dir", "/var/lib/zlayer"]), "{arguments:?}");
}

#[test]
fn a_reload_upgrades_the_daemon_of_the_unit() {
    let start = value("ExecStart").strip_prefix("/usr/bin/overlayd run ").unwrap();
    assert_eq!(value("ExecReload"), format!("{INSTALLED} upgrade {start}"));
}

#[test]
fn the_unit_grants_what_the_lab_shows_to_be_enough_and_no_more() {
    for set in ["CapabilityBoundingSet", "AmbientCapabilities"] {
        assert_eq!(value(set), "CAP_NET_ADMIN CAP_SYS_ADMIN CAP_NET_BIND_SERVICE");
    }
    assert_eq!((value("KillMode"), value("Type"), value("NotifyAccess")), ("process", "notify", "main"));
    assert_eq!((value("NoNewPrivileges"), value("LimitCORE")), ("yes", "0"));
}

#[test]
fn systemd_understands_every_line_of_the_unit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("overlayd.service");
    std::fs::write(&path, UNIT.replace(INSTALLED, env!("CARGO_BIN_EXE_overlayd"))).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test runs a tool")]
    let outcome = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output();
    match outcome {
        Ok(outcome) => {
            let complaints = String::from_utf8_lossy(&outcome.stderr).into_owned();
            assert!(outcome.status.success() && !complaints.contains("overlayd.service"), "{complaints}");
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => eprintln!("skipped: no systemd-analyze here"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn systemd_rates_the_unit_as_little_exposed() {
    /// In tenths, as `--threshold` takes it; 3.9 of 10 was seen.
    const MOST: &str = "--threshold=42";
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("overlayd.service");
    std::fs::write(&path, UNIT).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test runs a tool")]
    let mut systemd_analyze = Command::new("systemd-analyze");
    match systemd_analyze.args(["--no-pager", "security", "--offline=true", MOST]).arg(&path).output() {
        Ok(outcome) => {
            let said = String::from_utf8_lossy(&outcome.stdout).into_owned();
            assert!(outcome.status.success(), "{said}");
            println!("{}", said.lines().last().unwrap_or_default());
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => eprintln!("skipped: no systemd-analyze here"),
        Err(error) => panic!("{error}"),
    }
}
