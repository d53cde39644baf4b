//! Whole answers of an application: a client reads one, and its end is where the server thinks it is.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| iodine_codec::check::answer(data));
