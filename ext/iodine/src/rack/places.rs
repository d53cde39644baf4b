//! The entries that an env begins with: those that differ from request to request. As the template has them first, they
//! are found without a search; a store into a Hash hashes its key and looks for it, which was a quarter of a request.

use super::{input, keys};
use rb_sys::{VALUE, st_data_t};
use std::ffi::c_int;

/// A value for each place.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// `rack.upgrade`, which is looked for again when the application has returned.
    pub upgrade: VALUE,
    /// `PATH_INFO`
    pub path_info: VALUE,
    /// `REMOTE_ADDR`
    pub remote_addr: VALUE,
    /// `HTTP_HOST`
    pub http_host: VALUE,
    /// `rack.hijack`
    pub hijack: VALUE,
    /// `rack.response_finished`
    pub response_finished: VALUE,
    /// `rack.after_reply`
    pub after_reply: VALUE,
    /// `QUERY_STRING`
    pub query_string: VALUE,
    /// `REQUEST_METHOD`
    pub request_method: VALUE,
    /// `rack.input`
    pub input: VALUE,
}

const COUNT: usize = 10;
const KEYS: [&str; COUNT] = [
    "rack.upgrade",
    "PATH_INFO",
    "REMOTE_ADDR",
    "HTTP_HOST",
    "rack.hijack",
    "rack.response_finished",
    "rack.after_reply",
    "QUERY_STRING",
    "REQUEST_METHOD",
    "rack.input",
];

impl Places {
    fn in_order(self) -> [VALUE; COUNT] {
        [
            self.upgrade,
            self.path_info,
            self.remote_addr,
            self.http_host,
            self.hijack,
            self.response_finished,
            self.after_reply,
            self.query_string,
            self.request_method,
            self.input,
        ]
    }
}

/// What is made once. All values are pinned, because the collector is told of each.
#[derive(Debug)]
pub struct Layout {
    keys: [VALUE; COUNT],
    usual: Places,
}

impl Layout {
    /// The GVL is held; may raise NoMemoryError.
    pub fn new() -> Layout {
        let nil = rb_sys::Qnil as VALUE;
        let usual = Places {
            upgrade: nil,
            path_info: nil,
            remote_addr: nil,
            http_host: nil,
            hijack: nil,
            response_finished: nil,
            after_reply: nil,
            query_string: keys::constant(""),
            request_method: keys::constant("GET"),
            input: input::empty(),
        };
        Layout { keys: KEYS.map(keys::constant), usual }
    }

    /// What a request without a query and a body has there; the rest is nil, and to be filled in.
    pub fn usual(&self) -> Places {
        self.usual
    }

    /// The key of `HTTP_HOST`.
    pub fn http_host(&self) -> VALUE {
        self.keys[3]
    }

    /// What changes when an entry is added to an env, also in the place of one that is deleted; `None` where only a search
    /// tells. The GVL is held.
    pub fn shape(env: VALUE, kept: bool) -> Option<(u64, u64)> {
        // SAFETY: the GVL is held; `env` is a live Hash, and its table is not kept.
        (!kept).then(|| unsafe {
            let table = &*rb_sys::rb_hash_tbl(env, c"iodine".as_ptr(), 0);
            (table.num_entries as u64, table.entries_bound as u64)
        })
    }

    /// The value of `rack.upgrade` in an env that was filled, whatever has become of it. The GVL is held; may raise.
    pub fn upgrade(&self, env: VALUE, kept: bool) -> VALUE {
        let mut look = Look { key: self.keys[0], found: None };
        if !kept {
            // SAFETY: as in `fill`; nothing is written.
            unsafe {
                let table = rb_sys::rb_hash_tbl(env, c"iodine".as_ptr(), 0);
                rb_sys::rb_st_foreach(table, Some(look_at_first), std::ptr::from_mut(&mut look) as st_data_t);
            }
        }
        // SAFETY: the GVL is held; the env is a Hash.
        look.found.unwrap_or_else(|| unsafe { rb_sys::rb_hash_lookup(env, look.key) })
    }

    /// Makes the places in a Hash that is empty so far. The GVL is held; may raise NoMemoryError.
    pub fn lay_out(&self, hash: VALUE) {
        for (key, usual) in self.keys.iter().zip(self.usual.in_order()) {
            // SAFETY: the GVL is held; all are live values.
            unsafe { rb_sys::rb_hash_aset(hash, *key, usual) };
        }
    }

    /// Fills the places of `env`, a copy of what [`Layout::lay_out`] began. The GVL is held.
    ///
    /// Whoever writes into a Hash by its table takes it out of the generations: the collector looks into it again each time,
    /// as long as it lives. So this is not for an env that is `kept` with a connection.
    pub fn fill(&self, env: VALUE, places: Places, kept: bool) {
        let values = places.in_order();
        let mut filling = Filling { keys: &self.keys, values: &values, at: 0 };
        if !kept {
            // SAFETY: the GVL is held; `env` is a live Hash and of a size that has a table. Nothing is allocated before the
            // last value is written, the keys stay the same, and `filling` and the values outlive the call, on the stack.
            unsafe {
                let table = rb_sys::rb_hash_tbl(env, c"iodine".as_ptr(), 0);
                let filling = std::ptr::from_mut(&mut filling) as st_data_t;
                rb_sys::rb_st_foreach_with_replace(table, Some(visit), Some(write), filling);
            }
            debug_assert_eq!(filling.at, COUNT, "the env begins with its places");
        }
        for (key, value) in self.keys.iter().zip(values).skip(filling.at) {
            // SAFETY: the GVL is held; all are live values.
            unsafe { rb_sys::rb_hash_aset(env, *key, value) };
        }
    }
}

struct Filling<'a> {
    keys: &'a [VALUE; COUNT],
    values: &'a [VALUE; COUNT],
    at: usize,
}

struct Look {
    key: VALUE,
    found: Option<VALUE>,
}

unsafe extern "C" fn look_at_first(key: st_data_t, value: st_data_t, data: st_data_t) -> c_int {
    // SAFETY: `data` is the `Look` of `upgrade`, which waits for this walk to end.
    let look = unsafe { &mut *(data as *mut Look) };
    look.found = (key as VALUE == look.key).then_some(value as VALUE);
    STOP
}

// From ruby/st.h; the bindings have them as an enum of another type.
const CONTINUE: c_int = 0;
const STOP: c_int = 1;
const REPLACE: c_int = 4;

unsafe extern "C" fn visit(key: st_data_t, _: st_data_t, data: st_data_t, _: c_int) -> c_int {
    // SAFETY: `data` is the `Filling` of `fill`, which waits for this walk to end.
    let filling = unsafe { &*(data as *const Filling<'_>) };
    match filling.keys.get(filling.at) {
        Some(expected) if *expected == key as VALUE => REPLACE,
        _ => STOP,
    }
}

unsafe extern "C" fn write(_: *mut st_data_t, value: *mut st_data_t, data: st_data_t, _: c_int) -> c_int {
    // SAFETY: as above; `value` is that of the entry visited.
    unsafe {
        let filling = &mut *(data as *mut Filling<'_>);
        *value = filling.values[filling.at] as st_data_t;
        filling.at += 1;
    }
    CONTINUE
}
