//! Paths: whatever a client asks for, the file is below the folder.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| iodine_codec::check::file_path(data));
