//! WebSocket handshakes, of both sides.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| iodine_codec::check::websocket_handshake(data));
