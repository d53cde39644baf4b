//! The line written for each answered request, in the form iodine 0.7 gave it.
//!
//! `ADDR - - [DATE] "METHOD PATH VERSION" STATUS BYTES TIME`. Unlike 0.7 no byte of the client can leave its field:
//! quotes, backslashes, control and high bytes are written as `\xHH`.

use crate::http::Version;

/// What one line tells.
#[derive(Clone, Copy, Debug)]
pub struct AccessLine<'a> {
    /// The peer's address, or the socket's path, or `[unknown]`.
    pub peer: &'a str,
    /// The time of the answer as an HTTP date.
    pub date: &'a [u8],
    /// The method as received.
    pub method: &'a [u8],
    /// The path as received, without the query.
    pub path: &'a [u8],
    /// The version of the request.
    pub version: Version,
    /// The status of the answer.
    pub status: u16,
    /// The bytes of body sent.
    pub bytes: u64,
    /// The time from the request to the end of the answer.
    pub millis: u64,
}

/// Appends the line, its CRLF included.
pub fn write_line(out: &mut Vec<u8>, line: &AccessLine<'_>) {
    escape(out, line.peer.as_bytes());
    out.extend_from_slice(b" - - [");
    out.extend_from_slice(line.date);
    out.extend_from_slice(b"] \"");
    escape(out, line.method);
    out.push(b' ');
    escape(out, line.path);
    out.push(b' ');
    out.extend_from_slice(line.version.as_str().as_bytes());
    out.extend_from_slice(b"\" ");
    number(out, u64::from(line.status));
    match line.bytes {
        0 => out.extend_from_slice(b" -- "),
        bytes => {
            out.push(b' ');
            number(out, bytes);
            out.extend_from_slice(b"b ");
        }
    }
    number(out, line.millis);
    out.extend_from_slice(b"ms\r\n");
}

fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn escape(out: &mut Vec<u8>, mut rest: &[u8]) {
    while let Some(at) = rest.iter().position(|&byte| !is_plain(byte)) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((&byte, after)) = special.split_first() else { break };
        out.extend_from_slice(b"\\x");
        out.push(hex_digit(byte >> 4));
        out.push(hex_digit(byte & 15));
        rest = after;
    }
    out.extend_from_slice(rest);
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

fn hex_digit(nibble: u8) -> u8 {
    match nibble {
        0..=9 => b'0' + nibble,
        _ => b'A' + (nibble & 15) - 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(change: impl FnOnce(&mut AccessLine<'_>)) -> String {
        let mut line = AccessLine {
            peer: "127.0.0.1",
            date: b"Mon, 23 Nov 2026 06:53:47 GMT",
            method: b"GET",
            path: b"/cl",
            version: Version::Http11,
            status: 200,
            bytes: 3,
            millis: 0,
        };
        change(&mut line);
        let mut out = Vec::new();
        write_line(&mut out, &line);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_line_reads_as_in_iodine_0_7() {
        let expected = "127.0.0.1 - - [Mon, 23 Nov 2026 06:53:47 GMT] \"GET /cl HTTP/1.1\" 200 3b 0ms\r\n";
        assert_eq!(written(|_| ()), expected);
    }

    #[test]
    fn no_bytes_are_two_dashes() {
        assert!(written(|line| (line.bytes, line.millis) = (0, 12)).ends_with("\" 200 -- 12ms\r\n"));
        assert!(written(|line| line.bytes = u64::MAX).contains(" 18446744073709551615b "));
    }

    #[test]
    fn f_17_nothing_escapes_its_field() {
        let line = written(|line| {
            line.method = b"G\"T";
            line.path = b"/\\\x1b[1m\xc3\xa4\x7f\r\n\0";
            line.peer = "/tmp/a\nb";
        });
        assert!(line.starts_with("/tmp/a\\x0Ab - - ["), "{line}");
        assert!(line.contains("\"G\\x22T /\\x5C\\x1B[1m\\xC3\\xA4\\x7F\\x0D\\x0A\\x00 HTTP/1.1\""), "{line}");
        assert_eq!(line.matches('\n').count(), 1);
    }
}
