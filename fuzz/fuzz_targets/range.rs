//! Range headers: what is served lies in the file, and nothing is served twice.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| iodine_codec::check::range(data));
