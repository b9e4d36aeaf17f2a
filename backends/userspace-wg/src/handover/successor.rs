//! The successor's side of a device that comes from an older process.

use std::{
    collections::VecDeque,
    io,
    time::{Duration, Instant},
};

use overlayd_core::keys::PublicKey;

use super::channel::{ChannelEvent, HandoverChannel, HandoverMessage, parse_peers};
use crate::{
    device::SharedDevice,
    noise::{CurrentTime, ExportedPeer, PacketBatch, SteadyTime, Tunnel},
};

/// Time for the older process to tell its peers.
const PEERS: Duration = Duration::from_secs(5);
/// Handshakes begun at once; each answer counts towards what may come in a second.
const AT_ONCE: usize = 100;
/// Pause between those.
const PAUSE: Duration = Duration::from_millis(300);
/// Longest wait for sessions once the last handshake was begun: a peer may be gone.
const SESSIONS: Duration = Duration::from_secs(2);

/// Says that this process is there, and takes what the older one knows of its peers.
pub(crate) fn attach(channel: &HandoverChannel) -> io::Result<Vec<ExportedPeer>> {
    let mut buffer = HandoverChannel::buffer();
    let mut exported = Vec::new();
    channel.send(&HandoverMessage::Attached)?;
    loop {
        match channel.receive(&mut buffer, Some(PEERS))? {
            ChannelEvent::HandoverMessage(HandoverMessage::Peers(text)) => exported.extend(parse_peers(text)?),
            ChannelEvent::HandoverMessage(HandoverMessage::AllPeers) => return Ok(exported),
            ChannelEvent::HandoverMessage(other) => {
                return Err(io::Error::other(format!("{other:?} came out of turn")));
            }
            ChannelEvent::Nothing => return Err(io::ErrorKind::TimedOut.into()),
            // What it has said is as true as before.
            ChannelEvent::HandoverEnd => return Ok(exported),
        }
    }
}

/// Handles what the older process leaves to this one, until that one is done or gone; then this one is alone.
pub(crate) fn run(shared: &SharedDevice, channel: &HandoverChannel, with_sessions: Vec<PublicKey>) {
    let mut sessions = SessionSetup { ungreeted: with_sessions.into(), greeted: Vec::new(), since: Instant::now() };
    let mut buffers =
        HandoverBuffers { packets: PacketBatch::with_padding(2), datagrams: PacketBatch::with_slots(Tunnel::STEP + 2) };
    let mut buffer = HandoverChannel::buffer();
    let mut asked = false;
    loop {
        if !asked && sessions.are_there(shared) {
            asked = true;
            // One that is gone is heard to be.
            drop(channel.send(&HandoverMessage::GiveTun));
        }
        let wait = if asked { None } else { Some(PAUSE) };
        match channel.receive(&mut buffer, wait) {
            Ok(ChannelEvent::Nothing) => {}
            Ok(ChannelEvent::HandoverMessage(HandoverMessage::TunGiven)) => shared.open_tun(),
            Ok(ChannelEvent::HandoverMessage(HandoverMessage::Farewell) | ChannelEvent::HandoverEnd) => break,
            Ok(ChannelEvent::HandoverMessage(said)) => buffers.handle(shared, &said),
            Err(error) => {
                tracing::warn!(%error, "the older process is not understood; the device is carried on without it");
                break;
            }
        }
    }
    channel.drop_sessions();
    shared.open_tun();
    shared.open_udp();
}

/// The sessions that this process needs before it can do what the older one does.
struct SessionSetup {
    ungreeted: VecDeque<PublicKey>,
    greeted: Vec<PublicKey>,
    /// When handshakes were last begun.
    since: Instant,
}

impl SessionSetup {
    /// Begins some more handshakes when it is time; says whether there is nothing to wait for any more.
    fn are_there(&mut self, shared: &SharedDevice) -> bool {
        let now = SteadyTime::boot_clock();
        if !self.ungreeted.is_empty() && (self.greeted.is_empty() || self.since.elapsed() >= PAUSE) {
            let some: Vec<PublicKey> = self.ungreeted.drain(..AT_ONCE.min(self.ungreeted.len())).collect();
            // The older process may have shaken hands a moment ago.
            let soon = now.after(Tunnel::HANDSHAKE_SPACING);
            shared.with_tunnel(|tunnel| some.iter().for_each(|key| tunnel.start_handshake(soon, key)));
            self.greeted.extend(some);
            self.since = Instant::now();
        }
        if !self.ungreeted.is_empty() {
            return false;
        }
        shared.with_tunnel(|tunnel| self.greeted.retain(|key| !tunnel.is_connected(now, key)));
        self.greeted.is_empty() || self.since.elapsed() >= SESSIONS
    }
}

struct HandoverBuffers {
    packets: PacketBatch,
    datagrams: PacketBatch,
}

impl HandoverBuffers {
    /// As if it had come from the socket, or from the interface.
    fn handle(&mut self, shared: &SharedDevice, said: &HandoverMessage<'_>) {
        let Self { packets, datagrams } = self;
        let now = CurrentTime::read();
        match said {
            HandoverMessage::Datagram(from, datagram) => {
                shared.with_tunnel(|tunnel| tunnel.datagram(now, *from, datagram, packets, datagrams));
                shared.deliver(packets);
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
