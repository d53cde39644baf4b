//! Lines of the request log: what a client sends stays in its field.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| iodine_codec::check::access_log(data));
