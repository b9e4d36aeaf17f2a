use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::event::{EventfdFlags, eventfd};

use super::{
    busy::BusyTracker,
    gate::{GateState, ReadGate},
};
use crate::{
    handover::channel::{HandoverChannel, HandoverMessage},
    io::{timer::Timer, tun::Tun, udp::UdpSockets},
    noise::{DropReason, ExportedPeer, PacketBatch, SteadyTime, SuccessorTraffic, Tunnel},
};

/// What the threads of a device and its callers share.
///
/// The lock on the engine is held for looking things up and noting what happened, neither across the encryption of a
/// batch nor across a system call that may wait.
pub(crate) struct SharedDevice {
    pub(crate) tun: Tun,
    tunnel: Mutex<Tunnel>,
    sockets: Mutex<Arc<UdpSockets>>,
    receive_waker: Waker,
    send_waker: Waker,
    /// Which thread reads the interface: the outward one while it is busy, else the inward one beside its own work.
    pace: BusyTracker,
    stopping: AtomicBool,
    failure: OnceLock<String>,
    /// Wakes the inward thread for what is due in the engine; set with the engine locked.
    timer: Timer,
    /// Whether this process reads the interface, and the sockets.
    tun_gate: ReadGate,
    udp_gate: ReadGate,
    /// Whether the engine stands aside for that of another process, reached by `successor`.
    handing_over: AtomicBool,
    successor: Mutex<Option<Arc<HandoverChannel>>>,
}

impl SharedDevice {
    pub(crate) fn new(tun: Tun, tunnel: Tunnel, sockets: UdpSockets, gates: GateState) -> io::Result<Self> {
        Ok(Self {
            tun,
            tunnel: Mutex::new(tunnel),
            sockets: Mutex::new(Arc::new(sockets)),
            receive_waker: Waker::new()?,
            send_waker: Waker::new()?,
            pace: BusyTracker::calm(),
            stopping: AtomicBool::new(false),
            failure: OnceLock::new(),
            timer: Timer::new()?,
            tun_gate: ReadGate::new(gates),
            udp_gate: ReadGate::new(gates),
            handing_over: AtomicBool::new(false),
            successor: Mutex::default(),
        })
    }

    /// Works on the engine, and sets the timer to what is due next.
    pub(crate) fn with_tunnel<T>(&self, work: impl FnOnce(&mut Tunnel) -> T) -> T {
        let mut tunnel = self.lock();
        let outcome = work(&mut tunnel);
        self.timer.set(tunnel.next_wake());
        outcome
    }

    /// The engine, for what brings nothing forward that is due.
    ///
    /// A thread that panicked with the lock held has reported its failure, and the device is rebuilt from what the
    /// engine still tells about its peers.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Tunnel> {
        self.tunnel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sockets in use.
    pub(crate) fn sockets(&self) -> Arc<UdpSockets> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends and receives on these sockets from now on.
    pub(crate) fn replace_sockets(&self, sockets: UdpSockets) {
        *self.sockets.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(sockets);
        self.receive_waker.wake();
    }

    /// Sends all datagrams and empties the batch.
    pub(crate) fn send(&self, sockets: &UdpSockets, batch: &mut PacketBatch) {
        sockets.send(batch, |reason, datagrams| self.count(reason, datagrams));
        batch.clear();
    }

    /// Hands all packets to the host and empties the batch.
    pub(crate) fn deliver(&self, batch: &mut PacketBatch) {
        let refused = self.tun.deliver(batch);
        if refused > 0 {
            self.count(DropReason::DeliverFailed, refused);
        }
    }

    /// Counts packets that went no further.
    pub(crate) fn count(&self, reason: DropReason, packets: u64) {
        self.lock().count_drops(reason, packets);
    }

    /// From now on everything that is for no session of ours waits for [`SharedDevice::forward_to`].
    pub(crate) fn begin_handover(&self) -> Vec<ExportedPeer> {
        self.lock().begin_handover(SteadyTime::boot_clock())
    }

    /// Leaves what waits, and what comes, to the process at the other end of the channel.
    pub(crate) fn forward_to(&self, channel: &Arc<HandoverChannel>) {
        *self.successor() = Some(channel.clone());
        self.handing_over.store(true, Ordering::Release);
        self.forward();
    }

    /// Sends what the engine has left aside, if it does; called when everything older is where it belongs.
    pub(super) fn forward_if_handing_over(&self) {
        if self.handing_over.load(Ordering::Acquire) {
            self.forward();
        }
    }

    /// Sends what the engine has left aside to the process that follows. Only one thread does so at a time, in the order
    /// in which things were left.
    pub(crate) fn forward(&self) {
        let successor = self.successor();
        let Some(channel) = &*successor else { return };
        let traffic = self.lock().take_successor_traffic();
        let lost = traffic.iter().filter(|item| {
            let said = match item {
                SuccessorTraffic::Datagram(from, datagram) => HandoverMessage::Datagram(*from, datagram),
                SuccessorTraffic::Packet(packet) => HandoverMessage::Packet(packet),
            };
            channel.send(&said).is_err()
        });
        let lost = lost.count() as u64;
        self.count(DropReason::SendFailed, lost);
    }

    /// The process that was to follow is gone: all is ours again.
    pub(crate) fn cancel_handover(&self) {
        self.handing_over.store(false, Ordering::Release);
        *self.successor() = None;
        self.with_tunnel(|tunnel| tunnel.cancel_handover(SteadyTime::boot_clock()));
        self.open_tun();
        self.open_udp();
    }

    /// Another process carries the device.
    pub(crate) fn end_handover(&self) {
        self.fail("another process has taken it over".to_owned());
    }

    /// Returns when everything that was read from the interface is sent, and nothing more is read.
    pub(crate) fn close_tun(&self) {
        self.tun_gate.close();
    }

    /// Returns when everything that was read from the sockets is dealt with, and nothing more is read.
    pub(crate) fn close_udp(&self) {
        self.udp_gate.close();
    }

    pub(crate) fn open_tun(&self) {
        self.tun_gate.open();
        // Either may be the one that reads it.
        self.send_waker.wake();
        self.receive_waker.wake();
    }

    pub(crate) fn open_udp(&self) {
        self.udp_gate.open();
        self.receive_waker.wake();
    }

    /// Whether each direction has its thread. If not, the inward thread reads the interface, too.
    pub(super) fn is_busy(&self) -> bool {
        self.pace.is_busy()
    }

    /// There were more packets than one thread is to deal with.
    pub(super) fn saw_many(&self) {
        if self.pace.saw_many() {
            self.send_waker.wake();
        }
    }

    /// The outward thread had only a few packets since it last waited.
    pub(super) fn saw_few(&self) {
        if self.pace.saw_few() {
            self.receive_waker.wake();
        }
    }

    pub(super) fn tun_gate(&self) -> &ReadGate {
        &self.tun_gate
    }

    pub(super) fn udp_gate(&self) -> &ReadGate {
        &self.udp_gate
    }

    fn successor(&self) -> MutexGuard<'_, Option<Arc<HandoverChannel>>> {
        self.successor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells both threads to end.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.receive_waker.wake();
        self.send_waker.wake();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Ends the device because of a failure of one of its threads; the first one counts.
    pub(crate) fn fail(&self, why: String) {
        // A later failure follows from the first one.
        let _ = self.failure.set(why);
        self.stop();
    }

    /// Why the device ended by itself, if it has.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    pub(super) fn timer(&self) -> &Timer {
        &self.timer
    }

    pub(crate) fn receive_waker(&self) -> &Waker {
        &self.receive_waker
    }

    pub(crate) fn send_waker(&self) -> &Waker {
        &self.send_waker
    }
}

/// Wakes a thread that waits on descriptors.
pub(crate) struct Waker(OwnedFd);

impl Waker {
    fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    fn wake(&self) {
        // The only refusal is that the counter is full, and then the alarm rings already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    pub(crate) fn clear(&self) {
        // The only refusal is that it does not ring.
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
