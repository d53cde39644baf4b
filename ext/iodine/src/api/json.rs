//! `Iodine::JSON`, and what takes the place of `JSON.parse` (see `lib/iodine/json.rb`).

use super::{type_error, wrong_type};
use crate::json::{self, Failure};
use iodine_codec::json::Rules;
use magnus::encoding::EncodingCapable;
use magnus::r_hash::ForEach;
use magnus::rb_sys::{AsRawValue, FromRawValue};
use magnus::value::ReprValue;
use magnus::{
    Class, Error, Exception, ExceptionClass, Module, Object, RHash, RModule, RString, Ruby, Symbol,
    TryConvert, Value, function,
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
    let wishes = match options.filter(|options| !options.is_empty()) {
        Some(options) => Wishes::read(ruby, options)?,
        None => Wishes::default(),
    };
    wishes.warn_of_ignored(ruby)?;
    let source = utf8(ruby, source)?;
    let result = json::parse(source.as_raw(), &wishes.rules, wishes.symbolize);
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
    let Some((rules, symbolize)) = strict_rules(options)? else {
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

/// The options of `parse`.
struct Wishes {
    rules: Rules,
    symbolize: bool,
    /// For each of `IGNORED`, whether it was given.
    ignored: [bool; IGNORED.len()],
}

impl Default for Wishes {
    fn default() -> Wishes {
        Wishes { rules: Rules::LENIENT, symbolize: false, ignored: [false; IGNORED.len()] }
    }
}

impl Wishes {
    fn read(ruby: &Ruby, options: RHash) -> Result<Wishes, Error> {
        let mut wishes = Wishes::default();
        each_option(options, |name, value| {
            match name {
                "symbolize_names" => wishes.symbolize = value.as_raw() == TRUE,
                "strict" => wishes.rules.lenient = !value.to_bool(),
                "allow_nan" => wishes.rules.allow_nan = value.to_bool(),
                "max_nesting" => {
                    wishes.rules.max_nesting =
                        nesting(value).ok_or_else(|| wrong_type(ruby, value, "Integer"))?;
                }
                _ => {
                    if let Some(index) = IGNORED.iter().position(|ignored| *ignored == name) {
                        wishes.ignored[index] = value.to_bool();
                    }
                }
            }
            Ok(())
        })?;
        Ok(wishes)
    }

    fn warn_of_ignored(&self, ruby: &Ruby) -> Result<(), Error> {
        for (name, _) in IGNORED.iter().zip(self.ignored).filter(|(_, given)| *given) {
            let text = format!("Iodine::JSON ignores the option {name}.");
            let _: Value = ruby.module_kernel().funcall("warn", (text,))?;
        }
        Ok(())
    }
}

/// What the options of the json gem come to; `None` if one of them is beyond us.
fn strict_rules(options: Value) -> Result<Option<(Rules, bool)>, Error> {
    let mut rules = Rules::STRICT;
    let mut symbolize = false;
    if options.is_nil() {
        return Ok(Some((rules, symbolize)));
    }
    let Some(options) = RHash::from_value(options) else { return Ok(None) };
    let mut understood = 0;
    each_option(options, |name, value| {
        let is_understood = match name {
            "symbolize_names" => {
                symbolize = value.to_bool();
                true
            }
            "max_nesting" => match nesting(value) {
                Some(limit) => {
                    rules.max_nesting = limit;
                    true
                }
                None => false,
            },
            // NaN is refused either way, and then the other parser decides.
            "allow_nan" | "quirks_mode" => true,
            _ => OFF_ONLY.contains(&name) && !value.to_bool(),
        };
        understood += usize::from(is_understood);
        Ok(())
    })?;
    Ok((understood == options.len()).then_some((rules, symbolize)))
}

/// Calls `take` with each option whose name is a Symbol.
fn each_option(options: RHash, mut take: impl FnMut(&str, Value) -> Result<(), Error>) -> Result<(), Error> {
    options.foreach(|name: Value, value: Value| {
        if let Some(name) = Symbol::from_value(name) {
            take(&name.name()?, value)?;
        }
        Ok(ForEach::Continue)
    })
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

/// A `ParserError` that knows where and why, beside the message that it always had.
fn malformed(error: iodine_codec::json::Error) -> Result<Error, Error> {
    // SAFETY: kept for ever, see `init`.
    let class = unsafe { Value::from_raw(PARSER_ERROR.get().copied().unwrap_or(rb_sys::Qnil as _)) };
    let reason = error.kind.as_str();
    let exception: Exception =
        ExceptionClass::try_convert(class)?.new_instance((MESSAGE, reason, error.offset))?;
    Ok(exception.into())
}
