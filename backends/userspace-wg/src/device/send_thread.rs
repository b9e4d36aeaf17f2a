//! From the TUN interface to the UDP sockets.

use std::io;

use super::{SharedDevice, busy::FEW_PACKETS};
use crate::{
    io::{poller::Poller, tun::TunRead, udp::UdpSockets},
    noise::{CurrentTime, DropReason, PacketBatch, SendBurst, SendSession, Tunnel},
    offload::FrameSplit,
};

/// Frames taken from the interface in one go, at most.
const FRAMES: usize = 64;
/// Bytes of frames after which no more are taken, so that they lie in a cache when they are encrypted.
const ENOUGH: usize = 128 * 1024;
/// Datagrams that are sent in one go, at most.
const DATAGRAMS: usize = 512;

/// The memory that goes round with every batch.
pub(super) struct SendBuffers {
    frames: PacketBatch,
    /// How each frame is cut, and on which session it is sent.
    tasks: Vec<(FrameSplit, Option<SendSession>)>,
    datagrams: PacketBatch,
}

impl SendBuffers {
    /// Room for so many frames in one go.
    pub(super) fn for_frames(most: usize) -> Self {
        Self {
            frames: PacketBatch::with_padding(most),
            tasks: Vec::with_capacity(most),
            datagrams: PacketBatch::with_room(DATAGRAMS, 2 * ENOUGH + 4 * PacketBatch::SLOT),
        }
    }

    /// The packets that were read and not yet sent.
    fn packets(&self) -> usize {
        self.tasks.iter().map(|(cut, _)| cut.count()).sum()
    }
}

pub(super) fn run(shared: &SharedDevice) -> io::Result<()> {
    let mut buffers = SendBuffers::for_frames(FRAMES);
    // One frame first: its sender may be waiting for the answer. Then as many as there are.
    let mut most = 1;
    let mut packets = 0;
    while !shared.is_stopping() {
        // Held until what was read is sent: closing the gate waits for that.
        let reading = if shared.is_busy() { shared.tun_gate().enter() } else { None };
        if reading.is_some() {
            fill(shared, &mut buffers, most)?;
        }
        if buffers.tasks.is_empty() {
            drop(reading);
            // Counted since the last wait: a stream keeps both threads, single packets leave it to one.
            if packets > FEW_PACKETS {
                shared.saw_many()
            } else {
                shared.saw_few()
            }
            wait(shared)?;
            most = 1;
            packets = 0;
            continue;
        }
        packets += buffers.packets();
        process_batch(shared, &mut buffers);
        most = FRAMES;
    }
    Ok(())
}

/// Passes on the few frames that are there, for a thread with other work. Where there are more, or they would have to wait,
/// the send thread is to.
pub(super) fn pass_few(shared: &SharedDevice, sockets: &UdpSockets, buffers: &mut SendBuffers) -> io::Result<()> {
    let Some(_reading) = shared.tun_gate().enter() else { return Ok(()) };
    let mut packets = 0;
    // A full socket would make this thread wait, and it has the timers and the other direction to serve.
    while packets < FEW_PACKETS && sockets.have_room()? {
        fill(shared, buffers, 1)?;
        if buffers.tasks.is_empty() {
            return Ok(());
        }
        packets += buffers.packets();
        process_batch(shared, buffers);
    }
    shared.saw_many();
    Ok(())
}

fn fill(shared: &SharedDevice, buffers: &mut SendBuffers, most: usize) -> io::Result<()> {
    let SendBuffers { frames, tasks, .. } = buffers;
    while tasks.len() < most && frames.bytes() < ENOUGH {
        let arrival = shared.tun.read(frames)?;
        let cut = match arrival {
            TunRead::Nothing => break,
            TunRead::Frame(offload) => FrameSplit::of(&offload, frames.get(frames.len() - 1).0),
            TunRead::Nonsense => None,
        };
        match cut {
            Some(cut) => tasks.push((cut, None)),
            None => {
                frames.pop();
                shared.count(DropReason::Malformed, 1);
            }
        }
    }
    Ok(())
}

/// One batch: what needs the tunnel, then the encryption without its lock, then the sending.
fn process_batch(shared: &SharedDevice, buffers: &mut SendBuffers) {
    let SendBuffers { frames, tasks, datagrams } = buffers;
    let now = CurrentTime::read();
    shared.with_tunnel(|tunnel| {
        for (place, (cut, send_session)) in tasks.iter_mut().enumerate() {
            *send_session = assign_session(tunnel, now, frames, place, cut, datagrams);
        }
    });
    let sockets = shared.sockets();
    let mut ageing = None;
    for (place, (cut, send_session)) in tasks.drain(..).enumerate() {
        let Some(send_session) = send_session else { continue };
        if send_session.is_ageing() {
            ageing = Some(send_session.clone());
        }
        cut.each(frames.padded_mut(place).0, |slot, len| {
            // A frame of 64 KiB in small segments has more datagrams than fit, so they are sent in between.
            if datagrams.room() == 0 {
                shared.send(&sockets, datagrams);
            }
            if let Err(reason) = send_session.seal(slot, len, datagrams) {
                shared.count(reason, 1);
            }
        });
    }
    frames.clear();
    // After the encryption, so that the initiation does not overtake the packets. One in a batch is enough: other
    // sessions that age come up with the next batch.
    if let Some(send_session) = ageing {
        shared.with_tunnel(|tunnel| tunnel.renew(now, &send_session, datagrams));
    }
    shared.send(&sockets, datagrams);
    shared.forward_if_handing_over();
}

/// The session for a frame. Where there is none its packets are kept by the tunnel, or dropped.
fn assign_session(
    tunnel: &mut Tunnel,
    now: CurrentTime,
    frames: &mut PacketBatch,
    place: usize,
    cut: &FrameSplit,
    out: &mut PacketBatch,
) -> Option<SendSession> {
    let (len, last) = cut.lengths();
    let burst = SendBurst { packets: cut.count(), len, last };
    match tunnel.send_session(now, frames.get(place).0, burst) {
        Ok(Some(send_session)) => return Some(send_session),
        // No more packets wait than a handshake's answer sends, so the datagrams that this gives are few.
        Ok(None) => cut.each(frames.padded_mut(place).0, |slot, len| tunnel.packet(now, slot, len, out)),
        Err(reason) => tunnel.count_drops(reason, burst.packets as u64),
    }
    None
}

fn wait(shared: &SharedDevice) -> io::Result<()> {
    // While the device is quiet the receive thread reads the interface, and in a handover another process does.
    let reads_tun = shared.is_busy() && shared.tun_gate().is_open();
    Poller::new(shared.send_waker()).with_tun(reads_tun.then_some(&shared.tun)).wait()?;
    Ok(())
}
