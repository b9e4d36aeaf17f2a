//! The command line against a real daemon: what it prints and how it exits.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;
#[path = "cli/daemon.rs"]
mod daemon;

use common::{overlayd, run};
use daemon::Daemon;
use serde_json::{Value, json};

#[test]
fn the_build_id_is_sixty_four_hex_digits_and_nothing_happens() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let outcome = run(&["--build-id", "--data-dir", data_dir.to_str().unwrap()]);
    assert_eq!(outcome.code, Some(0));
    let id = outcome.out.trim_end();
    assert!(id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    assert!(!data_dir.exists());
}

#[test]
fn the_version_names_the_program() {
    let outcome = run(&["--version"]);
    assert_eq!((outcome.code, outcome.out), (Some(0), format!("overlayd {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn what_makes_no_sense_exits_with_two() {
    let nonsense: [&[&str]; 6] = [
        &["--frobnicate"],
        &["attach", "--service", "web"],
        &["attach", "--service", "web", "--pid", "1", "--guest", "vm"],
        &["call", "not json"],
        &["call", r#"{"op":"make_coffee"}"#],
        &["call", r#"{"op":"teardown_service_overlay","service":"web","servcie":"db"}"#],
    ];
    for arguments in nonsense {
        let outcome = run(arguments);
        assert_eq!(outcome.code, Some(2), "{arguments:?}: {}", outcome.err);
        assert!(outcome.out.is_empty() && !outcome.err.is_empty());
    }
}

#[test]
fn where_no_daemon_answers_the_socket_is_named_and_three_returned() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("absent.sock");
    for command in ["status", "peers", "services"] {
        let outcome = run(&[command, "--socket", socket.to_str().unwrap()]);
        assert_eq!(outcome.code, Some(3));
        assert!(outcome.err.contains(socket.to_str().unwrap()), "{}", outcome.err);
    }
}

#[test]
fn a_refusal_exits_with_one_and_the_daemon_s_reason() {
    let daemon = Daemon::start();
    let outcome = daemon.ask(&["attach", "--pid", "1", "--service", "absent"]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.err.contains("absent"), "{}", outcome.err);
    let outcome = daemon.ask(&["call", r#"{"op":"teardown_service_overlay","service":"absent"}"#]);
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(0), "{\"result\":\"ok\"}\n"));
}

#[test]
fn a_refused_call_prints_the_reply_and_exits_with_one() {
    let daemon = Daemon::start();
    let request = r#"{"op":"setup_global_overlay","deployment":"d","instance_id":"i","cluster_cidr":"no","wg_port":1}"#;
    let outcome = daemon.ask(&["call", request]);
    let reply: Value = serde_json::from_str(&outcome.out).unwrap();
    assert_eq!((outcome.code, &reply["result"]), (Some(1), &json!("err")));
}

#[test]
fn a_request_may_come_from_standard_input() {
    use std::io::Write as _;
    let daemon = Daemon::start();
    let mut command = overlayd();
    command.args(["call", "-", "--data-dir"]).arg(daemon.data_dir());
    let mut child = command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(br#"{"op":"hello"}"#).unwrap();
    let reply: Value = serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(reply["build"], format!("overlayd {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn status_is_a_table_for_people_and_the_wire_s_fields_for_programs() {
    let daemon = Daemon::start();
    let table = daemon.ask(&["status"]);
    assert_eq!(table.code, Some(0));
    let cells: Vec<Vec<_>> = table.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(cells.contains(&vec!["peers", "0"]) && cells.contains(&vec!["interface", "-"]), "{}", table.out);
    let reply: Value = serde_json::from_str(&daemon.ask(&["status", "--json"]).out).unwrap();
    assert_eq!(reply["result"], "status");
    assert_eq!((&reply["peer_count"], &reply["service_count"]), (&json!(0), &json!(0)));
    assert_eq!(daemon.ask(&["peers", "--json"]).out, "[]\n");
    assert_eq!(daemon.ask(&["services", "--json"]).out, "[]\n");
    assert_eq!(daemon.ask(&["services"]).out, "no services\n");
}

#[test]
fn ports_are_published_to_attached_containers_alone_and_edges_are_listed() {
    let daemon = Daemon::start();
    let refused = daemon.ask(&["publish", "--pid", "1", "8080:80"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("not attached"), "{}", refused.err);
    assert_eq!(daemon.ask(&["publish", "--pid", "1", "80"]).code, Some(2));
    assert_eq!(daemon.ask(&["edges"]).out, "no edge peers\n");
    assert_eq!(daemon.ask(&["edges", "--json"]).out, "[]\n");
}

#[test]
fn sigterm_ends_the_daemon_with_zero_and_takes_its_socket_away() {
    let mut daemon = Daemon::start();
    daemon.terminate();
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(!daemon.socket().exists());
    assert_eq!(daemon.ask(&["status"]).code, Some(3));
}

#[test]
fn a_shutdown_request_is_answered_and_ends_the_daemon_with_zero() {
    let mut daemon = Daemon::start();
    let outcome = daemon.ask(&["call", r#"{"op":"shutdown"}"#]);
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(0), "{\"result\":\"ok\"}\n"));
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn a_second_daemon_on_the_same_data_is_refused_and_the_first_goes_on() {
    let daemon = Daemon::start();
    let second = overlayd().args(["run", "--data-dir"]).arg(daemon.data_dir()).output().unwrap();
    let complaint = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(complaint.contains("another overlayd"), "{complaint}");
    assert_eq!(daemon.ask(&["status"]).code, Some(0));
}

#[test]
fn a_misspelt_setting_stops_the_start_and_is_named_with_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("overlayd.toml");
    std::fs::write(&file, "gruop = \"ops\"\n").unwrap();
    let outcome = run(&["run", "--data-dir", directory.path().to_str().unwrap()]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.err.contains("gruop") && outcome.err.contains(file.to_str().unwrap()), "{}", outcome.err);
}

#[test]
fn state_that_cannot_be_read_stops_the_start_and_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("overlayd");
    std::fs::create_dir(&state).unwrap();
    std::fs::write(state.join("state.redb"), "this is no state").unwrap();
    let outcome = run(&["run", "--data-dir", directory.path().to_str().unwrap()]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.err.contains("state.redb"), "{}", outcome.err);
}

#[test]
fn the_daemon_s_memory_is_closed_to_others_and_never_in_a_core_file() {
    use std::os::unix::{fs::MetadataExt as _, process::CommandExt as _};
    // What belongs to a process that can be dumped has its group, and else root's.
    let group = if rustix::process::geteuid().is_root() { 65_534 } else { rustix::process::getegid().as_raw() };
    let daemon = Daemon::start_as(|command| command.gid(group));
    let proc = format!("/proc/{}", daemon.pid());
    let memory = std::fs::metadata(format!("{proc}/mem")).unwrap();
    assert_eq!(std::fs::metadata(&proc).unwrap().gid(), group);
    assert_eq!((memory.uid(), memory.gid()), (0, 0));
    let limits = std::fs::read_to_string(format!("{proc}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
}

#[test]
fn a_watchdog_is_fed_while_requests_are_answered_and_where_none_is_set_nobody_is() {
    let mut watched = Daemon::start_as(|command| command.env("WATCHDOG_USEC", "300000"));
    for _ in 0..3 {
        assert_eq!(watched.told(), "WATCHDOG=1");
    }
    watched.terminate();
    while watched.told() == "WATCHDOG=1" {}
    assert!(watched.wait().success());
    let mut alone = Daemon::start();
    alone.terminate();
    assert_eq!(alone.told(), "STOPPING=1");
    assert!(alone.wait().success());
}
