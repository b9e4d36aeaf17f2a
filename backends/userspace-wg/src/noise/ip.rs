use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Destination of an IP packet; `None` when the header is cut short or of no known version.
pub(crate) fn destination(packet: &[u8]) -> Option<IpAddr> {
    address(packet, 16, 24)
}

/// Source of an IP packet; `None` when the header is cut short or of no known version.
pub(crate) fn source(packet: &[u8]) -> Option<IpAddr> {
    address(packet, 12, 8)
}

fn address(packet: &[u8], v4_at: usize, v6_at: usize) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        // The version is the first nibble; what the length fields say is not asked, as only the addresses matter here.
        4 if packet.len() >= 20 => {
            let bytes: [u8; 4] = packet[v4_at..v4_at + 4].try_into().ok()?;
            Some(Ipv4Addr::from(bytes).into())
        }
        6 if packet.len() >= 40 => {
            let bytes: [u8; 16] = packet[v6_at..v6_at + 16].try_into().ok()?;
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

/// Length to which a packet of `len` bytes is padded: a multiple of 16, but never beyond the device's MTU
/// (WireGuard whitepaper, section 5.4.6).
pub(crate) fn padded(len: usize, mtu: usize) -> usize {
    // Padding hides the exact length. Beyond the MTU it would make the datagram too large for the path.
    len.next_multiple_of(16).min(mtu.max(len))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn padding_reaches_a_multiple_of_sixteen_or_the_mtu(len in 0usize..70_000, mtu in 576usize..65_536) {
            let padded = padded(len, mtu);
            prop_assert!(padded >= len);
            prop_assert!(padded < len + 16);
            prop_assert!(padded.is_multiple_of(16) || padded == mtu || padded == len);
            if len <= mtu {
                prop_assert!(padded <= mtu);
            }
        }

        #[test]
        fn no_bytes_make_the_header_reader_panic(packet in proptest::collection::vec(any::<u8>(), 0..64)) {
            destination(&packet);
        }
    }
}
