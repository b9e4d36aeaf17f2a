use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{Namespace, uninterrupted};

/// How long an answer is waited for before its datagram counts as lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// A UDP service that sends back what it gets, until dropped.
#[derive(Debug)]
pub struct UdpEcho {
    /// The port it listens on, both families.
    pub port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl UdpEcho {
    /// Starts one in the namespace, for this family.
    pub fn start(at: &Namespace, family: IpAddr) -> Self {
        let any = match family {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let socket = at.enter(|| UdpSocket::bind(SocketAddr::new(any, 0))).expect("a socket");
        let port = socket.local_addr().expect("an address").port();
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a time-out");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    // An answer that cannot be sent shows as lost at the other end.
                    let _ = socket.send_to(&buffer[..length], from);
                }
            }
        });
        Self { port, stop, thread: Some(thread) }
    }
}

impl Drop for UdpEcho {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The thread's own panic was printed already.
            let _ = thread.join();
        }
    }
}

/// A conversation that goes on until it is ended: each datagram is sent when the one before was answered, so that none
/// is ever dropped for want of room, and every missing answer is a loss on the way.
#[derive(Debug)]
pub struct UdpFlow {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<UdpExchange>,
}

/// What became of the datagrams of a [`UdpFlow`].
#[derive(Debug, Default)]
pub struct UdpExchange {
    /// How many were answered.
    pub answered: u64,
    /// Each that was not: which one, when in the conversation, and why.
    pub lost: Vec<String>,
}

impl UdpFlow {
    /// Starts one from the namespace to an [`UdpEcho`].
    pub fn start(from: &Namespace, to: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = from.spawn(move || converse(to, &stopped));
        Self { stop, thread }
    }

    /// Ends the conversation after the datagram that is under way.
    pub fn end(self) -> UdpExchange {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn converse(to: SocketAddr, stopped: &AtomicBool) -> UdpExchange {
    let any = match to {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let (began, mut talk) = (Instant::now(), UdpExchange::default());
    loop {
        let number = talk.answered + talk.lost.len() as u64;
        // An error of the send (no route for a moment) is a loss like any other.
        match socket.send_to(&number.to_be_bytes(), to).and_then(|_| await_answer(&socket, number)) {
            Ok(()) => talk.answered += 1,
            Err(error) => talk.lost.push(format!("number {number}, known at {:?}: {error}", began.elapsed())),
        }
        if stopped.load(Ordering::Relaxed) {
            return talk;
        }
    }
}

/// Waits for the answer to this datagram; a late one to an earlier is passed over.
fn await_answer(socket: &UdpSocket, number: u64) -> std::io::Result<()> {
    let mut got = [0; 16];
    loop {
        let length = uninterrupted(|| socket.recv(&mut got))?;
        if length == 8 && got[..8] == number.to_be_bytes() {
            return Ok(());
        }
    }
}
