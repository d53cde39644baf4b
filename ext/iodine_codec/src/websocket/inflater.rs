//! Messages inflated as they come in (RFC 7692 section 7.2.2).

use super::Violation;
use flate2::{Decompress, FlushDecompress, Status};

/// What the sender left out at the end of a message.
const TAIL: &[u8] = &[0, 0, 0xff, 0xff];
/// An empty last block: behind a whole message it ends the stream, behind a truncated one it does not.
const LAST_BLOCK: &[u8] = &[1, 0, 0, 0xff, 0xff];
/// The farthest that a block refers back.
const WINDOW: usize = 1 << 15;
const FIRST_ROOM: usize = 512;

/// The state between pieces of a message, and between messages where the sender takes its context over.
#[derive(Debug)]
pub(super) struct Inflater {
    stream: Decompress,
    context_takeover: bool,
    /// The sender ended its stream with a last block; another may follow (RFC 7692 section 7.2.3.5).
    is_ended: bool,
}

impl Inflater {
    /// An inflater for any window: a smaller one would take as much memory, and what looks back farther than was agreed on
    /// would pass or not depending on how it was cut.
    pub(super) fn new(context_takeover: bool) -> Inflater {
        Inflater { stream: Decompress::new(false), context_takeover, is_ended: false }
    }

    /// Inflates a piece of a message behind what there is of it. No more than `limit` bytes are kept.
    pub(super) fn inflate(
        &mut self,
        mut input: &[u8],
        data: &mut Vec<u8>,
        limit: usize,
    ) -> Result<(), Violation> {
        while !input.is_empty() || data.len() == data.capacity() {
            if self.is_ended {
                if input.is_empty() {
                    return Ok(());
                }
                self.restart(data)?;
            }
            make_room(data, input.len(), limit);
            let (read, written) = (self.stream.total_in(), data.len());
            let status = self.stream.decompress_vec(input, data, FlushDecompress::None);
            let read = self.stream.total_in().saturating_sub(read) as usize;
            input = input.get(read..).unwrap_or_default();
            if data.len() > limit {
                data.truncate(limit);
                return Err(Violation::TooBig);
            }
            match status {
                Ok(Status::StreamEnd) => self.is_ended = true,
                Ok(_) if read > 0 || data.len() > written => {}
                Ok(_) if input.is_empty() => return Ok(()),
                Ok(_) | Err(_) => return Err(Violation::BadCompression),
            }
        }
        Ok(())
    }

    /// Ends a message.
    pub(super) fn finish(&mut self, data: &mut Vec<u8>, limit: usize) -> Result<(), Violation> {
        // Who ends its stream and adds nothing to it has said all there is to say.
        if !self.is_ended {
            self.inflate(TAIL, data, limit)?;
            if !self.context_takeover {
                self.inflate(LAST_BLOCK, data, limit)?;
                return if self.is_ended { Ok(()) } else { Err(Violation::BadCompression) };
            }
        }
        if self.is_ended && self.context_takeover {
            self.restart(data)?;
        }
        Ok(())
    }

    /// Begins another stream, which may refer to what this message holds so far. References to messages before it do not
    /// survive the end of a stream: zlib gives its window up with it.
    fn restart(&mut self, data: &[u8]) -> Result<(), Violation> {
        self.stream.reset(false);
        self.is_ended = false;
        let window = data.get(data.len().saturating_sub(WINDOW)..).unwrap_or_default();
        if !window.is_empty() {
            self.stream.set_dictionary(window).map_err(|_| Violation::BadCompression)?;
        }
        Ok(())
    }
}

/// Room for at least a byte, at first for what a piece commonly inflates to, then doubling; and for no more than one byte
/// over the limit.
fn make_room(data: &mut Vec<u8>, piece: usize, limit: usize) {
    if data.len() == data.capacity() {
        let most = limit.saturating_add(1);
        let guess = if data.is_empty() { piece.saturating_mul(4) } else { data.len().saturating_mul(2) };
        let wanted = guess.max(FIRST_ROOM).min(most);
        data.reserve_exact(wanted.saturating_sub(data.len()));
    }
}
