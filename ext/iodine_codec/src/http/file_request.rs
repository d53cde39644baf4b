//! A request as far as a file that may answer it is concerned.

use super::coding::Accepted;
use super::conditional::{self, Conditions, Validators, Verdict};
use super::range::{self, Ranges};
use super::{RequestHead, token};

/// What files know to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileMethod {
    /// Send it.
    Get,
    /// Tell of it.
    Head,
    /// Tell what may be done with it.
    Options,
}

/// A head, and which of the headers that matter to files it has.
#[derive(Clone, Copy, Debug)]
pub struct FileRequest<'h> {
    head: &'h RequestHead,
    seen: u16,
}

/// Headers that matter here: most requests have none or one of them, and are looked through once.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
enum Field {
    Accept = 1,
    AcceptEncoding = 2,
    IfMatch = 4,
    IfModifiedSince = 8,
    IfNoneMatch = 16,
    IfRange = 32,
    IfUnmodifiedSince = 64,
    Range = 128,
    Upgrade = 256,
}

impl Field {
    fn from_name(name: &[u8]) -> Option<Field> {
        let field = match name.len() {
            5 => Field::Range,
            6 => Field::Accept,
            7 if name.first().is_some_and(|byte| byte | 0x20 == b'u') => Field::Upgrade,
            8 if name.last().is_some_and(|byte| byte | 0x20 == b'h') => Field::IfMatch,
            8 => Field::IfRange,
            13 => Field::IfNoneMatch,
            15 => Field::AcceptEncoding,
            17 => Field::IfModifiedSince,
            19 => Field::IfUnmodifiedSince,
            _ => return None,
        };
        name.eq_ignore_ascii_case(field.name().as_bytes()).then_some(field)
    }

    const fn name(self) -> &'static str {
        match self {
            Field::Accept => "accept",
            Field::AcceptEncoding => "accept-encoding",
            Field::IfMatch => "if-match",
            Field::IfModifiedSince => "if-modified-since",
            Field::IfNoneMatch => "if-none-match",
            Field::IfRange => "if-range",
            Field::IfUnmodifiedSince => "if-unmodified-since",
            Field::Range => "range",
            Field::Upgrade => "upgrade",
        }
    }
}

impl<'h> FileRequest<'h> {
    /// Looks `head` through.
    pub fn new(head: &'h RequestHead) -> FileRequest<'h> {
        let fields = head.headers().filter_map(|(name, _)| Field::from_name(name));
        FileRequest { head, seen: fields.fold(0, |seen, field| seen | field as u16) }
    }

    /// What is asked for; `None` for methods that are the application's alone (F-03).
    pub fn method(&self) -> Option<FileMethod> {
        match self.head.method() {
            b"GET" => Some(FileMethod::Get),
            b"HEAD" => Some(FileMethod::Head),
            b"OPTIONS" => Some(FileMethod::Options),
            _ => None,
        }
    }

    /// The path of the request, as received.
    pub fn path(&self) -> &'h [u8] {
        self.head.path()
    }

    /// Whether the client would rather have another protocol, or a stream of events: no file is either.
    pub fn wants_upgrade(&self) -> bool {
        let named = |value| token::list(value).any(|protocol| protocol.eq_ignore_ascii_case(b"websocket"));
        self.values(Field::Upgrade).any(named)
            || self.values(Field::Accept).any(|value| value.eq_ignore_ascii_case(b"text/event-stream"))
    }

    /// The content codings that the client accepts.
    pub fn accepted(&self) -> Accepted {
        Accepted::parse(self.values(Field::AcceptEncoding))
    }

    /// Whether anything is asked of the file's tag, its date or a part of it.
    pub fn is_plain(&self) -> bool {
        const CONDITIONS: u16 = Field::IfMatch as u16
            | Field::IfModifiedSince as u16
            | Field::IfNoneMatch as u16
            | Field::IfUnmodifiedSince as u16
            | Field::Range as u16;
        self.seen & CONDITIONS == 0
    }

    /// What the conditions of the request come to.
    pub fn verdict(&self, validators: Validators<'_>) -> Verdict {
        let lines = |field: Field| self.has(field).then(|| self.values(field));
        let date = |field: Field| self.single(field).and_then(conditional::date);
        let conditions = Conditions {
            matches: lines(Field::IfMatch),
            none_matches: lines(Field::IfNoneMatch),
            modified_since: date(Field::IfModifiedSince),
            unmodified_since: date(Field::IfUnmodifiedSince),
        };
        conditions.verdict(validators)
    }

    /// The part of a file of `len` bytes that is wanted. Only a GET has one (RFC 9110 section 14.2).
    pub fn range(&self, len: u64, validators: Validators<'_>) -> Ranges {
        let Some(value) = self.single(Field::Range).filter(|_| self.method() == Some(FileMethod::Get)) else {
            return Ranges::Whole;
        };
        let current = match self.has(Field::IfRange) {
            true => self.single(Field::IfRange).is_some_and(|value| conditional::if_range(value, validators)),
            false => true,
        };
        if current { range::parse(value, len) } else { Ranges::Whole }
    }

    fn has(&self, field: Field) -> bool {
        self.seen & field as u16 != 0
    }

    /// Its only line: of what is no list, a second line makes nonsense.
    fn single(&self, field: Field) -> Option<&'h [u8]> {
        let mut values = self.values(field);
        values.next().filter(|_| values.next().is_none())
    }

    fn values(&self, field: Field) -> impl Iterator<Item = &'h [u8]> + use<'h> {
        let name = field.name().as_bytes();
        let head = self.has(field).then_some(self.head);
        let lines = head.into_iter().flat_map(RequestHead::headers);
        lines.filter(move |(candidate, _)| candidate.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Coding;
    use crate::http1::{Limits, RequestDecoder, Step};

    fn head(method: &str, headers: &str) -> RequestHead {
        let text = format!("{method} /a HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
        match RequestDecoder::new().decode(text.as_bytes(), &Limits::default()) {
            Ok((_, Step::Head(request))) => request.head,
            other => panic!("{other:?}"),
        }
    }

    const TAG: Validators<'_> = Validators { tag: Some(b"\"t\""), modified: Some(1_000_000_000) };

    #[test]
    fn only_three_methods_are_for_files() {
        for (method, expected) in [
            ("GET", Some(FileMethod::Get)),
            ("HEAD", Some(FileMethod::Head)),
            ("OPTIONS", Some(FileMethod::Options)),
            ("get", None),
            ("POST", None),
            ("PUT", None),
            ("DELETE", None),
            ("COPY", None),
        ] {
            assert_eq!(FileRequest::new(&head(method, "")).method(), expected, "{method}");
        }
    }

    #[test]
    fn candidates_for_another_protocol_are_known() {
        for (headers, expected) in [
            ("", false),
            ("Upgrade: websocket\r\n", true),
            ("Upgrade: h2c, WebSocket\r\n", true),
            ("Upgrade: h2c\r\n", false),
            ("Upgrade-Insecure-Requests: 1\r\n", false),
            ("Accept: text/event-stream\r\n", true),
            ("Accept: text/html, text/event-stream\r\n", false),
        ] {
            assert_eq!(FileRequest::new(&head("GET", headers)).wants_upgrade(), expected, "{headers:?}");
        }
    }

    #[test]
    fn a_range_needs_a_get_and_a_single_line() {
        let range = |method, headers| FileRequest::new(&head(method, headers)).range(10, TAG);
        let part = Ranges::Parts(vec![range::ByteRange { start: 1, len: 2 }]);
        assert_eq!(range("GET", "Range: bytes=1-2\r\n"), part);
        assert_eq!(range("HEAD", "Range: bytes=1-2\r\n"), Ranges::Whole);
        assert_eq!(range("GET", "Range: bytes=1-2\r\nRange: bytes=3-4\r\n"), Ranges::Whole);
        assert_eq!(range("GET", "Range: bytes=1-2\r\nIf-Range: \"t\"\r\n"), part);
        assert_eq!(range("GET", "Range: bytes=1-2\r\nIf-Range: \"u\"\r\n"), Ranges::Whole);
        assert_eq!(range("GET", "Range: bytes=1-2\r\nIf-Range: \"t\"\r\nIf-Range: \"t\"\r\n"), Ranges::Whole);
    }

    #[test]
    fn conditions_come_from_the_head() {
        let verdict = |headers| FileRequest::new(&head("GET", headers)).verdict(TAG);
        assert_eq!(verdict("If-None-Match: \"x\"\r\nif-none-match: W/\"t\"\r\n"), Verdict::NotModified);
        assert_eq!(verdict("If-Match: \"x\"\r\n"), Verdict::Failed);
        assert_eq!(verdict("If-Modified-Since: Sun, 09 Sep 2001 01:46:40 GMT\r\n"), Verdict::NotModified);
        assert_eq!(verdict("If-Unmodified-Since: Sun, 09 Sep 2001 01:46:39 GMT\r\n"), Verdict::Failed);
        assert_eq!(
            verdict("If-Modified-Since: Sun, 09 Sep 2001 01:46:40 GMT\r\n".repeat(2).as_str()),
            Verdict::Proceed
        );
        assert!(FileRequest::new(&head("GET", "If-Range: \"t\"\r\nAccept: */*\r\n")).is_plain());
        assert!(!FileRequest::new(&head("GET", "IF-MATCH: \"t\"\r\n")).is_plain());
    }

    #[test]
    fn codings_come_from_all_lines() {
        let head = head("GET", "Accept-Encoding: br;q=0\r\naccept-encoding: gzip\r\n");
        let accepted = FileRequest::new(&head).accepted();
        assert_eq!(accepted.choose(|_| true), Some(Coding::Gzip));
    }
}
