//! Listens on an interface (`packet(7)`) and looks for a text in what passes.

use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    sys::{
        socket::{AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket, sockopt},
        time::TimeVal,
    },
};

use super::{Within, within};

/// How long the line must be silent, once told to stop, before the capture ends.
const SILENCE: Duration = Duration::from_millis(100);
/// Ethernet type of IPv4.
const IPV4: [u8; 2] = [0x08, 0x00];

/// What to look for.
#[derive(Debug, Clone)]
pub(in crate::demo) struct Wanted {
    /// Interface to listen on.
    pub(in crate::demo) interface: String,
    /// Text to find.
    pub(in crate::demo) text: &'static str,
    /// UDP port of WireGuard.
    pub(in crate::demo) wireguard_port: u16,
}

/// What passed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::demo) struct Seen {
    /// Frames of any kind.
    pub(in crate::demo) frames: usize,
    /// Among them WireGuard data messages.
    pub(in crate::demo) wireguard: usize,
    /// Frames in which the text could be read.
    pub(in crate::demo) readable: usize,
    /// The first bytes of one WireGuard message.
    pub(in crate::demo) sample: Vec<u8>,
}

/// A capture going on.
pub(in crate::demo) struct Capture {
    stop: Arc<AtomicBool>,
    work: Within<Seen>,
}

impl Capture {
    /// Starts to listen in the network of process `pid`; returns once listening.
    pub(in crate::demo) fn start(pid: u32, wanted: Wanted) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, listening) = mpsc::channel();
        let stopped = stop.clone();
        let work = within(pid, move || {
            let (socket, index) = open(&wanted.interface)?;
            ready.send(()).context("nobody waits for the capture")?;
            listen(&socket, index, &wanted, &stopped)
        });
        match listening.recv() {
            Ok(()) => Ok(Self { stop, work }),
            // The sender is gone without a word: the thread has the reason.
            Err(_) => Err(work.join().err().context("the capture ended early")?),
        }
    }

    /// Ends the capture once the line is silent.
    pub(in crate::demo) fn finish(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.work.join()
    }
}

fn open(interface: &str) -> Result<(OwnedFd, usize)> {
    let index = nix::net::if_::if_nametoindex(interface).with_context(|| format!("no interface {interface}"))?;
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
        .context("could not open a packet socket")?;
    let silence = TimeVal::new(0, SILENCE.subsec_micros().into());
    setsockopt(&socket, sockopt::ReceiveTimeout, &silence)?;
    Ok((socket, index as usize))
}

/// The socket hears every interface of the network; what is not from `index` is passed over.
fn listen(socket: &OwnedFd, index: usize, wanted: &Wanted, stopped: &AtomicBool) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut buffer = vec![0; 65536];
    loop {
        match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer) {
            Ok((length, Some(from))) if from.ifindex() == index => seen.note(&buffer[..length], wanted),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) if stopped.load(Ordering::Relaxed) => return Ok(seen),
            Err(Errno::EAGAIN) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

impl Seen {
    fn note(&mut self, frame: &[u8], wanted: &Wanted) {
        self.frames += 1;
        if contains(frame, wanted.text.as_bytes()) {
            self.readable += 1;
        }
        if let Some(message) = wireguard_data(frame, wanted.wireguard_port) {
            self.wireguard += 1;
            if self.sample.is_empty() {
                self.sample = message[..message.len().min(48)].to_vec();
            }
        }
    }
}

fn contains(frame: &[u8], text: &[u8]) -> bool {
    frame.windows(text.len()).any(|window| window == text)
}

/// The payload of an Ethernet frame with IPv4 and UDP to `port` that is a WireGuard transport message (type 4).
fn wireguard_data(frame: &[u8], port: u16) -> Option<&[u8]> {
    let packet = (frame.get(12..14)? == IPV4).then_some(frame.get(14..)?)?;
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let datagram = (*packet.get(9)? == 17).then_some(packet.get(header..)?)?;
    let to_port = datagram.get(2..4)? == port.to_be_bytes();
    let payload = datagram.get(8..)?;
    (to_port && payload.starts_with(&[4, 0, 0, 0])).then_some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(port: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend(IPV4);
        let mut packet = vec![0; 20];
        packet[0] = 0x45;
        packet[9] = 17;
        frame.extend(packet);
        frame.extend([0, 1]);
        frame.extend(port.to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(payload);
        frame
    }

    #[test]
    fn a_readable_text_and_a_wireguard_message_are_told_apart() {
        let wanted = Wanted { interface: String::new(), text: "hello", wireguard_port: 51820 };
        let mut seen = Seen::default();
        seen.note(&frame(51820, &[4, 0, 0, 0, 1, 2, 3]), &wanted);
        seen.note(&frame(51820, &[1, 0, 0, 0]), &wanted);
        seen.note(&frame(7, b"..hello.."), &wanted);
        seen.note(&[0; 3], &wanted);
        assert_eq!(seen, Seen { frames: 4, wireguard: 1, readable: 1, sample: vec![4, 0, 0, 0, 1, 2, 3] });
    }
}
