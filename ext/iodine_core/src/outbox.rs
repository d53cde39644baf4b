//! What waits to be written to one connection.
//!
//! Small answers are joined, so that a pipelining client gets one write for all that is ready; large ones keep their
//! own memory, which may be the application's, and leave by `writev`, uncopied.

use crate::stream::{Moved, Stream};
use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;

/// Bytes that belong to somebody else, who keeps them as they are until this is dropped.
pub type Borrowed = Box<dyn AsRef<[u8]> + Send>;

/// Bytes on their way into an outbox.
pub enum Piece {
    /// In memory of their own.
    Owned(Vec<u8>),
    /// In memory of somebody else.
    Borrowed(Borrowed),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Piece::Owned(bytes) => bytes,
            Piece::Borrowed(keeper) => (**keeper).as_ref(),
        }
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes().len())
    }
}

impl From<Borrowed> for Piece {
    fn from(bytes: Borrowed) -> Piece {
        Piece::Borrowed(bytes)
    }
}

impl From<Vec<u8>> for Piece {
    fn from(bytes: Vec<u8>) -> Piece {
        Piece::Owned(bytes)
    }
}

/// Bytes that wait to be written, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that are written already. Invariant: less than its length.
    written: usize,
    /// Bytes waiting in all.
    pending: usize,
    /// Bytes that the socket has taken since the beginning.
    taken: u64,
}

/// Pieces up to this size are copied to the end of the piece before them.
const JOINED_PIECE: usize = 8 * 1024;
/// A piece does not grow beyond this by joining.
const JOINED_TOTAL: usize = 64 * 1024;
/// Slices of one `writev`.
const SLICES: usize = 32;

impl Outbox {
    /// Bytes waiting.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// Bytes that the socket has taken since the beginning.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Adds `piece` behind all that waits.
    pub fn push(&mut self, piece: impl Into<Piece>) {
        let piece = piece.into();
        let length = piece.bytes().len();
        if length == 0 {
            return;
        }
        self.pending += length;
        match self.pieces.back_mut() {
            Some(Piece::Owned(last)) if length <= JOINED_PIECE && last.len() + length <= JOINED_TOTAL => {
                last.extend_from_slice(piece.bytes());
            }
            _ => self.pieces.push_back(piece),
        }
    }

    /// Adds what `write` appends, about `length` bytes, behind all that waits: without memory of its own while small.
    pub fn extend(&mut self, length: usize, write: impl FnOnce(&mut Vec<u8>)) {
        match self.pieces.back_mut() {
            Some(Piece::Owned(last))
                if length <= JOINED_PIECE && last.len().saturating_add(length) <= JOINED_TOTAL =>
            {
                let before = last.len();
                write(last);
                self.pending += last.len() - before;
            }
            _ => {
                let mut piece = Vec::with_capacity(length);
                write(&mut piece);
                self.push(piece);
            }
        }
    }

    /// Drops all that waits.
    pub fn clear(&mut self) {
        *self = Outbox::default();
    }

    /// Writes to `stream` until nothing waits or the socket takes no more. `Bytes` tells how many were written and that
    /// the outbox is empty.
    pub fn write_to(&mut self, stream: &Stream) -> Moved {
        let mut total = 0;
        while let Some(first) = self.pieces.front() {
            let wanted;
            let moved = if self.pieces.len() == 1 {
                let left = &first.bytes()[self.written..];
                wanted = left.len();
                stream.write(left)
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let mut count = 0;
                for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                    let from = if count == 0 { self.written } else { 0 };
                    *slice = IoSlice::new(&piece.bytes()[from..]);
                    count += 1;
                }
                wanted = slices[..count].iter().map(|slice| slice.len()).sum();
                stream.write_slices(&slices[..count])
            };
            match moved {
                Moved::Bytes(count) => {
                    total += count;
                    self.advance(count);
                    // A short write means a full socket buffer: the event for more space is on its way.
                    if count < wanted {
                        return Moved::WouldBlock;
                    }
                }
                stopped => return stopped,
            }
        }
        Moved::Bytes(total)
    }

    fn advance(&mut self, mut count: usize) {
        self.taken += count as u64;
        self.pending -= count.min(self.pending);
        while let Some(first) = self.pieces.front() {
            let left = first.bytes().len() - self.written;
            if count < left {
                self.written += count;
                return;
            }
            count -= left;
            self.written = 0;
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Fd;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    fn pair() -> (Stream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (Stream::new(Fd::new(ours.into())), theirs)
    }

    #[test]
    fn joins_small_pieces_and_keeps_large_ones() {
        let mut outbox = Outbox::default();
        outbox.push(b"a".to_vec());
        outbox.push(b"b".to_vec());
        assert_eq!(outbox.pieces.len(), 1);
        outbox.push(vec![b'c'; JOINED_PIECE + 1]);
        assert_eq!((outbox.pieces.len(), outbox.pending()), (2, JOINED_PIECE + 3));
    }

    #[test]
    fn writes_everything_in_order_past_a_full_socket() {
        let (stream, mut reader) = pair();
        let mut outbox = Outbox::default();
        let mut expected = Vec::new();
        for index in 0..100u8 {
            let piece = vec![index; 20_000];
            expected.extend_from_slice(&piece);
            outbox.push(piece);
        }
        let mut received = Vec::new();
        let mut buffer = vec![0; 150_000];
        loop {
            match outbox.write_to(&stream) {
                Moved::Bytes(_) => break,
                Moved::WouldBlock => {
                    let count = reader.read(&mut buffer).unwrap();
                    received.extend_from_slice(&buffer[..count]);
                }
                Moved::Broken => panic!("broken"),
            }
        }
        assert_eq!(outbox.pending(), 0);
        drop(stream);
        reader.read_to_end(&mut received).unwrap();
        assert!(received == expected);
    }

    #[test]
    fn tells_a_broken_connection() {
        let (stream, reader) = pair();
        drop(reader);
        let mut outbox = Outbox::default();
        outbox.push(b"x".to_vec());
        assert_eq!(outbox.write_to(&stream), Moved::Broken);
    }
}
