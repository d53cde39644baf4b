//! The authority of a request, from the Host line or from an absolute-form target: a host and perhaps a port.

use std::net::Ipv6Addr;

/// A host and a port (RFC 3986 section 3.2, without user information: RFC 9110 section 4.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// The host: a name, an IPv4 address or an IPv6 address in its brackets.
    pub host: &'a [u8],
    /// The port's digits; `None` if there is no port or the text ends with the colon.
    pub port: Option<&'a [u8]>,
}

impl<'a> Authority<'a> {
    /// Splits an authority. `None` if it is invalid: an empty host, user information, a bad port, or a byte that has
    /// no place in a host.
    pub fn parse(text: &'a [u8]) -> Option<Authority<'a>> {
        let (host, rest) = match text.first()? {
            b'[' => split_ip_literal(text)?,
            _ => split_name(text)?,
        };
        Some(Authority { host, port: port(rest)? })
    }
}

/// "[::1]:80" is "[::1]" and ":80". Zones (RFC 6874, withdrawn) and future literals are refused.
fn split_ip_literal(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let close = memchr::memchr(b']', text)?;
    let address = text.get(1..close)?;
    std::str::from_utf8(address).ok()?.parse::<Ipv6Addr>().ok()?;
    text.split_at_checked(close.checked_add(1)?)
}

/// "a.example:80" is "a.example" and ":80".
fn split_name(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut escapes = false;
    let ends = |byte: &u8| {
        escapes |= *byte == b'%';
        !NAME[usize::from(*byte)]
    };
    let end = text.iter().position(ends).unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end)?;
    let valid = !name.is_empty() && (!escapes || escapes_are_complete(name));
    valid.then_some((name, rest))
}

fn port(rest: &[u8]) -> Option<Option<&[u8]>> {
    match rest {
        [] | [b':'] => Some(None),
        [b':', digits @ ..] if is_port(digits) => Some(Some(digits)),
        _ => None,
    }
}

fn is_port(digits: &[u8]) -> bool {
    let value = digits.iter().try_fold(0u16, |value, &byte| match byte {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u16::from(byte - b'0')),
        _ => None,
    });
    value.is_some()
}

/// Every "%" stands before two hex digits (RFC 3986 section 2.1).
fn escapes_are_complete(name: &[u8]) -> bool {
    name.split(|&byte| byte == b'%')
        .skip(1)
        .all(|piece| matches!(piece, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()))
}

/// RFC 3986 section 3.2.2, reg-name: unreserved, sub-delims and the percent sign.
const NAME: [bool; 256] = {
    let mut table = [false; 256];
    let allowed = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=%";
    let mut index = 0;
    while index < allowed.len() {
        table[allowed[index] as usize] = true;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_authorities() {
        let table: &[(&str, &str, Option<&str>)] = &[
            ("example.com", "example.com", None),
            ("example.com:80", "example.com", Some("80")),
            ("EXAMPLE.com:65535", "EXAMPLE.com", Some("65535")),
            ("example.com:", "example.com", None), // RFC 3986 section 3.2.3: the port may be empty
            ("127.0.0.1:3000", "127.0.0.1", Some("3000")),
            ("my_host-1", "my_host-1", None),
            ("a%20b", "a%20b", None),
            ("x:00080", "x", Some("00080")),
            // F-24: brackets and colons of IPv6 addresses
            ("[::1]", "[::1]", None),
            ("[::1]:4001", "[::1]", Some("4001")),
            ("[2001:DB8::7]:", "[2001:DB8::7]", None),
            ("[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]", Some("80")),
        ];
        for &(text, host, port) in table {
            let expected = Authority { host: host.as_bytes(), port: port.map(str::as_bytes) };
            assert_eq!(Authority::parse(text.as_bytes()), Some(expected), "{text}");
        }
    }

    #[test]
    fn invalid_authorities() {
        let table = [
            "",
            ":",
            ":80",
            "user@example.com",
            "user:pw@example.com",
            "a b",
            "a.com, b.com",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "a:b",
            "a:-1",
            "a:+1",
            "a:65536",
            "a:99999999999999999999",
            "a:80:81",
            "a:80 ",
            "::1",
            "[::1",
            "[]",
            "[::1]x",
            "[::1]80",
            "[::1]:x",
            "[1.2.3.4]",
            "[fe80::1%25eth0]",
            "[v1.x]",
            "%",
            "a%2",
            "a%zz",
            "a\u{e4}",
            "a\0",
            "a\t",
            "a\"",
            "<a>",
            "a|b",
            "]",
        ];
        for text in table {
            assert_eq!(Authority::parse(text.as_bytes()), None, "{text:?}");
        }
    }
}
