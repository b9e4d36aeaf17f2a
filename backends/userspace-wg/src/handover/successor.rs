//! The successor's side of a device that comes from an older process.

use std::{
    collections::VecDeque,
    io,
    time::{Duration, Instant},
};

use overlayd_core::keys::PublicKey;

use super::channel::{Heard, Said, Wire, peers_of};
use crate::{
    device::Shared,
    noise::{Batch, Engine, Known, Moment, Now},
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
pub(crate) fn attach(wire: &Wire) -> io::Result<Vec<Known>> {
    let mut buffer = Wire::buffer();
    let mut known = Vec::new();
    wire.say(&Said::Attached)?;
    loop {
        match wire.hear(&mut buffer, Some(PEERS))? {
            Heard::Said(Said::Peers(text)) => known.extend(peers_of(text)?),
            Heard::Said(Said::AllPeers) => return Ok(known),
            Heard::Said(other) => return Err(io::Error::other(format!("{other:?} came out of turn"))),
            Heard::Nothing => return Err(io::ErrorKind::TimedOut.into()),
            // What it has said is as true as before.
            Heard::End => return Ok(known),
        }
    }
}

/// Handles what the older process leaves to this one, until that one is done or gone; then this one is alone.
pub(crate) fn run(shared: &Shared, wire: &Wire, talking: Vec<PublicKey>) {
    let mut sessions = Sessions { ungreeted: talking.into(), greeted: Vec::new(), since: Instant::now() };
    let mut buffers = Buffers { packets: Batch::with_padding(2), datagrams: Batch::with_slots(Engine::STEP + 2) };
    let mut buffer = Wire::buffer();
    let mut asked = false;
    loop {
        if !asked && sessions.are_there(shared) {
            asked = true;
            // One that is gone is heard to be.
            drop(wire.say(&Said::GiveTun));
        }
        let wait = if asked { None } else { Some(PAUSE) };
        match wire.hear(&mut buffer, wait) {
            Ok(Heard::Nothing) => {}
            Ok(Heard::Said(Said::TunGiven)) => shared.open_tun(),
            Ok(Heard::Said(Said::Farewell) | Heard::End) => break,
            Ok(Heard::Said(said)) => buffers.handle(shared, &said),
            Err(error) => {
                tracing::warn!(%error, "the older process is not understood; the device is carried on without it");
                break;
            }
        }
    }
    wire.hang_up();
    shared.open_tun();
    shared.open_udp();
}

/// The sessions that this process needs before it can do what the older one does.
struct Sessions {
    ungreeted: VecDeque<PublicKey>,
    greeted: Vec<PublicKey>,
    /// When handshakes were last begun.
    since: Instant,
}

impl Sessions {
    /// Begins some more handshakes when it is time; says whether there is nothing to wait for any more.
    fn are_there(&mut self, shared: &Shared) -> bool {
        let now = Moment::boot_clock();
        if !self.ungreeted.is_empty() && (self.greeted.is_empty() || self.since.elapsed() >= PAUSE) {
            let some: Vec<PublicKey> = self.ungreeted.drain(..AT_ONCE.min(self.ungreeted.len())).collect();
            // The older process may have shaken hands a moment ago.
            let soon = now.after(Engine::BETWEEN_HANDSHAKES);
            shared.with_engine(|engine| some.iter().for_each(|key| engine.greet_peer(soon, key)));
            self.greeted.extend(some);
            self.since = Instant::now();
        }
        if !self.ungreeted.is_empty() {
            return false;
        }
        shared.with_engine(|engine| self.greeted.retain(|key| !engine.is_connected(now, key)));
        self.greeted.is_empty() || self.since.elapsed() >= SESSIONS
    }
}

struct Buffers {
    packets: Batch,
    datagrams: Batch,
}

impl Buffers {
    /// As if it had come from the socket, or from the interface.
    fn handle(&mut self, shared: &Shared, said: &Said<'_>) {
        let Self { packets, datagrams } = self;
        let now = Now::read();
        match said {
            Said::Datagram(from, datagram) => {
                shared.with_engine(|engine| engine.datagram(now, *from, datagram, packets, datagrams));
                shared.deliver(packets);
            }
            Said::Packet(packet) if packet.len() <= Batch::LARGEST_PACKET => {
                packets.next_slot()[..packet.len()].copy_from_slice(packet);
                packets.push(packet.len(), None);
                let (slot, len) = packets.padded_mut(0);
                shared.with_engine(|engine| engine.packet(now, slot, len, datagrams));
                packets.clear();
            }
            _ => {}
        }
        shared.send(&shared.sockets(), datagrams);
    }
}
