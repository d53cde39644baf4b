//! HTML escaping, by the table of iodine 0.7: stricter than the specification asks for, so that a value can not leave an
//! unquoted attribute either.

/// Appends `text`, escaped.
///
/// Letters, digits, `{`, `}`, `~`, DEL and all bytes from 0x80 on stay; `"`, `&`, `'`, `<` and `>` become named
/// references; every other byte becomes a numeric one.
pub fn escape(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let plain = rest.iter().position(|&byte| !is_plain(byte)).unwrap_or(rest.len());
        let (run, after) = rest.split_at(plain);
        out.extend_from_slice(run);
        rest = match after.split_first() {
            Some((&byte, after)) => {
                out.extend_from_slice(reference(byte));
                after
            }
            None => after,
        };
    }
}

fn is_plain(byte: u8) -> bool {
    PLAIN[usize::from(byte)]
}

fn reference(byte: u8) -> &'static [u8] {
    match byte {
        b'"' => b"&quot;",
        b'&' => b"&amp;",
        b'\'' => b"&apos;",
        b'<' => b"&lt;",
        b'>' => b"&gt;",
        _ => {
            let entry = &NUMERIC[usize::from(byte)];
            entry.split_at(usize::from(entry[7])).0
        }
    }
}

/// The bytes that stay as they are.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let letter = byte as u8;
        plain[byte] = letter.is_ascii_alphanumeric() || matches!(letter, b'{' | b'}' | b'~' | 0x7f..);
        byte += 1;
    }
    plain
};

/// `&#N;` for every byte, its length in the last place.
const NUMERIC: [[u8; 8]; 256] = {
    let mut table = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let digits = [b'0' + (byte / 100) as u8, b'0' + (byte / 10 % 10) as u8, b'0' + (byte % 10) as u8];
        let mut digit = if byte >= 100 {
            0
        } else if byte >= 10 {
            1
        } else {
            2
        };
        let entry = &mut table[byte];
        entry[0] = b'&';
        entry[1] = b'#';
        let mut length = 2;
        while digit < 3 {
            entry[length] = digits[digit];
            digit += 1;
            length += 1;
        }
        entry[length] = b';';
        entry[7] = length as u8 + 1;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        escape(text, &mut out);
        out
    }

    #[test]
    fn every_byte_by_the_table() {
        for byte in 0..=255u8 {
            let expected = match byte {
                b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'{' | b'}' | b'~' | 0x7f..=0xff => vec![byte],
                b'"' => b"&quot;".to_vec(),
                b'&' => b"&amp;".to_vec(),
                b'\'' => b"&apos;".to_vec(),
                b'<' => b"&lt;".to_vec(),
                b'>' => b"&gt;".to_vec(),
                _ => format!("&#{byte};").into_bytes(),
            };
            assert_eq!(escaped(&[byte]), expected, "{byte}");
        }
    }

    #[test]
    fn runs_are_kept_together() {
        assert_eq!(escaped(b""), b"");
        assert_eq!(escaped("grün <b>".as_bytes()), "grün&#32;&lt;b&gt;".as_bytes());
        assert_eq!(escaped(b"a|b.c\n"), b"a&#124;b&#46;c&#10;");
    }
}
