//! What must hold for what proxies say.

use crate::http::{Forwarded, RequestHead, Trust, forwarded as said};
use crate::http1::{Limits, RequestDecoder, Step};
use crate::proxy_protocol::{BadHeader, Progress, ProxyDecoder};
use std::net::{IpAddr, SocketAddr};

/// Header sections, as they come by a trusted proxy: what a client writes in front of what proxies wrote changes nothing.
pub fn forwarded(data: &[u8]) {
    let Some(head) = head_of(&[], data) else { return };
    let trust = Trust::parse(["10.0.0.0/8", "::1", "unix"]).expect("a list of networks");
    let honest = said::read(&head, &trust);
    check_values(&honest);
    check_values(&said::read(&head, &Trust::Everybody));
    let Some(client) = honest.client else { return };
    if trust.covers(Some(client)) {
        return;
    }
    // The walk has ended at somebody who is no proxy.
    let extended = ["for", "proto", "host", "port"];
    let extended = extended.iter().any(|what| head.header(&format!("x-forwarded-{what}")).is_some());
    let spoofs: &[&[u8]] = match extended {
        true => &[
            b"X-Forwarded-For: 6.6.6.6\r\n",
            b"x-forwarded-for: 10.0.0.9, ,\"\r\n",
            b"Forwarded: for=6.6.6.6\r\n",
        ],
        false => &[b"Forwarded: for=6.6.6.6;proto=https;host=evil\r\n", b"forwarded: for=\"\r\n"],
    };
    for spoof in spoofs {
        if let Some(head) = head_of(spoof, data) {
            assert_eq!(said::read(&head, &trust), honest, "believed {}", spoof.escape_ascii());
        }
    }
}

fn head_of(before: &[u8], lines: &[u8]) -> Option<RequestHead> {
    let input = [b"GET / HTTP/1.1\r\nHost: x\r\n", before, lines, b"\r\n\r\n"].concat();
    match RequestDecoder::new().decode(&input, &Limits::default()) {
        Ok((_, Step::Head(request))) => Some(request.head),
        _ => None,
    }
}

fn check_values(said: &Forwarded<'_>) {
    assert_ne!(said.port, Some(0), "a port is one that can be reached");
    assert!(said.host.is_none_or(|host| !host.host.is_empty()), "a host has a name");
    let mapped = match said.client {
        Some(IpAddr::V6(address)) => address.to_ipv4_mapped(),
        _ => None,
    };
    assert_eq!(mapped, None, "an IPv4 client is an IPv4 client");
}

/// PROXY headers: however the bytes are cut, they mean the same, and what comes behind the header is not touched.
pub fn proxy_header(data: &[u8]) {
    let whole = read_header([data]);
    assert_eq!(whole, read_header(data.chunks(1)), "byte by byte");
    assert_eq!(whole, read_header(data.chunks(7)), "in pieces of seven");
    let (first, second) = data.split_at(data.len() / 2);
    assert_eq!(whole, read_header([first, b"", second]), "in two halves");
    if let Ok(Some((used, client))) = whole {
        let header = data.get(..used).expect("no more is used than there is");
        assert_eq!(read_header([header]), Ok(Some((used, client))), "nothing behind it is needed");
        assert_eq!(read_header([&header[..used - 1]]), Ok(None), "all of it is needed");
        assert!(header.starts_with(b"PROXY ") || header.starts_with(b"\r\n\r\n\0\r\nQUIT\n"));
    }
}

/// How many bytes of the pieces are a header, and whom it names; `None` while it is incomplete.
fn read_header<'i>(
    pieces: impl IntoIterator<Item = &'i [u8]>,
) -> Result<Option<(usize, Option<SocketAddr>)>, BadHeader> {
    let mut decoder = ProxyDecoder::default();
    let mut before = 0;
    for piece in pieces {
        match decoder.decode(piece)? {
            Progress::NeedMore => before += piece.len(),
            Progress::Done { used, client } => {
                assert!(used <= piece.len(), "consumed more than there was");
                return Ok(Some((before + used, client)));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proxies_say_passes() {
        for data in [
            &b""[..],
            b"X-Forwarded-For: 192.0.2.1, 10.0.0.1\r\nX-Forwarded-Proto: https",
            b"X-Forwarded-For: ::ffff:192.0.2.1\r\nX-Forwarded-Port: 0\r\nX-Forwarded-Host: :80",
            b"Forwarded: for=192.0.2.1;proto=https, for=\"[::1]:80\"",
            b"Forwarded: for=\", for=192.0.2.1",
            b"X-Forwarded-For: unknown\r\nForwarded: for=192.0.2.1",
            b"X-Forwarded-Fork: unknown\r\nForwarded: for=192.0.2.1",
        ] {
            forwarded(data);
        }
    }

    #[test]
    fn headers_of_both_versions_pass() {
        for data in [
            &b""[..],
            b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\nGET",
            b"PROXY UNKNOWN\r\n",
            b"PROXY x\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0d\xc0\0\x02\x01\xc6\x33\x64\x01\xdc\x04\x01\xbb\0GET",
            b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
            b"GET / HTTP/1.1",
        ] {
            proxy_header(data);
        }
    }
}
