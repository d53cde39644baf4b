//! The requests of one connection: bytes in, heads and bodies out, however the bytes were cut.
//!
//! The decoder copies a head once, into the [`RequestHead`]; bodies are handed on as slices of the input. Between
//! messages it holds no memory. It may be driven by any one thread.

use httparse::EMPTY_HEADER;

use super::chunked::{ChunkedDecoder, Piece};
use super::framing::{self, BodyLength, Framing};
use super::head_scan::{Found, HeadScan};
use super::{Limits, Rejection};
use crate::http::{HeaderSpan, RequestHead, Span, token};

/// A request whose head is complete.
#[derive(Clone, Debug)]
pub struct Request {
    /// The head.
    pub head: RequestHead,
    /// How long its body is, and whether another request may follow.
    pub framing: Framing,
}

/// What came of some input.
#[derive(Debug)]
pub enum Step<'i> {
    /// All input is consumed and more is needed.
    NeedMore,
    /// A request begins.
    Head(Request),
    /// A piece of its decoded body, never empty.
    Body(&'i [u8]),
    /// The request is complete. This follows every head, also one without a body.
    End,
}

/// Decodes the requests of one connection, one after the other.
#[derive(Debug)]
pub struct RequestDecoder {
    state: State,
    /// The head of a refused request that was all right by itself, until somebody takes it.
    refused: Option<Box<RequestHead>>,
}

#[derive(Debug)]
enum State {
    /// Before a request line; so many empty lines were skipped.
    Start {
        skipped: u8,
    },
    /// As before, and the last byte was the CR of an empty line.
    StartLf {
        skipped: u8,
    },
    /// In a head that did not come in one piece.
    Head(Box<PartialHead>),
    /// In a body with so many bytes to go. At 0 only `End` is left to say.
    Length(u64),
    Chunked(ChunkedDecoder),
    /// Nothing that follows a refused request is looked at.
    Refused {
        rejection: Rejection,
        is_head: bool,
    },
}

#[derive(Debug, Default)]
struct PartialHead {
    bytes: Vec<u8>,
    scan: HeadScan,
    is_head: bool,
}

impl RequestDecoder {
    /// A decoder at the start of a connection.
    pub const fn new() -> RequestDecoder {
        RequestDecoder { state: State::Start { skipped: 0 }, refused: None }
    }

    /// True between messages, while nothing of the next one has come (empty lines do not count).
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Start { .. } | State::StartLf { .. })
    }

    /// True from a head to the end of its message.
    pub fn in_body(&self) -> bool {
        matches!(self.state, State::Length(_) | State::Chunked(_))
    }

    /// True if the head that is arriving, or that was refused, is known to be that of a HEAD request: an answer to it has
    /// no body (RFC 9110 section 9.3.2). The method is known from the first blank on, whatever is wrong behind it.
    pub fn is_head(&self) -> bool {
        match &self.state {
            State::Head(partial) => partial.is_head,
            State::Refused { is_head, .. } => *is_head,
            State::Start { .. } | State::StartLf { .. } | State::Length(_) | State::Chunked(_) => false,
        }
    }

    /// The bytes to go in a body whose length was declared. The caller may read up to that many bytes straight into
    /// a buffer of its own, and tell [`consume_body`](Self::consume_body) instead of decoding them.
    pub fn body_remaining(&self) -> Option<u64> {
        match self.state {
            State::Length(remaining) => Some(remaining),
            _ => None,
        }
    }

    /// The caller took `n` bytes of the body past the decoder. When none are left, the next
    /// [`decode`](Self::decode) of even an empty input gives [`Step::End`].
    pub fn consume_body(&mut self, n: u64) {
        match &mut self.state {
            State::Length(remaining) => {
                debug_assert!(n <= *remaining, "took more than the body");
                *remaining = remaining.saturating_sub(n);
            }
            _ => debug_assert!(n == 0, "not in a body of known length"),
        }
    }

    /// Decodes from the start of `input`; returns how many bytes were consumed and what came of them. Call again with
    /// the rest until the answer is [`Step::NeedMore`]. A rejection is final.
    pub fn decode<'i>(&mut self, input: &'i [u8], limits: &Limits) -> Result<(usize, Step<'i>), Rejection> {
        let decoded = self.decode_state(input, limits);
        if let Err(rejection) = decoded {
            let is_head = match self.state {
                State::Start { .. } | State::StartLf { .. } => says_head(input),
                _ => self.is_head(),
            };
            self.state = State::Refused { rejection, is_head };
        }
        decoded
    }

    /// The head of the request that was refused, for the log: there once, and only if the head by itself could be
    /// understood, as when its body is too long.
    pub fn take_refused_head(&mut self) -> Option<Box<RequestHead>> {
        self.refused.take()
    }

    fn decode_state<'i>(&mut self, input: &'i [u8], limits: &Limits) -> Result<(usize, Step<'i>), Rejection> {
        match &mut self.state {
            State::Start { .. } | State::StartLf { .. } => self.decode_start(input, limits),
            State::Head(partial) => {
                let (consumed, request) = partial.extend(input, limits, &mut self.refused)?;
                Ok((consumed, self.begin(request)))
            }
            State::Length(0) => Ok((0, self.end())),
            State::Length(remaining) => {
                let take = usize::try_from(*remaining).unwrap_or(usize::MAX).min(input.len());
                let piece = input.get(..take).unwrap_or_default();
                *remaining = remaining.saturating_sub(take as u64);
                Ok((take, if piece.is_empty() { Step::NeedMore } else { Step::Body(piece) }))
            }
            State::Chunked(chunked) => match chunked.decode(input, limits)? {
                (consumed, Piece::NeedMore) => Ok((consumed, Step::NeedMore)),
                (consumed, Piece::Data(data)) => Ok((consumed, Step::Body(data))),
                (consumed, Piece::End) => Ok((consumed, self.end())),
            },
            State::Refused { rejection, .. } => Err(*rejection),
        }
    }

    fn decode_start<'i>(&mut self, input: &'i [u8], limits: &Limits) -> Result<(usize, Step<'i>), Rejection> {
        let head = self.skip_empty_lines(input)?;
        let skipped = input.len().saturating_sub(head.len());
        if head.is_empty() {
            return Ok((skipped, Step::NeedMore));
        }
        let mut scan = HeadScan::default();
        let Some(found) = scan.resume(head, 0, limits)? else {
            let is_head = says_head(head);
            self.state = State::Head(Box::new(PartialHead { bytes: head.to_vec(), scan, is_head }));
            return Ok((input.len(), Step::NeedMore));
        };
        let bytes = head.get(..found.len).unwrap_or_default();
        let headers = parse_headers(bytes, &found)?;
        let consumed = skipped.saturating_add(found.len);
        let request = finish_head(bytes.to_vec(), &found, headers, limits, &mut self.refused)?;
        Ok((consumed, self.begin(Some(request))))
    }

    /// Skips a few empty lines before a request line (RFC 9112 section 2.2), and refuses what cannot start a method
    /// at its first byte.
    fn skip_empty_lines<'i>(&mut self, mut input: &'i [u8]) -> Result<&'i [u8], Rejection> {
        while let Some((&byte, rest)) = input.split_first() {
            self.state = match (&self.state, byte) {
                (State::Start { skipped }, b'\r') if *skipped < MAX_EMPTY_LINES => {
                    State::StartLf { skipped: *skipped }
                }
                (State::StartLf { skipped }, b'\n') => State::Start { skipped: skipped.saturating_add(1) },
                (State::Start { .. }, byte) if token::is_tchar(byte) => break,
                _ => return Err(Rejection::NotARequest),
            };
            input = rest;
        }
        Ok(input)
    }

    fn begin(&mut self, request: Option<Request>) -> Step<'static> {
        let Some(request) = request else { return Step::NeedMore };
        self.state = match request.framing.body {
            BodyLength::Empty => State::Length(0),
            BodyLength::Length(length) => State::Length(length),
            BodyLength::Chunked => State::Chunked(ChunkedDecoder::new()),
        };
        Step::Head(request)
    }

    fn end(&mut self) -> Step<'static> {
        self.state = State::Start { skipped: 0 };
        Step::End
    }
}

impl Default for RequestDecoder {
    fn default() -> RequestDecoder {
        RequestDecoder::new()
    }
}

impl PartialHead {
    /// Adds input up to the end of the head. Returns how much of it belonged to the head.
    fn extend(
        &mut self,
        input: &[u8],
        limits: &Limits,
        refused: &mut Option<Box<RequestHead>>,
    ) -> Result<(usize, Option<Request>), Rejection> {
        let seen = self.bytes.len();
        // Beyond the limit and one byte more the scan is certain to refuse, so this bounds the buffer and loses nothing.
        let room = limits.head.saturating_add(1).saturating_sub(seen);
        let taken = input.get(..room).unwrap_or(input);
        self.bytes.extend_from_slice(taken);
        self.is_head = says_head(&self.bytes);
        let Some(found) = self.scan.resume(&self.bytes, seen, limits)? else {
            return Ok((taken.len(), None));
        };
        self.bytes.truncate(found.len);
        let bytes = std::mem::take(&mut self.bytes);
        let headers = parse_headers(&bytes, &found)?;
        let request = finish_head(bytes, &found, headers, limits, refused)?;
        Ok((found.len.saturating_sub(seen), Some(request)))
    }
}

/// Whether the request that begins here, perhaps behind empty lines, is a HEAD.
fn says_head(input: &[u8]) -> bool {
    let start = input.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(input.len());
    input.get(start..).unwrap_or_default().starts_with(b"HEAD ")
}

fn finish_head(
    bytes: Vec<u8>,
    found: &Found,
    headers: Vec<HeaderSpan>,
    limits: &Limits,
    refused: &mut Option<Box<RequestHead>>,
) -> Result<Request, Rejection> {
    let head = RequestHead::new(bytes, found.request_line, headers);
    match framing::frame(&head, limits) {
        Ok(framing) => Ok(Request { head, framing }),
        Err(rejection) => {
            keep_refused(refused, head);
            Err(rejection)
        }
    }
}

#[cold]
fn keep_refused(place: &mut Option<Box<RequestHead>>, head: RequestHead) {
    *place = Some(Box::new(head));
}

/// Finds the header lines of a complete head. The scan counted them, so that the common head finds its room on the
/// stack.
fn parse_headers(head: &[u8], found: &Found) -> Result<Vec<HeaderSpan>, Rejection> {
    let lines = head.get(found.headers_start..).unwrap_or_default();
    if found.headers <= HEADERS_ON_STACK {
        parse_header_lines(head, lines, &mut [EMPTY_HEADER; HEADERS_ON_STACK])
    } else {
        parse_header_lines(head, lines, &mut vec![EMPTY_HEADER; found.headers])
    }
}

fn parse_header_lines<'h>(
    head: &'h [u8],
    lines: &'h [u8],
    room: &mut [httparse::Header<'h>],
) -> Result<Vec<HeaderSpan>, Rejection> {
    match httparse::parse_headers(lines, room) {
        Ok(httparse::Status::Complete((_, parsed))) => Ok(parsed
            .iter()
            .map(|header| HeaderSpan {
                name: Span::of(head, header.name.as_bytes()),
                value: Span::of(head, header.value),
            })
            .collect()),
        Err(httparse::Error::HeaderName) => Err(Rejection::BadHeaderName),
        // Neither partial heads nor too many headers reach this point; both would be ours to explain.
        Ok(httparse::Status::Partial) | Err(_) => Err(Rejection::BadHeaderValue),
    }
}

const HEADERS_ON_STACK: usize = 16;

/// More than this is no longer the slip of an old client.
const MAX_EMPTY_LINES: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn step<'i>(decoder: &mut RequestDecoder, input: &'i str) -> (usize, Step<'i>) {
        decoder.decode(input.as_bytes(), &Limits::default()).unwrap()
    }

    #[test]
    fn a_connection_at_rest_holds_no_memory() {
        assert!(size_of::<RequestDecoder>() <= 64, "{}", size_of::<RequestDecoder>());
        let mut decoder = RequestDecoder::new();
        assert!(decoder.is_idle() && !decoder.in_body());
        assert!(matches!(step(&mut decoder, "GET / HTTP/1.0\r\n\r\n"), (18, Step::Head(_))));
        assert!(!decoder.is_idle() && decoder.in_body());
        assert!(matches!(step(&mut decoder, ""), (0, Step::End)));
        assert!(decoder.is_idle() && !decoder.in_body());
        assert!(matches!(decoder.state, State::Start { skipped: 0 }));
    }

    #[test]
    fn empty_lines_are_no_message() {
        let mut decoder = RequestDecoder::new();
        assert!(matches!(step(&mut decoder, "\r\n\r"), (3, Step::NeedMore)));
        assert!(decoder.is_idle());
        assert!(matches!(step(&mut decoder, "\nG"), (2, Step::NeedMore)));
        assert!(!decoder.is_idle());
    }

    #[test]
    fn steps_consume_what_they_tell() {
        let mut decoder = RequestDecoder::new();
        let input = "POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhelloGET";
        assert!(matches!(step(&mut decoder, input), (38, Step::Head(_))));
        assert!(matches!(step(&mut decoder, ""), (0, Step::NeedMore)));
        assert!(matches!(step(&mut decoder, &input[38..]), (5, Step::Body(b"hello"))));
        assert!(matches!(step(&mut decoder, &input[43..]), (0, Step::End)));
        assert!(matches!(step(&mut decoder, &input[43..]), (3, Step::NeedMore)));
    }

    #[test]
    fn the_caller_may_read_a_body_past_the_decoder() {
        let mut decoder = RequestDecoder::new();
        assert_eq!(decoder.body_remaining(), None);
        step(&mut decoder, "POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(decoder.body_remaining(), Some(5));
        assert!(matches!(step(&mut decoder, "he"), (2, Step::Body(b"he"))));
        decoder.consume_body(2);
        assert_eq!(decoder.body_remaining(), Some(1));
        assert!(matches!(step(&mut decoder, ""), (0, Step::NeedMore)));
        decoder.consume_body(1);
        assert_eq!(decoder.body_remaining(), Some(0));
        assert!(matches!(step(&mut decoder, "GET"), (0, Step::End)));
        assert_eq!(decoder.body_remaining(), None);
    }

    #[test]
    fn a_rejection_is_final() {
        let mut decoder = RequestDecoder::new();
        for input in ["\x16", "GET / HTTP/1.0\r\n\r\n", ""] {
            let refused = decoder.decode(input.as_bytes(), &Limits::default());
            assert_eq!(refused.err(), Some(Rejection::NotARequest));
        }
        assert!(!decoder.is_idle() && !decoder.in_body());
    }

    /// However the bytes are cut, and whatever is wrong with the rest.
    #[test]
    fn a_refused_head_request_is_known_by_its_method() {
        for (input, is_head) in [
            ("HEAD / HTTP/9.9\r\n", true),
            ("HEAD / HTTP/1.1\r\n\r\n", true),
            ("\r\n\r\nHEAD / HTTP/1.1\r\nHost: x\r\nExpect: x\r\n\r\n", true),
            ("HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n", true),
            ("HEAD / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", true),
            ("GET /HEAD HTTP/1.1\r\n\r\n", false),
            ("HEADY / HTTP/1.1\r\n\r\n", false),
            ("HEAD\r\n\r\n", false),
            ("head / HTTP/1.1\r\n\r\n", false),
            ("\x16HEAD ", false),
        ] {
            for size in [1, 3, input.len()] {
                let mut decoder = RequestDecoder::new();
                let refused = input.as_bytes().chunks(size).any(|mut piece| {
                    while let Ok((used, step)) = decoder.decode(piece, &Limits::default()) {
                        piece = &piece[used..];
                        if matches!(step, Step::NeedMore) {
                            return false;
                        }
                    }
                    true
                });
                assert_eq!((refused, decoder.is_head()), (true, is_head), "{input:?} by {size}");
            }
        }
    }

    #[test]
    fn a_refused_request_leaves_its_head_if_it_has_one() {
        let limits = Limits { body: 3, ..Limits::default() };
        for (input, target) in [
            ("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n", Some(&b"/a"[..])),
            ("POST /b HTTP/1.1\r\nHost: x\r\nExpect: tea\r\n\r\n", Some(b"/b")),
            ("POST /c HTTP/1.1\r\nHost: x\r\nA\r\n\r\n", None),
            ("BAD\r\n\r\n", None),
        ] {
            for size in [1, input.len()] {
                let mut decoder = RequestDecoder::new();
                let mut pieces = input.as_bytes().chunks(size);
                let rejection = pieces.find_map(|piece| decoder.decode(piece, &limits).err());
                assert!(rejection.is_some());
                assert_eq!(decoder.decode(b"x", &limits).err(), rejection);
                assert_eq!(
                    decoder.take_refused_head().as_ref().map(|head| head.target()),
                    target,
                    "{input:?}"
                );
                assert!(decoder.take_refused_head().is_none());
            }
        }
    }

    #[test]
    fn an_arriving_head_request_is_known_as_soon_as_its_method() {
        let mut decoder = RequestDecoder::new();
        for (piece, is_head) in
            [("HE", false), ("AD", false), (" ", true), ("/ HTTP/1.1\r\nHost: x\r\n", true)]
        {
            assert!(matches!(step(&mut decoder, piece), (_, Step::NeedMore)));
            assert_eq!(decoder.is_head(), is_head, "{piece:?}");
        }
        assert!(matches!(step(&mut decoder, "\r\n"), (_, Step::Head(_))));
        assert!(!decoder.is_head(), "the request itself tells from here on");
    }

    #[test]
    fn a_partial_head_is_bounded_by_the_limit() {
        let limits = Limits { line: 100, head: 100, ..Limits::default() };
        let mut decoder = RequestDecoder::new();
        let start = "GET / HTTP/1.0\r\nA: ".to_owned() + &"b".repeat(79);
        assert!(matches!(decoder.decode(start.as_bytes(), &limits), Ok((98, Step::NeedMore))));
        let flood = vec![b'x'; 1 << 20];
        assert_eq!(decoder.decode(&flood, &limits).err(), Some(Rejection::HeadTooLarge));
    }

    #[test]
    fn a_head_with_many_headers_is_parsed_too() {
        for count in [0, 1, HEADERS_ON_STACK, HEADERS_ON_STACK + 1, 128] {
            let head = "GET / HTTP/1.0\r\n".to_owned() + &"A: b\r\n".repeat(count) + "\r\n";
            match step(&mut RequestDecoder::new(), &head) {
                (_, Step::Head(request)) => assert_eq!(request.head.header_count(), count),
                other => panic!("{other:?}"),
            }
        }
    }
}
