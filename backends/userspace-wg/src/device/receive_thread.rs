//! From the UDP sockets to the TUN interface, everything that timers bring about, and the other direction while there is
//! little to do.

use std::{io, iter::Peekable, net::SocketAddr};

use super::{SharedDevice, busy::FEW_PACKETS, send_thread};
use crate::{
    datagram::{DatagramClass, classify},
    io::{
        poller::{Poller, ReadySources},
        udp::{ReceiveBuffer, ReceiveProgress, UdpSockets},
    },
    noise::{CurrentTime, DropReason, PacketBatch, ReceiveRun, Tunnel},
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
        let mut progress = ReceiveProgress::More;
        while !shared.is_stopping() && progress == ReceiveProgress::More {
            progress = serve(shared, &sockets, ready, &mut buffers)?;
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
    let mut progress = ReceiveProgress::Drained;
    let mut due = ready.timer();
    // Held until what was read is dealt with: closing the gate waits for that.
    if let Some(_reading) = shared.udp_gate().enter() {
        for family in ready.sockets() {
            if sockets.receive(family, &mut buffers.arrivals)? == ReceiveProgress::More {
                progress = ReceiveProgress::More;
            }
            if !buffers.arrivals.is_empty() {
                if buffers.arrivals.datagrams() > FEW_PACKETS {
                    shared.saw_many();
                }
                process_batch(shared, sockets, buffers);
                due = false;
            }
        }
    }
    // A batch does what is due at its end; without one it is done by itself.
    if due {
        buffers.arrivals.clear();
        process_batch(shared, sockets, buffers);
    }
    Ok(progress)
}

/// One batch through the tunnel, and what is due by now. The outputs may fill up before the batch is through, and are
/// then emptied.
fn process_batch(shared: &SharedDevice, sockets: &UdpSockets, buffers: &mut ReceiveBuffers) {
    let ReceiveBuffers { arrivals, packets, replies, .. } = buffers;
    let now = CurrentTime::read();
    let mut waiting =
        arrivals.messages().flat_map(|message| message.datagrams().map(move |bytes| (message.from, bytes))).peekable();
    let mut run = None;
    loop {
        // The lock is taken once for each run: to end the one before and to begin the next. Decryption is between them.
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

/// Goes through everything that is no message of a session, as far as there is room, and begins the next run. Datagrams
/// that are not WireGuard's never reach the tunnel.
fn next_run<'a>(
    tunnel: &mut Tunnel,
    now: CurrentTime,
    waiting: &mut Peekable<impl Iterator<Item = (SocketAddr, &'a [u8])>>,
    packets: &mut PacketBatch,
    replies: &mut PacketBatch,
) -> Option<ReceiveRun> {
    while packets.room() > 0 && packets.bytes() < ENOUGH && replies.room() >= Tunnel::STEP {
        let (from, datagram) = *waiting.peek()?;
        match classify(datagram) {
            DatagramClass::WireGuard(message) => {
                // The run takes this datagram again, so it stays in front.
                if let Some(run) = tunnel.begin_run(now, from, message, packets) {
                    return Some(run);
                }
                tunnel.message(now, from, message, packets, replies);
            }
            DatagramClass::Other => tunnel.count_drops(DropReason::NotWireGuard, 1),
        }
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

/// Waits for something to do.
fn wait(shared: &SharedDevice, sockets: &UdpSockets) -> io::Result<ReadySources> {
    // What another thread or process reads must not wake this one: poll(2) would return at once, for ever.
    let reads_udp = shared.udp_gate().is_open();
    let reads_tun = shared.tun_gate().is_open() && !shared.is_busy();
    Poller::new(shared.receive_waker())
        .with_timer(shared.timer())
        .with_sockets(reads_udp.then_some(sockets))
        .with_tun(reads_tun.then_some(&shared.tun))
        .wait()
}
