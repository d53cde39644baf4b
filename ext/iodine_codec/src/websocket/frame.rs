//! The header of a frame (RFC 6455 section 5.2), read in whatever pieces it comes.
//!
//! tungstenite has a reader of headers, too. Of the 36 ns that a short message takes it would cost 15 more.

use super::encode::MAX_HEADER;
use super::{MAX_CONTROL, Role, Violation};
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// What came of a header so far. Empty between frames.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PartialHeader {
    bytes: [u8; MAX_HEADER],
    len: u8,
}

/// A header that obeys all rules that need no knowledge of other frames.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) opcode: Opcode,
    pub(super) is_final: bool,
    /// RSV1, which permessage-deflate gives a meaning.
    pub(super) is_compressed: bool,
    pub(super) mask: Option<[u8; 4]>,
    /// Of the payload. At most 125 for control frames.
    pub(super) length: u64,
}

/// The opcodes that are not reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl PartialHeader {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes the next bytes: the header and how many of them belonged to it, or `None` when all of them were taken and
    /// more are needed.
    #[inline]
    pub(super) fn read(
        &mut self,
        input: &[u8],
        role: Role,
        compresses: bool,
    ) -> Result<Option<(Header, usize)>, Violation> {
        let held = usize::from(self.len);
        if held == 0 {
            if let Some((header, size)) = parse(input, role, compresses)? {
                return Ok(Some((header, size)));
            }
        }
        let room = self.bytes.get_mut(held..).unwrap_or_default();
        let taken = room.len().min(input.len());
        for (place, byte) in room.iter_mut().zip(input) {
            *place = *byte;
        }
        let known = held.saturating_add(taken);
        let found = parse(self.bytes.get(..known).unwrap_or_default(), role, compresses)?;
        self.len = if found.is_some() { 0 } else { known as u8 };
        Ok(found.map(|(header, size)| (header, size.saturating_sub(held))))
    }
}

/// The header at the start of `bytes`, and its size; `None` if it is not complete.
#[inline]
fn parse(bytes: &[u8], role: Role, compresses: bool) -> Result<Option<(Header, usize)>, Violation> {
    let &[first, second, ref after @ ..] = bytes else { return Ok(None) };
    let (length, after, is_minimal) = match second & 0x7f {
        126 => {
            let Some((length, after)) = after.split_first_chunk() else { return Ok(None) };
            let length = u64::from(u16::from_be_bytes(*length));
            (length, after, length > 125)
        }
        127 => {
            let Some((length, after)) = after.split_first_chunk() else { return Ok(None) };
            let length = u64::from_be_bytes(*length);
            (length, after, length > 0xffff)
        }
        length => (u64::from(length), after, true),
    };
    let (mask, after) = match second & 0x80 {
        0 => (None, after),
        _ => match after.split_first_chunk() {
            Some((mask, after)) => (Some(*mask), after),
            None => return Ok(None),
        },
    };
    let header = judge(first, length, is_minimal, mask, role, compresses)?;
    Ok(Some((header, bytes.len().saturating_sub(after.len()))))
}

/// What can be said of a header alone. `first` is its first byte.
#[inline]
fn judge(
    first: u8,
    length: u64,
    is_minimal: bool,
    mask: Option<[u8; 4]>,
    role: Role,
    compresses: bool,
) -> Result<Header, Violation> {
    let opcode = match OpCode::from(first & 0x0f) {
        OpCode::Data(Data::Continue) => Opcode::Continuation,
        OpCode::Data(Data::Text) => Opcode::Text,
        OpCode::Data(Data::Binary) => Opcode::Binary,
        OpCode::Control(Control::Close) => Opcode::Close,
        OpCode::Control(Control::Ping) => Opcode::Ping,
        OpCode::Control(Control::Pong) => Opcode::Pong,
        OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => {
            return Err(Violation::ReservedOpcode);
        }
    };
    let is_final = first & 0x80 != 0;
    let is_compressed = first & RSV1 != 0;
    // RFC 7692 section 6: RSV1 belongs on the first frame of a message, and on no other.
    let may_be_compressed = compresses && matches!(opcode, Opcode::Text | Opcode::Binary);
    if first & (RSV2 | RSV3) != 0 || (is_compressed && !may_be_compressed) {
        return Err(Violation::ReservedBits);
    }
    match (role, mask) {
        (Role::Server, None) => return Err(Violation::Unmasked),
        (Role::Client, Some(_)) => return Err(Violation::Masked),
        (Role::Server, Some(_)) | (Role::Client, None) => {}
    }
    if length >> 63 != 0 {
        return Err(Violation::LengthOver63Bits);
    }
    if !is_minimal {
        return Err(Violation::LengthNotMinimal);
    }
    if matches!(opcode, Opcode::Close | Opcode::Ping | Opcode::Pong) {
        if length > MAX_CONTROL as u64 {
            return Err(Violation::ControlTooLong);
        }
        if !is_final {
            return Err(Violation::ControlFragmented);
        }
    }
    Ok(Header { opcode, is_final, is_compressed, mask, length })
}

const RSV1: u8 = 0x40;
const RSV2: u8 = 0x20;
const RSV3: u8 = 0x10;
