//! The small alphabets of HTTP: tokens, lists of tokens, quoted strings and blanks (RFC 9110 section 5.6).

use std::borrow::Cow;

/// True for the bytes a token is made of (RFC 9110 section 5.6.2).
#[inline]
pub const fn is_tchar(byte: u8) -> bool {
    lower(byte) != 0
}

/// The lower-case form of a token byte, or 0 if the byte cannot be part of a token.
#[inline]
pub const fn lower(byte: u8) -> u8 {
    LOWER[byte as usize]
}

/// True for one or more token bytes and nothing else.
#[inline]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_tchar(byte))
}

/// True for the two bytes of optional white space (RFC 9110 section 5.6.3).
#[inline]
pub const fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// The bytes without optional white space at either end.
#[inline]
pub fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes {
        if !is_blank(*first) {
            break;
        }
        bytes = rest;
    }
    while let [rest @ .., last] = bytes {
        if !is_blank(*last) {
            break;
        }
        bytes = rest;
    }
    bytes
}

/// The elements of a comma separated list, trimmed. Empty elements are kept: most callers skip them
/// (RFC 9110 section 5.6.1.2), Transfer-Encoding refuses them. Quoted strings are not looked at.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim)
}

/// The parts between separators, trimmed, where a separator in a quoted string is none. A quoted string that does not end
/// reaches to the end of the value.
pub fn split_unquoted(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let mut escaped = false;
    let separates = move |&byte: &u8| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => return byte == separator && !quoted,
        }
        false
    };
    value.split(separates).map(trim)
}

/// The length of the quoted string at the start, quotes included (RFC 9110 section 5.6.4).
pub fn quoted_len(rest: &[u8]) -> Option<usize> {
    let mut escaped = false;
    for (index, &byte) in rest.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return index.checked_add(1),
            _ => {}
        }
    }
    None
}

/// The value that a quoted string stands for.
pub fn unquote(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(inner) = value.strip_prefix(b"\"") else { return Some(Cow::Borrowed(value)) };
    let inner = inner.strip_suffix(b"\"")?;
    if !inner.contains(&b'\\') {
        return Some(Cow::Borrowed(inner));
    }
    let mut plain = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        plain.push(if byte == b'\\' { *bytes.next()? } else { byte });
    }
    Some(Cow::Owned(plain))
}

/// A decimal number: digits without a sign, within 64 bits.
pub fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, &byte| match byte {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

const LOWER: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        if b.is_ascii_alphanumeric() {
            table[byte] = b.to_ascii_lowercase();
        }
        byte += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut index = 0;
    while index < marks.len() {
        table[marks[index] as usize] = marks[index];
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_what_rfc_9110_5_6_2_says() {
        let allowed = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        for byte in 0..=255 {
            assert_eq!(is_tchar(byte), allowed.contains(&byte), "byte {byte}");
        }
        assert_eq!(lower(b'X'), b'x');
        assert!(is_token(b"X-Y"));
        assert!(!is_token(b""));
        assert!(!is_token(b"X Y"));
    }

    #[test]
    fn decimals_have_no_sign_and_fit() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"007"), Some(7));
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        for text in
            ["", "+1", "-1", " 1", "1 ", "0x1", "1e3", "18446744073709551616", "99999999999999999999999"]
        {
            assert_eq!(decimal(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn separators_in_quotes_separate_nothing() {
        let parts =
            |value: &'static str| -> Vec<&'static [u8]> { split_unquoted(value.as_bytes(), b',').collect() };
        assert_eq!(parts("a, \"b,\\\",c\" ,"), [&b"a"[..], b"\"b,\\\",c\"", b""]);
        assert_eq!(parts("a,\"b,c"), [&b"a"[..], b"\"b,c"]);
        assert_eq!(parts("a\\,b"), [&b"a\\"[..], b"b"]);
    }

    #[test]
    fn trimming_takes_blanks_and_tabs_only() {
        assert_eq!(trim(b" \t a b\t "), b"a b");
        assert_eq!(trim(b" \t "), b"");
        assert_eq!(trim(b"\x0ba"), b"\x0ba");
    }

    #[test]
    fn lists_keep_empty_elements() {
        let elements: Vec<&[u8]> = list(b"a , b,,\tc").collect();
        assert_eq!(elements, [&b"a"[..], b"b", b"", b"c"]);
    }
}
