//! What the threads of a device and its callers share.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use overlayd_core::sync::lock;

use super::{
    busy::BusyTracker,
    forward::{ForwardTraffic, SuccessorLink},
    gate::{GateState, ReadGate},
};
use crate::{
    io::{timer::Timer, tun::Tun, udp::UdpSockets, waker::Waker},
    noise::{DropReason, ExportedPeer, PacketBatch, SteadyTime, Tunnel},
};

/// What the threads of a device and its callers share.
///
/// The lock on the tunnel is held for looking things up and noting what happened, neither across the encryption of a
/// batch nor across a system call that may wait.
pub(crate) struct SharedDevice {
    pub(crate) tun: Tun,
    tunnel: Mutex<Tunnel>,
    /// Replaced when the port changes; a thread goes on with the ones that it holds until it waits again.
    sockets: Mutex<Arc<UdpSockets>>,
    /// Ends waits of the receive thread when the tunnel has something to do; set with the tunnel locked.
    timer: Timer,
    wakers: ThreadWakers,
    /// Which thread reads the interface: the send thread while it is busy, else the receive thread.
    busy: BusyTracker,
    gates: ReadGates,
    lifetime: DeviceLifetime,
    successor: SuccessorLink,
}

/// How each thread is woken.
struct ThreadWakers {
    receive: Waker,
    send: Waker,
}

/// Whether this process reads the interface, and the sockets.
struct ReadGates {
    tun: ReadGate,
    udp: ReadGate,
}

/// Whether the threads are to end, and why.
#[derive(Default)]
struct DeviceLifetime {
    stopping: AtomicBool,
    failure: OnceLock<String>,
}

impl SharedDevice {
    pub(crate) fn new(tun: Tun, tunnel: Tunnel, sockets: UdpSockets, gates: GateState) -> io::Result<Self> {
        Ok(Self {
            tun,
            tunnel: Mutex::new(tunnel),
            sockets: Mutex::new(Arc::new(sockets)),
            timer: Timer::new()?,
            wakers: ThreadWakers { receive: Waker::new()?, send: Waker::new()? },
            busy: BusyTracker::quiet(),
            gates: ReadGates { tun: ReadGate::new(gates), udp: ReadGate::new(gates) },
            lifetime: DeviceLifetime::default(),
            successor: SuccessorLink::default(),
        })
    }

    /// Works on the tunnel, and sets the timer to what is due next.
    pub(crate) fn with_tunnel<T>(&self, work: impl FnOnce(&mut Tunnel) -> T) -> T {
        let mut tunnel = self.lock();
        let outcome = work(&mut tunnel);
        // Before the lock is released: two threads that set the timer in the other order would lose the earlier deadline.
        self.timer.set(tunnel.next_wake());
        outcome
    }

    /// The tunnel, for work that brings no deadline forward.
    ///
    /// A thread that panicked with the lock held has reported its failure, and the device is rebuilt from what the
    /// tunnel still tells about its peers.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Tunnel> {
        lock(&self.tunnel)
    }

    /// The sockets in use.
    pub(crate) fn sockets(&self) -> Arc<UdpSockets> {
        lock(&self.sockets).clone()
    }

    /// Sends and receives on these sockets from now on.
    pub(crate) fn replace_sockets(&self, sockets: UdpSockets) {
        *lock(&self.sockets) = Arc::new(sockets);
        // The receive thread waits on the old sockets until it is woken. Nothing more arrives there: they are closed
        // with the last `Arc`.
        self.wakers.receive.wake();
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
}

/// For a handover; `crate::handover` says in which order.
impl SharedDevice {
    /// From now on everything that belongs to no session of this process waits for [`SharedDevice::forward_to`].
    pub(crate) fn begin_handover(&self) -> Vec<ExportedPeer> {
        self.lock().begin_handover(SteadyTime::boot_clock())
    }

    /// Passes what waits, and what comes, to the successor.
    pub(crate) fn forward_to(&self, successor: Arc<dyn ForwardTraffic>) {
        self.successor.connect(successor);
        self.forward();
    }

    /// Passes on what the tunnel has kept for a successor, if there is one. Called when everything older is where it
    /// belongs, so that the order of packets is kept.
    pub(super) fn forward_if_handing_over(&self) {
        if self.successor.is_connected() {
            self.forward();
        }
    }

    /// Passes on what the tunnel has kept for the successor.
    pub(crate) fn forward(&self) {
        let lost = self.successor.forward(|| self.lock().take_successor_traffic());
        if lost > 0 {
            self.count(DropReason::SendFailed, lost);
        }
    }

    /// The successor is gone: this process carries everything again.
    pub(crate) fn cancel_handover(&self) {
        self.successor.disconnect();
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
        self.gates.tun.close();
    }

    /// Returns when everything that was read from the sockets is dealt with, and nothing more is read.
    pub(crate) fn close_udp(&self) {
        self.gates.udp.close();
    }

    /// This process reads the interface from now on.
    pub(crate) fn open_tun(&self) {
        self.gates.tun.open();
        // Which of the two reads it depends on how busy the device is, so both look.
        self.wakers.send.wake();
        self.wakers.receive.wake();
    }

    /// This process reads the sockets from now on.
    pub(crate) fn open_udp(&self) {
        self.gates.udp.open();
        self.wakers.receive.wake();
    }

    pub(super) fn tun_gate(&self) -> &ReadGate {
        &self.gates.tun
    }

    pub(super) fn udp_gate(&self) -> &ReadGate {
        &self.gates.udp
    }
}

/// For the two threads.
impl SharedDevice {
    /// Whether each direction has its thread. If not, the receive thread reads the interface as well.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.is_busy()
    }

    /// There were more packets than one thread is to deal with.
    pub(super) fn saw_many(&self) {
        if self.busy.saw_many() {
            self.wakers.send.wake();
        }
    }

    /// The send thread had only a few packets since it last waited.
    pub(super) fn saw_few(&self) {
        if self.busy.saw_few() {
            // The interface is the receive thread's again, which waits without it.
            self.wakers.receive.wake();
        }
    }

    pub(super) fn timer(&self) -> &Timer {
        &self.timer
    }

    pub(super) fn receive_waker(&self) -> &Waker {
        &self.wakers.receive
    }

    pub(super) fn send_waker(&self) -> &Waker {
        &self.wakers.send
    }

    /// Tells both threads to end.
    pub(super) fn stop(&self) {
        // The flag first: a thread that is woken looks at it.
        self.lifetime.stopping.store(true, Ordering::Release);
        self.wakers.receive.wake();
        self.wakers.send.wake();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.lifetime.stopping.load(Ordering::Acquire)
    }

    /// Ends the device because of a failure of one of its threads; the first one counts.
    pub(super) fn fail(&self, why: String) {
        // A later failure follows from the first one.
        let _ = self.lifetime.failure.set(why);
        self.stop();
    }

    /// Why the device ended by itself, if it has.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.lifetime.failure.get().map(String::as_str)
    }
}
