//! Which callbacks a handler has. It is asked once, when it is attached, as in iodine 0.7: what it lacks then is never
//! called.

use iodine_core::realtime::Wants;
use rb_sys::{ID, VALUE};
use std::ffi::c_long;
use std::sync::OnceLock;

/// The callbacks that a handler has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Callbacks {
    /// `on_open(client)`
    pub open: bool,
    /// `on_message(client, data)`
    pub message: bool,
    /// `on_drained(client)`
    pub drained: bool,
    /// `ping(client)`
    pub ping: bool,
    /// `on_shutdown(client)`
    pub shutdown: bool,
    /// `on_close(client)`
    pub close: bool,
}

/// Names of methods, looked up once.
#[derive(Debug)]
pub struct Ids {
    /// `on_open`
    pub open: ID,
    /// `on_message`
    pub message: ID,
    /// `on_drained`
    pub drained: ID,
    /// `ping`
    pub ping: ID,
    /// `on_shutdown`
    pub shutdown: ID,
    /// `on_close`
    pub close: ID,
    /// `call`
    pub call: ID,
}

/// Names of methods, looked up once. The GVL is held.
pub fn ids() -> &'static Ids {
    static IDS: OnceLock<Ids> = OnceLock::new();
    IDS.get_or_init(|| {
        // SAFETY: the GVL is held.
        let id = |name: &str| unsafe { rb_sys::rb_intern2(name.as_ptr().cast(), name.len() as c_long) };
        Ids {
            open: id("on_open"),
            message: id("on_message"),
            drained: id("on_drained"),
            ping: id("ping"),
            shutdown: id("on_shutdown"),
            close: id("on_close"),
            call: id("call"),
        }
    })
}

impl Callbacks {
    /// Asks `handler`. The GVL is held; may raise, as `respond_to?` is anybody's to define.
    pub fn of(handler: VALUE) -> Callbacks {
        // SAFETY: the GVL is held; a live value. Private methods do not count.
        let has = |id: ID| unsafe { rb_sys::rb_respond_to(handler, id) != 0 };
        let ids = ids();
        Callbacks {
            open: has(ids.open),
            message: has(ids.message),
            drained: has(ids.drained),
            ping: has(ids.ping),
            shutdown: has(ids.shutdown),
            close: has(ids.close),
        }
    }

    /// What the reactor has to know of them.
    pub fn wants(self) -> Wants {
        Wants { messages: self.message, drained: self.drained, timeouts: self.ping }
    }
}
