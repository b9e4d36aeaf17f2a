//! A daemon that runs out of file descriptors.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;

/// Tells the second test, in a process of its own, where to listen.
const SOCKET: &str = "OVERLAYD_TEST_SOCKET";
/// Connections for which the daemon has descriptors.
const SPARE: usize = 4;

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the limit is the process's, so the daemon needs one of its own")]
async fn a_daemon_out_of_descriptors_lives_on_and_serves_again_when_it_has_some() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("overlayd.sock");
    let name = "platform::linux::listener::tests::descriptors::daemon_with_few_descriptors";
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--quiet"])
        .env(SOCKET, &socket)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut connections = Vec::new();
    for _ in 0..3 * SPARE {
        connections.push(connect(&socket).await);
    }
    until("the daemon never ran out of descriptors", || sign(&socket).exists()).await;
    // Those that found no descriptor wait in the backlog: none of them is refused, and none stops the daemon.
    for stream in &mut connections[..2] {
        ask(stream, 1).await.unwrap();
    }
    let mut late = connections.split_off(2 * SPARE);
    drop(connections);
    for stream in &mut late {
        ask(stream, 1).await.unwrap();
    }
    drop(daemon.stdin.take());
    assert!(daemon.wait().unwrap().success());
}

/// Connects as soon as the daemon listens.
async fn connect(socket: &Path) -> UnixStream {
    until("the daemon never listened", || socket.exists()).await;
    UnixStream::connect(socket).await.unwrap()
}

/// What the daemon makes once it has run out of descriptors.
fn sign(socket: &Path) -> PathBuf {
    socket.with_extension("out")
}

/// Waits for something that another process does.
async fn until(failure: &str, condition: impl Fn() -> bool) {
    for _ in 0..3000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{failure}");
}

#[tokio::test]
#[ignore = "run by the test above in a process of its own"]
async fn daemon_with_few_descriptors() {
    let socket = PathBuf::from(std::env::var_os(SOCKET).expect("run by another test"));
    let listener = ClientListener::bind(config(&socket, ConnectionLimits::default())).await.unwrap();
    let few = 1 + (0..).filter(|fd| !Path::new(&format!("/proc/self/fd/{fd}")).is_symlink()).nth(SPARE - 1).unwrap();
    setrlimit(Resource::Nofile, Rlimit { current: Some(few), ..getrlimit(Resource::Nofile) }).unwrap();
    let daemon = ServingListener::serve(listener);
    until("there were always enough descriptors", || daemon.counters.accept_failures.get() > 0).await;
    // Making a file takes a descriptor; a link takes none.
    std::os::unix::fs::symlink("/", sign(&socket)).unwrap();
    let input_ended = || std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    tokio::task::spawn_blocking(input_ended).await.unwrap().unwrap();
    daemon.stop().await;
}
