//! The successor's side of a device that comes from an older process.

use std::{
    collections::VecDeque,
    io,
    time::{Duration, Instant},
};

use overlayd_core::keys::PublicKey;

use super::{
    channel::{ChannelEvent, HandoverChannel},
    message::HandoverMessage,
    peer_record,
};
use crate::{
    datagram::{DatagramClass, classify},
    device::SharedDevice,
    noise::{CurrentTime, ExportedPeer, PacketBatch, SteadyTime, Tunnel},
};

/// Time for the older process to send its peers.
const PEERS: Duration = Duration::from_secs(5);
/// Handshakes begun at once; each answer counts towards what peers may send in a second.
const AT_ONCE: usize = 100;
/// Pause between those.
const PAUSE: Duration = Duration::from_millis(300);
/// Longest wait for sessions once the last handshake was begun: a peer may be gone.
const SESSIONS: Duration = Duration::from_secs(2);

/// Says that this process is there, and takes what the older one knows of its peers.
pub(crate) fn attach(channel: &HandoverChannel) -> io::Result<Vec<ExportedPeer>> {
    let mut buffer = HandoverChannel::buffer();
    let mut peers = Vec::new();
    channel.send(&HandoverMessage::Attached)?;
    loop {
        match channel.receive(&mut buffer, Some(PEERS))? {
            ChannelEvent::Message(HandoverMessage::Peers(text)) => peers.extend(peer_record::read(text)?),
            ChannelEvent::Message(HandoverMessage::AllPeers) => return Ok(peers),
            ChannelEvent::Message(other) => {
                return Err(io::Error::other(format!("{other:?} came before the last peer")));
            }
            ChannelEvent::Timeout => return Err(io::ErrorKind::TimedOut.into()),
            // The older process ended. What it has said is as true as before, and the tunnel adds the other peers.
            ChannelEvent::Closed => return Ok(peers),
        }
    }
}

/// Handles what the older process leaves to this one, until that one is done or gone; then this one is alone.
pub(super) fn run(shared: &SharedDevice, channel: &HandoverChannel, with_sessions: Vec<PublicKey>) {
    let mut setup = SessionSetup { waiting: with_sessions.into(), begun: Vec::new(), since: Instant::now() };
    let mut buffers =
        HandoverBuffers { packets: PacketBatch::with_padding(2), datagrams: PacketBatch::with_slots(Tunnel::STEP + 2) };
    let mut buffer = HandoverChannel::buffer();
    let mut asked = false;
    loop {
        if !asked && setup.is_done(shared) {
            asked = true;
            // If the older process is gone, the next `receive` says so.
            drop(channel.send(&HandoverMessage::GiveTun));
        }
        let wait = if asked { None } else { Some(PAUSE) };
        match channel.receive(&mut buffer, wait) {
            Ok(ChannelEvent::Timeout) => {}
            Ok(ChannelEvent::Message(HandoverMessage::TunGiven)) => shared.open_tun(),
            Ok(ChannelEvent::Message(HandoverMessage::Farewell) | ChannelEvent::Closed) => break,
            Ok(ChannelEvent::Message(message)) => buffers.handle(shared, &message),
            Err(error) => {
                tracing::warn!(%error, "the older process is not understood; the device is carried on without it");
                break;
            }
        }
    }
    channel.close();
    // Also where the older process ended without a word: there is no other process left that reads.
    shared.open_tun();
    shared.open_udp();
}

/// The sessions that this process needs before it can do what the older one does.
struct SessionSetup {
    /// Peers with which no handshake was begun yet.
    waiting: VecDeque<PublicKey>,
    /// Peers that have not answered yet.
    begun: Vec<PublicKey>,
    /// When handshakes were last begun.
    since: Instant,
}

impl SessionSetup {
    /// Begins some more handshakes when it is time; returns whether there is nothing to wait for any more.
    fn is_done(&mut self, shared: &SharedDevice) -> bool {
        let now = SteadyTime::boot_clock();
        if !self.waiting.is_empty() && (self.begun.is_empty() || self.since.elapsed() >= PAUSE) {
            let some: Vec<PublicKey> = self.waiting.drain(..AT_ONCE.min(self.waiting.len())).collect();
            // The older process may have begun a handshake a moment ago, and the peer would ignore a second one.
            let soon = now.after(Tunnel::HANDSHAKE_SPACING);
            shared.with_tunnel(|tunnel| some.iter().for_each(|key| tunnel.start_handshake(soon, key)));
            self.begun.extend(some);
            self.since = Instant::now();
        }
        if !self.waiting.is_empty() {
            return false;
        }
        shared.with_tunnel(|tunnel| self.begun.retain(|key| !tunnel.is_connected(now, key)));
        self.begun.is_empty() || self.since.elapsed() >= SESSIONS
    }
}

/// The memory for what the older process passes on.
struct HandoverBuffers {
    packets: PacketBatch,
    datagrams: PacketBatch,
}

impl HandoverBuffers {
    /// Handles traffic as if it had come from the socket, or from the interface.
    fn handle(&mut self, shared: &SharedDevice, message: &HandoverMessage<'_>) {
        let Self { packets, datagrams } = self;
        let now = CurrentTime::read();
        match message {
            HandoverMessage::Datagram(from, datagram) => {
                // The older process passes on WireGuard messages alone.
                if let DatagramClass::WireGuard(message) = classify(datagram) {
                    shared.with_tunnel(|tunnel| tunnel.message(now, *from, message, packets, datagrams));
                    shared.deliver(packets);
                }
            }
            HandoverMessage::Packet(packet) if packet.len() <= PacketBatch::LARGEST_PACKET => {
                packets.next_slot()[..packet.len()].copy_from_slice(packet);
                packets.push(packet.len(), None);
                let (slot, len) = packets.padded_mut(0);
                shared.with_tunnel(|tunnel| tunnel.packet(now, slot, len, datagrams));
                packets.clear();
            }
            _ => {}
        }
        shared.send(&shared.sockets(), datagrams);
    }
}
