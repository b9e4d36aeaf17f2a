use std::{collections::HashMap, net::IpAddr, time::Duration};

use super::time::SteadyTime;

const WINDOW: Duration = Duration::from_secs(1);
/// Addresses counted one by one; what comes from more of them only counts towards the total.
const MOST_SOURCES: usize = 8192;

/// Handshake messages per second that are answered without a cookie.
#[derive(Debug, Clone, Copy)]
pub struct HandshakeLimits {
    /// From one address (IPv6: one /64) before it must prove itself with a cookie.
    pub unproved_per_source: u32,
    /// From one address that has proved itself.
    pub proved_per_source: u32,
    /// Demands for a proof sent to one address; a peer tries once in five seconds.
    pub demands_per_source: u32,
    /// From all addresses that stay below their own limit, before all must prove themselves.
    pub total: u32,
}

impl Default for HandshakeLimits {
    fn default() -> Self {
        Self { unproved_per_source: 10, proved_per_source: 50, demands_per_source: 50, total: 400 }
    }
}

/// Counts handshake messages per second, so that a flood from one address makes only that address prove itself.
#[derive(Debug)]
pub(crate) struct HandshakeLoad {
    limits: HandshakeLimits,
    since: SteadyTime,
    total: u32,
    /// Senders choose these keys, so they are hashed with a secret (the standard hasher).
    sources: HashMap<IpAddr, SourceCounts>,
}

#[derive(Debug, Default)]
struct SourceCounts {
    unproved: u32,
    proved: u32,
    demands: u32,
}

impl HandshakeLoad {
    pub(crate) fn new(limits: HandshakeLimits) -> Self {
        Self { limits, since: SteadyTime::from_nanos(0), total: 0, sources: HashMap::new() }
    }

    /// Counts a message from `from`; `true` when it needs a proof of its address to be answered.
    pub(crate) fn needs_proof(&mut self, now: SteadyTime, from: IpAddr) -> bool {
        self.roll(now);
        let limit = self.limits.unproved_per_source;
        // Counted for the address first: a flood of one address must not use up what all others share.
        let over_own_limit = self.source(from).is_some_and(|source| {
            source.unproved = source.unproved.saturating_add(1);
            source.unproved > limit
        });
        if !over_own_limit {
            self.total = self.total.saturating_add(1);
        }
        over_own_limit || self.total > self.limits.total
    }

    /// Counts a message whose address is proved; `false` when this address asks too often nevertheless.
    pub(crate) fn proved_may_pass(&mut self, now: SteadyTime, from: IpAddr) -> bool {
        self.roll(now);
        let limit = self.limits.proved_per_source;
        self.source(from).is_none_or(|source| {
            source.proved = source.proved.saturating_add(1);
            source.proved <= limit
        })
    }

    /// Counts a demand for a proof; `false` when this address has had enough of them, so that a flood costs no more than
    /// looking at it, and a victim whose address was forged is not flooded by this host.
    pub(crate) fn may_demand_proof(&mut self, now: SteadyTime, from: IpAddr) -> bool {
        self.roll(now);
        let limit = self.limits.demands_per_source;
        self.source(from).is_none_or(|source| {
            source.demands = source.demands.saturating_add(1);
            source.demands <= limit
        })
    }

    fn roll(&mut self, now: SteadyTime) {
        // One window for all addresses, so that a second costs one clear and no timer for each of them.
        if now.since(self.since) >= WINDOW {
            self.since = now;
            self.total = 0;
            self.sources.clear();
        }
    }

    fn source(&mut self, from: IpAddr) -> Option<&mut SourceCounts> {
        let key = prefix(from);
        // A flood from forged addresses must not fill the memory. Addresses beyond the limit count towards the total alone.
        if self.sources.len() >= MOST_SOURCES && !self.sources.contains_key(&key) {
            return None;
        }
        Some(self.sources.entry(key).or_default())
    }
}

/// What one customer of a network usually holds: an IPv4 address, an IPv6 /64.
fn prefix(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        // One customer holds a whole /64 and could send from 2^64 addresses.
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: SteadyTime = SteadyTime::from_nanos(5_000_000_000);
    const LIMITS: HandshakeLimits =
        HandshakeLimits { unproved_per_source: 3, proved_per_source: 2, demands_per_source: 5, total: 10 };

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn a_flood_from_one_address_leaves_the_others_alone() {
        let mut load = HandshakeLoad::new(LIMITS);
        let refused = (0..1000).filter(|_| load.needs_proof(START, ip(1))).count();
        assert_eq!(refused, 997);
        assert!(!load.needs_proof(START, ip(2)));
    }

    #[test]
    fn a_flood_from_everywhere_makes_all_prove_themselves_until_it_ends() {
        let mut load = HandshakeLoad::new(LIMITS);
        for host in 0..=255 {
            load.needs_proof(START, ip(host));
        }
        assert!(load.needs_proof(START, [198, 51, 100, 1].into()));
        assert!(!load.needs_proof(START.after(WINDOW), ip(1)), "a new second starts afresh");
    }

    #[test]
    fn even_a_proved_address_may_not_ask_for_ever() {
        let mut load = HandshakeLoad::new(LIMITS);
        let passed = (0..100).filter(|_| load.proved_may_pass(START, ip(1))).count();
        assert_eq!(passed, 2);
    }

    #[test]
    fn a_flood_is_not_answered_message_by_message() {
        let mut load = HandshakeLoad::new(LIMITS);
        assert_eq!((0..1000).filter(|_| load.may_demand_proof(START, ip(1))).count(), 5);
        assert!(load.may_demand_proof(START, ip(2)));
    }

    #[test]
    fn the_number_of_counted_addresses_is_bounded() {
        let mut load = HandshakeLoad::new(LIMITS);
        for host in 0..100_000u32 {
            load.needs_proof(START, std::net::Ipv4Addr::from(host).into());
        }
        assert!(load.sources.len() <= MOST_SOURCES);
    }
}
