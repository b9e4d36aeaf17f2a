//! From the TUN interface to the UDP sockets.

use std::io;

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};

use super::Shared;
use crate::{
    host::tun::Arrival,
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
struct Buffers {
    frames: Batch,
    /// How each frame is cut, and on which session it is sent.
    tasks: Vec<(Cut, Option<Lane>)>,
    datagrams: Batch,
}

/// How much is taken before it is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Greed {
    /// One frame: whoever sent it may be waiting for its answer.
    One,
    /// As much as there is.
    Many,
}

pub(super) fn run(shared: &Shared) -> io::Result<()> {
    let mut buffers = Buffers {
        frames: Batch::with_padding(FRAMES),
        tasks: Vec::with_capacity(FRAMES),
        datagrams: Batch::with_room(DATAGRAMS, 2 * ENOUGH + 4 * Batch::SLOT),
    };
    let mut greed = Greed::One;
    while !shared.is_stopping() {
        let Some(inside) = shared.tun_gate().enter() else {
            wait(shared)?;
            continue;
        };
        fill(shared, &mut buffers, greed)?;
        if buffers.tasks.is_empty() {
            drop(inside);
            wait(shared)?;
            greed = Greed::One;
            continue;
        }
        turn(shared, &mut buffers);
        greed = Greed::Many;
        drop(inside);
    }
    Ok(())
}

fn fill(shared: &Shared, buffers: &mut Buffers, greed: Greed) -> io::Result<()> {
    let Buffers { frames, tasks, .. } = buffers;
    let most = if greed == Greed::One { 1 } else { FRAMES };
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
    // What another process reads wakes nobody here.
    let most = if shared.tun_gate().is_open() { 2 } else { 1 };
    match poll(&mut waiting[..most], None) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    if waiting[0].revents().contains(PollFlags::IN) {
        shared.outward().silence();
    }
    Ok(())
}
