//! What a program sees that uses the client library.

use std::{io, sync::Arc, time::Duration};

use async_trait::async_trait;
use overlayd_client::{ByteStream, Client, ClientError, ClientOptions, Connector, EventNotice};
use overlayd_core::{
    ipc::ConnectionLimits,
    protocol::{Event, Frame, Hello, Request, Response},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use crate::desk::{Server, held_request};

fn client(server: &Server) -> Client {
    Client::new(server.clone(), ClientOptions::default())
}

#[tokio::test]
async fn many_calls_share_a_connection_and_each_gets_its_own_reply() {
    let server = Server::new(ConnectionLimits::default());
    let client = client(&server);
    let calls = (0..500_u16).map(|n| {
        let client = client.clone();
        tokio::spawn(async move {
            let ip = std::net::IpAddr::from([10, 0, (n >> 8) as u8, n as u8]);
            assert_eq!(client.call(Request::ReleaseIp { ip }).await.unwrap(), Response::Ip { ip });
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    assert_eq!(server.service.counters.accepted.get(), 1);
}

#[tokio::test]
async fn typed_calls_give_what_they_say() {
    let server = Server::new(ConnectionLimits::default());
    let client = client(&server);
    *server.desk.interface.lock().unwrap() = Some("zl-a-n1-g".to_owned());
    assert_eq!(client.status().await.unwrap().interface.as_deref(), Some("zl-a-n1-g"));
    assert_eq!(client.hello(Hello::default()).await.unwrap().build, "desk 1");
    client.nat_tick().await.unwrap();
}

#[tokio::test]
async fn a_refusal_and_a_reply_of_the_wrong_kind_leave_the_connection_healthy() {
    let server = Server::new(ConnectionLimits::default());
    let client = client(&server);
    let refused = client.remove_scoped_resolver("atlas").await;
    let Err(ClientError::Refused { message, code }) = refused else { panic!("{refused:?}") };
    assert_eq!((message.as_str(), code.as_deref()), ("no zone atlas", Some("missing")));
    let unexpected = client.list_edge_peers().await;
    assert!(matches!(unexpected, Err(ClientError::UnexpectedReply { op: "list_edge_peers", .. })), "{unexpected:?}");
    client.nat_tick().await.unwrap();
    assert_eq!(server.service.counters.accepted.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_times_out_does_not_disturb_the_next() {
    let server =
        Server::new(ConnectionLimits { request_deadline: Duration::from_secs(600), ..ConnectionLimits::default() });
    let options = ClientOptions::default().timeout(Duration::from_secs(3));
    let client = Client::new(server.clone(), options);
    let asked = Instant::now();
    let late = client.call(held_request()).await;
    assert!(matches!(late, Err(ClientError::Timeout { op: "teardown_service_overlay", .. })), "{late:?}");
    assert_eq!(asked.elapsed().as_secs(), 3);
    server.desk.release(1);
    client.nat_tick().await.unwrap();
    assert_eq!(server.service.counters.accepted.get(), 1);
}

#[tokio::test]
async fn a_broken_connection_fails_its_calls_and_the_next_call_connects_again() {
    let flaky = Flaky { server: Server::new(ConnectionLimits::default()), hang_up: 1.into() };
    let client = Client::new(flaky, ClientOptions::default());
    let broken = client.nat_tick().await;
    assert!(matches!(broken, Err(ClientError::Transport { .. })), "{broken:?}");
    client.nat_tick().await.unwrap();
}

/// Connections of which the first ones are closed by the daemon as soon as something is asked.
struct Flaky {
    server: Server,
    hang_up: std::sync::atomic::AtomicI32,
}

#[async_trait]
impl Connector for Flaky {
    fn endpoint(&self) -> String {
        "a flaky desk".to_owned()
    }

    async fn connect(&self) -> io::Result<Box<dyn ByteStream>> {
        if self.hang_up.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) <= 0 {
            return Connector::connect(&self.server).await;
        }
        let (ours, mut theirs) = tokio::io::duplex(4096);
        tokio::spawn(async move { theirs.read_u8().await });
        Ok(Box::new(ours))
    }
}

#[tokio::test(start_paused = true)]
async fn connecting_is_tried_with_growing_pauses_and_then_given_up_with_the_place() {
    struct NoDaemon;
    #[async_trait]
    impl Connector for NoDaemon {
        fn endpoint(&self) -> String {
            "/run/none.sock".to_owned()
        }
        async fn connect(&self) -> io::Result<Box<dyn ByteStream>> {
            Err(io::ErrorKind::NotFound.into())
        }
    }
    let begun = Instant::now();
    let error = Client::new(NoDaemon, ClientOptions::default()).status().await.unwrap_err();
    assert_eq!(begun.elapsed().as_millis(), 100 + 200 + 400 + 800 + 1000);
    assert!(matches!(error, ClientError::Unreachable { attempts: 6, .. }));
    assert!(error.to_string().contains("/run/none.sock"), "{error}");
}

#[tokio::test]
async fn events_are_delivered_beside_replies() {
    let server = Server::new(ConnectionLimits::default());
    let client = client(&server);
    let mut events = client.events();
    client.nat_tick().await.unwrap();
    let event = Event::NatEndpointChanged { pubkey: "k".to_owned(), endpoint: "192.0.2.1:1".to_owned() };
    server.desk.events.send(Arc::new(event.clone())).unwrap();
    client.nat_tick().await.unwrap();
    let Some(EventNotice::Event(told)) = events.next().await else { panic!("no event") };
    assert_eq!(*told, event);
}

/// A daemon that says what it is told, byte for byte, once it has been asked something.
struct Scripted(Vec<u8>);

#[async_trait]
impl Connector for Scripted {
    fn endpoint(&self) -> String {
        "a script".to_owned()
    }

    async fn connect(&self) -> io::Result<Box<dyn ByteStream>> {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let script = self.0.clone();
        tokio::spawn(async move {
            theirs.read_u8().await.unwrap();
            theirs.write_all(&script).await.unwrap();
            let mut rest = Vec::new();
            theirs.read_to_end(&mut rest).await
        });
        Ok(Box::new(ours))
    }
}

fn script(bodies: &[&str]) -> Client {
    let bytes = bodies.iter().flat_map(|body| {
        let len = u32::try_from(body.len()).unwrap().to_le_bytes();
        len.into_iter().chain(body.bytes()).collect::<Vec<_>>()
    });
    Client::new(Scripted(bytes.collect()), ClientOptions::default())
}

#[tokio::test]
async fn what_a_newer_daemon_says_beside_the_reply_is_passed_over() {
    let reply = String::from_utf8(Frame::Response { id: 1, response: Response::Ok }.encode().unwrap()).unwrap();
    let client = script(&[
        r#"{"frame":"event","event":"not_invented_yet","x":1}"#,
        r#"{"frame":"response","id":99,"response":{"result":"ok"}}"#,
        &reply,
    ]);
    client.nat_tick().await.unwrap();
}

#[tokio::test]
async fn a_reply_of_an_unknown_kind_fails_its_call_alone() {
    let client = script(&[
        r#"{"frame":"response","id":1,"response":{"result":"not_invented_yet"}}"#,
        r#"{"frame":"response","id":2,"response":{"result":"ok"}}"#,
    ]);
    let (first, second) = tokio::join!(client.nat_tick(), client.nat_tick());
    assert!(matches!(first, Err(ClientError::UnexpectedReply { op: "nat_tick", .. })), "{first:?}");
    second.unwrap();
}

#[tokio::test]
async fn a_request_from_the_daemon_is_an_error_of_the_connection() {
    let client = script(&[r#"{"frame":"request","id":1,"request":{"op":"status"}}"#]);
    let broken = client.nat_tick().await;
    assert!(matches!(broken, Err(ClientError::Transport { .. })), "{broken:?}");
}

#[tokio::test]
async fn a_request_that_is_too_long_is_not_sent() {
    let server = Server::new(ConnectionLimits::default());
    let client = client(&server);
    let name = "x".repeat(overlayd_core::protocol::MAX_FRAME_LEN);
    let unsendable = client.revoke_edge_peer(name).await;
    assert!(matches!(unsendable, Err(ClientError::Unsendable { op: "revoke_edge_peer", .. })), "{unsendable:?}");
    client.nat_tick().await.unwrap();
}
