//! The env Hash: a copy of a frozen template, plus what the request says. Keys and values as in iodine 0.7, with its
//! faults F-18, F-22 to F-24 and F-28 mended.

use super::finished::Callbacks;
use super::keys::{self, Key};
use super::places::{self, Layout, Places, Shape};
use super::upgrade;
use iodine_codec::http::{Authority, Forwarded, RequestHead, Scheme, Version};
use iodine_core::Request;
use magnus::rb_sys::AsRawValue;
use magnus::value::ReprValue;
use magnus::{Error, Ruby};
use rb_sys::VALUE;
use std::ffi::c_long;
use std::io::Write;
use std::net::IpAddr;
use std::sync::OnceLock;

/// Values made once. All are pinned, because the collector is told of each.
struct Constants {
    template: VALUE,
    layout: Layout,
    server_protocol: VALUE,
    http_version: VALUE,
    http10: VALUE,
    server_name: VALUE,
    server_port: VALUE,
    url_scheme: VALUE,
    https: VALUE,
    content_length: VALUE,
    upgrade_asked: VALUE,
    early_hints: VALUE,
    protocol: VALUE,
    other_methods: [(&'static str, VALUE); 6],
}

static CONSTANTS: OnceLock<Constants> = OnceLock::new();

/// Header numbers that can be recognised as repeated without looking into the Hash.
const NUMBERS: usize = 1024;

/// Makes the template and the keys. The GVL is held.
pub fn init(ruby: &Ruby) -> Result<(), Error> {
    let template = ruby.hash_new();
    let script_name = std::env::var("SCRIPT_NAME").ok().filter(|name| name != "/").unwrap_or_default();
    let set = |key: &str, value: VALUE| {
        // SAFETY: the GVL is held; both are live values.
        unsafe { rb_sys::rb_hash_aset(template.as_raw(), keys::constant(key), value) };
    };
    let [nil, yes, no] = [rb_sys::Qnil, rb_sys::Qtrue, rb_sys::Qfalse].map(|special| special as VALUE);
    let layout = Layout::new();
    layout.lay_out(template.as_raw());
    let version = ruby.ary_from_iter([1, 3]);
    version.freeze();
    set("rack.upgrade?", nil);
    set("rack.version", version.as_raw());
    set("SCRIPT_NAME", keys::constant(&script_name));
    // SAFETY: the GVL is held; Ruby has set up its standard streams long ago.
    set("rack.errors", unsafe { rb_sys::rb_stderr });
    set("rack.hijack?", yes);
    set("rack.multiprocess", yes);
    set("rack.multithread", yes);
    set("rack.run_once", no);
    set("rack.url_scheme", keys::constant("http"));
    set("HTTP_VERSION", keys::constant("HTTP/1.1"));
    set("SERVER_PROTOCOL", keys::constant("HTTP/1.1"));
    set("SERVER_NAME", keys::constant("localhost"));
    set("SERVER_PORT", keys::constant("80"));
    freeze_for_ever(template.as_raw());
    let methods = ["HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];
    let _ = CONSTANTS.set(Constants {
        template: template.as_raw(),
        layout,
        server_protocol: keys::constant("SERVER_PROTOCOL"),
        http_version: keys::constant("HTTP_VERSION"),
        http10: keys::constant("HTTP/1.0"),
        server_name: keys::constant("SERVER_NAME"),
        server_port: keys::constant("SERVER_PORT"),
        url_scheme: keys::constant("rack.url_scheme"),
        https: keys::constant("https"),
        content_length: keys::constant("CONTENT_LENGTH"),
        upgrade_asked: keys::constant("rack.upgrade?"),
        early_hints: keys::constant("rack.early_hints"),
        protocol: keys::constant("rack.protocol"),
        other_methods: methods.map(|method| (method, keys::constant(method))),
    });
    Ok(())
}

fn freeze_for_ever(hash: VALUE) {
    // SAFETY: the GVL is held.
    unsafe {
        rb_sys::rb_obj_freeze(hash);
        rb_sys::rb_gc_register_mark_object(hash);
    }
}

/// What an env is made of beyond its request.
pub struct Parts {
    /// Bytes of the body.
    pub length: u64,
    /// `rack.input`; nil without a body.
    pub input: VALUE,
    /// `rack.hijack`
    pub hijack: VALUE,
    /// `rack.early_hints`; nil where they are not wanted.
    pub early_hints: VALUE,
}

/// An env, with the lists in it of what is to be called afterwards.
pub struct Built {
    /// The env, and the lists.
    pub callbacks: Callbacks,
    shape: Option<Shape>,
    /// Whether it may live as long as its connection, as the request may end in an upgrade.
    kept: bool,
}

/// The env of a request. The GVL is held; may raise NoMemoryError.
///
/// Stores into a Hash are what an env costs. So what many requests share (the method and version, the server's name and
/// port for each `Host`) comes with the template, as frozen Strings.
pub fn build(request: &Request, parts: &Parts) -> Built {
    let Some(constants) = CONSTANTS.get() else {
        return Built { callbacks: Callbacks::none(), shape: None, kept: true };
    };
    let head = &request.head;
    let host = head.host();
    let template = host.and_then(|host| templates::find(constants, host));
    // SAFETY: the GVL is held.
    let env = Env(unsafe { rb_sys::rb_hash_dup(template.unwrap_or(constants.template)) });
    if head.version() == Version::Http10 {
        env.set(constants.server_protocol, constants.http10);
        env.set(constants.http_version, constants.http10);
    }
    if parts.early_hints != rb_sys::Qnil as VALUE {
        env.set(constants.early_hints, parts.early_hints);
    }
    super::send_file::announce(env.0, head);
    let headers = env.set_headers(head);
    if headers.underscored && request.conn.service().http.underscore_headers {
        env.set_underscored(head);
    }
    let forwarded = request.conn.forwarded(head);
    let client = forwarded.as_ref().and_then(|told| told.client);
    let https = forwarded.is_some_and(|forwarded| forwarded.scheme == Some(Scheme::Https));
    if https {
        env.set(constants.url_scheme, constants.https);
    }
    let told = forwarded.filter(|told| https || told.host.is_some() || told.port.is_some());
    if told.is_some() || template.is_none() {
        env.set_server(constants, request, host, &told.unwrap_or_default());
    }
    if headers.chunked {
        let mut digits = [0; 20];
        env.set(constants.content_length, string(decimal(parts.length, &mut digits)));
    }
    if headers.upgrade {
        env.set_protocols(constants, head);
    }
    let kept = headers.upgrade || headers.events;
    if kept {
        if let Some(asked) = upgrade::asked(head) {
            env.set(constants.upgrade_asked, asked);
        }
    }
    let places = fill_in(constants, request, parts, client);
    let mut shape = constants.layout.fill(env.0, places, kept);
    if host.is_none() {
        // SAFETY: the GVL is held.
        unsafe { rb_sys::rb_hash_delete(env.0, constants.layout.keys().http_host) };
        shape = places::shape(env.0, kept);
    }
    let Places { response_finished, after_reply, .. } = places;
    let callbacks =
        Callbacks { finished: response_finished, after: after_reply, env: env.0, ..Callbacks::none() };
    Built { callbacks, shape, kept }
}

/// What the application has left in its env: `rack.upgrade`, and whether nothing was added. The GVL is held; may raise.
pub fn look(built: &Built) -> (VALUE, bool) {
    let Some(constants) = CONSTANTS.get() else { return (rb_sys::Qnil as VALUE, false) };
    let (shape, upgrade) = constants.layout.look(built.callbacks.env, built.kept);
    (upgrade, shape.is_some() && shape == built.shape)
}

/// What differs from request to request. `client` is whom trusted proxies name. The GVL is held; may raise NoMemoryError.
fn fill_in(constants: &Constants, request: &Request, parts: &Parts, client: Option<IpAddr>) -> Places<VALUE> {
    let head = &request.head;
    let nil = rb_sys::Qnil as VALUE;
    // SAFETY: the GVL is held.
    let [response_finished, after_reply] = std::array::from_fn(|_| unsafe { rb_sys::rb_ary_new() });
    let mut places = Places {
        path_info: string(head.path()),
        remote_addr: client.map_or_else(|| string(request.conn.peer_text().as_bytes()), address),
        hijack: parts.hijack,
        response_finished,
        after_reply,
        ..constants.layout.usual()
    };
    if let Some(host) = head.host() {
        places.http_host = string(host);
    }
    if !head.query().is_empty() {
        places.query_string = string(head.query());
    }
    if head.method() != b"GET" {
        places.request_method = method(constants, head.method());
    }
    if parts.input != nil {
        places.input = parts.input;
    }
    places
}

fn method(constants: &Constants, method: &[u8]) -> VALUE {
    let known = constants.other_methods.iter().find(|(name, _)| name.as_bytes() == method);
    known.map_or_else(|| string(method), |(_, value)| *value)
}

/// The text of an address: in one that names somebody else than the peer. The GVL is held; may raise NoMemoryError.
fn address(client: IpAddr) -> VALUE {
    // On the stack: a String would leak if Ruby is out of memory.
    let mut text = [0; 64];
    let mut rest = &mut text[..];
    let written = write!(rest, "{client}");
    debug_assert!(written.is_ok(), "an address has 45 bytes at most");
    let left = rest.len();
    string(&text[..text.len() - left])
}

/// What the headers said beyond their entries.
#[derive(Default)]
struct Seen {
    /// There are names with an underscore among them, which have no entry.
    underscored: bool,
    /// The body came in chunks, so that its length is for us to tell.
    chunked: bool,
    /// The client may wish to speak something else.
    upgrade: bool,
    /// The client may wish for server-sent events.
    events: bool,
}

#[derive(Clone, Copy)]
struct Env(VALUE);

impl Env {
    fn set(self, key: VALUE, value: VALUE) {
        // SAFETY: the GVL is held; all three are live values.
        unsafe { rb_sys::rb_hash_aset(self.0, key, value) };
    }

    /// Repeated headers become one value (RFC 9110 section 5.3; F-23).
    fn set_headers(self, head: &RequestHead) -> Seen {
        let mut seen = [0u64; NUMBERS / 64];
        let mut headers = Seen::default();
        for (name, value) in head.headers() {
            let (key, first) = match keys::find(name) {
                Key::Dropped => {
                    headers.underscored |= keys::is_underscored(name);
                    continue;
                }
                Key::Entry { key, number } => {
                    let (word, bit) = (number / 64, 1 << (number % 64));
                    let first = seen.get(word).is_some_and(|bits| bits & bit == 0);
                    if let Some(bits) = seen.get_mut(word) {
                        *bits |= bit;
                    }
                    (key, first)
                }
                Key::Unknown => {
                    let key = keys::make(name);
                    // SAFETY: the GVL is held.
                    let known = unsafe { rb_sys::rb_hash_lookup(self.0, key) };
                    (key, known == rb_sys::Qnil as VALUE)
                }
            };
            match name.len() {
                // Its value may come from the request line instead.
                4 if name.eq_ignore_ascii_case(b"host") => continue,
                6 if name.eq_ignore_ascii_case(b"accept") => headers.events |= has_event_stream(value),
                7 if name.eq_ignore_ascii_case(b"upgrade") => headers.upgrade = true,
                17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                    headers.chunked = true;
                    continue;
                }
                _ => {}
            }
            match first {
                true => self.set(key, string(value)),
                false => self.join(key, name, value),
            }
        }
        headers
    }

    /// Entries for names with an underscore: none for those that would pass for something else (F-18).
    fn set_underscored(self, head: &RequestHead) {
        for (name, value) in head.headers() {
            if !keys::is_underscored(name) || keys::is_guarded(name) {
                continue;
            }
            let same = || head.headers().filter(|(other, _)| keys::is_same(name, other));
            if same().any(|(other, _)| !keys::is_underscored(other)) {
                continue;
            }
            let key = keys::make(name);
            // SAFETY: the GVL is held.
            match unsafe { rb_sys::rb_hash_lookup(self.0, key) } == rb_sys::Qnil as VALUE {
                true => self.set(key, string(value)),
                false => self.join(key, name, value),
            }
        }
    }

    fn join(self, key: VALUE, name: &[u8], value: &[u8]) {
        let separator: &[u8] = if name.eq_ignore_ascii_case(b"cookie") { b"; " } else { b", " };
        // SAFETY: the GVL is held; the value found is a String that `set_headers` made.
        unsafe {
            let joined = rb_sys::rb_hash_lookup(self.0, key);
            rb_sys::rb_str_cat(joined, separator.as_ptr().cast(), separator.len() as c_long);
            rb_sys::rb_str_cat(joined, value.as_ptr().cast(), value.len() as c_long);
        }
    }

    /// `rack.protocol`: what the client would switch to (Rack 3).
    fn set_protocols(self, constants: &Constants, head: &RequestHead) {
        // SAFETY: the GVL is held.
        unsafe {
            let protocols = rb_sys::rb_ary_new();
            for protocol in head.upgrades() {
                rb_sys::rb_ary_push(protocols, string(protocol));
            }
            if rb_sys::RARRAY_LEN(protocols) > 0 {
                self.set(constants.protocol, protocols);
            }
        }
    }

    /// SERVER_NAME and SERVER_PORT: what trusted proxies say, else `Host`, else what is usual for the scheme.
    fn set_server(
        self,
        constants: &Constants,
        request: &Request,
        host: Option<&[u8]>,
        forwarded: &Forwarded<'_>,
    ) {
        let mut digits = [0; 20];
        let https = forwarded.scheme == Some(Scheme::Https);
        let usual: &[u8] = if https { b"443" } else { b"80" };
        let authority = forwarded.host.or_else(|| host.and_then(Authority::parse));
        let name = authority.map_or(&b"localhost"[..], |authority| authority.host);
        let named = authority.and_then(|authority| authority.port);
        let port = match (named, forwarded.port) {
            // A proxy names the port that the client came to; the one in `Host` may be its own choice. But the one in
            // the host that it names is the client's own.
            (Some(named), None) => named,
            (Some(named), _) if forwarded.host.is_some() => named,
            (_, Some(port)) => decimal(u64::from(port), &mut digits),
            // HTTP/1.0 may come without a host: the port that it came to is known.
            (None, None) => match request.conn.service().port.filter(|_| authority.is_none() && !https) {
                Some(port) => decimal(u64::from(port), &mut digits),
                None => usual,
            },
        };
        self.set(constants.server_name, string(name));
        self.set(constants.server_port, string(port));
    }
}

/// Whether server-sent events may be meant. Media types are matched without regard to case, and browsers write them as here:
/// whoever does not is asked again, exactly.
fn has_event_stream(value: &[u8]) -> bool {
    value.windows(12).any(|part| part.eq_ignore_ascii_case(b"event-stream"))
}

/// A fresh binary String. The GVL is held; may raise NoMemoryError.
fn string(bytes: &[u8]) -> VALUE {
    // SAFETY: the GVL is held; Ruby copies the bytes.
    unsafe { rb_sys::rb_str_new(bytes.as_ptr().cast(), bytes.len() as c_long) }
}

/// Templates for each `Host` seen, up to a bound, with its SERVER_NAME and SERVER_PORT.
mod templates {
    use super::{Constants, Env, freeze_for_ever, string};
    use iodine_codec::http::Authority;
    use rb_sys::VALUE;
    use std::cell::UnsafeCell;

    /// Hosts beyond these get no template: a client can make up as many as it likes.
    const HOSTS: usize = 32;
    const HOST_LENGTH: usize = 128;

    struct Known(UnsafeCell<Vec<(Box<[u8]>, VALUE)>>);

    // SAFETY: only touched with the GVL held.
    unsafe impl Sync for Known {}

    static KNOWN: Known = Known(UnsafeCell::new(Vec::new()));

    /// The template for requests to `host`. The GVL is held; may raise NoMemoryError.
    pub(super) fn find(constants: &Constants, host: &[u8]) -> Option<VALUE> {
        // SAFETY: the GVL is held; the borrow ends with the look-up.
        let (found, count) = unsafe {
            let known = &*KNOWN.0.get();
            (known.iter().find(|(name, _)| **name == *host).map(|(_, template)| *template), known.len())
        };
        match found {
            Some(template) => Some(template),
            None if count >= HOSTS || host.len() > HOST_LENGTH => None,
            None => learn(constants, host),
        }
    }

    fn learn(constants: &Constants, host: &[u8]) -> Option<VALUE> {
        let authority = Authority::parse(host)?;
        // SAFETY: the GVL is held.
        let env = Env(unsafe { rb_sys::rb_hash_dup(constants.template) });
        // SAFETY: the GVL is held; the strings are fresh.
        let frozen = |bytes| unsafe { rb_sys::rb_obj_freeze(string(bytes)) };
        env.set(constants.server_name, frozen(authority.host));
        env.set(constants.server_port, frozen(authority.port.unwrap_or(b"80")));
        freeze_for_ever(env.0);
        // SAFETY: the GVL is held and nothing below calls Ruby.
        unsafe { (*KNOWN.0.get()).push((host.into(), env.0)) };
        Some(env.0)
    }
}

fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}
