//! One range of addresses to lease from: lowest free first, and an address that was released rests before it is
//! leased again, so that stale ARP, conntrack and DNS entries do not reach its next holder.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

/// Addresses of one range. It only says what is free; the records of the desired state say what is leased, and the
/// pool is rebuilt from them.
#[derive(Debug, Clone)]
pub struct Pool {
    net: IpNet,
    first: u128,
    last: u128,
    used: BTreeSet<u128>,
    /// Released addresses and the Unix second from which they may be leased again.
    resting: BTreeMap<u128, u64>,
    by_expiry: BTreeSet<(u64, u128)>,
    /// Free addresses below `next`.
    free: BTreeSet<u128>,
    /// Everything from here on is free unless it is used or resting.
    next: u128,
}

/// The first host address of a range: the node's on a slice, the gateway's on a block.
pub fn first_host(net: &IpNet) -> IpAddr {
    to_addr(net, to_number(net.network()) + 1)
}

impl Pool {
    /// A pool over `net` that starts above the first host, which is the gateway's or the node's. IPv4 excludes the
    /// broadcast address; IPv6 has none.
    pub fn above_first_host(net: IpNet) -> Self {
        let first = to_number(net.network()) + 2;
        let last = match net {
            IpNet::V4(_) => to_number(net.broadcast()).saturating_sub(1),
            IpNet::V6(_) => to_number(net.broadcast()),
        };
        Self {
            net: net.trunc(),
            first,
            last,
            used: BTreeSet::new(),
            resting: BTreeMap::new(),
            by_expiry: BTreeSet::new(),
            free: BTreeSet::new(),
            next: first,
        }
    }

    /// The range.
    pub fn net(&self) -> IpNet {
        self.net
    }

    /// Whether `ip` is one of the addresses this pool leases.
    pub fn covers(&self, ip: IpAddr) -> bool {
        self.net.contains(&ip) && (self.first..=self.last).contains(&to_number(ip))
    }

    /// Whether `ip` is leased.
    pub fn is_used(&self, ip: IpAddr) -> bool {
        self.net.contains(&ip) && self.used.contains(&to_number(ip))
    }

    /// Whether any address of `net` is leased.
    pub fn any_used_in(&self, net: &IpNet) -> bool {
        self.used.range(to_number(net.network())..=to_number(net.broadcast())).next().is_some()
    }

    /// The address to lease at `now` (Unix seconds): the lowest one that is free and rested; when there is none, the one
    /// that has rested longest; `None` when every address is leased. `blocked` names ranges that others lease from.
    pub fn pick(&mut self, now: u64, blocked: impl Fn(IpAddr) -> Option<IpNet>) -> Option<IpAddr> {
        self.wake(now);
        let released = self.free.iter().copied().find(|&n| blocked(self.addr(n)).is_none());
        let rested = released.or_else(|| self.advance(&blocked));
        rested.or_else(|| self.by_expiry.first().map(|&(_, n)| n)).map(|n| self.addr(n))
    }

    /// Marks `ip` leased; outside of the pool it is ignored.
    pub fn take(&mut self, ip: IpAddr) {
        if self.covers(ip) {
            let n = to_number(ip);
            self.forget_rest(n);
            self.free.remove(&n);
            self.used.insert(n);
        }
    }

    /// Marks `ip` free at once.
    pub fn give_back(&mut self, ip: IpAddr) {
        let n = to_number(ip);
        if self.net.contains(&ip) && self.used.remove(&n) && n < self.next {
            self.free.insert(n);
        }
    }

    /// Lets `ip` rest until `until` (Unix seconds); a leased or foreign address is left alone.
    pub fn rest(&mut self, ip: IpAddr, until: u64) {
        let n = to_number(ip);
        if self.covers(ip) && !self.used.contains(&n) {
            self.forget_rest(n);
            self.free.remove(&n);
            self.resting.insert(n, until);
            self.by_expiry.insert((until, n));
        }
    }

    /// Ends the rest of `ip`.
    pub fn end_rest(&mut self, ip: IpAddr) {
        let n = to_number(ip);
        if self.net.contains(&ip) && self.forget_rest(n) && n < self.next {
            self.free.insert(n);
        }
    }

    /// Looks at the range from its start again, after a range that blocked part of it has gone.
    pub fn rewind(&mut self) {
        self.free.clear();
        self.next = self.first;
    }

    fn wake(&mut self, now: u64) {
        while let Some(&(until, n)) = self.by_expiry.first().filter(|(until, _)| *until <= now) {
            self.by_expiry.remove(&(until, n));
            self.resting.remove(&n);
            if n < self.next {
                self.free.insert(n);
            }
        }
    }

    fn advance(&mut self, blocked: &impl Fn(IpAddr) -> Option<IpNet>) -> Option<u128> {
        while self.next <= self.last {
            let n = self.next;
            if let Some(net) = blocked(self.addr(n)) {
                self.next = to_number(net.broadcast()).checked_add(1)?;
            } else if self.used.contains(&n) || self.resting.contains_key(&n) {
                self.next = n.checked_add(1)?;
            } else {
                return Some(n);
            }
        }
        None
    }

    fn forget_rest(&mut self, n: u128) -> bool {
        self.resting.remove(&n).is_some_and(|until| self.by_expiry.remove(&(until, n)))
    }

    fn addr(&self, n: u128) -> IpAddr {
        to_addr(&self.net, n)
    }
}

fn to_number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

fn to_addr(family: &IpNet, n: u128) -> IpAddr {
    match family {
        IpNet::V4(_) => Ipv4Addr::from(u32::try_from(n).unwrap_or(u32::MAX)).into(),
        IpNet::V6(_) => Ipv6Addr::from(n).into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn open(_: IpAddr) -> Option<IpNet> {
        None
    }

    fn pool(net: &str) -> Pool {
        Pool::above_first_host(net.parse().unwrap())
    }

    #[test]
    fn a_block_of_26_bits_leases_61_addresses_from_the_second_host_on() {
        let mut pool = pool("10.77.78.192/26");
        let mut leased = Vec::new();
        while let Some(ip) = pool.pick(0, open) {
            pool.take(ip);
            leased.push(ip.to_string());
        }
        assert_eq!(leased.len(), 61);
        assert_eq!((leased[0].as_str(), leased[60].as_str()), ("10.77.78.194", "10.77.78.254"));
    }

    #[test]
    fn the_last_address_of_an_ipv6_block_is_leased() {
        let mut pool = pool("fd77::4100/120");
        let mut last = None;
        while let Some(ip) = pool.pick(0, open) {
            pool.take(ip);
            last = Some(ip.to_string());
        }
        assert_eq!(last.as_deref(), Some("fd77::41ff"));
    }

    #[test]
    fn a_released_address_rests_and_is_leased_early_only_under_pressure() {
        let mut pool = pool("10.0.0.0/29");
        let all: Vec<IpAddr> = std::iter::from_fn(|| pool.pick(0, open).inspect(|ip| pool.take(*ip))).collect();
        assert_eq!(all.len(), 5);
        for (ip, until) in [(all[1], 40), (all[0], 50)] {
            pool.give_back(ip);
            pool.rest(ip, until);
        }
        assert_eq!(pool.pick(10, open), Some(all[1]), "the one that rested longest");
        assert_eq!(pool.pick(60, open), Some(all[0]), "both rested: the lowest");
    }

    #[test]
    fn addresses_inside_a_blocked_range_are_left_to_it() {
        let block: IpNet = "10.0.0.0/26".parse().unwrap();
        let mut pool = pool("10.0.0.0/24");
        let blocked = |ip| block.contains(&ip).then_some(block);
        assert_eq!(pool.pick(0, blocked).unwrap().to_string(), "10.0.0.64");
        pool.rewind();
        assert_eq!(pool.pick(0, open).unwrap().to_string(), "10.0.0.2");
    }

    proptest! {
        #[test]
        fn no_address_is_leased_twice_and_none_is_lost(steps in prop::collection::vec((0u8..3, 0usize..8), 1..200)) {
            let mut pool = pool("10.0.0.0/28");
            let (mut leased, mut now) = (Vec::<IpAddr>::new(), 0u64);
            for (what, which) in steps {
                now += 1;
                match what {
                    0 | 1 => match pool.pick(now, open) {
                        Some(ip) => {
                            prop_assert!(!leased.contains(&ip), "{ip} leased twice");
                            prop_assert!(pool.covers(ip));
                            pool.take(ip);
                            leased.push(ip);
                        }
                        None => prop_assert_eq!(leased.len(), 13, "free addresses were lost"),
                    },
                    _ if !leased.is_empty() => {
                        let ip = leased.remove(which % leased.len());
                        pool.give_back(ip);
                        pool.rest(ip, now + 5);
                    }
                    _ => {}
                }
            }
        }
    }
}
