//! RESP for `lib/iodine/redis.rb`: commands out of Ruby values, Ruby values out of replies.
//!
//! Replies mean in Ruby what they did with iodine 0.7: `+OK` is true, an error is a String that begins with a dash.

use iodine_codec::resp::{Reply, ReplyDecoder, encode_command};
use magnus::value::ReprValue;
use magnus::{
    Class, DataTypeFunctions, Error, IntoValue, Module, Object, RArray, RModule, RString, Ruby, TryConvert,
    TypedData, Value, function, method,
};
use std::cell::RefCell;

/// `Iodine::Base::Replies`: takes replies out of what was read.
#[derive(Default, TypedData)]
#[magnus(class = "Iodine::Base::Replies", free_immediately, size)]
struct Replies(RefCell<ReplyDecoder>);

// SAFETY: only used with the GVL held.
unsafe impl Send for Replies {}

impl DataTypeFunctions for Replies {}

/// Defines the class and the primitives.
pub fn init(ruby: &Ruby, base: RModule) -> Result<(), Error> {
    let class = base.define_class("Replies", ruby.class_object())?;
    class.define_alloc_func::<Replies>();
    class.define_method("feed", method!(Replies::feed, 1))?;
    class.define_method("next_value", method!(Replies::next_value, 0))?;
    class.define_method("next_raw", method!(Replies::next_raw, 0))?;
    base.define_singleton_method("redis_command", function!(command, 1))?;
    base.define_singleton_method("glob_match?", function!(matches, 2))
}

impl Replies {
    /// `feed(bytes)`
    fn feed(&self, bytes: RString) {
        // SAFETY: copied before Ruby runs again.
        self.0.borrow_mut().feed(unsafe { bytes.as_slice() });
    }

    /// `next_value`: `[value]` of the next whole reply, or nil. Raises ArgumentError for what is no RESP.
    fn next_value(ruby: &Ruby, this: &Replies) -> Result<Option<RArray>, Error> {
        let reply = match this.0.borrow_mut().next_reply() {
            Ok(next) => next.map(|(reply, _)| reply),
            Err(_) => return Err(malformed(ruby)),
        };
        let Some(reply) = reply else { return Ok(None) };
        let list = ruby.ary_new_capa(1);
        list.push(to_value(ruby, reply)?)?;
        Ok(Some(list))
    }

    /// `next_raw`: the bytes of the next whole reply, or nil. Raises ArgumentError for what is no RESP.
    fn next_raw(ruby: &Ruby, this: &Replies) -> Result<Option<RString>, Error> {
        match this.0.borrow_mut().next_reply() {
            Ok(next) => Ok(next.map(|(_, raw)| ruby.str_from_slice(raw))),
            Err(_) => Err(malformed(ruby)),
        }
    }
}

fn malformed(ruby: &Ruby) -> Error {
    Error::new(ruby.exception_arg_error(), "this is not the protocol of Redis")
}

fn to_value(ruby: &Ruby, reply: Reply) -> Result<Value, Error> {
    Ok(match reply {
        Reply::Status(text) if text == "OK" => true.into_value_with(ruby),
        Reply::Status(text) => ruby.str_new(&text).as_value(),
        Reply::Error(text) => ruby.str_new(&format!("-{text}")).as_value(),
        Reply::Integer(number) => number.into_value_with(ruby),
        Reply::Bulk(bytes) => ruby.str_from_slice(&bytes).as_value(),
        Reply::Nil => ruby.qnil().as_value(),
        Reply::Array(replies) => {
            let list = ruby.ary_new_capa(replies.len());
            for reply in replies {
                list.push(to_value(ruby, reply)?)?;
            }
            list.as_value()
        }
    })
}

/// `redis_command(parts)`: the bytes of a command of Strings.
fn command(ruby: &Ruby, parts: RArray) -> Result<RString, Error> {
    let mut owned = Vec::with_capacity(parts.len());
    for part in parts {
        let text = RString::try_convert(part)?;
        // SAFETY: copied before Ruby runs again.
        owned.push(unsafe { text.as_slice() }.to_vec());
    }
    let mut out = Vec::new();
    encode_command(&mut out, owned.iter().map(Vec::as_slice));
    Ok(ruby.str_from_slice(&out))
}

/// `glob_match?(pattern, name)`: as Redis would have it.
fn matches(pattern: RString, name: RString) -> bool {
    // SAFETY: used before Ruby runs again.
    let (pattern, name) = unsafe { (pattern.as_slice(), name.as_slice()) };
    iodine_codec::glob::Glob::new(pattern).matches(name)
}
