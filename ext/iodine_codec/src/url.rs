//! Percent-encoding (RFC 3986 section 2.1) and its relative for forms, undone.

use crate::hex;

/// How the escapes of a text are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coding {
    /// `+` stands for a space, as in `application/x-www-form-urlencoded`.
    pub plus_is_space: bool,
    /// A `%` without two hexadecimal digits behind it stands for itself. Otherwise the text is refused.
    pub keeps_malformed: bool,
}

impl Coding {
    /// Queries and forms.
    pub const FORM: Coding = Coding { plus_is_space: true, keeps_malformed: false };
    /// Paths.
    pub const PATH: Coding = Coding { plus_is_space: false, keeps_malformed: false };
    /// Paths, whatever is in them.
    pub const ANY_PATH: Coding = Coding { plus_is_space: false, keeps_malformed: true };
}

/// A `%` without two hexadecimal digits behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Decodes `bytes` in place and returns how many of them are left. A refused text is left as it was.
pub fn decode(bytes: &mut [u8], coding: Coding) -> Result<usize, Malformed> {
    if !coding.keeps_malformed && !is_well_formed(bytes) {
        return Err(Malformed);
    }
    let first = match coding.plus_is_space {
        true => memchr::memchr2(b'%', b'+', bytes),
        false => memchr::memchr(b'%', bytes),
    };
    let Some(first) = first else {
        return Ok(bytes.len());
    };
    let mut read = first;
    let mut written = first;
    while let Some(&byte) = bytes.get(read) {
        let (value, length) = match byte {
            b'%' => escaped(bytes, read).map_or((b'%', 1), |value| (value, 3)),
            b'+' if coding.plus_is_space => (b' ', 1),
            _ => (byte, 1),
        };
        if let Some(place) = bytes.get_mut(written) {
            *place = value;
        }
        read += length;
        written += 1;
    }
    Ok(written)
}

fn is_well_formed(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'%', bytes).all(|at| escaped(bytes, at).is_some())
}

/// The byte that the escape at `at` stands for.
#[inline]
fn escaped(bytes: &[u8], at: usize) -> Option<u8> {
    match bytes.get(at..at + 3) {
        Some(&[b'%', high, low]) => Some(hex::value(high)? << 4 | hex::value(low)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str, coding: Coding) -> Option<Vec<u8>> {
        let mut bytes = text.as_bytes().to_vec();
        match decode(&mut bytes, coding) {
            Ok(length) => {
                bytes.truncate(length);
                Some(bytes)
            }
            Err(Malformed) => {
                assert_eq!(bytes, text.as_bytes(), "a refused text is left as it was");
                None
            }
        }
    }

    #[test]
    fn escapes_are_bytes() {
        let table: &[(&str, &str, &str)] = &[
            ("", "", ""),
            ("plain", "plain", "plain"),
            ("a+b%20c", "a b c", "a+b c"),
            ("%2B+%2b", "+ +", "+++"),
            ("%41%5a%7E", "AZ~", "AZ~"),
            ("100%25", "100%", "100%"),
            ("%2525", "%25", "%25"),
            ("%C3%A9t%c3%A9", "été", "été"),
            ("é+é", "é é", "é+é"),
            ("a%00b", "a\0b", "a\0b"),
        ];
        for &(text, form, path) in table {
            assert_eq!(decoded(text, Coding::FORM).as_deref(), Some(form.as_bytes()), "{text}");
            assert_eq!(decoded(text, Coding::PATH).as_deref(), Some(path.as_bytes()), "{text}");
            assert_eq!(decoded(text, Coding::ANY_PATH).as_deref(), Some(path.as_bytes()), "{text}");
        }
        assert_eq!(decoded("%ff%FE", Coding::FORM).as_deref(), Some(&b"\xff\xfe"[..]));
    }

    #[test]
    fn malformed_escapes_are_refused_or_kept() {
        for (text, kept) in [
            ("%", "%"),
            ("%4", "%4"),
            ("%4g", "%4g"),
            ("%g4", "%g4"),
            ("%%", "%%"),
            ("%%41", "%A"),
            ("%+1", "%+1"),
            ("a%20%", "a %"),
            ("%é", "%é"),
            ("% 41", "% 41"),
        ] {
            assert_eq!(decoded(text, Coding::FORM), None, "{text}");
            assert_eq!(decoded(text, Coding::PATH), None, "{text}");
            assert_eq!(decoded(text, Coding::ANY_PATH).as_deref(), Some(kept.as_bytes()), "{text}");
        }
    }
}
