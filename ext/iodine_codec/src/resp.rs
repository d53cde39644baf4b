//! RESP, what Redis speaks: replies in, commands out. The parsing itself is that of the `redis-protocol` crate.

use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame;

/// A reply of Redis.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// A simple string, such as `OK`.
    Status(String),
    /// An error, without the dash before it.
    Error(String),
    /// An integer.
    Integer(i64),
    /// A bulk string: any bytes.
    Bulk(Vec<u8>),
    /// Several replies.
    Array(Vec<Reply>),
    /// Nothing.
    Nil,
}

/// What came is no RESP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Takes replies out of bytes as they come.
#[derive(Debug, Default)]
pub struct ReplyDecoder {
    buffer: Vec<u8>,
    /// Bytes of it that are decoded already.
    used: usize,
}

impl ReplyDecoder {
    /// Adds what was read.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.used);
        self.used = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole reply, and the bytes that it came in.
    pub fn next_reply(&mut self) -> Result<Option<(Reply, &[u8])>, Malformed> {
        let rest = self.buffer.get(self.used..).unwrap_or_default();
        if rest.is_empty() {
            // An idle connection keeps no memory.
            *self = ReplyDecoder::default();
            return Ok(None);
        }
        match decode(rest) {
            Ok(Some((frame, length))) => {
                let start = self.used;
                self.used = start.saturating_add(length).min(self.buffer.len());
                Ok(Some((reply(frame), self.buffer.get(start..self.used).unwrap_or_default())))
            }
            Ok(None) => Ok(None),
            Err(_) => Err(Malformed),
        }
    }
}

/// Appends a command (RESP arrays of bulk strings).
pub fn encode_command<'a>(out: &mut Vec<u8>, parts: impl ExactSizeIterator<Item = &'a [u8]>) {
    let mut digits = itoa::Buffer::new();
    out.push(b'*');
    out.extend_from_slice(digits.format(parts.len()).as_bytes());
    for part in parts {
        out.extend_from_slice(b"\r\n$");
        out.extend_from_slice(digits.format(part.len()).as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b"\r\n");
}

fn reply(frame: OwnedFrame) -> Reply {
    match frame {
        OwnedFrame::SimpleString(text) => Reply::Status(String::from_utf8_lossy(&text).into_owned()),
        OwnedFrame::Error(text) => Reply::Error(text),
        OwnedFrame::Integer(number) => Reply::Integer(number),
        OwnedFrame::BulkString(bytes) => Reply::Bulk(bytes),
        OwnedFrame::Array(frames) => Reply::Array(frames.into_iter().map(reply).collect()),
        OwnedFrame::Null => Reply::Nil,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Reply {
        Reply::Bulk(text.as_bytes().to_vec())
    }

    #[test]
    fn replies_come_out_whole_however_they_are_cut() {
        let stream = b"+OK\r\n-ERR no\r\n:-42\r\n$5\r\na\r\nb\0\r\n$0\r\n\r\n$-1\r\n*-1\r\n*0\r\n\
*2\r\n$1\r\n0\r\n*2\r\n$1\r\na\r\n:7\r\n*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n";
        let expected = [
            Reply::Status("OK".into()),
            Reply::Error("ERR no".into()),
            Reply::Integer(-42),
            bulk("a\r\nb\0"),
            bulk(""),
            Reply::Nil,
            Reply::Nil,
            Reply::Array(vec![]),
            Reply::Array(vec![bulk("0"), Reply::Array(vec![bulk("a"), Reply::Integer(7)])]),
            Reply::Array(vec![bulk("message"), bulk("c"), bulk("m")]),
        ];
        for size in 1..=stream.len() {
            let mut decoder = ReplyDecoder::default();
            let mut replies = Vec::new();
            let mut raw = Vec::new();
            for piece in stream.chunks(size) {
                decoder.feed(piece);
                while let Some((reply, bytes)) = decoder.next_reply().unwrap() {
                    replies.push(reply);
                    raw.extend_from_slice(bytes);
                }
            }
            assert_eq!(replies, expected, "in pieces of {size}");
            assert_eq!(raw, stream);
        }
    }

    #[test]
    fn what_is_no_resp_is_refused() {
        for text in ["?\r\n", ":x\r\n", "$x\r\n", "HTTP/1.1 400 Bad Request\r\n"] {
            let mut decoder = ReplyDecoder::default();
            decoder.feed(text.as_bytes());
            assert_eq!(decoder.next_reply(), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn commands_are_arrays_of_bulk_strings() {
        let mut out = Vec::new();
        let parts: [&[u8]; 3] = [b"SET", b"a\r\n", b""];
        encode_command(&mut out, parts.into_iter());
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$3\r\na\r\n\r\n$0\r\n\r\n");
    }
}
