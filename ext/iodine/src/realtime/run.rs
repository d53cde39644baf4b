//! Runs the events of connections, and messages for blocks of the process: each callback is one protected call, and what it
//! raises ends in the log.

use super::callbacks::ids;
use super::channels;
use super::connection::{self, Connection};
use super::string;
use crate::rack::report_error;
use crate::{fork, gvl, roots};
use iodine_core::hub::{Message, Subscription};
use iodine_core::realtime::{Event, Handler, close_code};
use iodine_core::{ConnHandle, Job};
use magnus::rb_sys::{AsRawValue, FromRawValue};
use magnus::typed_data::Obj;
use magnus::{Error, Ruby, TryConvert, Value};
use rb_sys::{ID, VALUE};
use std::sync::Arc;
use std::time::Instant;

/// Batches of one connection in a row, before others have their turn.
const ROUNDS: usize = 8;

/// Runs the events of `conn` that wait, for its job. Returns what is the death of this thread.
pub fn run_events(ruby: &Ruby, conn: &ConnHandle) -> Option<Error> {
    for _ in 0..ROUNDS {
        let mut events = conn.take_events();
        let object = match object(ruby, conn) {
            Ok(object) => object,
            Err(error) if fork::is_inert() => {
                std::mem::forget(events);
                return Some(error);
            }
            Err(error) => {
                end_without_object(conn);
                if let Some(death) = report_error(error) {
                    conn.put_back_events(events);
                    return Some(death);
                }
                None
            }
        };
        while let Some(event) = events.pop_front() {
            let ran = match object {
                Some(object) => run_event(conn, object, event),
                // There is nobody to tell.
                None => Ok(()),
            };
            if fork::is_inert() {
                std::mem::forget(events);
                return ran.err();
            }
            if let Some(death) = ran.err().and_then(report_error) {
                conn.put_back_events(events);
                return Some(death);
            }
        }
        if !conn.finish_events(Instant::now()) {
            return None;
        }
    }
    conn.handle().jobs().push(Job::Events(conn.clone()));
    None
}

/// The object of `conn`, made now if there is none yet; `None` if the application does not want the connection.
fn object(ruby: &Ruby, conn: &ConnHandle) -> Result<Option<Obj<Connection>>, Error> {
    match conn.handler() {
        Some(Handler::Object(root)) => {
            // SAFETY: live: rooted, or nil.
            let value = unsafe { Value::from_raw(roots::value(root)) };
            Ok(Obj::<Connection>::try_convert(value).ok())
        }
        Some(Handler::Given(root)) => {
            let object = connection::adopt(ruby, conn, roots::value(root))?;
            // The object knows the handler from here on. Until then the number is the connection's to release.
            roots::release(root);
            Ok(Some(object))
        }
        Some(Handler::Asked) => match ask_for_handler(conn)? {
            Some(handler) => connection::adopt(ruby, conn, handler).map(Some),
            None => {
                conn.refuse(close_code::NORMAL);
                Ok(None)
            }
        },
        Some(Handler::Refused) | None => Ok(None),
    }
}

/// What was to make the object of `conn` has raised: nobody hears its events, so it is closed.
fn end_without_object(conn: &ConnHandle) {
    if let Some(root) = conn.take_object() {
        roots::release(root);
    }
    conn.refuse(close_code::INTERNAL_ERROR);
}

/// Asks the application of a raw listener for the handler of a new connection. Nil, true and false refuse it.
fn ask_for_handler(conn: &ConnHandle) -> Result<Option<VALUE>, Error> {
    let app = roots::value(conn.service().app);
    // SAFETY: the GVL is held, and what is raised is caught.
    let handler = gvl::protect(|| unsafe { rb_sys::rb_funcallv(app, ids().call, 0, std::ptr::null()) })?;
    let refusals = [rb_sys::Qnil, rb_sys::Qtrue, rb_sys::Qfalse].map(|special| special as VALUE);
    Ok((!refusals.contains(&handler)).then_some(handler))
}

fn run_event(conn: &ConnHandle, object: Obj<Connection>, event: Event) -> Result<(), Error> {
    let has = object.callbacks();
    let ids = ids();
    match event {
        Event::Message { kind, data } if has.message => {
            let (client, handler) = (object.as_raw(), object.handler_value());
            gvl::protect(|| {
                let arguments = [client, string::of_kind(&data, kind)];
                // SAFETY: the GVL is held, and what is raised is caught.
                unsafe { rb_sys::rb_funcallv(handler, ids.message, 2, arguments.as_ptr()) }
            })
            .map(|_| ())
        }
        Event::Open if has.open => call(object, ids.open),
        Event::Drained if has.drained => call(object, ids.drained),
        Event::TimedOut if has.ping => call(object, ids.ping),
        // It was taken for one that has the callback, before the application had said.
        Event::TimedOut => {
            conn.close(close_code::NORMAL, "", super::writer());
            Ok(())
        }
        Event::Shutdown => {
            let called = if has.shutdown { call(object, ids.shutdown) } else { Ok(()) };
            if !fork::is_inert() {
                conn.close(close_code::GOING_AWAY, "the server is ending", super::writer());
            }
            called
        }
        Event::Closed(ended) => {
            object.set_closed();
            let called = if has.close { call(object, ids.close) } else { Ok(()) };
            if !fork::is_inert() {
                connection::end(object, conn);
                channels::leave_all(&ended);
            }
            called
        }
        Event::Published { subscription, message } => run_block(&subscription, &message),
        Event::Message { .. } | Event::Open | Event::Drained => Ok(()),
    }
}

fn call(object: Obj<Connection>, id: ID) -> Result<(), Error> {
    let (client, handler) = (object.as_raw(), object.handler_value());
    // SAFETY: the GVL is held, and what is raised is caught.
    gvl::protect(|| unsafe { rb_sys::rb_funcallv(handler, id, 1, &client) }).map(|_| ())
}

/// Calls the block of a subscription, unless that has ended.
fn run_block(subscription: &Subscription, message: &Message) -> Result<(), Error> {
    let Some(block) = subscription.block().filter(|_| subscription.is_live()) else { return Ok(()) };
    let block = roots::value(block);
    gvl::protect(|| {
        let arguments = [string::text_if_valid(&message.channel), string::text_if_valid(&message.data)];
        // SAFETY: the GVL is held, and what is raised is caught.
        unsafe { rb_sys::rb_funcallv(block, ids().call, 2, arguments.as_ptr()) }
    })
    .map(|_| ())
}

/// Calls the block of a subscription of the process for each message that waits. Returns what is the death of this thread.
pub fn run_deliveries(subscription: &Arc<Subscription>, jobs: &iodine_core::JobQueue) -> Option<Error> {
    for _ in 0..ROUNDS {
        let mut waiting = subscription.take_waiting();
        while let Some(message) = waiting.pop_front() {
            let ran = run_block(subscription, &message);
            if fork::is_inert() {
                std::mem::forget(waiting);
                return ran.err();
            }
            if let Some(death) = ran.err().and_then(report_error) {
                if subscription.put_back_waiting(waiting) {
                    jobs.push(Job::Deliver(subscription.clone()));
                }
                return Some(death);
            }
        }
        if !subscription.finish_waiting() {
            return None;
        }
    }
    jobs.push(Job::Deliver(subscription.clone()));
    None
}
