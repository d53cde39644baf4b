//! The client's side of the opening handshake (RFC 6455 section 4.1).

use super::deflate::{self, Deflate, DeflateConfig};
use super::extensions;
use super::handshake::VERSION;
use crate::http::{Authority, token};
use data_encoding::BASE64;
use httparse::{EMPTY_HEADER, Header, Status};
use std::fmt;
use tungstenite::handshake::derive_accept_key;

/// The longest head of an answer.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 128;

/// Asks for a WebSocket, and judges the answer.
#[derive(Clone, Debug)]
pub struct ClientHandshake {
    key: String,
    deflate: Option<DeflateConfig>,
    /// The sub-protocols asked for.
    protocols: Vec<Vec<u8>>,
}

/// A server's consent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The bytes of the answer's head; frames follow.
    pub used: usize,
    /// The sub-protocol that the server chose (RFC 6455 section 1.9).
    pub protocol: Option<Vec<u8>>,
    /// How messages may be compressed.
    pub deflate: Option<Deflate>,
    /// All headers of the answer, as they came.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What of a request can not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "`reason` tells each in a sentence")]
pub enum BadHeader {
    Host,
    Target,
    Name,
    Value,
    Reserved,
    Protocol,
}

impl BadHeader {
    /// In words, for who wrote it.
    pub const fn reason(self) -> &'static str {
        match self {
            BadHeader::Host => "the host is not a valid host",
            BadHeader::Target => "the path is not a valid request target",
            BadHeader::Name => "a header name is not a token",
            BadHeader::Value => "a header value holds a control byte",
            BadHeader::Reserved => "a header belongs to the handshake itself",
            BadHeader::Protocol => "a sub-protocol is not a token, or named twice",
        }
    }
}

impl fmt::Display for BadHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for BadHeader {}

/// Why an answer opens no WebSocket (RFC 6455 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "`reason` tells each in a sentence")]
pub enum BadAnswer {
    NotHttp,
    TooLarge,
    /// It refuses, or wants the client to go elsewhere.
    Status(u16),
    Upgrade,
    Connection,
    AcceptKey,
    Protocol,
    Extensions,
}

impl BadAnswer {
    /// In words, for the log.
    pub const fn reason(self) -> &'static str {
        match self {
            BadAnswer::NotHttp => "the answer is not HTTP/1.1",
            BadAnswer::TooLarge => "the head of the answer is too large",
            BadAnswer::Status(_) => "the status of the answer is not 101",
            BadAnswer::Upgrade => "the answer upgrades to something else",
            BadAnswer::Connection => "the answer upgrades to nothing",
            BadAnswer::AcceptKey => "the Sec-WebSocket-Accept does not fit the key",
            BadAnswer::Protocol => "the sub-protocol of the answer was not asked for",
            BadAnswer::Extensions => "the extensions of the answer were not offered",
        }
    }
}

impl fmt::Display for BadAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())?;
        match self {
            BadAnswer::Status(status) => write!(f, ", but {status}"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for BadAnswer {}

impl ClientHandshake {
    /// A handshake with a key that nobody can foresee, and was not used before.
    pub fn new(key: [u8; 16], deflate: Option<&DeflateConfig>) -> ClientHandshake {
        ClientHandshake { key: BASE64.encode(&key), deflate: deflate.copied(), protocols: Vec::new() }
    }

    /// The request, to be written as it is. `host` has the port unless it is the scheme's own. A `Host` among the headers
    /// replaces it; headers that belong to the handshake, or would give the request a body, are refused.
    pub fn request(
        &mut self,
        host: &[u8],
        target: &[u8],
        headers: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<Vec<u8>, BadHeader> {
        let is = |name: &[u8], known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let mut host = host;
        let mut protocols = Vec::new();
        let mut others = Vec::new();
        for (name, value) in headers {
            let value = token::trim(value);
            if !token::is_token(name) {
                return Err(BadHeader::Name);
            }
            if value.iter().any(|&byte| byte != b'\t' && (byte < b' ' || byte == 0x7f)) {
                return Err(BadHeader::Value);
            }
            if is(name, "host") {
                host = value;
                continue;
            }
            if RESERVED.iter().any(|known| is(name, known)) {
                return Err(BadHeader::Reserved);
            }
            if is(name, "sec-websocket-protocol") {
                for protocol in token::list(value) {
                    if !token::is_token(protocol) || protocols.iter().any(|known| known == protocol) {
                        return Err(BadHeader::Protocol);
                    }
                    protocols.push(protocol.to_vec());
                }
            }
            write_line(&mut others, name, value);
        }
        if Authority::parse(host).is_none() {
            return Err(BadHeader::Host);
        }
        // RFC 6455 section 3: no fragment. RFC 9112 section 3.2.1.
        if !target.starts_with(b"/")
            || target.iter().any(|&byte| byte <= b' ' || matches!(byte, b'#' | 0x7f..))
        {
            return Err(BadHeader::Target);
        }
        let mut request = Vec::with_capacity(256);
        request.extend_from_slice(b"GET ");
        request.extend_from_slice(target);
        request.extend_from_slice(b" HTTP/1.1\r\n");
        write_line(&mut request, b"Host", host);
        write_line(&mut request, b"Upgrade", b"websocket");
        write_line(&mut request, b"Connection", b"Upgrade");
        write_line(&mut request, b"Sec-WebSocket-Key", self.key.as_bytes());
        write_line(&mut request, b"Sec-WebSocket-Version", VERSION.as_bytes());
        if let Some(config) = &self.deflate {
            write_line(&mut request, b"Sec-WebSocket-Extensions", deflate::offer(config).as_bytes());
        }
        request.extend_from_slice(&others);
        request.extend_from_slice(b"\r\n");
        self.protocols = protocols;
        Ok(request)
    }

    /// Judges the answer; `input` is all that came so far. `None` if it is not complete.
    pub fn read(&self, input: &[u8]) -> Result<Option<Opened>, BadAnswer> {
        let known = input.get(..MAX_HEAD).unwrap_or(input);
        let mut room = [EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut room);
        let used = match response.parse(known) {
            Ok(Status::Complete(used)) => used,
            Ok(Status::Partial) if input.len() < MAX_HEAD => return Ok(None),
            Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => return Err(BadAnswer::TooLarge),
            Err(_) => return Err(BadAnswer::NotHttp),
        };
        if response.version != Some(1) {
            return Err(BadAnswer::NotHttp);
        }
        match response.code {
            Some(101) => {}
            status => return Err(BadAnswer::Status(status.unwrap_or(0))),
        }
        self.judge(Answer(response.headers), used).map(Some)
    }

    fn judge(&self, answer: Answer<'_>, used: usize) -> Result<Opened, BadAnswer> {
        let mut upgrades = answer.lines("upgrade").flat_map(token::list).peekable();
        if upgrades.peek().is_none() || !upgrades.all(|name| name.eq_ignore_ascii_case(b"websocket")) {
            return Err(BadAnswer::Upgrade);
        }
        let mut options = answer.lines("connection").flat_map(token::list);
        if !options.any(|option| option.eq_ignore_ascii_case(b"upgrade")) {
            return Err(BadAnswer::Connection);
        }
        let expected = derive_accept_key(self.key.as_bytes());
        if !answer.lines("sec-websocket-accept").eq([expected.as_bytes()]) {
            return Err(BadAnswer::AcceptKey);
        }
        let protocol = self.protocol(&answer)?;
        let deflate = self.deflate(&answer)?;
        let headers = answer.0.iter().map(|header| (header.name.as_bytes().to_vec(), header.value.to_vec()));
        Ok(Opened { used, protocol, deflate, headers: headers.collect() })
    }

    /// None, or one of those that were asked for.
    fn protocol(&self, answer: &Answer<'_>) -> Result<Option<Vec<u8>>, BadAnswer> {
        let mut lines = answer.lines("sec-websocket-protocol");
        let Some(protocol) = lines.next() else { return Ok(None) };
        let is_wanted = self.protocols.iter().any(|wanted| wanted == protocol);
        if lines.next().is_some() || !is_wanted {
            return Err(BadAnswer::Protocol);
        }
        Ok(Some(protocol.to_vec()))
    }

    /// None, or the one that was offered.
    fn deflate(&self, answer: &Answer<'_>) -> Result<Option<Deflate>, BadAnswer> {
        let mut agreed = None;
        for line in answer.lines("sec-websocket-extensions") {
            for extension in extensions::parse(line).ok_or(BadAnswer::Extensions)? {
                let deflate = self.deflate.and_then(|config| deflate::accepted(&extension, &config));
                if agreed.replace(deflate.ok_or(BadAnswer::Extensions)?).is_some() {
                    return Err(BadAnswer::Extensions);
                }
            }
        }
        Ok(agreed)
    }
}

/// The headers of an answer.
struct Answer<'a>(&'a [Header<'a>]);

impl<'a> Answer<'a> {
    fn lines(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        let named = self.0.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| token::trim(header.value))
    }
}

fn write_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// What the handshake says itself, and what would give it a body.
const RESERVED: [&str; 9] = [
    "connection",
    "content-length",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-version",
    "te",
    "transfer-encoding",
    "upgrade",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::{Limits, RequestDecoder, Step};
    use crate::websocket::accept;

    const KEY: &[u8; 16] = b"the sample nonce";
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn line(name: &str, value: &str) -> (Vec<u8>, Vec<u8>) {
        (name.as_bytes().to_vec(), value.as_bytes().to_vec())
    }

    /// A handshake that asked for two protocols, and offered compression.
    fn handshake() -> ClientHandshake {
        let mut handshake = ClientHandshake::new(*KEY, Some(&DeflateConfig::default()));
        handshake.request(b"x", b"/", &[line("Sec-WebSocket-Protocol", "chat, superchat")]).unwrap();
        handshake
    }

    fn answer(lines: &str) -> Result<Option<Opened>, BadAnswer> {
        let head = format!("HTTP/1.1 101 Switching Protocols\r\n{lines}\r\n");
        handshake().read(head.as_bytes())
    }

    #[test]
    fn rfc_6455_1_3_the_request() {
        let mut handshake = ClientHandshake::new(*KEY, None);
        let headers =
            [line("Origin", "http://example.com"), line("Sec-WebSocket-Protocol", " chat, superchat ")];
        let request = handshake.request(b"server.example.com:81", b"/chat?a=b", &headers).unwrap();
        assert_eq!(
            String::from_utf8(request).unwrap(),
            "GET /chat?a=b HTTP/1.1\r\nHost: server.example.com:81\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
             Origin: http://example.com\r\nSec-WebSocket-Protocol: chat, superchat\r\n\r\n"
        );
    }

    #[test]
    fn our_server_accepts_our_client() {
        let request = handshake().request(b"x", b"/", &[]).unwrap();
        let Ok((_, Step::Head(request))) = RequestDecoder::new().decode(&request, &Limits::default()) else {
            panic!("not a request")
        };
        let accepted = accept(&request.head, Some(&DeflateConfig::default())).unwrap();
        assert_eq!(accepted.accept_key, ACCEPT);
        let lines = format!(
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\nSec-WebSocket-Extensions: {}\r\n",
            accepted.accept_key,
            accepted.extensions().unwrap()
        );
        let opened = answer(&lines).unwrap().unwrap();
        assert_eq!((opened.deflate, opened.protocol), (accepted.deflate, None));
        assert_eq!(opened.headers[0], line("Upgrade", "websocket"));
    }

    #[test]
    fn f_39_answers_are_verified() {
        let good =
            format!("Upgrade: WebSocket\r\nConnection: x, upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n");
        assert!(matches!(answer(&good), Ok(Some(_))));
        for (bad, expected) in [
            (good.replace("Upgrade: WebSocket", "Upgrade: h2c"), BadAnswer::Upgrade),
            (good.replace("Upgrade: WebSocket", "Upgrade: websocket, h2c"), BadAnswer::Upgrade),
            (good.replace("Upgrade: WebSocket\r\n", ""), BadAnswer::Upgrade),
            (good.replace("x, upgrade", "keep-alive"), BadAnswer::Connection),
            (good.replace("Connection", "Connections"), BadAnswer::Connection),
            (good.replace(ACCEPT, ""), BadAnswer::AcceptKey),
            (good.replace(ACCEPT, &ACCEPT.to_lowercase()), BadAnswer::AcceptKey),
            (good.replace("Sec-WebSocket-Accept", "X"), BadAnswer::AcceptKey),
            (format!("{good}Sec-WebSocket-Accept: {ACCEPT}\r\n"), BadAnswer::AcceptKey),
            (format!("{good}Sec-WebSocket-Protocol: other\r\n"), BadAnswer::Protocol),
            (format!("{good}Sec-WebSocket-Protocol: chat, superchat\r\n"), BadAnswer::Protocol),
            (format!("{good}Sec-WebSocket-Protocol: Chat\r\n"), BadAnswer::Protocol),
            (format!("{good}Sec-WebSocket-Extensions: foo\r\n"), BadAnswer::Extensions),
            (format!("{good}Sec-WebSocket-Extensions: permessage-deflate; x\r\n"), BadAnswer::Extensions),
            (
                format!("{good}Sec-WebSocket-Extensions: permessage-deflate, permessage-deflate\r\n"),
                BadAnswer::Extensions,
            ),
            (format!("{good}Sec-WebSocket-Extensions: permessage-deflate;\r\n"), BadAnswer::Extensions),
        ] {
            assert_eq!(answer(&bad), Err(expected), "{bad:?}");
        }
        let chosen = answer(&format!("{good}Sec-WebSocket-Protocol: superchat\r\n")).unwrap().unwrap();
        assert_eq!(chosen.protocol.as_deref(), Some(&b"superchat"[..]));
        for (head, expected) in [
            ("HTTP/1.1 200 OK\r\nUpgrade: websocket\r\n\r\n", BadAnswer::Status(200)),
            ("HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", BadAnswer::Status(302)),
            ("HTTP/1.0 101 OK\r\n\r\n", BadAnswer::NotHttp),
            ("SSH-2.0-OpenSSH_9.2\r\n", BadAnswer::NotHttp),
        ] {
            assert_eq!(handshake().read(head.as_bytes()), Err(expected), "{head:?}");
        }
        assert_eq!(BadAnswer::Status(403).to_string(), "the status of the answer is not 101, but 403");
    }

    #[test]
    fn frames_may_follow_an_answer_that_comes_in_pieces() {
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
             Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
        );
        let input = [head.as_bytes(), b"\x81\x01a"].concat();
        for length in 0..=input.len() {
            let opened = handshake().read(&input[..length]).unwrap();
            assert_eq!(opened.map(|opened| opened.used), (length >= head.len()).then_some(head.len()));
        }
    }

    #[test]
    fn answers_do_not_go_on_for_ever() {
        let start = "HTTP/1.1 101 Switching Protocols\r\nA: ".to_owned();
        let long = start.clone() + &"b".repeat(MAX_HEAD - start.len() - 1);
        assert_eq!(handshake().read(long.as_bytes()), Ok(None));
        for longer in [long.clone() + "b", long.clone() + "b\r\n\r\n", long + "\r\n\r\n"] {
            assert_eq!(handshake().read(longer.as_bytes()), Err(BadAnswer::TooLarge));
        }
        let many = "HTTP/1.1 101 Switching Protocols\r\n".to_owned() + &"A: b\r\n".repeat(MAX_HEADERS + 1);
        assert_eq!(handshake().read(many.as_bytes()), Err(BadAnswer::TooLarge));
    }

    #[test]
    fn what_could_split_a_request_is_refused() {
        let request = |host: &str, target: &str, headers: &[(Vec<u8>, Vec<u8>)]| {
            ClientHandshake::new(*KEY, None).request(host.as_bytes(), target.as_bytes(), headers)
        };
        for target in ["", "*", "a", "http://x/", "/a b", "/\r\n", "/a#b", "/\u{e4}", "/\x7f"] {
            assert_eq!(request("x", target, &[]), Err(BadHeader::Target), "{target:?}");
        }
        for host in ["", "x y", "x\r\nA: b", "u@x", "x/"] {
            assert_eq!(request(host, "/", &[]), Err(BadHeader::Host), "{host:?}");
        }
        for (name, value, expected) in [
            ("", "b", BadHeader::Name),
            ("a b", "b", BadHeader::Name),
            ("a:", "b", BadHeader::Name),
            ("a\r\nb", "b", BadHeader::Name),
            ("a", "b\r\nc: d", BadHeader::Value),
            ("a", "b\nc", BadHeader::Value),
            ("a", "b\0", BadHeader::Value),
            ("upgrade", "h2c", BadHeader::Reserved),
            ("Connection", "close", BadHeader::Reserved),
            ("SEC-WebSocket-Key", "x", BadHeader::Reserved),
            ("Sec-WebSocket-Version", "8", BadHeader::Reserved),
            ("Sec-WebSocket-Extensions", "foo", BadHeader::Reserved),
            ("Content-Length", "1", BadHeader::Reserved),
            ("Transfer-Encoding", "chunked", BadHeader::Reserved),
            ("Sec-WebSocket-Protocol", "a b", BadHeader::Protocol),
            ("Sec-WebSocket-Protocol", "a, a", BadHeader::Protocol),
            ("Sec-WebSocket-Protocol", "", BadHeader::Protocol),
            ("Host", "x y", BadHeader::Host),
        ] {
            assert_eq!(request("x", "/", &[line(name, value)]), Err(expected), "{name:?}: {value:?}");
        }
        let other_host = request("x", "/", &[line("HOST", "y:1"), line("Cookie", "a=b")]).unwrap();
        let other_host = String::from_utf8(other_host).unwrap();
        assert!(other_host.starts_with("GET / HTTP/1.1\r\nHost: y:1\r\n"));
        assert!(other_host.ends_with("Cookie: a=b\r\n\r\n") && !other_host.contains("Host: x"));
    }
}
