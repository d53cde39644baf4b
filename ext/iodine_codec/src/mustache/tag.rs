//! Finds tags: where the next one is, of what kind, and whether it has a line to itself.

use super::MAX_DELIMITER;
use super::compile::Fault;
use super::template::Span;
use memchr::memmem;

/// The delimiters in force.
#[derive(Clone, Debug)]
pub(super) struct Delimiters<'s> {
    pub open: &'s [u8],
    pub close: &'s [u8],
}

/// A tag in a template's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub kind: Kind,
    /// Everything, delimiters included.
    pub whole: Span,
    /// What stands behind the sign, not trimmed.
    pub content: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Escaped,
    Unescaped,
    Section,
    Inverted,
    Close,
    Partial,
    Delimiters,
    Comment,
}

impl Kind {
    fn may_stand_alone(self) -> bool {
        !matches!(self, Kind::Escaped | Kind::Unescaped)
    }
}

/// The tag that begins at `begin`.
pub(super) fn read(text: &[u8], begin: usize, delimiters: &Delimiters<'_>) -> Result<Tag, Fault> {
    let inside = begin + delimiters.open.len();
    let sign = skip_blanks(text, inside);
    let (kind, extra) = match text.get(sign) {
        Some(b'#') => (Kind::Section, None),
        Some(b'^') => (Kind::Inverted, None),
        Some(b'/') => (Kind::Close, None),
        Some(b'>') => (Kind::Partial, None),
        Some(b'!') => (Kind::Comment, None),
        Some(b'&') => (Kind::Unescaped, None),
        Some(b'{') => (Kind::Unescaped, Some(b'}')),
        Some(b'=') => (Kind::Delimiters, Some(b'=')),
        Some(b':' | b'<') => (Kind::Escaped, None),
        _ => return close_tag(text, begin, sign, Kind::Escaped, None, delimiters),
    };
    close_tag(text, begin, sign + 1, kind, extra, delimiters)
}

fn close_tag(
    text: &[u8],
    begin: usize,
    content: usize,
    kind: Kind,
    extra: Option<u8>,
    delimiters: &Delimiters<'_>,
) -> Result<Tag, Fault> {
    let close = delimiters.close;
    let found = match extra {
        None => find(text, content, close).map(|end| (end, end + close.len())),
        Some(sign) => {
            let closing = [&[sign], close].concat();
            find(text, content, &closing).map(|end| (end, end + closing.len()))
        }
    };
    let (end, after) = found.ok_or(Fault::ClosureMismatch)?;
    Ok(Tag { kind, whole: begin..after, content: content..end })
}

/// Where `what` is found from `from` on.
pub(super) fn find(text: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    memmem::find(text.get(from..)?, what).map(|at| from + at)
}

fn skip_blanks(text: &[u8], from: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    from + rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// The part of `content` between its blanks.
pub(super) fn trim(text: &[u8], content: Span) -> Span {
    let bytes = text.get(content.clone()).unwrap_or_default();
    let begin = content.start + (bytes.len() - bytes.trim_ascii_start().len());
    begin..begin + bytes.trim_ascii().len()
}

/// The line of a tag that has it to itself: blanks before it, nothing behind it. `from` is the end of the tag before.
pub(super) fn own_line(text: &[u8], from: usize, tag: &Tag) -> Option<Span> {
    if !tag.kind.may_stand_alone() {
        return None;
    }
    let before = text.get(from..tag.whole.start)?;
    let blanks = before.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let begin = tag.whole.start - blanks;
    let at_line_start = begin == 0 || text.get(begin - 1) == Some(&b'\n');
    let end = match text.get(tag.whole.end..)? {
        [] => 0,
        [b'\n', ..] => 1,
        [b'\r', b'\n', ..] => 2,
        _ => return None,
    };
    at_line_start.then_some(begin..tag.whole.end + end)
}

/// What `{{=<% %>=}}` asks for.
pub(super) fn new_delimiters(content: &[u8]) -> Result<Delimiters<'_>, Fault> {
    let mut words = content.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let (Some(open), Some(close), None) = (words.next(), words.next(), words.next()) else {
        return Err(Fault::ClosureMismatch);
    };
    if content.contains(&b'=') {
        return Err(Fault::ClosureMismatch);
    }
    if open.len() > MAX_DELIMITER || close.len() > MAX_DELIMITER {
        return Err(Fault::DelimiterTooLong);
    }
    Ok(Delimiters { open, close })
}
