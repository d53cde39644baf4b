//! `rack.input`: the body of a request, with the interface of Rack 2 and Rack 3.
//!
//! Differs from 0.7 where that was at fault (F-65): `read(n, buffer)` at the end empties the buffer, and a request
//! without a body answers like one whose body is at its end. A body in memory stays readable after the application
//! returned.

use iodine_core::Body;
use magnus::rb_sys::{AsRawValue, FromRawValue};
use magnus::scan_args::scan_args;
use magnus::value::ReprValue;
use magnus::{Class, Error, Module, RModule, RString, Ruby, TryConvert, Value, method};
use rb_sys::VALUE;
use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

/// The body of a request as Ruby sees it.
#[magnus::wrap(class = "Iodine::Base::RackIO", free_immediately, size)]
pub struct RackIO(RefCell<Input>);

struct Input {
    source: Source,
    position: u64,
}

enum Source {
    Empty,
    Memory(Vec<u8>),
    File(File, u64),
    Closed,
}

/// Read at a time when looking for the end of a line in a file.
const LINE_STEP: usize = 8 * 1024;

static EMPTY: OnceLock<VALUE> = OnceLock::new();

/// Defines the class.
pub fn init(ruby: &Ruby, base: RModule) -> Result<(), Error> {
    let class = base.define_class("RackIO", ruby.class_object())?;
    class.undef_default_alloc_func();
    class.define_method("read", method!(RackIO::read, -1))?;
    class.define_method("gets", method!(RackIO::gets, -1))?;
    class.define_method("each", method!(RackIO::each, 0))?;
    class.define_method("rewind", method!(RackIO::rewind, 0))?;
    class.define_method("size", method!(RackIO::size, 0))?;
    class.define_method("eof?", method!(RackIO::is_at_end, 0))?;
    class.define_method("close", method!(RackIO::close, 0))?;
    class.define_method("closed?", method!(RackIO::is_closed, 0))?;
    let empty = new(ruby, Body::Empty);
    // SAFETY: the GVL is held.
    unsafe { rb_sys::rb_gc_register_mark_object(empty) };
    let _ = EMPTY.set(empty);
    Ok(())
}

/// The input of all requests without a body: it has no state that they could share by accident.
pub fn empty() -> VALUE {
    EMPTY.get().copied().unwrap_or(rb_sys::Qnil as VALUE)
}

/// An input that reads `body`. The GVL is held; may raise NoMemoryError.
pub fn new(ruby: &Ruby, body: Body) -> VALUE {
    let source = match body {
        Body::Empty => Source::Empty,
        Body::Memory(bytes) => Source::Memory(bytes),
        Body::File { file, len } => Source::File(file, len),
    };
    ruby.obj_wrap(RackIO(RefCell::new(Input { source, position: 0 }))).as_raw()
}

/// The request is over: gives back the descriptor of a body in a file, rather than when the collector comes. A body in
/// memory stays readable for whoever kept it. The GVL is held.
pub fn release(input: VALUE) {
    // SAFETY: nil, or an input made by `new`.
    let input = unsafe { Value::from_raw(input) };
    if let Ok(input) = <&RackIO>::try_convert(input) {
        let mut input = input.0.borrow_mut();
        if matches!(input.source, Source::File(..)) {
            input.source = Source::Closed;
        }
    }
}

/// As [`release`], for a request whose env lives as long as its connection: what it held reads as empty. The GVL is held.
pub fn end(input: VALUE) {
    // SAFETY: nil, or an input made by `new`.
    let input = unsafe { Value::from_raw(input) };
    if let Ok(input) = <&RackIO>::try_convert(input) {
        input.0.borrow_mut().source = Source::Closed;
    }
}

impl RackIO {
    /// `read(length = nil, buffer = nil)`.
    fn read(ruby: &Ruby, this: &RackIO, args: &[Value]) -> Result<Option<RString>, Error> {
        let args = scan_args::<(), (Option<Option<i64>>, Option<Option<RString>>), (), (), (), ()>(args)?;
        let (length, buffer) = (args.optional.0.flatten(), args.optional.1.flatten());
        let wanted =
            match length {
                Some(length) => Some(u64::try_from(length).map_err(|_| {
                    Error::new(ruby.exception_range_error(), "length should not be negative.")
                })?),
                None => None,
            };
        let piece = {
            let mut input = this.0.borrow_mut();
            let at_end = input.left() == 0;
            let count = wanted.unwrap_or(u64::MAX);
            match wanted {
                Some(1..) if at_end => None,
                _ => Some(input.take(ruby, count)?),
            }
        };
        match (piece, buffer) {
            (piece, None) => Ok(piece),
            (Some(piece), Some(buffer)) => {
                // Takes over the encoding, too.
                let _: Value = buffer.funcall("replace", (piece,))?;
                Ok(Some(buffer))
            }
            (None, Some(buffer)) => {
                let _: Value = buffer.funcall("clear", ())?;
                Ok(None)
            }
        }
    }

    /// `gets`: a line with its end, nil when there is no more. A separator and a limit work as with `IO#gets`.
    fn gets(ruby: &Ruby, this: &RackIO, args: &[Value]) -> Result<Option<RString>, Error> {
        let args = scan_args::<(), (Option<Value>, Option<i64>), (), (), (), ()>(args)?;
        let (separator, limit) = match (args.optional.0, args.optional.1) {
            (None, limit) => (Some(b"\n".to_vec()), limit),
            (Some(value), limit) if value.is_nil() => (None, limit),
            (Some(value), limit) => match RString::from_value(value) {
                // SAFETY: copied at once, before Ruby may run.
                Some(text) => (Some(unsafe { text.as_slice() }.to_vec()), limit),
                None => (Some(b"\n".to_vec()), Some(i64::try_convert(value)?)),
            },
        };
        let limit = limit.and_then(|limit| u64::try_from(limit).ok());
        this.0.borrow_mut().line(ruby, separator.as_deref(), limit)
    }

    /// Yields each line from the start.
    fn each(ruby: &Ruby, this: magnus::typed_data::Obj<RackIO>) -> Result<Value, Error> {
        if !ruby.block_given() {
            return Err(Error::new(ruby.exception_local_jump_error(), "no block given"));
        }
        let block = ruby.block_proc()?;
        this.0.borrow_mut().position = 0;
        loop {
            let line = this.0.borrow_mut().line(ruby, Some(b"\n"), None)?;
            match line {
                Some(line) => {
                    let _: Value = block.call((line,))?;
                }
                None => return Ok(this.as_value()),
            }
        }
    }

    fn rewind(&self) -> u64 {
        self.0.borrow_mut().position = 0;
        0
    }

    fn size(&self) -> u64 {
        self.0.borrow().len()
    }

    fn is_at_end(&self) -> bool {
        self.0.borrow().left() == 0
    }

    fn close(&self) {
        let mut input = self.0.borrow_mut();
        if !matches!(input.source, Source::Empty) {
            input.source = Source::Closed;
        }
    }

    fn is_closed(&self) -> bool {
        matches!(self.0.borrow().source, Source::Closed)
    }
}

impl Input {
    fn len(&self) -> u64 {
        match &self.source {
            Source::Empty | Source::Closed => 0,
            Source::Memory(bytes) => bytes.len() as u64,
            Source::File(_, len) => *len,
        }
    }

    fn left(&self) -> u64 {
        self.len().saturating_sub(self.position)
    }

    /// The next `count` bytes, or what there is.
    fn take(&mut self, ruby: &Ruby, count: u64) -> Result<RString, Error> {
        let count = count.min(self.left()) as usize;
        let start = self.position;
        self.position += count as u64;
        match &self.source {
            Source::Memory(bytes) => {
                let start = start as usize;
                Ok(ruby.str_from_slice(bytes.get(start..start + count).unwrap_or_default()))
            }
            Source::File(file, _) => {
                let mut bytes = vec![0; count];
                file.read_exact_at(&mut bytes, start).map_err(|error| io_error(ruby, &error))?;
                Ok(ruby.str_from_slice(&bytes))
            }
            Source::Empty | Source::Closed => Ok(ruby.str_from_slice(b"")),
        }
    }

    fn line(
        &mut self,
        ruby: &Ruby,
        end: Option<&[u8]>,
        limit: Option<u64>,
    ) -> Result<Option<RString>, Error> {
        // As with `IO#gets`, an empty separator asks for a paragraph, whatever the number of empty lines around it.
        let paragraph = end.is_some_and(<[u8]>::is_empty);
        if paragraph {
            self.skip_empty_lines().map_err(|error| io_error(ruby, &error))?;
        }
        if self.left() == 0 {
            return Ok(None);
        }
        let length = match end {
            Some(end) => {
                self.find(if paragraph { b"\n\n" } else { end }).map_err(|error| io_error(ruby, &error))?
            }
            None => self.left(),
        };
        let line = self.take(ruby, limit.map_or(length, |limit| length.min(limit)))?;
        if paragraph {
            self.skip_empty_lines().map_err(|error| io_error(ruby, &error))?;
        }
        Ok(Some(line))
    }

    fn skip_empty_lines(&mut self) -> std::io::Result<()> {
        while self.left() > 0 {
            let mut next = [0];
            match &self.source {
                Source::Memory(bytes) => {
                    next = [bytes.get(self.position as usize).copied().unwrap_or_default()]
                }
                Source::File(file, _) => file.read_exact_at(&mut next, self.position)?,
                Source::Empty | Source::Closed => {}
            }
            if next != *b"\n" {
                break;
            }
            self.position += 1;
        }
        Ok(())
    }

    /// Bytes from here to behind the next `end`, or to the end of all.
    fn find(&self, end: &[u8]) -> std::io::Result<u64> {
        match &self.source {
            Source::Empty | Source::Closed => Ok(0),
            Source::Memory(bytes) => {
                let rest = bytes.get(self.position as usize..).unwrap_or_default();
                Ok(position(rest, end).map_or(rest.len(), |at| at + end.len()) as u64)
            }
            Source::File(file, len) => {
                let mut window = Vec::new();
                loop {
                    let at = self.position + window.len() as u64;
                    let step = (len.saturating_sub(at) as usize).min(LINE_STEP);
                    if step == 0 {
                        return Ok(window.len() as u64);
                    }
                    let known = window.len();
                    window.resize(known + step, 0);
                    file.read_exact_at(&mut window[known..], at)?;
                    // The end may begin in what was read before.
                    let from = known.saturating_sub(end.len() - 1);
                    if let Some(at) = position(&window[from..], end) {
                        return Ok((from + at + end.len()) as u64);
                    }
                }
            }
        }
    }
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, wanted)
}

fn io_error(ruby: &Ruby, error: &std::io::Error) -> Error {
    Error::new(ruby.exception_io_error(), format!("the request body can not be read: {error}"))
}
