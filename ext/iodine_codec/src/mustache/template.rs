//! A compiled template: data, and no more.

use std::ops::Range;

/// A place in [`Template::source`].
pub(super) type Span = Range<usize>;

/// A template and its partials, ready to be rendered.
#[derive(Debug, Default)]
pub struct Template {
    /// The texts of the template and its partials, one behind the other.
    pub(super) source: Vec<u8>,
    /// The instructions of all units, one unit behind the other.
    pub(super) ops: Vec<Op>,
    /// Where each unit begins. The first one is the template itself, the others are its partials.
    pub(super) units: Vec<usize>,
    pub(super) names: Vec<Name>,
    /// What names consist of, without repetition.
    pub(super) keys: Vec<Span>,
}

/// One instruction. Jumps are absolute, and lead behind the `End` that they name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Text(Span),
    Value {
        name: usize,
        escaped: bool,
    },
    Section {
        name: usize,
        /// What a lambda is given.
        raw: Span,
        end: usize,
    },
    Inverted {
        name: usize,
        end: usize,
    },
    /// The end of the section whose first instruction is at `begin`.
    End {
        begin: usize,
    },
    Partial {
        unit: usize,
        /// The blanks before a partial that has a line to itself.
        padding: Span,
    },
    EndUnit,
}

/// The name in a tag, by the numbers of its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub whole: usize,
    /// For `a.b.c`: `a`, `b.c`, and `b` and `c`.
    pub dotted: Option<Dotted>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dotted {
    pub head: usize,
    pub rest: usize,
    pub segments: Vec<usize>,
}

/// Something to look for in a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'t> {
    /// Its number, from 0 to [`Template::key_count`].
    pub index: usize,
    /// Its bytes, as in the template.
    pub text: &'t [u8],
}

impl Template {
    /// How many different keys there are.
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// All keys, in the order of their numbers.
    pub fn keys(&self) -> impl Iterator<Item = Key<'_>> {
        (0..self.keys.len()).map(|index| self.key(index))
    }

    pub(super) fn key(&self, index: usize) -> Key<'_> {
        let text = self.keys.get(index).map_or(&[][..], |span| self.text(span));
        Key { index, text }
    }

    pub(super) fn text(&self, span: &Span) -> &[u8] {
        self.source.get(span.clone()).unwrap_or_default()
    }
}
