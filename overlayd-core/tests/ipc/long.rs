//! Replies that take long to write.

use std::sync::mpsc;

use overlayd_core::{
    ipc::ConnectionLimits,
    protocol::{ListedPeers, PeerStatus, Request, Response},
};

use crate::{desk::Server, line::Line};

#[test]
fn a_long_reply_is_written_beside_what_others_ask_and_short_ones_need_no_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let server = Server::new(ConnectionLimits::default());
        let peer = |number: i64| PeerStatus {
            public_key: "key".to_owned(),
            endpoint: String::new(),
            allowed_ips: String::new(),
            last_handshake_unix_secs: number,
        };
        let peers = ListedPeers::from((0..50_000).map(peer).collect::<Vec<_>>());
        *server.desk.peers.lock().unwrap() = peers.clone();
        // The only thread for what takes long has something else to do.
        let (go, waits) = mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || waits.recv());
        let (stream, _) = server.connect(1 << 16);
        let mut long = Line::new(stream);
        long.say(1, Request::Status).await;
        server.desk.until_ended("status", 1).await;
        let (stream, _) = server.connect(1 << 16);
        let mut short = Line::new(stream);
        let ip = [10, 77, 4, 1].into();
        for id in 1..=3 {
            short.say(id, Request::ReleaseIp { ip }).await;
            assert_eq!(short.hear_reply().await, (id, Response::Ip { ip }));
        }
        assert!(long.is_silent().await, "a long reply was written by the thread that serves everybody");
        // Said while the reply before it is not written yet, and answered after it.
        long.say(2, Request::ReleaseIp { ip }).await;
        go.send(()).unwrap();
        busy.await.unwrap().unwrap();
        let (1, Response::Status(status)) = long.hear_reply().await else { panic!("a status was asked for first") };
        assert!(status.peers == peers);
        assert_eq!(long.hear_reply().await, (2, Response::Ip { ip }));
    });
}

#[tokio::test]
async fn a_list_that_is_too_long_for_a_frame_is_refused_in_words() {
    let server = Server::new(ConnectionLimits::default());
    let peer = PeerStatus {
        public_key: "k".repeat(1 << 15),
        endpoint: String::new(),
        allowed_ips: String::new(),
        last_handshake_unix_secs: 0,
    };
    *server.desk.peers.lock().unwrap() = vec![peer; 300].into();
    let (stream, _) = server.connect(1 << 16);
    let mut line = Line::new(stream);
    line.say(1, Request::Status).await;
    let (1, Response::Err { message, .. }) = line.hear_reply().await else { panic!() };
    assert!(message.contains("exceeds the limit"), "{message}");
}
