//! `rack.upgrade` and `upgrade.tcp`: an application leaves HTTP by putting a handler into its env. This file writes the answer
//! that does so, and makes the connection a real-time one.

use super::call::Fault;
use super::env;
use super::response::{self, Draft, Rest};
use crate::realtime;
use crate::roots;
use iodine_codec::http1::{BodySize, RequestFacts, ResponseEncoder};
use iodine_codec::websocket::{Deflate, Role};
use iodine_codec::{sse, websocket};
use iodine_core::Request;
use iodine_core::clock::http_date;
use iodine_core::realtime::{Handler, Protocol, Upgrade as Switch};
use magnus::Ruby;
use magnus::rb_sys::AsRawValue;
use rb_sys::VALUE;
use std::time::Duration;

/// What the application wants its connection to become.
#[derive(Clone, Copy, Debug)]
pub struct Upgrade {
    /// Whose callbacks are to be called.
    handler: VALUE,
    protocol: Protocol,
}

/// Values made once, for the env and for a look into it.
pub mod names {
    use super::super::keys;
    use rb_sys::VALUE;
    use std::sync::OnceLock;

    /// Keys and values that are about upgrades.
    pub struct Names {
        /// `upgrade.tcp`
        pub tcp: VALUE,
        /// `:websocket`
        pub websocket: VALUE,
        /// `:sse`
        pub sse: VALUE,
    }

    static NAMES: OnceLock<Names> = OnceLock::new();

    /// Makes them. The GVL is held.
    pub fn init() {
        // SAFETY: the GVL is held; these Symbols are never collected.
        let symbol = |name: &std::ffi::CStr| unsafe { rb_sys::rb_id2sym(rb_sys::rb_intern(name.as_ptr())) };
        let _ = NAMES.set(Names {
            tcp: keys::constant("upgrade.tcp"),
            websocket: symbol(c"websocket"),
            sse: symbol(c"sse"),
        });
    }

    /// They, once there.
    pub fn all() -> Option<&'static Names> {
        NAMES.get()
    }
}

/// What a request asks for, as `rack.upgrade?` tells: nil for plain HTTP. The GVL is held.
pub fn asked(head: &iodine_codec::http::RequestHead) -> Option<VALUE> {
    let names = names::all()?;
    match protocol_asked(head)? {
        Protocol::WebSocket => Some(names.websocket),
        Protocol::Sse => Some(names.sse),
        Protocol::Raw => None,
    }
}

fn protocol_asked(head: &iodine_codec::http::RequestHead) -> Option<Protocol> {
    match () {
        () if websocket::is_asked_for(head) => Some(Protocol::WebSocket),
        () if sse::is_asked_for(head) => Some(Protocol::Sse),
        () => None,
    }
}

/// What the application has left in its env, if its status lets it count: below 300. The GVL is held; may raise.
///
/// Every request pays for the look, so it looks no farther than it has to.
pub fn wanted(request: &Request, built: &env::Built, status: VALUE) -> Option<Upgrade> {
    let names = names::all()?;
    let nil = rb_sys::Qnil as VALUE;
    let (upgrade, unchanged) = env::look(built);
    let tcp = match unchanged {
        true => nil,
        // SAFETY: the GVL is held; the env is a Hash.
        false => unsafe { rb_sys::rb_hash_lookup(built.callbacks.env, names.tcp) },
    };
    if tcp == nil && upgrade == nil {
        return None;
    }
    if rb_sys::FIXNUM_P(status) {
        // SAFETY: it is a Fixnum.
        let number = unsafe { rb_sys::FIX2LONG(status) };
        if number >= 300 {
            return None;
        }
    } else if response::parse_status(status).map_or(true, |status| status >= 300) {
        return None;
    }
    Some(match tcp == nil {
        false => Upgrade { handler: tcp, protocol: Protocol::Raw },
        true => {
            Upgrade { handler: upgrade, protocol: protocol_asked(&request.head).unwrap_or(Protocol::Raw) }
        }
    })
}

impl Upgrade {
    /// Whose callbacks are to be called.
    pub fn handler(self) -> VALUE {
        self.handler
    }

    /// Writes the head of the answer, or a refusal. The GVL is held; may raise.
    pub fn write(
        self,
        draft: &mut Draft,
        request: &Request,
        headers: VALUE,
        status: VALUE,
    ) -> Result<Rest, Fault> {
        let headers = response::header_hash(headers)?;
        match self.protocol {
            Protocol::WebSocket => return self.write_websocket(draft, request, headers),
            Protocol::Sse => write_sse(draft, request, headers)?,
            Protocol::Raw => write_raw(draft, request, headers, status)?,
        }
        Ok(Rest::Upgrade(self, None))
    }

    /// Makes the application's object for the connection, and what the connection is to become. The GVL is held; may raise.
    pub fn begin(self, ruby: &Ruby, request: &Request, env: VALUE, deflate: Option<Deflate>) -> Switch {
        let env = if self.protocol == Protocol::Raw { rb_sys::Qnil as VALUE } else { env };
        let object = realtime::new(ruby, &request.conn, self.handler, env);
        let service = request.conn.service();
        let timeout = match self.protocol {
            Protocol::WebSocket | Protocol::Sse => service.realtime.ping,
            // As long as it might have stayed idle before.
            Protocol::Raw => Duration::from_secs(service.http.keep_alive.as_secs()),
        };
        Switch {
            protocol: self.protocol,
            role: Role::Server,
            handler: Handler::Object(roots::add(object.as_raw())),
            wants: object.callbacks().wants(),
            timeout,
            deflate,
        }
    }

    fn write_websocket(self, draft: &mut Draft, request: &Request, headers: VALUE) -> Result<Rest, Fault> {
        let deflate = request.conn.service().realtime.deflate.as_ref();
        let judge = || websocket::accept(&request.head, deflate);
        // It owns memory, so it is let go of while headers are written, which may raise.
        if let Some(refusal) = judge().err() {
            refuse(draft, request, headers, refusal)?;
            return Ok(Rest::Refused(self));
        }
        draft.head.clear();
        draft.status = 101;
        let facts = RequestFacts { head: false, ..request.facts };
        let mut encoder = ResponseEncoder::new(&mut draft.head, facts, 101);
        response::write_headers_but(
            &mut encoder,
            headers,
            &["upgrade", "connection", "content-type", "sec-websocket-accept", "sec-websocket-extensions"],
        )?;
        let Ok(accepted) = judge() else { return Err(Fault::new("a handshake was judged in two ways")) };
        let extensions = accepted.extensions().unwrap_or_default();
        let lines = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-accept", &accepted.accept_key),
            ("sec-websocket-extensions", &extensions),
        ];
        write_lines(&mut encoder, lines.into_iter().filter(|(_, value)| !value.is_empty()));
        encoder.finish(BodySize::UntilClose, &http_date(), false);
        Ok(Rest::Upgrade(self, accepted.deflate))
    }
}

/// Headers of the server's own.
fn write_lines<'l>(encoder: &mut ResponseEncoder<'_>, lines: impl IntoIterator<Item = (&'l str, &'l str)>) {
    for (name, value) in lines {
        let written = encoder.header(name.as_bytes(), value.as_bytes());
        debug_assert!(written.is_ok(), "lines of our own are well formed");
    }
}

/// RFC 6455 section 4.4 names the version that would have been accepted.
fn refuse(
    draft: &mut Draft,
    request: &Request,
    headers: VALUE,
    refusal: websocket::Refusal,
) -> Result<(), Fault> {
    draft.head.clear();
    draft.status = refusal.status();
    let mut encoder = ResponseEncoder::new(&mut draft.head, request.facts, refusal.status());
    response::write_headers_but(
        &mut encoder,
        headers,
        &["content-type", "content-length", "transfer-encoding"],
    )?;
    let text = format!("{}\n", refusal.reason());
    write_lines(
        &mut encoder,
        [("content-type", "text/plain"), ("sec-websocket-version", websocket::VERSION)],
    );
    let finished = encoder.finish(BodySize::Known(text.len() as u64), &http_date(), true);
    draft.close = !finished.keep_alive;
    draft.length = text.len() as u64;
    draft.body = text.into_bytes();
    Ok(())
}

fn write_sse(draft: &mut Draft, request: &Request, headers: VALUE) -> Result<(), Fault> {
    draft.head.clear();
    draft.status = 200;
    let mut encoder = ResponseEncoder::new(&mut draft.head, request.facts, 200);
    response::write_headers_but(
        &mut encoder,
        headers,
        &["content-type", "content-length", "transfer-encoding", "content-encoding", "x-accel-buffering"],
    )?;
    if !response::has_header(headers, "cache-control") {
        write_lines(&mut encoder, [("cache-control", "no-cache, max-age=0")]);
    }
    let lines = [
        ("content-type", sse::MEDIA_TYPE),
        // Proxies that would wait for the end of the answer are asked not to.
        ("x-accel-buffering", "no"),
    ];
    write_lines(&mut encoder, lines);
    encoder.finish(BodySize::UntilClose, &http_date(), true);
    Ok(())
}

/// The application's own protocol: its head is the answer. A status that is none becomes the one that fits.
fn write_raw(draft: &mut Draft, request: &Request, headers: VALUE, status: VALUE) -> Result<(), Fault> {
    draft.head.clear();
    let asked = request.head.upgrades().next().is_some();
    draft.status = match response::parse_status(status) {
        Ok(status) => status,
        Err(_) if asked => 101,
        Err(_) => 200,
    };
    let facts = RequestFacts { head: false, keep_alive: true, ..request.facts };
    let mut encoder = ResponseEncoder::new(&mut draft.head, facts, draft.status);
    response::write_headers_but(&mut encoder, headers, &["connection"])?;
    if draft.status == 101 {
        write_lines(&mut encoder, [("connection", "Upgrade")]);
    }
    encoder.finish(BodySize::Known(0), &http_date(), false);
    Ok(())
}
