//! Who is served, and how many.

use std::{
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};

use nix::unistd::{Group, getgid};
use overlayd_client::{Client, ClientError, ClientOptions};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use super::*;

/// A user that owns nothing.
const STRANGER: u32 = 65_534;

/// Asks as a user who is neither root nor, by the daemon's lights, its own; `group` is among the groups of that user.
/// User ids belong to the thread, so root becomes another user here; other users are strangers to a daemon
/// [`ServingListener::of_another_user`] as they are, and members of their own group.
async fn ask_as_stranger(socket: PathBuf, group: Option<u32>) -> Response {
    let asking = move || {
        if rustix::process::geteuid().is_root() {
            let groups: Vec<_> = group.into_iter().map(rustix::fs::Gid::from_raw).collect();
            set_thread_groups(&groups).unwrap();
            set_thread_gid(rustix::fs::Gid::from_raw(STRANGER)).unwrap();
            set_thread_uid(rustix::fs::Uid::from_raw(STRANGER)).unwrap();
        }
        let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
        let mut bytes = BytesMut::new();
        FrameCodec.encode(&Frame::Request { id: 9, request: Request::Status }, &mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut replies = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let mut buffer = BytesMut::from(&replies[..]);
            if let Some(body) = FrameCodec.decode(&mut buffer).unwrap() {
                let Frame::Response { id: 9, response } = Frame::decode(&body).unwrap() else { panic!() };
                return response;
            }
            let read = stream.read(&mut chunk).unwrap();
            assert_ne!(read, 0, "the connection was closed without a word");
            replies.extend_from_slice(&chunk[..read]);
        }
    };
    let (told, answer) = tokio::sync::oneshot::channel();
    let thread = std::thread::spawn(move || told.send(asking()).unwrap());
    let answer = answer.await;
    thread.join().unwrap();
    answer.unwrap()
}

/// Lets everybody connect, so that it is the daemon that decides.
fn open_to_all(dir: &Path, socket: &Path) {
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666)).unwrap();
}

/// A group that this test can be a member of.
fn some_group() -> Group {
    let own = Group::from_gid(getgid()).unwrap().expect("the user's group has a name");
    if getgid().is_root() { Group::from_name("daemon").unwrap().unwrap_or(own) } else { own }
}

trait IsRoot {
    fn is_root(&self) -> bool;
}

impl IsRoot for nix::unistd::Gid {
    fn is_root(&self) -> bool {
        self.as_raw() == 0
    }
}

#[tokio::test]
async fn the_daemons_own_user_is_served_under_its_identity() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("overlayd.sock");
    let daemon = ServingListener::start(&socket, ConnectionLimits::default()).await.unwrap();
    let uid = rustix::process::geteuid().as_raw();
    let Response::BridgeName { name } = call(&socket).await else { panic!() };
    assert!(name.starts_with(&format!("uid {uid} ")), "{name}");
    assert!(name.ends_with(&format!("pid {}", std::process::id())), "{name}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_stranger_is_told_why_it_gets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("overlayd.sock");
    let daemon = ServingListener::of_another_user(&socket, None).await;
    open_to_all(dir.path(), &socket);
    let Response::Err { message, .. } = ask_as_stranger(socket, None).await else { panic!() };
    assert!(message.contains("not allowed") && message.contains("uid "), "{message}");
    assert!(message.contains(&format!("pid {}", std::process::id())), "{message}");
    assert_eq!((daemon.counters.refused.get(), daemon.counters.accepted.get()), (1, 0));
    daemon.stop().await;
}

#[tokio::test]
async fn a_member_of_the_group_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("overlayd.sock");
    let group = some_group();
    let daemon = ServingListener::of_another_user(&socket, Some(&group.name)).await;
    assert_eq!(std::os::unix::fs::MetadataExt::gid(&socket.metadata().unwrap()), group.gid.as_raw());
    open_to_all(dir.path(), &socket);
    let reply = ask_as_stranger(socket, Some(group.gid.as_raw())).await;
    assert!(matches!(reply, Response::BridgeName { .. }), "{reply:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_the_others_are_served_on() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("overlayd.sock");
    let daemon = ServingListener::start(&socket, ConnectionLimits { connections: 2, ..ConnectionLimits::default() })
        .await
        .unwrap();
    let mut first = UnixStream::connect(&socket).await.unwrap();
    let mut second = UnixStream::connect(&socket).await.unwrap();
    ask(&mut first, 1).await.unwrap();
    ask(&mut second, 1).await.unwrap();
    let mut third = UnixStream::connect(&socket).await.unwrap();
    ask(&mut third, 1).await.unwrap_err();
    assert_eq!(daemon.counters.over_limit.get(), 1);
    ask(&mut first, 2).await.unwrap();
    drop(second);
    // The place is free once the daemon has noticed.
    let again = async {
        loop {
            let mut again = UnixStream::connect(&socket).await.unwrap();
            if ask(&mut again, 1).await.is_ok() {
                break;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), again).await.expect("the place was never given back");
    daemon.stop().await;
}

#[tokio::test]
async fn open_connections_are_closed_when_the_daemon_stops() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("overlayd.sock");
    let daemon = ServingListener::start(&socket, ConnectionLimits::default()).await.unwrap();
    let mut idle = UnixStream::connect(&socket).await.unwrap();
    ask(&mut idle, 1).await.unwrap();
    daemon.stop().await;
    assert_eq!(idle.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    assert!(UnixStream::connect(&socket).await.is_err());
}

#[tokio::test]
async fn a_client_finds_the_daemon_again_after_it_was_restarted() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("overlayd.sock");
    let client = Client::unix(&socket, ClientOptions::default());
    let daemon = ServingListener::start(&socket, ConnectionLimits::default()).await.unwrap();
    client.call(Request::Status).await.unwrap();
    daemon.stop().await;
    let restarted = ServingListener::start(&socket, ConnectionLimits::default()).await.unwrap();
    // A call may still meet the end of the old connection; the one after it meets the new daemon.
    if let Err(error) = client.call(Request::Status).await {
        assert!(matches!(error, ClientError::Transport { .. }), "{error}");
        client.call(Request::Status).await.unwrap();
    }
    assert_eq!(restarted.counters.accepted.get(), 1);
    restarted.stop().await;
    let error = client.call(Request::Status).await.unwrap_err();
    let error = match error {
        ClientError::Transport { .. } => client.call(Request::Status).await.unwrap_err(),
        unreachable => unreachable,
    };
    assert!(error.to_string().contains(&*socket.to_string_lossy()), "{error}");
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
}
