//! Sockets: who holds them, and who can hold them up.

use std::{collections::BTreeSet, net::UdpSocket};

use domain::base::Rtype;
use overlayd_core::contract::{Dns as _, DnsPlan, Error};
use overlayd_dns_responder::DnsResponder;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::{
    ask::{addresses, by_tcp, by_udp, own_address, query, receive_framed, send_framed},
    zones::{plan, serving},
};

#[tokio::test]
async fn a_taken_port_is_a_conflict_that_names_the_holder_and_keeps_the_old_plan() {
    let (responder, server) = serving().await;
    let (free, taken) = (own_address(), own_address());
    let _holder = UdpSocket::bind(taken).unwrap();
    let more = DnsPlan { listen: vec![server, free, taken], ..plan(server) };
    let error = responder.apply(&more).await.unwrap_err();
    let Error::Conflict { what, by } = error else { panic!("{error}") };
    assert_eq!(what, format!("UDP {taken}"));
    assert!(by.contains(&format!("(pid {})", std::process::id())), "{by}");
    let web = query("web.atlas.local", Rtype::A, None);
    assert!(by_udp(server, &web).await.is_some());
    assert!(by_udp(free, &web).await.is_none(), "nothing is left of the refused plan");
}

#[tokio::test]
async fn a_wildcard_address_is_refused() {
    let plan = plan("0.0.0.0:5353".parse().unwrap());
    assert_eq!(DnsResponder::new().apply(&plan).await.unwrap_err().code(), "invalid_plan");
}

#[tokio::test]
async fn a_connection_outlives_a_change_of_the_plan() {
    let (responder, server) = serving().await;
    let mut stream = TcpStream::connect(server).await.unwrap();
    for zone in ["atlas.local", "other.local"] {
        let zones = BTreeSet::from(["atlas.local".to_owned(), zone.to_owned()]);
        responder.apply(&DnsPlan { zones, ..plan(server) }).await.unwrap();
        send_framed(&mut stream, &query("web.atlas.local", Rtype::A, None)).await;
        assert_eq!(addresses(&receive_framed(&mut stream).await).len(), 1);
    }
}

#[tokio::test]
async fn many_queries_on_a_connection_are_all_answered() {
    let (_responder, server) = serving().await;
    let mut stream = TcpStream::connect(server).await.unwrap();
    let (mut queries, count) = (Vec::new(), 500_u16);
    for id in 0..count {
        let mut query = query("web.atlas.local", Rtype::A, None);
        query[..2].copy_from_slice(&id.to_be_bytes());
        queries.extend_from_slice(&(query.len() as u16).to_be_bytes());
        queries.append(&mut query);
    }
    let (mut reader, mut writer) = stream.split();
    let receive = async {
        let mut ids = BTreeSet::new();
        for _ in 0..count {
            use tokio::io::AsyncReadExt as _;
            let len = reader.read_u16().await.unwrap();
            let mut message = vec![0; len.into()];
            reader.read_exact(&mut message).await.unwrap();
            ids.insert([message[0], message[1]]);
        }
        ids.len()
    };
    let (sent, received) = tokio::join!(writer.write_all(&queries), receive);
    sent.unwrap();
    assert_eq!(received, usize::from(count));
}

#[tokio::test]
async fn silent_and_greedy_clients_do_not_hold_up_others() {
    let (_responder, server) = serving().await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        let mut stream = TcpStream::connect(server).await.unwrap();
        stream.write_all(&[1]).await.unwrap();
        silent.push(stream);
    }
    // Asks for more than it ever reads, until its bytes are no longer taken.
    let greedy = TcpStream::connect(server).await.unwrap();
    let query_of_many = query("many.atlas.local", Rtype::A, None);
    let framed = [&(query_of_many.len() as u16).to_be_bytes()[..], &query_of_many].concat().repeat(1000);
    let mut unwritten = 0;
    for _ in 0..10_000 {
        match greedy.try_write(&framed) {
            Ok(_) => unwritten = 0,
            Err(_) if unwritten > 20 => break,
            Err(_) => {
                unwritten += 1;
                assert!(by_tcp(server, &query("web.atlas.local", Rtype::A, None)).await.is_some());
            }
        }
    }
    assert_eq!(addresses(&by_tcp(server, &query("web.atlas.local", Rtype::A, None)).await.unwrap()).len(), 1);
}
