//! `rack.response_finished` (Rack 3) and `rack.after_reply`: what the application wants to be called when its answer has
//! been given.

use crate::gvl;
use magnus::gc::Marker;
use magnus::rb_sys::{AsRawValue, FromRawValue};
use magnus::{Error, Value};
use rb_sys::VALUE;

/// The callables of one request and what they are told. All values are on the stack, or reached by a mark function.
#[derive(Clone, Copy, Debug)]
pub struct Callbacks {
    /// Called with env, status, headers and error, the last one first.
    pub finished: VALUE,
    /// Called without arguments.
    pub after: VALUE,
    /// The env.
    pub env: VALUE,
    /// What the application returned; nil when it failed.
    pub status: VALUE,
    /// As above.
    pub headers: VALUE,
}

impl Callbacks {
    /// Nobody to call.
    pub fn none() -> Callbacks {
        let nil = rb_sys::Qnil as VALUE;
        Callbacks { finished: nil, after: nil, env: nil, status: nil, headers: nil }
    }

    /// The application has failed: there is no status and there are no headers to tell.
    pub fn forget_answer(&mut self) {
        let nil = rb_sys::Qnil as VALUE;
        (self.status, self.headers) = (nil, nil);
    }

    /// Whether there is anybody to call. The GVL is held.
    pub fn is_empty(&self) -> bool {
        let nil = rb_sys::Qnil as VALUE;
        // SAFETY: nil, or the Arrays that `env` has made.
        [self.finished, self.after]
            .iter()
            .all(|list| *list == nil || unsafe { rb_sys::RARRAY_LEN(*list) } == 0)
    }

    /// Calls them; `error` is what the application failed with. The GVL is held. Returns what is the death of this
    /// thread; what they raise otherwise is logged.
    pub fn run(self, error: Option<&Error>) -> Option<Error> {
        if self.is_empty() {
            return None;
        }
        let error = error.and_then(Error::value).map_or(rb_sys::Qnil as VALUE, AsRawValue::as_raw);
        let arguments = [self.finished, self.after, self.env, self.status, self.headers, error];
        let called = gvl::protect(|| {
            // SAFETY: the GVL is held; `lib/iodine/finished.rb` defines the method.
            unsafe {
                let id = rb_sys::rb_intern2(c"run_finished".as_ptr(), 12);
                rb_sys::rb_funcallv(crate::api::base_module(), id, 6, arguments.as_ptr())
            }
        });
        called.err().and_then(super::report_error)
    }

    /// For the mark function of what keeps them.
    pub fn mark(&self, marker: &Marker) {
        for value in self.values() {
            // SAFETY: nil, or a value that was live when it was stored and has been marked ever since.
            marker.mark(unsafe { Value::from_raw(value) });
        }
    }

    /// All of them, for what keeps them to tell the collector.
    pub fn values(&self) -> [VALUE; 5] {
        [self.finished, self.after, self.env, self.status, self.headers]
    }
}
