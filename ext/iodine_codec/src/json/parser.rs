//! The grammar: which token may come where. Numbers and strings have files of their own.

use super::{Builder, Error, ErrorKind, Rules};

/// Memory that a parser needs meanwhile. Kept between documents, it saves allocations. A builder that leaves
/// [`parse`] by a `longjmp` leaks nothing as long as the scratch belongs to someone behind it.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) frames: Vec<Frame>,
    /// The string whose escapes are being replaced.
    pub(super) text: Vec<u8>,
}

impl Scratch {
    /// Gives memory back that only an unusual document needed.
    pub fn trim(&mut self, bytes: usize) {
        self.frames.clear();
        self.text.clear();
        self.frames.shrink_to(bytes / size_of::<Frame>());
        self.text.shrink_to(bytes);
    }
}

/// An array or object that is open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    object: bool,
    /// Elements or members that are complete.
    count: usize,
}

/// Reads one document and tells `builder` of its values. When it fails, the builder was told of some, too.
pub fn parse<B: Builder>(
    source: &[u8],
    rules: &Rules,
    scratch: &mut Scratch,
    builder: &mut B,
) -> Result<(), Error> {
    if let Err(error) = std::str::from_utf8(source) {
        return Err(Error { kind: ErrorKind::InvalidUtf8, offset: error.valid_up_to() });
    }
    scratch.frames.clear();
    Parser { source, at: 0, rules: *rules, scratch, builder }.document()
}

/// Invariant: `source` is valid UTF-8.
pub(super) struct Parser<'p, B> {
    pub(super) source: &'p [u8],
    pub(super) at: usize,
    pub(super) rules: Rules,
    pub(super) scratch: &'p mut Scratch,
    pub(super) builder: &'p mut B,
}

/// Where the parser stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a value.
    Value,
    /// Behind the bracket that opened a container.
    Opened,
    /// Behind a value.
    Complete,
}

impl<B: Builder> Parser<'_, B> {
    fn document(&mut self) -> Result<(), Error> {
        self.skip_blanks()?;
        loop {
            let mut state = self.value()?;
            while state != State::Value {
                let Some(frame) = self.scratch.frames.last_mut() else {
                    return self.end();
                };
                let first = state == State::Opened;
                frame.count += usize::from(!first);
                let frame = *frame;
                state = self.item(frame, first)?;
            }
        }
    }

    #[inline]
    fn value(&mut self) -> Result<State, Error> {
        match self.peek() {
            Some(b'"') => self.string(false)?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b'{') => return self.open(true),
            Some(b'[') => return self.open(false),
            Some(b't') => self.word(b"true", |builder| builder.boolean(true))?,
            Some(b'f') => self.word(b"false", |builder| builder.boolean(false))?,
            Some(b'n') if self.rest().starts_with(b"null") => self.word(b"null", B::null)?,
            Some(byte) if self.rules.lenient => self.unusual_value(byte)?,
            _ => return Err(self.error(ErrorKind::ExpectedValue)),
        }
        Ok(State::Complete)
    }

    #[cold]
    fn unusual_value(&mut self, first: u8) -> Result<(), Error> {
        match first {
            b'.' | b'x' | b'X' => self.number(),
            b'N' if self.rest().starts_with(b"Null") => self.word(b"Null", B::null),
            b'N' | b'n' | b'I' | b'i' => self.not_finite(false),
            _ => Err(self.error(ErrorKind::ExpectedValue)),
        }
    }

    /// `NaN`, `Infinity` and their other spellings, behind a sign if there is one.
    pub(super) fn not_finite(&mut self, negative: bool) -> Result<(), Error> {
        const SPELLINGS: [(&[u8], f64); 4] =
            [(b"NaN", f64::NAN), (b"nan", f64::NAN), (b"Infinity", f64::INFINITY), (b"inf", f64::INFINITY)];
        let rest = self.rest();
        let Some((spelling, value)) = SPELLINGS.into_iter().find(|(word, _)| rest.starts_with(word)) else {
            return Err(self.error(ErrorKind::ExpectedValue));
        };
        if !self.rules.allow_nan {
            return Err(self.error(ErrorKind::NanNotAllowed));
        }
        self.word(spelling, |builder| builder.float(if negative { -value } else { value }))
    }

    #[inline]
    fn word(&mut self, word: &[u8], tell: impl FnOnce(&mut B)) -> Result<(), Error> {
        if !self.rest().starts_with(word) {
            return Err(self.error(ErrorKind::ExpectedValue));
        }
        self.at += word.len();
        if self.is_inside_word() {
            return Err(self.error(ErrorKind::ExpectedValue));
        }
        tell(self.builder);
        Ok(())
    }

    fn open(&mut self, object: bool) -> Result<State, Error> {
        if self.scratch.frames.len() >= self.rules.max_nesting {
            return Err(self.error(ErrorKind::TooDeep));
        }
        self.at += 1;
        self.scratch.frames.push(Frame { object, count: 0 });
        Ok(State::Opened)
    }

    /// What comes behind a value or an opening bracket: the next item or the closing bracket.
    #[inline]
    fn item(&mut self, frame: Frame, first: bool) -> Result<State, Error> {
        let lenient = self.rules.lenient;
        self.skip_blanks()?;
        let mut comma = false;
        while self.peek() == Some(b',') && (lenient || !(first || comma)) {
            comma = true;
            self.at += 1;
            self.skip_blanks()?;
        }
        let end = if frame.object { b'}' } else { b']' };
        if self.peek() == Some(end) && (lenient || !comma) {
            self.at += 1;
            self.close(frame);
            return Ok(State::Complete);
        }
        if !(first || comma || lenient) || self.at == self.source.len() {
            return Err(self.error(ErrorKind::ExpectedCommaOrEnd));
        }
        if frame.object { self.key() } else { Ok(State::Value) }
    }

    #[inline]
    fn close(&mut self, frame: Frame) {
        self.scratch.frames.pop();
        match frame.object {
            true => self.builder.object(frame.count),
            false => self.builder.array(frame.count),
        }
    }

    #[inline]
    fn key(&mut self) -> Result<State, Error> {
        if self.peek() != Some(b'"') {
            return Err(self.error(ErrorKind::ExpectedKey));
        }
        self.string(true)?;
        self.skip_blanks()?;
        if self.peek() != Some(b':') {
            return Err(self.error(ErrorKind::ExpectedColon));
        }
        self.at += 1;
        self.skip_blanks()?;
        if self.rules.lenient && matches!(self.peek(), Some(b',' | b'}')) {
            self.builder.null();
            return Ok(State::Complete);
        }
        Ok(State::Value)
    }

    fn end(&mut self) -> Result<(), Error> {
        self.skip_blanks()?;
        match self.at == self.source.len() {
            true => Ok(()),
            false => Err(self.error(ErrorKind::TrailingText)),
        }
    }

    /// Skips white space (RFC 8259 section 2) and what else may stand between tokens.
    #[inline]
    fn skip_blanks(&mut self) -> Result<(), Error> {
        loop {
            match self.peek() {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                Some(b'/' | b'#') if self.rules.lenient => self.skip_comment()?,
                _ => return Ok(()),
            }
        }
    }

    #[cold]
    fn skip_comment(&mut self) -> Result<(), Error> {
        let rest = self.rest();
        if rest.starts_with(b"/*") {
            let Some(length) = memchr::memmem::find(rest.get(2..).unwrap_or_default(), b"*/") else {
                return Err(self.error(ErrorKind::UnterminatedComment));
            };
            self.at += length + 4;
        } else if rest.starts_with(b"#") || rest.starts_with(b"//") {
            // The end of the text ends a line, too: there is nothing left that the comment could hide.
            self.at += memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        } else {
            return Err(self.error(ErrorKind::ExpectedValue));
        }
        Ok(())
    }

    /// True before a byte that would make the word or number that ends here another one.
    #[inline]
    pub(super) fn is_inside_word(&self) -> bool {
        self.peek().is_some_and(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'+' | b'-' | 0x80..)
        })
    }

    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.source.get(self.at).copied()
    }

    #[inline]
    pub(super) fn rest(&self) -> &[u8] {
        self.source.get(self.at..).unwrap_or_default()
    }

    /// The bytes from `start` to here.
    #[inline]
    pub(super) fn since(&self, start: usize) -> &[u8] {
        self.source.get(start..self.at).unwrap_or_default()
    }

    #[cold]
    pub(super) fn error(&self, kind: ErrorKind) -> Error {
        Error { kind, offset: self.at.min(self.source.len()) }
    }
}
