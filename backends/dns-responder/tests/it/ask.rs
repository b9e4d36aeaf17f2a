//! A client, and addresses to serve on.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use domain::{
    base::{Message, MessageBuilder, Name, Rtype, iana::Class},
    rdata::{A, Aaaa},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// How long an answer may take that is sure to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
const PORT: u16 = 5353;

/// An address of the loopback interface that no other test uses: all of 127.0.0.0/8 is there.
pub(crate) fn own_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [process, _] = (std::process::id() as u16 % 200 + 50).to_le_bytes();
    let [low, high] = NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes();
    (Ipv4Addr::new(127, process, high, low), PORT).into()
}

/// A query as bytes; `edns` is the size of answers over UDP to ask for.
pub(crate) fn query(name: &str, rtype: Rtype, edns: Option<u16>) -> Vec<u8> {
    let name: Name<Vec<u8>> = name.parse().expect("a name");
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(0x5a17);
    builder.header_mut().set_rd(true);
    let mut builder = builder.question();
    builder.push((name, rtype, Class::IN)).expect("room");
    let mut builder = builder.additional();
    if let Some(size) = edns {
        builder
            .opt(|opt| {
                opt.set_udp_payload_size(size);
                Ok(())
            })
            .expect("room");
    }
    builder.finish()
}

/// Sends bytes over UDP and takes what comes back; `None` when nothing listens there.
pub(crate) async fn by_udp(server: SocketAddr, query: &[u8]) -> Option<Message<Vec<u8>>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
    socket.connect(server).await.expect("a route");
    socket.send(query).await.ok()?;
    let mut buffer = vec![0; 65_535];
    let len = timeout(PATIENCE, socket.recv(&mut buffer)).await.expect("an answer").ok()?;
    buffer.truncate(len);
    Some(Message::from_octets(buffer).expect("a message"))
}

/// The same over TCP.
pub(crate) async fn by_tcp(server: SocketAddr, query: &[u8]) -> Option<Message<Vec<u8>>> {
    let mut stream = TcpStream::connect(server).await.ok()?;
    send_framed(&mut stream, query).await;
    Some(receive_framed(&mut stream).await)
}

pub(crate) async fn send_framed(stream: &mut TcpStream, message: &[u8]) {
    stream.write_u16(message.len() as u16).await.expect("room");
    stream.write_all(message).await.expect("room");
}

pub(crate) async fn receive_framed(stream: &mut TcpStream) -> Message<Vec<u8>> {
    let len = timeout(PATIENCE, stream.read_u16()).await.expect("an answer").expect("a frame");
    let mut buffer = vec![0; len.into()];
    stream.read_exact(&mut buffer).await.expect("a whole frame");
    Message::from_octets(buffer).expect("a message")
}

/// The addresses in the answer section.
pub(crate) fn addresses(message: &Message<Vec<u8>>) -> BTreeSet<IpAddr> {
    let v4 = message.answer().expect("answers").limit_to::<A>().map(|record| record.expect("A").data().addr().into());
    let v6 =
        message.answer().expect("answers").limit_to::<Aaaa>().map(|record| record.expect("AAAA").data().addr().into());
    v4.chain(v6).collect()
}
