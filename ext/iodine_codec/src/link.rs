//! What master and workers say to each other over their links: frames, each with its length before it.
//!
//! Both ends are the same program, and nobody else has a link. What makes no sense all the same ends the link.

/// Who hears what is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All processes of the cluster.
    Cluster,
    /// This process.
    Process,
    /// All processes but this one.
    Siblings,
    /// The root process.
    Root,
}

/// Something said over a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'f> {
    /// Worker: it serves.
    Ready,
    /// Master: the worker is to end.
    Stop,
    /// A message for the other side and, if the worker says it, for those that the scope names.
    Publish {
        /// Who is to hear it.
        scope: Scope,
        /// The channel.
        channel: &'f [u8],
        /// The message.
        data: &'f [u8],
    },
    /// Worker: somebody there hears this channel from here on, or nobody does any more.
    Channel {
        /// The channel or the pattern.
        name: &'f [u8],
        /// Whether it is a pattern.
        pattern: bool,
        /// Whether there is somebody.
        heard: bool,
    },
    /// Worker: something for an engine of the root.
    Ask {
        /// Which engine.
        engine: u32,
        /// What the reply is to be called; 0 if none is wanted.
        id: u64,
        /// What is asked.
        bytes: &'f [u8],
    },
    /// Master: the reply to what was asked.
    Reply {
        /// As in [`Frame::Ask`].
        id: u64,
        /// The reply.
        bytes: &'f [u8],
    },
}

/// Bytes of a frame's length.
const LENGTH: usize = 4;

const READY: u8 = b'R';
const STOP: u8 = b'S';
const PUBLISH: u8 = b'P';
const CHANNEL: u8 = b'C';
const ASK: u8 = b'A';
const REPLY: u8 = b'Y';

impl Frame<'_> {
    /// Appends the frame. What is longer than a length can tell, 4 GiB, is left out, which the caller has excluded.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; LENGTH]);
        match *self {
            Frame::Ready => out.push(READY),
            Frame::Stop => out.push(STOP),
            Frame::Publish { scope, channel, data } => {
                out.extend_from_slice(&[PUBLISH, scope_byte(scope)]);
                out.extend_from_slice(&(channel.len() as u32).to_be_bytes());
                out.extend_from_slice(channel);
                out.extend_from_slice(data);
            }
            Frame::Channel { name, pattern, heard } => {
                out.extend_from_slice(&[CHANNEL, u8::from(pattern), u8::from(heard)]);
                out.extend_from_slice(name);
            }
            Frame::Ask { engine, id, bytes } => {
                out.push(ASK);
                out.extend_from_slice(&engine.to_be_bytes());
                out.extend_from_slice(&id.to_be_bytes());
                out.extend_from_slice(bytes);
            }
            Frame::Reply { id, bytes } => {
                out.push(REPLY);
                out.extend_from_slice(&id.to_be_bytes());
                out.extend_from_slice(bytes);
            }
        }
        let length = out.len().saturating_sub(start).saturating_sub(LENGTH);
        let Ok(length) = u32::try_from(length) else { return out.truncate(start) };
        if let Some(place) = out.get_mut(start..start.saturating_add(LENGTH)) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }

    /// The frame in memory of its own.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    fn decode(body: &[u8]) -> Option<Frame<'_>> {
        let (kind, rest) = body.split_first()?;
        match (*kind, rest) {
            (READY, []) => Some(Frame::Ready),
            (STOP, []) => Some(Frame::Stop),
            (PUBLISH, [scope, rest @ ..]) => {
                let (length, rest) = rest.split_first_chunk()?;
                let (channel, data) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
                Some(Frame::Publish { scope: scope_of(*scope)?, channel, data })
            }
            (CHANNEL, [pattern @ 0..=1, heard @ 0..=1, name @ ..]) => {
                Some(Frame::Channel { name, pattern: *pattern == 1, heard: *heard == 1 })
            }
            (ASK, rest) => {
                let (engine, rest) = rest.split_first_chunk()?;
                let (id, bytes) = rest.split_first_chunk()?;
                Some(Frame::Ask { engine: u32::from_be_bytes(*engine), id: u64::from_be_bytes(*id), bytes })
            }
            (REPLY, rest) => {
                let (id, bytes) = rest.split_first_chunk()?;
                Some(Frame::Reply { id: u64::from_be_bytes(*id), bytes })
            }
            _ => None,
        }
    }
}

const fn scope_byte(scope: Scope) -> u8 {
    match scope {
        Scope::Cluster => b'c',
        Scope::Process => b'p',
        Scope::Siblings => b's',
        Scope::Root => b'r',
    }
}

const fn scope_of(byte: u8) -> Option<Scope> {
    match byte {
        b'c' => Some(Scope::Cluster),
        b'p' => Some(Scope::Process),
        b's' => Some(Scope::Siblings),
        b'r' => Some(Scope::Root),
        _ => None,
    }
}

/// The other side speaks in a way that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Garbled;

/// Takes frames out of bytes as they come.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
    /// Bytes of it that are decoded already.
    used: usize,
}

impl FrameDecoder {
    /// Adds what was read.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.used > 0 {
            self.buffer.drain(..self.used);
            self.used = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame. Without one all that is left waits for more.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, Garbled> {
        let rest = self.buffer.get(self.used..).unwrap_or_default();
        let Some((length, rest)) = rest.split_first_chunk::<LENGTH>() else { return Ok(self.pause()) };
        let Some(body) = rest.get(..u32::from_be_bytes(*length) as usize) else { return Ok(self.pause()) };
        let start = self.used.saturating_add(LENGTH);
        let end = start.saturating_add(body.len());
        self.used = end;
        let body = self.buffer.get(start..end).unwrap_or_default();
        Frame::decode(body).map(Some).ok_or(Garbled)
    }

    /// An idle link keeps no memory.
    fn pause<T>(&mut self) -> Option<T> {
        if self.used == self.buffer.len() {
            *self = FrameDecoder::default();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMES: [Frame<'_>; 11] = [
        Frame::Ready,
        Frame::Stop,
        Frame::Publish { scope: Scope::Cluster, channel: b"news", data: b"hello" },
        Frame::Publish { scope: Scope::Process, channel: b"", data: b"" },
        Frame::Publish { scope: Scope::Siblings, channel: b"\0\xff", data: b"x" },
        Frame::Publish { scope: Scope::Root, channel: b"a", data: b"" },
        Frame::Channel { name: b"a*", pattern: true, heard: true },
        Frame::Channel { name: b"", pattern: false, heard: false },
        Frame::Ask { engine: 7, id: 1 << 40, bytes: b"PING" },
        Frame::Reply { id: 1 << 40, bytes: b"+PONG\r\n" },
        Frame::Reply { id: 0, bytes: b"" },
    ];

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let mut stream = Vec::new();
        FRAMES.iter().for_each(|frame| frame.encode(&mut stream));
        for size in 1..=stream.len() {
            let mut decoder = FrameDecoder::default();
            let mut expected = FRAMES.iter();
            for piece in stream.chunks(size) {
                decoder.feed(piece);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    assert_eq!(Some(&frame), expected.next());
                }
            }
            assert_eq!(expected.next(), None, "in pieces of {size}");
            assert_eq!(decoder.buffer.capacity(), 0, "nothing is kept");
        }
    }

    #[test]
    fn what_makes_no_sense_is_no_frame() {
        let bodies: [&[u8]; 11] = [
            b"",
            b"?",
            b"Rx",
            b"P",
            b"Px\0\0\0\0",
            b"Pc\0\0\0\x02a",
            b"C\x02\0a",
            b"C\0",
            b"A\0\0\0\x01",
            b"Y\0",
            b"Pc\xff\xff\xff\xffab",
        ];
        for body in bodies {
            let mut decoder = FrameDecoder::default();
            decoder.feed(&(body.len() as u32).to_be_bytes());
            decoder.feed(body);
            assert_eq!(decoder.next_frame(), Err(Garbled), "{}", body.escape_ascii());
        }
    }
}
