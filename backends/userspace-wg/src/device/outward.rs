//! From the TUN interface to the UDP sockets.

use std::io;

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};

use super::Shared;
use crate::noise::{Batch, Now};

/// Packets taken from the interface in one go.
const PACKETS: usize = 64;

pub(super) fn run(shared: &Shared) -> io::Result<()> {
    let mut packets = Batch::with_padding(PACKETS);
    let mut datagrams = Batch::with_slots(2 * PACKETS + 2);
    while !shared.is_stopping() {
        let Some(inside) = shared.tun_gate().enter() else {
            wait(shared)?;
            continue;
        };
        fill(shared, &mut packets)?;
        if packets.is_empty() {
            drop(inside);
            wait(shared)?;
            continue;
        }
        let now = Now::read();
        shared.with_engine(|engine| {
            for place in 0..packets.len() {
                let (slot, len) = packets.padded_mut(place);
                engine.packet(now, slot, len, &mut datagrams);
            }
        });
        packets.clear();
        shared.send(&shared.sockets(), &mut datagrams);
        drop(inside);
    }
    Ok(())
}

fn fill(shared: &Shared, packets: &mut Batch) -> io::Result<()> {
    while packets.room() > 0 {
        let slot = packets.next_slot();
        match shared.tun.read(&mut slot[..Batch::LARGEST_PACKET])? {
            Some(len) => packets.push(len, None),
            None => break,
        }
    }
    Ok(())
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
