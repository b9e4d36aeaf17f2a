//! Changes that are pipelined on one connection.

use overlayd_core::{
    ipc::ConnectionLimits,
    protocol::{Request, Response},
};

use crate::{
    desk::{Server, held_change},
    line::Line,
};

#[tokio::test]
async fn changes_that_are_decided_overlap_and_are_answered_in_their_order() {
    let server = Server::new(ConnectionLimits::default());
    let (stream, _) = server.connect(1 << 16);
    let mut line = Line::new(stream);
    let asked = [held_change("decided"), held_change("decided"), held_change("not yet"), held_change("decided")];
    for (id, request) in (1..).zip(asked.iter().cloned().chain([Request::NatTick])) {
        line.say(id, request).await;
    }
    server.desk.until_begun(3).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.desk.begun(), asked[..3], "one began while the guard of the one before it was held");
    server.desk.release(3);
    server.desk.until_begun(4).await;
    server.desk.release(1);
    for id in 1..=5 {
        assert_eq!(line.hear_reply().await, (id, Response::Ok));
    }
}

#[tokio::test]
async fn other_requests_wait_for_the_changes_before_them_and_a_client_that_leaves_stops_none() {
    let server = Server::new(ConnectionLimits::default());
    let (stream, served) = server.connect(1 << 16);
    let mut line = Line::new(stream);
    for (id, request) in (1..).zip([held_change("decided"), held_change("decided"), Request::Status]) {
        line.say(id, request).await;
    }
    server.desk.until_begun(2).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.desk.begun().len(), 2, "a status overtook a change");
    drop(line);
    server.desk.release(2);
    server.desk.until_ended("unregister_dns", 2).await;
    served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn overdue_changes_are_answered_in_their_order_and_go_on() {
    let server = Server::new(ConnectionLimits::default());
    let (stream, _) = server.connect(1 << 16);
    let mut line = Line::new(stream);
    for (id, request) in (1..).zip([held_change("decided"), held_change("not yet"), Request::NatTick]) {
        line.say(id, request).await;
    }
    for id in 1..=2 {
        let (of, Response::Err { message, .. }) = line.hear_reply().await else { panic!() };
        assert_eq!(of, id);
        assert!(message.contains("did not end within"), "{message}");
    }
    assert_eq!(line.hear_reply().await, (3, Response::Ok));
    server.desk.release(2);
    server.desk.until_ended("unregister_dns", 2).await;
}
