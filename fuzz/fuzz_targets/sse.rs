//! Event streams: a client reads what was meant.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| iodine_codec::check::sse(data));
