use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::Namespace;

/// How long the last answers are waited for.
const AFTERMATH: Duration = Duration::from_secs(1);

/// A steady stream of numbered datagrams to an [`super::UdpEcho`], whether they are answered or not.
#[derive(Debug)]
pub struct PacketPulse {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<u64>,
    receiver: JoinHandle<PulseRecord>,
}

/// What came back of a pulse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PulseRecord {
    /// Datagrams sent.
    pub sent: u64,
    /// Those that were answered.
    pub answered: u64,
    /// Longest time between an answer and the next.
    pub silence: Duration,
}

impl PacketPulse {
    /// Starts one from the namespace, with a datagram each `period`.
    pub fn start(from: &Namespace, to: SocketAddr, period: Duration) -> Self {
        let any = match to {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let socket = from.enter(|| UdpSocket::bind(SocketAddr::new(any, 0))).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a time-out");
        let stop = Arc::new(AtomicBool::new(false));
        let sending = (socket.try_clone().expect("a second handle"), Arc::clone(&stop));
        let receiving = Arc::clone(&stop);
        let sender = std::thread::spawn(move || send(&sending.0, to, period, &sending.1));
        let receiver = std::thread::spawn(move || receive(&socket, &receiving));
        Self { stop, sender, receiver }
    }

    /// Ends the stream and tells what came back.
    pub fn end(self) -> PulseRecord {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let heard = self.receiver.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        PulseRecord { sent, ..heard }
    }
}

fn send(socket: &UdpSocket, to: SocketAddr, period: Duration, stop: &AtomicBool) -> u64 {
    let start = Instant::now();
    let mut sent = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        // No route for a moment is what may be measured.
        let _ = socket.send_to(&sent.to_be_bytes(), to);
        sent += 1;
        let next = start + period * u32::try_from(sent).unwrap_or(u32::MAX);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    sent
}

fn receive(socket: &UdpSocket, stop: &AtomicBool) -> PulseRecord {
    let mut heard = PulseRecord { sent: 0, answered: 0, silence: Duration::ZERO };
    let mut last: Option<Instant> = None;
    let mut buffer = [0; 64];
    let mut stopped: Option<Instant> = None;
    loop {
        if stopped.is_none() && stop.load(Ordering::Relaxed) {
            stopped = Some(Instant::now());
        }
        match socket.recv(&mut buffer) {
            Ok(_) => {
                let now = Instant::now();
                heard.answered += 1;
                heard.silence = heard.silence.max(last.map_or(Duration::ZERO, |last| now - last));
                last = Some(now);
            }
            Err(_) if stopped.is_some_and(|at| at.elapsed() > AFTERMATH) => return heard,
            // A refusal by a router on the way is as good as silence.
            Err(_) => {}
        }
    }
}
