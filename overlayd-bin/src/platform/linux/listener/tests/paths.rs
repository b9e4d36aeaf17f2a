//! What becomes of the socket's path.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, fs::symlink},
};

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use super::*;

/// Leaves a socket behind that no process listens on.
fn leave_stale(socket: &Path) {
    drop(std::os::unix::net::UnixListener::bind(socket).unwrap());
    assert!(socket.exists());
}

async fn refusal(socket: &Path) -> String {
    ServingListener::start(socket, ConnectionLimits::default()).await.err().expect("the path was taken").to_string()
}

#[tokio::test]
async fn the_socket_is_made_with_its_directory_and_mode_and_removed_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("run/overlayd.sock");
    let daemon = ServingListener::start(&socket, ConnectionLimits::default()).await.unwrap();
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o660);
    daemon.stop().await;
    assert!(!socket.exists(), "the socket stayed behind");
}

#[tokio::test]
async fn a_live_socket_is_never_stolen() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("overlayd.sock");
    let daemon = ServingListener::start(&socket, ConnectionLimits::default()).await.unwrap();
    let refusal = refusal(&socket).await;
    assert!(refusal.contains("another process is listening") && refusal.contains("overlayd.sock"), "{refusal}");
    assert!(matches!(call(&socket).await, Response::BridgeName { .. }));
    daemon.stop().await;
}

#[tokio::test]
async fn a_live_socket_whose_daemon_does_not_accept_is_not_stolen_either() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("overlayd.sock");
    let _hung = rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None)
        .and_then(|hung| {
            rustix::net::bind(&hung, &rustix::net::SocketAddrUnix::new(&socket)?)?;
            rustix::net::listen(&hung, 0)?;
            Ok(hung)
        })
        .unwrap();
    // A backlog of 0 holds one connection; it is full now.
    let _waiting = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    let refusal = refusal(&socket).await;
    assert!(refusal.contains("another process is listening"), "{refusal}");
}

#[tokio::test]
async fn the_socket_of_a_daemon_that_is_gone_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("overlayd.sock");
    leave_stale(&socket);
    let daemon = ServingListener::start(&socket, ConnectionLimits::default()).await.unwrap();
    assert!(matches!(call(&socket).await, Response::BridgeName { .. }));
    daemon.stop().await;
}

#[tokio::test]
async fn of_two_daemons_that_find_the_same_stale_socket_one_wins_and_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..50 {
        let socket = dir.path().join(format!("{round}.sock"));
        leave_stale(&socket);
        let (one, other) = tokio::join!(
            ServingListener::start(&socket, ConnectionLimits::default()),
            ServingListener::start(&socket, ConnectionLimits::default())
        );
        let winner = match (one, other) {
            (Ok(winner), Err(refusal)) | (Err(refusal), Ok(winner)) => {
                assert!(refusal.to_string().contains("another process is listening"), "{refusal}");
                winner
            }
            both => panic!("{} won", [both.0.is_ok(), both.1.is_ok()].iter().filter(|won| **won).count()),
        };
        assert!(matches!(call(&socket).await, Response::BridgeName { .. }));
        winner.stop().await;
    }
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (file, folder, link) = (dir.path().join("file"), dir.path().join("folder"), dir.path().join("link"));
    fs::write(&file, "precious").unwrap();
    fs::create_dir(&folder).unwrap();
    symlink(&file, &link).unwrap();
    for path in [&file, &folder, &link] {
        let refusal = refusal(path).await;
        assert!(refusal.contains("no socket") && refusal.contains(&*path.to_string_lossy()), "{refusal}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    assert!(folder.is_dir() && link.is_symlink());
}

#[tokio::test]
async fn a_socket_that_has_taken_the_place_of_ours_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("overlayd.sock");
    let daemon = ServingListener::start(&socket, ConnectionLimits::default()).await.unwrap();
    fs::remove_file(&socket).unwrap();
    let successor = ServingListener::start(&socket, ConnectionLimits::default()).await.unwrap();
    daemon.stop().await;
    assert!(matches!(call(&socket).await, Response::BridgeName { .. }));
    successor.stop().await;
}

#[test]
fn two_network_capabilities_are_enough() {
    // Capabilities belong to the thread, and this runtime stays on it.
    let serve = || {
        let left = capabilities(None).unwrap().permitted & (CapabilitySet::NET_ADMIN | CapabilitySet::SYS_ADMIN);
        let sets = CapabilitySets { effective: left, permitted: left, inheritable: CapabilitySet::empty() };
        set_capabilities(None, sets).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let socket = dir.path().join("run/overlayd.sock");
            let lock = crate::daemon::InstanceLock::acquire(dir.path()).unwrap();
            fs::create_dir(dir.path().join("run")).unwrap();
            leave_stale(&socket);
            let daemon = ServingListener::start(&socket, ConnectionLimits::default()).await.unwrap();
            assert!(matches!(call(&socket).await, Response::BridgeName { .. }));
            daemon.stop().await;
            assert!(!socket.exists());
            drop(lock);
        });
    };
    std::thread::spawn(serve).join().unwrap();
}
