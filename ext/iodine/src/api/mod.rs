//! `Iodine::Base`: the primitives that the Ruby side in `lib/` builds the public interface on. Not for users.

mod connect;
mod files;
mod json;
mod limits;
mod rack_utils;
mod request_log;
mod resp;

use crate::{app_thread, fork, process, rack, roots, timers};
use iodine_core::command::{Command, Timer};
use iodine_core::listener::Address;
use iodine_core::log::{self, Level};
use iodine_core::{BindSpec, ConnHandle, Job, Listener, Notice, Service};
use magnus::rb_sys::AsRawValue;
use magnus::value::ReprValue;
use magnus::{
    Error, Module, Object, RArray, RHash, RModule, RString, Ruby, Symbol, TryConvert, Value, function,
};
use rb_sys::VALUE;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

static BASE: OnceLock<VALUE> = OnceLock::new();

/// The module `Iodine::Base`.
pub fn base_module() -> VALUE {
    BASE.get().copied().unwrap_or(rb_sys::Qnil as VALUE)
}

/// Defines the primitives.
pub fn init(ruby: &Ruby) -> Result<(), Error> {
    let base: RModule = ruby.define_module("Iodine")?.define_module("Base")?;
    // SAFETY: the GVL is held.
    unsafe { rb_sys::rb_gc_register_mark_object(base.as_raw()) };
    let _ = BASE.set(base.as_raw());
    base.const_set("NATIVE_VERSION", env!("CARGO_PKG_VERSION"))?;
    base.const_set("TLS_LIBRARY", iodine_core::tls_library())?;
    base.define_singleton_method("listen", function!(listen, 5))?;
    base.define_singleton_method("set_media_type", function!(files::set_media_type, 2))?;
    base.define_singleton_method("close_listeners", function!(close_listeners, 1))?;
    base.define_singleton_method(
        "raise_descriptor_limit",
        function!(iodine_core::sys::raise_descriptor_limit, 0),
    )?;
    base.define_singleton_method("start_worker", function!(start_worker, 2))?;
    base.define_singleton_method("stop_worker", function!(process::stop_worker, 0))?;
    base.define_singleton_method("start_master", function!(start_master, 1))?;
    base.define_singleton_method("stop_master", function!(process::stop_master, 0))?;
    base.define_singleton_method("leave_master", function!(process::leave_master, 0))?;
    base.define_singleton_method("prepare_worker", function!(prepare_worker, 1))?;
    base.define_singleton_method("adopt_worker", function!(process::adopt_worker, 2))?;
    base.define_singleton_method("ask_worker_to_stop", function!(ask_worker_to_stop, 1))?;
    base.define_singleton_method("vacate", function!(process::vacate, 1))?;
    base.define_singleton_method("say_ready", function!(say_ready, 0))?;
    base.define_singleton_method("prepare_turn", function!(prepare_turn, 0))?;
    base.define_singleton_method("turn", function!(process::turn, 0))?;
    base.define_singleton_method("take_notice", function!(take_notice, 0))?;
    base.define_singleton_method("notice_descriptor", function!(notice_descriptor, 0))?;
    base.define_singleton_method("wake", function!(wake, 0))?;
    base.define_singleton_method("work", function!(app_thread::work, 0))?;
    base.define_singleton_method("run_waiting_jobs", function!(app_thread::run_waiting, 0))?;
    base.define_singleton_method("expect_threads", function!(expect_threads, 1))?;
    base.define_singleton_method("end_jobs", function!(end_jobs, 0))?;
    base.define_singleton_method("drop_jobs", function!(drop_jobs, 0))?;
    base.define_singleton_method("shut_down", function!(shut_down, 1))?;
    base.define_singleton_method("enqueue", function!(enqueue, 1))?;
    base.define_singleton_method("add_timer", function!(add_timer, 3))?;
    base.define_singleton_method("cancel_timers", function!(cancel_timers, 1))?;
    base.define_singleton_method("want_idle", function!(want_idle, 0))?;
    base.define_singleton_method("log", function!(write_log, 2))?;
    request_log::init(base)?;
    base.define_singleton_method("verbosity", function!(log::verbosity, 0))?;
    base.define_singleton_method("verbosity=", function!(log::set_verbosity, 1))?;
    limits::init(base)?;
    connect::init(base)?;
    resp::init(ruby, base)?;
    base.define_singleton_method("ask_root", function!(ask_root, 3))?;
    base.define_singleton_method("reply_to_worker", function!(reply_to_worker, 3))?;
    base.define_singleton_method("forked!", function!(fork::become_inert, 0))?;
    base.define_singleton_method("forked?", function!(fork::is_inert, 0))?;
    json::init(ruby, base)?;
    rack_utils::init(ruby, base)
}

// --- listening ---------------------------------------------------------------------------------------------------

/// `listen(app, host, port, path, options)`: binds at once. A path means a Unix socket. Returns one Hash per socket.
/// Raises RuntimeError with the cause.
fn listen(
    ruby: &Ruby,
    app: Value,
    host: Option<String>,
    port: u16,
    path: Option<PathBuf>,
    options: RHash,
) -> Result<RArray, Error> {
    let http = limits::http_config(ruby, options)?;
    let realtime = limits::realtime_config(ruby, options)?;
    let raw = option(ruby, options, "raw")?.unwrap_or(false);
    let spec = match path {
        Some(path) => BindSpec::Unix { path, mode: option(ruby, options, "mode")?.unwrap_or(0o777) },
        None => BindSpec::Tcp { host, port },
    };
    let sendfile = files::sendfile(ruby, options)?;
    let root = roots::add(app.as_raw());
    let bound = Listener::bind(&spec, |port| Service { app: root, raw, http, realtime, port });
    let listeners = bound.map_err(|error| {
        roots::release(root);
        Error::new(ruby.exception_runtime_error(), error.to_string())
    })?;
    if let Some(folders) = sendfile {
        rack::send_file::enable(folders);
    }
    let described = ruby.ary_new();
    for listener in &listeners {
        described.push(describe(ruby, listener)?)?;
    }
    process::add_listeners(listeners);
    Ok(described)
}

fn describe(ruby: &Ruby, listener: &Listener) -> Result<RHash, Error> {
    let hash = ruby.hash_new();
    match listener.address() {
        Address::Tcp(address) => {
            hash.aset(ruby.to_symbol("address"), address.ip().to_string())?;
            hash.aset(ruby.to_symbol("port"), address.port())?;
        }
        Address::Unix(path) => hash.aset(ruby.to_symbol("path"), &**path)?,
    }
    Ok(hash)
}

fn option<T: TryConvert>(ruby: &Ruby, options: RHash, name: &str) -> Result<Option<T>, Error> {
    match options.get(ruby.to_symbol(name)) {
        Some(value) if !value.is_nil() => T::try_convert(value).map(Some),
        _ => Ok(None),
    }
}

fn duration(ruby: &Ruby, seconds: f64) -> Result<Duration, Error> {
    // Deadlines are added to the clock: a hundred years are as good as for ever, and do not overflow it.
    Duration::try_from_secs_f64(seconds.min(3.2e9))
        .map_err(|_| Error::new(ruby.exception_arg_error(), format!("{seconds} seconds are no duration")))
}

fn close_listeners(unlink: bool) {
    process::close_listeners(unlink);
    rack::send_file::disable();
}

// --- the life of a process ---------------------------------------------------------------------------------------

/// `start_worker(slot_or_nil, options)`: starts the reactor of this process.
fn start_worker(ruby: &Ruby, slot: Option<usize>, options: RHash) -> Result<(), Error> {
    let config = limits::reactor_config(ruby, options)?;
    process::start_worker(slot, config).map_err(|error| system_error(ruby, &error))
}

fn start_master(ruby: &Ruby, slots: usize) -> Result<(), Error> {
    process::start_master(slots).map_err(|error| system_error(ruby, &error))
}

fn prepare_worker(ruby: &Ruby, slot: usize) -> Result<(), Error> {
    process::prepare_worker(slot).map_err(|error| system_error(ruby, &error))
}

fn system_error(ruby: &Ruby, error: &std::io::Error) -> Error {
    Error::new(ruby.exception_runtime_error(), format!("the server can not start: {error}"))
}

fn ask_worker_to_stop(slot: usize) {
    send(Command::StopWorker(slot));
}

fn say_ready() {
    send(Command::Ready);
}

/// `prepare_turn`: master only. The descriptor to wait for before `turn`, and seconds to wait at most, or nil.
fn prepare_turn() -> Option<(i32, Option<f64>)> {
    process::prepare_turn().map(|(fd, limit)| (fd, limit.map(|limit| limit.as_secs_f64())))
}

/// `notice_descriptor`: readable when `take_notice` may have something; nil when no reactor runs.
fn notice_descriptor() -> Option<i32> {
    process::handle()?.notices().descriptor()
}

/// `take_notice`: `[name, slot_or_nil]`, or nil when there is none.
fn take_notice(ruby: &Ruby) -> Option<(Symbol, Option<usize>)> {
    process::handle()?.notices().take().map(|notice| name_notice(ruby, notice))
}

fn name_notice(ruby: &Ruby, notice: Notice) -> (Symbol, Option<usize>) {
    let (name, slot) = match notice {
        Notice::StopAsked => ("stop_asked", None),
        Notice::MasterGone => ("master_gone", None),
        Notice::Drained => ("drained", None),
        Notice::DrainTimedOut => ("drain_timed_out", None),
        Notice::Failed => ("failed", None),
        Notice::WorkerReady(slot) => ("worker_ready", Some(slot)),
        Notice::WorkerGone(slot) => ("worker_gone", Some(slot)),
    };
    (ruby.to_symbol(name), slot)
}

/// Makes the thread that waits for a notice or a turn look around.
fn wake() {
    if let Some(handle) = process::handle() {
        handle.notices().wake();
        // The master looks for what this is about before it asks how long to wait, not after.
        handle.send(Command::LookAround);
    }
}

fn shut_down(ruby: &Ruby, seconds: f64) -> Result<(), Error> {
    process::shut_down(duration(ruby, seconds)?);
    Ok(())
}

/// `expect_threads(count)`: from here on whoever waits for notices is woken when app threads are missing.
fn expect_threads(count: usize) {
    if let Some(handle) = process::handle() {
        handle.jobs().set_crew(count);
        handle.wake();
    }
}

fn end_jobs() {
    if let Some(handle) = process::handle() {
        handle.jobs().end();
    }
}

/// Throws away what still waits, when there is no thread left to run it.
fn drop_jobs() {
    let Some(handle) = process::handle() else { return };
    for job in handle.jobs().drain() {
        match job {
            Job::Task(root) => roots::release(root),
            Job::Forget(root) | Job::Timer { root, last: true, .. } => timers::release(root),
            Job::Events(conn) => release_events(&conn),
            Job::Request(_)
            | Job::Timer { .. }
            | Job::Deliver(_)
            | Job::Channel { .. }
            | Job::Ask { .. }
            | Job::Reply { .. }
            | Job::Idle
            | Job::GiveBack => {}
        }
    }
}

/// Nobody is left to run the callbacks of this connection.
fn release_events(conn: &ConnHandle) {
    drop(conn.take_events());
    if let Some(root) = conn.take_object() {
        roots::release(root);
    }
}

// --- tasks -------------------------------------------------------------------------------------------------------

/// `enqueue(block)`: false when no reactor runs in this process.
fn enqueue(block: Value) -> bool {
    let Some(handle) = process::handle() else { return false };
    handle.jobs().push(Job::Task(roots::add(block.as_raw())));
    // The master runs jobs between two turns.
    handle.wake();
    true
}

/// `add_timer(block, milliseconds, times_or_nil)`: false when no reactor runs in this process.
fn add_timer(block: Value, milliseconds: u64, times: Option<u64>) -> bool {
    let Some(handle) = process::handle() else { return false };
    let every = Duration::from_millis(milliseconds);
    handle.send(Command::AddTimer(Timer { root: timers::add(block.as_raw()), every, times }));
    true
}

/// `cancel_timers(block)`: whether there were any with this block.
fn cancel_timers(block: Value) -> bool {
    let Some(handle) = process::handle() else { return false };
    let roots = timers::cancel(block.as_raw());
    let existed = !roots.is_empty();
    roots.into_iter().for_each(|root| handle.send(Command::CancelTimer(root)));
    existed
}

fn want_idle() -> bool {
    send(Command::WantIdle)
}

fn send(command: Command) -> bool {
    let Some(handle) = process::handle() else { return false };
    handle.send(command);
    true
}

/// `ask_root(engine, id, bytes)`: from a worker. The reply comes by `engine_replied(id, bytes)`; an id of 0 wants none.
fn ask_root(engine: u32, id: u64, bytes: RString) -> bool {
    // SAFETY: copied before Ruby runs again.
    send(Command::Ask { engine, id, bytes: unsafe { bytes.as_slice() }.to_vec() })
}

/// `reply_to_worker(slot, id, bytes)`: from the root.
fn reply_to_worker(slot: usize, id: u64, bytes: RString) -> bool {
    // SAFETY: copied before Ruby runs again.
    send(Command::Reply { slot, id, bytes: unsafe { bytes.as_slice() }.to_vec() })
}

// --- the log -----------------------------------------------------------------------------------------------------

fn write_log(level: i64, text: RString) {
    // SAFETY: copied at once, before Ruby may run.
    let text = String::from_utf8_lossy(unsafe { text.as_slice() }).into_owned();
    log::message(Level::from_number(level), &text);
}

// --- errors ------------------------------------------------------------------------------------------------------

fn type_error(ruby: &Ruby, message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ruby.exception_type_error(), message)
}

/// What Ruby says of an argument of the wrong class.
fn wrong_type(ruby: &Ruby, value: Value, expected: &str) -> Error {
    let plain = value.is_nil() || [rb_sys::Qtrue as VALUE, rb_sys::Qfalse as VALUE].contains(&value.as_raw());
    let given = if plain { value.inspect() } else { value.class().to_string() };
    type_error(ruby, format!("wrong argument type {given} (expected {expected})"))
}
