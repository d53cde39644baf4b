//! The head of a response, written header by header into a buffer of the caller.
//!
//! The bridge calls this while it walks a Ruby Hash, where an exception may leave by a longjmp at any header. So the
//! encoder owns nothing that needs dropping: what it wrote is in the caller's buffer, the rest is plain numbers.

use crate::http::{Version, status, token};

/// What the answer must know about its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestFacts {
    /// The client's version.
    pub version: Version,
    /// True if the client lets another request follow.
    pub keep_alive: bool,
    /// True for a HEAD request.
    pub head: bool,
}

/// How the length of a response's body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodySize {
    /// It has so many bytes.
    Known(u64),
    /// The application wrote `transfer-encoding: chunked` and its bytes are chunks already.
    ChunkedByApp,
    /// The caller will chunk the body, if [`Finished::chunked`] says so.
    ChunkedByUs,
    /// The end of the connection is the end of the body.
    UntilClose,
    /// As [`UntilClose`](Self::UntilClose), but the application writes the body itself and may frame it as its headers say.
    AsDeclared,
}

/// How the response goes on behind its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// True if the connection stays open behind this response.
    pub keep_alive: bool,
    /// False if no body follows, whatever there is to send.
    pub send_body: bool,
    /// True if `transfer-encoding: chunked` was written. HTTP/1.0 clients do not know it, so their body goes out plain
    /// and ends with the connection.
    pub chunked: bool,
    /// True if the application declared a length that was not the body's.
    pub length_corrected: bool,
}

/// Why a header was refused. Nothing of it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// The name is not a token.
    Name,
    /// The value holds a control byte.
    Value,
}

impl std::fmt::Display for HeaderError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            HeaderError::Name => "invalid header name",
            HeaderError::Value => "invalid header value",
        })
    }
}

impl std::error::Error for HeaderError {}

/// Writes one response head.
#[derive(Debug)]
pub struct ResponseEncoder<'b> {
    out: &'b mut Vec<u8>,
    head: OpenHead,
}

/// What is known of a head that lacks its framing, apart from the bytes written so far. A body of unknown length may turn
/// out to be short before anything of it was sent: until then its head stays open.
#[derive(Clone, Copy, Debug)]
pub struct OpenHead {
    request: RequestFacts,
    status: u16,
    length: DeclaredLength,
    chunked: bool,
    close: bool,
    date: bool,
}

/// What the application's content-length headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeclaredLength {
    Absent,
    Bytes(u64),
    /// No number, or two different ones.
    Bad,
}

impl<'b> ResponseEncoder<'b> {
    /// Writes the status line. The version is always ours, HTTP/1.1 (RFC 9110 section 2.5).
    pub fn new(out: &'b mut Vec<u8>, request: RequestFacts, status: u16) -> ResponseEncoder<'b> {
        status::write_line(out, status);
        let length = DeclaredLength::Absent;
        let head = OpenHead { request, status, length, chunked: false, close: false, date: false };
        ResponseEncoder { out, head }
    }

    /// Leaves the head open; [`OpenHead::resume`] goes on with it.
    pub fn suspend(self) -> OpenHead {
        self.head
    }

    /// Writes a header: the name in lower case, and one line for each piece of the value between line feeds. Headers
    /// that frame the message are noted instead and written, if at all, by [`finish`](Self::finish).
    pub fn header(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeaderError> {
        let captured = Captured::from_name(name);
        if captured == Captured::No && !has_controls(value) {
            return write_header(self.out, name, value);
        }
        if !token::is_token(name) {
            return Err(HeaderError::Name);
        }
        if value.iter().any(|&byte| is_control(byte) && byte != b'\n') {
            return Err(HeaderError::Value);
        }
        if value.is_empty() {
            return self.header_line(captured, name, value);
        }
        value
            .split(|&byte| byte == b'\n')
            .filter(|piece| !piece.is_empty())
            .try_for_each(|piece| self.header_line(captured, name, piece))
    }

    /// Writes header lines that an encoder has written before, none of which frames the message.
    pub fn prepared(&mut self, lines: &[u8]) {
        debug_assert!(lines.is_empty() || lines.ends_with(b"\r\n"));
        self.out.extend_from_slice(lines);
    }

    /// True if the application said `transfer-encoding: chunked`.
    pub fn has_chunked(&self) -> bool {
        self.head.chunked
    }

    /// True if the application said `connection: close`.
    pub fn has_close(&self) -> bool {
        self.head.close
    }

    /// See [`OpenHead::declared_length`].
    pub fn declared_length(&self) -> Option<u64> {
        self.head.declared_length()
    }

    /// Writes what is left of the head: framing, date, persistence and the blank line. `closing` says that the server
    /// wants to close the connection; `date` is the time as an HTTP date.
    pub fn finish(self, body: BodySize, date: &[u8], closing: bool) -> Finished {
        let framed = self.head.frame(body);
        if let Some(length) = framed.length {
            self.out.extend_from_slice(b"content-length: ");
            self.out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            self.out.extend_from_slice(b"\r\n");
        }
        if framed.chunked {
            self.out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        if !self.head.date && !self.head.is_interim() {
            self.out.extend_from_slice(b"date: ");
            self.out.extend_from_slice(date);
            self.out.extend_from_slice(b"\r\n");
        }
        let keep_alive = self.head.persists(&framed, closing);
        if !status_is_informational(self.head.status) {
            self.out.extend_from_slice(connection_line(keep_alive, self.head.request.version));
        }
        self.out.extend_from_slice(b"\r\n");
        Finished {
            keep_alive,
            send_body: framed.send_body,
            chunked: framed.chunked,
            length_corrected: framed.length_corrected,
        }
    }

    fn header_line(&mut self, captured: Captured, name: &[u8], value: &[u8]) -> Result<(), HeaderError> {
        match captured {
            Captured::ContentLength => self.note_content_length(value),
            Captured::TransferEncoding => self.note_transfer_encoding(value),
            Captured::Connection => self.note_connection(value),
            Captured::Date => {
                // Two dates would be one too many (RFC 9110 section 5.3).
                if !std::mem::replace(&mut self.head.date, true) {
                    return write_header(self.out, name, value);
                }
            }
            Captured::No => return write_header(self.out, name, value),
        }
        Ok(())
    }

    fn note_content_length(&mut self, value: &[u8]) {
        let length = token::decimal(token::trim(value)).map_or(DeclaredLength::Bad, DeclaredLength::Bytes);
        let agrees = self.head.length == DeclaredLength::Absent || self.head.length == length;
        self.head.length = if agrees { length } else { DeclaredLength::Bad };
    }

    fn note_transfer_encoding(&mut self, value: &[u8]) {
        self.head.chunked |= token::list(value).any(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    }

    /// Persistence is for [`finish`](Self::finish) to decide; other options, such as `upgrade`, are passed on.
    fn note_connection(&mut self, value: &[u8]) {
        for option in token::list(value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.head.close = true;
            } else if token::is_token(option) && !option.eq_ignore_ascii_case(b"keep-alive") {
                // A token cannot be refused.
                let _ = write_header(self.out, b"connection", option);
            }
        }
    }
}

impl OpenHead {
    /// Goes on with a head of which `out` ends with what was written so far.
    pub fn resume(self, out: &mut Vec<u8>) -> ResponseEncoder<'_> {
        ResponseEncoder { out, head: self }
    }

    /// True if the application said `transfer-encoding: chunked`.
    pub fn is_chunked(&self) -> bool {
        self.chunked
    }

    /// The length the application declared, if it is one number, and counts: chunks have no other length than their own
    /// (RFC 9112 section 6.3).
    pub fn declared_length(&self) -> Option<u64> {
        match self.length {
            DeclaredLength::Bytes(length) if !self.chunked => Some(length),
            _ => None,
        }
    }

    fn frame(&self, body: BodySize) -> Framed {
        let none =
            Framed { length: None, chunked: false, send_body: false, ends: true, length_corrected: false };
        match self.status {
            // RFC 9110 section 8.6: neither may have a content-length.
            204 | 100..=199 => none,
            // The length that a 200 would have had is the application's to know.
            304 => Framed { length: self.declared_length(), ..none },
            // RFC 9110 section 15.3.6: empty, and it has to say so.
            205 => Framed { length: Some(0), length_corrected: self.differs_from(0), ..none },
            _ if self.request.head => Framed { length: self.length_for_head(body), ..none },
            _ => self.frame_body(body),
        }
    }

    fn frame_body(&self, body: BodySize) -> Framed {
        let plain =
            Framed { length: None, chunked: false, send_body: true, ends: false, length_corrected: false };
        match body {
            BodySize::Known(length) => Framed {
                length: Some(length),
                ends: true,
                length_corrected: self.differs_from(length),
                ..plain
            },
            BodySize::ChunkedByApp | BodySize::ChunkedByUs if self.request.version >= Version::Http11 => {
                Framed { chunked: true, ends: true, ..plain }
            }
            BodySize::ChunkedByApp | BodySize::ChunkedByUs | BodySize::UntilClose => plain,
            // RFC 9112 section 6.3: chunks have no other length.
            BodySize::AsDeclared if self.chunked => self.frame_body(BodySize::ChunkedByApp),
            BodySize::AsDeclared => {
                let length = self.declared_length();
                Framed { length, ends: length.is_some(), ..plain }
            }
        }
    }

    /// RFC 9110 section 9.3.2: what a GET would have had, as far as that is known.
    fn length_for_head(&self, body: BodySize) -> Option<u64> {
        match (body, self.declared_length()) {
            (BodySize::ChunkedByApp, _) => None,
            (_, Some(length)) | (BodySize::Known(length), None) => Some(length),
            _ => None,
        }
    }

    fn differs_from(&self, length: u64) -> bool {
        self.length != DeclaredLength::Absent && self.length != DeclaredLength::Bytes(length)
    }

    /// RFC 9112 section 9.3: one side saying close is enough, and a body without an end closes too. An interim
    /// response, and the switch to another protocol, leave the connection as it is.
    fn persists(&self, framed: &Framed, closing: bool) -> bool {
        if status_is_informational(self.status) {
            return !closing;
        }
        self.request.keep_alive && !closing && !self.close && framed.ends
    }

    /// A 101 is the last response of its connection, so it is dated like a final one.
    fn is_interim(&self) -> bool {
        status_is_informational(self.status) && self.status != 101
    }
}

/// How the body is delimited.
#[derive(Clone, Copy)]
struct Framed {
    length: Option<u64>,
    chunked: bool,
    send_body: bool,
    /// True if the client can tell where the response ends.
    ends: bool,
    length_corrected: bool,
}

/// Headers that are noted rather than written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Captured {
    No,
    Date,
    Connection,
    ContentLength,
    TransferEncoding,
}

impl Captured {
    #[inline]
    fn from_name(name: &[u8]) -> Captured {
        let is = |candidate: &[u8]| name.eq_ignore_ascii_case(candidate);
        match name.len() {
            4 if is(b"date") => Captured::Date,
            10 if is(b"connection") => Captured::Connection,
            14 if is(b"content-length") => Captured::ContentLength,
            17 if is(b"transfer-encoding") => Captured::TransferEncoding,
            _ => Captured::No,
        }
    }
}

/// Appends a whole response that says no more than its status, as text.
pub fn simple_response(
    out: &mut Vec<u8>,
    request: RequestFacts,
    status: u16,
    date: &[u8],
    closing: bool,
    extra: &[(&str, &str)],
) -> Finished {
    let reason = status::reason(status);
    let mut number = itoa::Buffer::new();
    let number = number.format(status);
    let blank = if reason.is_empty() { "" } else { " " };
    let length = number.len().saturating_add(blank.len()).saturating_add(reason.len());

    let mut encoder = ResponseEncoder::new(out, request, status);
    for (name, value) in [("content-type", "text/plain")].iter().chain(extra) {
        let written = encoder.header(name.as_bytes(), value.as_bytes());
        debug_assert!(written.is_ok(), "the server's own header {name} is invalid");
    }
    let finished = encoder.finish(BodySize::Known(length as u64), date, closing);
    if finished.send_body {
        for part in [number, blank, reason] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    finished
}

/// Appends a header as [`ResponseEncoder::prepared`] takes it. Refuses headers that frame the message or date it.
pub fn prepare_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<(), HeaderError> {
    if Captured::from_name(name) != Captured::No {
        return Err(HeaderError::Name);
    }
    match has_controls(value) {
        true => Err(HeaderError::Value),
        false => write_header(out, name, value),
    }
}

/// Appends one line, or nothing if the name is not a token. The value was checked before.
#[inline]
fn write_header(out: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<(), HeaderError> {
    out.reserve(name.len().saturating_add(value.len()).saturating_add(4));
    let start = out.len();
    let mut valid = !name.is_empty();
    out.extend(name.iter().map(|&byte| {
        let lower = token::lower(byte);
        valid &= lower != 0;
        lower
    }));
    if !valid {
        out.truncate(start);
        return Err(HeaderError::Name);
    }
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// HTTP/1.1 stays open unless told otherwise, HTTP/1.0 closes unless told otherwise; closing is always told
/// (RFC 9112 section 9.3).
const fn connection_line(keep_alive: bool, version: Version) -> &'static [u8] {
    match (keep_alive, version) {
        (true, Version::Http11) => b"",
        (true, Version::Http10) => b"connection: keep-alive\r\n",
        (false, _) => b"connection: close\r\n",
    }
}

const fn status_is_informational(status: u16) -> bool {
    matches!(status, 100..=199)
}

/// Control bytes have no place in a value, except the tab (RFC 9110 section 5.5).
#[inline]
const fn is_control(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
}

/// True if there is a control byte, the line feed included.
#[inline]
fn has_controls(value: &[u8]) -> bool {
    value.iter().fold(false, |found, &byte| found | is_control(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &[u8] = b"Mon, 23 Nov 2026 06:53:47 GMT";
    const DATED: &str = "date: Mon, 23 Nov 2026 06:53:47 GMT\r\n";
    const STAYS: RequestFacts = RequestFacts { version: Version::Http11, keep_alive: true, head: false };
    const CLOSES: RequestFacts = RequestFacts { keep_alive: false, ..STAYS };
    const HEAD: RequestFacts = RequestFacts { head: true, ..STAYS };
    const OLD_STAYS: RequestFacts = RequestFacts { version: Version::Http10, ..STAYS };
    const OLD_CLOSES: RequestFacts = RequestFacts { version: Version::Http10, ..CLOSES };

    /// The lines of a head without the status line, the date and the blank line.
    fn encoded(
        request: RequestFacts,
        status: u16,
        headers: &[(&str, &str)],
        body: BodySize,
    ) -> (String, Finished) {
        let mut out = Vec::new();
        let mut encoder = ResponseEncoder::new(&mut out, request, status);
        for (name, value) in headers {
            encoder.header(name.as_bytes(), value.as_bytes()).unwrap();
        }
        let finished = encoder.finish(body, DATE, false);
        let text = String::from_utf8(out).unwrap();
        let (_, lines) = text.split_once("\r\n").unwrap();
        let lines = lines.strip_suffix("\r\n").unwrap().replace(DATED, "");
        (lines.replace("\r\n", "|"), finished)
    }

    fn refused(name: &[u8], value: &[u8]) -> Option<HeaderError> {
        let mut out = Vec::new();
        let mut encoder = ResponseEncoder::new(&mut out, STAYS, 200);
        let result = encoder.header(name, value);
        assert!(result.is_ok() || out == b"HTTP/1.1 200 OK\r\n", "something was written");
        result.err()
    }

    #[test]
    fn prepared_lines_are_those_of_the_encoder() {
        let mut lines = Vec::new();
        prepare_line(&mut lines, b"X-A", b"1").unwrap();
        assert_eq!(prepare_line(&mut lines, b"Content-Length", b"1"), Err(HeaderError::Name));
        assert_eq!(prepare_line(&mut lines, b"a b", b"1"), Err(HeaderError::Name));
        assert_eq!(prepare_line(&mut lines, b"a", b"1\n2"), Err(HeaderError::Value));
        let mut out = Vec::new();
        let mut encoder = ResponseEncoder::new(&mut out, STAYS, 200);
        encoder.prepared(&lines);
        encoder.finish(BodySize::Known(0), DATE, false);
        let expected = format!("HTTP/1.1 200 OK\r\nx-a: 1\r\ncontent-length: 0\r\n{DATED}\r\n");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_whole_head() {
        let mut out = Vec::new();
        let mut encoder = ResponseEncoder::new(&mut out, STAYS, 200);
        encoder.header(b"Content-Type", b"text/plain").unwrap();
        let finished = encoder.finish(BodySize::Known(5), DATE, false);
        let expected = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n".to_owned()
            + DATED
            + "\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let sends = Finished { keep_alive: true, send_body: true, chunked: false, length_corrected: false };
        assert_eq!(finished, sends);
    }

    #[test]
    fn names_are_lower_cased_and_values_split() {
        let lines = |name, value| encoded(STAYS, 200, &[(name, value)], BodySize::Known(0)).0;
        assert_eq!(lines("X-CamelCase", "Value"), "x-camelcase: Value|content-length: 0|");
        assert_eq!(lines("Set-Cookie", "a=1\nb=2"), "set-cookie: a=1|set-cookie: b=2|content-length: 0|");
        assert_eq!(lines("X", "a\n\nb\n"), "x: a|x: b|content-length: 0|");
        assert_eq!(lines("X", "\t\u{e4}"), "x: \t\u{e4}|content-length: 0|");
        assert_eq!(lines("X", ""), "x: |content-length: 0|"); // F-37
        assert_eq!(lines("X", "\n"), "content-length: 0|");
    }

    #[test]
    fn f_16_nothing_splits_a_response() {
        for name in
            [&b""[..], b"X-A\r\nX-B", b"a b", b"a:", b"a\0", b"\xc3\xa4", b" a", b"a\t", b"a\n", b"(a)"]
        {
            assert_eq!(refused(name, b"1"), Some(HeaderError::Name), "{name:?}");
            assert_eq!(refused(name, b"1\n2"), Some(HeaderError::Name), "{name:?}");
        }
        for value in
            [&b"a\rb"[..], b"a\r\nb", b"a\r", b"\0", b"\x0b", b"\x1b[1m", b"\x7f", b"long enough for words\0"]
        {
            for name in [&b"x"[..], b"date", b"connection", b"content-length", b"transfer-encoding"] {
                assert_eq!(refused(name, value), Some(HeaderError::Value), "{value:?}");
            }
        }
    }

    #[test]
    fn f_27_the_length_is_the_body_s() {
        for (declared, size, lines, corrected) in [
            (&[][..], 5, "content-length: 5|", false),
            (&["5"], 5, "content-length: 5|", false),
            (&[" 5 "], 5, "content-length: 5|", false),
            (&["5", "5"], 5, "content-length: 5|", false),
            (&["5\n5"], 5, "content-length: 5|", false),
            (&["7"], 5, "content-length: 5|", true),
            (&["0"], 5, "content-length: 5|", true),
            (&["5", "6"], 5, "content-length: 5|", true),
            (&["-5"], 5, "content-length: 5|", true),
            (&["x"], 0, "content-length: 0|", true),
            (&[""], 0, "content-length: 0|", true),
        ] {
            let headers: Vec<_> = declared.iter().map(|value| ("Content-Length", *value)).collect();
            let (text, finished) = encoded(STAYS, 200, &headers, BodySize::Known(size));
            assert_eq!((&*text, finished.length_corrected), (lines, corrected), "{declared:?}");
        }
    }

    #[test]
    fn declarations_can_be_asked_for() {
        let mut out = Vec::new();
        let mut encoder = ResponseEncoder::new(&mut out, STAYS, 200);
        assert_eq!((encoder.declared_length(), encoder.has_chunked()), (None, false));
        encoder.header(b"Content-Length", b"12").unwrap();
        assert_eq!((encoder.declared_length(), encoder.has_chunked()), (Some(12), false));
        encoder.header(b"Transfer-Encoding", b"gzip, Chunked").unwrap();
        assert_eq!((encoder.declared_length(), encoder.has_chunked()), (None, true));
        let mut encoder = ResponseEncoder::new(&mut out, STAYS, 200);
        encoder.header(b"content-length", b"12").unwrap();
        encoder.header(b"content-length", b"13").unwrap();
        assert_eq!(encoder.declared_length(), None);
    }

    #[test]
    fn f_27_transfer_encoding_goes_out_only_with_chunks() {
        let headers = [("Transfer-Encoding", "chunked"), ("Content-Length", "3")];
        for (request, body, lines, chunked) in [
            (STAYS, BodySize::Known(9), "content-length: 9|", false),
            (STAYS, BodySize::ChunkedByApp, "transfer-encoding: chunked|", true),
            (STAYS, BodySize::ChunkedByUs, "transfer-encoding: chunked|", true),
            (STAYS, BodySize::UntilClose, "connection: close|", false),
            // RFC 9112 section 6.1: never to a 1.0 client
            (OLD_STAYS, BodySize::Known(9), "content-length: 9|connection: keep-alive|", false),
            (OLD_STAYS, BodySize::ChunkedByApp, "connection: close|", false),
            (OLD_STAYS, BodySize::ChunkedByUs, "connection: close|", false),
            (OLD_STAYS, BodySize::UntilClose, "connection: close|", false),
        ] {
            let (text, finished) = encoded(request, 200, &headers, body);
            assert_eq!((&*text, finished.chunked), (lines, chunked), "{request:?} {body:?}");
            assert!(finished.send_body);
            assert_eq!(finished.keep_alive, !text.contains("close"));
        }
    }

    #[test]
    fn f_27_what_the_application_writes_itself_is_framed_as_it_says() {
        let chunked = ("Transfer-Encoding", "chunked");
        for (request, headers, lines) in [
            (STAYS, &[chunked][..], "transfer-encoding: chunked|"),
            (STAYS, &[("Content-Length", "3")], "content-length: 3|"),
            (STAYS, &[chunked, ("Content-Length", "3")], "transfer-encoding: chunked|"),
            (STAYS, &[("Content-Length", "x")], "connection: close|"),
            (STAYS, &[("Content-Length", "3"), ("Content-Length", "4")], "connection: close|"),
            (STAYS, &[], "connection: close|"),
            (OLD_CLOSES, &[("Content-Length", "3")], "content-length: 3|connection: close|"),
            (OLD_CLOSES, &[chunked, ("Content-Length", "3")], "connection: close|"),
        ] {
            let (text, finished) = encoded(request, 200, headers, BodySize::AsDeclared);
            assert_eq!(text, lines, "{request:?} {headers:?}");
            assert!(finished.send_body);
            assert_eq!(finished.keep_alive, !text.contains("close"));
        }
    }

    #[test]
    fn f_26_statuses_without_a_body() {
        for (status, headers, lines) in [
            (204, &[][..], ""),
            (204, &[("Content-Length", "7")], ""),
            (204, &[("Transfer-Encoding", "chunked")], ""),
            (304, &[], ""),
            (304, &[("Content-Length", "7"), ("ETag", "\"x\"")], "etag: \"x\"|content-length: 7|"),
            (103, &[("Link", "</x>")], "link: </x>|"),
            (205, &[], "content-length: 0|"),
            (205, &[("Content-Length", "7")], "content-length: 0|"),
        ] {
            for body in
                [BodySize::Known(7), BodySize::ChunkedByApp, BodySize::ChunkedByUs, BodySize::UntilClose]
            {
                for request in [STAYS, HEAD] {
                    let (text, finished) = encoded(request, status, headers, body);
                    assert_eq!(text, lines, "{status} {body:?}");
                    assert!(!finished.send_body && !finished.chunked && finished.keep_alive);
                }
            }
        }
    }

    #[test]
    fn f_21_head_has_the_length_and_not_the_body() {
        for (headers, body, lines) in [
            (&[][..], BodySize::Known(5), "content-length: 5|"),
            (&[("Content-Length", "7")], BodySize::Known(0), "content-length: 7|"),
            (&[("Content-Length", "x")], BodySize::Known(5), "content-length: 5|"),
            (&[("Content-Length", "7")], BodySize::ChunkedByUs, "content-length: 7|"),
            (&[], BodySize::ChunkedByUs, ""),
            (&[], BodySize::UntilClose, ""),
            (&[("Transfer-Encoding", "chunked")], BodySize::ChunkedByApp, ""),
            (&[("Transfer-Encoding", "chunked"), ("Content-Length", "7")], BodySize::UntilClose, ""),
        ] {
            let (text, finished) = encoded(HEAD, 200, headers, body);
            assert_eq!(text, lines, "{body:?}");
            assert!(!finished.send_body && finished.keep_alive && !finished.length_corrected);
        }
    }

    #[test]
    fn f_38_the_application_cannot_keep_what_the_client_closes() {
        let close = "connection: close|";
        for (request, app, connection) in [
            (STAYS, &[][..], ""),
            (STAYS, &["keep-alive"], ""),
            (STAYS, &["close"], close),
            (STAYS, &["Close"], close),
            (STAYS, &["keep-alive, close"], close),
            (STAYS, &["keep-alive", "close"], close),
            (STAYS, &["close\nkeep-alive"], close),
            (STAYS, &["closed"], "connection: closed|"),
            (STAYS, &["Upgrade, keep-alive"], "connection: Upgrade|"),
            (STAYS, &["x, close, y"], "connection: x|connection: y|connection: close|"),
            (STAYS, &["(x)"], ""),
            (CLOSES, &[], close),
            (CLOSES, &["keep-alive"], close),
            (OLD_CLOSES, &[], close),
            (OLD_CLOSES, &["keep-alive"], close),
            (OLD_STAYS, &[], "connection: keep-alive|"),
            (OLD_STAYS, &["close"], close),
        ] {
            let headers: Vec<_> = app.iter().map(|value| ("Connection", *value)).collect();
            let (text, finished) = encoded(request, 200, &headers, BodySize::Known(0));
            assert_eq!(text.replace("content-length: 0|", ""), connection, "{request:?} {app:?}");
            assert_eq!(finished.keep_alive, !text.contains(close));
        }
    }

    #[test]
    fn the_server_may_close_too() {
        let mut out = Vec::new();
        let finished = ResponseEncoder::new(&mut out, STAYS, 200).finish(BodySize::Known(0), DATE, true);
        assert!(!finished.keep_alive);
        assert!(out.ends_with(b"connection: close\r\n\r\n"));
    }

    #[test]
    fn a_switch_of_protocols_is_the_application_s() {
        let headers = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
        for request in [STAYS, CLOSES] {
            let (text, finished) = encoded(request, 101, &headers, BodySize::Known(0));
            assert_eq!(text, "connection: Upgrade|upgrade: websocket|");
            assert!(finished.keep_alive && !finished.send_body); // F-46
        }
    }

    #[test]
    fn dates() {
        let dates = |status, headers: &[(&str, &str)]| {
            let mut out = Vec::new();
            let mut encoder = ResponseEncoder::new(&mut out, STAYS, status);
            for (name, value) in headers {
                encoder.header(name.as_bytes(), value.as_bytes()).unwrap();
            }
            encoder.finish(BodySize::Known(0), DATE, false);
            let text = String::from_utf8(out).unwrap();
            text.lines().filter(|line| line.starts_with("date: ")).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(dates(200, &[]), [DATED.trim_end()]);
        assert_eq!(dates(101, &[]), [DATED.trim_end()]);
        assert_eq!(dates(200, &[("Date", "now")]), ["date: now"]);
        assert_eq!(dates(200, &[("Date", "now"), ("date", "then")]), ["date: now"]);
        assert!(dates(103, &[]).is_empty());
    }

    #[test]
    fn f_40_simple_responses() {
        let mut out = Vec::new();
        simple_response(&mut out, STAYS, 404, DATE, true, &[("Allow", "GET")]);
        let expected =
            "HTTP/1.1 404 Not Found\r\ncontent-type: text/plain\r\nallow: GET\r\ncontent-length: 13\r\n"
                .to_owned()
                + DATED
                + "connection: close\r\n\r\n404 Not Found";
        assert_eq!(String::from_utf8(out).unwrap(), expected);

        let mut out = Vec::new();
        simple_response(&mut out, HEAD, 404, DATE, false, &[]);
        assert!(out.ends_with(b"\r\n\r\n"));
        assert!(out.windows(18).any(|window| window == b"content-length: 13"));

        let mut out = Vec::new();
        simple_response(&mut out, STAYS, 599, DATE, false, &[]);
        assert!(out.ends_with(b"\r\n\r\n599"));
    }
}
