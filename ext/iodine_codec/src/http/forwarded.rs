//! The scheme the client used towards the outermost proxy, as the proxies tell it.
//!
//! Whether a proxy is to be believed is not decided here.

use super::token;

/// The schemes an HTTP request can have come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In clear text.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// The scheme as it is written in a URL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// The scheme told by the first element of `X-Forwarded-Proto`, else by the first element of `Forwarded`
/// (RFC 7239 section 5.4). Anything but a scheme of HTTP or WebSocket tells nothing.
pub fn scheme(x_forwarded_proto: Option<&[u8]>, forwarded: Option<&[u8]>) -> Option<Scheme> {
    x_forwarded_proto.and_then(from_x_forwarded_proto).or_else(|| forwarded.and_then(from_forwarded))
}

fn from_x_forwarded_proto(value: &[u8]) -> Option<Scheme> {
    named(token::list(value).next()?)
}

/// Walks the parameters of the first element: `for=_x;proto=https;by="a, b"`.
fn from_forwarded(mut rest: &[u8]) -> Option<Scheme> {
    loop {
        let equals = rest.iter().position(|byte| matches!(byte, b'=' | b';' | b',' | b'"'))?;
        if rest.get(equals) != Some(&b'=') {
            return None;
        }
        let name = token::trim(rest.get(..equals)?);
        let (value, after) = split_value(rest.get(equals.checked_add(1)?..)?)?;
        if name.eq_ignore_ascii_case(b"proto") {
            return scheme_of_value(value);
        }
        rest = token::trim(after).strip_prefix(b";")?;
    }
}

/// Splits a parameter's value from what follows it; a quoted string keeps its quotes.
fn split_value(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = token::trim(rest);
    let end = match rest.first()? {
        b'"' => quoted_len(rest)?,
        _ => rest.iter().position(|byte| matches!(byte, b';' | b',')).unwrap_or(rest.len()),
    };
    rest.split_at_checked(end)
}

/// The length of the quoted string at the start, quotes included (RFC 9110 section 5.6.4).
fn quoted_len(rest: &[u8]) -> Option<usize> {
    let mut escaped = false;
    for (index, &byte) in rest.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return index.checked_add(1),
            _ => {}
        }
    }
    None
}

fn scheme_of_value(value: &[u8]) -> Option<Scheme> {
    let Some(inner) = value.strip_prefix(b"\"") else {
        return named(token::trim(value));
    };
    let inner = inner.strip_suffix(b"\"")?;
    // A backslash only hides the byte behind it. No scheme holds one, so dropping them unescapes.
    let mut plain = [0; 8];
    let mut len = 0usize;
    for &byte in inner.iter().filter(|&&byte| byte != b'\\') {
        *plain.get_mut(len)? = byte;
        len = len.saturating_add(1);
    }
    named(plain.get(..len)?)
}

fn named(name: &[u8]) -> Option<Scheme> {
    let is = |candidate: &[u8]| name.eq_ignore_ascii_case(candidate);
    if is(b"https") || is(b"wss") {
        Some(Scheme::Https)
    } else if is(b"http") || is(b"ws") {
        Some(Scheme::Http)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(x_forwarded_proto: &str, forwarded: &str) -> &'static str {
        let given = |text: &'static str| (!text.is_empty()).then_some(text.as_bytes());
        let x: &'static str = x_forwarded_proto.to_owned().leak();
        let f: &'static str = forwarded.to_owned().leak();
        scheme(given(x), given(f)).map_or("", Scheme::as_str)
    }

    #[test]
    fn f_22_x_forwarded_proto_is_honoured() {
        for (value, expected) in [
            ("https", "https"),
            ("HTTPS", "https"),
            (" https , http", "https"),
            ("http,https", "http"),
            ("wss", "https"),
            ("ws", "http"),
            ("ftp", ""),
            ("httpsx", ""),
            (",https", ""),
            ("\"https\"", ""),
        ] {
            assert_eq!(told(value, ""), expected, "{value}");
        }
    }

    #[test]
    fn rfc_7239_forwarded() {
        for (value, expected) in [
            ("proto=https", "https"),
            ("Proto=HTTP", "http"),
            ("for=192.0.2.43;proto=https;by=203.0.113.43", "https"),
            ("for=\"[2001:db8:cafe::17]:4711\" ; proto=\"https\"", "https"),
            ("for=\"a;proto=http, \\\"\";proto=https", "https"),
            ("proto=\"ht\\tps\"", "https"),
            ("for=_x, proto=https", ""), // the second element is a proxy nearer to us
            ("xproto=https", ""),
            ("proto=ftp", ""),
            ("proto=", ""),
            ("proto", ""),
            ("proto=\"https", ""),
            ("proto=\"httpshttps\"", ""),
            ("for=\"unfinished;proto=https", ""),
            (";proto=https", ""),
        ] {
            assert_eq!(told("", value), expected, "{value}");
        }
    }

    #[test]
    fn x_forwarded_proto_goes_first_and_nonsense_gives_way() {
        assert_eq!(told("http", "proto=https"), "http");
        assert_eq!(told("nonsense", "proto=https"), "https");
        assert_eq!(told("", ""), "");
    }
}
