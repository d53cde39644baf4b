//! The PROXY protocol: what a load balancer says of its client, once, before the first byte of the connection proper.
//!
//! Version 1 is a line of text, version 2 is binary; either is accepted, told apart by the first byte. Of what it says
//! only the client's address is kept. No more is stored than that needs: what else comes with it is skipped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest line of version 1, line end included.
const LINE: usize = 107;
/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// What version 1 begins with.
const WORD: &[u8; 6] = b"PROXY ";
/// The part of version 2 that has always the same form.
const FIXED: usize = 16;
/// Bytes of the addresses and ports of version 2.
const IPV4: usize = 12;
const IPV6: usize = 36;
const UNIX: usize = 216;

/// Reads one PROXY header, in whatever pieces it comes.
#[derive(Debug, Default)]
pub struct ProxyDecoder {
    /// What is worth keeping of it so far. Never more than [`LINE`] bytes.
    held: Vec<u8>,
    /// What version 2 says, once its length is known.
    block: Option<Block>,
}

/// The part of version 2 whose length differs.
#[derive(Clone, Copy, Debug)]
struct Block {
    /// Bytes to be held, from the beginning of the header on, for the addresses.
    wanted: usize,
    /// Bytes that follow and mean nothing to us.
    skipped: usize,
}

/// What there is so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All of the input belongs to the header, and more of it is to come.
    NeedMore,
    /// The header is complete.
    Done {
        /// Bytes of this input that belonged to it.
        used: usize,
        /// The client; `None` when the balancer speaks for itself (`LOCAL`) or does not know (`UNKNOWN`), or when the
        /// client has no IP address: then the connection's own address counts.
        client: Option<SocketAddr>,
    },
}

/// Why something is no PROXY header. It is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHeader {
    /// It begins like neither version.
    Missing,
    /// A line that does not end.
    LongLine,
    /// A line that can not be understood.
    Line,
    /// A version or a command that does not exist.
    Command,
    /// A family or a transport that does not exist.
    Family,
    /// Too short for the addresses that it announces.
    Short,
}

impl BadHeader {
    /// In words, for the log.
    pub const fn reason(self) -> &'static str {
        match self {
            BadHeader::Missing => "it does not begin with a PROXY header",
            BadHeader::LongLine => "its PROXY line does not end",
            BadHeader::Line => "its PROXY line can not be understood",
            BadHeader::Command => "its PROXY header is of an unknown version or command",
            BadHeader::Family => "its PROXY header names an unknown kind of address",
            BadHeader::Short => "its PROXY header is too short for its addresses",
        }
    }
}

impl ProxyDecoder {
    /// Whether nothing of the header has come yet.
    pub fn is_untouched(&self) -> bool {
        self.held.is_empty()
    }

    /// Takes the next piece of the connection. After [`Progress::Done`] or an error it is not to be called again.
    pub fn decode(&mut self, input: &[u8]) -> Result<Progress, BadHeader> {
        let mut rest = input;
        loop {
            if let Some(block) = &mut self.block {
                if self.held.len() >= block.wanted {
                    let skipped = block.skipped.min(rest.len());
                    block.skipped = block.skipped.saturating_sub(skipped);
                    rest = rest.get(skipped..).unwrap_or_default();
                    return Ok(match block.skipped {
                        0 => Progress::Done {
                            used: input.len().saturating_sub(rest.len()),
                            client: self.binary_client(),
                        },
                        _ => Progress::NeedMore,
                    });
                }
            }
            let Some((&byte, after)) = rest.split_first() else { return Ok(Progress::NeedMore) };
            rest = after;
            self.held.push(byte);
            match self.held.first() {
                Some(b'P') => {
                    if let Some(client) = self.judge_line()? {
                        return Ok(Progress::Done { used: input.len().saturating_sub(rest.len()), client });
                    }
                }
                _ => self.judge_binary()?,
            }
        }
    }

    /// Version 1, as far as it has come: complete, or not yet.
    fn judge_line(&self) -> Result<Option<Option<SocketAddr>>, BadHeader> {
        let held = &*self.held;
        if !held.iter().zip(WORD).all(|(byte, expected)| byte == expected) {
            return Err(BadHeader::Missing);
        }
        match held {
            [line @ .., b'\n'] => {
                let line = line.strip_suffix(b"\r").ok_or(BadHeader::Line)?;
                let said = line.strip_prefix(WORD).ok_or(BadHeader::Missing)?;
                text_client(said).map(Some).ok_or(BadHeader::Line)
            }
            _ if held.len() >= LINE => Err(BadHeader::LongLine),
            _ => Ok(None),
        }
    }

    /// Version 2, as far as it has come.
    fn judge_binary(&mut self) -> Result<(), BadHeader> {
        if !self.held.iter().zip(SIGNATURE).all(|(byte, expected)| byte == expected) {
            return Err(BadHeader::Missing);
        }
        if let [.., command, kind, high, low] = *self.held {
            if self.held.len() == FIXED {
                self.block = Some(block(command, kind, usize::from(u16::from_be_bytes([high, low])))?);
            }
        }
        Ok(())
    }

    /// The client that a complete header of version 2 tells of.
    fn binary_client(&self) -> Option<SocketAddr> {
        let addresses = self.held.get(FIXED..)?;
        match addresses.len() {
            IPV4 => socket_address(addresses.first_chunk::<4>()?, addresses.get(8..10)?),
            IPV6 => socket_address(addresses.first_chunk::<16>()?, addresses.get(32..34)?),
            _ => None,
        }
    }
}

fn socket_address<A: Copy + Into<IpAddr>>(address: &A, port: &[u8]) -> Option<SocketAddr> {
    Some(SocketAddr::new((*address).into(), u16::from_be_bytes(port.try_into().ok()?)))
}

/// What follows the fixed part: addresses that we want, and what comes behind them.
fn block(command: u8, kind: u8, length: usize) -> Result<Block, BadHeader> {
    let nothing = Block { wanted: FIXED, skipped: length };
    match command {
        // LOCAL, a health check of the balancer's own: whatever addresses come with it are to be ignored.
        0x20 => return Ok(nothing),
        0x21 => {}
        _ => return Err(BadHeader::Command),
    }
    let (family, transport) = (kind >> 4, kind & 0x0f);
    let addresses = match family {
        0 => 0,
        1 => IPV4,
        2 => IPV6,
        3 => UNIX,
        _ => return Err(BadHeader::Family),
    };
    if transport > 2 {
        return Err(BadHeader::Family);
    }
    let skipped = length.checked_sub(addresses).ok_or(BadHeader::Short)?;
    // Addresses are of use where they are those of a TCP client.
    Ok(match (family, transport) {
        (1 | 2, 1) => Block { wanted: FIXED.saturating_add(addresses), skipped },
        _ => nothing,
    })
}

/// The client of a line such as `TCP4 192.0.2.1 198.51.100.1 56324 443`.
fn text_client(said: &[u8]) -> Option<Option<SocketAddr>> {
    if said == b"UNKNOWN" || said.starts_with(b"UNKNOWN ") {
        return Some(None);
    }
    let mut words = std::str::from_utf8(said).ok()?.split(' ');
    let [family, client, server, port, own_port] = std::array::from_fn(|_| words.next().unwrap_or_default());
    let address: fn(&str) -> Option<IpAddr> = match family {
        "TCP4" => |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        "TCP6" => |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        _ => return None,
    };
    let (client, _, port, _) = (address(client)?, address(server)?, number(port)?, number(own_port)?);
    words.next().is_none().then_some(Some(SocketAddr::new(client, port)))
}

/// A port as the protocol writes it: digits, and no zero before others.
fn number(text: &str) -> Option<u16> {
    let plain = text == "0" || text.starts_with(|digit: char| matches!(digit, '1'..='9'));
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of version 2.
    fn v2(command: u8, kind: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, kind][..], &length, block].concat()
    }

    fn v4_block() -> Vec<u8> {
        vec![192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb]
    }

    fn v6_block() -> Vec<u8> {
        let mut block = "2001:db8::7".parse::<Ipv6Addr>().unwrap().octets().to_vec();
        block.extend(Ipv6Addr::LOCALHOST.octets());
        block.extend([0, 80, 0, 81]);
        block
    }

    /// What comes of `pieces`: the bytes used of all of them, and the client.
    fn read<'i>(
        pieces: impl IntoIterator<Item = &'i [u8]>,
    ) -> Result<Option<(usize, Option<SocketAddr>)>, BadHeader> {
        let mut decoder = ProxyDecoder::default();
        let mut before = 0;
        for piece in pieces {
            match decoder.decode(piece)? {
                Progress::NeedMore => before += piece.len(),
                Progress::Done { used, client } => return Ok(Some((before + used, client))),
            }
        }
        Ok(None)
    }

    /// Reads it whole and cut at every byte, with a request behind it.
    fn said(header: &[u8]) -> Result<Option<SocketAddr>, BadHeader> {
        let input = [header, b"GET / HTTP/1.1\r\n"].concat();
        let whole = read([&input[..]]);
        assert_eq!(read(input.chunks(1)), whole, "byte by byte");
        for at in 0..=input.len() {
            let (first, second) = input.split_at(at);
            assert_eq!(read([first, second]), whole, "cut at {at}");
        }
        for end in 0..header.len() {
            match (read([&header[..end]]), whole) {
                (Ok(progress), Ok(_)) => assert_eq!(progress, None, "complete after {end} bytes"),
                (Err(early), whole) => assert_eq!(Err(early), whole, "after {end} bytes"),
                (Ok(_), Err(_)) => {}
            }
        }
        let (used, client) = whole?.expect("a complete header");
        assert_eq!(used, header.len());
        Ok(client)
    }

    #[test]
    fn lines_of_version_1() {
        for (line, client) in [
            ("TCP4 192.0.2.1 198.51.100.1 56324 443", Some("192.0.2.1:56324")),
            ("TCP4 255.255.255.255 255.255.255.255 65535 65535", Some("255.255.255.255:65535")),
            ("TCP4 0.0.0.0 0.0.0.0 0 0", Some("0.0.0.0:0")),
            ("TCP6 2001:db8::7 ::1 80 81", Some("[2001:db8::7]:80")),
            (
                "TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535",
                Some("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
            ),
            ("UNKNOWN", None),
            ("UNKNOWN 192.0.2.1 whatever it says", None),
        ] {
            let expected = client.map(|client| client.parse().unwrap());
            assert_eq!(said(format!("PROXY {line}\r\n").as_bytes()), Ok(expected), "{line}");
        }
    }

    #[test]
    fn bad_lines_of_version_1() {
        let long = format!("PROXY UNKNOWN {}", "x".repeat(100));
        for (line, fault) in [
            ("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\n", BadHeader::Line),
            ("PROXY UNKNOWN\n", BadHeader::Line),
            ("PROXY UNKNOWNS\r\n", BadHeader::Line),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n", BadHeader::Line),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443 \r\n", BadHeader::Line),
            ("PROXY TCP4  192.0.2.1 198.51.100.1 56324 443\r\n", BadHeader::Line),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 56324 65536\r\n", BadHeader::Line),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 056 443\r\n", BadHeader::Line),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 +56 443\r\n", BadHeader::Line),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 56 \r\n", BadHeader::Line),
            ("PROXY TCP4 192.0.2.300 198.51.100.1 56324 443\r\n", BadHeader::Line),
            ("PROXY TCP4 ::1 ::1 56324 443\r\n", BadHeader::Line),
            ("PROXY TCP6 192.0.2.1 198.51.100.1 56324 443\r\n", BadHeader::Line),
            ("PROXY UDP4 192.0.2.1 198.51.100.1 56324 443\r\n", BadHeader::Line),
            ("PROXY \r\n", BadHeader::Line),
            ("PROXY\r\n", BadHeader::Missing),
            ("proxy UNKNOWN\r\n", BadHeader::Missing),
            ("POST / HTTP/1.1\r\n", BadHeader::Missing),
            ("GET / HTTP/1.1\r\n", BadHeader::Missing),
            ("\r\nGET / HTTP/1.1\r\n", BadHeader::Missing),
            (&long, BadHeader::LongLine),
        ] {
            assert_eq!(said(line.as_bytes()), Err(fault), "{line:?}");
        }
    }

    #[test]
    fn headers_of_version_2() {
        let tlvs = [1, 0, 2, b'h', b'2', 4, 0, 3, 0, 0, 0];
        let with = |block: Vec<u8>, more: &[u8]| [&block[..], more].concat();
        let v4 = Some("192.0.2.1:56324".parse().unwrap());
        let v6 = Some("[2001:db8::7]:80".parse().unwrap());
        for (what, header, client) in [
            ("TCP over IPv4", v2(0x21, 0x11, &v4_block()), v4),
            ("TCP over IPv4 with TLVs", v2(0x21, 0x11, &with(v4_block(), &tlvs)), v4),
            ("TCP over IPv6", v2(0x21, 0x21, &v6_block()), v6),
            ("TCP over IPv6 with TLVs", v2(0x21, 0x21, &with(v6_block(), &tlvs)), v6),
            ("a Unix stream", v2(0x21, 0x31, &[b'x'; UNIX]), None),
            ("a Unix stream with TLVs", v2(0x21, 0x31, &with(vec![b'x'; UNIX], &tlvs)), None),
            ("UDP", v2(0x21, 0x12, &v4_block()), None),
            ("AF_UNSPEC", v2(0x21, 0, &[]), None),
            ("AF_UNSPEC with TLVs", v2(0x21, 0, &tlvs), None),
            ("LOCAL", v2(0x20, 0, &[]), None),
            ("LOCAL with addresses", v2(0x20, 0x11, &v4_block()), None),
            ("LOCAL with anything", v2(0x20, 0xff, &[7; 500]), None),
        ] {
            assert_eq!(said(&header), Ok(client), "{what}");
        }
    }

    #[test]
    fn bad_headers_of_version_2() {
        for (header, fault) in [
            (v2(0x11, 0x11, &v4_block()), BadHeader::Command),
            (v2(0x31, 0x11, &v4_block()), BadHeader::Command),
            (v2(0x22, 0x11, &v4_block()), BadHeader::Command),
            (v2(0x21, 0x41, &v4_block()), BadHeader::Family),
            (v2(0x21, 0x13, &v4_block()), BadHeader::Family),
            (v2(0x21, 0x11, &v4_block()[..11]), BadHeader::Short),
            (v2(0x21, 0x21, &v4_block()), BadHeader::Short),
            (v2(0x21, 0x31, &v4_block()), BadHeader::Short),
            (b"\r\n\r\n\0\r\nQUIX\n".to_vec(), BadHeader::Missing),
        ] {
            assert_eq!(said(&header), Err(fault), "{header:?}");
        }
    }

    #[test]
    fn the_longest_header_is_not_kept() {
        let mut decoder = ProxyDecoder::default();
        assert!(decoder.is_untouched());
        let header = v2(0x21, 0x11, &[&v4_block()[..], &[0; 65_000]].concat());
        for piece in header[..header.len() - 1].chunks(1000) {
            assert_eq!(decoder.decode(piece), Ok(Progress::NeedMore));
            assert!(decoder.held.len() <= LINE && !decoder.is_untouched());
        }
        let done = Progress::Done { used: 1, client: Some("192.0.2.1:56324".parse().unwrap()) };
        assert_eq!(decoder.decode(b"\0GET"), Ok(done));
    }
}
