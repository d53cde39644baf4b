//! Patterns of channel names, as Redis has them (PSUBSCRIBE), so that a pattern means the same whether Redis is there or not.
//!
//! Bytes are compared, with regard to case. `?` is any one byte, `*` any number of them; `[abc]` and `[a-z]` are one of
//! those, `[^a-z]` is any other one; `\x` is the byte x itself. A class that is not closed reaches to the end of the
//! pattern, and a backslash at the very end stands for itself.

/// A pattern, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Byte(u8),
    AnyByte,
    AnyRun,
    /// A bit for each byte that fits.
    Class(Box<[u64; 4]>),
}

impl Glob {
    /// Any bytes are a pattern.
    pub fn new(pattern: &[u8]) -> Glob {
        let mut parts = Vec::new();
        let mut rest = pattern;
        while let [first, behind @ ..] = rest {
            let part;
            (part, rest) = match (first, behind) {
                (b'*', _) => (Part::AnyRun, behind),
                (b'?', _) => (Part::AnyByte, behind),
                (b'[', _) => class(behind),
                (b'\\', [escaped, behind @ ..]) => (Part::Byte(*escaped), behind),
                (byte, _) => (Part::Byte(*byte), behind),
            };
            // Several stars in a row are one.
            if part != Part::AnyRun || parts.last() != Some(&Part::AnyRun) {
                parts.push(part);
            }
        }
        Glob { parts }
    }

    /// Whether all of `name` fits. Takes at most the product of the lengths, whatever the pattern.
    pub fn matches(&self, name: &[u8]) -> bool {
        let (mut part, mut byte) = (0, 0);
        // The last star, and what it has swallowed so far: only that one ever has to be tried again.
        let mut star: Option<(usize, usize)> = None;
        while byte < name.len() {
            match self.parts.get(part) {
                Some(Part::AnyRun) => {
                    star = Some((part, byte));
                    part += 1;
                    continue;
                }
                Some(other) if other.fits(name[byte]) => {
                    (part, byte) = (part + 1, byte + 1);
                    continue;
                }
                _ => {}
            }
            let Some((at, from)) = star else { return false };
            star = Some((at, from + 1));
            (part, byte) = (at + 1, from + 1);
        }
        self.parts[part..].iter().all(|part| *part == Part::AnyRun)
    }
}

impl Part {
    fn fits(&self, byte: u8) -> bool {
        match self {
            Part::Byte(wanted) => *wanted == byte,
            Part::AnyByte => true,
            Part::AnyRun => false,
            Part::Class(bits) => bits[usize::from(byte / 64)] & (1 << (byte % 64)) != 0,
        }
    }
}

/// What comes behind an opening bracket: the class, and what comes behind that.
fn class(mut rest: &[u8]) -> (Part, &[u8]) {
    let negated = rest.first() == Some(&b'^');
    if negated {
        rest = &rest[1..];
    }
    let mut bits = [0u64; 4];
    let mut set = |byte: u8| bits[usize::from(byte / 64)] |= 1 << (byte % 64);
    let behind = loop {
        match rest {
            [] => break rest,
            [b']', behind @ ..] => break behind,
            [b'\\', escaped, behind @ ..] => {
                set(*escaped);
                rest = behind;
            }
            // Ranges may be written in either direction.
            [from, b'-', to, behind @ ..] => {
                (*from.min(to)..=*from.max(to)).for_each(&mut set);
                rest = behind;
            }
            [byte, behind @ ..] => {
                set(*byte);
                rest = behind;
            }
        }
    };
    if negated {
        bits.iter_mut().for_each(|word| *word = !*word);
    }
    (Part::Class(Box::new(bits)), behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_what_redis_means() {
        let table: [(&str, &str, bool); 38] = [
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
            ("news", "news", true),
            ("news", "News", false),
            ("*", "", true),
            ("*", "anything", true),
            ("news*", "news", true),
            ("news*", "newsletter", true),
            ("*news", "news", true),
            ("*news", "old news", true),
            ("a*c", "ac", true),
            ("a*c", "abcbc", true),
            ("a*c", "abcb", false),
            ("a**b", "ab", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("?", "", false),
            ("?", "a", true),
            ("?*", "a", true),
            ("a?*", "ab", true),
            ("??", "é", true),
            ("[abc]", "b", true),
            ("[abc]", "d", false),
            ("[a-c]x", "bx", true),
            ("[c-a]x", "bx", true),
            ("[^a-c]", "d", true),
            ("[^a-c]", "b", false),
            ("[!a]", "!", true),
            ("[!a]", "b", false),
            ("[\\]]", "]", true),
            ("[]a]", "a", false),
            ("[a", "a", true),
            ("[a", "b", false),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("*\\*", "x*", true),
            ("a\\", "a\\", true),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(
                Glob::new(pattern.as_bytes()).matches(name.as_bytes()),
                expected,
                "{pattern} ~ {name}"
            );
        }
        // `/`, `.` and braces are bytes like others.
        assert!(Glob::new(b"a/*.{x}").matches(b"a/b/c.{x}"));
    }

    #[test]
    fn no_pattern_takes_for_ever() {
        let pattern = b"*a".repeat(500);
        assert!(!Glob::new(&pattern).matches(&b"a".repeat(400)));
        assert!(Glob::new(&pattern).matches(&b"a".repeat(5000)));
    }
}
