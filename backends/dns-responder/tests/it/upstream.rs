//! A name server of the test's own, which answers as it is told and counts.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use domain::{
    base::{
        Message, MessageBuilder, Name, Rtype, Serial, Ttl,
        iana::{Class, Rcode},
        message_builder::AdditionalBuilder,
    },
    rdata::{A, Soa},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
    task::JoinSet,
};

use crate::ask::own_address;

/// What a server does with a query.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Manner {
    /// Says this address, to be kept so many seconds.
    Address(Ipv4Addr, u32),
    /// Says that the name does not exist, to be kept so many seconds.
    Absent(u32),
    /// Says this code and nothing else.
    Code(Rcode),
    /// Says nothing.
    Silence,
    /// Says over UDP that it is too much, and this many addresses over TCP.
    Large(u8),
    /// Sends forgeries (another id, another question, garbage) before the right answer.
    Forged(Ipv4Addr),
    /// Understands no EDNS.
    Old(Ipv4Addr),
}

pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    asked: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Upstream {
    pub(crate) async fn start(manner: Manner) -> Self {
        Self::start_at(own_address(), manner).await
    }

    pub(crate) async fn start_at(address: SocketAddr, manner: Manner) -> Self {
        let udp = UdpSocket::bind(address).await.unwrap();
        let tcp = TcpListener::bind(address).await.unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(udp, manner, Arc::clone(&asked)));
        tasks.spawn(serve_tcp(tcp, manner, Arc::clone(&asked)));
        Self { address, asked, _tasks: tasks }
    }

    /// How many queries came, over both.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn serve_udp(socket: UdpSocket, manner: Manner, asked: Arc<AtomicUsize>) {
    let mut buffer = vec![0; 4096];
    loop {
        let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
        asked.fetch_add(1, Ordering::SeqCst);
        let query = Message::from_octets(buffer[..len].to_vec()).unwrap();
        if let Manner::Forged(_) = manner {
            for forgery in forgeries(&query) {
                socket.send_to(&forgery, from).await.unwrap();
            }
        }
        if let Some(answer) = answer(&query, manner, &Over::Udp) {
            socket.send_to(&answer, from).await.unwrap();
        }
    }
}

async fn serve_tcp(listener: TcpListener, manner: Manner, asked: Arc<AtomicUsize>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let len = stream.read_u16().await.unwrap();
        let mut query = vec![0; len.into()];
        stream.read_exact(&mut query).await.unwrap();
        asked.fetch_add(1, Ordering::SeqCst);
        if let Some(answer) = answer(&Message::from_octets(query).unwrap(), manner, &Over::Tcp) {
            stream.write_u16(answer.len() as u16).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    }
}

#[derive(PartialEq, Eq)]
enum Over {
    Udp,
    Tcp,
}

fn answer(query: &Message<Vec<u8>>, manner: Manner, over: &Over) -> Option<Vec<u8>> {
    let edns = query.opt().is_some();
    match manner {
        Manner::Silence => None,
        Manner::Code(code) => Some(reply(query, code, &[], 0)),
        Manner::Old(_) if edns => Some(reply(query, Rcode::FORMERR, &[], 0)),
        Manner::Address(ip, ttl) => Some(reply(query, Rcode::NOERROR, &[ip], ttl)),
        Manner::Old(ip) | Manner::Forged(ip) => Some(reply(query, Rcode::NOERROR, &[ip], 60)),
        Manner::Absent(ttl) => Some(reply(query, Rcode::NXDOMAIN, &[], ttl)),
        Manner::Large(_) if *over == Over::Udp => {
            let mut cut = reply(query, Rcode::NOERROR, &[], 0);
            cut[2] |= 2;
            Some(cut)
        }
        Manner::Large(count) => {
            let ips: Vec<_> = (0..count).map(|last| Ipv4Addr::new(192, 0, 2, last)).collect();
            Some(reply(query, Rcode::NOERROR, &ips, 60))
        }
    }
}

fn reply(query: &Message<Vec<u8>>, code: Rcode, ips: &[Ipv4Addr], ttl: u32) -> Vec<u8> {
    let name = query.sole_question().unwrap().into_qname();
    let mut builder = MessageBuilder::new_vec().start_answer(query, code).unwrap();
    builder.header_mut().set_ra(true);
    if query.qtype() == Some(Rtype::A) {
        for ip in ips {
            builder.push((name, Class::IN, Ttl::from_secs(ttl), A::new(*ip))).unwrap();
        }
    }
    let mut authority = builder.authority();
    if code == Rcode::NXDOMAIN {
        let root = Name::<Vec<u8>>::root_vec;
        let ttl = Ttl::from_secs(ttl);
        authority.push((root(), ttl, Soa::new(root(), root(), Serial(1), ttl, ttl, ttl, ttl))).unwrap();
    }
    let mut additional: AdditionalBuilder<Vec<u8>> = authority.additional();
    if query.opt().is_some() && code != Rcode::FORMERR {
        additional.opt(|_| Ok(())).unwrap();
    }
    additional.finish()
}

fn forgeries(query: &Message<Vec<u8>>) -> [Vec<u8>; 3] {
    let evil = Ipv4Addr::new(203, 0, 113, 66);
    let mut other_id = reply(query, Rcode::NOERROR, &[evil], 60);
    other_id[0] ^= 1;
    let mut other_question = reply(query, Rcode::NOERROR, &[evil], 60);
    other_question[13] ^= 3;
    let mut garbage = reply(query, Rcode::NOERROR, &[evil], 60);
    garbage.truncate(garbage.len() - 20);
    [other_id, other_question, garbage]
}
