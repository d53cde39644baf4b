//! Templates with a partial: whatever they are, they end in an error or in text.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| iodine_codec::check::mustache(data));
