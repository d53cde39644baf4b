//! Frames as they go out (RFC 6455 section 5).

use super::{Kind, MAX_CONTROL, is_close_code, mask};
use std::io::Write;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// The longest header of a frame (RFC 6455 section 5.2).
pub const MAX_HEADER: usize = 14;

/// Appends a message as one frame (RFC 6455 section 5.6). Whether a text is UTF-8 is for the caller to know. Clients
/// must give a mask, a new and unpredictable one each time; servers must not (section 5.1).
pub fn encode_message(out: &mut Vec<u8>, kind: Kind, payload: &[u8], mask: Option<[u8; 4]>) {
    encode(out, opcode(kind), payload, mask);
}

/// Appends the header of an unmasked message of so many bytes, which the caller sends behind it (RFC 6455 section 5.2).
pub fn encode_header(out: &mut Vec<u8>, kind: Kind, length: usize) {
    write_header(out, opcode(kind), false, length, None);
}

/// Appends a Ping frame (RFC 6455 section 5.5.2). The payload is cut to 125 bytes.
pub fn encode_ping(out: &mut Vec<u8>, payload: &[u8], mask: Option<[u8; 4]>) {
    encode(out, OpCode::Control(Control::Ping), control(payload), mask);
}

/// Appends a Pong frame (RFC 6455 section 5.5.3). The payload is cut to 125 bytes.
pub fn encode_pong(out: &mut Vec<u8>, payload: &[u8], mask: Option<[u8; 4]>) {
    encode(out, OpCode::Control(Control::Pong), control(payload), mask);
}

/// Appends a Close frame (RFC 6455 section 5.5.1). The reason is cut to what fits of it, 123 bytes, between two
/// characters. A code that must not be sent, such as 1005 and 1006, is left out together with its reason.
pub fn encode_close(out: &mut Vec<u8>, reason: Option<(u16, &str)>, mask: Option<[u8; 4]>) {
    let mut payload = [0; MAX_CONTROL];
    let mut length = 0;
    if let Some((code, reason)) = reason.filter(|(code, _)| is_close_code(*code)) {
        let said = code.to_be_bytes().into_iter().chain(cut(reason).bytes());
        for (place, byte) in payload.iter_mut().zip(said) {
            *place = byte;
            length += 1;
        }
    }
    let payload = payload.get(..length).unwrap_or_default();
    encode(out, OpCode::Control(Control::Close), payload, mask);
}

/// The length of a whole frame with so much payload, header included.
pub const fn frame_length(payload_len: usize, masked: bool) -> usize {
    let header = match payload_len {
        ..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    };
    let mask = if masked { 4 } else { 0 };
    payload_len.saturating_add(header + mask)
}

pub(super) fn opcode(kind: Kind) -> OpCode {
    OpCode::Data(match kind {
        Kind::Text => Data::Text,
        Kind::Binary => Data::Binary,
    })
}

#[inline]
fn encode(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8], mask: Option<[u8; 4]>) {
    out.reserve(frame_length(payload.len(), mask.is_some()));
    write_header(out, opcode, false, payload.len(), mask);
    let start = out.len();
    out.extend_from_slice(payload);
    if let (Some(mask), Some(payload)) = (mask, out.get_mut(start..)) {
        mask::apply(payload, mask);
    }
}

/// Writes the header of a frame that is the only one of its message.
#[inline]
pub(super) fn write_header(
    out: &mut impl Write,
    opcode: OpCode,
    is_compressed: bool,
    length: usize,
    mask: Option<[u8; 4]>,
) {
    let header = FrameHeader { is_final: true, rsv1: is_compressed, rsv2: false, rsv3: false, opcode, mask };
    let written = header.format(length as u64, out);
    debug_assert!(written.is_ok(), "a header fits");
}

fn control(payload: &[u8]) -> &[u8] {
    payload.get(..MAX_CONTROL).unwrap_or(payload)
}

/// As much of the reason as fits behind the code.
fn cut(reason: &str) -> &str {
    let mut end = reason.len().min(MAX_CONTROL - 2);
    while !reason.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    reason.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: Kind, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
        let mut out = Vec::new();
        encode_message(&mut out, kind, payload, mask);
        out
    }

    #[test]
    fn rfc_6455_5_7_examples() {
        assert_eq!(message(Kind::Text, b"Hello", None), b"\x81\x05Hello");
        let mask = Some([0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(
            message(Kind::Text, b"Hello", mask),
            [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]
        );
        let mut out = Vec::new();
        encode_ping(&mut out, b"Hello", None);
        encode_pong(&mut out, b"Hello", mask);
        assert_eq!(out, b"\x89\x05Hello\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
        assert!(message(Kind::Binary, &[7; 256], None).starts_with(b"\x82\x7e\x01\0\x07"));
        assert!(message(Kind::Binary, &[7; 65536], None).starts_with(b"\x82\x7f\0\0\0\0\0\x01\0\0\x07"));
    }

    #[test]
    fn lengths_are_known_beforehand() {
        for length in [0, 1, 125, 126, 127, 65535, 65536, 70000] {
            for mask in [None, Some([1, 2, 3, 4])] {
                let frame = message(Kind::Binary, &vec![0; length], mask);
                assert_eq!(frame.len(), frame_length(length, mask.is_some()));
                assert!(frame.len() <= length + MAX_HEADER);
            }
        }
        assert_eq!(frame_length(usize::MAX, true), usize::MAX);
    }

    #[test]
    fn close_reasons_are_cut_between_characters() {
        let close = |reason: Option<(u16, &str)>| {
            let mut out = Vec::new();
            encode_close(&mut out, reason, None);
            out
        };
        assert_eq!(close(None), b"\x88\0");
        assert_eq!(close(Some((1000, ""))), b"\x88\x02\x03\xe8");
        assert_eq!(close(Some((4999, "bye"))), b"\x88\x05\x13\x87bye");
        for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
            assert_eq!(close(Some((code, "left out"))), b"\x88\0", "{code}");
        }
        let fits = "x".repeat(123);
        assert_eq!(close(Some((1000, &fits)))[4..], *fits.as_bytes());
        assert_eq!(close(Some((1000, &format!("{fits}y")))).len(), 127);
        let wide = "\u{20ac}".repeat(42); // 126 bytes
        assert_eq!(close(Some((1000, &wide)))[4..], *"\u{20ac}".repeat(41).as_bytes());
        assert_eq!(close(Some((1000, &format!("x{wide}")))).len(), 4 + 121);
    }

    #[test]
    fn control_frames_stay_short() {
        let mut out = Vec::new();
        encode_ping(&mut out, &[0; 126], None);
        assert_eq!(out.len(), 2 + 125);
    }
}
