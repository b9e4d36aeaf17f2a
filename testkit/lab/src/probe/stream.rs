use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::Namespace;

/// Room for what arrives while the receiver waits for its turn on a busy machine, in bytes.
const BUFFER: usize = 16 << 20;
/// Pause of a conversation between two exchanges, so that it leaves the machine to others.
const BREATH: Duration = Duration::from_millis(2);
/// How much later than asked a sender may end.
const LATE: Duration = Duration::from_millis(200);
/// How long the last datagrams are waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest that the next byte of a conversation is waited for.
const STANDSTILL: Duration = Duration::from_secs(20);

/// Datagrams with numbers, one with each beat, in one direction, answered or not.
#[derive(Debug)]
pub struct TcpStreamProbe {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    sender: JoinHandle<()>,
    receiver: JoinHandle<StreamTally>,
}

/// What became of a [`TcpStreamProbe`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamTally {
    /// Datagrams that were sent.
    pub sent: u64,
    /// Numbers of those that did not arrive.
    pub lost: Vec<u64>,
    /// Datagrams that arrived once more.
    pub doubled: u64,
    /// Datagrams that arrived after a later one.
    pub overtaken: u64,
    /// Longest time between two that arrived.
    pub longest_gap: Duration,
}

impl TcpStreamProbe {
    /// Starts one to `address` in the namespace `to`; returns once the first datagram has arrived.
    pub fn start(from: &Namespace, to: &Namespace, address: IpAddr, beat: Duration) -> Self {
        let any = |address: IpAddr| if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = to.enter(|| UdpSocket::bind(any(address))).expect("a socket");
        let target = SocketAddr::new(address, socket.local_addr().expect("an address").port());
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a time-out");
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER).expect("room to receive");
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let arrived = Arc::new(AtomicU64::new(0));
        let receiver = {
            let (stop, sent, arrived) = (stop.clone(), sent.clone(), arrived.clone());
            std::thread::spawn(move || receive(&socket, &stop, &sent, &arrived))
        };
        let sender = {
            let (stop, sent) = (stop.clone(), sent.clone());
            from.spawn(move || send(&UdpSocket::bind(any(address)).expect("a socket"), target, beat, (&stop, &sent)))
        };
        let start = Instant::now();
        while arrived.load(Ordering::Relaxed) == 0 {
            assert!(start.elapsed() < STANDSTILL, "nothing of a stream to {target} arrives");
            std::thread::sleep(beat);
        }
        Self { stop, sent, sender, receiver }
    }

    /// How many datagrams were sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Lets so many more datagrams be sent.
    pub fn go_on_for(&self, datagrams: u64) {
        let until = self.sent() + datagrams;
        let start = Instant::now();
        while self.sent() < until {
            assert!(start.elapsed() < 3 * STANDSTILL, "the sender stands still");
            std::thread::sleep(BREATH);
        }
    }

    /// Ends all of them and waits for what is under way.
    pub fn end_all<const N: usize>(streams: [Self; N]) -> [StreamTally; N] {
        streams.iter().for_each(|stream| stream.stop.store(true, Ordering::Relaxed));
        streams.map(Self::end)
    }

    /// Ends it and waits for what is under way.
    pub fn end(self) -> StreamTally {
        self.stop.store(true, Ordering::Relaxed);
        self.sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        self.receiver.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn send(socket: &UdpSocket, to: SocketAddr, beat: Duration, (stop, sent): (&AtomicBool, &AtomicU64)) {
    while !stop.load(Ordering::Relaxed) {
        let number = sent.load(Ordering::Relaxed);
        // One that the host refuses is lost like any other.
        let _ = socket.send_to(&number.to_be_bytes(), to);
        sent.store(number + 1, Ordering::Relaxed);
        std::thread::sleep(beat);
    }
}

fn receive(socket: &UdpSocket, stop: &AtomicBool, sent: &AtomicU64, arrived: &AtomicU64) -> StreamTally {
    let (mut seen, mut tally, mut highest) = (BTreeSet::new(), StreamTally::default(), None);
    let (mut last, mut ending) = (Instant::now(), None);
    loop {
        let mut number = [0; 8];
        if let Ok(8) = socket.recv(&mut number) {
            let number = u64::from_be_bytes(number);
            if !seen.is_empty() {
                tally.longest_gap = tally.longest_gap.max(last.elapsed());
            }
            last = Instant::now();
            tally.doubled += u64::from(!seen.insert(number));
            tally.overtaken += u64::from(highest.is_some_and(|highest| number < highest));
            highest = highest.max(Some(number));
            arrived.fetch_add(1, Ordering::Relaxed);
        }
        if !stop.load(Ordering::Relaxed) {
            continue;
        }
        let total = sent.load(Ordering::Relaxed);
        let since = *ending.get_or_insert_with(Instant::now);
        // The sender may be about to send one more when it is told to stop, so the end is a little after that.
        if since.elapsed() > LATE && (seen.len() as u64 >= total || since.elapsed() > PATIENCE) {
            let lost = (0..total).filter(|number| !seen.contains(number)).collect();
            return StreamTally { sent: total, lost, ..tally };
        }
    }
}

/// A TCP connection on which two sides answer each other until it is ended.
#[derive(Debug)]
pub struct TcpConversation {
    stop: Arc<AtomicBool>,
    caller: JoinHandle<Result<u64, String>>,
    answerer: JoinHandle<()>,
}

impl TcpConversation {
    /// Opens one from the namespace to `address` in the other.
    pub fn start(from: &Namespace, to: &Namespace, address: IpAddr) -> Self {
        let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let listener = to.enter(|| TcpListener::bind(any)).expect("a listener");
        let target = SocketAddr::new(address, listener.local_addr().expect("an address").port());
        let stop = Arc::new(AtomicBool::new(false));
        let answerer = std::thread::spawn(move || answer(&listener));
        let stopped = stop.clone();
        let caller = from.spawn(move || call(target, &stopped));
        Self { stop, caller, answerer }
    }

    /// Ends it: how many bytes went to and fro, or how it broke.
    pub fn end(self) -> Result<u64, String> {
        self.stop.store(true, Ordering::Relaxed);
        let outcome = self.caller.join().map_err(|_| "the caller panicked".to_owned())?;
        self.answerer.join().map_err(|_| "the answerer panicked".to_owned())?;
        outcome
    }
}

fn call(to: SocketAddr, stop: &AtomicBool) -> Result<u64, String> {
    let failed = |what: &'static str| move |error: std::io::Error| format!("{what} {to}: {error}");
    let mut stream = TcpStream::connect_timeout(&to, STANDSTILL).map_err(failed("connect to"))?;
    stream.set_read_timeout(Some(STANDSTILL)).map_err(failed("set up"))?;
    let (text, mut echo, mut bytes) = ([0x5a; 8192], [0; 8192], 0);
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(&text).map_err(failed("send to"))?;
        stream.read_exact(&mut echo).map_err(failed("hear from"))?;
        bytes += echo.len() as u64;
        std::thread::sleep(BREATH);
    }
    Ok(bytes)
}

fn answer(listener: &TcpListener) {
    let Ok((mut stream, _)) = listener.accept() else { return };
    let mut text = [0; 8192];
    // How it ends is seen at the other side.
    while let Ok(len @ 1..) = stream.read(&mut text)
        && stream.write_all(&text[..len]).is_ok()
    {}
}
