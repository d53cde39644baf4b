//! Conditional requests (RFC 9110 section 13): entity tags, dates, and what becomes of a request for a file that has them.

use super::token;
use std::time::UNIX_EPOCH;

/// What a client may know of a representation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Validators<'v> {
    /// The entity tag, with its quotes and the `W/` of a weak one.
    pub tag: Option<&'v [u8]>,
    /// When it was last changed, in seconds of the Unix epoch.
    pub modified: Option<u64>,
}

/// What the conditions of a GET or HEAD come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Answer as usual.
    Proceed,
    /// 304: the client has it.
    NotModified,
    /// 412.
    Failed,
}

/// The values of the conditional headers of a request: all lines of those that are lists, and of the others the only one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conditions<M, N> {
    /// `If-Match`, if there is one.
    pub matches: Option<M>,
    /// `If-None-Match`, if there is one.
    pub none_matches: Option<N>,
    /// `If-Modified-Since` as seconds, if it is a date.
    pub modified_since: Option<u64>,
    /// `If-Unmodified-Since` as seconds, if it is a date.
    pub unmodified_since: Option<u64>,
}

impl<'h, M: Iterator<Item = &'h [u8]>, N: Iterator<Item = &'h [u8]>> Conditions<M, N> {
    /// Decides in the order of section 13.2.2. Dates count only where tags are not asked about.
    pub fn verdict(self, validators: Validators<'_>) -> Verdict {
        let Validators { tag, modified } = validators;
        let known = match (self.matches, self.unmodified_since, modified) {
            (Some(mut values), _, _) => values.any(|value| names(value, tag, Comparison::Strong)),
            (None, Some(date), Some(modified)) => modified <= date,
            _ => true,
        };
        if !known {
            return Verdict::Failed;
        }
        let has_it = match (self.none_matches, self.modified_since, modified) {
            (Some(mut values), _, _) => values.any(|value| names(value, tag, Comparison::Weak)),
            (None, Some(date), Some(modified)) => modified <= date,
            _ => false,
        };
        if has_it { Verdict::NotModified } else { Verdict::Proceed }
    }
}

/// Whether the range of a request with this `If-Range` is to be served (section 13.1.5): a tag must be the very one,
/// and a date exactly that of the last change. While the tag is weak, another change may bear the same date, so that it
/// tells nothing (section 8.8.2.2).
pub fn if_range(value: &[u8], validators: Validators<'_>) -> bool {
    match value.first() {
        Some(b'"' | b'W') if value.contains(&b'"') => {
            validators.tag.is_some_and(|tag| compare(value, tag, Comparison::Strong))
        }
        _ if validators.tag.is_some_and(|tag| tag.starts_with(b"W/")) => false,
        _ => validators.modified.is_some() && date(value) == validators.modified,
    }
}

/// An HTTP date in any of its three forms, as seconds of the Unix epoch (section 5.6.7).
pub fn date(value: &[u8]) -> Option<u64> {
    let time = httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()?;
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    /// A weak tag equals nothing (section 8.8.3.2).
    Strong,
    /// `W/` makes no difference.
    Weak,
}

/// Whether a list of tags holds this one, or is `*`. What is no tag in it is passed over.
fn names(list: &[u8], tag: Option<&[u8]>, comparison: Comparison) -> bool {
    if token::trim(list) == b"*" {
        return true;
    }
    let Some(tag) = tag else { return false };
    let mut rest = list;
    while let Some((listed, behind)) = next_tag(rest) {
        if compare(listed, tag, comparison) {
            return true;
        }
        rest = behind;
    }
    false
}

fn compare(one: &[u8], other: &[u8], comparison: Comparison) -> bool {
    match comparison {
        Comparison::Strong => one == other && !one.starts_with(b"W/"),
        Comparison::Weak => opaque(one) == opaque(other),
    }
}

fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The next entity tag of a list, and what follows it. A comma inside quotes separates nothing.
fn next_tag(mut list: &[u8]) -> Option<(&[u8], &[u8])> {
    loop {
        let start = list.iter().position(|&byte| byte != b',' && !token::is_blank(byte))?;
        list = list.get(start..)?;
        let prefix = if list.starts_with(b"W/\"") { 3 } else { 1 };
        if prefix == 3 || list.starts_with(b"\"") {
            let length = list.get(prefix..)?.iter().position(|&byte| byte == b'"')?;
            return list.split_at_checked(length.checked_add(prefix)?.checked_add(1)?);
        }
        list = list.get(list.iter().position(|&byte| byte == b',')?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &str = "\"a,b\"";
    const DAY: u64 = 1_000_000_000;
    const THEN: &str = "Sun, 09 Sep 2001 01:46:40 GMT";
    const BEFORE: &str = "Sun, 09 Sep 2001 01:46:39 GMT";
    const AFTER: &str = "Sun, 09 Sep 2001 01:46:41 GMT";

    fn of<'v>(tag: &'v str) -> Validators<'v> {
        Validators { tag: (!tag.is_empty()).then_some(tag.as_bytes()), modified: Some(DAY) }
    }

    /// `headers` in lines of `name: value`.
    fn verdict(headers: &str, tag: &str) -> Verdict {
        let values = |name: &str| {
            let lines = headers.lines().filter_map(|line| line.split_once(": "));
            let found: Vec<&[u8]> =
                lines.filter(|line| line.0 == name).map(|line| line.1.as_bytes()).collect();
            (!found.is_empty()).then_some(found)
        };
        let conditions = Conditions {
            matches: values("m").map(Vec::into_iter),
            none_matches: values("n").map(Vec::into_iter),
            modified_since: values("s").and_then(|values| date(values[0])),
            unmodified_since: values("u").and_then(|values| date(values[0])),
        };
        conditions.verdict(of(tag))
    }

    #[test]
    fn rfc_9110_13_2_2_conditions_are_weighed_in_order() {
        use Verdict::*;
        for (headers, expected) in [
            ("", Proceed),
            ("n: \"a,b\"", NotModified),
            ("n: W/\"a,b\"", NotModified),
            ("n: *", NotModified),
            ("n:  * ", NotModified),
            ("n: \"x\", W/\"a,b\" , \"y\"", NotModified),
            ("n: \"x\"\nn: \"a,b\"", NotModified),
            ("n: \"x\"", Proceed),
            // F-34: 0.7's tags had no quotes; what is none is passed over.
            ("n: a,b", Proceed),
            ("n: old, \"a,b\"", NotModified),
            ("n: \"a,b", Proceed),
            ("n: \"a\", b\"", Proceed),
            ("n: w/\"a,b\"", Proceed),
            ("n: ", Proceed),
            // Dates count only without tags.
            ("n: \"x\"\ns: Sun, 09 Sep 2001 01:46:40 GMT", Proceed),
            ("s: Sun, 09 Sep 2001 01:46:40 GMT", NotModified),
            ("s: Sunday, 09-Sep-01 01:46:40 GMT", NotModified),
            ("s: Sun Sep  9 01:46:40 2001", NotModified),
            ("s: Sun, 09 Sep 2001 01:46:41 GMT", NotModified),
            ("s: Sun, 09 Sep 2001 01:46:39 GMT", Proceed),
            ("s: yesterday", Proceed),
            ("m: \"a,b\"", Proceed),
            ("m: *", Proceed),
            ("m: \"x\", \"a,b\"", Proceed),
            ("m: W/\"a,b\"", Failed),
            ("m: \"x\"", Failed),
            ("m: \"a,b\"\nn: \"a,b\"", NotModified),
            ("m: \"x\"\nn: \"a,b\"", Failed),
            ("u: Sun, 09 Sep 2001 01:46:40 GMT", Proceed),
            ("u: Sun, 09 Sep 2001 01:46:39 GMT", Failed),
            ("u: tomorrow", Proceed),
            ("m: \"a,b\"\nu: Sun, 09 Sep 2001 01:46:39 GMT", Proceed),
        ] {
            assert_eq!(verdict(headers, TAG), expected, "{headers:?}");
        }
        assert_eq!(verdict("n: \"a,b\"", "W/\"a,b\""), NotModified);
        assert_eq!(verdict("m: W/\"a,b\"", "W/\"a,b\""), Failed);
        assert_eq!(verdict("n: \"a,b\"", ""), Proceed);
        assert_eq!(verdict("m: \"a,b\"", ""), Failed);
    }

    #[test]
    fn f_20_if_range_serves_a_range_of_the_very_same_file() {
        assert!(if_range(TAG.as_bytes(), of(TAG)));
        assert!(if_range(THEN.as_bytes(), of(TAG)));
        for (value, tag) in [
            ("\"x\"", TAG),
            ("W/\"a,b\"", TAG),
            ("W/\"a,b\"", "W/\"a,b\""),
            ("\"a,b\", \"x\"", TAG),
            (BEFORE, TAG),
            (AFTER, TAG),
            (THEN, "W/\"a,b\""),
            ("", TAG),
            ("*", TAG),
            ("Wednesday", TAG),
            ("\"a,b\"", ""),
        ] {
            assert!(!if_range(value.as_bytes(), of(tag)), "{value:?} {tag:?}");
        }
        assert!(!if_range(THEN.as_bytes(), Validators::default()));
    }
}
