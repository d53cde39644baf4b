//! How text of a client gets into a line so that it stays in its field.

/// Appends `text` with `\xHH` in place of quotes, backslashes, control and high bytes, and of `stop`, which is the byte
/// behind the field.
pub(super) fn quoted(out: &mut Vec<u8>, text: &[u8], stop: u8) {
    let mut rest = text;
    loop {
        let (plain, special) = split_plain(rest, stop);
        out.extend_from_slice(plain);
        let Some((&byte, after)) = special.split_first() else { return };
        out.extend_from_slice(&[b'\\', b'x', upper_digit(byte >> 4), upper_digit(byte & 15)]);
        rest = after;
    }
}

/// Appends `text` as a JSON string, its quotes included (RFC 8259 section 7). What is no UTF-8 becomes U+FFFD. C1 control
/// characters and DEL are escaped, too: a terminal may obey them.
pub(super) fn json(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    let mut rest = text;
    loop {
        let (plain, special) = split_plain(rest, b'"');
        out.extend_from_slice(plain);
        let high = special.iter().position(u8::is_ascii).unwrap_or(special.len());
        let (high, after) = special.split_at(high);
        json_high(out, high);
        let Some((&byte, after)) = after.split_first() else { break };
        if high.is_empty() {
            json_special(out, u16::from(byte));
            rest = after;
        } else {
            rest = special.get(high.len()..).unwrap_or_default();
        }
    }
    out.push(b'"');
}

/// The bytes up to the first that does not stand for itself, and the rest. Most texts have none, so eight bytes are looked
/// at together.
#[inline]
fn split_plain(text: &[u8], stop: u8) -> (&[u8], &[u8]) {
    let mut at = 0usize;
    let mut rest = text;
    while let Some((word, behind)) = rest.split_first_chunk() {
        if !is_all_plain(*word, stop) {
            break;
        }
        at = at.saturating_add(word.len());
        rest = behind;
    }
    // The last few are looked at once more along with those before them.
    if rest.len() < 8 && text.last_chunk().is_some_and(|word| is_all_plain(*word, stop)) {
        return (text, b"");
    }
    let more = rest.iter().position(|&byte| !is_plain(byte, stop)).unwrap_or(rest.len());
    text.split_at(at.saturating_add(more))
}

/// Printable ASCII but for quotes, backslashes and `stop`.
#[inline]
fn is_plain(byte: u8, stop: u8) -> bool {
    (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\' && byte != stop
}

/// Whether each byte is plain. No subtraction borrows from the next byte then, and no high bit is set; the first byte that
/// is not plain sets its own. (A `stop` beyond ASCII sets them all: the bytes are then looked at one by one.)
#[inline]
fn is_all_plain(bytes: [u8; 8], stop: u8) -> bool {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = u64::from_le_bytes([0x80; 8]);
    let word = u64::from_le_bytes(bytes);
    let each = |byte: u8| ONES.wrapping_mul(u64::from(byte));
    let equal = |byte: u8| (word ^ each(byte)).wrapping_sub(ONES);
    let control = word.wrapping_sub(each(b' '));
    (word | control | equal(0x7f) | equal(b'"') | equal(b'\\') | equal(stop)) & HIGH == 0
}

/// A run of bytes that are not ASCII.
fn json_high(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\u{80}'..='\u{9f}' => json_special(out, character as u16),
                _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

fn json_special(out: &mut Vec<u8>, unit: u16) {
    match u8::try_from(unit) {
        Ok(byte @ (b'"' | b'\\')) => out.extend_from_slice(&[b'\\', byte]),
        _ => {
            out.extend_from_slice(b"\\u");
            for shift in [12, 8, 4, 0] {
                out.push(upper_digit((unit >> shift) as u8 & 15));
            }
        }
    }
}

fn upper_digit(nibble: u8) -> u8 {
    match nibble {
        0..=9 => b'0' + nibble,
        _ => b'A' + (nibble & 15) - 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted_text(text: &[u8], stop: u8) -> String {
        let mut out = Vec::new();
        quoted(&mut out, text, stop);
        String::from_utf8(out).unwrap()
    }

    fn json_text(text: &[u8]) -> String {
        let mut out = Vec::new();
        json(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_byte_at_every_place() {
        for length in 0..20 {
            for at in 0..length {
                for byte in 0..=255u8 {
                    for stop in [0, b' ', b'a', b'~', 0xc3] {
                        let mut text = vec![b'a'; length];
                        text[at] = byte;
                        let plain = text.iter().take_while(|&&byte| is_plain(byte, stop)).count();
                        assert_eq!(split_plain(&text, stop).0.len(), plain, "{} {stop}", text.escape_ascii());
                    }
                }
            }
        }
    }

    #[test]
    fn quoted_bytes() {
        for (text, stop, expected) in [
            (&b""[..], 0, ""),
            (b"/plain path", 0, "/plain path"),
            (b"/plain path", b' ', "/plain\\x20path"),
            (b"a\"b\\c", 0, "a\\x22b\\x5Cc"),
            (b"\x1b[1m\xc3\xa4\x7f\r\n\0", 0, "\\x1B[1m\\xC3\\xA4\\x7F\\x0D\\x0A\\x00"),
            (b"|a|", b'|', "\\x7Ca\\x7C"),
            (
                b"0123456789abcdef0123456789abcd\"f0123456789abcdef",
                0,
                "0123456789abcdef0123456789abcd\\x22f0123456789abcdef",
            ),
            (b"0123456789abcde~\x7f", b'f', "0123456789abcde~\\x7F"),
        ] {
            assert_eq!(quoted_text(text, stop), expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn json_strings() {
        for (text, expected) in [
            (&b""[..], r#""""#),
            (b"/plain path", r#""/plain path""#),
            (b"a\"b\\c/", r#""a\"b\\c/""#),
            (b"\x1b\t\r\n\0\x7f", r#""\u001B\u0009\u000D\u000A\u0000\u007F""#),
            ("ä€😀".as_bytes(), "\"ä€😀\""),
            ("\u{85}\u{9b}\u{a0}".as_bytes(), "\"\\u0085\\u009B\u{a0}\""),
            (b"a\xffb\xc3", "\"a\u{fffd}b\u{fffd}\""),
            (b"\xe2\x82\"\xac", "\"\u{fffd}\\\"\u{fffd}\""),
            (b"\xed\xa0\x80", "\"\u{fffd}\u{fffd}\u{fffd}\""),
        ] {
            assert_eq!(json_text(text), expected, "{}", text.escape_ascii());
        }
    }
}
