//! What a client sees that speaks bytes.

use std::{sync::Arc, time::Duration};

use overlayd_core::{
    ipc::ConnectionLimits,
    protocol::{Event, Frame, FrameCodec, Hello, MAX_FRAME_LEN, Request, Response},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};
use tokio_util::{bytes::BytesMut, codec::Decoder};

use crate::{
    desk::{Server, held_request},
    line::{Line, request_bytes},
};

fn health(pubkey: &str) -> Arc<Event> {
    Arc::new(Event::PeerHealthChanged { pubkey: pubkey.to_owned(), healthy: true })
}

#[tokio::test]
async fn pipelined_requests_are_executed_and_answered_in_their_order() {
    let server = Server::new(ConnectionLimits::default());
    let (stream, _) = server.connect(1 << 16);
    let mut line = Line::new(stream);
    let mut bytes = request_bytes(7, held_request());
    for id in [9, 8, 8] {
        bytes.extend_from_slice(&request_bytes(id, Request::NatTick));
    }
    line.stream.write_all(&bytes).await.unwrap();
    server.desk.until_begun(1).await;
    assert_eq!(server.desk.begun(), [held_request()], "a request overtook the one before it");
    server.desk.release(1);
    for id in [7, 9, 8, 8] {
        assert_eq!(line.hear_reply().await, (id, Response::Ok));
    }
}

#[tokio::test]
async fn requests_of_different_connections_run_at_the_same_time() {
    let server = Server::new(ConnectionLimits::default());
    let (slow, _) = server.connect(1 << 16);
    let (quick, _) = server.connect(1 << 16);
    let mut slow = Line::new(slow);
    let mut quick = Line::new(quick);
    slow.say(1, held_request()).await;
    server.desk.until_begun(1).await;
    quick.say(1, Request::NatTick).await;
    assert_eq!(quick.hear_reply().await, (1, Response::Ok));
    server.desk.release(1);
    assert_eq!(slow.hear_reply().await, (1, Response::Ok));
}

#[tokio::test]
async fn a_client_that_leaves_does_not_stop_its_request() {
    let server = Server::new(ConnectionLimits::default());
    let (stream, served) = server.connect(1 << 16);
    let mut line = Line::new(stream);
    line.say(1, held_request()).await;
    server.desk.until_begun(1).await;
    drop(line);
    server.desk.release(1);
    server.desk.until_ended("teardown_service_overlay", 1).await;
    served.await.unwrap();
}

#[tokio::test]
async fn a_client_that_only_stops_talking_still_gets_its_replies() {
    let server = Server::new(ConnectionLimits::default());
    let (stream, served) = server.connect(1 << 16);
    let mut line = Line::new(stream);
    line.say(1, Request::NatTick).await;
    line.say(2, held_request()).await;
    line.stream.shutdown().await.unwrap();
    server.desk.release(1);
    assert_eq!(line.hear_reply().await, (1, Response::Ok));
    assert_eq!(line.hear_reply().await, (2, Response::Ok));
    assert_eq!(line.hear().await, None);
    served.await.unwrap();
}

#[tokio::test]
async fn a_bad_request_with_a_readable_id_is_answered_and_the_connection_stays() {
    let server = Server::new(ConnectionLimits::default());
    let (stream, _) = server.connect(1 << 16);
    let mut line = Line::new(stream);
    line.say_body(br#"{"frame":"request","id":5,"request":{"op":"reload"}}"#).await;
    let (id, Response::Err { message, .. }) = line.hear_reply().await else { panic!() };
    assert_eq!(id, 5);
    assert!(message.contains("reload"), "{message}");
    line.say(6, Request::NatTick).await;
    assert_eq!(line.hear_reply().await, (6, Response::Ok));
    assert_eq!(server.service.counters.bad_frames.get(), 1);
}

#[tokio::test]
async fn a_body_without_a_readable_id_ends_the_connection_after_the_replies_before_it() {
    let server = Server::new(ConnectionLimits::default());
    let (stream, served) = server.connect(1 << 16);
    let mut line = Line::new(stream);
    line.say(1, Request::NatTick).await;
    line.say_body(b"hello").await;
    assert_eq!(line.hear_reply().await, (1, Response::Ok));
    assert_eq!(line.hear().await, None);
    served.await.unwrap();
    assert_eq!(server.service.counters.bad_frames.get(), 1);
}

#[tokio::test]
async fn a_frame_that_is_no_request_is_ignored() {
    let server = Server::new(ConnectionLimits::default());
    let (stream, _) = server.connect(1 << 16);
    let mut line = Line::new(stream);
    line.say_body(br#"{"frame":"response","id":1,"response":{"result":"ok"}}"#).await;
    line.say_body(br#"{"frame":"event","event":"peer_health_changed","pubkey":"k","healthy":true}"#).await;
    line.say(2, Request::NatTick).await;
    assert_eq!(line.hear_reply().await, (2, Response::Ok));
}

#[tokio::test]
async fn a_header_beyond_the_limit_ends_the_connection_without_its_body() {
    let server = Server::new(ConnectionLimits::default());
    let (stream, served) = server.connect(1 << 16);
    let mut line = Line::new(stream);
    line.stream.write_u32_le(u32::try_from(MAX_FRAME_LEN).unwrap() + 1).await.unwrap();
    assert_eq!(line.hear().await, None);
    served.await.unwrap();
}

#[tokio::test]
async fn a_request_of_exactly_the_limit_is_executed() {
    let server = Server::new(ConnectionLimits::default());
    let (stream, _) = server.connect(1 << 20);
    let mut line = Line::new(stream);
    let mut body = Frame::Request { id: 1, request: Request::NatTick }.encode().unwrap();
    body.resize(MAX_FRAME_LEN, b' ');
    line.say_body(&body).await;
    assert_eq!(line.hear_reply().await, (1, Response::Ok));
}

#[tokio::test]
async fn a_reply_beyond_the_limit_becomes_an_error_on_a_healthy_connection() {
    let server = Server::new(ConnectionLimits::default());
    *server.desk.interface.lock().unwrap() = Some("x".repeat(MAX_FRAME_LEN));
    let (stream, _) = server.connect(1 << 16);
    let mut line = Line::new(stream);
    line.say(1, Request::Status).await;
    let (1, Response::Err { message, .. }) = line.hear_reply().await else { panic!() };
    assert!(message.contains("exceeds the limit"), "{message}");
    line.say(2, Request::NatTick).await;
    assert_eq!(line.hear_reply().await, (2, Response::Ok));
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_is_never_finished_ends_the_connection_and_an_idle_one_stays() {
    let server = Server::new(ConnectionLimits::default());
    let (loris, served) = server.connect(1 << 16);
    let (idle, _) = server.connect(1 << 16);
    let mut loris = Line::new(loris);
    loris.stream.write_all(&[200, 0, 0, 0, b'{']).await.unwrap();
    let begun = Instant::now();
    assert_eq!(loris.hear().await, None);
    assert_eq!(begun.elapsed().as_secs(), 10);
    served.await.unwrap();
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    let mut idle = Line::new(idle);
    idle.say(1, Request::NatTick).await;
    assert_eq!(idle.hear_reply().await, (1, Response::Ok));
}

#[tokio::test(start_paused = true)]
async fn the_clock_of_an_unfinished_frame_stands_while_the_daemon_is_busy() {
    let limits = ConnectionLimits { request_deadline: Duration::from_secs(60), ..ConnectionLimits::default() };
    let server = Server::new(limits);
    let (stream, _) = server.connect(1 << 16);
    let mut line = Line::new(stream);
    let next = request_bytes(2, Request::NatTick);
    let mut bytes = request_bytes(1, held_request());
    bytes.extend_from_slice(&next[..9]);
    line.stream.write_all(&bytes).await.unwrap();
    server.desk.until_begun(1).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    server.desk.release(1);
    assert_eq!(line.hear_reply().await, (1, Response::Ok));
    line.stream.write_all(&next[9..]).await.unwrap();
    assert_eq!(line.hear_reply().await, (2, Response::Ok));
}

#[tokio::test(start_paused = true)]
async fn an_overdue_request_is_answered_with_an_error_and_goes_on() {
    let server = Server::new(ConnectionLimits::default());
    let (stream, _) = server.connect(1 << 16);
    let mut line = Line::new(stream);
    let asked = Instant::now();
    line.say(1, held_request()).await;
    let (1, Response::Err { message, .. }) = line.hear_reply().await else { panic!() };
    assert!(message.contains("teardown_service_overlay") && message.contains("30"), "{message}");
    assert_eq!(asked.elapsed().as_secs(), 30);
    assert_eq!(server.service.counters.overdue.get(), 1);
    line.say(2, Request::NatTick).await;
    assert_eq!(line.hear_reply().await, (2, Response::Ok));
    server.desk.release(1);
    server.desk.until_ended("teardown_service_overlay", 1).await;
}

#[tokio::test]
async fn a_panic_is_an_error_reply_and_nothing_else() {
    let server = Server::new(ConnectionLimits::default());
    let (stream, _) = server.connect(1 << 16);
    let mut line = Line::new(stream);
    line.say(1, Request::TeardownServiceOverlay { service: "panic".to_owned() }).await;
    let (1, Response::Err { message, .. }) = line.hear_reply().await else { panic!() };
    assert!(message.contains("internal error"), "{message}");
    line.say(2, Request::NatTick).await;
    assert_eq!(line.hear_reply().await, (2, Response::Ok));
}

#[tokio::test]
async fn a_shutdown_is_answered_before_the_connections_close() {
    let server = Server::new(ConnectionLimits::default());
    let (asking, asked) = server.connect(1 << 16);
    let (busy, other) = server.connect(1 << 16);
    let mut asking = Line::new(asking);
    let mut busy = Line::new(busy);
    busy.say(4, held_request()).await;
    server.desk.until_begun(1).await;
    asking.say(1, Request::Shutdown).await;
    asking.say(2, Request::Status).await;
    assert_eq!(asking.hear_reply().await, (1, Response::Ok));
    assert_eq!(asking.hear().await, None);
    asked.await.unwrap();
    server.desk.release(1);
    assert_eq!(busy.hear_reply().await, (4, Response::Ok));
    assert_eq!(busy.hear().await, None);
    other.await.unwrap();
    assert!(!server.desk.begun().contains(&Request::Status), "a request after shutdown was executed");
}

#[tokio::test]
async fn events_reach_every_connection_also_while_it_waits_for_a_reply() {
    let server = Server::new(ConnectionLimits::default());
    let (busy, _) = server.connect(1 << 16);
    let (idle, _) = server.connect(1 << 16);
    let mut busy = Line::new(busy);
    let mut idle = Line::new(idle);
    busy.say(1, held_request()).await;
    idle.say(1, Request::Hello(Hello::default())).await;
    assert!(matches!(idle.hear_reply().await, (1, Response::Hello(_))));
    server.desk.until_begun(2).await;
    server.desk.events.send(health("a")).unwrap();
    let expected = Some(Frame::Event(Event::clone(&health("a"))));
    assert_eq!(busy.hear().await, expected);
    assert_eq!(idle.hear().await, expected);
    server.desk.release(1);
    assert_eq!(busy.hear_reply().await, (1, Response::Ok));
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_events_and_no_replies() {
    let server = Server::new(ConnectionLimits { event_queue: 16, ..ConnectionLimits::default() });
    let (stream, _) = server.connect(256);
    let mut line = Line::new(stream);
    line.say(1, Request::NatTick).await;
    server.desk.until_ended("nat_tick", 1).await;
    for n in 0..10_000 {
        server.desk.events.send(health(&n.to_string())).unwrap();
        if n % 16 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let mut heard = 0;
    assert_eq!(line.hear_reply().await, (1, Response::Ok));
    line.say(2, Request::NatTick).await;
    loop {
        match line.hear().await {
            Some(Frame::Event(_)) => heard += 1,
            Some(Frame::Response { id: 2, response: Response::Ok }) => break,
            other => panic!("{other:?}"),
        }
    }
    line.say(3, Request::NatTick).await;
    loop {
        match line.hear().await {
            Some(Frame::Event(_)) => heard += 1,
            Some(Frame::Response { id: 3, response: Response::Ok }) => break,
            other => panic!("{other:?}"),
        }
    }
    drop(line);
    let lost = server.service.counters.lost_events.get();
    assert!(lost > 9_000, "{lost} lost");
    assert!(heard + lost <= 10_000 && heard > 0, "{heard} heard and {lost} lost");
}

#[tokio::test]
async fn a_client_that_asks_without_reading_is_made_to_wait() {
    let server = Server::new(ConnectionLimits::default());
    *server.desk.interface.lock().unwrap() = Some("x".repeat(1000));
    let (stream, _) = server.connect(4096);
    let (mut read, mut write) = tokio::io::split(stream);
    let asking = tokio::spawn(async move {
        for id in 0..10_000 {
            write.write_all(&request_bytes(id, Request::Status)).await.unwrap();
        }
        write
    });
    // While its client does not read, the daemon takes on no more than fits its buffer and the pipe.
    while !asking.is_finished() && server.desk.begun().len() < 60 {
        tokio::task::yield_now().await;
    }
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    let begun = server.desk.begun().len();
    assert!(begun < 200, "{begun} requests were executed for a client that does not read");
    let mut buffer = BytesMut::new();
    let mut next = 0;
    while next < 10_000 {
        read.read_buf(&mut buffer).await.unwrap();
        while let Some(body) = FrameCodec.decode(&mut buffer).unwrap() {
            let Frame::Response { id, .. } = Frame::decode(&body).unwrap() else { panic!() };
            assert_eq!(id, next);
            next += 1;
        }
    }
    asking.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_asks_and_never_reads_is_let_go() {
    let server = Server::new(ConnectionLimits::default());
    *server.desk.interface.lock().unwrap() = Some("x".repeat(100_000));
    let (stream, served) = server.connect(64);
    let mut line = Line::new(stream);
    let begun = Instant::now();
    // The first reply never leaves the daemon, so the second request need not even be read.
    line.say(1, Request::Status).await;
    served.await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), ConnectionLimits::default().frame_deadline.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_gets_all_of_its_reply() {
    let server = Server::new(ConnectionLimits::default());
    *server.desk.interface.lock().unwrap() = Some("x".repeat(1_000));
    let (stream, _served) = server.connect(64);
    let mut line = Line::new(stream);
    line.say(1, Request::Status).await;
    let mut taken = [0; 64];
    for _ in 0..8 {
        tokio::time::sleep(ConnectionLimits::default().frame_deadline / 2).await;
        line.stream.read_exact(&mut taken).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_asks_nothing_need_not_read_its_events() {
    let server = Server::new(ConnectionLimits::default());
    let (stream, _served) = server.connect(64);
    let mut line = Line::new(stream);
    line.say(1, Request::NatTick).await;
    assert_eq!(line.hear_reply().await, (1, Response::Ok));
    for _ in 0..100 {
        server.desk.events.send(health("a key")).unwrap();
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(ConnectionLimits::default().frame_deadline * 100).await;
    line.say(2, Request::NatTick).await;
    loop {
        match line.hear().await {
            Some(Frame::Event(_)) => {}
            Some(Frame::Response { id: 2, response: Response::Ok }) => break,
            other => panic!("{other:?}"),
        }
    }
}
