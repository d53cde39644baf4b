//! `Iodine::Connection`: what the application holds of a real-time connection. It outlives the connection; from then on its
//! methods answer as iodine 0.7 did, from here, and nothing of the connection is left.

use super::callbacks::{Callbacks, ids};
use super::writer;
use crate::rack::{LENT_FROM, lend, report_error};
use crate::{fork, gvl, roots};
use iodine_codec::sse;
use iodine_codec::websocket::Kind;
use iodine_core::ConnHandle;
use iodine_core::log::{self, Level};
use iodine_core::realtime::{Payload, Protocol, Written, close_code};
use magnus::encoding::Coderange;
use magnus::gc::Marker;
use magnus::rb_sys::{AsRawValue, FromRawValue};
use magnus::scan_args::{get_kwargs, scan_args};
use magnus::typed_data::Obj;
use magnus::value::ReprValue;
use magnus::{
    Class, DataTypeFunctions, Error, Integer, Module, RString, Ruby, Symbol, TryConvert, TypedData, Value,
    method,
};
use rb_sys::VALUE;
use std::cell::{Cell, RefCell};
use std::time::Duration;

/// See the module's text.
#[derive(TypedData)]
#[magnus(class = "Iodine::Connection", free_immediately, mark, wb_protected, size)]
pub struct Connection {
    /// `None` in an object that is nobody's (`new`, `dup`), and after the end.
    conn: RefCell<Option<ConnHandle>>,
    /// Reached by `mark`; stored with a write barrier.
    handler: Cell<VALUE>,
    callbacks: Cell<Callbacks>,
    /// The env of the request that was upgraded, or nil. Reached by `mark`.
    env: Cell<VALUE>,
    /// The last callback runs, or has: its handler stays.
    closed: Cell<bool>,
}

// SAFETY: only used with the GVL held.
unsafe impl Send for Connection {}

impl Default for Connection {
    fn default() -> Connection {
        let nil = rb_sys::Qnil as VALUE;
        Connection {
            conn: RefCell::new(None),
            handler: Cell::new(nil),
            callbacks: Cell::default(),
            env: Cell::new(nil),
            closed: Cell::new(true),
        }
    }
}

impl DataTypeFunctions for Connection {
    fn mark(&self, marker: &Marker) {
        for value in [self.handler.get(), self.env.get()] {
            // SAFETY: nil, or a value that was live when it was stored and has been marked ever since.
            marker.mark(unsafe { Value::from_raw(value) });
        }
    }
}

/// Defines the class.
pub fn init(ruby: &Ruby) -> Result<(), Error> {
    let class = ruby.define_module("Iodine")?.define_class("Connection", ruby.class_object())?;
    class.define_alloc_func::<Connection>();
    // A copy is nobody's connection: what `allocate` has made stays as it is.
    class.define_method("initialize_copy", method!(Connection::initialize_copy, 1))?;
    class.define_method("write", method!(Connection::write, 1))?;
    class.define_method("write_event", method!(Connection::write_event, -1))?;
    class.define_method("close", method!(Connection::close, -1))?;
    class.define_method("open?", method!(Connection::is_open, 0))?;
    class.define_method("pending", method!(Connection::pending, 0))?;
    class.define_method("protocol", method!(Connection::protocol, 0))?;
    class.define_method("timeout", method!(Connection::timeout, 0))?;
    class.define_method("timeout=", method!(Connection::set_timeout, 1))?;
    class.define_method("env", method!(Connection::env, 0))?;
    class.define_method("handler", method!(Connection::handler, 0))?;
    class.define_method("handler=", method!(Connection::set_handler, 1))?;
    class.define_method("close_code", method!(Connection::close_code, 0))?;
    class.define_method("close_reason", method!(Connection::close_reason, 0))?;
    class.define_method("pubsub?", method!(Connection::has_pubsub, 0))?;
    // Looked up once, now: the first connection may be struck by a `Thread#kill`, and must not be in there then.
    let _ = Connection::class(ruby);
    Ok(())
}

/// The object of a connection that is about to be opened. The GVL is held; may raise.
pub fn new(ruby: &Ruby, conn: &ConnHandle, handler: VALUE, env: VALUE) -> Obj<Connection> {
    let callbacks = Callbacks::of(handler);
    ruby.obj_wrap(Connection {
        conn: RefCell::new(Some(conn.clone())),
        handler: Cell::new(handler),
        callbacks: Cell::new(callbacks),
        env: Cell::new(env),
        closed: Cell::new(false),
    })
}

/// Makes the object of a connection that is there already. The GVL is held.
pub fn adopt(ruby: &Ruby, conn: &ConnHandle, handler: VALUE) -> Result<Obj<Connection>, Error> {
    let mut made = None;
    gvl::protect(|| {
        made = Some(new(ruby, conn, handler, rb_sys::Qnil as VALUE));
        rb_sys::Qnil as VALUE
    })?;
    let object = made.ok_or_else(|| Error::new(ruby.exception_no_mem_error(), "no connection object"))?;
    conn.set_object(roots::add(object.as_raw()), object.callbacks().wants());
    Ok(object)
}

/// An upgrade has failed before there was a connection: its handler hears of the end only. The GVL is held.
pub fn refused(ruby: &Ruby, handler: VALUE) -> Option<Error> {
    let called = gvl::protect(|| {
        if Callbacks::of(handler).close {
            let client = ruby.obj_wrap(Connection::default()).as_raw();
            // SAFETY: the GVL is held, and what is raised is caught.
            unsafe { rb_sys::rb_funcallv(handler, ids().close, 1, &client) };
        }
        rb_sys::Qnil as VALUE
    });
    called.err().and_then(report_error)
}

/// `on_close` has run: from here on the object is nobody's.
pub fn end(object: Obj<Connection>, conn: &ConnHandle) {
    let nil = rb_sys::Qnil as VALUE;
    object.conn.replace(None);
    object.handler.set(nil);
    object.env.set(nil);
    object.closed.set(true);
    object.callbacks.set(Callbacks::default());
    if let Some(root) = conn.take_object() {
        roots::release(root);
    }
}

impl Connection {
    /// The callbacks of its handler.
    pub fn callbacks(&self) -> Callbacks {
        self.callbacks.get()
    }

    /// Its last callback runs next.
    pub fn set_closed(&self) {
        self.closed.set(true);
    }

    /// Its handler.
    pub fn handler_value(&self) -> VALUE {
        self.handler.get()
    }

    /// The connection, unless it is gone for good. In a fork of the application its lock may be held by a thread that is not
    /// there.
    pub fn conn(&self) -> Option<ConnHandle> {
        if fork::is_inert() {
            return None;
        }
        self.conn.borrow().clone()
    }

    fn initialize_copy(this: Value, _other: Value) -> Value {
        this
    }

    /// `write(data)`: true when the data is on its way, false when it was refused because too much of it waits already, nil
    /// when the connection is closed.
    fn write(ruby: &Ruby, this: &Connection, data: Value) -> Result<Option<bool>, Error> {
        let string = match RString::from_value(data) {
            Some(string) => string,
            None => Connection::stringify(ruby, data)?,
        };
        let Some(conn) = this.conn() else { return Ok(None) };
        let raw = string.as_raw();
        // SAFETY: copied, or lent, before Ruby runs again.
        let bytes = unsafe { string.as_slice() };
        let kind = kind_of(string);
        let written = if bytes.len() as u64 >= LENT_FROM {
            conn.write(kind, Payload::Lent(lend(raw)), writer())
        } else {
            conn.write(kind, Payload::Copied(bytes), writer())
        };
        Ok(answer(written))
    }

    /// What 0.7 said of data that is no String.
    fn stringify(ruby: &Ruby, data: Value) -> Result<RString, Error> {
        let text: Value = data.funcall("to_s", ())?;
        let backtrace: Value = ruby.module_kernel().funcall("caller", (0,))?;
        let backtrace: String = backtrace.funcall("join", ("\n",))?;
        log::message(
            Level::Warning,
            &format!("`Iodine::Connection#write` was called with a non-String object.\n{backtrace}"),
        );
        RString::try_convert(text)
    }

    /// `write_event(data, event: nil, id: nil, retry: nil)`: an event of SSE with its fields; on other connections the data
    /// alone.
    fn write_event(ruby: &Ruby, this: &Connection, args: &[Value]) -> Result<Option<bool>, Error> {
        let args = scan_args::<(RString,), (), (), (), _, ()>(args)?;
        let named = get_kwargs::<
            _,
            (),
            (Option<Option<Value>>, Option<Option<Value>>, Option<Option<u64>>),
            (),
        >(args.keywords, &[], &["event", "id", "retry"])?;
        let (event, id, retry) = named.optional;
        let text = |value: Option<Option<Value>>| -> Result<Option<RString>, Error> {
            match value.flatten() {
                Some(value) => value.funcall("to_s", ()).map(Some),
                None => Ok(None),
            }
        };
        let (event, id) = (text(event)?, text(id)?);
        let data = args.required.0;
        let Some(conn) = this.conn() else { return Ok(None) };
        // SAFETY: copied before Ruby runs again.
        let bytes = |string: &RString| unsafe { string.as_slice() }.to_vec();
        let (event, id) = (event.as_ref().map(bytes), id.as_ref().map(bytes));
        let data = bytes(&data);
        let told =
            sse::Event { id: id.as_deref(), event: event.as_deref(), retry_ms: retry.flatten(), data: &data };
        match conn.write_event(&told, writer()) {
            Ok(written) => Ok(answer(written)),
            Err(bad) => Err(Error::new(ruby.exception_arg_error(), bad.to_string())),
        }
    }

    /// `close(code = 1000, reason = "")`: closes when all that was written has left. Code and reason are for WebSockets.
    fn close(ruby: &Ruby, this: &Connection, args: &[Value]) -> Result<(), Error> {
        // nil is as good as nothing.
        type CodeAndReason = (Option<Option<u16>>, Option<Option<String>>);
        let args = scan_args::<(), CodeAndReason, (), (), (), ()>(args)?;
        let (code, reason) = (args.optional.0.flatten(), args.optional.1.flatten());
        let code = code.unwrap_or(close_code::NORMAL);
        if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
            let text = format!("{code} is no status code to close a WebSocket with");
            return Err(Error::new(ruby.exception_range_error(), text));
        }
        if let Some(conn) = this.conn() {
            conn.close(code, reason.as_deref().unwrap_or_default(), writer());
        }
        Ok(())
    }

    /// `open?`: whether it may be written to.
    fn is_open(this: &Connection) -> bool {
        this.conn().is_some_and(|conn| conn.is_writable())
    }

    /// `pending`: writes that have not left yet; -1 once it is closed.
    fn pending(this: &Connection) -> i64 {
        this.conn().and_then(|conn| conn.pending_writes()).map_or(-1, |count| count as i64)
    }

    /// `protocol`: `:websocket`, `:sse` or `:raw`; nil after the end.
    fn protocol(ruby: &Ruby, this: &Connection) -> Option<Symbol> {
        let name = match this.conn()?.protocol()? {
            Protocol::WebSocket => "websocket",
            Protocol::Sse => "sse",
            Protocol::Raw => "raw",
        };
        Some(ruby.to_symbol(name))
    }

    /// `timeout`: seconds; nil once it is closed.
    fn timeout(this: &Connection) -> Option<u64> {
        Some(this.conn()?.timeout()?.as_secs())
    }

    /// `timeout = seconds`: silence after which a WebSocket or SSE connection is sent a ping; a raw one has its handler's
    /// `ping` called, or is closed if there is none. 0 is never.
    fn set_timeout(ruby: &Ruby, this: &Connection, seconds: Value) -> Result<Value, Error> {
        let Some(number) = Integer::from_value(seconds) else {
            let text = format!("wrong argument type {} (expected Integer)", seconds.class());
            return Err(Error::new(ruby.exception_type_error(), text));
        };
        let number =
            number.to_u32().map_err(|_| Error::new(ruby.exception_range_error(), "timeout out of range."))?;
        if let Some(conn) = this.conn() {
            conn.set_timeout(Duration::from_secs(u64::from(number)));
        }
        Ok(seconds)
    }

    /// `env`: the Hash of the request that was upgraded to a WebSocket or to SSE, else nil.
    fn env(this: &Connection) -> Value {
        // SAFETY: nil or the live env.
        unsafe { Value::from_raw(this.env.get()) }
    }

    /// `handler`: the object whose callbacks are called.
    fn handler(this: &Connection) -> Value {
        // SAFETY: nil or the live handler.
        unsafe { Value::from_raw(this.handler.get()) }
    }

    /// `handler = other`: calls `on_close` of the old one and `on_open` of the new one, here and now. nil or false closes the
    /// connection.
    fn set_handler(this: Obj<Connection>, handler: Value) -> Result<Value, Error> {
        let Some(conn) = this.conn() else { return Ok(handler) };
        if this.closed.get() || handler.as_raw() == this.handler.get() {
            return Ok(handler);
        }
        if !handler.to_bool() {
            conn.close(close_code::NORMAL, "", writer());
            return Ok(handler);
        }
        let client = this.as_raw();
        let mut callbacks = Callbacks::default();
        gvl::protect(|| {
            callbacks = Callbacks::of(handler.as_raw());
            rb_sys::Qnil as VALUE
        })?;
        // Each hears of its end once, also one that the old one's `on_close` has put into its place.
        while this.callbacks().close {
            this.callbacks.set(Callbacks { close: false, ..this.callbacks() });
            notify(this.handler.get(), ids().close, client)?;
        }
        if this.closed.get() {
            return Ok(handler);
        }
        this.handler.set(handler.as_raw());
        roots::note_reference(this.as_raw(), handler.as_raw());
        this.callbacks.set(callbacks);
        conn.set_wants(callbacks.wants());
        if callbacks.open {
            notify(handler.as_raw(), ids().open, client)?;
        }
        Ok(handler)
    }

    /// `close_code`: the status code that the peer of a WebSocket has closed it with; nil if it has not, or without one.
    fn close_code(this: &Connection) -> Option<u16> {
        Some(this.conn()?.peer_close()?.0)
    }

    /// `close_reason`: the text beside {#close_code}.
    fn close_reason(this: &Connection) -> Option<String> {
        Some(this.conn()?.peer_close()?.1.into())
    }

    /// `pubsub?`: whether it may subscribe.
    fn has_pubsub(_this: &Connection) -> bool {
        true
    }
}

/// Calls a callback on the calling thread; what it raises is logged.
fn notify(handler: VALUE, id: rb_sys::ID, client: VALUE) -> Result<(), Error> {
    // SAFETY: the GVL is held, and what is raised is caught.
    let called = gvl::protect(|| unsafe { rb_sys::rb_funcallv(handler, id, 1, &client) });
    called.err().and_then(report_error).map_or(Ok(()), Err)
}

fn answer(written: Written) -> Option<bool> {
    match written {
        Written::Queued => Some(true),
        Written::Refused => Some(false),
        Written::Closed => None,
    }
}

/// Text is what Ruby says is UTF-8 or ASCII, and is that. The rest goes out as binary: as text it would break the protocol.
fn kind_of(string: RString) -> Kind {
    // SAFETY: the GVL is held; a live String.
    let is_text = unsafe {
        let index = rb_sys::rb_enc_get_index(string.as_raw());
        index == rb_sys::rb_utf8_encindex() || index == rb_sys::rb_usascii_encindex()
    };
    match is_text && matches!(string.enc_coderange_scan(), Coderange::Valid | Coderange::SevenBit) {
        true => Kind::Text,
        false => Kind::Binary,
    }
}
