//! From what the application returned to the bytes of an answer.

use super::body::{self, Parts};
use super::call::{Fault, ids};
use super::send_file;
use super::upgrade::Upgrade;
use iodine_codec::http::{RequestHead, status};
use iodine_codec::http1::{
    BodySize, ChunkedDecoder, Finished, HeaderError, Limits, OpenHead, Piece, RequestFacts, ResponseEncoder,
};
use iodine_codec::websocket::Deflate;
use iodine_core::Request;
use rb_sys::{VALUE, ruby_value_type};
use std::ffi::c_int;

/// An answer as it is being written. Owned outside of anything that may raise.
#[derive(Debug, Default)]
pub struct Draft {
    /// The head, and behind it the body, unless that is large.
    pub head: Vec<u8>,
    /// A large body.
    pub body: Vec<u8>,
    /// A body that stays in the application's own String.
    pub lent: Option<iodine_core::Piece>,
    /// The status.
    pub status: u16,
    /// Bytes of the body that the client gets.
    pub length: u64,
    /// Whether the connection closes behind it.
    pub close: bool,
}

/// What is left to do for an answer whose head is in the draft.
#[derive(Clone, Copy, Debug)]
pub enum Rest {
    /// Nothing: the answer is whole.
    Nothing,
    /// The head is open, and the body is produced by `each`.
    Each(VALUE, OpenHead),
    /// The head is open, and the body is produced by `call` with a stream.
    Call(VALUE, OpenHead),
    /// The head is whole; behind it the socket is for this callable.
    Hijack(VALUE),
    /// The head is whole; behind it the connection is a real-time one.
    Upgrade(Upgrade, Option<Deflate>),
    /// The draft refuses what this upgrade was to be.
    Refused(Upgrade),
}

/// Bodies up to this size go behind the head, into the same memory.
const SMALL_BODY: u64 = 16 * 1024;

/// `[status, headers, body]` in its parts. The GVL is held.
pub fn unpack(answer: VALUE) -> Result<(VALUE, VALUE, VALUE), Fault> {
    if !body::is_type(answer, ruby_value_type::RUBY_T_ARRAY) {
        return Err(Fault::new(format!(
            "the application returned a {}, not an Array",
            body::class_name(answer)
        )));
    }
    // SAFETY: it is an Array; an index past its end gives nil.
    unsafe {
        if rb_sys::RARRAY_LEN(answer) < 3 {
            return Err(Fault::new("the application returned less than status, headers and body"));
        }
        let part = |index| rb_sys::rb_ary_entry(answer, index);
        Ok((part(0), part(1), part(2)))
    }
}

/// An Integer, or what `to_i` makes one of (Rack 2). The GVL is held; may raise what `to_i` raises.
pub fn parse_status(value: VALUE) -> Result<u16, Fault> {
    let number = match rb_sys::FIXNUM_P(value) {
        true => value,
        false => to_integer(value),
    };
    if body::is_type(number, ruby_value_type::RUBY_T_BIGNUM) {
        return Err(Fault::new("a number of that size can not be the status of an answer"));
    }
    if !rb_sys::FIXNUM_P(number) {
        return Err(Fault::new(format!("the status is a {}, not an Integer", body::class_name(value))));
    }
    // SAFETY: it is a Fixnum.
    match unsafe { rb_sys::FIX2LONG(number) } {
        number @ 101..=999 => Ok(number as u16),
        number => Err(Fault::new(format!("{number} can not be the status of an answer"))),
    }
}

fn to_integer(value: VALUE) -> VALUE {
    let nil = rb_sys::Qnil as VALUE;
    if value == nil || !body::responds_to(value, "to_i") {
        return nil;
    }
    // SAFETY: the GVL is held; a live value.
    unsafe { rb_sys::rb_funcallv(value, rb_sys::rb_intern2(c"to_i".as_ptr(), 4), 0, std::ptr::null()) }
}

/// Writes the answer into `draft`, as far as it is there. The GVL is held; may raise.
pub fn write(
    draft: &mut Draft,
    request: &Request,
    (status, headers, app_body): (VALUE, VALUE, VALUE),
) -> Result<Rest, Fault> {
    let facts = request.facts;
    let closing = request.conn.is_ending();
    let hash = header_hash(headers)?;
    draft.status = parse_status(status)?;
    let Draft { head, body: large, lent, status, .. } = draft;
    let mut encoder = ResponseEncoder::new(head, facts, *status);
    let special = write_headers(&mut encoder, hash)?;
    if let Some(callable) = special.callable(app_body, &request.head)? {
        return write_hijacked(draft, facts, hash, special, callable);
    }
    if *status < 200 {
        // RFC 9110 section 15.2: an interim answer is not the last one, so it can not be the application's.
        return Err(Fault::new(format!("{status} can not be the status of an answer")));
    }
    if let Some(named) = special.file {
        let closing = closing || encoder.has_close();
        send_file::write(draft, request, closing, named);
        return Ok(Rest::Nothing);
    }
    let chunked = encoder.has_chunked();
    let file = match chunked || status::forbids_body(*status) {
        true => None,
        false => send_file::of_body(app_body, encoder.declared_length()),
    };
    let no_body = facts.head || status::forbids_body(*status) || *status == 205;
    let date = iodine_core::clock::http_date();
    if no_body {
        // Without running it, only a body of Strings tells what a GET would have had.
        let size = match body::classify(app_body).and_then(body::length) {
            _ if file.is_some() => BodySize::Known(file.as_ref().map_or(0, |(_, length)| *length)),
            Ok(Some(length)) if !chunked => BodySize::Known(length),
            _ => BodySize::UntilClose,
        };
        let finished = encoder.finish(size, &date, closing);
        draft.close = !finished.keep_alive;
        return Ok(Rest::Nothing);
    }
    if let Some((piece, length)) = file {
        let finished = encoder.finish(BodySize::Known(length), &date, closing);
        *lent = Some(piece);
        conclude(draft, finished, length);
        return Ok(Rest::Nothing);
    }
    let parts = body::classify(app_body)?;
    let length = match parts {
        Parts::Each(each) => return Ok(Rest::Each(each, encoder.suspend())),
        Parts::Call(call) => return Ok(Rest::Call(call, encoder.suspend())),
        Parts::Single(_) | Parts::Many(_) => body::length(parts)?.unwrap_or(0),
    };
    if chunked {
        body::append(parts, large);
        finish_chunked(draft, facts, closing, hash)?;
        return Ok(Rest::Nothing);
    }
    let finished = encoder.finish(BodySize::Known(length), &date, closing);
    if let (Parts::Single(string), body::LENT_FROM..) = (parts, length) {
        *lent = Some(body::lend(string).into());
    } else {
        let to = if length <= SMALL_BODY { head } else { large };
        to.reserve(length as usize);
        body::append(parts, to);
    }
    conclude(draft, finished, length);
    Ok(Rest::Nothing)
}

/// An answer behind whose head the application has the socket for itself.
fn write_hijacked(
    draft: &mut Draft,
    facts: RequestFacts,
    headers: VALUE,
    special: Special,
    callable: VALUE,
) -> Result<Rest, Fault> {
    draft.head.clear();
    if special.protocol.is_some() {
        draft.status = 101;
    }
    let facts = RequestFacts { head: false, ..facts };
    let mut encoder = ResponseEncoder::new(&mut draft.head, facts, draft.status);
    if let Some(protocol) = special.protocol {
        let upgrade = encoder.header(b"upgrade", body::bytes(&protocol));
        let named = upgrade.and_then(|()| encoder.header(b"connection", b"upgrade"));
        named.map_err(|_| Fault::new("the value of rack.protocol is no protocol"))?;
    }
    write_headers(&mut encoder, headers)?;
    encoder.finish(BodySize::AsDeclared, &iodine_core::clock::http_date(), true);
    Ok(Rest::Hijack(callable))
}

/// The application says that its body is chunked already, as `Rack::Chunked` makes it. Where that is true the chunks go
/// out as they are; where it is not, or the client does not know chunks, the plain body goes out with its length (F-27).
fn finish_chunked(
    draft: &mut Draft,
    facts: RequestFacts,
    closing: bool,
    headers: VALUE,
) -> Result<(), Fault> {
    let plain = dechunk(&draft.body);
    draft.head.clear();
    let mut encoder = ResponseEncoder::new(&mut draft.head, facts, draft.status);
    write_headers(&mut encoder, headers)?;
    let known = facts.version >= iodine_codec::http::Version::Http11;
    let size = match plain {
        Some(_) if known => BodySize::ChunkedByApp,
        Some(plain) => {
            draft.body = plain;
            BodySize::Known(draft.body.len() as u64)
        }
        None => BodySize::Known(draft.body.len() as u64),
    };
    let finished = encoder.finish(size, &iodine_core::clock::http_date(), closing);
    let length = draft.body.len() as u64;
    conclude(draft, finished, length);
    Ok(())
}

fn conclude(draft: &mut Draft, finished: Finished, length: u64) {
    draft.close = !finished.keep_alive;
    draft.length = length;
    if finished.length_corrected {
        iodine_core::log::message(
            iodine_core::log::Level::Warning,
            &format!("the content-length of an answer was corrected to the {length} bytes of its body"),
        );
    }
}

/// The content of a whole chunked body; `None` when it is not exactly that.
fn dechunk(chunked: &[u8]) -> Option<Vec<u8>> {
    let limits = Limits { body: u64::MAX, ..Limits::default() };
    let mut decoder = ChunkedDecoder::new();
    let mut plain = Vec::new();
    let mut rest = chunked;
    loop {
        let (used, piece) = decoder.decode(rest, &limits).ok()?;
        rest = rest.get(used..)?;
        match piece {
            Piece::Data(data) => plain.extend_from_slice(data),
            Piece::End => return rest.is_empty().then_some(plain),
            Piece::NeedMore => return None,
        }
    }
}

/// Response headers that are for the server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Special {
    /// `rack.hijack`
    hijack: Option<VALUE>,
    /// `rack.protocol`
    protocol: Option<VALUE>,
    /// The file that a header names in place of the body.
    file: Option<send_file::Named>,
}

impl Special {
    /// What is to have the socket, if anything is.
    fn callable(self, app_body: VALUE, head: &RequestHead) -> Result<Option<VALUE>, Fault> {
        if let Some(hijack) = self.hijack {
            return match body::responds_to(hijack, "call") {
                true => Ok(Some(hijack)),
                false => Err(Fault::new("the response header rack.hijack is nothing that can be called")),
            };
        }
        let Some(protocol) = self.protocol else { return Ok(None) };
        let asked = body::is_type(protocol, ruby_value_type::RUBY_T_STRING)
            && head.upgrades().any(|asked| asked.eq_ignore_ascii_case(body::bytes(&protocol)));
        match () {
            () if !asked => Err(Fault::new("the client has not asked for the protocol in rack.protocol")),
            () if !body::responds_to(app_body, "call") => {
                Err(Fault::new("the body of an answer that switches protocols must have call"))
            }
            () => Ok(Some(app_body)),
        }
    }
}

/// The headers as a Hash. The GVL is held; may raise what `to_hash` raises.
pub fn header_hash(headers: VALUE) -> Result<VALUE, Fault> {
    // SAFETY: the GVL is held; gives a Hash or nil.
    let hash = unsafe { rb_sys::rb_check_hash_type(headers) };
    match hash == rb_sys::Qnil as VALUE {
        true => Err(Fault::new(format!("the headers are a {}, not a Hash", body::class_name(headers)))),
        false => Ok(hash),
    }
}

struct Walk<'e, 'b> {
    encoder: &'e mut ResponseEncoder<'b>,
    /// Names in lower case that are the server's to write.
    left_out: &'static [&'static str],
    special: Special,
    fault: Option<Fault>,
}

/// Writes the headers. The GVL is held; may raise.
pub fn write_headers(encoder: &mut ResponseEncoder<'_>, hash: VALUE) -> Result<Special, Fault> {
    write_headers_but(encoder, hash, &[])
}

/// Writes the headers without those of the names given, in lower case. The GVL is held; may raise.
pub fn write_headers_but(
    encoder: &mut ResponseEncoder<'_>,
    hash: VALUE,
    left_out: &'static [&'static str],
) -> Result<Special, Fault> {
    let mut walk = Walk { encoder, left_out, special: Special::default(), fault: None };
    // SAFETY: the GVL is held; the pointer outlives the call.
    unsafe { rb_sys::rb_hash_foreach(hash, Some(write_header), std::ptr::from_mut(&mut walk) as VALUE) };
    walk.fault.map_or(Ok(walk.special), Err)
}

/// Whether a Hash of headers has one of this name, in any case. The GVL is held; may raise.
pub fn has_header(hash: VALUE, name: &'static str) -> bool {
    let mut look = (name, false);
    // SAFETY: the GVL is held; the pointer outlives the call.
    unsafe { rb_sys::rb_hash_foreach(hash, Some(compare_name), std::ptr::from_mut(&mut look) as VALUE) };
    look.1
}

unsafe extern "C" fn compare_name(name: VALUE, value: VALUE, data: VALUE) -> c_int {
    // SAFETY: `data` is what `has_header` looks for, which waits for this walk to end.
    let (wanted, found) = unsafe { &mut *(data as *mut (&'static str, bool)) };
    let nil = rb_sys::Qnil as VALUE;
    if name == nil || value == nil {
        return CONTINUE;
    }
    let name = to_string(name);
    *found = body::bytes(&name).eq_ignore_ascii_case(wanted.as_bytes());
    if *found { STOP } else { CONTINUE }
}

const CONTINUE: c_int = 0;
const STOP: c_int = 1;

unsafe extern "C" fn write_header(name: VALUE, value: VALUE, data: VALUE) -> c_int {
    // SAFETY: `data` is the `Walk` of `write_headers`, which waits for this walk to end.
    let walk = unsafe { &mut *(data as *mut Walk<'_, '_>) };
    match walk.header(name, value) {
        Ok(()) => CONTINUE,
        Err(fault) => {
            walk.fault = Some(fault);
            STOP
        }
    }
}

impl Walk<'_, '_> {
    fn header(&mut self, name: VALUE, value: VALUE) -> Result<(), Fault> {
        let nil = rb_sys::Qnil as VALUE;
        if name == nil || value == nil {
            return Ok(());
        }
        let name = to_string(name);
        let text = body::bytes(&name);
        if text.starts_with(b"rack.") {
            // Names of this kind are for the server, never for the client.
            match text {
                b"rack.hijack" => self.special.hijack = Some(value),
                b"rack.protocol" => self.special.protocol = Some(value),
                _ => {}
            }
            return Ok(());
        }
        if self.left_out.iter().any(|name| name.as_bytes().eq_ignore_ascii_case(text)) {
            return Ok(());
        }
        if let Some(named) = send_file::Named::by(text, value) {
            self.special.file = Some(named);
            return Ok(());
        }
        if !body::is_type(value, ruby_value_type::RUBY_T_ARRAY) {
            return self.line(&name, value);
        }
        let mut index = 0;
        // SAFETY: it is an Array; its length is read anew because `to_s` of an element may change it.
        while index < unsafe { rb_sys::RARRAY_LEN(value) } as i64 {
            // SAFETY: as above; an index past the end gives nil.
            let element = unsafe { rb_sys::rb_ary_entry(value, index) };
            if element != nil {
                self.line(&name, element)?;
            }
            index += 1;
        }
        Ok(())
    }

    fn line(&mut self, name: &VALUE, value: VALUE) -> Result<(), Fault> {
        let value = to_string(value);
        let result = self.encoder.header(body::bytes(name), body::bytes(&value));
        result.map_err(|error| {
            let name = String::from_utf8_lossy(body::bytes(name)).escape_debug().to_string();
            match error {
                HeaderError::Name => Fault::new(format!("the header name \"{name}\" is not allowed")),
                HeaderError::Value => {
                    Fault::new(format!("the value of header \"{name}\" holds a control character"))
                }
            }
        })
    }
}

/// `to_s`, for what is no String. The GVL is held; may raise.
fn to_string(value: VALUE) -> VALUE {
    if body::is_type(value, ruby_value_type::RUBY_T_STRING) {
        return value;
    }
    // SAFETY: the GVL is held; the result is a String or TypeError is raised.
    unsafe {
        let text = rb_sys::rb_funcallv(value, ids().to_s, 0, std::ptr::null());
        rb_sys::rb_convert_type(
            text,
            ruby_value_type::RUBY_T_STRING as c_int,
            c"String".as_ptr(),
            c"to_str".as_ptr(),
        )
    }
}
