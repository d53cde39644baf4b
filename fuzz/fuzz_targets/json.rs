//! JSON: strict documents mean the same leniently, and what was read can be written and read again.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| iodine_codec::check::json(data));
