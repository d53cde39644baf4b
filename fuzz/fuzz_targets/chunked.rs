//! Chunked bodies: however they are cut, they decode to the same, and the coding survives a round trip.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| iodine_codec::check::chunked(data));
