//! Ranges: the parts that are served lie in the file and do not overlap.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| iodine_codec::check::range(data));
