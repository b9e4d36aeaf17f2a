//! From the TUN interface to the UDP sockets.

use std::io;

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};

use super::{Shared, busy::A_FEW};
use crate::{
    io::{tun::Arrival, udp::Sockets},
    noise::{Batch, DropReason, Engine, Freight, Lane, Now},
    offload::Cut,
};

/// Frames taken from the interface in one go, at most.
const FRAMES: usize = 64;
/// Bytes of frames after which no more are taken, so that they lie in a cache when they are encrypted.
const ENOUGH: usize = 128 * 1024;
/// Datagrams that are sent in one go, at most.
const DATAGRAMS: usize = 512;

/// The memory that goes round with every batch.
pub(super) struct Buffers {
    frames: Batch,
    /// How each frame is cut, and on which session it is sent.
    tasks: Vec<(Cut, Option<Lane>)>,
    datagrams: Batch,
}

impl Buffers {
    /// Room for so many frames in one go.
    pub(super) fn for_frames(most: usize) -> Self {
        Self {
            frames: Batch::with_padding(most),
            tasks: Vec::with_capacity(most),
            datagrams: Batch::with_room(DATAGRAMS, 2 * ENOUGH + 4 * Batch::SLOT),
        }
    }

    /// The packets that were read and not yet sent.
    fn packets(&self) -> usize {
        self.tasks.iter().map(|(cut, _)| cut.count()).sum()
    }
}

pub(super) fn run(shared: &Shared) -> io::Result<()> {
    let mut buffers = Buffers::for_frames(FRAMES);
    // One frame first: whoever sent it may be waiting for its answer. Then as many as there are.
    let (mut most, mut packets) = (1, 0);
    while !shared.is_stopping() {
        let inside = if shared.is_busy() { shared.tun_gate().enter() } else { None };
        if inside.is_some() {
            fill(shared, &mut buffers, most)?;
        }
        if buffers.tasks.is_empty() {
            drop(inside);
            if packets > A_FEW {
                shared.saw_many()
            } else {
                shared.saw_few()
            }
            wait(shared)?;
            (most, packets) = (1, 0);
            continue;
        }
        packets += buffers.packets();
        turn(shared, &mut buffers);
        most = FRAMES;
    }
    Ok(())
}

/// Passes on the few frames that are there, for a thread with other work. Where there are more, or they would have to wait,
/// the outward thread is to.
pub(super) fn pass_few(shared: &Shared, sockets: &Sockets, buffers: &mut Buffers) -> io::Result<()> {
    let Some(_inside) = shared.tun_gate().enter() else { return Ok(()) };
    let mut packets = 0;
    while packets < A_FEW && sockets.have_room()? {
        fill(shared, buffers, 1)?;
        if buffers.tasks.is_empty() {
            return Ok(());
        }
        packets += buffers.packets();
        turn(shared, buffers);
    }
    shared.saw_many();
    Ok(())
}

fn fill(shared: &Shared, buffers: &mut Buffers, most: usize) -> io::Result<()> {
    let Buffers { frames, tasks, .. } = buffers;
    while tasks.len() < most && frames.bytes() < ENOUGH {
        let arrival = shared.tun.read(frames)?;
        let cut = match arrival {
            Arrival::Nothing => break,
            Arrival::Frame(offload) => Cut::of(&offload, frames.get(frames.len() - 1).0),
            Arrival::Nonsense => None,
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

/// One batch: what needs the engine, then the work, then the sending.
fn turn(shared: &Shared, buffers: &mut Buffers) {
    let Buffers { frames, tasks, datagrams } = buffers;
    let now = Now::read();
    shared.with_engine(|engine| {
        for (place, (cut, lane)) in tasks.iter_mut().enumerate() {
            *lane = plan(engine, now, frames, place, cut, datagrams);
        }
    });
    let sockets = shared.sockets();
    let mut ageing = None;
    for (place, (cut, lane)) in tasks.drain(..).enumerate() {
        let Some(lane) = lane else { continue };
        if lane.is_ageing() {
            ageing = Some(lane.clone());
        }
        cut.each(frames.padded_mut(place).0, |slot, len| {
            if datagrams.room() == 0 {
                shared.send(&sockets, datagrams);
            }
            if let Err(reason) = lane.seal(slot, len, datagrams) {
                shared.count(reason, 1);
            }
        });
    }
    frames.clear();
    // One in a batch is enough: the others come up with the next one.
    if let Some(lane) = ageing {
        shared.with_engine(|engine| engine.renew(now, &lane, datagrams));
    }
    shared.send(&sockets, datagrams);
    shared.forward_if_aside();
}

/// The lane for a frame. Where there is none its packets are left with the engine, or dropped.
fn plan(engine: &mut Engine, now: Now, frames: &mut Batch, place: usize, cut: &Cut, out: &mut Batch) -> Option<Lane> {
    let (len, last) = cut.lengths();
    let freight = Freight { packets: cut.count(), len, last };
    match engine.lane(now, frames.get(place).0, freight) {
        Ok(Some(lane)) => return Some(lane),
        // No more packets wait than a handshake's answer sends, so the datagrams that this gives are few.
        Ok(None) => cut.each(frames.padded_mut(place).0, |slot, len| engine.packet(now, slot, len, out)),
        Err(reason) => engine.count_drops(reason, freight.packets as u64),
    }
    None
}

fn wait(shared: &Shared) -> io::Result<()> {
    let mut waiting = [PollFd::new(shared.outward(), PollFlags::IN), PollFd::new(&shared.tun, PollFlags::IN)];
    // What another thread or process reads wakes nobody here.
    let most = if shared.is_busy() && shared.tun_gate().is_open() { 2 } else { 1 };
    match poll(&mut waiting[..most], None) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    if waiting[0].revents().contains(PollFlags::IN) {
        shared.outward().silence();
    }
    Ok(())
}
