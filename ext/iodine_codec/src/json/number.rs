//! Numbers: integers that fit, integers that do not, and floats, correctly rounded.

use super::parser::Parser;
use super::{Builder, Error, ErrorKind};

/// Decimal digits that always fit into 64 bits.
const SAFE_DIGITS: usize = 18;
/// Decimal digits that `u64` can always take up, and the integers that a float represents exactly.
const MANTISSA_DIGITS: usize = 19;
const EXACT: u64 = 1 << 53;
/// Powers of ten that are exact floats.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

impl<B: Builder> Parser<'_, B> {
    /// A number: a sign, a digit or (lenient) a dot or an x comes next.
    #[inline]
    pub(super) fn number(&mut self) -> Result<(), Error> {
        let start = self.at;
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        let digits_start = self.at;
        let mut mantissa = 0;
        self.digits(&mut mantissa);
        let length = self.at - digits_start;
        match self.peek() {
            Some(b'.' | b'e' | b'E') => return self.float(start, negative, mantissa, length),
            Some(byte) if length == 0 && self.rules.lenient && byte.is_ascii_alphabetic() => {
                return self.unusual_number(byte, negative);
            }
            Some(b'x' | b'X' | b'b' | b'B') if self.rules.lenient && length == 1 && mantissa == 0 => {
                return self.based_integer(negative);
            }
            _ => {}
        }
        if length == 0 || self.is_inside_word() {
            return Err(self.error(ErrorKind::BadNumber));
        }
        self.check_leading_zero(digits_start, length)?;
        if length <= SAFE_DIGITS {
            let value = mantissa as i64;
            self.builder.integer(if negative { -value } else { value });
            return Ok(());
        }
        self.long_integer(start, negative, mantissa, length)
    }

    #[cold]
    fn unusual_number(&mut self, first: u8, negative: bool) -> Result<(), Error> {
        match first {
            b'x' | b'X' => self.based_integer(negative),
            b'N' | b'n' | b'I' | b'i' => self.not_finite(negative),
            _ => Err(self.error(ErrorKind::BadNumber)),
        }
    }

    /// An integer of 19 digits or more; of 19 or less `mantissa` is the value.
    fn long_integer(
        &mut self,
        start: usize,
        negative: bool,
        mantissa: u64,
        length: usize,
    ) -> Result<(), Error> {
        if length > self.rules.max_digits {
            return Err(self.error(ErrorKind::TooManyDigits));
        }
        let value = if negative { 0i64.checked_sub_unsigned(mantissa) } else { i64::try_from(mantissa).ok() };
        match value {
            Some(value) if length <= MANTISSA_DIGITS => self.builder.integer(value),
            _ => {
                let digits = self.source.get(start + usize::from(negative)..self.at).unwrap_or_default();
                self.builder.big_integer(negative, digits, 10);
            }
        }
        Ok(())
    }

    /// `0x1F`, `x1F` or `0b101`: the letter comes next.
    #[cold]
    fn based_integer(&mut self, negative: bool) -> Result<(), Error> {
        let radix = if matches!(self.peek(), Some(b'x' | b'X')) { 16 } else { 2 };
        self.at += 1;
        let start = self.at;
        while self.peek().is_some_and(|byte| char::from(byte).is_digit(radix)) {
            self.at += 1;
        }
        let length = self.at - start;
        if length == 0 || self.is_inside_word() {
            return Err(self.error(ErrorKind::BadNumber));
        }
        if length > self.rules.max_digits {
            return Err(self.error(ErrorKind::TooManyDigits));
        }
        let digits = self.source.get(start..self.at).unwrap_or_default();
        let value = std::str::from_utf8(digits).ok().and_then(|text| i64::from_str_radix(text, radix).ok());
        match value {
            Some(value) => self.builder.integer(if negative { -value } else { value }),
            None => self.builder.big_integer(negative, digits, radix),
        }
        Ok(())
    }

    /// A number with a fraction or an exponent; `length` digits before them have been read.
    #[inline]
    fn float(&mut self, start: usize, negative: bool, mantissa: u64, length: usize) -> Result<(), Error> {
        let mut mantissa = mantissa;
        let mut digits = length;
        let mut scale = 0i64;
        if self.peek() == Some(b'.') {
            self.at += 1;
            let fraction_start = self.at;
            self.digits(&mut mantissa);
            let fraction = self.at - fraction_start;
            // RFC 8259 section 6: digits on both sides. Leniently one side will do.
            if fraction == 0 && !(self.rules.lenient && length > 0) {
                return Err(self.error(ErrorKind::BadNumber));
            }
            digits += fraction;
            scale = -(fraction as i64);
        }
        if digits == 0 || (length == 0 && !self.rules.lenient) {
            return Err(self.error(ErrorKind::BadNumber));
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            scale = scale.saturating_add(self.exponent()?);
        }
        if self.is_inside_word() {
            return Err(self.error(ErrorKind::BadNumber));
        }
        self.check_leading_zero(start + usize::from(negative), length)?;

        let power = POWERS.get(scale.unsigned_abs() as usize);
        if let (Some(power), true) = (power, digits <= MANTISSA_DIGITS && mantissa <= EXACT) {
            // Both operands are exact, so one operation rounds correctly.
            let value = if scale < 0 { mantissa as f64 / power } else { mantissa as f64 * power };
            self.builder.float(if negative { -value } else { value });
            return Ok(());
        }
        self.long_float(start)
    }

    fn long_float(&mut self, start: usize) -> Result<(), Error> {
        match std::str::from_utf8(self.since(start)).ok().and_then(|text| text.parse().ok()) {
            Some(value) => self.builder.float(value),
            None => return Err(self.error(ErrorKind::BadNumber)),
        }
        Ok(())
    }

    /// The digits of an exponent, behind its letter. Saturates far beyond what makes a difference.
    fn exponent(&mut self) -> Result<i64, Error> {
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(matches!(self.peek(), Some(b'-' | b'+')));
        let start = self.at;
        let mut value = 0i64;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            value = value.saturating_mul(10).saturating_add(i64::from(digit - b'0'));
            self.at += 1;
        }
        if self.at == start {
            return Err(self.error(ErrorKind::BadNumber));
        }
        Ok(if negative { -value } else { value })
    }

    /// Octal to some and decimal to others, and no JSON: `010` is refused rather than guessed (fault F50 of 0.7).
    #[inline]
    fn check_leading_zero(&self, start: usize, length: usize) -> Result<(), Error> {
        match length > 1 && self.source.get(start) == Some(&b'0') {
            true => Err(Error { kind: ErrorKind::LeadingZero, offset: start }),
            false => Ok(()),
        }
    }

    /// Skips digits and adds them to `value`, which wraps when they are too many.
    #[inline]
    fn digits(&mut self, value: &mut u64) {
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            *value = value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            self.at += 1;
        }
    }
}
