#![no_main]

#[path = "../properties.rs"]
#[expect(dead_code, reason = "the other target's properties")]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::frames(data));
