//! `Iodine::Rack::Utils`, `Iodine::Base::MonkeyPatch::RackUtils` and what `Iodine.patch_rack` puts into `Rack::Utils`.
//!
//! The first two do what iodine has always done. The third does what Rack does, faults and all, only faster.

use super::wrong_type;
use crate::gvl;
use iodine_codec::date::{self, Stamp};
use iodine_codec::url::{Coding, decode};
use magnus::encoding::{EncodingCapable, RbEncoding};
use magnus::rb_sys::{AsRawValue, FromRawValue};
use magnus::value::ReprValue;
use magnus::{Error, Integer, Module, Object, RModule, RString, Ruby, Time, TryConvert, Value, function};
use std::ffi::{c_int, c_long};
use std::sync::OnceLock;
use std::time::SystemTime;

const FALSE: rb_sys::VALUE = rb_sys::Qfalse as rb_sys::VALUE;
const BAD_URL: &str = "Malformed URL string - couldn't decode.";
const BAD_PATH: &str = "Malformed URL path string - couldn't decode.";
// As the original gem puts it; nothing is altered any more (fault F60).
const BAD_URL_IN_PLACE: &str =
    "Malformed URL string - couldn't decode (String might have been partially altered).";
const BAD_PATH_IN_PLACE: &str =
    "Malformed URL path string - couldn't decode (String might have been partially altered).";

/// Defines the modules, and `Base.patch_rack_utils`.
pub fn init(ruby: &Ruby, base: RModule) -> Result<(), Error> {
    let utils = ruby.define_module("Iodine")?.define_module("Rack")?.define_module("Utils")?;
    utils.define_singleton_method("decode_url", function!(decode_url, 1))?;
    utils.define_singleton_method("decode_url!", function!(decode_url_in_place, 1))?;
    utils.define_singleton_method("decode_path", function!(decode_path, 1))?;
    utils.define_singleton_method("decode_path!", function!(decode_path_in_place, 1))?;
    utils.define_singleton_method("time2str", function!(time2str, -1))?;
    utils.define_singleton_method("rfc2109", function!(rfc2109, 1))?;
    utils.define_singleton_method("rfc2822", function!(rfc2822, 1))?;

    let patch = base.define_module("MonkeyPatch")?.define_module("RackUtils")?;
    patch.define_singleton_method("unescape", function!(unescape, -1))?;
    patch.define_singleton_method("unescape_path", function!(decode_path, 1))?;
    patch.define_singleton_method("rfc2109", function!(rfc2109, 1))?;
    patch.define_singleton_method("rfc2822", function!(rfc2822, 1))?;

    base.define_singleton_method("patch_rack_utils", function!(patch_rack_utils, 1))
}

// --- what iodine has always done ---------------------------------------------------------------------------------

fn decode_url(ruby: &Ruby, source: Value) -> Result<RString, Error> {
    decoded(string(ruby, source)?, Coding::FORM, binary())?.ok_or_else(|| malformed(ruby, BAD_URL))
}

fn decode_path(ruby: &Ruby, source: Value) -> Result<RString, Error> {
    decoded(string(ruby, source)?, Coding::PATH, binary())?.ok_or_else(|| malformed(ruby, BAD_PATH))
}

fn decode_url_in_place(ruby: &Ruby, source: Value) -> Result<RString, Error> {
    let source = string(ruby, source)?;
    if decode_in_place(source, Coding::FORM)? { Ok(source) } else { Err(malformed(ruby, BAD_URL_IN_PLACE)) }
}

fn decode_path_in_place(ruby: &Ruby, source: Value) -> Result<RString, Error> {
    let source = string(ruby, source)?;
    if decode_in_place(source, Coding::PATH)? { Ok(source) } else { Err(malformed(ruby, BAD_PATH_IN_PLACE)) }
}

fn time2str(ruby: &Ruby, arguments: &[Value]) -> Result<RString, Error> {
    let seconds = match arguments {
        [] => now(),
        [time] => seconds(ruby, *time)?,
        _ => return Err(argument_count(ruby, arguments.len(), "0..1")),
    };
    text(ruby, &date::http(seconds), ruby.ascii8bit_encoding())
}

fn rfc2109(ruby: &Ruby, time: Value) -> Result<RString, Error> {
    text(ruby, &date::rfc2109(seconds(ruby, time)?), ruby.ascii8bit_encoding())
}

fn rfc2822(ruby: &Ruby, time: Value) -> Result<RString, Error> {
    text(ruby, &date::rfc2822(seconds(ruby, time)?, None), ruby.ascii8bit_encoding())
}

/// `unescape(source, encoding_or_object_in_it = UTF-8)`.
fn unescape(ruby: &Ruby, arguments: &[Value]) -> Result<RString, Error> {
    let (source, encoding) = match arguments {
        [source] => (source, utf8()),
        [source, wanted] if wanted.is_nil() => (source, utf8()),
        [source, wanted] => (source, encoding_of(ruby, *wanted)?),
        _ => return Err(argument_count(ruby, arguments.len(), "1..2")),
    };
    decoded(string(ruby, *source)?, Coding::FORM, encoding)?.ok_or_else(|| malformed(ruby, BAD_URL))
}

/// That Encoding, or the encoding of that String (Symbol, Regexp).
fn encoding_of(ruby: &Ruby, value: Value) -> Result<c_int, Error> {
    if value.is_kind_of(ruby.class_encoding()) {
        return index_of(ruby, value);
    }
    let encoding: Value = match value.respond_to("encoding", false)? {
        true => value.funcall("encoding", ())?,
        false => return Err(wrong_type(ruby, value, "Encoding")),
    };
    index_of(ruby, encoding)
}

// --- what Rack does ----------------------------------------------------------------------------------------------

/// Replaces methods of `Rack::Utils` itself; modules that include it keep their own.
fn patch_rack_utils(utils: RModule) -> Result<(), Error> {
    utils.define_singleton_method("unescape", function!(rack_unescape, -1))?;
    utils.define_singleton_method("unescape_path", function!(rack_unescape_path, 1))?;
    utils.define_singleton_method("rfc2109", function!(rack_rfc2109, 1))?;
    utils.define_singleton_method("rfc2822", function!(rack_rfc2822, 1))
}

/// `URI.decode_www_form_component`. An ArgumentError is what Rack answers with 400.
fn rack_unescape(ruby: &Ruby, arguments: &[Value]) -> Result<RString, Error> {
    let (source, encoding) = match arguments {
        [source] => (source, utf8()),
        [source, wanted] => (source, index_of(ruby, *wanted)?),
        _ => return Err(argument_count(ruby, arguments.len(), "1..2")),
    };
    let source = string(ruby, *source)?;
    check_encoding(ruby, source)?;
    match decoded(source, Coding::FORM, encoding)? {
        Some(decoded) => Ok(decoded),
        None => {
            // SAFETY: copied at once, before Ruby may run.
            let shown = String::from_utf8_lossy(unsafe { source.as_slice() }).into_owned();
            let message = format!("invalid %-encoding ({shown})");
            Err(Error::new(ruby.exception_arg_error(), message))
        }
    }
}

/// `URI::RFC2396_Parser#unescape`: keeps the encoding, and escapes that are malformed.
fn rack_unescape_path(ruby: &Ruby, source: Value) -> Result<RString, Error> {
    let source = string(ruby, source)?;
    check_encoding(ruby, source)?;
    // With the rules of ANY_PATH nothing is malformed.
    // SAFETY: the GVL is held and `source` is alive.
    let encoding = unsafe { rb_sys::rb_enc_get_index(source.as_raw()) };
    let decoded = decoded(source, Coding::ANY_PATH, encoding)?.unwrap_or(source);
    // SAFETY: looked at here and now, without Ruby.
    if !unsafe { decoded.as_slice() }.is_ascii() && source.enc_get() == ruby.usascii_encindex() {
        decoded.enc_set(ruby.utf8_encindex())?;
    }
    Ok(decoded)
}

fn rack_rfc2109(ruby: &Ruby, time: Value) -> Result<RString, Error> {
    text(ruby, &date::rfc2109(seconds(ruby, time)?), ruby.utf8_encoding())
}

static IS_UTC: OnceLock<rb_sys::ID> = OnceLock::new();

/// `Time#rfc2822`, which has the clock and the offset of the Time. What is no Time is taken as seconds.
fn rack_rfc2822(ruby: &Ruby, time: Value) -> Result<RString, Error> {
    if Time::from_value(time).is_none() {
        return text(ruby, &date::rfc2822(seconds(ruby, time)?, None), ruby.utf8_encoding());
    }
    // SAFETY: the GVL is held.
    let is_utc = *IS_UTC.get_or_init(|| unsafe { rb_sys::rb_intern(c"utc?".as_ptr()) });
    let value = gvl::protect(|| {
        // SAFETY: the GVL is held and `time` is a Time, alive. Nothing here owns anything.
        unsafe {
            let seconds = rb_sys::rb_time_timespec(time.as_raw()).tv_sec;
            let offset = match rb_sys::rb_funcallv(time.as_raw(), is_utc, 0, std::ptr::null()) {
                FALSE => Some(rb_sys::rb_num2int(rb_sys::rb_time_utc_offset(time.as_raw())) as i32 / 60),
                _ => None,
            };
            let stamp = date::rfc2822(seconds, offset);
            rb_sys::rb_utf8_str_new(stamp.as_ptr().cast(), stamp.len() as c_long)
        }
    })?;
    // SAFETY: a String just made, on the stack.
    RString::try_convert(unsafe { Value::from_raw(value) })
}

/// A regular expression refuses text that is broken in its encoding, and so does whatever is built with one.
fn check_encoding(ruby: &Ruby, source: RString) -> Result<(), Error> {
    // SAFETY: the GVL is held and `source` is alive.
    let range = unsafe { rb_sys::rb_enc_str_coderange(source.as_raw()) };
    if range != rb_sys::ruby_coderange_type::RUBY_ENC_CODERANGE_BROKEN as i32 {
        return Ok(());
    }
    let name = RbEncoding::from(source.enc_get()).name().to_owned();
    Err(Error::new(ruby.exception_arg_error(), format!("invalid byte sequence in {name}")))
}

// --- strings and times -------------------------------------------------------------------------------------------

/// A fresh String with what `source` says; `None` if it is malformed.
fn decoded(source: RString, coding: Coding, encoding: c_int) -> Result<Option<RString>, Error> {
    let mut well_formed = true;
    let value = gvl::protect(|| {
        // SAFETY: the GVL is held, `source` is alive and Ruby copies its bytes. The copy is fresh and nobody else's.
        unsafe {
            let (start, length) =
                (rb_sys::RSTRING_PTR(source.as_raw()), rb_sys::RSTRING_LEN(source.as_raw()));
            let is_utf8 = encoding == rb_sys::rb_utf8_encindex();
            let copy = match is_utf8 {
                true => rb_sys::rb_utf8_str_new(start, length),
                false => rb_sys::rb_str_new(start, length),
            };
            well_formed = decode_bytes(copy, coding);
            if is_utf8 { copy } else { rb_sys::rb_enc_associate_index(copy, encoding) }
        }
    })?;
    // SAFETY: a String just made, on the stack.
    Ok(if well_formed { RString::from_value(unsafe { Value::from_raw(value) }) } else { None })
}

/// Decodes `source` itself; false, and nothing done to it, if it is malformed. Raises FrozenError.
fn decode_in_place(source: RString, coding: Coding) -> Result<bool, Error> {
    let mut well_formed = true;
    gvl::protect(|| {
        // SAFETY: the GVL is held and `source` is alive. Behind `rb_str_modify` its bytes are its own (fault F60).
        unsafe {
            rb_sys::rb_str_modify(source.as_raw());
            well_formed = decode_bytes(source.as_raw(), coding);
        }
        rb_sys::Qnil as rb_sys::VALUE
    })?;
    Ok(well_formed)
}

/// # Safety
///
/// The GVL is held, and `string` is a String that may be changed and shares its bytes with no other.
unsafe fn decode_bytes(string: rb_sys::VALUE, coding: Coding) -> bool {
    // SAFETY: see above; no Ruby code runs while the bytes are borrowed, and the length only shrinks.
    unsafe {
        let start = rb_sys::RSTRING_PTR(string).cast_mut().cast::<u8>();
        let bytes = std::slice::from_raw_parts_mut(start, rb_sys::RSTRING_LEN(string) as usize);
        match decode(bytes, coding) {
            Ok(length) => {
                rb_sys::rb_str_set_len(string, length as c_long);
                true
            }
            Err(_) => false,
        }
    }
}

/// The number of an Encoding, or of the one with this name.
fn index_of(ruby: &Ruby, encoding: Value) -> Result<c_int, Error> {
    let mut index = -1;
    gvl::protect(|| {
        // SAFETY: the GVL is held and the value is alive.
        index = unsafe { rb_sys::rb_to_encoding_index(encoding.as_raw()) };
        rb_sys::Qnil as rb_sys::VALUE
    })?;
    match index {
        0.. => Ok(index),
        _ => Err(Error::new(ruby.exception_arg_error(), format!("unknown encoding name - {encoding}"))),
    }
}

/// The number of UTF-8.
fn utf8() -> c_int {
    // SAFETY: a constant of Ruby's.
    unsafe { rb_sys::rb_utf8_encindex() }
}

/// The number of ASCII-8BIT.
fn binary() -> c_int {
    // SAFETY: a constant of Ruby's.
    unsafe { rb_sys::rb_ascii8bit_encindex() }
}

/// Seconds since 1970 of anything that knows them; nil is now.
fn seconds(ruby: &Ruby, time: Value) -> Result<i64, Error> {
    if time.is_nil() {
        return Ok(now());
    }
    if let Some(time) = Time::from_value(time) {
        return Ok(time.timespec()?.tv_sec);
    }
    match Integer::from_value(time) {
        Some(integer) => integer.to_i64(),
        None => time.funcall::<_, _, Integer>("to_i", ())?.to_i64(),
    }
    .map_err(|error| if error.is_kind_of(ruby.exception_range_error()) { out_of_range(ruby) } else { error })
}

fn out_of_range(ruby: &Ruby) -> Error {
    Error::new(ruby.exception_range_error(), "the time is out of range")
}

fn now() -> i64 {
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_secs() as i64,
        Err(before) => -(before.duration().as_secs() as i64),
    }
}

/// Dates are ASCII, whatever encoding they are in.
fn text(ruby: &Ruby, stamp: &Stamp, encoding: RbEncoding) -> Result<RString, Error> {
    Ok(ruby.enc_str_new(&**stamp, encoding))
}

fn string(ruby: &Ruby, value: Value) -> Result<RString, Error> {
    RString::from_value(value).ok_or_else(|| wrong_type(ruby, value, "String"))
}

fn malformed(ruby: &Ruby, message: &'static str) -> Error {
    Error::new(ruby.exception_runtime_error(), message)
}

fn argument_count(ruby: &Ruby, given: usize, expected: &str) -> Error {
    let message = format!("wrong number of arguments (given {given}, expected {expected})");
    Error::new(ruby.exception_arg_error(), message)
}
