//! What trusted proxies say of the request they pass on: who the client is, and what it asked for.
//!
//! Proxies speak by `X-Forwarded-For`, `-Proto`, `-Host` and `-Port`, or by `Forwarded` (RFC 7239). Each adds the address
//! it was asked from at the right end, so the right end is what the peer itself says, and the further left, the more
//! others had a say. Reading goes from right to left, over the addresses of trusted proxies, up to the first that is
//! none of them: that is the client, and what its neighbour says of scheme and host counts. What stands left of it was
//! made up by the client.
//!
//! Whether the peer is to be believed at all is for the caller to know.

use super::{Authority, RequestHead, Trust, token};
use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

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

/// What the proxies say; nothing is said of what is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarded<'h> {
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The scheme that the client used.
    pub scheme: Option<Scheme>,
    /// The host that the client asked for, perhaps with its port.
    pub host: Option<Authority<'h>>,
    /// The port that the client came to.
    pub port: Option<u16>,
}

/// Proxies beyond so many are not followed.
const MOST_HOPS: usize = 32;

/// What the headers of a request say, whose peer is trusted.
///
/// Where there is any of the X-Forwarded headers, `Forwarded` is left alone: the proxy speaks the one language, and the
/// other may come from the client. Only who trusts everybody has `Forwarded` fill the gaps.
pub fn read<'h>(head: &'h RequestHead, trust: &Trust) -> Forwarded<'h> {
    let mut present = [false; 5];
    for (name, _) in head.headers() {
        if let Some(known) = NAMES.iter().position(|known| name.eq_ignore_ascii_case(known.as_bytes())) {
            if let Some(present) = present.get_mut(known) {
                *present = true;
            }
        }
    }
    let [standard, extended @ ..] = present;
    let mut said = Forwarded::default();
    if extended.contains(&true) {
        said = extended_headers(head, trust);
    }
    if standard && (!extended.contains(&true) || *trust == Trust::Everybody) {
        let filling = standard_header(head, trust);
        said = Forwarded {
            client: said.client.or(filling.client),
            scheme: said.scheme.or(filling.scheme),
            host: said.host.or(filling.host),
            port: said.port,
        };
    }
    said
}

const NAMES: [&str; 5] =
    ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port"];

/// Where a walk from right to left has come to.
#[derive(Default)]
struct Walk {
    client: Option<IpAddr>,
}

/// Whether a walk goes on.
#[derive(PartialEq, Eq)]
enum Next {
    GoOn,
    Stop,
}

impl Walk {
    /// Takes the next address to the left. One that says nothing (`unknown`, an obfuscated name, nonsense) ends the
    /// walk: there is no telling whether it is a proxy's.
    fn step(&mut self, node: Option<Node>, trust: &Trust) -> Next {
        let trusted = match node {
            Some(Node::Ip(address)) => {
                self.client = Some(address);
                trust.covers(Some(address))
            }
            Some(Node::Unix) => trust.covers(None),
            None => *trust == Trust::Everybody,
        };
        if trusted { Next::GoOn } else { Next::Stop }
    }
}

// --- X-Forwarded-* -----------------------------------------------------------------------------------------------

fn extended_headers<'h>(head: &'h RequestHead, trust: &Trust) -> Forwarded<'h> {
    let mut walk = Walk::default();
    let mut hops = 0;
    for (index, element) in elements(head, "x-forwarded-for").take(MOST_HOPS).enumerate() {
        hops = index;
        if walk.step(node(element), trust) == Next::Stop {
            break;
        }
    }
    if *trust == Trust::Everybody {
        hops = MOST_HOPS;
    }
    // The others are lists, too, where each proxy adds its own, or a single value where one of them sets it for all.
    let told = |name| elements(head, name).take(hops.saturating_add(1)).last();
    Forwarded {
        client: walk.client,
        scheme: told("x-forwarded-proto").and_then(scheme),
        host: told("x-forwarded-host").and_then(Authority::parse),
        port: told("x-forwarded-port").and_then(port),
    }
}

/// The elements of all header lines of that name, from right to left. Empty ones stand for nothing.
fn elements<'h>(head: &'h RequestHead, name: &'static str) -> impl Iterator<Item = &'h [u8]> {
    head.headers()
        .rev()
        .filter(move |(candidate, _)| candidate.eq_ignore_ascii_case(name.as_bytes()))
        .flat_map(|(_, value)| value.rsplit(|&byte| byte == b','))
        .map(token::trim)
        .filter(|element| !element.is_empty())
}

// --- Forwarded ---------------------------------------------------------------------------------------------------

/// What one proxy says (RFC 7239 section 4). Values may be in quotes.
#[derive(Clone, Copy, Default)]
struct Element<'h> {
    node: Option<&'h [u8]>,
    proto: Option<&'h [u8]>,
    host: Option<&'h [u8]>,
}

fn standard_header<'h>(head: &'h RequestHead, trust: &Trust) -> Forwarded<'h> {
    let mut walk = Walk::default();
    let mut last = Element::default();
    let mut hops = 0;
    'walk: for (_, line) in head.headers().rev().filter(|(name, _)| name.eq_ignore_ascii_case(b"forwarded")) {
        // A line that can not be read ends the walk like an address that can not be: a quote that a client opened must
        // not swallow what the proxy wrote.
        let Some(elements) = split_elements(line) else { break };
        for element in elements.iter().rev() {
            last = *element;
            hops += 1;
            let node = element.node.and_then(|value| node(&token::unquote(value)?));
            if walk.step(node, trust) == Next::Stop || hops == MOST_HOPS {
                break 'walk;
            }
        }
    }
    Forwarded {
        client: walk.client,
        scheme: last.proto.and_then(|value| scheme(&token::unquote(value)?)),
        host: last.host.and_then(|value| match token::unquote(value)? {
            Cow::Borrowed(host) => Authority::parse(host),
            // No host needs a backslash.
            Cow::Owned(_) => None,
        }),
        port: None,
    }
}

/// The last [`MOST_HOPS`] elements of a line, or `None` if any part of it is malformed.
fn split_elements(line: &[u8]) -> Option<Vec<Element<'_>>> {
    let mut elements = Vec::new();
    let mut rest = token::trim(line);
    while !rest.is_empty() {
        let (element, after) = split_element(rest)?;
        if elements.len() == MOST_HOPS {
            elements.remove(0);
        }
        elements.extend(element);
        rest = token::trim(after);
    }
    Some(elements)
}

/// Splits `for=_x;proto=https;by="a, b"` from what follows the comma behind it. An empty element is none.
fn split_element(mut rest: &[u8]) -> Option<(Option<Element<'_>>, &[u8])> {
    let mut element = Element::default();
    let mut is_empty = true;
    loop {
        rest = token::trim(rest);
        match rest.first() {
            None => return Some(((!is_empty).then_some(element), rest)),
            Some(b',') => return Some(((!is_empty).then_some(element), rest.get(1..)?)),
            Some(b';') if !is_empty => rest = rest.get(1..)?,
            _ => {
                let equals = rest.iter().position(|&byte| byte == b'=')?;
                let (name, value) = rest.split_at_checked(equals)?;
                let (value, after) = split_value(token::trim(value.get(1..)?))?;
                element.take(token::trim(name), value)?;
                is_empty = false;
                rest = token::trim(after);
                if !matches!(rest.first(), None | Some(b',' | b';')) {
                    return None;
                }
            }
        }
    }
}

impl<'h> Element<'h> {
    /// Takes a parameter; each may be there once.
    fn take(&mut self, name: &[u8], value: &'h [u8]) -> Option<()> {
        if !token::is_token(name) {
            return None;
        }
        let place = match () {
            () if name.eq_ignore_ascii_case(b"for") => &mut self.node,
            () if name.eq_ignore_ascii_case(b"proto") => &mut self.proto,
            () if name.eq_ignore_ascii_case(b"host") => &mut self.host,
            () => return Some(()),
        };
        place.replace(value).is_none().then_some(())
    }
}

/// Splits a parameter's value from what follows it; a quoted string keeps its quotes. Hosts and addresses with colons
/// belong into quotes, but are taken without them, too.
fn split_value(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = match rest.first() {
        Some(b'"') => token::quoted_len(rest)?,
        _ => rest
            .iter()
            .position(|byte| matches!(byte, b';' | b',' | b'"') || token::is_blank(*byte))
            .unwrap_or(rest.len()),
    };
    rest.split_at_checked(end)
}

// --- single values -----------------------------------------------------------------------------------------------

/// Somebody whom a proxy was asked by.
enum Node {
    Ip(IpAddr),
    /// The peer of a Unix socket, as nginx writes it.
    Unix,
}

/// An address with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`, `unix:`.
fn node(text: &[u8]) -> Option<Node> {
    if text == b"unix:" {
        return Some(Node::Unix);
    }
    let text = std::str::from_utf8(text).ok()?;
    let address = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_node_port);
            IpAddr::V6(address.parse::<Ipv6Addr>().ok().filter(|_| is_port)?)
        }
        None => match text.parse::<IpAddr>() {
            Ok(address) => address,
            Err(_) => match text.parse::<SocketAddr>() {
                Ok(address) => address.ip(),
                Err(_) => obfuscated_port(text)?,
            },
        },
    };
    Some(Node::Ip(address.to_canonical()))
}

/// `192.0.2.1:_port` (RFC 7239 section 6.3).
fn obfuscated_port(text: &str) -> Option<IpAddr> {
    let (address, port) = text.split_once(':')?;
    is_node_port(port).then(|| address.parse::<Ipv4Addr>().ok().map(IpAddr::from)).flatten()
}

/// Digits, or an underscore and a name.
fn is_node_port(port: &str) -> bool {
    match port.strip_prefix('_') {
        Some(name) => token::is_token(name.as_bytes()),
        None => port.parse::<u16>().is_ok(),
    }
}

fn port(digits: &[u8]) -> Option<u16> {
    let port = u16::try_from(token::decimal(digits)?).ok()?;
    (port > 0).then_some(port)
}

/// Anything but a scheme of HTTP or WebSocket says nothing.
fn scheme(name: &[u8]) -> Option<Scheme> {
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
    use crate::http1::{Limits, RequestDecoder, Step};

    /// What a request with these header lines tells, as "client scheme host port"; "-" is nothing.
    fn told(trusted: &str, lines: &[&str]) -> String {
        let text = format!("GET / HTTP/1.1\r\nHost: own\r\n{}\r\n\r\n", lines.join("\r\n"));
        let head = match RequestDecoder::new().decode(text.as_bytes(), &Limits::default()) {
            Ok((_, Step::Head(request))) => request.head,
            other => panic!("{other:?}"),
        };
        let said = read(&head, &Trust::parse(trusted.split_whitespace()).unwrap());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let host = said.host.map(|host| match host.port {
            Some(port) => format!("{}:{}", text(host.host), text(port)),
            None => text(host.host),
        });
        [
            said.client.map(|client| client.to_string()),
            said.scheme.map(|scheme| scheme.as_str().to_owned()),
            host,
            said.port.map(|port| port.to_string()),
        ]
        .map(|part| part.unwrap_or_else(|| "-".into()))
        .join(" ")
    }

    fn client(trusted: &str, lines: &[&str]) -> String {
        told(trusted, lines).split(' ').next().unwrap().to_owned()
    }

    #[test]
    fn f_22_x_forwarded_proto_is_honoured() {
        for (value, leftmost, nearest) in [
            ("https", "https", "https"),
            ("HTTPS", "https", "https"),
            (" https , http", "https", "http"),
            ("http,https", "http", "https"),
            ("wss", "https", "https"),
            ("ws", "http", "http"),
            ("ftp", "-", "-"),
            ("httpsx", "-", "-"),
            (",https", "https", "https"),
            ("\"https\"", "-", "-"),
        ] {
            let line = format!("X-Forwarded-Proto: {value}");
            assert_eq!(told("all", &[&line]), format!("- {leftmost} - -"), "{value}");
            assert_eq!(told("::1", &[&line]), format!("- {nearest} - -"), "{value}");
        }
    }

    #[test]
    fn the_chain_is_walked_from_the_right() {
        for (trusted, chain, expected) in [
            ("127.0.0.1", "203.0.113.7", "203.0.113.7"),
            ("127.0.0.1", "6.6.6.6, 203.0.113.7", "203.0.113.7"),
            ("10.0.0.0/8", "6.6.6.6, 203.0.113.7, 10.0.0.2, 10.0.0.1", "203.0.113.7"),
            ("10.0.0.0/8", "10.0.0.3, 10.0.0.2", "10.0.0.3"), // none but proxies: the furthest
            ("10.0.0.0/8", "6.6.6.6, unknown, 10.0.0.1", "10.0.0.1"),
            ("10.0.0.0/8", "6.6.6.6, _hidden", "-"),
            ("10.0.0.0/8", "6.6.6.6, 10.0.0.1,, ,", "6.6.6.6"),
            ("10.0.0.0/8", "", "-"),
            ("10.0.0.0/8", "203.0.113.7:56324, 10.0.0.1:80", "203.0.113.7"),
            ("10.0.0.0/8", "[2001:db8::7]:56324, 10.0.0.1:_x", "2001:db8::7"),
            ("10.0.0.0/8", "2001:db8::7, ::ffff:10.0.0.1", "2001:db8::7"),
            ("10.0.0.0/8", "[2001:db8::7]", "2001:db8::7"),
            ("10.0.0.0/8", "[2001:db8::7", "-"),
            ("10.0.0.0/8", "[2001:db8::7]x", "-"),
            ("10.0.0.0/8", "[192.0.2.1]", "-"),
            ("10.0.0.0/8", "::ffff:192.0.2.1", "192.0.2.1"),
            ("10.0.0.0/8", "192.0.2.1:99999", "-"),
            ("10.0.0.0/8", "192.0.2.256", "-"),
            ("10.0.0.0/8", "\"192.0.2.1\"", "-"),
            ("unix", "203.0.113.7, unix:", "203.0.113.7"),
            ("10.0.0.0/8", "203.0.113.7, unix:", "-"),
            ("all", "203.0.113.7, 192.0.2.1, 10.0.0.1", "203.0.113.7"),
            ("all", "unknown, 192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(
                client(trusted, &[&format!("X-Forwarded-For: {chain}")]),
                expected,
                "{trusted}: {chain}"
            );
            // Several lines are one list.
            let lines: Vec<String> =
                chain.split(',').map(|one| format!("x-forwarded-FOR: {}", one.trim())).collect();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            assert_eq!(client(trusted, &lines), expected, "{trusted}: {chain} in lines");
        }
    }

    #[test]
    fn scheme_host_and_port_are_those_of_the_clients_neighbour() {
        let hops = "X-Forwarded-For: 6.6.6.6, 203.0.113.7, 10.0.0.2";
        for (line, expected) in [
            ("X-Forwarded-Proto: http, https, http", "203.0.113.7 https - -"),
            ("X-Forwarded-Proto: https", "203.0.113.7 https - -"),
            ("X-Forwarded-Host: evil, shop.example:8443, inner", "203.0.113.7 - shop.example:8443 -"),
            ("X-Forwarded-Host: [2001:db8::1]:80", "203.0.113.7 - [2001:db8::1]:80 -"),
            ("X-Forwarded-Host: a b", "203.0.113.7 - - -"),
            ("X-Forwarded-Port: 1, 443, 80", "203.0.113.7 - - 443"),
            ("X-Forwarded-Port: 65536", "203.0.113.7 - - -"),
            ("X-Forwarded-Port: 0", "203.0.113.7 - - -"),
            ("X-Forwarded-Port: x", "203.0.113.7 - - -"),
        ] {
            assert_eq!(told("10.0.0.0/8", &[hops, line]), expected, "{line}");
        }
    }

    #[test]
    fn rfc_7239_forwarded() {
        for (value, expected) in [
            ("proto=https", "- https - -"),
            ("Proto=HTTP", "- http - -"),
            ("for=192.0.2.43;proto=https;by=203.0.113.43", "192.0.2.43 https - -"),
            ("for=192.0.2.43; host=shop.example ;proto=https", "192.0.2.43 https shop.example -"),
            ("host=\"shop.example:8443\"", "- - shop.example:8443 -"),
            ("host=shop.example:8443", "- - shop.example:8443 -"),
            ("host=\"shop\\.example\"", "- - - -"),
            ("for=\"[2001:db8:cafe::17]:4711\" ; proto=\"https\"", "2001:db8:cafe::17 https - -"),
            ("for=\"192.0.2\\.43\"", "192.0.2.43 - - -"),
            ("for=\"192.0.2.43:_x\"", "192.0.2.43 - - -"),
            ("proto=\"ht\\tps\"", "- https - -"),
            ("proto=https, for=192.0.2.1;proto=http", "192.0.2.1 http - -"),
            ("for=192.0.2.1;proto=https, for=10.0.0.1;proto=http", "192.0.2.1 https - -"),
            ("for=6.6.6.6, for=192.0.2.1;proto=https,for=10.0.0.1", "192.0.2.1 https - -"),
            ("for=6.6.6.6, for=unknown;proto=https,for=10.0.0.1", "10.0.0.1 https - -"),
            ("for=6.6.6.6, for=_secret;proto=https", "- https - -"),
            ("for=192.0.2.1, , ,", "192.0.2.1 - - -"),
            ("for=192.0.2.1;;proto=https", "192.0.2.1 https - -"),
            ("for=\"a;proto=http, \\\"\";proto=https", "- https - -"),
            ("xproto=https", "- - - -"),
            ("proto=ftp", "- - - -"),
            ("proto=", "- - - -"),
            // malformed lines say nothing at all
            ("for=192.0.2.1;proto", "- - - -"),
            ("for=192.0.2.1;proto=https;proto=http", "- - - -"),
            ("proto=\"https", "- - - -"),
            ("for=\"x\", for=192.0.2.1, for=\"", "- - - -"),
            ("for=\"unfinished;proto=https, for=192.0.2.1", "- - - -"),
            ("for=\", for=\"[2001:db8::1]\"", "- - - -"),
            (";proto=https", "- - - -"),
            ("for=a b", "- - - -"),
            ("f r=a", "- - - -"),
            ("=a", "- - - -"),
        ] {
            assert_eq!(told("10.0.0.0/8", &[&format!("Forwarded: {value}")]), expected, "{value}");
        }
    }

    #[test]
    fn several_lines_are_one_list() {
        assert_eq!(
            told(
                "10.0.0.0/8",
                &["Forwarded: for=6.6.6.6, for=192.0.2.1;proto=https", "Forwarded: for=10.0.0.1"]
            ),
            "192.0.2.1 https - -"
        );
        // What comes before a malformed line was not written by somebody we know.
        assert_eq!(
            told(
                "10.0.0.0/8",
                &["Forwarded: for=192.0.2.1;proto=https", "Forwarded: \"", "Forwarded: for=10.0.0.1"]
            ),
            "10.0.0.1 - - -"
        );
    }

    #[test]
    fn one_language_is_listened_to_unless_everybody_is_believed() {
        let lines = ["X-Forwarded-For: 192.0.2.1", "Forwarded: for=6.6.6.6;proto=https;host=evil"];
        assert_eq!(told("10.0.0.0/8", &lines), "192.0.2.1 - - -");
        assert_eq!(told("all", &lines), "192.0.2.1 https evil -");
        let lines = ["X-Forwarded-Proto: http", "Forwarded: proto=https"];
        assert_eq!(told("all", &lines), "- http - -");
        let lines = ["X-Forwarded-Proto: nonsense", "Forwarded: proto=https"];
        assert_eq!(told("all", &lines), "- https - -");
        assert_eq!(told("10.0.0.0/8", &lines), "- - - -");
        assert_eq!(told("all", &["Forwarded: for=x, proto=https", "A: b"]), "- - - -");
    }

    #[test]
    fn long_chains_are_not_followed_to_their_end() {
        let hops: Vec<String> = (0..200).map(|hop| format!("10.0.0.{hop}")).collect();
        let line = format!("X-Forwarded-For: 6.6.6.6, {}", hops.join(","));
        assert_eq!(client("10.0.0.0/8", &[&line]), "10.0.0.168");
        let line = format!("Forwarded: for=6.6.6.6, for={}", hops.join(",for="));
        assert_eq!(client("10.0.0.0/8", &[&line]), "10.0.0.168");
    }
}
