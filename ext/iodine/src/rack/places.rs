//! The entries that an env begins with: those that differ from request to request. As the template has them first, they
//! are found without a search; a store into a Hash hashes its key and looks for it, which was a quarter of a request.

use super::{input, keys};
use rb_sys::{VALUE, st_data_t, st_index_t, st_table};
use std::ffi::c_int;

/// Something for each place: its key, or its value.
#[derive(Clone, Copy, Debug)]
pub struct Places<T> {
    /// `rack.upgrade`, which is looked for again when the application has returned: the first of all.
    pub upgrade: T,
    /// `PATH_INFO`
    pub path_info: T,
    /// `REMOTE_ADDR`
    pub remote_addr: T,
    /// `HTTP_HOST`
    pub http_host: T,
    /// `rack.hijack`
    pub hijack: T,
    /// `rack.response_finished`
    pub response_finished: T,
    /// `rack.after_reply`
    pub after_reply: T,
    /// `QUERY_STRING`
    pub query_string: T,
    /// `REQUEST_METHOD`
    pub request_method: T,
    /// `rack.input`
    pub input: T,
}

const COUNT: usize = 10;
const KEYS: Places<&str> = Places {
    upgrade: "rack.upgrade",
    path_info: "PATH_INFO",
    remote_addr: "REMOTE_ADDR",
    http_host: "HTTP_HOST",
    hijack: "rack.hijack",
    response_finished: "rack.response_finished",
    after_reply: "rack.after_reply",
    query_string: "QUERY_STRING",
    request_method: "REQUEST_METHOD",
    input: "rack.input",
};

impl<T> Places<T> {
    fn map<U>(self, change: impl Fn(T) -> U) -> Places<U> {
        Places {
            upgrade: change(self.upgrade),
            path_info: change(self.path_info),
            remote_addr: change(self.remote_addr),
            http_host: change(self.http_host),
            hijack: change(self.hijack),
            response_finished: change(self.response_finished),
            after_reply: change(self.after_reply),
            query_string: change(self.query_string),
            request_method: change(self.request_method),
            input: change(self.input),
        }
    }

    fn in_order(self) -> [T; COUNT] {
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
    keys: Places<VALUE>,
    usual: Places<VALUE>,
}

/// What tells, as good as always, that an entry was added to an env, also in the place of one that was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    entries: st_index_t,
    bound: st_index_t,
    rebuilds: u32,
}

impl Shape {
    fn of(table: &st_table) -> Shape {
        Shape { entries: table.num_entries, bound: table.entries_bound, rebuilds: table.rebuilds_num }
    }
}

impl Layout {
    /// The GVL is held; may raise NoMemoryError.
    pub fn new() -> Layout {
        let nil = rb_sys::Qnil as VALUE;
        let usual = Places {
            query_string: keys::constant(""),
            request_method: keys::constant("GET"),
            input: input::empty(),
            ..KEYS.map(|_| nil)
        };
        Layout { keys: KEYS.map(keys::constant), usual }
    }

    /// What a request without a query and a body has there; the rest is nil, and to be filled in.
    pub fn usual(&self) -> Places<VALUE> {
        self.usual
    }

    /// The keys.
    pub fn keys(&self) -> Places<VALUE> {
        self.keys
    }

    /// Makes the places in a Hash that is empty so far. The GVL is held; may raise NoMemoryError.
    pub fn lay_out(&self, hash: VALUE) {
        for (key, usual) in self.keys.in_order().into_iter().zip(self.usual.in_order()) {
            // SAFETY: the GVL is held; all are live values.
            unsafe { rb_sys::rb_hash_aset(hash, key, usual) };
        }
    }

    /// Fills the places of `env`, a copy of what [`Layout::lay_out`] began. Returns its shape, where there is a table. The GVL
    /// is held.
    ///
    /// Whoever writes into a Hash by its table takes it out of the generations: the collector looks into it again each time,
    /// as long as it lives. So this is not for an env that is likely to be `kept` with its connection.
    pub fn fill(&self, env: VALUE, places: Places<VALUE>, kept: bool) -> Option<Shape> {
        let (keys, values) = (self.keys.in_order(), places.in_order());
        let mut filling = Filling { keys: &keys, values: &values, at: 0 };
        let table = table(env, kept);
        if let Some(table) = table {
            // SAFETY: nothing is allocated before the last value is written, the keys stay the same, and `filling` outlives
            // the call, as do the values, on the stack.
            unsafe {
                let filling = std::ptr::from_mut(&mut filling) as st_data_t;
                rb_sys::rb_st_foreach_with_replace(table, Some(visit), Some(write), filling);
            }
            debug_assert_eq!(filling.at, COUNT, "the env begins with its places");
        }
        for (key, value) in keys.into_iter().zip(values).skip(filling.at) {
            // SAFETY: the GVL is held; all are live values.
            unsafe { rb_sys::rb_hash_aset(env, key, value) };
        }
        // SAFETY: the reference ends here.
        table.map(|table| Shape::of(unsafe { &*table }))
    }

    /// What has become of an env that was filled: its shape, where there is a table, and the value of `rack.upgrade`. The
    /// GVL is held; may raise.
    pub fn look(&self, env: VALUE, kept: bool) -> (Option<Shape>, VALUE) {
        let mut look = Look { key: self.keys.upgrade, found: None };
        let table = table(env, kept);
        if let Some(table) = table {
            // SAFETY: nothing is written, and `look` outlives the call.
            unsafe {
                rb_sys::rb_st_foreach(table, Some(look_at_first), std::ptr::from_mut(&mut look) as st_data_t);
            }
        }
        // SAFETY: the reference ends here.
        let shape = table.map(|table| Shape::of(unsafe { &*table }));
        // SAFETY: the GVL is held; the env is a Hash.
        let found = look.found.unwrap_or_else(|| unsafe { rb_sys::rb_hash_lookup(env, look.key) });
        (shape, found)
    }
}

/// The shape of `env` as it is; `None` where only a search tells what was added. The GVL is held.
pub fn shape(env: VALUE, kept: bool) -> Option<Shape> {
    // SAFETY: the reference ends here.
    table(env, kept).map(|table| Shape::of(unsafe { &*table }))
}

/// Hashes of up to so many entries may have no table. To ask one for it would change it under whoever walks through it.
const WITHOUT_TABLE: usize = 8;

/// The table of `env`, good until somebody else has the Hash. The GVL is held.
fn table(env: VALUE, kept: bool) -> Option<*mut st_table> {
    // SAFETY: the GVL is held; `env` is a live Hash.
    unsafe {
        let has_table = !kept && rb_sys::rb_hash_size_num(env) as usize > WITHOUT_TABLE;
        has_table.then(|| rb_sys::rb_hash_tbl(env, c"iodine".as_ptr(), 0))
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

// From ruby/st.h; the bindings have them as an enum of another type.
const CONTINUE: c_int = 0;
const STOP: c_int = 1;
const REPLACE: c_int = 4;

unsafe extern "C" fn look_at_first(key: st_data_t, value: st_data_t, data: st_data_t) -> c_int {
    // SAFETY: `data` is the `Look` of `upgrade`, which waits for this walk to end.
    let look = unsafe { &mut *(data as *mut Look) };
    look.found = (key as VALUE == look.key).then_some(value as VALUE);
    STOP
}

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
