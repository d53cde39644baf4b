//! Percent-encoding: round trips, and texts that can not be decoded are left alone.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| iodine_codec::check::percent(data));
