use std::{
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::Namespace;

/// A capture of all links of a namespace (AF_PACKET), which looks for a known plaintext.
#[derive(Debug)]
pub struct PacketCapture {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<CapturedPacket>,
}

/// What a capture saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapturedPacket {
    /// Frames in all; one that crosses two links counts twice.
    pub frames: u64,
    /// Frames that held the plaintext.
    pub with_marker: u64,
    /// IP packets that were fragments.
    pub fragments: u64,
    /// WireGuard data messages (UDP payload that begins 04 00 00 00).
    pub wireguard_data: u64,
    /// Length of the longest IP packet in bytes.
    pub longest: usize,
    /// The first bytes of one WireGuard data message, or zeros.
    pub sample: [u8; SAMPLE],
}

/// How many bytes of a WireGuard data message are kept.
const SAMPLE: usize = 32;

/// `ETH_P_ALL` of linux/if_ether.h: every protocol.
const EVERY_PROTOCOL: u16 = 3;

impl PacketCapture {
    /// Starts a capture in the namespace; it has begun when this returns.
    pub fn start(at: &Namespace, marker: &[u8]) -> Self {
        let protocol = Protocol::from(i32::from(EVERY_PROTOCOL.to_be()));
        let socket = at.enter(|| Socket::new(Domain::PACKET, Type::RAW, Some(protocol))).expect("a packet socket");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a time-out");
        socket.set_recv_buffer_size(8 << 20).expect("a large buffer");
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, marker) = (Arc::clone(&stop), marker.to_vec());
        let thread = std::thread::spawn(move || listen(socket, &stopped, &marker));
        Self { stop, thread }
    }

    /// Ends the capture, after what has already arrived is read.
    pub fn end(self) -> CapturedPacket {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn listen(mut socket: Socket, stopped: &AtomicBool, marker: &[u8]) -> CapturedPacket {
    let mut captured = CapturedPacket::default();
    let mut frame = vec![0; 70_000];
    loop {
        match socket.read(&mut frame) {
            Ok(length) => captured.count(&frame[..length], marker),
            Err(_) if stopped.load(Ordering::Relaxed) => return captured,
            // The time-out only lets the flag be seen.
            Err(_) => {}
        }
    }
}

impl CapturedPacket {
    fn count(&mut self, frame: &[u8], marker: &[u8]) {
        let Some((ethernet, packet)) = frame.split_at_checked(14) else { return };
        self.frames += 1;
        self.with_marker += u64::from(frame.windows(marker.len()).any(|window| window == marker));
        let udp = match (ethernet[12], ethernet[13], packet) {
            (0x08, 0x00, [first, _, _, _, _, _, flags, low, _, protocol, ..]) => {
                self.fragments += u64::from(flags & 0x3f != 0 || *low != 0);
                (*protocol == 17).then_some(usize::from(first & 0x0f) * 4)
            }
            (0x86, 0xdd, [_, _, _, _, _, _, next, ..]) => {
                self.fragments += u64::from(*next == 44);
                (*next == 17).then_some(40)
            }
            _ => return,
        };
        self.longest = self.longest.max(packet.len());
        let payload = udp.and_then(|header| packet.get(header + 8..));
        if let Some(message) = payload.filter(|payload| payload.starts_with(&[4, 0, 0, 0])) {
            self.wireguard_data += 1;
            self.sample = message.first_chunk().copied().unwrap_or(self.sample);
        }
    }
}
