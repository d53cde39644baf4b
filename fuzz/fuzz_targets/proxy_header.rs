//! PROXY headers: however they are cut, they mean the same.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| iodine_codec::check::proxy_header(data));
