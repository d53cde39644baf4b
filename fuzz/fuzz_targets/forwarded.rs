//! What proxies say: a client can not pass for another.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| iodine_codec::check::forwarded(data));
