//! Strings: plain ones are handed on as they stand in the input, the others are copied without their escapes.

use super::parser::Parser;
use super::{Builder, Error, ErrorKind, Text};
use crate::hex;

const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

impl<B: Builder> Parser<'_, B> {
    /// A string: its opening quote comes next.
    #[inline]
    pub(super) fn string(&mut self, is_key: bool) -> Result<(), Error> {
        let start = self.at + 1;
        self.at = plain_end(self.source, start);
        if self.peek() != Some(b'"') {
            return self.unusual_string(start, is_key);
        }
        let text = Text::Utf8(self.source.get(start..self.at).unwrap_or_default());
        self.at += 1;
        if is_key {
            self.builder.key(text)
        } else {
            self.builder.string(text)
        }
        Ok(())
    }

    /// A string from `start` on, plain up to here, where there is an escape, a control character or the end of all.
    fn unusual_string(&mut self, start: usize, is_key: bool) -> Result<(), Error> {
        self.scratch.text.clear();
        let mut plain = start;
        let mut utf8 = true;
        loop {
            let run = self.source.get(plain..self.at).unwrap_or_default();
            self.scratch.text.extend_from_slice(run);
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => utf8 &= self.escape()?,
                // RFC 8259 section 7 wants control characters escaped.
                Some(control) if self.rules.lenient => {
                    self.scratch.text.push(control);
                    self.at += 1;
                }
                Some(_) => return Err(self.error(ErrorKind::ControlInString)),
                None => return Err(self.error(ErrorKind::UnterminatedString)),
            }
            plain = self.at;
            self.at = plain_end(self.source, plain);
        }
        self.at += 1;
        let bytes = &self.scratch.text[..];
        let text = match utf8 || std::str::from_utf8(bytes).is_ok() {
            true => Text::Utf8(bytes),
            false => Text::Binary(bytes),
        };
        if is_key {
            self.builder.key(text)
        } else {
            self.builder.string(text)
        }
        Ok(())
    }

    /// Replaces the escape that comes next. False if that may have broken the UTF-8.
    fn escape(&mut self) -> Result<bool, Error> {
        self.at += 1;
        let byte = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => byte,
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => return self.unicode_escape().map(|()| true),
            Some(byte) if self.rules.lenient => return self.unusual_escape(byte),
            Some(_) => return Err(self.error(ErrorKind::BadEscape)),
            None => return Err(self.error(ErrorKind::UnterminatedString)),
        };
        self.at += 1;
        self.scratch.text.push(byte);
        Ok(true)
    }

    /// `\xHH`, two octal digits, or any other character for itself.
    #[cold]
    fn unusual_escape(&mut self, first: u8) -> Result<bool, Error> {
        let second = self.source.get(self.at + 1).copied();
        let byte = match (first, second) {
            (b'x', _) => match self.hex(self.at + 1, 2) {
                Some(value) => {
                    self.at += 3;
                    value as u8
                }
                None => return Err(self.error(ErrorKind::BadEscape)),
            },
            (b'0'..=b'7', Some(second @ b'0'..=b'7')) => {
                self.at += 2;
                (first - b'0') * 8 + (second - b'0')
            }
            // The rest of a character of several bytes follows as plain text.
            _ => {
                self.at += 1;
                self.scratch.text.push(first);
                return Ok(true);
            }
        };
        self.scratch.text.push(byte);
        Ok(byte.is_ascii())
    }

    /// `\uXXXX`, and a second one where the two are a surrogate pair: its `u` comes next.
    fn unicode_escape(&mut self) -> Result<(), Error> {
        let Some(unit) = self.hex(self.at + 1, 4) else {
            return Err(self.error(ErrorKind::BadEscape));
        };
        let mut length = 5;
        let character = match unit {
            0xd800..0xdc00 => self.low_surrogate().and_then(|low| {
                length = 11;
                char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00))
            }),
            _ => char::from_u32(unit),
        };
        // The lenient grammar does what decoders of UTF-8 do with what is no character.
        if character.is_none() && !self.rules.lenient {
            return Err(self.error(ErrorKind::LoneSurrogate));
        }
        let mut buffer = [0; 4];
        let encoded = character.unwrap_or(REPLACEMENT).encode_utf8(&mut buffer);
        self.scratch.text.extend_from_slice(encoded.as_bytes());
        self.at += length;
        Ok(())
    }

    /// The low half of a pair, if one follows the escape whose `u` comes next.
    fn low_surrogate(&self) -> Option<u32> {
        let next = self.source.get(self.at + 5..self.at + 7)?;
        let unit = self.hex(self.at + 7, 4)?;
        (next == b"\\u" && (0xdc00..0xe000).contains(&unit)).then_some(unit)
    }

    fn hex(&self, start: usize, count: usize) -> Option<u32> {
        let digits = self.source.get(start..start + count)?;
        digits.iter().try_fold(0, |value, &digit| Some(value << 4 | u32::from(hex::value(digit)?)))
    }
}

/// Where the plain run from `start` on ends: at a quote, a backslash, a control character or the end of `bytes`.
#[inline]
fn plain_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let found = special_bytes(u64::from_le_bytes(*chunk));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let tail = bytes.get(at..).unwrap_or_default();
    at + tail.iter().position(|&byte| matches!(byte, b'"' | b'\\' | ..0x20)).unwrap_or(tail.len())
}

/// The top bit of each byte that ends a plain run. Bytes behind the first one found may be wrong.
#[inline]
const fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const TOPS: u64 = ONES << 7;
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let is_quote = quote.wrapping_sub(ONES) & !quote;
    let is_backslash = backslash.wrapping_sub(ONES) & !backslash;
    let is_control = word.wrapping_sub(ONES * 0x20) & !word;
    (is_quote | is_backslash | is_control) & TOPS
}

#[cfg(test)]
mod tests {
    use super::plain_end;

    #[test]
    fn runs_end_at_the_first_special_byte() {
        for byte in 0..=255u8 {
            for position in 0..20 {
                let mut bytes = vec![b'a'; 23];
                bytes[position] = byte;
                let special = byte < 0x20 || byte == b'"' || byte == b'\\';
                let expected = if special { position } else { 23 };
                assert_eq!(plain_end(&bytes, 0), expected, "byte {byte} at {position}");
                assert_eq!(plain_end(&bytes, position), expected, "from there on");
            }
        }
        assert_eq!(plain_end(b"", 0), 0);
        assert_eq!(plain_end(b"abc", 3), 3);
    }
}
