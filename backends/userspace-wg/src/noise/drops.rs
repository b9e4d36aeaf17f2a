use std::collections::BTreeMap;

/// Why a packet went no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    /// No peer holds the destination.
    NoRoute,
    /// The inner source address is not routed to the peer that sent it.
    BadSource,
    /// Has the form of a WireGuard message or of a frame, and is none; or holds no IP packet.
    Malformed,
    /// The peer's address is not known yet.
    NoEndpoint,
    /// Too many packets wait for a handshake.
    QueueFull,
    /// The handshake that packets waited for never came about.
    Unreachable,
    /// A counter or a handshake time stamp that was used before.
    Replay,
    /// Larger than the path or a buffer allows.
    TooBig,
    /// The first MAC of a handshake message is not for our key.
    BadMac,
    /// A handshake by a key that is no peer.
    UnknownPeer,
    /// A session index that we did not give out.
    UnknownIndex,
    /// The authentication tag does not fit.
    BadAuth,
    /// The session is too old or has carried too many messages.
    Expired,
    /// Under load, and the sender has not proved its address: it was sent a cookie.
    CookieSent,
    /// More handshakes than one address may ask for.
    RateLimited,
    /// The host refused to send the datagram.
    SendFailed,
    /// The host refused to take the packet.
    DeliverFailed,
    /// A datagram that is no WireGuard message.
    NotWireGuard,
}

const ALL: [(DropReason, &str); 18] = [
    (DropReason::NoRoute, "no_route"),
    (DropReason::BadSource, "bad_source"),
    (DropReason::Malformed, "malformed"),
    (DropReason::NoEndpoint, "no_endpoint"),
    (DropReason::QueueFull, "queue_full"),
    (DropReason::Unreachable, "unreachable"),
    (DropReason::Replay, "replay"),
    (DropReason::TooBig, "too_big"),
    (DropReason::BadMac, "bad_mac"),
    (DropReason::UnknownPeer, "unknown_peer"),
    (DropReason::UnknownIndex, "unknown_index"),
    (DropReason::BadAuth, "bad_auth"),
    (DropReason::Expired, "expired"),
    (DropReason::CookieSent, "cookie_sent"),
    (DropReason::RateLimited, "rate_limited"),
    (DropReason::SendFailed, "send_failed"),
    (DropReason::DeliverFailed, "deliver_failed"),
    (DropReason::NotWireGuard, "not_wireguard"),
];

/// Dropped packets, counted by reason.
#[derive(Debug, Default, Clone)]
pub(crate) struct DropCounts([u64; ALL.len()]);

impl DropCounts {
    pub(crate) fn count(&mut self, reason: DropReason) {
        self.add(reason, 1);
    }

    pub(crate) fn add(&mut self, reason: DropReason, packets: u64) {
        self.0[reason as usize] += packets;
    }

    /// Adds what was counted elsewhere.
    pub(crate) fn merge(&mut self, other: &Self) {
        // A run counts by itself, without the lock of the tunnel, and is added once at its end.
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
    }

    /// The reasons that occurred.
    pub(crate) fn by_reason(&self) -> BTreeMap<&'static str, u64> {
        // Reasons that never occurred are left out: status stays short, and a reason that appears is news.
        ALL.iter().map(|(reason, name)| (*name, self.0[*reason as usize])).filter(|(_, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_place_and_name() {
        let mut drops = DropCounts::default();
        for (place, (reason, _)) in ALL.iter().enumerate() {
            assert_eq!(*reason as usize, place);
            drops.add(*reason, place as u64 + 1);
        }
        let counted = drops.by_reason();
        assert_eq!(counted.len(), ALL.len());
        assert_eq!(counted["bad_source"], 2);
    }
}
