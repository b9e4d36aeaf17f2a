//! ICMP echo (RFC 792) over a raw socket.

use std::{
    io::Read as _,
    net::{Ipv4Addr, SocketAddrV4},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};

const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;
/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Pause between two requests.
const PAUSE: Duration = Duration::from_millis(20);

/// Round-trip times of the answered requests.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::demo) struct Pings {
    pub(in crate::demo) sent: usize,
    pub(in crate::demo) times: Vec<Duration>,
}

impl Pings {
    /// Shortest, mean and longest time; zeros when nothing was answered.
    pub(in crate::demo) fn summary(&self) -> (Duration, Duration, Duration) {
        let count = u32::try_from(self.times.len().max(1)).unwrap_or(u32::MAX);
        let mean = self.times.iter().sum::<Duration>() / count;
        let min = self.times.iter().min().copied().unwrap_or_default();
        let max = self.times.iter().max().copied().unwrap_or_default();
        (min, mean, max)
    }
}

/// Sends `count` requests to `target`, one after the other.
pub(in crate::demo) fn ping(target: Ipv4Addr, count: u16) -> Result<Pings> {
    let mut socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
    socket.connect(&SocketAddrV4::new(target, 0).into())?;
    let mut times = Vec::new();
    for sequence in 0..count {
        let start = Instant::now();
        socket.send(&request(sequence))?;
        if await_reply(&mut socket, sequence, start + PATIENCE)? {
            times.push(start.elapsed());
        }
        thread::sleep(PAUSE);
    }
    Ok(Pings { sent: usize::from(count), times })
}

/// Pings until `target` answers for the first time; how long that took since the start.
pub(in crate::demo) fn first_answer(target: Ipv4Addr, patience: Duration) -> Result<Duration> {
    let start = Instant::now();
    while start.elapsed() < patience {
        if !ping(target, 1)?.times.is_empty() {
            return Ok(start.elapsed());
        }
    }
    anyhow::bail!("{target} did not answer a ping within {} s", patience.as_secs())
}

/// An echo request whose identifier is of this process and whose payload is 56 bytes, as of `ping(8)`.
fn request(sequence: u16) -> Vec<u8> {
    let mut packet = vec![ECHO_REQUEST, 0, 0, 0];
    packet.extend(identifier());
    packet.extend(sequence.to_be_bytes());
    packet.resize(8 + 56, 0x2e);
    let sum = checksum(&packet);
    packet[2..4].copy_from_slice(&sum.to_be_bytes());
    packet
}

fn identifier() -> [u8; 2] {
    let [.., a, b] = std::process::id().to_be_bytes();
    [a, b]
}

/// Reads until the answer to `sequence` arrives or time is up; a raw socket gets the IP header, too.
fn await_reply(socket: &mut Socket, sequence: u16, until: Instant) -> Result<bool> {
    let mut buffer = [0u8; 2048];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        socket.set_read_timeout(Some(left))?;
        match socket.read(&mut buffer) {
            Ok(length) if is_reply(&buffer[..length], sequence) => return Ok(true),
            Ok(_) => {}
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                return Ok(false);
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            // The network below is still being learned: an unreachable next hop is reported here.
            Err(e) if e.kind() == std::io::ErrorKind::HostUnreachable => return Ok(false),
            Err(e) => return Err(e.into()),
        }
    }
}

fn is_reply(packet: &[u8], sequence: u16) -> bool {
    let header = usize::from(packet.first().copied().unwrap_or(0) & 0x0f) * 4;
    match packet.get(header..header + 8) {
        Some([kind, _, _, _, id @ .., s1, s2]) => {
            *kind == ECHO_REPLY && *id == identifier() && [*s1, *s2] == sequence.to_be_bytes()
        }
        _ => false,
    }
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Fails unless every request was answered.
pub(in crate::demo) fn expect_all(pings: &Pings) -> Result<()> {
    ensure!(pings.times.len() == pings.sent, "{} of {} pings were answered", pings.times.len(), pings.sent);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_carries_a_checksum_that_sums_to_nothing() {
        assert_eq!(checksum(&request(7)), 0);
    }

    #[test]
    fn only_the_answer_to_this_request_counts() {
        let mut packet = vec![0x45; 20];
        packet.extend(request(7));
        assert!(!is_reply(&packet, 7), "our own request");
        packet[20] = ECHO_REPLY;
        assert!(is_reply(&packet, 7));
        assert!(!is_reply(&packet, 8));
        assert!(!is_reply(&packet[..10], 7));
    }
}
