//! Runs the instructions of a template over a scope.
//!
//! The contexts that are open lie in the stack frame of [`Template::render`], not on the heap, and nothing in here owns
//! memory while a scope is called. So a scope's values may belong to a collector that scans the stack, and a call into a
//! scope may end in a `longjmp` out of `render`.

use super::output::{Output, Sink};
use super::template::{Key, Name, Op, Span, Template};
use super::{MAX_PARTIALS, MAX_SECTIONS};

/// What values are, and what they answer.
pub trait Scope {
    /// A value, or a reference to one.
    type Value: Copy;
    /// Why rendering must end.
    type Error;

    /// What `context` has under `key`. `None` sends the search to the context around it.
    fn find(&mut self, context: Self::Value, key: Key<'_>) -> Result<Option<Self::Value>, Self::Error>;

    /// What a section makes of `value`.
    fn shape(&mut self, value: Self::Value) -> Result<Shape, Self::Error>;

    /// The element of a [`Shape::List`]; `None` when the list has become shorter.
    fn item(&mut self, list: Self::Value, index: usize) -> Result<Option<Self::Value>, Self::Error>;

    /// Writes a value.
    fn print(&mut self, value: Self::Value, sink: &mut Sink<'_>) -> Result<(), Self::Error>;

    /// Gives the text of a section to a [`Shape::Lambda`], and writes its answer.
    fn call(&mut self, lambda: Self::Value, raw: &[u8], sink: &mut Sink<'_>) -> Result<(), Self::Error>;

    /// Called once in a while; an error ends the rendering.
    fn pause(&mut self) -> Result<(), Self::Error>;
}

/// What a section makes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Rendered by an inverted section only.
    Empty,
    /// Rendered once, names keep their meaning.
    Once,
    /// Rendered once, and names are first looked for in the value.
    Context,
    /// Rendered for each of so many elements, which is the context then.
    List(usize),
    /// Called with the section's text.
    Lambda,
}

/// Why a template was not rendered to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt<E> {
    /// More than [`MAX_SECTIONS`] sections or [`MAX_PARTIALS`] partials are open.
    TooDeep,
    /// The scope's own reason.
    Scope(E),
}

impl<E> From<E> for Halt<E> {
    fn from(error: E) -> Halt<E> {
        Halt::Scope(error)
    }
}

/// Instructions between two pauses.
const PAUSE: usize = 1024;

/// The template's own frame is one more.
const MAX_FRAMES: usize = 1 + MAX_SECTIONS + MAX_PARTIALS;

#[derive(Clone, Copy)]
enum Frame<V> {
    /// The template itself, or a section over a value that is a context.
    Context(V),
    /// A section that changes no context.
    Plain,
    List {
        list: V,
        item: V,
        next: usize,
        len: usize,
    },
    Partial {
        back: usize,
        padding: usize,
    },
}

impl Template {
    /// Renders the template over `root`, behind what `output` already has.
    pub fn render<S: Scope>(
        &self,
        scope: &mut S,
        root: S::Value,
        output: &mut Output,
    ) -> Result<(), Halt<S::Error>> {
        let mut frames = [Frame::Plain; MAX_FRAMES];
        frames[0] = Frame::Context(root);
        Renderer { template: self, scope, output, frames: &mut frames, depth: 1, partials: 0, at: 0 }.run()
    }
}

struct Renderer<'r, S: Scope> {
    template: &'r Template,
    scope: &'r mut S,
    output: &'r mut Output,
    frames: &'r mut [Frame<S::Value>; MAX_FRAMES],
    /// Frames in use.
    depth: usize,
    /// How many of them are partials.
    partials: usize,
    /// The next instruction.
    at: usize,
}

type Step<S> = Result<(), Halt<<S as Scope>::Error>>;

impl<'r, S: Scope> Renderer<'r, S> {
    fn run(mut self) -> Step<S> {
        let template = self.template;
        let mut until_pause = PAUSE;
        while let Some(op) = template.ops.get(self.at) {
            self.at += 1;
            until_pause -= 1;
            if until_pause == 0 {
                until_pause = PAUSE;
                self.scope.pause()?;
            }
            match op {
                Op::Text(span) => self.output.write(template.text(span)),
                Op::Value { name, escaped } => self.value(*name, *escaped)?,
                Op::Section { name, raw, end } => self.section(*name, raw, *end)?,
                Op::Inverted { name, end } => self.inverted(*name, *end)?,
                Op::End { begin } => self.end_section(*begin)?,
                Op::Partial { unit, padding } => self.partial(*unit, padding)?,
                Op::EndUnit if self.depth <= 1 => break,
                Op::EndUnit => self.end_partial(),
            }
        }
        Ok(())
    }

    fn value(&mut self, name: usize, escaped: bool) -> Step<S> {
        if let Some(value) = self.look_up(name)? {
            self.scope.print(value, &mut self.output.sink(escaped))?;
        }
        Ok(())
    }

    fn section(&mut self, name: usize, raw: &Span, end: usize) -> Step<S> {
        let Some(value) = self.look_up(name)? else {
            self.at = end;
            return Ok(());
        };
        match self.scope.shape(value)? {
            Shape::Once => return self.enter_section(Frame::Plain),
            Shape::Context => return self.enter_section(Frame::Context(value)),
            Shape::List(len) if len > 0 => {
                if let Some(item) = self.scope.item(value, 0)? {
                    return self.enter_section(Frame::List { list: value, item, next: 1, len });
                }
            }
            Shape::Lambda => {
                let raw = self.template.text(raw);
                self.scope.call(value, raw, &mut self.output.sink(false))?;
            }
            Shape::Empty | Shape::List(_) => {}
        }
        self.at = end;
        Ok(())
    }

    fn inverted(&mut self, name: usize, end: usize) -> Step<S> {
        let shape = match self.look_up(name)? {
            Some(value) => self.scope.shape(value)?,
            None => Shape::Empty,
        };
        match shape {
            Shape::Empty | Shape::List(0) => self.enter_section(Frame::Plain),
            _ => {
                self.at = end;
                Ok(())
            }
        }
    }

    fn enter_section(&mut self, frame: Frame<S::Value>) -> Step<S> {
        if self.depth - 1 - self.partials >= MAX_SECTIONS {
            return Err(Halt::TooDeep);
        }
        self.push(frame);
        Ok(())
    }

    fn push(&mut self, frame: Frame<S::Value>) {
        // Invariant: sections and partials are counted, and together they have room.
        if let Some(place) = self.frames.get_mut(self.depth) {
            *place = frame;
            self.depth += 1;
        }
    }

    fn end_section(&mut self, begin: usize) -> Step<S> {
        let top = self.depth - 1;
        if let Frame::List { list, next, len, .. } = self.frames[top] {
            // A list that grows meanwhile is rendered to the length that it had.
            let item = if next < len { self.scope.item(list, next)? } else { None };
            if let Some(item) = item {
                self.frames[top] = Frame::List { list, item, next: next + 1, len };
                self.at = begin;
                return Ok(());
            }
        }
        self.depth = top;
        Ok(())
    }

    fn partial(&mut self, unit: usize, padding: &Span) -> Step<S> {
        if self.partials >= MAX_PARTIALS {
            return Err(Halt::TooDeep);
        }
        let padding = self.output.indent(self.template.text(padding));
        self.push(Frame::Partial { back: self.at, padding });
        self.partials += 1;
        self.at = self.template.units.get(unit).copied().unwrap_or(usize::MAX);
        Ok(())
    }

    fn end_partial(&mut self) {
        self.depth -= 1;
        if let Frame::Partial { back, padding } = self.frames[self.depth] {
            self.partials -= 1;
            self.output.unindent(padding);
            self.at = back;
        }
    }

    /// The whole name in all contexts; else its head in all contexts, the rest on that as a whole, and at last the rest
    /// segment by segment.
    fn look_up(&mut self, name: usize) -> Result<Option<S::Value>, Halt<S::Error>> {
        let template = self.template;
        let Some(Name { whole, dotted }) = template.names.get(name) else { return Ok(None) };
        if let Some(value) = self.search(template.key(*whole))? {
            return Ok(Some(value));
        }
        let Some(dotted) = dotted else { return Ok(None) };
        let Some(head) = self.search(template.key(dotted.head))? else { return Ok(None) };
        if let [_, _, ..] = dotted.segments[..] {
            if let Some(value) = self.scope.find(head, template.key(dotted.rest))? {
                return Ok(Some(value));
            }
        }
        let mut value = head;
        for &segment in &dotted.segments {
            match self.scope.find(value, template.key(segment))? {
                Some(found) => value = found,
                None => return Ok(None),
            }
        }
        Ok(Some(value))
    }

    /// From the innermost context outwards.
    fn search(&mut self, key: Key<'r>) -> Result<Option<S::Value>, Halt<S::Error>> {
        for level in (0..self.depth).rev() {
            let context = match self.frames[level] {
                Frame::Context(value) | Frame::List { item: value, .. } => value,
                Frame::Plain | Frame::Partial { .. } => continue,
            };
            if let Some(value) = self.scope.find(context, key)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
}
