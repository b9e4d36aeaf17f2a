//! What a packet costs on its way through a device, without any system call.
//!
//! A TCP frame of 44 full segments is cut, encrypted, decrypted and put together again, in bytes of the frame per second. A
//! message opens only once and a packet is put together only once, so each benchmark has the steps before it; the cost of one
//! is the difference. `cipher` is the library's AEAD alone, which is most of it.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that cannot go on fails")]

#[path = "support/path.rs"]
mod path;

use divan::{Bencher, counter::BytesCount};
use path::{FRAME, Path};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

fn main() {
    divan::main();
}

#[divan::bench]
fn cut(bencher: Bencher<'_, '_>) {
    let mut path = Path::among(0);
    bencher.counter(BytesCount::new(FRAME)).bench_local(|| path.cut());
}

#[divan::bench]
fn cut_seal(bencher: Bencher<'_, '_>) {
    let mut path = Path::among(0);
    bencher.counter(BytesCount::new(FRAME)).bench_local(|| path.seal());
}

#[divan::bench]
fn cut_seal_open(bencher: Bencher<'_, '_>) {
    let mut path = Path::among(0);
    bencher.counter(BytesCount::new(FRAME)).bench_local(|| {
        path.seal();
        path.open()
    });
}

#[divan::bench]
fn cut_seal_open_gather(bencher: Bencher<'_, '_>) {
    let mut path = Path::among(0);
    bencher.counter(BytesCount::new(FRAME)).bench_local(|| {
        path.seal();
        path.open();
        path.coalesce()
    });
}

/// A packet of 80 bytes by itself through both devices, which have so many other peers.
#[divan::bench(args = [0, 10_000])]
fn small_packet(bencher: Bencher<'_, '_>, others: u32) {
    let mut path = Path::among(others);
    bencher.bench_local(|| path.packet());
}

/// A look at what is due in both devices.
#[divan::bench(args = [0, 10_000])]
fn wake(bencher: Bencher<'_, '_>, others: u32) {
    let mut path = Path::among(others);
    bencher.bench_local(|| path.wake());
}

#[divan::bench(args = [0, 10_000])]
fn cut_seal_open_among(bencher: Bencher<'_, '_>, others: u32) {
    let mut path = Path::among(others);
    bencher.counter(BytesCount::new(FRAME)).bench_local(|| {
        path.seal();
        path.open()
    });
}

#[divan::bench]
fn cipher(bencher: Bencher<'_, '_>) {
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &[7; 32]).unwrap());
    let mut packet = vec![0; 1420];
    bencher.counter(BytesCount::new(packet.len())).bench_local(|| {
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut packet).unwrap()
    });
}
