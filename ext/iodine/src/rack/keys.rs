//! From header names to env keys: `user-agent` is `HTTP_USER_AGENT`.
//!
//! Keys of usual headers are made once and frozen. Others are kept as they appear, up to a bound, because clients could
//! make up names without end.

use rb_sys::VALUE;
use std::cell::UnsafeCell;
use std::ffi::c_long;

/// What a header is to the env.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// An entry under this key. Headers with a small number are recognised when they repeat without a look-up.
    Entry { key: VALUE, number: usize },
    /// A name that is kept nowhere: make a key for it.
    Unknown,
    /// Never in the env.
    Dropped,
}

/// Names of headers that clients and proxies commonly send (the Content-* pair has keys without HTTP_).
const USUAL: &[&str] = &[
    "host",
    "connection",
    "user-agent",
    "accept",
    "accept-encoding",
    "accept-language",
    "accept-charset",
    "cookie",
    "referer",
    "origin",
    "cache-control",
    "pragma",
    "authorization",
    "content-type",
    "content-length",
    "content-encoding",
    "content-language",
    "content-disposition",
    "content-range",
    "date",
    "dnt",
    "expect",
    "forwarded",
    "from",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "last-event-id",
    "max-forwards",
    "prefer",
    "priority",
    "proxy-authorization",
    "range",
    "save-data",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "upgrade-insecure-requests",
    "via",
    "warning",
    "early-data",
    "access-control-request-headers",
    "access-control-request-method",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "sec-ch-ua-arch",
    "sec-ch-ua-model",
    "sec-ch-ua-full-version-list",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "sec-gpc",
    "sec-purpose",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "x-csrf-token",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-ssl",
    "x-http-method-override",
    "x-real-ip",
    "x-client-ip",
    "x-request-id",
    "x-request-start",
    "x-queue-start",
    "x-correlation-id",
    "x-requested-with",
    "x-original-url",
    "x-amzn-trace-id",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-sampled",
    "x-cloud-trace-context",
    "x-varnish",
    "x-accel-mapping",
    "x-sendfile",
    "traceparent",
    "tracestate",
    "baggage",
    "cf-connecting-ip",
    "cf-ipcountry",
    "cf-ray",
    "cf-visitor",
    "cdn-loop",
    "fastly-client-ip",
    "true-client-ip",
    "turbo-frame",
    "x-turbo-request-id",
    "hx-request",
    "hx-target",
    "idempotency-key",
    "if-schedule-tag-match",
    "depth",
    "destination",
    "api-key",
    "x-api-key",
    "x-auth-token",
];

/// Names that must not reach the env: they would pass for what the server says (F-18), or for the environment variable
/// of a proxy (CVE-2016-5385).
const DROPPED: &[&str] = &["proxy", "version", "x-sendfile-type"];

/// Names that a proxy speaks by, or that the server goes by: with underscores in them they are never meant well.
const GUARDED: &[&str] = &[
    "content-length",
    "content-type",
    "transfer-encoding",
    "x-accel-mapping",
    "x-client-ip",
    "x-original-url",
    "x-real-ip",
    "x-sendfile-type",
    "cf-connecting-ip",
    "fastly-client-ip",
    "true-client-ip",
];

/// Slots of the table, a power of two and well above what it holds at most.
const SLOTS: usize = 2048;
/// Names beyond the usual ones that are kept, and their longest.
const LEARNED: usize = 512;
const LEARNED_LENGTH: usize = 64;

struct Entry {
    name: Box<[u8]>,
    key: Key,
}

struct Table {
    slots: Vec<Option<Entry>>,
    known: usize,
}

struct Guarded(UnsafeCell<Table>);

// SAFETY: only touched with the GVL held.
unsafe impl Sync for Guarded {}

static TABLE: Guarded = Guarded(UnsafeCell::new(Table { slots: Vec::new(), known: 0 }));

/// Makes the keys of the usual headers. The GVL is held.
pub fn init() {
    // SAFETY: called once, with the GVL. Allocating in Ruby can not come back here.
    let table = unsafe { &mut *TABLE.0.get() };
    table.slots.resize_with(SLOTS, || None);
    for name in USUAL {
        table.learn(name.as_bytes());
    }
    for name in DROPPED {
        table.place(name.as_bytes(), Key::Dropped);
    }
}

/// What the header `name` is to the env. The GVL is held; may raise NoMemoryError.
pub fn find(name: &[u8]) -> Key {
    // SAFETY: the GVL is held; no Ruby code runs while the table is borrowed.
    let table = unsafe { &mut *TABLE.0.get() };
    if let Some(key) = table.get(name) {
        return key;
    }
    // `X_A` and `X-A` would be one key: a client could shadow what a proxy says (F-18).
    if name.contains(&b'_') {
        return Key::Dropped;
    }
    if table.known >= USUAL.len() + LEARNED || name.len() > LEARNED_LENGTH {
        return Key::Unknown;
    }
    table.learn(name)
}

/// Whether `name` has an underscore in it: such a header is [`Key::Dropped`], but a listener may want it regardless.
pub fn is_underscored(name: &[u8]) -> bool {
    name.contains(&b'_')
}

/// Whether two names have the same key.
pub fn is_same(name: &[u8], other: &[u8]) -> bool {
    name.len() == other.len() && name.iter().zip(other).all(|(a, b)| key_byte(*a) == key_byte(*b))
}

/// Whether an underscored name is kept from the env even where others are not.
pub fn is_guarded(name: &[u8]) -> bool {
    const FORWARDED: &[u8] = b"x-forwarded-";
    let forwarded = name.get(..FORWARDED.len()).is_some_and(|start| is_same(start, FORWARDED));
    forwarded || GUARDED.iter().any(|guarded| is_same(name, guarded.as_bytes()))
}

/// A frozen key for a name that is not kept. The GVL is held; may raise NoMemoryError.
pub fn make(name: &[u8]) -> VALUE {
    let mut text = [0; 5 + LEARNED_LENGTH];
    let prefix: &[u8] = match name {
        _ if name.eq_ignore_ascii_case(b"content-type") || name.eq_ignore_ascii_case(b"content-length") => {
            b""
        }
        _ => b"HTTP_",
    };
    let length = prefix.len() + name.len();
    if length > text.len() {
        return frozen_string(prefix, name);
    }
    text[..prefix.len()].copy_from_slice(prefix);
    for (to, from) in text[prefix.len()..].iter_mut().zip(name) {
        *to = key_byte(*from);
    }
    frozen(&text[..length])
}

/// A frozen binary string that stays for ever, for constants. The GVL is held.
pub fn constant(text: &str) -> VALUE {
    let value = frozen(text.as_bytes());
    // SAFETY: the GVL is held.
    unsafe { rb_sys::rb_gc_register_mark_object(value) };
    value
}

/// `name` is longer than any buffer here: builds the key inside Ruby's own string.
fn frozen_string(prefix: &[u8], name: &[u8]) -> VALUE {
    // SAFETY: the GVL is held; the string is fresh, unshared, and as long as the bytes written to it.
    unsafe {
        let value = rb_sys::rb_str_new(std::ptr::null(), (prefix.len() + name.len()) as c_long);
        let start = rb_sys::RSTRING_PTR(value).cast_mut().cast::<u8>();
        let text = std::slice::from_raw_parts_mut(start, prefix.len() + name.len());
        text[..prefix.len()].copy_from_slice(prefix);
        for (to, from) in text[prefix.len()..].iter_mut().zip(name) {
            *to = key_byte(*from);
        }
        rb_sys::rb_obj_freeze(value)
    }
}

fn frozen(text: &[u8]) -> VALUE {
    // SAFETY: the GVL is held; Ruby copies the bytes. Interned, so that the hashes of a frozen key are compared by
    // identity first.
    unsafe {
        let value = rb_sys::rb_str_new(text.as_ptr().cast(), text.len() as c_long);
        rb_sys::rb_str_to_interned_str(value)
    }
}

fn key_byte(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte.to_ascii_uppercase() }
}

impl Table {
    fn get(&self, name: &[u8]) -> Option<Key> {
        let mut at = hash(name);
        loop {
            match &self.slots[at % SLOTS] {
                None => return None,
                Some(entry) if entry.name.eq_ignore_ascii_case(name) => return Some(entry.key),
                Some(_) => at += 1,
            }
        }
    }

    fn learn(&mut self, name: &[u8]) -> Key {
        let value = make(name);
        // For ever: names are not unlearned. A root is pinned, so the value stays where it is.
        crate::roots::add(value);
        let key = Key::Entry { key: value, number: self.known };
        self.known += 1;
        self.place(name, key);
        key
    }

    fn place(&mut self, name: &[u8], key: Key) {
        let mut at = hash(name);
        while self.slots[at % SLOTS].is_some() {
            at += 1;
        }
        self.slots[at % SLOTS] = Some(Entry { name: name.into(), key });
    }
}

/// FNV-1a over the letters regardless of case.
fn hash(name: &[u8]) -> usize {
    let hash = name
        .iter()
        .fold(0xcbf2_9ce4_u32, |hash, byte| (hash ^ u32::from(byte | 0x20)).wrapping_mul(0x0100_0193));
    (hash ^ (hash >> 15)) as usize
}
