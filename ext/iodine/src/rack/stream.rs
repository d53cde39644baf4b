//! The body of an answer while the application produces it: what the block of `each` writes to, and the stream that a
//! callable body of Rack 3 is given.
//!
//! A stream is a Ruby object because the application decides how long it lives: a block may be kept, and a stream may be
//! handed to another thread.

use super::body::{self, LENT_FROM};
use super::call::ids;
use super::finished::Callbacks;
use super::input;
use crate::{fork, gvl, roots};
use iodine_codec::http::RequestHead;
use iodine_codec::http1::{ChunkedDecoder, Limits, Piece};
use iodine_core::command::Command;
use iodine_core::log::{self, Level};
use iodine_core::producer::Parker;
use iodine_core::{Answered, Complaint, ConnHandle, Job, Produced, Producer, Room};
use magnus::gc::Marker;
use magnus::rb_sys::{AsRawValue, FromRawValue};
use magnus::typed_data::Obj;
use magnus::value::ReprValue;
use magnus::{
    Class, DataTypeFunctions, Error, ExceptionClass, Module, RModule, Ruby, TypedData, Value, method,
};
use rb_sys::{VALUE, ruby_value_type};
use std::cell::{Cell, RefCell};
use std::ffi::c_int;
use std::mem::ManuallyDrop;
use std::sync::OnceLock;
use std::time::Instant;

/// See the module's text.
#[derive(TypedData)]
#[magnus(class = "Iodine::Base::Stream", free_immediately, mark, wb_protected, size)]
pub struct Stream {
    producer: ManuallyDrop<Producer>,
    /// What the application has chunked itself, as it said in its headers.
    chunks: RefCell<Option<Chunks>>,
    /// What `read` reads. Reached by `mark`.
    input: Cell<VALUE>,
    /// Called when the answer is whole. Reached by `mark`; stored with write barriers.
    callbacks: Cell<Callbacks>,
    /// What goes to the log then.
    entry: RefCell<Option<LogEntry>>,
    length: Cell<u64>,
    /// The client has to read before there is more. Only who has more to say waits for that.
    full: Cell<bool>,
    state: Cell<State>,
}

/// How an answer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// There may be more.
    Open,
    /// It is complete, and on its way.
    Whole,
    /// It can not be completed, and was broken off.
    Broken,
    /// The client has gone, and the application has heard of it.
    Gone,
}

/// A body that comes chunked, and leaves in chunks of ours.
struct Chunks {
    decoder: ChunkedDecoder,
    stage: Stage,
}

/// How far a chunked body has come.
enum Stage {
    /// It may still be plain text, which is this so far: no more than the first line of a chunk.
    Doubtful(Vec<u8>),
    /// It is chunked.
    Chunked,
    /// The last chunk was there.
    Ended,
}

struct LogEntry {
    head: RequestHead,
    status: u16,
    started: Instant,
}

// SAFETY: only used with the GVL held.
unsafe impl Send for Stream {}

impl DataTypeFunctions for Stream {
    fn mark(&self, marker: &Marker) {
        // SAFETY: nil, or a value that was live when it was stored and has been marked ever since.
        marker.mark(unsafe { Value::from_raw(self.input.get()) });
        self.callbacks.get().mark(marker);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // A fork of the application has nobody to tell that this one was lost.
        if !fork::is_inert() {
            // SAFETY: dropped here and only here.
            unsafe { ManuallyDrop::drop(&mut self.producer) };
        }
    }
}

const CUT_SHORT: &str = "the application's chunked body ends before its last chunk";

static DISCONNECTED: OnceLock<VALUE> = OnceLock::new();

/// Defines the class, and `Iodine::ClientDisconnected`.
pub fn init(ruby: &Ruby, iodine: RModule, base: RModule) -> Result<(), Error> {
    let disconnected = iodine.define_error("ClientDisconnected", ruby.exception_io_error())?;
    // SAFETY: the GVL is held.
    unsafe { rb_sys::rb_gc_register_mark_object(disconnected.as_raw()) };
    let _ = DISCONNECTED.set(disconnected.as_raw());
    let class = base.define_class("Stream", ruby.class_object())?;
    class.undef_default_alloc_func();
    class.define_method("write", method!(Stream::write, -1))?;
    class.define_method("<<", method!(Stream::append, 1))?;
    class.define_private_method("take", method!(Stream::take, 1))?;
    class.define_method("flush", method!(Stream::flush, 0))?;
    class.define_method("read", method!(Stream::read, -1))?;
    class.define_method("close", method!(Stream::close, 0))?;
    class.define_method("close_read", method!(Stream::close_read, 0))?;
    class.define_method("close_write", method!(Stream::close, 0))?;
    class.define_method("closed?", method!(Stream::is_closed, 0))?;
    // Looked up once, now: the first request may be struck by a `Thread#kill`, and must not be in there then.
    let _ = Stream::class(ruby);
    Ok(())
}

/// A stream to produce a body with. `chunked` says that the application chunks it. The GVL is held; may raise
/// NoMemoryError.
pub fn new(ruby: &Ruby, producer: Producer, chunked: bool, input: VALUE) -> Obj<Stream> {
    let chunks =
        chunked.then(|| Chunks { decoder: ChunkedDecoder::new(), stage: Stage::Doubtful(Vec::new()) });
    ruby.obj_wrap(Stream {
        producer: ManuallyDrop::new(producer),
        chunks: RefCell::new(chunks),
        input: Cell::new(input),
        callbacks: Cell::new(Callbacks::none()),
        entry: RefCell::new(None),
        length: Cell::new(0),
        full: Cell::new(false),
        state: Cell::new(State::Open),
    })
}

/// Runs `each` of `body`, of which each piece goes to `stream`. The GVL is held; may raise.
pub fn run_each(body: VALUE, stream: Obj<Stream>) {
    unsafe extern "C" fn take(part: VALUE, stream: VALUE, _: c_int, _: *const VALUE, _: VALUE) -> VALUE {
        // A method call, because what it raises leaves the block as Ruby's own exceptions do.
        // SAFETY: the stream that was given along with this block; the GVL is held.
        unsafe { rb_sys::rb_funcallv(stream, ids().take, 1, &part) }
    }

    // SAFETY: the GVL is held. The block keeps the stream alive, whoever keeps the block.
    unsafe { rb_sys::rb_block_call(body, ids().each, 0, std::ptr::null(), Some(take), stream.as_raw()) };
}

/// What a stream came to.
pub enum Ended {
    /// The answer is whole. The job is the next of its connection, now the caller's to run.
    Whole(Option<Job>),
    /// It is broken off, or had come to its end before.
    Otherwise,
}

impl Stream {
    /// The connection.
    pub fn conn(&self) -> &ConnHandle {
        self.producer.conn()
    }

    /// Bytes of the body so far; in the end, those that were sent.
    pub fn length(&self) -> u64 {
        self.length.get()
    }

    /// Whether the application has closed it, or has heard that nobody is there any more.
    pub fn is_finished(&self) -> bool {
        self.state.get() != State::Open
    }

    /// Whether the application has closed it, and the answer is complete.
    pub fn is_whole(&self) -> bool {
        self.state.get() == State::Whole
    }

    /// Why the answer is not whole and never will be. The GVL is held.
    pub fn failure(&self, ruby: &Ruby) -> Option<Error> {
        match self.state.get() {
            State::Open | State::Whole => None,
            State::Broken => {
                Some(exception(ruby.exception_io_error(), "the answer was broken off before it was whole"))
            }
            State::Gone => Some(disconnected(ruby)),
        }
    }

    /// Sees to it that the head leaves before long.
    pub fn announce(&self) {
        self.producer.announce();
    }

    /// The application has returned and keeps the stream: what is to be done when it closes it.
    pub fn outlive(this: Obj<Stream>, callbacks: Callbacks, log: Option<(RequestHead, u16, Instant)>) {
        this.callbacks.set(callbacks);
        callbacks.values().into_iter().for_each(|value| roots::note_reference(this.as_raw(), value));
        *this.entry.borrow_mut() = log.map(|(head, status, started)| LogEntry { head, status, started });
    }

    /// The body is complete.
    pub fn finish(&self) -> Ended {
        if self.is_finished() {
            return Ended::Otherwise;
        }
        self.take_for_plain();
        if self.is_cut_short() {
            log::message(Level::Error, &format!("{CUT_SHORT}."));
            self.state.set(State::Broken);
            self.producer.abort();
            return Ended::Otherwise;
        }
        let Some(produced) = self.producer.finish(Instant::now()) else {
            self.state.set(State::Gone);
            return Ended::Otherwise;
        };
        let Produced { length, sent, next, complaint } = produced;
        self.length.set(sent);
        if let Some(complaint) = complaint {
            complain(complaint, length);
        }
        if complaint == Some(Complaint::TooShort) {
            self.state.set(State::Broken);
            return Ended::Otherwise;
        }
        self.state.set(State::Whole);
        Ended::Whole(next)
    }

    /// Sees to it that a body that the application has chunked has come to its end. The GVL is held.
    pub fn expect_last_chunk(&self, ruby: &Ruby) -> Result<(), Error> {
        match self.is_cut_short() {
            true => Err(exception(ruby.exception_io_error(), CUT_SHORT)),
            false => Ok(()),
        }
    }

    fn is_cut_short(&self) -> bool {
        let chunks = self.chunks.borrow();
        !self.is_finished() && chunks.as_ref().is_some_and(|chunks| matches!(chunks.stage, Stage::Chunked))
    }

    /// Whether the first line is there in part. Nobody flushes in the middle of a chunk's.
    fn is_doubtful_line(&self) -> bool {
        let text = |chunks: &Chunks| match &chunks.stage {
            Stage::Doubtful(text) => !text.is_empty() && !text.contains(&b'\n'),
            Stage::Chunked | Stage::Ended => false,
        };
        self.chunks.borrow().as_ref().is_some_and(text)
    }

    /// What has not become a chunk up to here is plain text (F-27).
    fn take_for_plain(&self) {
        let mut slot = self.chunks.borrow_mut();
        let Some(Chunks { stage: Stage::Doubtful(text), .. }) = slot.as_mut() else { return };
        let text = std::mem::take(text);
        *slot = None;
        if !text.is_empty() {
            self.push(&text);
        }
    }

    /// Sends a copy of `bytes`.
    fn push(&self, bytes: &[u8]) -> Room {
        self.length.set(self.length.get() + bytes.len() as u64);
        self.producer.push(bytes)
    }

    /// The body can not be completed. True if nothing of the answer was sent: then another one may be given.
    pub fn give_up(&self) -> bool {
        self.state.set(State::Broken);
        let taken_back = self.producer.take_back();
        if !taken_back {
            self.producer.abort();
        }
        taken_back
    }

    /// `take(part)`: what `each` yields.
    fn take(ruby: &Ruby, this: &Stream, part: Value) -> Result<(), Error> {
        if !body::is_type(part.as_raw(), ruby_value_type::RUBY_T_STRING) {
            let text = format!("the body yielded a {}, not a String", body::class_name(part.as_raw()));
            return Err(Error::new(ruby.exception_type_error(), text));
        }
        this.put(ruby, part).map(|_| ())
    }

    /// `write(*parts)`: sends each, and waits when the client does not keep up. Returns the bytes written.
    fn write(ruby: &Ruby, this: &Stream, parts: &[Value]) -> Result<usize, Error> {
        let mut written = 0;
        for part in parts {
            let text = part.to_r_string()?;
            written += this.put(ruby, text.as_value())?;
        }
        Ok(written)
    }

    /// `stream << part`
    fn append(ruby: &Ruby, this: Obj<Stream>, part: Value) -> Result<Obj<Stream>, Error> {
        Stream::write(ruby, &this, &[part])?;
        Ok(this)
    }

    /// `flush`: what was written, and be it only the head, leaves at once.
    fn flush(ruby: &Ruby, this: Obj<Stream>) -> Result<Obj<Stream>, Error> {
        this.expect_open(ruby)?;
        if this.is_doubtful_line() {
            this.take_for_plain();
        }
        match this.producer.begin() {
            Room::Gone => Err(this.gone(ruby)),
            Room::Enough | Room::Full => Ok(this),
        }
    }

    /// `read(length = nil, buffer = nil)`: the body of the request, as `rack.input` reads it.
    fn read(ruby: &Ruby, this: &Stream, args: &[Value]) -> Result<Value, Error> {
        // SAFETY: nil, or the live input.
        let input = unsafe { Value::from_raw(this.input.get()) };
        match input.is_nil() {
            // SAFETY: a live value.
            true => unsafe { Value::from_raw(input::empty()) }.funcall("read", args),
            false if matches!(this.state.get(), State::Whole | State::Broken) => {
                Err(Error::new(ruby.exception_io_error(), "closed stream"))
            }
            false => input.funcall("read", args),
        }
    }

    /// `close`, `close_write`: the answer is whole. Closing again does nothing.
    fn close(ruby: &Ruby, this: &Stream) -> Result<(), Error> {
        if fork::is_inert() {
            return Ok(());
        }
        if let Ended::Whole(next) = this.finish() {
            let handle = this.conn().handle();
            if let Some(job) = next {
                handle.jobs().push(job);
            }
            handle.send(Command::Write(this.conn().clone()));
        }
        input::release(this.input.get());
        this.conclude(ruby).map_or(Ok(()), Err)
    }

    /// The answer has come to its end: writes its line, if it is whole, and calls those who wait for it, once. Returns what
    /// is the death of this thread.
    fn conclude(&self, ruby: &Ruby) -> Option<Error> {
        let entry = self.entry.borrow_mut().take().filter(|_| self.state.get() == State::Whole);
        if let Some(LogEntry { head, status, started }) = entry {
            let (conn, head, bytes, at) = (self.conn(), Some(&head), self.length.get(), Instant::now());
            Answered { conn, head, status, bytes, started, at }.log();
        }
        self.callbacks.replace(Callbacks::none()).run(self.failure(ruby).as_ref())
    }

    /// The client has gone. The application may drop the stream when it hears of that, so this is the end of the answer.
    /// Returns what the application is to hear.
    fn gone(&self, ruby: &Ruby) -> Error {
        if self.state.get() == State::Open {
            self.state.set(State::Gone);
        }
        let death = self.conclude(ruby);
        death.unwrap_or_else(|| match self.state.get() {
            // Another thread has ended it while this one waited.
            State::Whole | State::Broken => Error::new(ruby.exception_io_error(), "closed stream"),
            State::Open | State::Gone => disconnected(ruby),
        })
    }

    /// `close_read`: what is left of the request's body is not wanted.
    fn close_read(this: &Stream) {
        input::release(this.input.get());
    }

    /// `closed?`: closed by the application, or left by the client.
    fn is_closed(ruby: &Ruby, this: &Stream) -> Result<bool, Error> {
        if this.is_finished() || fork::is_inert() {
            return Ok(true);
        }
        if this.producer.is_open() {
            return Ok(false);
        }
        this.state.set(State::Gone);
        this.conclude(ruby).map_or(Ok(true), Err)
    }

    fn expect_open(&self, ruby: &Ruby) -> Result<(), Error> {
        // In a fork of the application the connection's lock may be held by a thread that is not there.
        match self.state.get() {
            State::Open if !fork::is_inert() => Ok(()),
            State::Gone if !fork::is_inert() => Err(disconnected(ruby)),
            _ => Err(Error::new(ruby.exception_io_error(), "closed stream")),
        }
    }

    /// Sends a String. The GVL is held, but given up while there is no room.
    fn put(&self, ruby: &Ruby, string: Value) -> Result<usize, Error> {
        self.expect_open(ruby)?;
        if self.full.get() {
            self.wait(ruby)?;
            self.expect_open(ruby)?;
        }
        let string = string.as_raw();
        let length = body::bytes(&string).len();
        let chunked = self.chunks.borrow().is_some();
        let room = match length {
            0 => Room::Enough,
            _ if chunked => self.put_chunked(ruby, body::bytes(&string))?,
            _ if length as u64 >= LENT_FROM => {
                self.length.set(self.length.get() + length as u64);
                self.producer.push_borrowed(body::lend(string))
            }
            _ => self.push(body::bytes(&string)),
        };
        self.full.set(room == Room::Full);
        match room {
            Room::Gone => Err(self.gone(ruby)),
            Room::Enough | Room::Full => Ok(length),
        }
    }

    /// A piece of a body that the application has chunked, or says that it has: what is no chunk from its first byte on
    /// is taken for what it is (F-27).
    fn put_chunked(&self, ruby: &Ruby, bytes: &[u8]) -> Result<Room, Error> {
        let limits = Limits { body: u64::MAX, ..Limits::default() };
        let mut slot = self.chunks.borrow_mut();
        let mut rest = bytes;
        let mut room = Room::Enough;
        while let (Some(Chunks { decoder, stage }), false) = (slot.as_mut(), rest.is_empty()) {
            let decoded = decoder.decode(rest, &limits);
            match (stage, decoded) {
                (Stage::Doubtful(text), Ok((_, Piece::NeedMore))) => {
                    text.extend_from_slice(rest);
                    return Ok(room);
                }
                (Stage::Doubtful(_), Err(_)) => {
                    drop(slot);
                    self.take_for_plain();
                    return Ok(self.push(rest));
                }
                (Stage::Ended, _) | (Stage::Chunked, Err(_)) => {
                    let text = "the application's chunks are malformed";
                    return Err(Error::new(ruby.exception_io_error(), text));
                }
                (stage, Ok((used, piece))) => {
                    *stage = if piece == Piece::End { Stage::Ended } else { Stage::Chunked };
                    if let Piece::Data(data) = piece {
                        room = self.push(data);
                    }
                    rest = rest.get(used..).unwrap_or_default();
                }
            }
        }
        Ok(room)
    }

    /// Waits, without the GVL, until the client has read.
    fn wait(&self, ruby: &Ruby) -> Result<(), Error> {
        loop {
            let parker = Parker::new();
            let unparker = parker.unparker().clone();
            let producer: &Producer = &self.producer;
            let room = gvl::without(move || producer.wait(&parker), || unparker.unpark());
            gvl::check_interrupts()?;
            match room {
                Some(Room::Enough) => return Ok(()),
                Some(Room::Gone) => return Err(self.gone(ruby)),
                Some(Room::Full) | None => {}
            }
        }
    }
}

/// Whether this is the end of an application that a client has left.
pub fn is_disconnect(error: &Error) -> bool {
    let class = DISCONNECTED.get().copied().unwrap_or(rb_sys::Qnil as VALUE);
    // SAFETY: the live class.
    let class = ExceptionClass::from_value(unsafe { Value::from_raw(class) });
    class.is_some_and(|class| error.is_kind_of(class))
}

fn disconnected(ruby: &Ruby) -> Error {
    // SAFETY: the class, set by `init`.
    let class =
        DISCONNECTED.get().and_then(|class| ExceptionClass::from_value(unsafe { Value::from_raw(*class) }));
    let class = class.unwrap_or_else(|| ruby.exception_io_error());
    exception(class, "the client has left before the answer was whole")
}

/// As an object, for those who are told of it without a `rescue`.
fn exception(class: ExceptionClass, text: &str) -> Error {
    class.new_instance((text,)).map_or_else(|error| error, Error::from)
}

fn complain(complaint: Complaint, length: u64) {
    let (level, text) = match complaint {
        Complaint::Corrected => (
            Level::Warning,
            format!("the content-length of an answer was corrected to the {length} bytes of its body"),
        ),
        Complaint::TooLong => (
            Level::Error,
            format!(
                "a body of {length} bytes was cut to the content-length that the application had declared"
            ),
        ),
        Complaint::TooShort => (
            Level::Error,
            format!(
                "a body ended after {length} bytes, before the content-length that the application had declared"
            ),
        ),
    };
    log::message(level, &text);
}
