//! From text to instructions, for a template and all its partials.

use super::MAX_SECTIONS_IN_TEMPLATE;
use super::tag::{self, Delimiters, Kind, Tag};
use super::template::{Dotted, Name, Op, Span, Template};
use std::collections::HashMap;

/// Brings the partials of a template.
pub trait Loader {
    /// Why a partial can not be brought.
    type Error;

    /// The partial that is called `name` in the unit with the number `within`. Number 0 is the template itself; every
    /// [`Loaded::New`] gets the next number.
    fn load(&mut self, name: &[u8], within: usize) -> Result<Loaded, Self::Error>;
}

/// A partial that was brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// One that is there already: the template itself (0) or an earlier partial.
    Known(usize),
    /// The text of another one.
    New(Vec<u8>),
}

/// What is wrong with a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A tag without an end, a section without one or with the wrong one, or a delimiter tag that makes no sense.
    ClosureMismatch,
    /// A tag without a name.
    NoName,
    /// A partial tag without anything in it.
    NoPartialName,
    /// A partial tag with nothing but blanks in it.
    BlankPartialName,
    /// A new delimiter has more than [`MAX_DELIMITER`](super::MAX_DELIMITER) bytes.
    DelimiterTooLong,
    /// More than [`MAX_SECTIONS_IN_TEMPLATE`] sections lie within each other.
    NestingTooDeep,
}

/// Why there is no template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure<E> {
    /// The text of a unit is wrong.
    Template {
        /// What is wrong.
        fault: Fault,
        /// The number of the unit; 0 is the template itself.
        unit: usize,
        /// The line, counted from 1.
        line: usize,
    },
    /// The loader refused.
    Loader(E),
}

/// Compiles a template and the partials it names, directly or not.
pub fn compile<L: Loader>(text: Vec<u8>, loader: &mut L) -> Result<Template, Failure<L::Error>> {
    let mut compiler =
        Compiler { template: Template::default(), keys: HashMap::new(), names: HashMap::new() };
    let mut texts = vec![text];
    while let Some(text) = texts.get_mut(compiler.template.units.len()).map(std::mem::take) {
        Unit::new(&mut compiler, &text, &mut texts, loader).compile()?;
        compiler.template.source.extend_from_slice(&text);
    }
    Ok(compiler.template)
}

struct Compiler {
    template: Template,
    keys: HashMap<Box<[u8]>, usize>,
    names: HashMap<usize, usize>,
}

/// One text on its way.
struct Unit<'u, L> {
    compiler: &'u mut Compiler,
    text: &'u [u8],
    /// The texts of all units that are known; those that are compiled are empty.
    texts: &'u mut Vec<Vec<u8>>,
    loader: &'u mut L,
    number: usize,
    /// Where this text begins in the template's source.
    base: usize,
    /// Up to where the text is compiled.
    done: usize,
    /// Where the tag at hand begins.
    tag: usize,
    open: Vec<Open>,
}

/// A section whose end was not seen yet.
struct Open {
    op: usize,
    name: usize,
    tag: usize,
    /// Where its content begins.
    content: usize,
}

/// What ended a unit: its text or its loader.
enum Stop<E> {
    Fault(Fault),
    Loader(E),
}

impl<E> From<Fault> for Stop<E> {
    fn from(fault: Fault) -> Stop<E> {
        Stop::Fault(fault)
    }
}

const USUAL: Delimiters<'static> = Delimiters { open: b"{{", close: b"}}" };

impl<'u, L: Loader> Unit<'u, L> {
    fn new(
        compiler: &'u mut Compiler,
        text: &'u [u8],
        texts: &'u mut Vec<Vec<u8>>,
        loader: &'u mut L,
    ) -> Unit<'u, L> {
        let number = compiler.template.units.len();
        compiler.template.units.push(compiler.template.ops.len());
        let base = compiler.template.source.len();
        Unit { compiler, text, texts, loader, number, base, done: 0, tag: 0, open: Vec::new() }
    }

    fn compile(mut self) -> Result<(), Failure<L::Error>> {
        self.compile_tags().map_err(|stop| match stop {
            Stop::Loader(error) => Failure::Loader(error),
            Stop::Fault(fault) => {
                let before = self.text.get(..self.tag).unwrap_or_default();
                let line = 1 + memchr::memchr_iter(b'\n', before).count();
                Failure::Template { fault, unit: self.number, line }
            }
        })
    }

    fn compile_tags(&mut self) -> Result<(), Stop<L::Error>> {
        let mut delimiters = USUAL;
        while let Some(begin) = tag::find(self.text, self.done, delimiters.open) {
            self.tag = begin;
            let tag = tag::read(self.text, begin, &delimiters)?;
            let line = tag::own_line(self.text, self.done, &tag);
            let around = line.clone().unwrap_or(tag.whole.clone());
            self.push_text(self.done..around.start);
            match tag.kind {
                Kind::Comment => {}
                Kind::Delimiters => {
                    delimiters = tag::new_delimiters(self.text.get(tag.content).unwrap_or_default())?;
                }
                Kind::Escaped | Kind::Unescaped => {
                    let name = self.name(tag.content)?;
                    self.push(Op::Value { name, escaped: tag.kind == Kind::Escaped });
                }
                Kind::Section | Kind::Inverted => self.open_section(&tag, around.end)?,
                Kind::Close => self.close_section(tag.content, around.start)?,
                Kind::Partial => self.partial(&tag, line)?,
            }
            self.done = around.end;
        }
        self.push_text(self.done..self.text.len());
        if let Some(open) = self.open.last() {
            self.tag = open.tag;
            return Err(Fault::ClosureMismatch.into());
        }
        self.push(Op::EndUnit);
        Ok(())
    }

    fn push(&mut self, op: Op) {
        self.compiler.template.ops.push(op);
    }

    fn push_text(&mut self, span: Span) {
        if !span.is_empty() {
            let span = self.in_source(&span);
            self.push(Op::Text(span));
        }
    }

    fn in_source(&self, span: &Span) -> Span {
        self.base + span.start..self.base + span.end
    }

    fn open_section(&mut self, tag: &Tag, content: usize) -> Result<(), Fault> {
        if self.open.len() >= MAX_SECTIONS_IN_TEMPLATE {
            return Err(Fault::NestingTooDeep);
        }
        let name = self.name(tag.content.clone())?;
        self.open.push(Open { op: self.compiler.template.ops.len(), name, tag: self.tag, content });
        // Where it ends is told by `close_section`.
        self.push(match tag.kind {
            Kind::Section => Op::Section { name, raw: 0..0, end: 0 },
            _ => Op::Inverted { name, end: 0 },
        });
        Ok(())
    }

    fn close_section(&mut self, content: Span, content_end: usize) -> Result<(), Fault> {
        let name = self.name(content)?;
        let open = self.open.pop().filter(|open| open.name == name).ok_or(Fault::ClosureMismatch)?;
        let inside = self.in_source(&(open.content..content_end.max(open.content)));
        self.push(Op::End { begin: open.op + 1 });
        let behind = self.compiler.template.ops.len();
        match self.compiler.template.ops.get_mut(open.op) {
            Some(Op::Section { raw, end, .. }) => {
                *raw = inside;
                *end = behind;
            }
            Some(Op::Inverted { end, .. }) => *end = behind,
            _ => {}
        }
        Ok(())
    }

    fn partial(&mut self, tag: &Tag, line: Option<Span>) -> Result<(), Stop<L::Error>> {
        let name = tag::trim(self.text, tag.content.clone());
        if name.is_empty() {
            let fault = if tag.content.is_empty() { Fault::NoPartialName } else { Fault::BlankPartialName };
            return Err(fault.into());
        }
        let name = self.text.get(name).unwrap_or_default();
        let unit = match self.loader.load(name, self.number).map_err(Stop::Loader)? {
            Loaded::Known(unit) => unit,
            Loaded::New(text) => {
                self.texts.push(text);
                self.texts.len() - 1
            }
        };
        let padding = line.map_or(0..0, |line| line.start..tag.whole.start);
        let padding = self.in_source(&padding);
        self.push(Op::Partial { unit, padding });
        Ok(())
    }

    fn name(&mut self, content: Span) -> Result<usize, Fault> {
        let span = tag::trim(self.text, content);
        if span.is_empty() {
            return Err(Fault::NoName);
        }
        let whole = self.key(span.clone());
        if let Some(&known) = self.compiler.names.get(&whole) {
            return Ok(known);
        }
        let dotted = self.dotted(span);
        let number = self.compiler.template.names.len();
        self.compiler.template.names.push(Name { whole, dotted });
        self.compiler.names.insert(whole, number);
        Ok(number)
    }

    /// The parts of a name with dots in it; `.` alone has none.
    fn dotted(&mut self, span: Span) -> Option<Dotted> {
        let text = self.text.get(span.clone())?;
        if text == b"." {
            return None;
        }
        let dot = memchr::memchr(b'.', text)?;
        let rest = span.start + dot + 1..span.end;
        let mut segments = Vec::new();
        let mut begin = rest.start;
        for segment in self.text.get(rest.clone())?.split(|&byte| byte == b'.') {
            segments.push(self.key(begin..begin + segment.len()));
            begin += segment.len() + 1;
        }
        let head = self.key(span.start..span.start + dot);
        Some(Dotted { head, rest: self.key(rest), segments })
    }

    fn key(&mut self, span: Span) -> usize {
        let text = self.text.get(span.clone()).unwrap_or_default();
        if let Some(&known) = self.compiler.keys.get(text) {
            return known;
        }
        let number = self.compiler.template.keys.len();
        let place = self.in_source(&span);
        self.compiler.template.keys.push(place);
        self.compiler.keys.insert(text.into(), number);
        number
    }
}
