//! TCP between two networks: throughput, and a text that goes there and back.

use std::{
    io::{Read, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::within;

/// Longest wait for a connection or for data.
const PATIENCE: Duration = Duration::from_secs(5);
const CHUNK: usize = 128 * 1024;

/// What came through.
#[derive(Debug, Clone, Copy)]
pub(in crate::demo) struct Throughput {
    pub(in crate::demo) bytes: u64,
    pub(in crate::demo) time: Duration,
}

impl Throughput {
    /// Bits per second.
    pub(in crate::demo) fn bits_per_second(self) -> f64 {
        self.bytes as f64 * 8.0 / self.time.as_secs_f64().max(f64::EPSILON)
    }
}

/// Sends for `duration` from the network of process `from` to `address` in that of process `to`, and counts what
/// arrives.
pub(in crate::demo) fn throughput(from: u32, to: u32, address: IpAddr, duration: Duration) -> Result<Throughput> {
    let listener = within(to, move || Ok(TcpListener::bind((address, 0))?)).join()?;
    let server = listener.local_addr()?;
    let receiver = std::thread::spawn(move || receive(&listener));
    let sender = within(from, move || send_for(server, duration));
    sender.join().context("the sending side")?;
    receiver.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))?.context("the receiving side")
}

fn receive(listener: &TcpListener) -> Result<Throughput> {
    let mut stream = accept(listener)?;
    let start = Instant::now();
    let mut buffer = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(Throughput { bytes, time: start.elapsed() }),
            Ok(length) => bytes += length as u64,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn send_for(server: SocketAddr, duration: Duration) -> Result<()> {
    let mut stream = connect(server)?;
    let chunk = vec![0x2e; CHUNK];
    let start = Instant::now();
    while start.elapsed() < duration {
        stream.write_all(&chunk)?;
    }
    Ok(())
}

/// Sends `text` from one network to the other, which sends it back.
pub(in crate::demo) fn echo(from: u32, to: u32, address: IpAddr, text: &'static str) -> Result<()> {
    let listener = within(to, move || Ok(TcpListener::bind((address, 0))?)).join()?;
    let server = listener.local_addr()?;
    let echoing = std::thread::spawn(move || -> Result<()> {
        let mut stream = accept(&listener)?;
        let mut heard = vec![0; text.len()];
        stream.read_exact(&mut heard)?;
        Ok(stream.write_all(&heard)?)
    });
    let answer = within(from, move || {
        let mut stream = connect(server)?;
        stream.write_all(text.as_bytes())?;
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    })
    .join()?;
    echoing.join().map_err(|_| anyhow::anyhow!("the echo panicked"))??;
    ensure!(answer == text.as_bytes(), "the text came back changed");
    Ok(())
}

fn connect(server: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server, PATIENCE).with_context(|| format!("could not reach {server}"))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Takes one connection; the listener's time-out bounds the wait.
fn accept(listener: &TcpListener) -> Result<TcpStream> {
    socket2::SockRef::from(listener).set_read_timeout(Some(PATIENCE))?;
    let (stream, _) = listener.accept().context("nobody connected")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}
