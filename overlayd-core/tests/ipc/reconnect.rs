//! What a program sees when the connection breaks, or cannot be made.

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use overlayd_client::{ByteStream, Client, ClientError, ClientOptions, Connector, EventNotice, EventStream};
use overlayd_core::{
    ipc::ConnectionLimits,
    protocol::{Hello, Request},
};
use tokio::{io::DuplexStream, sync::oneshot, task::AbortHandle};

use crate::desk::Server;

/// A server whose present connection a test can cut.
#[derive(Clone)]
struct CutableServer {
    server: Server,
    relay: std::sync::Arc<Mutex<Option<AbortHandle>>>,
}

impl CutableServer {
    fn new() -> Self {
        Self { server: Server::new(ConnectionLimits::default()), relay: std::sync::Arc::default() }
    }

    /// Ends the connection, as a daemon does that is replaced.
    fn cut(&self) {
        let relay = self.relay.lock().unwrap_or_else(PoisonError::into_inner).take();
        relay.expect("there is a connection").abort();
    }
}

async fn relay(mut client: DuplexStream, mut daemon: Box<dyn ByteStream>, begun: oneshot::Sender<()>) {
    begun.send(()).expect("the connector waits");
    // It ends when either end does, or when it is cut.
    let copied = tokio::io::copy_bidirectional(&mut client, &mut daemon).await;
    drop(copied);
}

#[async_trait]
impl Connector for CutableServer {
    fn endpoint(&self) -> String {
        "a desk that can be cut off".to_owned()
    }

    async fn connect(&self) -> io::Result<Box<dyn ByteStream>> {
        let daemon = Connector::connect(&self.server).await?;
        let (near, far) = tokio::io::duplex(1 << 16);
        let (begun, has_begun) = oneshot::channel();
        let task = tokio::spawn(relay(far, daemon, begun)).abort_handle();
        has_begun.await.map_err(io::Error::other)?;
        *self.relay.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        Ok(Box::new(near))
    }
}

async fn lost(events: &mut EventStream) {
    let notice = events.next().await.expect("the client is there");
    assert!(matches!(notice, EventNotice::ConnectionLost { .. }), "{notice:?}");
}

/// How often the daemon was told `hello`.
fn introductions(server: &Server) -> usize {
    server.desk.begun().iter().filter(|request| matches!(request, Request::Hello(_))).count()
}

#[tokio::test]
async fn a_lost_connection_is_told_once_and_hello_is_said_again_on_the_next() {
    let server = CutableServer::new();
    let client = Client::new(server.clone(), ClientOptions::default());
    let mut events = client.events();
    client.hello(Hello::new("a test 1").events(["attached"])).await.unwrap();
    client.nat_tick().await.unwrap();
    assert_eq!(introductions(&server.server), 1);
    for broken in 1..=2 {
        server.cut();
        lost(&mut events).await;
        client.connect().await.unwrap();
        assert_eq!(introductions(&server.server), 1 + broken);
    }
    let said = Request::Hello(Hello::new("a test 1").events(["attached"]));
    assert_eq!(server.server.desk.begun().last(), Some(&said));
}

#[tokio::test]
async fn hello_in_the_options_comes_before_everything_else() {
    let server = CutableServer::new();
    let options = ClientOptions::default().hello(Hello::new("a test 2"));
    let client = Client::new(server.clone(), options);
    client.nat_tick().await.unwrap();
    assert_eq!(server.server.desk.begun()[0], Request::Hello(Hello::new("a test 2")));
}

#[tokio::test]
async fn the_stream_of_events_ends_with_the_last_clone_of_the_client() {
    let client = Client::new(CutableServer::new(), ClientOptions::default());
    let mut events = client.events();
    client.nat_tick().await.unwrap();
    drop(client);
    assert!(events.next().await.is_none());
}

/// An endpoint that belongs to others.
struct ForbiddenEndpoint;

#[async_trait]
impl Connector for ForbiddenEndpoint {
    fn endpoint(&self) -> String {
        "/run/forbidden.sock".to_owned()
    }

    fn access(&self) -> Option<String> {
        Some("it belongs to root:zlayer, 0660; join the group zlayer or use sudo".to_owned())
    }

    async fn connect(&self) -> io::Result<Box<dyn ByteStream>> {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

#[tokio::test]
async fn a_user_without_permission_is_told_whose_socket_it_is() {
    let client = Client::new(ForbiddenEndpoint, ClientOptions::default().attempts(1));
    let denied = client.status().await.unwrap_err();
    assert!(matches!(denied, ClientError::NotPermitted { .. }));
    assert_eq!(
        denied.to_string(),
        "you may not use /run/forbidden.sock: it belongs to root:zlayer, 0660; join the group zlayer or use sudo"
    );
}
