//! What waits to be written to one connection.
//!
//! Small answers are joined, so that a pipelining client gets one write for all that is ready; large ones keep their
//! own memory, which may be the application's, and leave by `writev`, uncopied. Files leave by `sendfile`.

use crate::stream::{Moved, Stream};
use crate::sys::Fd;
use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;
use std::os::fd::AsFd;
use std::sync::Arc;

/// Bytes that belong to somebody else, who keeps them as they are until this is dropped.
pub type Borrowed = Box<dyn AsRef<[u8]> + Send>;

/// Bytes on their way into an outbox.
pub enum Piece {
    /// In memory of their own.
    Owned(Vec<u8>),
    /// In memory of somebody else.
    Borrowed(Borrowed),
    /// In memory that several connections share.
    Shared(Arc<[u8]>),
    /// In a file.
    File(FilePart),
    /// Several, one behind the other.
    Many(Vec<Piece>),
}

/// Bytes of a file that are sent when their turn comes. Should the file be shorter by then, the connection is broken off:
/// nothing can take the place of bytes that were promised.
#[derive(Clone, Debug)]
pub struct FilePart {
    /// The file, open for reading.
    pub file: Arc<Fd>,
    /// Where they start.
    pub offset: u64,
    /// How many.
    pub len: u64,
}

impl Piece {
    /// The bytes, unless they have to be fetched first.
    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Piece::Owned(bytes) => Some(bytes),
            Piece::Borrowed(keeper) => Some((**keeper).as_ref()),
            Piece::Shared(bytes) => Some(bytes),
            Piece::File(_) | Piece::Many(_) => None,
        }
    }

    fn len(&self) -> u64 {
        match self {
            Piece::File(part) => part.len,
            Piece::Many(pieces) => pieces.iter().map(Piece::len).sum(),
            piece => piece.bytes().map_or(0, |bytes| bytes.len() as u64),
        }
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
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
    written: u64,
    /// Bytes waiting in all, those in files included.
    pending: u64,
    /// Bytes that the socket has taken since the beginning.
    taken: u64,
}

/// Pieces up to this size are copied to the end of the piece before them.
const JOINED_PIECE: usize = 8 * 1024;
/// A piece does not grow beyond this by joining.
const JOINED_TOTAL: usize = 64 * 1024;
/// Slices of one `writev`.
const SLICES: usize = 32;
/// What fits into a few packets.
const SHORT: usize = 16 * 1024;
/// What is worth a call more, so that its packets leave in one go. Measured: nothing is gained below.
const LONG: usize = 256 * 1024;
/// As above, for files, which are not copied.
const LONG_FILE: u64 = 1024 * 1024;
/// Bytes of files written at a time: whoever reads as fast as we write must not keep the others waiting.
const BURST: usize = 2 * 1024 * 1024;

impl Outbox {
    /// Bytes waiting, those in files included: they cost no memory, but what comes behind them has to wait all the same.
    pub fn pending(&self) -> u64 {
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
        let piece = match piece.into() {
            Piece::Many(pieces) => return pieces.into_iter().for_each(|piece| self.push(piece)),
            piece => piece,
        };
        let length = piece.len();
        if length == 0 {
            return;
        }
        self.pending += length;
        match (self.pieces.back_mut(), piece.bytes()) {
            (Some(Piece::Owned(last)), Some(bytes))
                if bytes.len() <= JOINED_PIECE && last.len() + bytes.len() <= JOINED_TOTAL =>
            {
                last.extend_from_slice(bytes);
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
                self.pending += (last.len() - before) as u64;
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

    /// Writes to `stream` until nothing waits or the socket takes no more. `Bytes` tells how many were written; when the
    /// outbox is not empty then, it is the turn of others before this one goes on. With `closes`, `stream` is closed when all
    /// is written: what is short leaves together with the end.
    pub fn write_to(&mut self, stream: &Stream, closes: bool) -> Moved {
        let mut total = 0;
        let mut sent = 0;
        while let Some(first) = self.pieces.front() {
            if let Piece::File(part) = first {
                if sent >= BURST {
                    break;
                }
                let count = usize::try_from(part.len - self.written).unwrap_or(BURST).min(BURST - sent);
                match stream.send_file(part.file.as_fd(), part.offset + self.written, count) {
                    // The file was longer when its length was told.
                    Moved::Bytes(0) => return Moved::Broken,
                    // A short one says nothing: the next one will.
                    Moved::Bytes(count) => {
                        (total, sent) = (total + count, sent + count);
                        self.advance(count as u64);
                    }
                    stopped => return stopped,
                }
                continue;
            }
            let (moved, wanted) = self.write_memory(stream, closes);
            match moved {
                Moved::Bytes(count) => {
                    total += count;
                    self.advance(count as u64);
                    // A short write means a full socket buffer: the event for more space is on its way.
                    if count < wanted && stream.short_write_fills() {
                        return Moved::WouldBlock;
                    }
                }
                stopped => return stopped,
            }
        }
        Moved::Bytes(total)
    }

    /// Writes the pieces in memory that come first, and tells how many bytes they have.
    fn write_memory(&self, stream: &Stream, closes: bool) -> (Moved, usize) {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        for (slice, bytes) in slices.iter_mut().zip(self.pieces.iter().map_while(Piece::bytes)) {
            let from = if count == 0 { self.written as usize } else { 0 };
            *slice = IoSlice::new(&bytes[from..]);
            count += 1;
        }
        let slices = &slices[..count];
        let length = |slices: &[IoSlice<'_>]| slices.iter().map(|slice| slice.len()).sum::<usize>();
        let ahead = match (slices.iter().position(|slice| slice.len() >= LONG), self.pieces.get(count)) {
            (Some(long), _) => &slices[..long],
            (None, Some(Piece::File(part))) if part.len >= LONG_FILE => slices,
            _ => &[],
        };
        if !ahead.is_empty() && length(ahead) <= SHORT && stream.queues_apart() {
            return (stream.write_slices_apart(ahead), length(ahead));
        }
        let wanted = length(slices);
        let moved = match (slices, self.pieces.get(count)) {
            (_, Some(Piece::File(_))) => stream.write_slices_of_more(slices),
            (_, None) if closes && wanted <= SHORT => stream.write_slices_of_more(slices),
            ([only], _) => stream.write(only),
            _ => stream.write_slices(slices),
        };
        (moved, wanted)
    }

    fn advance(&mut self, mut count: u64) {
        self.taken += count;
        self.pending -= count.min(self.pending);
        while let Some(first) = self.pieces.front() {
            let left = first.len() - self.written;
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
        assert_eq!((outbox.pieces.len(), outbox.pending()), (2, JOINED_PIECE as u64 + 3));
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
            match outbox.write_to(&stream, false) {
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
        assert_eq!(outbox.write_to(&stream, false), Moved::Broken);
    }

    fn file(bytes: &[u8]) -> Arc<Fd> {
        use std::io::Write;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Arc::new(Fd::new(file.into()))
    }

    /// Writes all of it while the other end reads, and returns what was read. `stop` ends it early.
    fn write_out(mut outbox: Outbox, mut stop: impl FnMut(&Outbox) -> bool) -> (Moved, Vec<u8>) {
        let (stream, mut reader) = pair();
        let mut received = Vec::new();
        let mut buffer = vec![0; 150_000];
        let end = loop {
            match outbox.write_to(&stream, false) {
                Moved::Bytes(_) if outbox.is_empty() => break Moved::Bytes(0),
                Moved::Broken => break Moved::Broken,
                _ if stop(&outbox) => break Moved::WouldBlock,
                Moved::Bytes(_) => {}
                Moved::WouldBlock => {
                    let count = reader.read(&mut buffer).unwrap();
                    received.extend_from_slice(&buffer[..count]);
                }
            }
        };
        drop(stream);
        reader.read_to_end(&mut received).unwrap();
        (end, received)
    }

    #[test]
    fn files_and_memory_leave_in_order() {
        let content: Vec<u8> = (0..5_000_000u32).map(|index| (index % 251) as u8).collect();
        let file = file(&content);
        let part = |offset, len| Piece::File(FilePart { file: file.clone(), offset, len });
        let mut outbox = Outbox::default();
        outbox.push(b"head".to_vec());
        outbox.push(part(10, 0));
        outbox.push(Piece::Many(vec![part(3, 4), b"between".to_vec().into(), part(0, 5_000_000)]));
        outbox.push(b"tail".to_vec());
        assert_eq!(outbox.pending(), 4 + 4 + 7 + 5_000_000 + 4);
        let (end, received) = write_out(outbox, |_| false);
        assert_eq!(end, Moved::Bytes(0));
        let expected = [b"head", &content[3..7], b"between", &content, b"tail"].concat();
        assert!(received == expected);
    }

    #[test]
    fn a_file_that_has_shrunk_breaks_the_connection() {
        let file = file(&[b'x'; 1000]);
        let mut outbox = Outbox::default();
        outbox.push(b"head".to_vec());
        outbox.push(Piece::File(FilePart { file, offset: 0, len: 1001 }));
        outbox.push(b"next".to_vec());
        let (end, received) = write_out(outbox, |_| false);
        assert_eq!((end, received.len()), (Moved::Broken, 1004));
    }

    #[test]
    fn a_little_before_a_lot_leaves_in_order() {
        let body: Arc<[u8]> = (0..5 * LONG as u32).map(|index| (index % 251) as u8).collect();
        let part = FilePart { file: file(&body), offset: 0, len: body.len() as u64 };
        let expected = [b"head", &body[..], b"between", &body, b"tail"].concat();
        let unix = UnixStream::pair().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let tcp = (listener.accept().unwrap().0, client);
        tcp.0.set_nonblocking(true).unwrap();
        unix.0.set_nonblocking(true).unwrap();
        let ends: [(Fd, Box<dyn Read + Send>); 2] =
            [(Fd::new(unix.0.into()), Box::new(unix.1)), (Fd::new(tcp.0.into()), Box::new(tcp.1))];
        for (ours, mut theirs) in ends {
            let mut outbox = Outbox::default();
            outbox.push(b"head".to_vec());
            outbox.push(Piece::Shared(body.clone()));
            outbox.push(b"between".to_vec());
            outbox.push(Piece::File(part.clone()));
            outbox.push(b"tail".to_vec());
            let reading = std::thread::spawn(move || {
                let mut received = Vec::new();
                theirs.read_to_end(&mut received).map(|_| received)
            });
            let stream = Stream::new(ours);
            while !outbox.is_empty() {
                assert_ne!(outbox.write_to(&stream, false), Moved::Broken);
            }
            assert_eq!(outbox.taken(), expected.len() as u64);
            drop(stream);
            assert!(reading.join().unwrap().unwrap() == expected);
        }
    }

    #[test]
    fn a_fast_reader_does_not_keep_the_others_waiting() {
        let (stream, mut reader) = pair();
        let reading = std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()).unwrap());
        let mut outbox = Outbox::default();
        let length = 3 * BURST as u64;
        outbox.push(Piece::File(FilePart { file: file(&vec![0; 3 * BURST]), offset: 0, len: length }));
        while !outbox.is_empty() {
            if let Moved::Bytes(count) = outbox.write_to(&stream, false) {
                assert!(count <= BURST);
            }
        }
        drop(stream);
        assert_eq!(reading.join().unwrap(), length);
    }
}
