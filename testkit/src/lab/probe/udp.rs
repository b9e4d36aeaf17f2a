use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::lab::Namespace;

/// How long an answer is waited for before its datagram counts as lost.
const PATIENCE: Duration = Duration::from_secs(2);

/// A UDP service that sends back what it gets, until dropped.
#[derive(Debug)]
pub struct Echo {
    /// The port it listens on, both families.
    pub port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
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

impl Drop for Echo {
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
pub struct Flow {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u64, u64)>,
}

impl Flow {
    /// Starts one from the namespace to an [`Echo`].
    pub fn start(from: &Namespace, to: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = from.spawn(move || converse(to, &stopped));
        Self { stop, thread }
    }

    /// Ends the conversation after the datagram that is under way: how many datagrams were answered, and how many were lost.
    pub fn end(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn converse(to: SocketAddr, stopped: &AtomicBool) -> (u64, u64) {
    let any = match to {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let (mut answered, mut lost) = (0_u64, 0_u64);
    loop {
        let sent = (answered + lost).to_be_bytes();
        let mut got = [0; 16];
        // An error of the send (no route for a moment) is a loss like any other.
        let answer = socket.send_to(&sent, to).and_then(|_| socket.recv(&mut got));
        match answer {
            Ok(8) if got[..8] == sent => answered += 1,
            _ => lost += 1,
        }
        if stopped.load(Ordering::Relaxed) {
            return (answered, lost);
        }
    }
}
