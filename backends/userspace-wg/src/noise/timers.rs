use std::{num::NonZeroU16, time::Duration};

use super::time::SteadyTime;

/// Pause between two initiations to the same peer (whitepaper, section 6.1).
pub(crate) const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// Silence after which received data is acknowledged by a keepalive.
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Initiations without an answer before a peer is left alone: 90 seconds' worth.
const MOST_ATTEMPTS: u8 = 18;
/// Attempts at a handshake that no packet waits for.
const GREETINGS: u8 = 3;
/// After this long without a new handshake the keys of a peer are wiped.
const WIPE_AFTER: Duration = Duration::from_secs(3 * 180);

/// What a timer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimerAction {
    /// Send another initiation: the last one was not answered.
    Retry,
    /// The peer does not answer: drop what waits for it.
    GiveUp,
    /// Send a keepalive.
    Keepalive,
    /// Begin a handshake: the peer has gone silent.
    Handshake,
    /// Wipe the peer's keys.
    Wipe,
}

/// Which timer, and so which field of [`PeerTimers`].
#[derive(Debug, Clone, Copy)]
enum TimerKind {
    Retry,
    Keepalive,
    Silence,
    Wipe,
    Persistent,
}

/// Whether data arrived while a keepalive was already on its way to be sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum KeepaliveRepeat {
    #[default]
    No,
    Yes,
}

/// The timers of one peer, as the events of its traffic set them (whitepaper, section 6; the same events as in the
/// kernel's implementation). No timer runs for a peer that has never been spoken to.
#[derive(Debug, Default)]
pub(crate) struct PeerTimers {
    armed: [Option<SteadyTime>; 5],
    again: KeepaliveRepeat,
    attempts: u8,
    last_initiation: Option<SteadyTime>,
    /// The earliest entry of this peer among the device's deadlines.
    queued: Option<SteadyTime>,
}

impl PeerTimers {
    /// The first deadline.
    pub(crate) fn next(&self) -> Option<SteadyTime> {
        self.armed.iter().flatten().min().copied()
    }

    /// The first deadline, if no entry among the device's deadlines is as early; it counts as entered by that.
    pub(crate) fn take_unqueued(&mut self) -> Option<SteadyTime> {
        let next = self.next()?;
        if self.queued.is_some_and(|queued| queued <= next) {
            return None;
        }
        self.queued = Some(next);
        Some(next)
    }

    /// The entry at `at` has come up; a later one of the same peer may still be queued.
    pub(crate) fn dequeue(&mut self, at: SteadyTime) {
        if self.queued == Some(at) {
            self.queued = None;
        }
    }

    /// Whether no entry of this peer is known among the device's deadlines.
    #[cfg(test)]
    pub(crate) fn is_unqueued(&self) -> bool {
        self.queued.is_none()
    }

    /// Takes one timer that has run out by `now`.
    pub(crate) fn take_due(&mut self, now: SteadyTime) -> Option<TimerAction> {
        let slots =
            [TimerKind::Retry, TimerKind::Keepalive, TimerKind::Silence, TimerKind::Wipe, TimerKind::Persistent];
        // One at a time: what a timer leads to may stop or set the others.
        let slot = slots.into_iter().find(|slot| self.armed[*slot as usize].is_some_and(|at| at <= now))?;
        self.disarm(slot);
        Some(match slot {
            TimerKind::Retry => self.retry_ran_out(now),
            TimerKind::Keepalive => {
                if std::mem::take(&mut self.again) == KeepaliveRepeat::Yes {
                    self.arm(TimerKind::Keepalive, now.after(KEEPALIVE_TIMEOUT));
                }
                TimerAction::Keepalive
            }
            TimerKind::Silence => TimerAction::Handshake,
            TimerKind::Wipe => TimerAction::Wipe,
            TimerKind::Persistent => TimerAction::Keepalive,
        })
    }

    fn retry_ran_out(&mut self, now: SteadyTime) -> TimerAction {
        if self.attempts < MOST_ATTEMPTS {
            self.attempts += 1;
            return TimerAction::Retry;
        }
        self.disarm(TimerKind::Keepalive);
        self.arm_if_idle(TimerKind::Wipe, now.after(WIPE_AFTER));
        TimerAction::GiveUp
    }

    /// Whether enough time has passed since the last initiation for another one.
    pub(crate) fn may_initiate(&self, now: SteadyTime) -> bool {
        self.last_initiation.is_none_or(|last| now.since(last) >= REKEY_TIMEOUT)
    }

    /// Traffic asks for a handshake, so the count of vain attempts starts anew.
    pub(crate) fn handshake_wanted(&mut self) {
        self.attempts = 0;
    }

    /// The peer may be elsewhere now: the next initiation need not wait.
    pub(crate) fn endpoint_changed(&mut self, now: SteadyTime) {
        self.last_initiation = None;
        if self.armed[TimerKind::Retry as usize].is_some() {
            self.arm(TimerKind::Retry, now);
        }
    }

    /// A handshake is wanted at once although nothing waits for it, but not for long.
    pub(crate) fn request_handshake(&mut self, now: SteadyTime) {
        // A few attempts are left, as no packet waits: a peer that is gone must not be called for 90 seconds.
        self.attempts = MOST_ATTEMPTS - GREETINGS;
        self.arm(TimerKind::Retry, now);
    }

    /// A handshake is wanted at once, whenever the last one was begun.
    pub(crate) fn begin_anew(&mut self, now: SteadyTime) {
        self.last_initiation = None;
        self.request_handshake(now);
    }

    /// An initiation was sent. `jitter` keeps two sides that began at once from doing so for ever.
    pub(crate) fn initiation_sent(&mut self, now: SteadyTime, jitter: Duration) {
        self.last_initiation = Some(now);
        self.arm(TimerKind::Retry, now.after(REKEY_TIMEOUT + jitter));
    }

    /// New session keys exist.
    pub(crate) fn keys_derived(&mut self, now: SteadyTime) {
        self.arm(TimerKind::Wipe, now.after(WIPE_AFTER));
    }

    /// Both sides have the new keys.
    pub(crate) fn handshake_complete(&mut self) {
        self.disarm(TimerKind::Retry);
        self.attempts = 0;
    }

    /// A packet with content was sent. `jitter` is asked for only where a timer starts by that.
    pub(crate) fn data_sent(&mut self, now: SteadyTime, jitter: impl FnOnce() -> Duration) {
        let silence = &mut self.armed[TimerKind::Silence as usize];
        // Counted from the first packet without an answer. Later packets must not put it off, or silence would never show.
        silence.get_or_insert_with(|| now.after(KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + jitter()));
    }

    /// A packet with content arrived; a keepalive is none.
    pub(crate) fn data_received(&mut self, now: SteadyTime) {
        if self.armed[TimerKind::Keepalive as usize].is_some() {
            self.again = KeepaliveRepeat::Yes;
        } else {
            self.arm(TimerKind::Keepalive, now.after(KEEPALIVE_TIMEOUT));
        }
    }

    /// Anything authenticated was sent, a keepalive or handshake message too.
    pub(crate) fn anything_sent(&mut self, now: SteadyTime, keepalive: Option<NonZeroU16>) {
        self.disarm(TimerKind::Keepalive);
        self.again = KeepaliveRepeat::No;
        // Anything authentic keeps the mapping of a NAT on the way open, so a keepalive is due only after a pause.
        self.put_off_persistent(now, keepalive);
    }

    /// Anything authenticated arrived, a keepalive or handshake message too.
    pub(crate) fn anything_received(&mut self, now: SteadyTime, keepalive: Option<NonZeroU16>) {
        self.disarm(TimerKind::Silence);
        self.put_off_persistent(now, keepalive);
    }

    /// The persistent keepalive was set: the first one is due at once, or never again.
    pub(crate) fn persistent_changed(&mut self, now: SteadyTime, keepalive: Option<NonZeroU16>) {
        self.armed[TimerKind::Persistent as usize] = keepalive.map(|_| now);
    }

    /// Stops everything.
    pub(crate) fn stop(&mut self) {
        // The entry among the device's deadlines stays, and is found to have nothing to do when it comes up.
        *self = Self { queued: self.queued, ..Self::default() };
    }

    fn put_off_persistent(&mut self, now: SteadyTime, keepalive: Option<NonZeroU16>) {
        if let Some(seconds) = keepalive {
            self.arm(TimerKind::Persistent, now.after(Duration::from_secs(seconds.get().into())));
        }
    }

    fn arm(&mut self, slot: TimerKind, at: SteadyTime) {
        self.armed[slot as usize] = Some(at);
    }

    fn arm_if_idle(&mut self, slot: TimerKind, at: SteadyTime) {
        self.armed[slot as usize].get_or_insert(at);
    }

    fn disarm(&mut self, slot: TimerKind) {
        self.armed[slot as usize] = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: SteadyTime = SteadyTime::from_nanos(1_000_000_000);
    const CALM: Duration = Duration::ZERO;

    fn at(seconds: u64) -> SteadyTime {
        START.after(Duration::from_secs(seconds))
    }

    #[test]
    fn a_peer_never_spoken_to_has_no_timer() {
        assert_eq!(PeerTimers::default().next(), None);
    }

    #[test]
    fn a_received_keepalive_asks_for_no_keepalive_in_return() {
        let mut timers = PeerTimers::default();
        timers.anything_received(START, None);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_passive_keepalive_waits_its_full_time_however_long_nothing_was_sent() {
        let mut timers = PeerTimers::default();
        timers.anything_sent(START, None);
        timers.data_received(at(100));
        assert_eq!(timers.take_due(at(109)), None);
        assert_eq!(timers.take_due(at(110)), Some(TimerAction::Keepalive));
    }

    #[test]
    fn a_persistent_keepalive_is_put_off_by_traffic() {
        let mut timers = PeerTimers::default();
        let every = NonZeroU16::new(25);
        timers.persistent_changed(START, every);
        assert_eq!(timers.take_due(START), Some(TimerAction::Keepalive));
        timers.anything_sent(START, every);
        timers.anything_received(at(20), every);
        assert_eq!(timers.take_due(at(44)), None);
        assert_eq!(timers.take_due(at(45)), Some(TimerAction::Keepalive));
    }

    #[test]
    fn an_unanswered_initiation_is_repeated_for_ninety_seconds_and_no_longer() {
        let mut timers = PeerTimers::default();
        let (mut now, mut sent) = (START, 0);
        loop {
            timers.initiation_sent(now, CALM);
            sent += 1;
            now = timers.next().unwrap();
            match timers.take_due(now) {
                Some(TimerAction::Retry) => assert!(timers.may_initiate(now)),
                other => break assert_eq!(other, Some(TimerAction::GiveUp)),
            }
        }
        assert_eq!(sent, 19);
        assert_eq!(timers.take_due(now), None);
    }

    #[test]
    fn silence_after_sending_begins_a_handshake() {
        let mut timers = PeerTimers::default();
        timers.data_sent(START, || CALM);
        timers.data_sent(at(5), || CALM);
        assert_eq!(timers.take_due(at(15)), Some(TimerAction::Handshake), "counted from the first unanswered packet");
        timers.data_sent(at(20), || CALM);
        timers.anything_received(at(21), None);
        assert_eq!(timers.take_due(at(60)), None);
    }

    #[test]
    fn keys_are_wiped_three_lifetimes_after_the_last_handshake() {
        let mut timers = PeerTimers::default();
        timers.keys_derived(START);
        timers.keys_derived(at(100));
        assert_eq!(timers.take_due(at(540)), None);
        assert_eq!(timers.take_due(at(640)), Some(TimerAction::Wipe));
    }
}
