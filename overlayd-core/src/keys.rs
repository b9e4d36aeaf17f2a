//! WireGuard keys: 32 bytes, written as standard base64 with padding (`wg(8)`), never shown by `Debug`.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Why a text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// The text is not standard base64 with padding.
    #[error("a key must be standard base64 with padding")]
    Encoding,
    /// The text decodes to something else than 32 bytes.
    #[error("a key must be 32 bytes, this one is {0}")]
    Length(usize),
}

/// Curve25519 public key; what names a peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 32]);

/// Curve25519 private key. Wiped on drop, redacted in `Debug`.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct PrivateKey([u8; 32]);

/// Pre-shared key of a pair of peers. Wiped on drop, redacted in `Debug`.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct PresharedKey([u8; 32]);

fn decode(text: &str) -> Result<[u8; 32], InvalidKey> {
    let mut bytes = STANDARD.decode(text).map_err(|_| InvalidKey::Encoding)?;
    let key = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| InvalidKey::Length(bytes.len()));
    bytes.zeroize();
    key
}

impl PublicKey {
    /// Takes the raw key.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads standard base64.
    pub fn from_base64(text: &str) -> Result<Self, InvalidKey> {
        decode(text).map(Self)
    }

    /// The raw key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Standard base64 with padding.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// Whether it is the key of zeros, which no private key has and which the kernel reads as "no key".
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 32]
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_base64())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_base64())
    }
}

impl TryFrom<String> for PublicKey {
    type Error = InvalidKey;

    fn try_from(text: String) -> Result<Self, InvalidKey> {
        Self::from_base64(&text)
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_base64()
    }
}

impl PrivateKey {
    /// A new key from the operating system's random source.
    pub fn generate() -> Self {
        Self(x25519_dalek::StaticSecret::random_from_rng(rand_core::OsRng).to_bytes())
    }

    /// Takes the raw key.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads standard base64.
    pub fn from_base64(text: &str) -> Result<Self, InvalidKey> {
        decode(text).map(Self)
    }

    /// The raw key, for the backend that needs it.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Standard base64: the one way out, for the key file and for replies that hand out an issued identity.
    pub fn reveal_base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from(self.0)).to_bytes())
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(redacted)")
    }
}

impl PresharedKey {
    /// Takes the raw key.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw key, for the backend that needs it.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresharedKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_text_and_stays_out_of_debug() {
        let private = PrivateKey::generate();
        let text = private.reveal_base64();
        assert_eq!(PrivateKey::from_base64(&text).unwrap(), private);
        assert!(!format!("{private:?}").contains(&text));
        let public = private.public_key();
        assert_eq!(PublicKey::from_base64(&public.to_base64()).unwrap(), public);
    }

    #[test]
    fn a_text_that_is_no_key_says_why() {
        assert_eq!(PublicKey::from_base64("not base64!"), Err(InvalidKey::Encoding));
        assert_eq!(PublicKey::from_base64("AAAA"), Err(InvalidKey::Length(3)));
    }
}
