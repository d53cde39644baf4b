//! Hexadecimal digits.

/// The value of a digit, in either case.
#[inline]
pub(crate) const fn value(digit: u8) -> Option<u8> {
    match VALUES[digit as usize] {
        NONE => None,
        value => Some(value),
    }
}

const NONE: u8 = u8::MAX;
const VALUES: [u8; 256] = {
    let mut table = [NONE; 256];
    let mut value = 0;
    while value < 16 {
        let digit = b"0123456789abcdef"[value as usize];
        table[digit as usize] = value;
        table[digit.to_ascii_uppercase() as usize] = value;
        value += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    #[test]
    fn digits_of_either_case_and_nothing_else() {
        for byte in 0..=255u8 {
            let expected = char::from(byte).to_digit(16).map(|value| value as u8);
            assert_eq!(super::value(byte), expected, "byte {byte}");
        }
    }
}
