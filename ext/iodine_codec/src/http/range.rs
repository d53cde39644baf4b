//! The `Range` header: which bytes of a file a client wants (RFC 9110 section 14).

use super::token;

/// Bytes of a file: where they start and how many they are, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte's place.
    pub start: u64,
    /// How many.
    pub len: u64,
}

impl ByteRange {
    /// The place behind the last byte.
    pub const fn end(self) -> u64 {
        self.start.saturating_add(self.len)
    }
}

/// What a `Range` header comes to for a file of a certain length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// The whole file: the header is none of ours, is malformed, or asks for more than [`MAX_RANGES`].
    Whole,
    /// These, at least one. None overlaps another.
    Parts(Vec<ByteRange>),
    /// Nothing of what is asked for is in the file: a 416.
    Unsatisfiable,
}

/// Ranges of one request beyond which the header is ignored (RFC 9110 section 14.2 allows it): real clients ask for a
/// few, and each one costs a head of its own.
pub const MAX_RANGES: usize = 32;

/// Reads a `Range` header for a file of `len` bytes. Ranges that overlap or touch become one (section 15.3.7.2); the
/// others keep their order, which may be one that suits the client.
pub fn parse(value: &[u8], len: u64) -> Ranges {
    let Some(specs) = byte_specs(value) else { return Ranges::Whole };
    let mut parts: Vec<ByteRange> = Vec::new();
    let mut count = 0usize;
    for spec in token::list(specs).filter(|spec| !spec.is_empty()) {
        count = count.saturating_add(1);
        if count > MAX_RANGES {
            return Ranges::Whole;
        }
        match Spec::parse(spec) {
            Some(spec) => parts.extend(spec.within(len)),
            None => return Ranges::Whole,
        }
    }
    match (count, parts.is_empty()) {
        (0, _) => Ranges::Whole,
        // A suffix of an empty file is satisfiable, but there is no way to write it down.
        (_, true) if len == 0 && only_suffixes(specs) => Ranges::Whole,
        (_, true) => Ranges::Unsatisfiable,
        (_, false) => Ranges::Parts(coalesced(parts)),
    }
}

/// What follows `bytes=`; units are compared regardless of case (section 14.1).
fn byte_specs(value: &[u8]) -> Option<&[u8]> {
    let (unit, rest) = value.split_at(value.iter().position(|&byte| byte == b'=')?);
    unit.eq_ignore_ascii_case(b"bytes").then_some(rest.get(1..)?)
}

fn only_suffixes(specs: &[u8]) -> bool {
    let mut specs = token::list(specs).filter(|spec| !spec.is_empty());
    specs.all(|spec| matches!(Spec::parse(spec), Some(Spec::Last(count)) if count > 0))
}

enum Spec {
    /// `a-b`
    Between(u64, u64),
    /// `a-`
    From(u64),
    /// `-n`
    Last(u64),
}

impl Spec {
    fn parse(spec: &[u8]) -> Option<Spec> {
        let (first, last) = spec.split_at(spec.iter().position(|&byte| byte == b'-')?);
        match (first, last.get(1..)?) {
            (b"", b"") => None,
            (b"", count) => number(count).map(Spec::Last),
            (first, b"") => number(first).map(Spec::From),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Spec::Between(first, last))
            }
        }
    }

    /// What of it lies in a file of `len` bytes.
    fn within(self, len: u64) -> Option<ByteRange> {
        let (start, end) = match self {
            Spec::Between(first, last) => (first, last.saturating_add(1).min(len)),
            Spec::From(first) => (first, len),
            Spec::Last(count) => (len.saturating_sub(count), len),
        };
        let len = end.checked_sub(start).filter(|len| *len > 0)?;
        Some(ByteRange { start, len })
    }
}

/// Digits; more than 64 bits hold is as good as the most they hold.
fn number(digits: &[u8]) -> Option<u64> {
    match digits.iter().all(u8::is_ascii_digit) {
        true => Some(token::decimal(digits).unwrap_or(u64::MAX)),
        false => None,
    }
}

fn coalesced(parts: Vec<ByteRange>) -> Vec<ByteRange> {
    let mut sorted = parts.clone();
    sorted.sort_by_key(|part| part.start);
    let mut merged: Vec<ByteRange> = Vec::with_capacity(sorted.len());
    for part in sorted {
        match merged.last_mut() {
            Some(last) if part.start <= last.end() => {
                last.len = part.end().max(last.end()).saturating_sub(last.start);
            }
            _ => merged.push(part),
        }
    }
    if merged.len() == parts.len() { parts } else { merged }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(value: &str, len: u64) -> String {
        match parse(value.as_bytes(), len) {
            Ranges::Whole => "whole".into(),
            Ranges::Unsatisfiable => "416".into(),
            Ranges::Parts(parts) => {
                let each = parts.iter().map(|part| format!("{}+{}", part.start, part.len));
                each.collect::<Vec<_>>().join(" ")
            }
        }
    }

    #[test]
    fn f_19_what_a_header_asks_for() {
        for (value, len, expected) in [
            ("bytes=0-0", 10, "0+1"),
            ("bytes=2-4", 10, "2+3"),
            ("bytes=5-", 10, "5+5"),
            ("bytes=-3", 10, "7+3"),
            ("bytes=-99", 10, "0+10"),
            ("bytes=0-99", 10, "0+10"),
            ("bytes=9-9", 10, "9+1"),
            ("BYTES=1-1", 10, "1+1"),
            ("bytes= 1-1 ,\t3-3", 10, "1+1 3+1"),
            ("bytes=,1-1,,", 10, "1+1"),
            // In the order of the request.
            ("bytes=8-9,0-1", 10, "8+2 0+2"),
            // What lies outside is left out as long as something lies inside.
            ("bytes=20-30,0-0", 10, "0+1"),
            ("bytes=10-", 10, "416"),
            ("bytes=10-20,30-", 10, "416"),
            ("bytes=-0", 10, "416"),
            ("bytes=0-99999999999999999999999", 10, "0+10"),
            ("bytes=99999999999999999999999-", 10, "416"),
            ("bytes=-99999999999999999999999", 10, "0+10"),
            ("bytes=0-18446744073709551615", u64::MAX, "0+18446744073709551615"),
            // Malformed, or not about bytes: ignored.
            ("bytes=4-2", 10, "whole"),
            ("bytes=0-0,4-2", 10, "whole"),
            ("bytes=-", 10, "whole"),
            ("bytes=", 10, "whole"),
            ("bytes=,", 10, "whole"),
            ("bytes", 10, "whole"),
            ("bytes=x-1", 10, "whole"),
            ("bytes=1-x", 10, "whole"),
            ("bytes=+1-2", 10, "whole"),
            ("bytes=1--2", 10, "whole"),
            ("bytes=1 -2", 10, "whole"),
            ("lines=1-2", 10, "whole"),
            ("bytes =1-2", 10, "whole"),
            ("", 10, "whole"),
            // Of nothing, there is nothing.
            ("bytes=0-", 0, "416"),
            ("bytes=-5", 0, "whole"),
            ("bytes=-0", 0, "416"),
            ("bytes=-5,0-", 0, "416"),
        ] {
            assert_eq!(read(value, len), expected, "{value:?} of {len}");
        }
    }

    #[test]
    fn rfc_9110_15_3_7_2_overlapping_ranges_become_one() {
        assert_eq!(read("bytes=0-4,2-6", 10), "0+7");
        assert_eq!(read("bytes=0-4,5-9", 10), "0+10");
        assert_eq!(read("bytes=5-6,0-1,1-5", 10), "0+7");
        assert_eq!(read("bytes=8-8,0-0,0-0", 10), "0+1 8+1");
        // The flood of CVE-2011-3192.
        let flood: Vec<String> = (0..32).map(|from| format!("{from}-")).collect();
        assert_eq!(read(&format!("bytes={}", flood.join(",")), 1000), "0+1000");
    }

    #[test]
    fn too_many_ranges_are_ignored() {
        let ranges = |count: usize| {
            let each: Vec<String> = (0..count).map(|at| format!("{0}-{0}", at * 2)).collect();
            parse(format!("bytes={}", each.join(",")).as_bytes(), 1000)
        };
        assert!(matches!(ranges(MAX_RANGES), Ranges::Parts(parts) if parts.len() == MAX_RANGES));
        assert_eq!(ranges(MAX_RANGES + 1), Ranges::Whole);
    }

    proptest! {
        #[test]
        fn any_header_is_sound(value in "(bytes=)?[-0-9, x]{0,40}", len in 0u64..200) {
            crate::check::range_of(value.as_bytes(), len);
        }
    }
}
