//! The chunked transfer coding, encoded (RFC 9112 section 7.1).

/// Appends one chunk. Nothing is written for no bytes, since an empty chunk would end the body.
pub fn encode(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    out.reserve(bytes.len().saturating_add(MAX_FRAME));
    begin(out, bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends the size line of a chunk whose data the caller writes, followed by CRLF. `len` must not be 0.
pub fn begin(out: &mut Vec<u8>, len: usize) {
    debug_assert!(len != 0, "an empty chunk ends the body");
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4);
    for place in (0..digits).rev() {
        let nibble = len >> (place * 4) & 15;
        out.push(b"0123456789abcdef"[nibble]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the last chunk and an empty trailer section.
pub fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n\r\n");
}

/// Bytes around the data of a chunk at most: sixteen digits and two line ends.
pub const MAX_FRAME: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_framed_in_hex() {
        let mut out = Vec::new();
        encode(&mut out, b"hello");
        encode(&mut out, b"");
        encode(&mut out, &[b'x'; 0x1a]);
        end(&mut out);
        assert_eq!(out, b"5\r\nhello\r\n1a\r\nxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n0\r\n\r\n");
    }

    #[test]
    fn size_lines_have_no_leading_zero() {
        for len in [1, 15, 16, 255, 256, 4095, 4096, 65536, usize::MAX] {
            let mut out = Vec::new();
            begin(&mut out, len);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{len:x}\r\n"));
        }
    }
}
