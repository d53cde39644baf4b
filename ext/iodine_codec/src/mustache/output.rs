//! What a template renders to, line by line where a partial is indented.

use super::escape::escape;

/// The text rendered so far. The caller owns it, so that a scope whose calls may never return leaks nothing.
#[derive(Debug, Default)]
pub struct Output {
    bytes: Vec<u8>,
    /// What every line begins with: the blanks before the indented partials that are open.
    padding: Vec<u8>,
    /// The next byte is the first of its line. Only known while there is a padding.
    line_start: bool,
}

/// Where a scope writes a value to.
#[derive(Debug)]
pub struct Sink<'o> {
    output: &'o mut Output,
    escaped: bool,
}

impl Output {
    /// An empty text with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Output {
        Output { bytes: Vec::with_capacity(capacity), ..Output::default() }
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where to write a value: as it is, or escaped.
    pub fn sink(&mut self, escaped: bool) -> Sink<'_> {
        Sink { output: self, escaped }
    }

    pub(super) fn write(&mut self, text: &[u8]) {
        if self.padding.is_empty() {
            self.bytes.extend_from_slice(text);
        } else {
            text.split_inclusive(|&byte| byte == b'\n').for_each(|line| self.write_line(line));
        }
    }

    /// Line ends of padded values stay line ends, as 0.7 had it.
    fn write_escaped(&mut self, text: &[u8]) {
        if self.padding.is_empty() {
            return escape(text, &mut self.bytes);
        }
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            let (line, end) = line.split_at(line.len() - usize::from(line.ends_with(b"\n")));
            if !line.is_empty() {
                self.pad();
                escape(line, &mut self.bytes);
            }
            if !end.is_empty() {
                self.write_line(end);
            }
        }
    }

    fn write_line(&mut self, line: &[u8]) {
        self.pad();
        self.bytes.extend_from_slice(line);
        self.line_start = line.ends_with(b"\n");
    }

    fn pad(&mut self) {
        if std::mem::take(&mut self.line_start) {
            self.bytes.extend_from_slice(&self.padding);
        }
    }

    /// Begins a partial; returns what [`Output::unindent`] needs at its end.
    pub(super) fn indent(&mut self, padding: &[u8]) -> usize {
        let before = self.padding.len();
        if !padding.is_empty() {
            if before > 0 && !self.line_start {
                self.bytes.extend_from_slice(padding);
            } else {
                self.line_start = true;
            }
            self.padding.extend_from_slice(padding);
        }
        before
    }

    pub(super) fn unindent(&mut self, before: usize) {
        self.padding.truncate(before);
    }
}

impl Sink<'_> {
    /// Writes a piece of the value.
    pub fn write(&mut self, text: &[u8]) {
        match self.escaped {
            true => self.output.write_escaped(text),
            false => self.output.write(text),
        }
    }
}
