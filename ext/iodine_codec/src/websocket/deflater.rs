//! Messages compressed as they go out (RFC 7692 section 7.2.1).

use super::deflate::{Deflate, Direction};
use super::encode::{self, frame_length};
use super::{Kind, MAX_HEADER, Role, mask};
use flate2::{Compress, Compression, FlushCompress};

/// What the end of each message is, and is left out.
const TAIL: &[u8] = &[0, 0, 0xff, 0xff];

/// Writes compressed messages.
///
/// Where the agreement has no context takeover for our side nothing is carried from one message to the next: then one
/// deflater may write for all connections that agreed on the same. Its state, about 370 KiB, is made for the first message
/// that is worth it, and kept.
#[derive(Debug)]
pub struct Deflater {
    direction: Direction,
    level: u8,
    threshold: usize,
    stream: Option<Compress>,
}

impl Deflater {
    /// A deflater for what the end of that role sends.
    pub fn new(deflate: Deflate, role: Role) -> Deflater {
        Deflater {
            direction: deflate.sent_by(role),
            level: deflate.level,
            threshold: deflate.threshold.max(1),
            stream: None,
        }
    }

    /// Whether it can write for several connections: no message refers to one before it.
    pub fn is_shareable(&self) -> bool {
        !self.direction.context_takeover
    }

    /// Appends a message as one frame, compressed where it is long enough and becomes shorter by it.
    pub fn encode_message(&mut self, out: &mut Vec<u8>, kind: Kind, payload: &[u8], mask: Option<[u8; 4]>) {
        if payload.len() < self.threshold || !self.encode_compressed(out, kind, payload, mask) {
            encode::encode_message(out, kind, payload, mask);
        }
    }

    /// Appends a compressed frame, or nothing if it would not be shorter.
    fn encode_compressed(
        &mut self,
        out: &mut Vec<u8>,
        kind: Kind,
        payload: &[u8],
        mask: Option<[u8; 4]>,
    ) -> bool {
        let start = out.len();
        // What is compressed is shorter, and so is its header: it moves up to it if need be.
        let body = start.saturating_add(frame_length(0, mask.is_some())).saturating_add(8);
        out.reserve(payload.len().saturating_add(MAX_HEADER + TAIL.len()));
        out.resize(body, 0);
        let stream = self.stream.get_or_insert_with(|| new_stream(self.level, self.direction));
        let compressed = compress(stream, payload, out, body);
        // After a message that went out plain our window has what the peer's has not.
        if !compressed || !self.direction.context_takeover {
            stream.reset();
        }
        if !compressed {
            out.truncate(start);
            return false;
        }
        let length = out.len().saturating_sub(body);
        let mut header = [0; MAX_HEADER];
        let mut room = &mut header[..];
        encode::write_header(&mut room, encode::opcode(kind), true, length, mask);
        let unused = room.len();
        if let (Some(mask), Some(body)) = (mask, out.get_mut(body..)) {
            mask::apply(body, mask);
        }
        out.splice(start..body, header.into_iter().take(MAX_HEADER.saturating_sub(unused)));
        true
    }
}

fn new_stream(level: u8, direction: Direction) -> Compress {
    Compress::new_with_window_bits(Compression::new(u32::from(level)), false, direction.zlib_window_bits())
}

/// Appends the compressed payload from `body` on, without its tail; false if it is not shorter. Then what was appended is
/// to be dropped, and the stream to be reset.
fn compress(stream: &mut Compress, mut payload: &[u8], out: &mut Vec<u8>, body: usize) -> bool {
    let most = payload.len().saturating_add(TAIL.len());
    loop {
        let (read, written) = (stream.total_in(), out.len());
        let status = stream.compress_vec(payload, out, FlushCompress::Sync);
        let read = stream.total_in().saturating_sub(read) as usize;
        payload = payload.get(read..).unwrap_or_default();
        if status.is_err() || out.len().saturating_sub(body) >= most {
            return false;
        }
        // All is flushed once there is room left.
        if payload.is_empty() && out.len() < out.capacity() {
            break;
        }
        if read == 0 && out.len() == written {
            return false;
        }
        out.reserve(TAIL.len());
    }
    let without_tail = out.len().saturating_sub(TAIL.len());
    let is_whole = without_tail >= body && out.ends_with(TAIL);
    debug_assert!(is_whole, "a flushed block ends with an empty one");
    out.truncate(without_tail);
    is_whole
}
