//! From the UDP sockets to the TUN interface, and everything that timers bring about.

use std::io;

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use super::Shared;
use crate::{
    host::udp::Sockets,
    noise::{Batch, Engine, Moment, Now},
};

/// Datagrams taken from the sockets in one go.
const DATAGRAMS: usize = 64;

/// The memory that goes round with every batch.
struct Buffers {
    datagrams: Batch,
    packets: Batch,
    replies: Batch,
}

pub(super) fn run(shared: &Shared) -> io::Result<()> {
    let mut buffers = Buffers {
        datagrams: Batch::with_slots(DATAGRAMS),
        packets: Batch::with_slots(DATAGRAMS),
        replies: Batch::with_slots(Engine::STEP + DATAGRAMS),
    };
    while !shared.is_stopping() {
        let sockets = shared.sockets();
        let inside = shared.udp_gate().enter();
        if inside.is_some() {
            sockets.receive(&mut buffers.datagrams)?;
        }
        if buffers.datagrams.is_empty() && !is_due(shared) {
            drop(inside);
            wait(shared, &sockets)?;
            continue;
        }
        turn(shared, &sockets, &mut buffers);
    }
    Ok(())
}

/// One batch through the engine. The outputs may fill up before the batch is through, and are then emptied.
fn turn(shared: &Shared, sockets: &Sockets, buffers: &mut Buffers) {
    let Buffers { datagrams, packets, replies } = buffers;
    let now = Now::read();
    let mut place = 0;
    loop {
        {
            let mut engine = shared.lock();
            while place < datagrams.len() && packets.room() > 0 && replies.room() >= Engine::STEP {
                if let (datagram, Some(from)) = datagrams.get(place) {
                    engine.datagram(now, from, datagram, packets, replies);
                }
                place += 1;
            }
            engine.wake(now, replies);
        }
        shared.deliver(packets);
        shared.send(sockets, replies);
        if place == datagrams.len() {
            break;
        }
    }
    datagrams.clear();
}

fn is_due(shared: &Shared) -> bool {
    shared.fall_asleep().is_some_and(|at| at <= Moment::boot_clock())
}

fn wait(shared: &Shared, sockets: &Sockets) -> io::Result<()> {
    let pause = shared.fall_asleep().map(|at| at.since(Moment::boot_clock()));
    let pause = pause.and_then(|pause| Timespec::try_from(pause).ok());
    let [one, other] = sockets.pair();
    let mut waiting = [
        PollFd::new(shared.inward(), PollFlags::IN),
        PollFd::new(one, PollFlags::IN),
        PollFd::new(other, PollFlags::IN),
    ];
    // What another process reads wakes nobody here.
    let most = if shared.udp_gate().is_open() { 3 } else { 1 };
    match poll(&mut waiting[..most], pause.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    if waiting[0].revents().contains(PollFlags::IN) {
        shared.inward().silence();
    }
    Ok(())
}
