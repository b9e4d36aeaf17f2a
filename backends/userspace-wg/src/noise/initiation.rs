use boringtun::x25519;
use chacha20poly1305::{
    ChaCha20Poly1305, KeyInit,
    aead::{Aead, Payload},
};
use overlayd_core::keys::PublicKey;

use super::mac::{hash, hmac};

const CONSTRUCTION: &[u8] = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const IDENTIFIER: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";

/// A time stamp as sent (TAI64N, big-endian), so that the later one compares greater.
pub(crate) type Timestamp = [u8; 12];

/// Who asks for a handshake, read before any state of a peer is touched.
///
/// boringtun keeps the last time stamp of a peer inside a `Tunn` that we drop with its session; reading it
/// here lets a peer keep it for as long as the peer exists, so that an old initiation is never taken for a new one.
pub(crate) struct OpenedInitiation<'a> {
    /// The initiator's key, not yet proved.
    pub(crate) peer: PublicKey,
    chain: [u8; 32],
    hash: [u8; 32],
    datagram: &'a [u8],
}

impl<'a> OpenedInitiation<'a> {
    /// Decrypts the initiator's key; `None` when the message is not meant for `private`.
    pub(crate) fn open(private: &x25519::StaticSecret, public: &x25519::PublicKey, datagram: &'a [u8]) -> Option<Self> {
        let ephemeral: [u8; 32] = datagram.get(8..40)?.try_into().ok()?;
        let sealed_static = datagram.get(40..88)?;
        // The steps and their names are those of the whitepaper, section 5.4.2.
        let chain = hash(&[CONSTRUCTION]);
        let transcript = hash(&[&hash(&[&hash(&[&chain, IDENTIFIER]), public.as_bytes()]), &ephemeral]);
        let chain = next_chain(&chain, &ephemeral);
        let shared = private.diffie_hellman(&x25519::PublicKey::from(ephemeral));
        let (chain, key) = next_key(&chain, shared.as_bytes());
        // Until the time stamp is opened this is a claim: anyone can seal another peer's public key.
        let peer: [u8; 32] = unseal(&key, sealed_static, &transcript)?.try_into().ok()?;
        let transcript = hash(&[&transcript, sealed_static]);
        Some(Self { peer: PublicKey::from_bytes(peer), chain, hash: transcript, datagram })
    }

    /// Decrypts the time stamp, which proves that the initiator holds the key.
    pub(crate) fn timestamp(&self, private: &x25519::StaticSecret) -> Option<Timestamp> {
        let shared = private.diffie_hellman(&x25519::PublicKey::from(*self.peer.as_bytes()));
        let (_, key) = next_key(&self.chain, shared.as_bytes());
        unseal(&key, self.datagram.get(88..116)?, &self.hash)?.try_into().ok()
    }
}

fn next_chain(chain: &[u8; 32], input: &[u8]) -> [u8; 32] {
    hmac(&hmac(chain, &[input]), &[&[1]])
}

fn next_key(chain: &[u8; 32], input: &[u8]) -> ([u8; 32], [u8; 32]) {
    let secret = hmac(chain, &[input]);
    let chain = hmac(&secret, &[&[1]]);
    let key = hmac(&secret, &[&chain, &[2]]);
    (chain, key)
}

fn unseal(key: &[u8; 32], sealed: &[u8], aad: &[u8]) -> Option<Vec<u8>> {
    // The nonce is zero: each key here seals one message only (whitepaper, section 5.4.2).
    ChaCha20Poly1305::new(key.into()).decrypt(&[0; 12].into(), Payload { msg: sealed, aad }).ok()
}
