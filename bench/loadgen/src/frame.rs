//! WebSocket frames (RFC 6455 section 5.2): just as much as load and echo need; no fragments, no extensions.

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// A load generator needs no secret mask.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Where a whole frame's payload lies in the buffer that it was found in.
pub struct Frame {
    pub opcode: u8,
    pub mask: Option<[u8; 4]>,
    pub start: usize,
    pub end: usize,
}

/// Appends a masked frame, as clients send it.
pub fn write_masked(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    write_head(out, opcode, payload.len(), 0x80);
    out.extend_from_slice(&MASK);
    let at = out.len();
    out.extend_from_slice(payload);
    apply_mask(&mut out[at..], MASK);
}

/// Appends an unmasked frame, as servers send it.
pub fn write_plain(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    write_head(out, opcode, payload.len(), 0);
    out.extend_from_slice(payload);
}

pub fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    payload.iter_mut().enumerate().for_each(|(i, byte)| *byte ^= mask[i & 3]);
}

fn write_head(out: &mut Vec<u8>, opcode: u8, length: usize, mask_bit: u8) {
    out.push(0x80 | opcode);
    match length {
        0..=125 => out.push(mask_bit | length as u8),
        126..=0xffff => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// The frame at the start of `buffer`, or None while it is not complete.
pub fn parse(buffer: &[u8]) -> Option<Frame> {
    let (&first, &second) = (buffer.first()?, buffer.get(1)?);
    let (mut at, length) = match second & 0x7f {
        126 => (4, u64::from(u16::from_be_bytes(buffer.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(buffer.get(2..10)?.try_into().ok()?)),
        short => (2, u64::from(short)),
    };
    let mut mask = None;
    if second & 0x80 != 0 {
        mask = Some(buffer.get(at..at + 4)?.try_into().ok()?);
        at += 4;
    }
    let end = at.checked_add(usize::try_from(length).ok()?)?;
    (end <= buffer.len()).then_some(Frame { opcode: first & 0x0f, mask, start: at, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_and_halves_do_not() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let mut out = Vec::new();
            write_masked(&mut out, TEXT, &vec![b'x'; length]);
            let frame = parse(&out).expect("a whole frame");
            assert_eq!((frame.opcode, frame.end, frame.end - frame.start), (TEXT, out.len(), length));
            assert!(parse(&out[..out.len() - 1]).is_none());
        }
    }
}
