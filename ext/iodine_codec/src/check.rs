//! What must hold for any input at all.
//!
//! Each function takes bytes that nobody chose and panics if an invariant is broken. The fuzz targets are one call to
//! a function in here, and so are unit tests. Nothing in the server calls this module.

pub mod access_log;
mod inflate;
pub mod mustache;
pub mod proxies;
pub mod sse;
pub mod websocket;

use crate::http::range::{self, Ranges};
use crate::http::{Version, file_path, token};
use crate::http1::{
    BodyLength, BodySize, ChunkedDecoder, Finished, Framing, Limits, Piece, Rejection, Request,
    RequestDecoder, RequestFacts, ResponseEncoder, Step, chunk,
};
use crate::json::{self, Builder, ErrorKind, Rules, Scratch, Text};
use crate::url::{self, Coding};

pub use access_log::access_log;
pub use mustache::{OutOfPatience, mustache, render, template};
pub use proxies::{forwarded, proxy_header};
pub use sse::sse;
pub use websocket::{websocket_deflate, websocket_frames, websocket_handshake};

/// Something a decoder told about a stream of bytes. Pieces of one body are joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request's head: the bytes between its parts, put together again.
    Head {
        /// Method, target and version.
        line: Vec<u8>,
        /// All header lines as `name: value`.
        headers: Vec<Vec<u8>>,
        /// Its framing.
        framing: Framing,
    },
    /// A decoded body.
    Body(Vec<u8>),
    /// The end of a message.
    End,
    /// The refusal that ends everything.
    Refused(Rejection),
    /// The stream stopped inside a message.
    Unfinished,
}

/// Runs a decoder over the pieces of a stream.
pub fn trace<'i>(pieces: impl IntoIterator<Item = &'i [u8]>, limits: &Limits) -> Vec<Event> {
    let mut decoder = RequestDecoder::new();
    let mut events = Vec::new();
    for piece in pieces {
        if let Err(rejection) = feed(&mut decoder, piece, limits, &mut events) {
            assert_eq!(decoder.decode(piece, limits).err(), Some(rejection), "a rejection is final");
            events.push(Event::Refused(rejection));
            return events;
        }
    }
    if !decoder.is_idle() {
        events.push(Event::Unfinished);
    }
    events
}

/// Requests in general: however the bytes are cut, they mean the same.
pub fn head(data: &[u8]) {
    for limits in [Limits::default(), TIGHT] {
        let whole = trace([data], &limits);
        assert_eq!(whole, trace(data.chunks(1), &limits), "byte by byte");
        assert_eq!(whole, trace(data.chunks(7), &limits), "in pieces of seven");
        let (first, second) = data.split_at(data.len() / 2);
        assert_eq!(whole, trace([first, b"", second], &limits), "in two halves");
    }
}

/// The chunked coding: however the bytes are cut, they decode to the same, and what was decoded can be encoded again.
pub fn chunked(data: &[u8]) {
    for limits in [Limits::default(), TIGHT] {
        let whole = decode_chunked([data], &limits);
        assert_eq!(whole, decode_chunked(data.chunks(1), &limits), "byte by byte");
        assert_eq!(whole, decode_chunked(data.chunks(5), &limits), "in pieces of five");
        if let (body, Ok(Some(used))) = &whole {
            assert!(*used <= data.len());
            assert!(body.len() as u64 <= limits.body);
        }
    }
    let mut encoded = Vec::new();
    data.chunks(11).for_each(|piece| chunk::encode(&mut encoded, piece));
    chunk::end(&mut encoded);
    let expected = (data.to_vec(), Ok(Some(encoded.len())));
    assert_eq!(decode_chunked([&encoded[..]], &Limits::default()), expected, "round trip");
}

/// Framing: `data` is the header section of a POST. What is accepted agrees with a second reading of the header lines
/// that is slow and knows nothing but the rules.
pub fn framing(data: &[u8]) {
    for version in ["1.0", "1.1"] {
        let mut input = format!("POST / HTTP/{version}\r\n").into_bytes();
        input.extend_from_slice(data);
        head(&input);
        input.extend_from_slice(b"\r\n\r\n");
        let mut decoder = RequestDecoder::new();
        if let Ok((_, Step::Head(request))) = decoder.decode(&input, &Limits::default()) {
            check_framing(&request);
        }
    }
}

/// Responses: `data` is what an application wants in a header. Whatever it is, the head it leaves is one head.
pub fn response(data: &[u8]) {
    let (name, value) = data.split_at(data.iter().position(|&byte| byte == b'=').unwrap_or(data.len()));
    let mut out = Vec::new();
    let request = RequestFacts { version: Version::Http11, keep_alive: true, head: false };
    let mut encoder = ResponseEncoder::new(&mut out, request, 200);
    let refused = encoder.header(name, value).is_err();
    encoder.finish(BodySize::Known(0), DATE, false);
    let text = out.strip_prefix(b"HTTP/1.1 200 OK\r\n").expect("the status line");
    let lines = text.strip_suffix(b"\r\n\r\n").expect("one blank line at the end");
    let mut others = 0usize;
    for line in split_lines(lines) {
        let colon = line.iter().position(|&byte| byte == b':').expect("every line has a colon");
        let (name, value) = line.split_at(colon);
        assert!(token::is_token(name), "a name is a token");
        assert!(!name.iter().any(u8::is_ascii_uppercase), "a name is in lower case");
        assert!(value.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f)), "a value is text");
        others += usize::from(!matches!(name, b"content-length" | b"date"));
    }
    assert!(others == 0 || !refused, "nothing of a refused header is written");
}

/// Paths: whatever a client asks for, the file is below the folder.
pub fn file_path(data: &[u8]) {
    for hidden in [false, true] {
        let Ok(path) = file_path::decode(data, hidden) else { continue };
        assert!(data.starts_with(b"/"), "the path began with a slash");
        assert!(!path.contains(&0) && !path.contains(&b'\\'), "no byte ends a name early");
        for segment in path.split(|&byte| byte == b'/') {
            assert!(!matches!(segment, b"" | b"." | b".."), "every segment is a name");
            assert!(hidden || !segment.starts_with(b".") || segment == b".well-known", "no hidden file");
        }
    }
}

/// A JSON document as a tree, for comparing.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Tree {
    Null,
    Boolean(bool),
    Integer(i64),
    /// Sign and digits, and their base.
    BigInteger(String, u32),
    Float(f64),
    Text(Vec<u8>),
    /// A string that is not UTF-8.
    Binary(Vec<u8>),
    Array(Vec<Tree>),
    Object(Vec<(Tree, Tree)>),
}

impl Tree {
    /// The tree of a document.
    pub fn parse(data: &[u8], rules: &Rules) -> Result<Tree, json::Error> {
        let mut stack = TreeBuilder(Vec::new());
        json::parse(data, rules, &mut Scratch::default(), &mut stack)?;
        assert_eq!(stack.0.len(), 1, "a document is one value");
        Ok(stack.0.remove(0))
    }

    /// The tree as strict JSON, as far as it can be written as such.
    pub fn write(&self, out: &mut Vec<u8>) -> Option<()> {
        match self {
            Tree::Null => out.extend_from_slice(b"null"),
            Tree::Boolean(value) => out.extend_from_slice(value.to_string().as_bytes()),
            Tree::Integer(value) => out.extend_from_slice(value.to_string().as_bytes()),
            Tree::BigInteger(digits, 10) => out.extend_from_slice(digits.as_bytes()),
            Tree::Float(value) if value.is_finite() => out.extend_from_slice(format!("{value:e}").as_bytes()),
            Tree::Text(bytes) => write_text(bytes, out),
            Tree::Array(items) => {
                out.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    out.extend_from_slice(if index == 0 { b"" } else { b" ,\n" });
                    item.write(out)?;
                }
                out.push(b']');
            }
            Tree::Object(members) => {
                out.push(b'{');
                for (index, (key, value)) in members.iter().enumerate() {
                    out.extend_from_slice(if index == 0 { b"" } else { b"," });
                    key.write(out)?;
                    out.extend_from_slice(b"\t:");
                    value.write(out)?;
                }
                out.push(b'}');
            }
            Tree::BigInteger(..) | Tree::Float(_) | Tree::Binary(_) => return None,
        }
        Some(())
    }

    fn depth(&self) -> usize {
        match self {
            Tree::Array(items) => 1 + items.iter().map(Tree::depth).max().unwrap_or(0),
            Tree::Object(members) => 1 + members.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }
}

/// Ranges: the first eight bytes are a file's length, the others a `Range` header. What is served lies in the file and
/// nothing of it is served twice.
pub fn range(data: &[u8]) {
    let (len, value) = data.split_at(data.len().min(8));
    let len = len.iter().fold(0, |len, &byte| len << 8 | u64::from(byte));
    range_of(value, len);
    // Short files are the ones with edges.
    range_of(value, len % 32);
}

/// As [`range`], of a file of `len` bytes.
pub fn range_of(value: &[u8], len: u64) {
    let Ranges::Parts(mut parts) = range::parse(value, len) else { return };
    assert!((1..=range::MAX_RANGES).contains(&parts.len()));
    parts.sort_by_key(|part| part.start);
    let mut served = 0;
    for part in &parts {
        assert!(part.len > 0 && part.start >= served, "parts neither overlap nor are empty");
        served = part.start.checked_add(part.len).expect("no place is beyond 64 bits");
    }
    assert!(served <= len, "no part leaves the file");
}

fn write_text(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            ..0x20 => out.extend_from_slice(format!("\\u{byte:04X}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

struct TreeBuilder(Vec<Tree>);

impl Builder for TreeBuilder {
    fn null(&mut self) {
        self.0.push(Tree::Null);
    }

    fn boolean(&mut self, value: bool) {
        self.0.push(Tree::Boolean(value));
    }

    fn integer(&mut self, value: i64) {
        self.0.push(Tree::Integer(value));
    }

    fn big_integer(&mut self, negative: bool, digits: &[u8], radix: u32) {
        assert!(!digits.is_empty() && digits.iter().all(|&digit| char::from(digit).is_digit(radix)));
        let digits = String::from_utf8_lossy(digits);
        self.0.push(Tree::BigInteger(format!("{}{digits}", if negative { "-" } else { "" }), radix));
    }

    fn float(&mut self, value: f64) {
        self.0.push(Tree::Float(value));
    }

    fn string(&mut self, text: Text<'_>) {
        self.0.push(match text {
            Text::Utf8(bytes) => {
                assert!(std::str::from_utf8(bytes).is_ok(), "what is called UTF-8 is UTF-8");
                Tree::Text(bytes.to_vec())
            }
            Text::Binary(bytes) => {
                assert!(std::str::from_utf8(bytes).is_err(), "and what is not, is not");
                Tree::Binary(bytes.to_vec())
            }
        });
    }

    fn key(&mut self, text: Text<'_>) {
        self.string(text);
    }

    fn array(&mut self, count: usize) {
        let items = self.0.split_off(self.0.len() - count);
        self.0.push(Tree::Array(items));
    }

    fn object(&mut self, count: usize) {
        let mut parts = self.0.split_off(self.0.len() - count * 2).into_iter();
        let members = std::iter::from_fn(|| Some((parts.next()?, parts.next()?))).collect();
        self.0.push(Tree::Object(members));
    }
}

/// JSON: what is strict JSON means the same leniently, what was read can be written and read again, and the limits hold.
pub fn json(data: &[u8]) {
    let strict = Tree::parse(data, &Rules::STRICT);
    let lenient = Tree::parse(data, &Rules::LENIENT);
    for error in [&strict, &lenient].into_iter().filter_map(|result| result.as_ref().err()) {
        assert!(error.offset <= data.len(), "an error is inside the text or at its end");
    }
    if strict.is_ok() {
        assert_eq!(strict, lenient, "lenient rules only add to the strict ones");
    }
    let Ok(tree) = lenient else { return };
    assert!(tree.depth() <= Rules::MAX_NESTING);
    let shallow = Tree::parse(data, &Rules { max_nesting: 2, ..Rules::LENIENT });
    match shallow {
        Ok(_) => assert!(tree.depth() <= 2),
        Err(error) => assert_eq!((error.kind, tree.depth() > 2), (ErrorKind::TooDeep, true)),
    }
    let mut written = Vec::new();
    if tree.write(&mut written).is_some() {
        assert_eq!(Tree::parse(&written, &Rules::STRICT), Ok(tree), "round trip");
    }
}

/// Percent-encoding: what is encoded decodes to what it was, and what can not be decoded is left alone.
pub fn percent(data: &[u8]) {
    let encoded: Vec<u8> = data.iter().flat_map(|byte| format!("%{byte:02x}").into_bytes()).collect();
    for coding in [Coding::FORM, Coding::PATH, Coding::ANY_PATH] {
        assert_eq!(decode_percent(&encoded, coding).as_deref(), Some(data), "round trip");
        let tolerant = decode_percent(data, Coding { keeps_malformed: true, ..coding });
        match decode_percent(data, coding) {
            Some(decoded) => assert_eq!(Some(decoded), tolerant, "tolerance only adds"),
            None => assert!(!coding.keeps_malformed && data.contains(&b'%')),
        }
    }
}

fn decode_percent(data: &[u8], coding: Coding) -> Option<Vec<u8>> {
    let mut bytes = data.to_vec();
    match url::decode(&mut bytes, coding) {
        Ok(length) => {
            bytes.truncate(length);
            Some(bytes)
        }
        Err(_) => {
            assert_eq!(bytes, data, "a refused text is left as it was");
            None
        }
    }
}

/// Whole answers: the first four bytes choose the request, the status and the body, the rest is what an application wants in
/// its headers, as `name=value` between bytes of 0xff. Whatever it is, a client reads one answer, of that status, whose
/// end is where the server thinks it is.
pub fn answer(data: &[u8]) {
    let [asked, high, low, length, fields @ ..] = data else { return };
    let request = RequestFacts {
        version: if asked & 1 == 0 { Version::Http11 } else { Version::Http10 },
        keep_alive: asked & 2 != 0,
        head: asked & 4 != 0,
    };
    let status = 200 + u16::from_be_bytes([*high, *low]) % 800;
    let body = vec![b'x'; usize::from(*length)];
    let size = match asked >> 4 & 3 {
        0 | 1 => BodySize::Known(u64::from(*length)),
        2 => BodySize::ChunkedByUs,
        _ => BodySize::UntilClose,
    };
    let mut out = Vec::new();
    let mut encoder = ResponseEncoder::new(&mut out, request, status);
    for field in fields.split(|&byte| byte == 0xff) {
        let (name, value) =
            field.split_at(field.iter().position(|&byte| byte == b'=').unwrap_or(field.len()));
        // The application gets a 500 for a refused header; what was written before it must do no harm all the same.
        let _ = encoder.header(name, value.get(1..).unwrap_or_default());
    }
    let finished = encoder.finish(size, DATE, asked & 8 != 0);
    let head = out.len();
    match finished.send_body {
        true if finished.chunked => {
            chunk::encode(&mut out, &body);
            chunk::end(&mut out);
        }
        true => out.extend_from_slice(&body),
        false => {}
    }
    check_answer(&out, head, request, status, finished, &body);
}

/// Reads an answer as a client does.
fn check_answer(
    out: &[u8],
    head: usize,
    request: RequestFacts,
    status: u16,
    finished: Finished,
    body: &[u8],
) {
    let mut headers = vec![httparse::EMPTY_HEADER; out.len() / 4 + 1];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(out).expect("a client understands the head");
    assert_eq!(parsed, httparse::Status::Complete(head), "the head ends where the server thinks");
    assert_eq!((response.code, response.version), (Some(status), Some(1)));
    let values = |wanted: &str| -> Vec<&[u8]> {
        let named = response.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(wanted));
        named.map(|header| header.value).collect()
    };
    assert_eq!(values("date").len(), 1);
    let lengths = values("content-length");
    let codings = values("transfer-encoding");
    assert!(lengths.len() + codings.len() <= 1, "one framing (RFC 9112 section 6.3)");
    assert_eq!(finished.chunked, !codings.is_empty());
    let closes = values("connection").contains(&&b"close"[..]);
    // To HTTP/1.0 nothing said is a close.
    let stays = values("connection").contains(&&b"keep-alive"[..]) || request.version == Version::Http11;
    assert_eq!(finished.keep_alive, !closes && stays, "the client knows whether the connection stays");
    assert!(request.keep_alive || !finished.keep_alive);
    let rest = out.get(head..).unwrap_or_default();
    let bodiless = request.head || matches!(status, 204 | 205 | 304);
    assert_eq!(finished.send_body, !bodiless);
    match (lengths.first(), finished.chunked) {
        _ if bodiless => assert!(rest.is_empty()),
        (Some(length), _) => assert_eq!(*length, body.len().to_string().as_bytes()),
        (None, true) => {
            let decoded = decode_chunked([rest], &Limits::default());
            assert_eq!(decoded, (body.to_vec(), Ok(Some(rest.len()))));
        }
        (None, false) => assert!(!finished.keep_alive, "only the end of the connection ends it"),
    }
}

fn feed(
    decoder: &mut RequestDecoder,
    mut rest: &[u8],
    limits: &Limits,
    events: &mut Vec<Event>,
) -> Result<(), Rejection> {
    loop {
        let (consumed, step) = decoder.decode(rest, limits)?;
        assert!(consumed <= rest.len(), "consumed more than there was");
        match step {
            Step::NeedMore => {
                assert_eq!(consumed, rest.len(), "left input behind");
                return Ok(());
            }
            Step::Head(request) => events.push(head_event(&request)),
            Step::Body(data) => push_body(events, data),
            Step::End => events.push(Event::End),
        }
        rest = &rest[consumed..];
    }
}

fn push_body(events: &mut Vec<Event>, data: &[u8]) {
    assert!(!data.is_empty(), "an empty piece of body");
    match events.last_mut() {
        Some(Event::Body(body)) => body.extend_from_slice(data),
        _ => events.push(Event::Body(data.to_vec())),
    }
}

fn head_event(request: &Request) -> Event {
    let head = &request.head;
    check_head(request);
    Event::Head {
        line: [head.method(), head.target(), head.version().as_str().as_bytes()].join(&b' '),
        headers: head.headers().map(|(name, value)| [name, value].join(&b": "[..])).collect(),
        framing: request.framing,
    }
}

fn check_head(request: &Request) {
    let head = &request.head;
    assert!(token::is_token(head.method()), "a method is a token");
    assert!(!head.target().is_empty());
    assert!(head.path().starts_with(b"/") || (head.path() == b"*" && head.method() == b"OPTIONS"));
    assert!(!head.path().contains(&b'?'));
    for part in [head.target(), head.path(), head.query()] {
        assert!(
            !part.iter().any(|&byte| byte <= b' ' || byte == 0x7f || byte == b'#'),
            "a target is visible bytes"
        );
    }
    assert_eq!(head.headers().count(), head.header_count());
    for (name, value) in head.headers() {
        assert!(token::is_token(name), "a name is a token");
        assert_eq!(token::trim(value), value, "a value is trimmed");
        assert!(!value.iter().any(|&byte| (byte < b' ' && byte != b'\t') || byte == 0x7f), "a value is text");
    }
    assert!(head.host().is_some() || head.version() == Version::Http10);
}

/// The body of some chunks, and how many bytes they took: `None` if they are not complete.
fn decode_chunked<'i>(
    pieces: impl IntoIterator<Item = &'i [u8]>,
    limits: &Limits,
) -> (Vec<u8>, Result<Option<usize>, Rejection>) {
    let mut decoder = ChunkedDecoder::new();
    let mut body = Vec::new();
    let mut used = 0;
    for mut rest in pieces {
        loop {
            match decoder.decode(rest, limits) {
                Err(rejection) => return (body, Err(rejection)),
                Ok((consumed, piece)) => {
                    assert!(consumed <= rest.len(), "consumed more than there was");
                    used += consumed;
                    rest = &rest[consumed..];
                    match piece {
                        Piece::NeedMore => break,
                        Piece::Data(data) => body.extend_from_slice(data),
                        Piece::End => return (body, Ok(Some(used))),
                    }
                }
            }
        }
        assert!(rest.is_empty(), "left input behind");
    }
    (body, Ok(None))
}

fn check_framing(request: &Request) {
    let head = &request.head;
    let values = |wanted: &str| -> Vec<String> {
        head.headers()
            .filter(|(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes()))
            .map(|(_, value)| value.iter().map(|&byte| char::from(byte)).collect())
            .collect()
    };
    let lengths = values("content-length");
    let codings = values("transfer-encoding").join(",").to_ascii_lowercase();
    let expected = match &lengths[..] {
        [] if codings.is_empty() => BodyLength::Empty,
        [] => {
            assert_eq!(codings, "chunked");
            assert_eq!(head.version(), Version::Http11);
            BodyLength::Chunked
        }
        [length] => {
            assert!(codings.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()));
            match length.parse().expect("an accepted length is a number") {
                0 => BodyLength::Empty,
                length => BodyLength::Length(length),
            }
        }
        _ => panic!("several lengths were accepted"),
    };
    assert_eq!(request.framing.body, expected);

    let options = values("connection").join(",").to_ascii_lowercase();
    let has = |wanted: &str| options.split(',').any(|option| option.trim_matches([' ', '\t']) == wanted);
    let persistent = head.version() == Version::Http11 || has("keep-alive");
    assert_eq!(request.framing.keep_alive, persistent && !has("close"));

    let hosts = values("host");
    assert!(hosts.len() == 1 || (hosts.is_empty() && head.version() == Version::Http10));
    assert!(!request.framing.expect_continue || !values("expect").is_empty());
}

fn split_lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// Limits that short inputs reach.
pub const TIGHT: Limits = Limits { line: 40, head: 90, headers: 3, body: 24 };

const DATE: &[u8] = b"Mon, 23 Nov 2026 06:53:47 GMT";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_every_kind_pass() {
        for data in [
            &b""[..],
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\r\nGET http://a/?b HTTP/1.0\r\n\r\nOPTIONS * HTTP/1.1\r\nHost: y\r\nContent-Length: 3\r\n\r\nabcGET",
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n0\r\nX: y\r\n\r\n",
            b"\x16\x03\x01\x02\x00",
        ] {
            head(data);
        }
    }

    #[test]
    fn chunks_of_every_kind_pass() {
        for data in [
            &b""[..],
            b"0\r\n\r\n",
            b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\nrest",
            b"fffffffffffffff0\r\nhi",
            b"x",
        ] {
            chunked(data);
        }
    }

    #[test]
    fn header_sections_of_every_kind_pass() {
        for data in [
            &b""[..],
            b"Host: x",
            b"Host: x\r\nContent-Length: 4\r\nConnection: a, close",
            b"Host: x\r\nTransfer-Encoding: Chunked\r\nExpect: 100-continue",
            b"Connection: keep-alive",
            b"Host: x\r\nContent-Length: 0\r\nContent-Length: 0",
        ] {
            framing(data);
        }
    }

    #[test]
    fn response_headers_of_every_kind_pass() {
        for data in
            [&b""[..], b"X-A=1", b"X-A\r\nX-B=1", b"x=a\nb", b"x=a\r\nb", b"x=\0", b"content-length=7", b"=x"]
        {
            response(data);
        }
    }

    #[test]
    fn documents_of_every_kind_pass() {
        for data in [
            &b""[..],
            b"[[[1.5, -2, 12345678901234567890, true, null]], {\"a\": \"\\ud83d\\ude00\\n\"}]",
            b"[1 2,, # no\n {\"a\":}, NaN, -inf, 0xFFFFFFFFFFFFFFFFF, \"\\xff\"]",
            b"{\"a\":{\"b\":[1e999, 1e-999, -0.0, 0]}}",
            b"[\"\xff\"]",
        ] {
            json(data);
        }
    }

    #[test]
    fn escapes_of_every_kind_pass() {
        for data in [&b""[..], b"a+b%20c", b"%", b"%4", b"%%41+", b"\xff%00"] {
            percent(data);
        }
    }

    #[test]
    fn answers_of_every_kind_pass() {
        let fields: [&[u8]; 10] = [
            b"",
            b"Content-Length=7\xffcontent-length=8",
            b"content-length=5\xffTransfer-Encoding=chunked",
            b"Connection=keep-alive, Upgrade\xffconnection=close",
            b"Date=then\xffdate=now",
            b"X-A\r\nX-B=1\xffX-C=1\r\n\r\nHTTP/1.1 200 OK\r\n",
            b"x=a\nb\n\nc\xffset-cookie=a\nb",
            b"x=\0\xff\0=x\xff=\xff:=:",
            b"Content-Length=-1\xffCONTENT-LENGTH=5\nX: y",
            b"x=\t \xffy=caf\xc3\xa9\xffz=a\rb",
        ];
        for asked in 0..64 {
            for status in [200u16, 204, 205, 304, 404, 500, 599, 999] {
                for fields in fields {
                    let [high, low] = (status - 200).to_be_bytes();
                    answer(&[&[asked, high, low, 5][..], fields].concat());
                    answer(&[&[asked, high, low, 0][..], fields].concat());
                }
            }
        }
        answer(b"abc");
    }
}
