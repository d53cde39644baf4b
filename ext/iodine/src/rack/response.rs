//! From what the application returned to the bytes of an answer.

use super::body::{self, Parts};
use super::call::{Fault, ids};
use super::send_file;
use iodine_codec::http::status;
use iodine_codec::http1::{
    BodySize, ChunkedDecoder, Finished, HeaderError, Limits, Piece, RequestFacts, ResponseEncoder,
};
use iodine_core::Request;
use rb_sys::{VALUE, ruby_value_type};
use std::ffi::c_int;

/// An answer as it is being written. Owned outside of anything that may raise.
#[derive(Debug, Default)]
pub struct Draft {
    /// The head, and behind it the body, unless that is large.
    pub head: Vec<u8>,
    /// A large body, or what `each` yielded.
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

/// An Integer, or a String that begins with one. The GVL is held.
pub fn parse_status(value: VALUE) -> Result<u16, Fault> {
    let number = if rb_sys::FIXNUM_P(value) {
        // SAFETY: it is a Fixnum.
        Some(unsafe { rb_sys::FIX2LONG(value) })
    } else if body::is_type(value, ruby_value_type::RUBY_T_STRING) {
        let digits = body::bytes(&value).iter().take_while(|byte| byte.is_ascii_digit());
        Some(digits.take(4).fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
    } else {
        None
    };
    match number {
        Some(number @ 200..=999) => Ok(number as u16),
        // RFC 9110 section 15.2: an interim answer is not the last one, so it can not be the application's.
        Some(number) => Err(Fault::new(format!("{number} can not be the status of an answer"))),
        None => Err(Fault::new(format!("the status is a {}, not an Integer", body::class_name(value)))),
    }
}

/// Writes the whole answer into `draft`. The GVL is held; may raise.
pub fn write(
    draft: &mut Draft,
    request: &Request,
    closing: bool,
    (status, headers, app_body): (VALUE, VALUE, VALUE),
) -> Result<(), Fault> {
    let facts = request.facts;
    draft.status = parse_status(status)?;
    let Draft { head, body: large, lent, status, .. } = draft;
    let mut encoder = ResponseEncoder::new(head, facts, *status);
    if let Some(named) = write_headers(&mut encoder, headers)? {
        send_file::write(draft, request, closing, named);
        return Ok(());
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
        return Ok(());
    }
    if let Some((piece, length)) = file {
        let finished = encoder.finish(BodySize::Known(length), &date, closing);
        *lent = Some(piece);
        conclude(draft, finished, length);
        return Ok(());
    }
    let parts = body::classify(app_body)?;
    let length = match parts {
        Parts::Each(each) => {
            body::run_each(each, large)?;
            large.len() as u64
        }
        _ => body::length(parts)?.unwrap_or(0),
    };
    if chunked {
        body::append(parts, large);
        return finish_chunked(draft, facts, closing, headers);
    }
    let finished = encoder.finish(BodySize::Known(length), &date, closing);
    if let (Parts::Single(string), body::LENT_FROM..) = (parts, length) {
        *lent = Some(body::lend(string));
    } else if !matches!(parts, Parts::Each(_)) {
        let to = if length <= SMALL_BODY { head } else { large };
        to.reserve(length as usize);
        body::append(parts, to);
    }
    conclude(draft, finished, length);
    Ok(())
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

struct Walk<'e, 'b> {
    encoder: &'e mut ResponseEncoder<'b>,
    named: Option<send_file::Named>,
    fault: Option<Fault>,
}

/// Returns the file that a header names in place of the body.
fn write_headers(
    encoder: &mut ResponseEncoder<'_>,
    headers: VALUE,
) -> Result<Option<send_file::Named>, Fault> {
    // SAFETY: the GVL is held; gives a Hash or nil, or raises what `to_hash` raises.
    let hash = unsafe { rb_sys::rb_check_hash_type(headers) };
    if hash == rb_sys::Qnil as VALUE {
        return Err(Fault::new(format!("the headers are a {}, not a Hash", body::class_name(headers))));
    }
    let mut walk = Walk { encoder, named: None, fault: None };
    // SAFETY: the GVL is held; the pointer outlives the call.
    unsafe { rb_sys::rb_hash_foreach(hash, Some(write_header), std::ptr::from_mut(&mut walk) as VALUE) };
    walk.fault.map_or(Ok(walk.named), Err)
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
            return match text {
                b"rack.hijack" => Err(Fault::new("hijacking by a response header is not supported yet")),
                _ => Ok(()),
            };
        }
        if let Some(named) = send_file::Named::by(text, value) {
            self.named = Some(named);
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
