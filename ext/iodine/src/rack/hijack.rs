//! `rack.hijack`: gives the socket of a request to the application, once and for ever.

use crate::{gvl, roots};
use iodine_core::{ConnHandle, Peer, conn};
use magnus::gc::Marker;
use magnus::rb_sys::{AsRawValue, FromRawValue};
use magnus::typed_data::Obj;
use magnus::value::ReprValue;
use magnus::{Class, DataTypeFunctions, Error, Module, RHash, RModule, Ruby, TypedData, Value, method};
use rb_sys::VALUE;
use std::cell::Cell;
use std::time::Duration;

/// How often a hijack looks whether the answers before it are written.
const PACE: Duration = Duration::from_millis(5);

/// The callable in `env['rack.hijack']`.
///
/// Every request has one. Ruby makes an object quickly only if its class promises write barriers.
#[derive(TypedData)]
#[magnus(class = "Iodine::Base::Hijack", free_immediately, mark, wb_protected, size)]
pub struct Hijack {
    conn: ConnHandle,
    /// Which request of the connection may do this.
    number: u64,
    /// The env, to tell the socket to. Reached by `mark`; stored with a write barrier.
    env: Cell<VALUE>,
    /// The socket, once there is one. Reached by `mark`; stored with a write barrier.
    io: Cell<VALUE>,
}

// SAFETY: only used with the GVL held.
unsafe impl Send for Hijack {}

impl DataTypeFunctions for Hijack {
    fn mark(&self, marker: &Marker) {
        for value in [self.env.get(), self.io.get()] {
            // SAFETY: nil, or a value that was live when it was stored and has been marked ever since.
            marker.mark(unsafe { Value::from_raw(value) });
        }
    }
}

/// Defines the class.
pub fn init(ruby: &Ruby, base: RModule) -> Result<(), Error> {
    let class = base.define_class("Hijack", ruby.class_object())?;
    class.undef_default_alloc_func();
    class.define_method("call", method!(Hijack::call, -1))?;
    // Looked up once, now: the first request may be struck by a `Thread#kill`, and must not be in there then.
    let _ = Hijack::class(ruby);
    Ok(())
}

/// The callable for one request. The GVL is held; may raise NoMemoryError.
pub fn new(ruby: &Ruby, conn: &ConnHandle, number: u64) -> Obj<Hijack> {
    let nil = rb_sys::Qnil as VALUE;
    let hijack = Hijack { conn: conn.clone(), number, env: Cell::new(nil), io: Cell::new(nil) };
    ruby.obj_wrap(hijack)
}

impl Hijack {
    /// The env to tell the socket to.
    pub fn set_env(this: Obj<Hijack>, env: VALUE) {
        this.env.set(env);
        roots::note_reference(this.as_raw(), env);
    }

    /// The socket; nil once the application has returned without taking it.
    fn call(ruby: &Ruby, this: Obj<Hijack>, _args: &[Value]) -> Result<Value, Error> {
        // SAFETY: nil or the live socket.
        let known = unsafe { Value::from_raw(this.io.get()) };
        if !known.is_nil() {
            return Ok(known);
        }
        let Some(io) = take_socket(ruby, &this.conn, this.number, Vec::new())? else { return Ok(known) };
        this.io.set(io.as_raw());
        roots::note_reference(this.as_raw(), io.as_raw());
        // SAFETY: nil or the live env.
        if let Some(env) = RHash::from_value(unsafe { Value::from_raw(this.env.get()) }) {
            env.aset(ruby.str_new("rack.hijack_io"), io)?;
        }
        Ok(io)
    }
}

/// The socket of the request `number`, if that is at work: the application's from here on. Waits until what was answered
/// before, and `head` behind it, is written. The GVL is held.
fn take_socket(
    ruby: &Ruby,
    conn: &ConnHandle,
    number: u64,
    mut head: Vec<u8>,
) -> Result<Option<Value>, Error> {
    let fd = loop {
        match conn.hijack(number, &mut head) {
            conn::Hijack::Given(fd) => break fd,
            conn::Hijack::TooLate => return Ok(None),
            conn::Hijack::Wait => {
                gvl::without(|| std::thread::sleep(PACE), || {});
                gvl::check_interrupts()?;
            }
        }
    };
    let class = match conn.peer() {
        Peer::Tcp(_) => "TCPSocket",
        Peer::Unix(_) => "UNIXSocket",
    };
    let class: Value = ruby.class_object().const_get(class)?;
    let io: Value = class.funcall("for_fd", (fd,))?;
    let _: Value = io.funcall("sync=", (true,))?;
    Ok(Some(io))
}

/// Sends `head`, then calls `callable` with the socket: what the application left in its response header `rack.hijack`,
/// or the body of an answer that switches protocols. The GVL is held.
pub fn hand_over(
    ruby: &Ruby,
    conn: &ConnHandle,
    number: u64,
    head: Vec<u8>,
    callable: VALUE,
) -> Result<(), Error> {
    let Some(io) = take_socket(ruby, conn, number, head)? else { return Ok(()) };
    // SAFETY: live, on the caller's stack.
    let callable = unsafe { Value::from_raw(callable) };
    callable.funcall::<_, _, Value>("call", (io,)).map(|_| ())
}
