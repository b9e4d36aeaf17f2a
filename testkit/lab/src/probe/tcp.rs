use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use socket2::SockRef;

use crate::{Namespace, uninterrupted};

/// How long a transfer may stand still.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of one write or read while throughput is measured.
const CHUNK: usize = 128 * 1024;

/// A finished transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpTransfer {
    /// Bytes that arrived, all as they were sent.
    pub bytes: usize,
    /// Largest segment that the sender used, in bytes.
    pub mss: u32,
}

/// Sends so many bytes over TCP from one namespace to a listener in the other, and compares each on arrival.
pub fn transfer(from: &Namespace, to: &Namespace, address: IpAddr, bytes: usize) -> Result<TcpTransfer, String> {
    let any = match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let listener = to.enter(|| TcpListener::bind(SocketAddr::new(any, 0))).map_err(|e| format!("listen: {e}"))?;
    let port = listener.local_addr().map_err(|e| e.to_string())?.port();
    let sender = from.spawn(move || send(SocketAddr::new(address, port), bytes));
    let received = receive(&listener, bytes);
    let mss = sender.join().map_err(|_| "the sender panicked".to_owned())??;
    received.map(|bytes| TcpTransfer { bytes, mss })
}

fn send(to: SocketAddr, bytes: usize) -> Result<u32, String> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).map_err(|e| format!("connect to {to}: {e}"))?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
    stream.write_all(&content(bytes)).map_err(|e| format!("send to {to}: {e}"))?;
    stream.shutdown(std::net::Shutdown::Write).map_err(|e| e.to_string())?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
    stream.read_exact(&mut [0]).map_err(|e| format!("no receipt from {to}: {e}"))?;
    SockRef::from(&stream).tcp_mss().map_err(|e| e.to_string())
}

fn receive(listener: &TcpListener, bytes: usize) -> Result<usize, String> {
    SockRef::from(listener).set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
    let (mut stream, _) = listener.accept().map_err(|e| format!("no connection arrived: {e}"))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
    let mut received = Vec::with_capacity(bytes);
    stream.read_to_end(&mut received).map_err(|e| format!("after {} bytes: {e}", received.len()))?;
    if received != content(bytes) {
        return Err(format!("{} bytes arrived, and not those that were sent", received.len()));
    }
    stream.write_all(&[1]).map_err(|e| e.to_string())?;
    Ok(received.len())
}

/// What arrived of a stream that was sent as fast as it could be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throughput {
    /// Bytes that arrived.
    pub bytes: u64,
    /// From the first connection to the last byte.
    pub time: Duration,
}

/// Sends for so long over TCP from one namespace to a listener in the other, and counts what arrives.
pub fn throughput(from: &Namespace, to: &Namespace, address: IpAddr, duration: Duration) -> Result<Throughput, String> {
    let listener = to.enter(|| TcpListener::bind((address, 0))).map_err(|e| format!("listen: {e}"))?;
    let server = listener.local_addr().map_err(|e| e.to_string())?;
    let sender = from.spawn(move || send_for(server, duration));
    let received = count(&listener);
    sender.join().map_err(|_| "the sender panicked".to_owned())??;
    received
}

fn send_for(server: SocketAddr, duration: Duration) -> Result<(), String> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE).map_err(|e| format!("connect to {server}: {e}"))?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
    let chunk = vec![0x2e; CHUNK];
    let start = Instant::now();
    while start.elapsed() < duration {
        stream.write_all(&chunk).map_err(|e| format!("send to {server}: {e}"))?;
    }
    Ok(())
}

fn count(listener: &TcpListener) -> Result<Throughput, String> {
    SockRef::from(listener).set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
    let (mut stream, _) = listener.accept().map_err(|e| format!("no connection arrived: {e}"))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
    let start = Instant::now();
    let mut buffer = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        match uninterrupted(|| stream.read(&mut buffer)) {
            Ok(0) => return Ok(Throughput { bytes, time: start.elapsed() }),
            Ok(length) => bytes += length as u64,
            Err(error) => return Err(format!("after {bytes} bytes: {error}")),
        }
    }
}

/// Bytes that repeat at no power of two, so that a lost or doubled block shows.
fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8 ^ (at / 251 % 241) as u8).collect()
}
