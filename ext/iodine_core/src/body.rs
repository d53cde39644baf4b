//! Request bodies while they arrive and after: in memory while small, in an unlinked temporary file beyond.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

/// The body of a request.
#[derive(Debug, Default)]
pub enum Body {
    /// There is none.
    #[default]
    Empty,
    /// A body in memory.
    Memory(Vec<u8>),
    /// A body in a file that has no name any more; it is positioned at its start.
    File {
        /// The file.
        file: File,
        /// Bytes in it.
        len: u64,
    },
}

impl Body {
    /// Bytes of the body.
    pub fn len(&self) -> u64 {
        match self {
            Body::Empty => 0,
            Body::Memory(bytes) => bytes.len() as u64,
            Body::File { len, .. } => *len,
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A body that is still arriving.
#[derive(Debug)]
pub struct BodySink {
    stored: Body,
    /// Bytes that may stay in memory.
    memory: usize,
    /// The last bytes of a body in a file, which counts them already: a chunk may be a single byte, and not each is worth a
    /// system call. Less than [`WRITE`].
    unwritten: Vec<u8>,
}

/// Memory set aside for a body before any of it is there.
const FIRST_CAPACITY: u64 = 64 * 1024;
/// Bytes that are worth a write to the file.
const WRITE: usize = 16 * 1024;

impl BodySink {
    /// A sink for a body of `expected` bytes (0 when unknown), of which up to `memory` stay in memory.
    pub fn new(expected: u64, memory: usize) -> BodySink {
        let stored = match expected {
            0 => Body::Empty,
            // Not all at once: the length is only a promise of the client.
            n => Body::Memory(Vec::with_capacity(n.min(FIRST_CAPACITY).min(memory as u64) as usize)),
        };
        BodySink { stored, memory, unwritten: Vec::new() }
    }

    /// Bytes received so far.
    pub fn received(&self) -> u64 {
        self.stored.len()
    }

    /// Takes a piece of the body. Fails when the temporary file does.
    pub fn push(&mut self, piece: &[u8]) -> io::Result<()> {
        if piece.is_empty() {
            return Ok(());
        }
        match &mut self.stored {
            Body::Empty if piece.len() <= self.memory => self.stored = Body::Memory(piece.to_vec()),
            Body::Memory(bytes) if bytes.len() + piece.len() <= self.memory => bytes.extend_from_slice(piece),
            Body::File { file, len } => {
                if self.unwritten.len() + piece.len() >= WRITE {
                    file.write_all(&self.unwritten)?;
                    self.unwritten.clear();
                }
                if piece.len() >= WRITE {
                    file.write_all(piece)?;
                } else {
                    self.unwritten.extend_from_slice(piece);
                }
                *len += piece.len() as u64;
            }
            _ => self.spill(piece)?,
        }
        Ok(())
    }

    /// The memory that the next `wanted` bytes may be read into, when they may stay in memory.
    pub fn spare(&mut self, wanted: u64) -> Option<&mut Vec<u8>> {
        match &mut self.stored {
            Body::Memory(bytes) if bytes.len() as u64 + wanted <= self.memory as u64 => {
                // Doubling, and no more than the client has shown to be in earnest about.
                let step = (bytes.len() as u64).max(FIRST_CAPACITY).min(wanted) as usize;
                bytes.reserve_exact(step);
                Some(bytes)
            }
            _ => None,
        }
    }

    /// The body is complete. Fails when the temporary file does.
    pub fn finish(self) -> io::Result<Body> {
        match self.stored {
            Body::Memory(bytes) if bytes.is_empty() => Ok(Body::Empty),
            Body::File { mut file, len } => {
                file.write_all(&self.unwritten)?;
                file.seek(SeekFrom::Start(0))?;
                Ok(Body::File { file, len })
            }
            stored => Ok(stored),
        }
    }

    fn spill(&mut self, piece: &[u8]) -> io::Result<()> {
        let mut file = tempfile::tempfile()?;
        if let Body::Memory(bytes) = &self.stored {
            file.write_all(bytes)?;
        }
        file.write_all(piece)?;
        let len = self.stored.len() + piece.len() as u64;
        self.stored = Body::File { file, len };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn collect(pieces: &[&[u8]], expected: u64, memory: usize) -> Body {
        let mut sink = BodySink::new(expected, memory);
        pieces.iter().for_each(|piece| sink.push(piece).unwrap());
        sink.finish().unwrap()
    }

    #[test]
    fn stays_in_memory_up_to_the_limit() {
        assert!(matches!(collect(&[b"abc", b"de"], 0, 5), Body::Memory(bytes) if bytes == b"abcde"));
        assert!(matches!(collect(&[b""], 3, 5), Body::Empty));
    }

    #[test]
    fn spills_beyond_it_and_reads_from_the_start() {
        for pieces in [&[b"abc".as_slice(), b"def"][..], &[b"abcdef"], &[b"ab", b"cde", b"f"]] {
            let Body::File { mut file, len } = collect(pieces, 6, 5) else { panic!("not spilled") };
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!((text.as_str(), len), ("abcdef", 6));
        }
    }

    #[test]
    fn pieces_are_written_in_order_and_not_one_by_one() {
        let bytes: Vec<u8> = (0..10 * WRITE as u32).map(|index| (index % 251) as u8).collect();
        let mut sink = BodySink::new(0, 5);
        let (mut at, mut writes, mut written) = (0, 0, 0);
        for size in
            (0..).flat_map(|round| [1, 1, 1000 * round % WRITE, 1, [WRITE - 1, WRITE, WRITE + 1][round % 3]])
        {
            let piece = &bytes[at..bytes.len().min(at + size)];
            sink.push(piece).unwrap();
            at += piece.len();
            assert_eq!(sink.received(), at as u64);
            if at == bytes.len() {
                break;
            }
        }
        for _ in 0..4 * WRITE {
            sink.push(b"x").unwrap();
            let Body::File { file, .. } = &sink.stored else { panic!("not spilled") };
            let length = file.metadata().unwrap().len();
            writes += u64::from(length != std::mem::replace(&mut written, length));
        }
        assert!(writes <= 6, "{writes} writes");
        let Body::File { mut file, len } = sink.finish().unwrap() else { panic!("not spilled") };
        let mut stored = Vec::new();
        file.read_to_end(&mut stored).unwrap();
        assert_eq!(stored.len() as u64, len);
        assert!(stored == [bytes, vec![b'x'; 4 * WRITE]].concat());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_told_by_the_next_write_or_at_the_end() {
        let full = || {
            let file = File::options().write(true).open("/dev/full").unwrap();
            BodySink { stored: Body::File { file, len: 0 }, memory: 0, unwritten: Vec::new() }
        };
        let mut sink = full();
        sink.push(&[0; WRITE - 1]).unwrap();
        assert!(sink.push(b"x").is_err());
        assert!(full().push(&[0; WRITE]).is_err());
        let mut sink = full();
        sink.push(b"x").unwrap();
        assert!(sink.finish().is_err());
    }

    #[test]
    fn gives_no_spare_memory_to_what_must_spill() {
        let mut sink = BodySink::new(100, 50);
        assert!(sink.spare(100).is_none());
        assert!(sink.spare(50).is_some());
    }
}
