//! Subscriptions and publications, from Ruby to the hub. What names and arguments mean is decided in `lib/iodine/pubsub.rb`.
//!
//! Subscriptions of the process may be made before the server starts: they are kept here, and each process that is started
//! hears of them.

use super::channels;
use super::connection::Connection;
use crate::{fork, process, roots};
use iodine_codec::link::Scope;
use iodine_core::command::{Command, Handle};
use iodine_core::hub::{Format, Keeper, Listener, Message, Subscription};
use iodine_core::{ConnHandle, Root};
use magnus::rb_sys::AsRawValue;
use magnus::typed_data::Obj;
use magnus::{Error, Module, Object, RModule, RString, Ruby, Symbol, Value, function};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

/// The subscriptions of the process, by name. Only locked with the GVL held, and never while Ruby runs, so that a fork finds
/// it open.
static OF_PROCESS: LazyLock<Mutex<Subscriptions>> = LazyLock::new(Mutex::default);

/// Subscriptions by name: of the same name there is one.
type Subscriptions = HashMap<Arc<[u8]>, Arc<Subscription>>;

/// Defines the primitives.
pub fn init(ruby: &Ruby) -> Result<(), Error> {
    let base: RModule = ruby.define_module("Iodine")?.define_module("Base")?;
    base.define_singleton_method("subscribe", function!(subscribe, 5))?;
    base.define_singleton_method("unsubscribe", function!(unsubscribe, 2))?;
    base.define_singleton_method("publish", function!(publish, 3))
}

/// Tells a reactor that begins to run of the subscriptions there are.
pub fn announce(handle: &Handle) {
    for subscription in of_process().values() {
        handle.send(Command::Subscribe(subscription.clone()));
    }
    channels::announce(handle);
}

/// In a worker that was forked just now: the subscriptions are its own from here on, what waits for them is the root's.
pub fn leave_root() {
    let subscriptions = of_process();
    for subscription in subscriptions.values() {
        subscription.forget_waiting();
    }
    channels::leave_root(subscriptions.values());
}

/// A block, kept until nobody can call it any more.
struct Block(Root);

impl Keeper for Block {
    fn root(&self) -> Root {
        self.0
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        roots::release(self.0);
    }
}

fn keep(block: Value) -> Box<dyn Keeper> {
    Box::new(Block(roots::add(block.as_raw())))
}

/// `subscribe(connection_or_nil, name, pattern, binary, block_or_nil)`: false if the connection is closed.
fn subscribe(
    connection: Option<Obj<Connection>>,
    name: RString,
    pattern: bool,
    binary: bool,
    block: Option<Value>,
) -> bool {
    if fork::is_inert() {
        return false;
    }
    // SAFETY: copied before Ruby runs again.
    let name = unsafe { name.as_slice() };
    let Some(connection) = connection else {
        let Some(block) = block else { return false };
        let listener = Listener::process(keep(block));
        let subscription = Subscription::new(name, pattern, listener);
        let replaced = of_process().insert(subscription.name().clone(), subscription.clone());
        channels::join(&subscription);
        let handle = process::handle();
        if let Some(replaced) = replaced {
            end(handle.as_ref(), replaced);
        }
        if let Some(handle) = handle {
            handle.send(Command::Subscribe(subscription));
        }
        return true;
    };
    let Some(conn) = connection.conn() else { return false };
    let listener = listener(&conn, binary, block);
    let subscription = Subscription::new(name, pattern, listener);
    match conn.add_subscription(&subscription) {
        Ok(replaced) => {
            channels::join(&subscription);
            if let Some(replaced) = replaced {
                end(Some(conn.handle()), replaced);
            }
            conn.handle().send(Command::Subscribe(subscription));
            true
        }
        // `on_close` runs: it would have ended with that anyway.
        Err(_) => true,
    }
}

fn listener(conn: &ConnHandle, binary: bool, block: Option<Value>) -> Listener {
    let conn = conn.clone();
    match block {
        Some(block) => Listener::Conn { conn, block: keep(block) },
        None => Listener::Peer { conn, format: if binary { Format::Binary } else { Format::Text } },
    }
}

fn end(handle: Option<&Handle>, subscription: Arc<Subscription>) {
    subscription.end();
    channels::leave(&subscription);
    if let Some(handle) = handle {
        handle.send(Command::Unsubscribe(subscription));
    }
}

/// `unsubscribe(connection_or_nil, name)`: whether there was such a subscription; nil if the connection is closed.
fn unsubscribe(connection: Option<Obj<Connection>>, name: RString) -> Option<bool> {
    if fork::is_inert() {
        return None;
    }
    // SAFETY: copied before Ruby runs again.
    let name = unsafe { name.as_slice() };
    let Some(connection) = connection else {
        let removed = of_process().remove(name);
        let existed = removed.is_some();
        if let Some(subscription) = removed {
            end(process::handle().as_ref(), subscription);
        }
        return Some(existed);
    };
    let conn = connection.conn()?;
    let removed = conn.remove_subscription(name);
    let existed = removed.is_some();
    if let Some(subscription) = removed {
        end(Some(conn.handle()), subscription);
    }
    Some(existed)
}

/// `publish(channel, data, scope)`: false when no reactor runs in this process. The scope is `:cluster`, `:process`,
/// `:siblings` or `:root`.
fn publish(ruby: &Ruby, channel: RString, data: RString, scope: Symbol) -> Result<bool, Error> {
    let scope = match &*scope.name()? {
        "cluster" => Scope::Cluster,
        "process" => Scope::Process,
        "siblings" => Scope::Siblings,
        "root" => Scope::Root,
        other => {
            return Err(Error::new(
                ruby.exception_arg_error(),
                format!("{other} is no scope of a publication"),
            ));
        }
    };
    let Some(handle) = process::handle() else { return Ok(false) };
    // SAFETY: copied before Ruby runs again.
    let (channel, data) = unsafe { (channel.as_slice().into(), data.as_slice().into()) };
    handle.send(Command::Publish(scope, Arc::new(Message { channel, data })));
    Ok(true)
}

fn of_process() -> MutexGuard<'static, Subscriptions> {
    OF_PROCESS.lock().unwrap_or_else(PoisonError::into_inner)
}
