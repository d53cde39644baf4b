//! Compressed WebSocket messages: those that arrive, in any fragments, and those that are sent.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| iodine_codec::check::websocket_deflate(data));
