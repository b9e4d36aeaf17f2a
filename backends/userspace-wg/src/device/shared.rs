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
    busy::Pace,
    gate::{Gate, Stands},
};
use crate::{
    handover::channel::{Said, Wire},
    io::{timer::Timer, tun::Tun, udp::Sockets},
    noise::{Batch, DropReason, Engine, Known, Moment, Stray},
};

/// What the threads of a device and its callers share.
///
/// The lock on the engine is held for looking things up and noting what happened, neither across the encryption of a
/// batch nor across a system call that may wait.
pub(crate) struct Shared {
    pub(crate) tun: Tun,
    engine: Mutex<Engine>,
    sockets: Mutex<Arc<Sockets>>,
    inward: Alarm,
    outward: Alarm,
    /// Which thread reads the interface: the outward one while it is busy, else the inward one beside its own work.
    pace: Pace,
    stopping: AtomicBool,
    failure: OnceLock<String>,
    /// Wakes the inward thread for what is due in the engine; set with the engine locked.
    timer: Timer,
    /// Whether this process reads the interface, and the sockets.
    tun_gate: Gate,
    udp_gate: Gate,
    /// Whether the engine stands aside for that of another process, reached by `follower`.
    aside: AtomicBool,
    follower: Mutex<Option<Arc<Wire>>>,
}

impl Shared {
    pub(crate) fn new(tun: Tun, engine: Engine, sockets: Sockets, gates: Stands) -> io::Result<Self> {
        Ok(Self {
            tun,
            engine: Mutex::new(engine),
            sockets: Mutex::new(Arc::new(sockets)),
            inward: Alarm::new()?,
            outward: Alarm::new()?,
            pace: Pace::calm(),
            stopping: AtomicBool::new(false),
            failure: OnceLock::new(),
            timer: Timer::new()?,
            tun_gate: Gate::new(gates),
            udp_gate: Gate::new(gates),
            aside: AtomicBool::new(false),
            follower: Mutex::default(),
        })
    }

    /// Works on the engine, and sets the timer to what is due next.
    pub(crate) fn with_engine<T>(&self, work: impl FnOnce(&mut Engine) -> T) -> T {
        let mut engine = self.lock();
        let outcome = work(&mut engine);
        self.timer.set(engine.next_wake());
        outcome
    }

    /// The engine, for what brings nothing forward that is due.
    ///
    /// A thread that panicked with the lock held has reported its failure, and the device is rebuilt from what the
    /// engine still tells about its peers.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sockets in use.
    pub(crate) fn sockets(&self) -> Arc<Sockets> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends and receives on these sockets from now on.
    pub(crate) fn replace_sockets(&self, sockets: Sockets) {
        *self.sockets.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(sockets);
        self.inward.ring();
    }

    /// Sends all datagrams and empties the batch.
    pub(crate) fn send(&self, sockets: &Sockets, batch: &mut Batch) {
        sockets.send(batch, |reason, datagrams| self.count(reason, datagrams));
        batch.clear();
    }

    /// Hands all packets to the host and empties the batch.
    pub(crate) fn deliver(&self, batch: &mut Batch) {
        let refused = self.tun.deliver(batch);
        if refused > 0 {
            self.count(DropReason::DeliverFailed, refused);
        }
    }

    /// Counts packets that went no further.
    pub(crate) fn count(&self, reason: DropReason, packets: u64) {
        self.lock().count_drops(reason, packets);
    }

    /// From now on everything that is for no session of ours waits for [`Shared::follow_by`].
    pub(crate) fn stand_aside(&self) -> Vec<Known> {
        self.lock().stand_aside(Moment::boot_clock())
    }

    /// Leaves what waits, and what comes, to the process at the other end of the wire.
    pub(crate) fn follow_by(&self, wire: &Arc<Wire>) {
        *self.follower() = Some(wire.clone());
        self.aside.store(true, Ordering::Release);
        self.forward();
    }

    /// Sends what the engine has left aside, if it does; called when everything older is where it belongs.
    pub(super) fn forward_if_aside(&self) {
        if self.aside.load(Ordering::Acquire) {
            self.forward();
        }
    }

    /// Sends what the engine has left aside to the process that follows. Only one thread does so at a time, in the order
    /// in which things were left.
    pub(crate) fn forward(&self) {
        let follower = self.follower();
        let Some(wire) = &*follower else { return };
        let strays = self.lock().take_strays();
        let lost = strays.iter().filter(|stray| {
            let said = match stray {
                Stray::Datagram(from, datagram) => Said::Datagram(*from, datagram),
                Stray::Packet(packet) => Said::Packet(packet),
            };
            wire.say(&said).is_err()
        });
        let lost = lost.count() as u64;
        self.count(DropReason::SendFailed, lost);
    }

    /// The process that was to follow is gone: all is ours again.
    pub(crate) fn come_back(&self) {
        self.aside.store(false, Ordering::Release);
        *self.follower() = None;
        self.with_engine(|engine| engine.come_back(Moment::boot_clock()));
        self.open_tun();
        self.open_udp();
    }

    /// Another process carries the device.
    pub(crate) fn give_away(&self) {
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
        self.outward.ring();
        self.inward.ring();
    }

    pub(crate) fn open_udp(&self) {
        self.udp_gate.open();
        self.inward.ring();
    }

    /// Whether each direction has its thread. If not, the inward thread reads the interface, too.
    pub(super) fn is_busy(&self) -> bool {
        self.pace.is_busy()
    }

    /// There were more packets than one thread is to deal with.
    pub(super) fn saw_many(&self) {
        if self.pace.saw_many() {
            self.outward.ring();
        }
    }

    /// The outward thread had only a few packets since it last waited.
    pub(super) fn saw_few(&self) {
        if self.pace.saw_few() {
            self.inward.ring();
        }
    }

    pub(super) fn tun_gate(&self) -> &Gate {
        &self.tun_gate
    }

    pub(super) fn udp_gate(&self) -> &Gate {
        &self.udp_gate
    }

    fn follower(&self) -> MutexGuard<'_, Option<Arc<Wire>>> {
        self.follower.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells both threads to end.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.inward.ring();
        self.outward.ring();
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

    pub(crate) fn inward(&self) -> &Alarm {
        &self.inward
    }

    pub(crate) fn outward(&self) -> &Alarm {
        &self.outward
    }
}

/// Wakes a thread that waits on descriptors.
pub(crate) struct Alarm(OwnedFd);

impl Alarm {
    fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    fn ring(&self) {
        // The only refusal is that the counter is full, and then the alarm rings already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    pub(crate) fn silence(&self) {
        // The only refusal is that it does not ring.
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
