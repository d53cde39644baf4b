//! Header sections: what is accepted is framed as a slow second reading says.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| iodine_codec::check::framing(data));
