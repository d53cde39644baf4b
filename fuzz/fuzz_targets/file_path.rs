//! Paths of requests: none of them names a file outside of a folder.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| iodine_codec::check::file_path(data));
