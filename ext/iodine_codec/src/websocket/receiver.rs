//! What arrives on a connection: bytes in, messages and control frames out, however the bytes were cut.
//!
//! Between messages a receiver holds no memory, except for what the peer's compressed messages may refer to, and that only
//! if it was agreed on. It may be driven by any one thread.

use super::close::{self, CloseReason};
use super::deflate::Deflate;
use super::frame::{Header, Opcode, PartialHeader};
use super::inflater::Inflater;
use super::{Kind, Role, Violation, mask};

/// What came of some input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// All input is consumed and more is needed.
    NeedMore,
    /// A whole message (RFC 6455 section 6.2). A text is UTF-8.
    Message {
        /// Whether it is a text.
        kind: Kind,
        /// Its fragments, joined, unmasked and inflated.
        data: Vec<u8>,
    },
    /// To be answered by a Pong with the same payload (RFC 6455 section 5.5.2).
    Ping(Vec<u8>),
    /// Perhaps the answer to a Ping (RFC 6455 section 5.5.3).
    Pong(Vec<u8>),
    /// The peer sends nothing more, and wants a Close for an answer, unless this is one (RFC 6455 section 5.5.1). What
    /// arrives behind it is consumed and dropped.
    Close(Option<CloseReason>),
}

/// Receives messages (RFC 6455 section 6.2).
#[derive(Debug)]
pub struct Receiver {
    role: Role,
    /// Whether the peer may compress, and if so, whether its messages may refer to those before them.
    context_takeover: Option<bool>,
    max_message: usize,
    state: State,
    /// The message under way. Control frames may stand between its frames.
    message: Option<Message>,
    /// There is one inside a compressed message, and behind the first one if the context is taken over.
    inflater: Option<Box<Inflater>>,
}

#[derive(Debug)]
enum State {
    Header(PartialHeader),
    /// In the payload of a data frame of the message.
    Data(Payload),
    /// In the payload of a control frame, which has at most 125 bytes.
    Control {
        opcode: Opcode,
        data: Vec<u8>,
        payload: Payload,
    },
    /// Nothing that follows a Close frame is looked at (RFC 6455 section 1.4).
    Closed,
    /// Nothing that follows a violation is looked at (RFC 6455 section 7.1.7).
    Failed(Violation),
}

/// What is to come of a frame's payload.
#[derive(Clone, Copy, Debug)]
struct Payload {
    remaining: usize,
    /// As it applies to the next byte.
    mask: Option<[u8; 4]>,
    /// It is the last of its message.
    is_final: bool,
}

#[derive(Debug)]
struct Message {
    kind: Kind,
    data: Vec<u8>,
    /// Of a text so much is known to be UTF-8, up to the beginning of a character that may not be complete.
    valid: usize,
    /// How much of it came, if it is compressed.
    compressed: Option<usize>,
}

impl Receiver {
    /// A receiver at the start of a connection: `role` is ours, and no message may have more than `max_message` bytes.
    pub fn new(role: Role, max_message: usize, deflate: Option<Deflate>) -> Receiver {
        let peer = match role {
            Role::Server => Role::Client,
            Role::Client => Role::Server,
        };
        Receiver {
            role,
            context_takeover: deflate.map(|deflate| deflate.context_takeover(peer)),
            max_message,
            state: State::Header(PartialHeader::default()),
            message: None,
            inflater: None,
        }
    }

    /// Takes one step and says how much of the input it used. The caller goes on with the rest of it until
    /// [`Step::NeedMore`], which uses all there is. A violation is final.
    pub fn decode(&mut self, input: &[u8]) -> Result<(usize, Step), Violation> {
        let mut rest = input;
        loop {
            match self.advance(&mut rest) {
                Ok(None) => {}
                Ok(Some(step)) => return Ok((input.len().saturating_sub(rest.len()), step)),
                Err(violation) => {
                    self.message = None;
                    self.inflater = None;
                    self.state = State::Failed(violation);
                    return Err(violation);
                }
            }
        }
    }

    /// True between messages, while nothing of the next frame has come. Not true any more once the connection closes.
    pub fn is_idle(&self) -> bool {
        self.message.is_none() && matches!(&self.state, State::Header(partial) if partial.is_empty())
    }

    /// Takes a header or a piece of a payload; `None` if that says nothing yet.
    fn advance(&mut self, rest: &mut &[u8]) -> Result<Option<Step>, Violation> {
        match &mut self.state {
            State::Header(partial) => match partial.read(rest, self.role, self.context_takeover.is_some())? {
                Some((header, used)) => {
                    *rest = rest.get(used..).unwrap_or_default();
                    if let Some(kind) = self.is_plain(&header, rest.len()) {
                        return whole(kind, &header, rest).map(Some);
                    }
                    self.begin(&header)?;
                    return Ok(None);
                }
                None => *rest = &[],
            },
            State::Data(payload) => {
                let (piece, mask) = payload.take(rest);
                let Payload { remaining, is_final, .. } = *payload;
                self.receive(piece, mask, remaining)?;
                if remaining == 0 {
                    self.state = State::Header(PartialHeader::default());
                    return if is_final { self.finish() } else { Ok(None) };
                }
            }
            State::Control { opcode, data, payload } => {
                let (piece, mask) = payload.take(rest);
                append(data, piece, mask, payload.remaining);
                if payload.remaining == 0 {
                    let (opcode, data) = (*opcode, std::mem::take(data));
                    return self.control(opcode, data).map(Some);
                }
            }
            State::Closed => *rest = &[],
            State::Failed(violation) => return Err(*violation),
        }
        Ok(Some(Step::NeedMore))
    }

    /// Whether a header is that of a whole message, not compressed, which is all there: the case to be quick about.
    #[inline]
    fn is_plain(&self, header: &Header, available: usize) -> Option<Kind> {
        let kind = match header.opcode {
            Opcode::Text => Kind::Text,
            Opcode::Binary => Kind::Binary,
            _ => return None,
        };
        let fits = header.length <= available as u64 && header.length <= self.max_message as u64;
        (fits && header.is_final && !header.is_compressed && self.message.is_none()).then_some(kind)
    }

    /// A header is complete.
    fn begin(&mut self, header: &Header) -> Result<(), Violation> {
        let kind = match header.opcode {
            opcode @ (Opcode::Close | Opcode::Ping | Opcode::Pong) => {
                let payload = Payload::new(header, header.length as usize);
                self.state = State::Control { opcode, data: Vec::new(), payload };
                return Ok(());
            }
            Opcode::Continuation => None,
            Opcode::Text => Some(Kind::Text),
            Opcode::Binary => Some(Kind::Binary),
        };
        // RFC 6455 section 5.4: messages neither interleave nor begin with a continuation.
        let message = match (kind, &mut self.message) {
            (Some(_), Some(_)) => return Err(Violation::MessageInterrupted),
            (None, None) => return Err(Violation::NothingToContinue),
            (None, Some(message)) => message,
            (Some(kind), message @ None) => message.insert(Message {
                kind,
                data: Vec::new(),
                valid: 0,
                compressed: header.is_compressed.then_some(0),
            }),
        };
        let length = usize::try_from(header.length).map_err(|_| Violation::TooBig)?;
        message.announce(length, self.max_message)?;
        self.state = State::Data(Payload::new(header, length));
        Ok(())
    }

    /// A piece of the message came, and so much of its frame is still to come.
    fn receive(&mut self, piece: &[u8], mask: Option<[u8; 4]>, remaining: usize) -> Result<(), Violation> {
        let Some(message) = &mut self.message else {
            debug_assert!(false, "a payload belongs to a message");
            return Ok(());
        };
        if message.compressed.is_none() {
            append(&mut message.data, piece, mask, remaining);
            return message.check();
        }
        let Some(context_takeover) = self.context_takeover else {
            debug_assert!(false, "what is compressed was agreed on");
            return Ok(());
        };
        // No inflater for what was only announced.
        if piece.is_empty() {
            return Ok(());
        }
        let inflater = self.inflater.get_or_insert_with(|| Box::new(Inflater::new(context_takeover)));
        let mut key = mask.unwrap_or_default();
        let mut unmasked = [0; UNMASKED];
        for piece in piece.chunks(UNMASKED) {
            let Some(unmasked) = unmasked.get_mut(..piece.len()) else { break };
            unmasked.copy_from_slice(piece);
            mask::apply(unmasked, key);
            key = mask::after(key, piece.len());
            let inflated = inflater.inflate(unmasked, &mut message.data, self.max_message);
            message.check_inflated(inflated)?;
        }
        Ok(())
    }

    /// The last frame of the message is complete.
    fn finish(&mut self) -> Result<Option<Step>, Violation> {
        let Some(mut message) = self.message.take() else {
            debug_assert!(false, "what ends has begun");
            return Ok(None);
        };
        // A compressed message of no bytes at all is not by the book, which has one byte for an empty message (RFC 7692
        // section 7.2.3.6), but it is clear what it means.
        if message.compressed.is_some_and(|length| length > 0) {
            if let Some(inflater) = &mut self.inflater {
                let inflated = inflater.finish(&mut message.data, self.max_message);
                message.check_inflated(inflated)?;
            }
        }
        if self.context_takeover != Some(true) {
            self.inflater = None;
        }
        match message.kind {
            Kind::Text if message.valid != message.data.len() => Err(Violation::NotUtf8),
            kind => Ok(Some(Step::Message { kind, data: message.data })),
        }
    }

    /// A control frame is complete.
    fn control(&mut self, opcode: Opcode, data: Vec<u8>) -> Result<Step, Violation> {
        self.state = State::Header(PartialHeader::default());
        Ok(match opcode {
            Opcode::Ping => Step::Ping(data),
            Opcode::Pong => Step::Pong(data),
            _ => {
                let reason = close::parse(&data)?;
                self.state = State::Closed;
                self.message = None;
                self.inflater = None;
                Step::Close(reason)
            }
        })
    }
}

impl Payload {
    fn new(header: &Header, length: usize) -> Payload {
        Payload { remaining: length, mask: header.mask, is_final: header.is_final }
    }

    /// What of the input belongs to this payload, and the mask for it.
    fn take<'i>(&mut self, rest: &mut &'i [u8]) -> (&'i [u8], Option<[u8; 4]>) {
        let length = self.remaining.min(rest.len());
        let (piece, after) = rest.split_at_checked(length).unwrap_or_default();
        *rest = after;
        self.remaining = self.remaining.saturating_sub(length);
        let mask = self.mask;
        self.mask = mask.map(|mask| mask::after(mask, length));
        (piece, mask)
    }
}

impl Message {
    /// Another frame of the message begins. Nothing of it is taken if it would be too much.
    fn announce(&mut self, length: usize, limit: usize) -> Result<(), Violation> {
        let (total, most) = match &mut self.compressed {
            None => (self.data.len().saturating_add(length), limit),
            Some(compressed) => {
                *compressed = compressed.saturating_add(length);
                (*compressed, longest_compressed(limit))
            }
        };
        if total > most { Err(Violation::TooBig) } else { Ok(()) }
    }

    /// RFC 6455 section 8.1, as early as possible: what is no UTF-8 now will not be UTF-8 with what follows.
    fn check(&mut self) -> Result<(), Violation> {
        if self.kind == Kind::Binary {
            return Ok(());
        }
        match std::str::from_utf8(self.data.get(self.valid..).unwrap_or_default()) {
            Ok(_) => self.valid = self.data.len(),
            Err(error) if error.error_len().is_none() => {
                self.valid = self.valid.saturating_add(error.valid_up_to());
            }
            Err(_) => return Err(Violation::NotUtf8),
        }
        Ok(())
    }

    /// What came first is judged first: a text may go wrong before its compression or its size does, and in whatever
    /// pieces it came, it must fail for the same reason.
    fn check_inflated(&mut self, inflated: Result<(), Violation>) -> Result<(), Violation> {
        self.check()?;
        inflated
    }
}

/// The message whose payload the input begins with.
#[inline]
fn whole(kind: Kind, header: &Header, rest: &mut &[u8]) -> Result<Step, Violation> {
    let (payload, after) = rest.split_at_checked(header.length as usize).unwrap_or_default();
    *rest = after;
    let mut data = payload.to_vec();
    if let Some(mask) = header.mask {
        mask::apply(&mut data, mask);
    }
    if kind == Kind::Text && std::str::from_utf8(&data).is_err() {
        return Err(Violation::NotUtf8);
    }
    Ok(Step::Message { kind, data })
}

/// Appends a piece of a payload, unmasked. The room grows with what arrives, not with what was announced.
fn append(data: &mut Vec<u8>, piece: &[u8], mask: Option<[u8; 4]>, remaining: usize) {
    let start = data.len();
    let needed = start.saturating_add(piece.len());
    if needed > data.capacity() {
        let wanted = data.capacity().saturating_mul(2).max(FIRST_ROOM);
        let room = wanted.min(needed.saturating_add(remaining)).max(needed);
        data.reserve_exact(room.saturating_sub(start));
    }
    data.extend_from_slice(piece);
    if let (Some(mask), Some(piece)) = (mask, data.get_mut(start..)) {
        mask::apply(piece, mask);
    }
}

/// How long a message of that size may be when compressed: somewhat longer than it is. Inflating holds no memory for it,
/// but a message must end some time.
fn longest_compressed(limit: usize) -> usize {
    limit.saturating_add(limit / 8).saturating_add(1024)
}

/// The most room that is made for a message of which only a piece came yet.
const FIRST_ROOM: usize = 64 * 1024;
/// Bytes unmasked at once, on their way to the inflater.
const UNMASKED: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_holds_little() {
        assert!(size_of::<Receiver>() <= 144, "{}", size_of::<Receiver>());
        let mut receiver = Receiver::new(Role::Client, 100, None);
        assert!(receiver.is_idle());
        assert_eq!(receiver.decode(b"\x81"), Ok((1, Step::NeedMore)));
        assert!(!receiver.is_idle());
        assert!(matches!(receiver.decode(b"\x01a"), Ok((2, Step::Message { .. }))));
        assert!(receiver.is_idle());
        assert_eq!(receiver.decode(b"\x01\x00"), Ok((2, Step::NeedMore)));
        assert!(!receiver.is_idle());
        assert_eq!(receiver.decode(b"\x88\x00\x88\x00"), Ok((2, Step::Close(None))));
        assert_eq!(receiver.decode(b"\x88\x00"), Ok((2, Step::NeedMore)));
        assert!(!receiver.is_idle());
    }

    #[test]
    fn room_grows_with_what_arrives() {
        let capacity = |receiver: &Receiver| receiver.message.as_ref().map(|message| message.data.capacity());
        let mut receiver = Receiver::new(Role::Client, usize::MAX, None);
        let header = b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff";
        assert_eq!(receiver.decode(header), Ok((10, Step::NeedMore)));
        assert_eq!(capacity(&receiver), Some(0));
        assert_eq!(receiver.decode(&[0; 100]), Ok((100, Step::NeedMore)));
        assert_eq!(capacity(&receiver), Some(FIRST_ROOM));
        assert_eq!(receiver.decode(&[0; FIRST_ROOM]), Ok((FIRST_ROOM, Step::NeedMore)));
        assert_eq!(capacity(&receiver), Some(FIRST_ROOM * 2));

        // What is there as a whole gets what it needs.
        let mut receiver = Receiver::new(Role::Client, usize::MAX, None);
        let Ok((_, Step::Message { data, .. })) = receiver.decode(b"\x81\x05hello") else { panic!() };
        assert_eq!(data.capacity(), 5);
    }

    #[test]
    fn a_violation_is_final() {
        let mut receiver = Receiver::new(Role::Client, 100, None);
        for input in [&b"\x83\x00"[..], b"\x81\x01a", b""] {
            assert_eq!(receiver.decode(input), Err(Violation::ReservedOpcode));
        }
        assert!(!receiver.is_idle());
    }
}
