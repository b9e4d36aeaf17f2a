use blake2::{
    Blake2s256, Blake2sMac, Digest,
    digest::{KeyInit, Mac, consts::U16},
};
use hmac::SimpleHmac;

/// BLAKE2s-256 of the parts, one after the other.
pub(crate) fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Blake2s256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// Keyed BLAKE2s with 16 bytes of output (`MAC` of the WireGuard whitepaper). `key` is at most 32 bytes.
pub(crate) fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut mac = <Blake2sMac<U16> as KeyInit>::new_from_slice(key).expect("MAC keys are 16 or 32 bytes");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// HMAC over BLAKE2s-256.
pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = <SimpleHmac<Blake2s256> as KeyInit>::new_from_slice(key).expect("HMAC takes any key length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Compares in time that does not depend on where the difference is.
pub(crate) fn same(left: &[u8], right: &[u8]) -> bool {
    // No early end: the time until a difference shows would let a sender guess a MAC byte by byte.
    left.len() == right.len() && left.iter().zip(right).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}

/// Key of the first MAC of messages to the owner of `public`.
pub(crate) fn mac1_key(public: &[u8; 32]) -> [u8; 32] {
    hash(&[b"mac1----", public])
}

/// Key that seals cookies of the owner of `public`.
pub(crate) fn cookie_key(public: &[u8; 32]) -> [u8; 32] {
    hash(&[b"cookie--", public])
}
