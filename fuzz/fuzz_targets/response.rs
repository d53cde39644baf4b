//! Headers of an application: none of them splits a response.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| iodine_codec::check::response(data));
