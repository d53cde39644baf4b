//! The header of a frame (RFC 6455 section 5.2), read in whatever pieces it comes.

use super::encode::MAX_HEADER;
use super::{MAX_CONTROL, Role, Violation};
use std::io::Cursor;
use tungstenite::protocol::frame::FrameHeader;
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
    let mut cursor = Cursor::new(bytes);
    // Of complete headers it refuses none but those of reserved opcodes.
    let parsed = FrameHeader::parse(&mut cursor).map_err(|_| Violation::ReservedOpcode)?;
    let Some((header, length)) = parsed else { return Ok(None) };
    let size = cursor.position() as usize;
    judge(&header, length, size, role, compresses).map(|header| Some((header, size)))
}

/// What can be said of a header alone. `size` is that of the header.
#[inline]
fn judge(
    header: &FrameHeader,
    length: u64,
    size: usize,
    role: Role,
    compresses: bool,
) -> Result<Header, Violation> {
    let opcode = match header.opcode {
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
    // RFC 7692 section 6: RSV1 belongs on the first frame of a message, and on no other.
    let may_be_compressed = compresses && matches!(opcode, Opcode::Text | Opcode::Binary);
    if header.rsv2 || header.rsv3 || (header.rsv1 && !may_be_compressed) {
        return Err(Violation::ReservedBits);
    }
    match (role, header.mask) {
        (Role::Server, None) => return Err(Violation::Unmasked),
        (Role::Client, Some(_)) => return Err(Violation::Masked),
        (Role::Server, Some(_)) | (Role::Client, None) => {}
    }
    if length >> 63 != 0 {
        return Err(Violation::LengthOver63Bits);
    }
    if size != header.len(length) {
        return Err(Violation::LengthNotMinimal);
    }
    if matches!(opcode, Opcode::Close | Opcode::Ping | Opcode::Pong) {
        if length > MAX_CONTROL as u64 {
            return Err(Violation::ControlTooLong);
        }
        if !header.is_final {
            return Err(Violation::ControlFragmented);
        }
    }
    let (is_final, is_compressed, mask) = (header.is_final, header.rsv1, header.mask);
    Ok(Header { opcode, is_final, is_compressed, mask, length })
}
