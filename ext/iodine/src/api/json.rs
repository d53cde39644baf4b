//! `Iodine::JSON`, and what takes the place of `JSON.parse` (see `lib/iodine/json.rb`).

use crate::json::{self, Failure};
use iodine_codec::json::Rules;
use super::{type_error, wrong_type};
use magnus::encoding::EncodingCapable;
use magnus::rb_sys::{AsRawValue, FromRawValue};
use magnus::value::ReprValue;
use magnus::{
    Class, Error, Exception, ExceptionClass, Module, Object, RHash, RModule, RString, Ruby, TryConvert,
    Value, function,
};
use std::sync::OnceLock;

/// What the original gem says of everything malformed.
const MESSAGE: &str = "Malformed JSON format.";
/// Options of the json gem that nobody here does anything about.
const IGNORED: [&str; 3] = ["create_additions", "object_class", "array_class"];

/// Options of the json gem that are understood as long as they are off.
const OFF_ONLY: [&str; 6] =
    ["create_additions", "object_class", "array_class", "decimal_class", "freeze", "allow_trailing_comma"];

const TRUE: rb_sys::VALUE = rb_sys::Qtrue as rb_sys::VALUE;

/// The class of errors and the value that says "ask the other parser", both kept for ever.
static PARSER_ERROR: OnceLock<rb_sys::VALUE> = OnceLock::new();
static REFUSED: OnceLock<rb_sys::VALUE> = OnceLock::new();

/// Defines the module and the primitive that `Iodine.patch_json` uses.
pub fn init(ruby: &Ruby, base: RModule) -> Result<(), Error> {
    json::init();
    let module = ruby.define_module("Iodine")?.define_module("JSON")?;
    let error = module.define_error("ParserError", ruby.exception_encoding_error())?;
    let refused: Value = ruby.class_object().new_instance(())?.as_value();
    base.const_set("JSON_REFUSED", refused)?;
    for value in [error.as_raw(), refused.as_raw()] {
        // SAFETY: the GVL is held.
        unsafe { rb_sys::rb_gc_register_mark_object(value) };
    }
    let _ = PARSER_ERROR.set(error.as_raw());
    let _ = REFUSED.set(refused.as_raw());
    module.define_singleton_method("parse", function!(parse, -1))?;
    module.define_singleton_method("parse!", function!(parse, -1))?;
    base.define_singleton_method("parse_strict_json", function!(parse_strict, 2))
}

/// `parse(source, options = {})`.
fn parse(ruby: &Ruby, arguments: &[Value]) -> Result<Value, Error> {
    let (source, options) = match arguments {
        [] => return Err(type_error(ruby, "function requires at least one argument.")),
        [source] => (source, None),
        [source, options] => (source, Some(hash(ruby, *options)?)),
        // The spelling is that of the original gem; programs may match on it.
        _ => return Err(type_error(ruby, "function requires supports up to two arguments.")),
    };
    let Some(source) = RString::from_value(*source) else {
        return Err(wrong_type(ruby, *source, "String"));
    };
    let mut rules = Rules::LENIENT;
    let mut symbolize = false;
    if let Some(options) = options.filter(|options| !options.is_empty()) {
        symbolize = option(ruby, options, "symbolize_names").is_some_and(|value| value.as_raw() == TRUE);
        rules.lenient = !option(ruby, options, "strict").is_some_and(|value| value.to_bool());
        rules.allow_nan = option(ruby, options, "allow_nan").is_none_or(|value| value.to_bool());
        if let Some(limit) = option(ruby, options, "max_nesting") {
            rules.max_nesting = nesting(limit).ok_or_else(|| wrong_type(ruby, limit, "Integer"))?;
        }
        warn_of_ignored(ruby, options)?;
    }
    let source = utf8(ruby, source)?;
    let result = json::parse(source.as_raw(), &rules, symbolize);
    // The value stays in a register or on the stack for as long as its bytes are read.
    std::hint::black_box(source);
    match result {
        // SAFETY: a value just made, on the stack.
        Ok(value) => Ok(unsafe { Value::from_raw(value) }),
        Err(Failure::Ruby(error)) => Err(error),
        Err(Failure::Json(error)) => Err(malformed(error)?),
    }
}

/// `parse_strict_json(source, options)`: what `JSON.parse` would return, or `JSON_REFUSED` where that is not certain:
/// text that is no strict JSON, options unknown here, sources that need converting.
fn parse_strict(ruby: &Ruby, source: Value, options: Value) -> Result<Value, Error> {
    // SAFETY: kept for ever, see `init`.
    let refused = unsafe { Value::from_raw(REFUSED.get().copied().unwrap_or(rb_sys::Qnil as _)) };
    let Some(source) = RString::from_value(source) else {
        return Ok(refused);
    };
    let encoding = source.enc_get();
    if encoding != ruby.utf8_encindex() && encoding != ruby.ascii8bit_encindex() {
        return Ok(refused);
    }
    let Some((rules, symbolize)) = strict_rules(ruby, options) else {
        return Ok(refused);
    };
    let result = json::parse(source.as_raw(), &rules, symbolize);
    std::hint::black_box(source);
    match result {
        // SAFETY: a value just made, on the stack.
        Ok(value) => Ok(unsafe { Value::from_raw(value) }),
        Err(Failure::Ruby(error)) => Err(error),
        Err(Failure::Json(_)) => Ok(refused),
    }
}

/// What the options of the json gem come to; `None` if one of them is beyond us.
fn strict_rules(ruby: &Ruby, options: Value) -> Option<(Rules, bool)> {
    let mut rules = Rules::STRICT;
    let mut symbolize = false;
    if options.is_nil() {
        return Some((rules, symbolize));
    }
    let options = RHash::from_value(options)?;
    let mut understood = 0;
    for name in ["symbolize_names", "max_nesting", "allow_nan", "quirks_mode"].iter().chain(&OFF_ONLY) {
        let Some(value) = option(ruby, options, name) else { continue };
        understood += 1;
        match *name {
            "symbolize_names" => symbolize = value.to_bool(),
            "max_nesting" => rules.max_nesting = nesting(value)?,
            // NaN is refused either way, and then the other parser decides.
            "allow_nan" | "quirks_mode" => {}
            _ if value.to_bool() => return None,
            _ => {}
        }
    }
    (understood == options.len()).then_some((rules, symbolize))
}

/// The value under `name`, without asking the Hash for its default.
fn option(ruby: &Ruby, options: RHash, name: &str) -> Option<Value> {
    options.get(ruby.to_symbol(name))
}

/// `max_nesting`: 0, below, nil and false are no limit.
fn nesting(value: Value) -> Option<usize> {
    if !value.to_bool() {
        return Some(usize::MAX);
    }
    let limit = magnus::Integer::from_value(value)?;
    // A limit that does not even fit is none.
    let limit = limit.to_i64().unwrap_or(0);
    Some(usize::try_from(limit).ok().filter(|&limit| limit > 0).unwrap_or(usize::MAX))
}

/// `source` itself if its bytes can be read as UTF-8, else a copy in UTF-8.
fn utf8(ruby: &Ruby, source: RString) -> Result<RString, Error> {
    let encoding = source.enc_get();
    if [ruby.utf8_encindex(), ruby.ascii8bit_encindex(), ruby.usascii_encindex()].contains(&encoding) {
        return Ok(source);
    }
    source.funcall("encode", (ruby.utf8_encoding(),))
}

fn hash(ruby: &Ruby, options: Value) -> Result<RHash, Error> {
    RHash::from_value(options).ok_or_else(|| wrong_type(ruby, options, "Hash"))
}

fn warn_of_ignored(ruby: &Ruby, options: RHash) -> Result<(), Error> {
    for name in IGNORED {
        if option(ruby, options, name).is_some_and(|value| value.to_bool()) {
            let text = format!("Iodine::JSON ignores the option {name}.");
            let _: Value = ruby.module_kernel().funcall("warn", (text,))?;
        }
    }
    Ok(())
}

/// A `ParserError` that knows where and why, beside the message that it always had.
fn malformed(error: iodine_codec::json::Error) -> Result<Error, Error> {
    // SAFETY: kept for ever, see `init`.
    let class = unsafe { Value::from_raw(PARSER_ERROR.get().copied().unwrap_or(rb_sys::Qnil as _)) };
    let reason = error.kind.as_str();
    let exception: Exception = ExceptionClass::try_convert(class)?.new_instance((MESSAGE, reason, error.offset))?;
    Ok(exception.into())
}
