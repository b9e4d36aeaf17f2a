//! From the UDP sockets to the TUN interface, everything that timers bring about, and the other way while there is little
//! to do.

use std::{io, iter::Peekable, net::SocketAddr, os::fd::AsFd};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};

use super::{SharedDevice, busy::FEW_PACKETS, send_thread};
use crate::{
    io::udp::{ReceiveBuffer, ReceiveProgress, UdpSockets},
    noise::{CurrentTime, PacketBatch, ReceiveRun, Tunnel},
};

/// Packets that are handed to the host in one go, at most.
const PACKETS: usize = 512;
/// Bytes of packets after which they are handed to the host, while they lie in a cache. More than a sender of this kind sends
/// in one go (three frames of 64 KiB), so that its frames stay whole.
const ENOUGH: usize = 256 * 1024;

/// The memory that goes round with every batch.
struct ReceiveBuffers {
    arrivals: ReceiveBuffer,
    packets: PacketBatch,
    replies: PacketBatch,
    /// For what goes the other way.
    frames: send_thread::SendBuffers,
}

pub(super) fn run(shared: &SharedDevice) -> io::Result<()> {
    let mut buffers = ReceiveBuffers {
        arrivals: ReceiveBuffer::new(),
        packets: PacketBatch::with_room(PACKETS, ENOUGH + 2 * PacketBatch::SLOT),
        replies: PacketBatch::with_slots(2 * Tunnel::STEP),
        frames: send_thread::SendBuffers::for_frames(1),
    };
    while !shared.is_stopping() {
        let sockets = shared.sockets();
        let ready = wait(shared, &sockets)?;
        let mut supply = ReceiveProgress::More;
        while !shared.is_stopping() && supply == ReceiveProgress::More {
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
fn serve(
    shared: &SharedDevice,
    sockets: &UdpSockets,
    ready: ReadySources,
    buffers: &mut ReceiveBuffers,
) -> io::Result<ReceiveProgress> {
    let mut supply = ReceiveProgress::Drained;
    let inside = shared.udp_gate().enter();
    let readable = if inside.is_some() { ready.sockets } else { [false; 2] };
    let mut due = ready.due;
    for (socket, _) in sockets.pair().into_iter().zip(readable).filter(|(_, readable)| *readable) {
        if sockets.receive(socket, &mut buffers.arrivals)? == ReceiveProgress::More {
            supply = ReceiveProgress::More;
        }
        if !buffers.arrivals.is_empty() {
            if buffers.arrivals.datagrams() > FEW_PACKETS {
                shared.saw_many();
            }
            process_batch(shared, sockets, buffers);
            due = false;
        }
    }
    if due {
        buffers.arrivals.clear();
        process_batch(shared, sockets, buffers);
    }
    Ok(supply)
}

/// One batch through the engine, and what is due by now. The outputs may fill up before the batch is through, and are
/// then emptied.
fn process_batch(shared: &SharedDevice, sockets: &UdpSockets, buffers: &mut ReceiveBuffers) {
    let ReceiveBuffers { arrivals, packets, replies, .. } = buffers;
    let now = CurrentTime::read();
    let mut waiting =
        arrivals.messages().flat_map(|message| message.datagrams().map(move |bytes| (message.from, bytes))).peekable();
    let mut run = None;
    loop {
        let next = shared.with_tunnel(|tunnel| {
            if let Some(run) = run.take() {
                tunnel.end_run(now, run, packets, replies);
            }
            let next = next_run(tunnel, now, &mut waiting, packets, replies);
            if next.is_none() && waiting.peek().is_none() {
                tunnel.wake(now, replies);
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
            None if waiting.peek().is_none() => return shared.forward_if_handing_over(),
            None => {}
        }
    }
}

/// Goes through everything that is no message of a session, as far as there is room, and begins the next run.
fn next_run<'a>(
    tunnel: &mut Tunnel,
    now: CurrentTime,
    waiting: &mut Peekable<impl Iterator<Item = (SocketAddr, &'a [u8])>>,
    packets: &mut PacketBatch,
    replies: &mut PacketBatch,
) -> Option<ReceiveRun> {
    while packets.room() > 0 && packets.bytes() < ENOUGH && replies.room() >= Tunnel::STEP {
        let (from, datagram) = *waiting.peek()?;
        if let Some(run) = tunnel.begin_run(now, from, datagram, packets) {
            return Some(run);
        }
        tunnel.datagram(now, from, datagram, packets, replies);
        waiting.next();
    }
    None
}

/// Decrypts the messages of a run, as far as there is room.
fn open_all<'a>(
    mut run: ReceiveRun,
    waiting: &mut Peekable<impl Iterator<Item = (SocketAddr, &'a [u8])>>,
    packets: &mut PacketBatch,
) -> ReceiveRun {
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
struct ReadySources {
    sockets: [bool; 2],
    due: bool,
}

/// Waits for something to do.
fn wait(shared: &SharedDevice, sockets: &UdpSockets) -> io::Result<ReadySources> {
    let alarm = shared.receive_waker().as_fd();
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
        shared.receive_waker().clear();
    }
    // An error that waits at a socket is taken away by receiving.
    Ok(ReadySources { sockets: [one, other], due: timer })
}
