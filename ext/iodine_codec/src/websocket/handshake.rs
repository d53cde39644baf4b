//! The server's side of the opening handshake (RFC 6455 section 4.2).

use super::deflate::{self, Deflate, DeflateConfig};
use super::extensions;
use crate::http::RequestHead;
use std::fmt;
use tungstenite::handshake::derive_accept_key;

/// The version of the protocol, as `Sec-WebSocket-Version` has it.
pub const VERSION: &str = "13";

/// Whether a request would become a WebSocket (RFC 6455 section 4.2.1, points 1, 3 and 4): a GET of HTTP/1.1 that names
/// `websocket` in `Upgrade` and `upgrade` in `Connection`, each perhaps among others and in any case. Whether it may is
/// for [`accept`] to say.
pub fn is_asked_for(head: &RequestHead) -> bool {
    head.method() == b"GET" && head.upgrades().any(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
}

/// Judges a handshake (RFC 6455 section 4.2.2). Its origin, its path and its sub-protocols are for the application.
pub fn accept(head: &RequestHead, deflate: Option<&DeflateConfig>) -> Result<Accepted, Refusal> {
    if !is_asked_for(head) {
        return Err(Refusal::NotAskedFor);
    }
    let key = one(head, "sec-websocket-key").filter(|key| is_key(key)).ok_or(Refusal::BadKey)?;
    let version = one(head, "sec-websocket-version").ok_or(Refusal::BadVersion)?;
    if version != VERSION.as_bytes() {
        return Err(Refusal::UnsupportedVersion);
    }
    let mut offers = Vec::new();
    for line in lines(head, "sec-websocket-extensions") {
        offers.extend(extensions::parse(line).ok_or(Refusal::BadExtensions)?);
    }
    let agreed = deflate.and_then(|config| deflate::answer(&offers, config));
    let (deflate, extensions) = agreed.unzip();
    Ok(Accepted { accept_key: derive_accept_key(key), deflate, extensions })
}

/// A handshake that the server can agree to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The value of `Sec-WebSocket-Accept` (RFC 6455 section 4.2.2, point 5.4).
    pub accept_key: String,
    /// How messages may be compressed, if both sides want it.
    pub deflate: Option<Deflate>,
    extensions: Option<String>,
}

impl Accepted {
    /// The value of `Sec-WebSocket-Extensions`; without one the header is not to be sent (RFC 6455 section 9.1).
    pub fn extensions(&self) -> Option<String> {
        self.extensions.clone()
    }
}

/// Why a handshake is refused (RFC 6455 section 4.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "`reason` tells each in a sentence")]
pub enum Refusal {
    NotAskedFor,
    BadKey,
    BadVersion,
    UnsupportedVersion,
    BadExtensions,
}

impl Refusal {
    /// The status of the answer. A 426 must be sent with `sec-websocket-version: 13` (RFC 6455 section 4.4).
    pub const fn status(self) -> u16 {
        match self {
            Refusal::UnsupportedVersion => 426,
            Refusal::NotAskedFor | Refusal::BadKey | Refusal::BadVersion | Refusal::BadExtensions => 400,
        }
    }

    /// In words, for the log.
    pub const fn reason(self) -> &'static str {
        match self {
            Refusal::NotAskedFor => "the request does not ask for a WebSocket",
            Refusal::BadKey => "there is not exactly one Sec-WebSocket-Key of 16 bytes in base64",
            Refusal::BadVersion => "there is not exactly one Sec-WebSocket-Version",
            Refusal::UnsupportedVersion => "the only version of WebSocket supported is 13",
            Refusal::BadExtensions => "the Sec-WebSocket-Extensions are malformed",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Refusal {}

fn lines<'h>(head: &'h RequestHead, name: &'static str) -> impl Iterator<Item = &'h [u8]> {
    head.headers()
        .filter(move |(candidate, _)| candidate.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| value)
}

/// The value of a header that must be there once (RFC 6455 section 11.3.1 and 11.3.5).
fn one<'h>(head: &'h RequestHead, name: &'static str) -> Option<&'h [u8]> {
    let mut lines = lines(head, name);
    let first = lines.next()?;
    lines.next().is_none().then_some(first)
}

/// 16 bytes in base64. The bits that no byte needs may be anything: clients that make up their key as text do not care.
fn is_key(text: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    text.strip_suffix(b"==").is_some_and(|digits| digits.len() == 22 && digits.iter().all(is_digit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::{Limits, RequestDecoder, Step};

    fn head(text: &str) -> RequestHead {
        match RequestDecoder::new().decode(text.as_bytes(), &Limits::default()) {
            Ok((_, Step::Head(request))) => request.head,
            other => panic!("{other:?}"),
        }
    }

    fn asked(lines: &str) -> RequestHead {
        head(&format!("GET /chat HTTP/1.1\r\nHost: server.example.com\r\n{lines}\r\n"))
    }

    const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    const V13: &str = "Sec-WebSocket-Version: 13\r\n";

    #[test]
    fn rfc_6455_1_3_the_example() {
        let head = asked(&format!(
            "{UPGRADE}{KEY}Origin: http://example.com\r\nSec-WebSocket-Protocol: chat, superchat\r\n{V13}"
        ));
        let accepted = accept(&head, Some(&DeflateConfig::default())).unwrap();
        assert_eq!(accepted.accept_key, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!((accepted.deflate, accepted.extensions()), (None, None));
    }

    #[test]
    fn f_28_an_upgrade_is_asked_for_by_lists() {
        for (lines, expected) in [
            (UPGRADE, true),
            ("Upgrade: WebSocket\r\nConnection: keep-alive, UPGRADE\r\n", true),
            ("Upgrade: foo, websocket\r\nConnection: upgrade\r\n", true),
            ("Upgrade: websocket, foo\r\nConnection: upgrade\r\n", true),
            ("Upgrade: foo\r\nUpgrade: websocket\r\nConnection: close\r\nConnection: upgrade\r\n", true),
            ("Upgrade: pestering\r\nConnection: upgrade\r\n", false),
            ("Upgrade: websockets\r\nConnection: upgrade\r\n", false),
            ("Upgrade: websocket/13\r\nConnection: upgrade\r\n", false),
            ("Upgrade: websocket\r\nConnection: keep-alive\r\n", false),
            ("Upgrade: websocket\r\n", false),
            ("Connection: upgrade\r\n", false),
        ] {
            assert_eq!(is_asked_for(&asked(lines)), expected, "{lines:?}");
        }
        assert!(!is_asked_for(&head(&format!("POST / HTTP/1.1\r\nHost: x\r\n{UPGRADE}\r\n"))));
        assert!(!is_asked_for(&head(&format!("HEAD / HTTP/1.1\r\nHost: x\r\n{UPGRADE}\r\n"))));
        assert!(!is_asked_for(&head(&format!("GET / HTTP/1.0\r\nHost: x\r\n{UPGRADE}\r\n"))));
    }

    #[test]
    fn f_28_keys_and_versions_are_checked() {
        let refusal = |lines: &str| accept(&asked(lines), None).err();
        let with_key = |key: &str| refusal(&format!("{UPGRADE}Sec-WebSocket-Key: {key}\r\n{V13}"));
        assert_eq!(refusal(&format!("{UPGRADE}{KEY}{V13}")), None);
        assert_eq!(refusal(&format!("{KEY}{V13}")), Some(Refusal::NotAskedFor));
        assert_eq!(refusal(&format!("{UPGRADE}{V13}")), Some(Refusal::BadKey));
        assert_eq!(refusal(&format!("{UPGRADE}{KEY}{KEY}{V13}")), Some(Refusal::BadKey));
        assert_eq!(with_key("x3JJHMbDL1EzLkh9GBhXDw=="), None);
        for key in [
            "",
            "dGhlIHNhbXBsZSBub25jZQ=",
            "dGhlIHNhbXBsZSBub25j",
            "dGhlIHNhbXBsZSBub25jZ Q==",
            "dGhlIHNhbXBsZSBub25jZQAA",
        ] {
            assert_eq!(with_key(key), Some(Refusal::BadKey), "{key:?}");
        }
        assert_eq!(refusal(&format!("{UPGRADE}{KEY}")), Some(Refusal::BadVersion));
        assert_eq!(refusal(&format!("{UPGRADE}{KEY}{V13}{V13}")), Some(Refusal::BadVersion));
        for version in ["8", "14", "013", "13, 8", ""] {
            let refused = refusal(&format!("{UPGRADE}{KEY}Sec-WebSocket-Version: {version}\r\n"));
            assert_eq!(refused, Some(Refusal::UnsupportedVersion), "{version:?}");
        }
        assert_eq!(Refusal::UnsupportedVersion.status(), 426);
        assert_eq!(Refusal::BadKey.status(), 400);
        assert_eq!(Refusal::BadKey.to_string(), Refusal::BadKey.reason());
    }

    #[test]
    fn extensions_are_one_list() {
        let with = |lines: &str, config| {
            accept(&asked(&format!("{UPGRADE}{KEY}{V13}{lines}")), config)
                .map(|accepted| accepted.extensions())
        };
        let config = DeflateConfig { context_takeover: true, ..DeflateConfig::default() };
        let line = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
        assert_eq!(with(line, Some(&config)), Ok(Some("permessage-deflate".to_owned())));
        assert_eq!(with(line, None), Ok(None));
        assert_eq!(
            with(&format!("Sec-WebSocket-Extensions: foo\r\n{line}"), Some(&config)),
            with(line, Some(&config))
        );
        assert_eq!(with("Sec-WebSocket-Extensions: permessage-deflate; x=1\r\n", Some(&config)), Ok(None));
        assert_eq!(with("Sec-WebSocket-Extensions: a;\r\n", Some(&config)), Err(Refusal::BadExtensions));
    }
}
