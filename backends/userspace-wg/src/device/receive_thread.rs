//! From the UDP sockets to the TUN interface, everything that timers bring about, and the other way while there is little
//! to do.

use std::{io, iter::Peekable, net::SocketAddr, os::fd::AsFd};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};

use super::{Shared, busy::A_FEW, send_thread};
use crate::{
    io::udp::{Arrivals, Sockets, Supply},
    noise::{Batch, Engine, Now, Run},
};

/// Packets that are handed to the host in one go, at most.
const PACKETS: usize = 512;
/// Bytes of packets after which they are handed to the host, while they lie in a cache. More than a sender of this kind sends
/// in one go (three frames of 64 KiB), so that its frames stay whole.
const ENOUGH: usize = 256 * 1024;

/// The memory that goes round with every batch.
struct Buffers {
    arrivals: Arrivals,
    packets: Batch,
    replies: Batch,
    /// For what goes the other way.
    frames: send_thread::Buffers,
}

pub(super) fn run(shared: &Shared) -> io::Result<()> {
    let mut buffers = Buffers {
        arrivals: Arrivals::new(),
        packets: Batch::with_room(PACKETS, ENOUGH + 2 * Batch::SLOT),
        replies: Batch::with_slots(2 * Engine::STEP),
        frames: send_thread::Buffers::for_frames(1),
    };
    while !shared.is_stopping() {
        let sockets = shared.sockets();
        let ready = wait(shared, &sockets)?;
        let mut supply = Supply::More;
        while !shared.is_stopping() && supply == Supply::More {
            supply = serve(shared, &sockets, ready, &mut buffers)?;
            // The host often has an answer at once to what it was just given.
            if !shared.is_busy() {
                send_thread::pass_few(shared, &sockets, &mut buffers.frames)?;
            }
        }
    }
    Ok(())
}

/// Takes what is there on the sockets that are ready, each in turn, and does what is due.
fn serve(shared: &Shared, sockets: &Sockets, ready: Ready, buffers: &mut Buffers) -> io::Result<Supply> {
    let mut supply = Supply::Drained;
    let inside = shared.udp_gate().enter();
    let readable = if inside.is_some() { ready.sockets } else { [false; 2] };
    let mut due = ready.due;
    for (socket, _) in sockets.pair().into_iter().zip(readable).filter(|(_, readable)| *readable) {
        if sockets.receive(socket, &mut buffers.arrivals)? == Supply::More {
            supply = Supply::More;
        }
        if !buffers.arrivals.is_empty() {
            if buffers.arrivals.datagrams() > A_FEW {
                shared.saw_many();
            }
            turn(shared, sockets, buffers);
            due = false;
        }
    }
    if due {
        buffers.arrivals.clear();
        turn(shared, sockets, buffers);
    }
    Ok(supply)
}

/// One batch through the engine, and what is due by now. The outputs may fill up before the batch is through, and are
/// then emptied.
fn turn(shared: &Shared, sockets: &Sockets, buffers: &mut Buffers) {
    let Buffers { arrivals, packets, replies, .. } = buffers;
    let now = Now::read();
    let mut waiting =
        arrivals.messages().flat_map(|message| message.datagrams().map(move |bytes| (message.from, bytes))).peekable();
    let mut run = None;
    loop {
        let next = shared.with_engine(|engine| {
            if let Some(run) = run.take() {
                engine.end_run(now, run, packets, replies);
            }
            let next = next_run(engine, now, &mut waiting, packets, replies);
            if next.is_none() && waiting.peek().is_none() {
                engine.wake(now, replies);
            }
            next
        });
        // A run knows its packets by their place, so none are taken away while one goes on.
        if next.is_none() {
            shared.deliver(packets);
        }
        shared.send(sockets, replies);
        match next {
            Some(next) => run = Some(open_all(next, &mut waiting, packets)),
            None if waiting.peek().is_none() => return shared.forward_if_aside(),
            None => {}
        }
    }
}

/// Goes through everything that is no message of a session, as far as there is room, and begins the next run.
fn next_run<'a>(
    engine: &mut Engine,
    now: Now,
    waiting: &mut Peekable<impl Iterator<Item = (SocketAddr, &'a [u8])>>,
    packets: &mut Batch,
    replies: &mut Batch,
) -> Option<Run> {
    while packets.room() > 0 && packets.bytes() < ENOUGH && replies.room() >= Engine::STEP {
        let (from, datagram) = *waiting.peek()?;
        if let Some(run) = engine.begin_run(now, from, datagram, packets) {
            return Some(run);
        }
        engine.datagram(now, from, datagram, packets, replies);
        waiting.next();
    }
    None
}

/// Decrypts the messages of a run, as far as there is room.
fn open_all<'a>(
    mut run: Run,
    waiting: &mut Peekable<impl Iterator<Item = (SocketAddr, &'a [u8])>>,
    packets: &mut Batch,
) -> Run {
    while packets.room() > 0
        && packets.bytes() < ENOUGH
        && let Some((_, datagram)) = waiting.next_if(|(from, datagram)| run.goes_on_with(*from, datagram))
    {
        run.open(datagram, packets);
    }
    run
}

/// What a wait was ended by.
#[derive(Debug, Clone, Copy)]
struct Ready {
    sockets: [bool; 2],
    due: bool,
}

/// Waits for something to do.
fn wait(shared: &Shared, sockets: &Sockets) -> io::Result<Ready> {
    let alarm = shared.inward().as_fd();
    // What another thread or process reads wakes nobody here.
    let or_alarm = |ours: bool, descriptor| if ours { descriptor } else { alarm };
    let [one, other] = sockets.pair().map(|socket| or_alarm(shared.udp_gate().is_open(), socket.as_fd()));
    let tun = or_alarm(shared.tun_gate().is_open() && !shared.is_busy(), shared.tun.as_fd());
    let mut waiting = [alarm, shared.timer().as_fd(), one, other, tun]
        .map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN));
    match poll(&mut waiting, None) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let [alarm, timer, one, other, _] = waiting.map(|descriptor| !descriptor.revents().is_empty());
    if alarm {
        shared.inward().silence();
    }
    // An error that waits at a socket is taken away by receiving.
    Ok(Ready { sockets: [one, other], due: timer })
}
