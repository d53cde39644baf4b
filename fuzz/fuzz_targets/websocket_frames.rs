//! WebSocket frames: however they are cut, they mean what a slow second reading says.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| iodine_codec::check::websocket_frames(data));
