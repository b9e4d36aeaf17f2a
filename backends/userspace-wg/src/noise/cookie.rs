use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305,
    aead::{Aead, Payload},
};
use rand_core::{OsRng, RngCore};
use zeroize::Zeroize;

use super::{
    mac::{cookie_key, mac, mac1_key, same},
    time::SteadyTime,
};
use crate::datagram::COOKIE_REPLY;

/// How long a cookie is good for (whitepaper, section 5.4.7).
const COOKIE_LIFE: Duration = Duration::from_secs(120);

type Cookie = [u8; 16];

/// The responder's side: checks the MACs of handshake messages and hands out cookies.
///
/// A cookie covers the sender's address *and port*. boringtun's own rate limiter covers the address alone, which
/// lets everything behind one NAT share a cookie, so its limiter is set to never interfere and this one decides.
pub(crate) struct CookieChecker {
    mac1_key: [u8; 32],
    cookie_key: [u8; 32],
    secret: [u8; 32],
    secret_since: Option<SteadyTime>,
}

impl Drop for CookieChecker {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl CookieChecker {
    /// Checks messages to the owner of `public`.
    pub(crate) fn new(public: &[u8; 32]) -> Self {
        Self { mac1_key: mac1_key(public), cookie_key: cookie_key(public), secret: [0; 32], secret_since: None }
    }

    /// Whether the sender of this handshake message knows our public key.
    pub(crate) fn mac1_fits(&self, message: &[u8]) -> bool {
        let (body, macs) = message.split_at(message.len() - 32);
        // MAC1 comes first and costs two hashes: a sender that does not know our public key is refused before any Diffie-Hellman.
        same(&mac(&self.mac1_key, &[body]), &macs[..16])
    }

    /// Whether the sender has proved that it receives what is sent to `from`.
    pub(crate) fn mac2_fits(&mut self, now: SteadyTime, from: SocketAddr, message: &[u8]) -> bool {
        let (body, given) = message.split_at(message.len() - 16);
        same(&mac(&self.cookie(now, from), &[body]), given)
    }

    /// Writes the demand for a proof into `out` and returns its length.
    pub(crate) fn reply(
        &mut self,
        now: SteadyTime,
        from: SocketAddr,
        message: &[u8],
        sender: u32,
        out: &mut [u8],
    ) -> usize {
        let mac1 = &message[message.len() - 32..message.len() - 16];
        let mut nonce = [0; 24];
        // XChaCha20 has a nonce of 24 bytes, so that random ones do not repeat under a flood of demands.
        OsRng.fill_bytes(&mut nonce);
        let sealed = XChaCha20Poly1305::new(&self.cookie_key.into())
            .encrypt(&nonce.into(), Payload { msg: &self.cookie(now, from), aad: mac1 })
            .expect("sealing 16 bytes cannot fail");
        out[..4].copy_from_slice(&3u32.to_le_bytes());
        out[4..8].copy_from_slice(&sender.to_le_bytes());
        out[8..32].copy_from_slice(&nonce);
        out[32..COOKIE_REPLY].copy_from_slice(&sealed);
        COOKIE_REPLY
    }

    fn cookie(&mut self, now: SteadyTime, from: SocketAddr) -> Cookie {
        // The secret changes on use, not by a timer: a device that is not under load never draws one.
        if self.secret_since.is_none_or(|since| now.since(since) >= COOKIE_LIFE) {
            OsRng.fill_bytes(&mut self.secret);
            self.secret_since = Some(now);
        }
        let port = from.port().to_be_bytes();
        match from.ip() {
            IpAddr::V4(ip) => mac(&self.secret, &[&ip.octets(), &port]),
            IpAddr::V6(ip) => mac(&self.secret, &[&ip.octets(), &port]),
        }
    }
}

/// The initiator's side: keeps the cookie of one peer and proves our address with it.
#[derive(Default)]
pub(crate) struct CookieJar {
    cookie: Option<(Cookie, SteadyTime)>,
    last: Option<SentHandshake>,
}

struct SentHandshake {
    mac1: [u8; 16],
    index: u32,
}

impl CookieJar {
    /// Writes the second MAC of a handshake message that is ready but for it, and remembers what a cookie reply will
    /// refer to.
    pub(crate) fn sign(&mut self, now: SteadyTime, index: u32, message: &mut [u8]) {
        let (body, mac2) = message.split_at_mut(message.len() - 16);
        match self.cookie {
            Some((cookie, since)) if now.since(since) < COOKIE_LIFE => mac2.copy_from_slice(&mac(&cookie, &[body])),
            // Zeros are what the whitepaper has in the place of a MAC2 without a cookie (section 5.4.4).
            _ => mac2.fill(0),
        }
        let mac1 = body[body.len() - 16..].try_into().expect("16 bytes were taken");
        self.last = Some(SentHandshake { mac1, index });
    }

    /// Keeps the cookie of a reply by `peer` to our last handshake message; `false` when it is not genuine.
    pub(crate) fn keep(&mut self, now: SteadyTime, peer: &[u8; 32], reply: &[u8]) -> bool {
        let Some(cookie) = self.open(peer, reply) else { return false };
        self.cookie = Some((cookie, now));
        // One reply for each message that was sent: a replayed reply cannot put an old cookie back.
        self.last = None;
        true
    }

    fn open(&self, peer: &[u8; 32], reply: &[u8]) -> Option<Cookie> {
        let sent = self.last.as_ref()?;
        // The index ties the reply to our last message before anything is decrypted.
        if reply.len() != COOKIE_REPLY || reply[4..8] != sent.index.to_le_bytes() {
            return None;
        }
        let payload = Payload { msg: &reply[32..], aad: &sent.mac1 };
        let nonce: [u8; 24] = reply[8..32].try_into().ok()?;
        let cookie = XChaCha20Poly1305::new(&cookie_key(peer).into()).decrypt(&nonce.into(), payload).ok()?;
        cookie.try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SteadyTime = SteadyTime::from_nanos(1);

    fn message() -> Vec<u8> {
        let mut message = vec![7; 148];
        let mac1 = mac(&mac1_key(&[1; 32]), &[&message[..116]]);
        message[116..132].copy_from_slice(&mac1);
        message[132..].fill(0);
        message
    }

    #[test]
    fn a_cookie_is_good_for_one_address_and_port_only() {
        let (mut checker, mut jar, mut reply) = (CookieChecker::new(&[1; 32]), CookieJar::default(), [0; 64]);
        let from: SocketAddr = "192.0.2.1:1000".parse().unwrap();
        let mut message = message();
        assert!(checker.mac1_fits(&message));
        jar.sign(NOW, 9, &mut message);
        assert!(!checker.mac2_fits(NOW, from, &message));
        let len = checker.reply(NOW, from, &message, 9, &mut reply);
        assert!(jar.keep(NOW, &[1; 32], &reply[..len]));
        jar.sign(NOW, 9, &mut message);
        assert!(checker.mac2_fits(NOW, from, &message));
        assert!(!checker.mac2_fits(NOW, "192.0.2.1:1001".parse().unwrap(), &message), "another port");
        assert!(!checker.mac2_fits(NOW, "192.0.2.2:1000".parse().unwrap(), &message), "another address");
        let later = NOW.after(COOKIE_LIFE);
        assert!(!checker.mac2_fits(later, from, &message), "another secret");
    }

    #[test]
    fn a_cookie_reply_to_nothing_we_sent_is_refused() {
        let (mut checker, mut jar, mut reply) = (CookieChecker::new(&[1; 32]), CookieJar::default(), [0; 64]);
        let message = message();
        let len = checker.reply(NOW, "[::1]:5".parse().unwrap(), &message, 9, &mut reply);
        assert!(!jar.keep(NOW, &[1; 32], &reply[..len]));
    }
}
