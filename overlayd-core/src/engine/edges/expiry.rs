//! When an edge peer is no longer let in.

use crate::desired::EdgeRecord;

/// Seconds within which the first handshake has to come.
const FIRST_HANDSHAKE: u64 = 120;
/// Seconds of silence after which a session is dead (WireGuard's `Reject-After-Time`).
const SILENCE: u64 = 180;

/// Why an edge peer is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExpiryReason {
    Lifetime,
    NeverCame,
    WentSilent,
}

impl ExpiryReason {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Lifetime => "its time is over",
            Self::NeverCame => "it never completed a handshake",
            Self::WentSilent => "it went silent",
        }
    }
}

/// Whether the edge is due at `now`. All times are Unix seconds. A daemon that `started_at` later than the minting
/// gives edges the time of a first handshake again, because sessions may have ended with its predecessor.
pub(super) fn due(edge: &EdgeRecord, seen_at: Option<u64>, started_at: u64, now: u64) -> Option<ExpiryReason> {
    if now >= edge.expires_at {
        return Some(ExpiryReason::Lifetime);
    }
    match seen_at {
        None => {
            // Handshakes are seen on the device, and one in user space starts without any.
            let since = edge.minted_at.max(started_at);
            (now.saturating_sub(since) >= FIRST_HANDSHAKE).then_some(ExpiryReason::NeverCame)
        }
        // A clock that was set back makes the handshake look younger, never older: no edge is cut off by it.
        Some(seen_at) => (now.saturating_sub(seen_at) >= SILENCE).then_some(ExpiryReason::WentSilent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::EdgeAccess;
    use crate::keys::PublicKey;

    #[test]
    fn an_edge_is_due_for_one_of_three_reasons() {
        let edge = EdgeRecord {
            ip: [10, 77, 4, 9].into(),
            public_key: PublicKey::from_bytes([1; 32]),
            minted_at: 1000,
            expires_at: 2000,
            access: EdgeAccess::WholeOverlay,
        };
        let table = [
            (None, 0, 1000, None),
            (None, 0, 1119, None),
            (None, 0, 1120, Some(ExpiryReason::NeverCame)),
            (None, 1100, 1219, None),
            (None, 1100, 1220, Some(ExpiryReason::NeverCame)),
            (Some(1010), 0, 1189, None),
            (Some(1010), 0, 1190, Some(ExpiryReason::WentSilent)),
            (Some(1999), 0, 1999, None),
            (Some(1999), 0, 2000, Some(ExpiryReason::Lifetime)),
            (Some(3000), 0, 1500, None),
        ];
        for (seen_at, started_at, now, expected) in table {
            assert_eq!(due(&edge, seen_at, started_at, now), expected, "{seen_at:?} {started_at} {now}");
        }
    }

    #[test]
    fn a_lifetime_of_nothing_is_over_at_once() {
        let edge = EdgeRecord {
            ip: [10, 77, 4, 9].into(),
            public_key: PublicKey::from_bytes([1; 32]),
            minted_at: 1000,
            expires_at: 1000,
            access: EdgeAccess::WholeOverlay,
        };
        assert_eq!(due(&edge, None, 0, 1000), Some(ExpiryReason::Lifetime));
    }
}
