//! `Iodine::Rack::Utils`, `Iodine::Base::MonkeyPatch::RackUtils` and what `Iodine.patch_rack` puts into `Rack::Utils`.
//!
//! The first two do what iodine has always done. The third does what Rack does, faults and all, only faster.

use super::wrong_type;
use crate::gvl;
use iodine_codec::date::{self, Stamp};
use iodine_codec::url::{Coding, decode};
use magnus::encoding::{EncodingCapable, Index, RbEncoding};
use magnus::rb_sys::{AsRawValue, FromRawValue};
use magnus::value::ReprValue;
use magnus::{
    Error, Integer, Module, Object, RModule, RString, Ruby, Time, TryConvert, Value, function,
};
use std::ffi::c_long;
use std::time::SystemTime;

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
    decoded(string(ruby, source)?, Coding::FORM)?.ok_or_else(|| malformed(ruby, BAD_URL))
}

fn decode_path(ruby: &Ruby, source: Value) -> Result<RString, Error> {
    decoded(string(ruby, source)?, Coding::PATH)?.ok_or_else(|| malformed(ruby, BAD_PATH))
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
    Ok(text(ruby, date::http(seconds)))
}

fn rfc2109(ruby: &Ruby, time: Value) -> Result<RString, Error> {
    Ok(text(ruby, date::rfc2109(seconds(ruby, time)?)))
}

fn rfc2822(ruby: &Ruby, time: Value) -> Result<RString, Error> {
    Ok(text(ruby, date::rfc2822(seconds(ruby, time)?, None)))
}

/// `unescape(source, encoding_or_object_in_it = UTF-8)`.
fn unescape(ruby: &Ruby, arguments: &[Value]) -> Result<RString, Error> {
    let (source, encoding) = match arguments {
        [source] => (source, ruby.utf8_encindex()),
        [source, wanted] if wanted.is_nil() => (source, ruby.utf8_encindex()),
        [source, wanted] => (source, encoding_of(ruby, *wanted)?),
        _ => return Err(argument_count(ruby, arguments.len(), "1..2")),
    };
    let decoded = decode_url(ruby, *source)?;
    decoded.enc_set(encoding)?;
    Ok(decoded)
}

/// That Encoding, or the encoding of that String (Symbol, Regexp).
fn encoding_of(ruby: &Ruby, value: Value) -> Result<Index, Error> {
    if value.is_kind_of(ruby.class_encoding()) {
        return Ok(RbEncoding::try_convert(value)?.into());
    }
    let encoding: Value = match value.respond_to("encoding", false)? {
        true => value.funcall("encoding", ())?,
        false => return Err(wrong_type(ruby, value, "Encoding")),
    };
    Ok(RbEncoding::try_convert(encoding)?.into())
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
        [source] => (source, ruby.utf8_encindex()),
        [source, wanted] => (source, RbEncoding::try_convert(*wanted)?.into()),
        _ => return Err(argument_count(ruby, arguments.len(), "1..2")),
    };
    let source = string(ruby, *source)?;
    check_encoding(ruby, source)?;
    match decoded(source, Coding::FORM)? {
        Some(decoded) => {
            decoded.enc_set(encoding)?;
            Ok(decoded)
        }
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
    let decoded = decoded(source, Coding::ANY_PATH)?.unwrap_or(source);
    let encoding = source.enc_get();
    decoded.enc_set(encoding)?;
    // SAFETY: looked at here and now, without Ruby.
    if encoding == ruby.usascii_encindex() && !unsafe { decoded.as_slice() }.is_ascii() {
        decoded.enc_set(ruby.utf8_encindex())?;
    }
    Ok(decoded)
}

fn rack_rfc2109(ruby: &Ruby, time: Value) -> Result<RString, Error> {
    let stamp = rfc2109(ruby, time)?;
    stamp.enc_set(ruby.utf8_encindex())?;
    Ok(stamp)
}

/// `Time#rfc2822`, which has the clock and the offset of the Time.
fn rack_rfc2822(ruby: &Ruby, time: Value) -> Result<RString, Error> {
    let offset = match Time::from_value(time) {
        Some(time) if !time.funcall::<_, _, bool>("utc?", ())? => Some(time.utc_offset() as i32 / 60),
        _ => None,
    };
    let stamp = text(ruby, date::rfc2822(seconds(ruby, time)?, offset));
    stamp.enc_set(ruby.utf8_encindex())?;
    Ok(stamp)
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

/// A fresh binary String with what `source` says; `None` if it is malformed.
fn decoded(source: RString, coding: Coding) -> Result<Option<RString>, Error> {
    let mut well_formed = true;
    let value = gvl::protect(|| {
        // SAFETY: the GVL is held, `source` is alive and Ruby copies its bytes. The copy is fresh and nobody else's.
        unsafe {
            let raw = source.as_raw();
            let copy = rb_sys::rb_str_new(rb_sys::RSTRING_PTR(raw), rb_sys::RSTRING_LEN(raw));
            well_formed = decode_bytes(copy, coding);
            copy
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

fn text(ruby: &Ruby, stamp: Stamp) -> RString {
    ruby.str_from_slice(&stamp)
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
