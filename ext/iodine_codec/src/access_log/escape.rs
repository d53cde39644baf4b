//! How text of a client gets into a line so that it stays in its field.

/// Appends `text` with `\xHH` in place of quotes, backslashes, control and high bytes, and of `stop`, which is the byte
/// behind the field.
pub(super) fn quoted(out: &mut Vec<u8>, mut rest: &[u8], stop: u8) {
    while let Some(at) = rest.iter().position(|&byte| !PLAIN[usize::from(byte)] || byte == stop) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((&byte, after)) = special.split_first() else { break };
        out.extend_from_slice(&[b'\\', b'x', upper_digit(byte >> 4), upper_digit(byte & 15)]);
        rest = after;
    }
    out.extend_from_slice(rest);
}

/// Appends `text` as a JSON string, its quotes included (RFC 8259 section 7). What is no UTF-8 becomes U+FFFD. C1 control
/// characters and DEL are escaped, too: a terminal may obey them.
pub(super) fn json(out: &mut Vec<u8>, mut rest: &[u8]) {
    out.push(b'"');
    while let Some(at) = rest.iter().position(|&byte| !PLAIN[usize::from(byte)]) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        let high = special.iter().position(u8::is_ascii).unwrap_or(special.len());
        let (high, after) = special.split_at(high);
        rest = after;
        if !high.is_empty() {
            json_high(out, high);
        } else if let Some((&byte, after)) = after.split_first() {
            json_special(out, u16::from(byte));
            rest = after;
        }
    }
    out.extend_from_slice(rest);
    out.push(b'"');
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

/// Bytes that stand for themselves everywhere: printable ASCII but for quotes and backslashes.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = b' ';
    while byte <= b'~' {
        table[byte as usize] = byte != b'"' && byte != b'\\';
        byte += 1;
    }
    table
};

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
    fn quoted_bytes() {
        for (text, stop, expected) in [
            (&b""[..], 0, ""),
            (b"/plain path", 0, "/plain path"),
            (b"/plain path", b' ', "/plain\\x20path"),
            (b"a\"b\\c", 0, "a\\x22b\\x5Cc"),
            (b"\x1b[1m\xc3\xa4\x7f\r\n\0", 0, "\\x1B[1m\\xC3\\xA4\\x7F\\x0D\\x0A\\x00"),
            (b"|a|", b'|', "\\x7Ca\\x7C"),
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
