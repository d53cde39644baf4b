//! The body that an application returns: what kind it is, and the bytes of those that are there already.
//!
//! Strings and arrays of them are copied once, straight behind the head. What has to be produced goes to a stream.

use super::call::Fault;
use crate::roots;
use iodine_core::Root;
use iodine_core::outbox::Borrowed;
use magnus::rb_sys::FromRawValue;
use rb_sys::{VALUE, ruby_value_type};
use std::ffi::c_long;

/// A body, looked at but not yet copied.
#[derive(Clone, Copy, Debug)]
pub enum Parts {
    /// One String.
    Single(VALUE),
    /// An Array of Strings.
    Many(VALUE),
    /// Something with `each`.
    Each(VALUE),
    /// Something with `call`, for a stream (Rack 3).
    Call(VALUE),
}

/// Bytes of a Ruby String, written to a socket from where they are.
///
/// The String is frozen and kept by a root until the last byte is written: its bytes can not change, and they lie outside
/// of the heap that compaction moves.
#[derive(Debug)]
struct Lent {
    start: *const u8,
    length: usize,
    root: Root,
}

// SAFETY: the bytes are not written to by anybody while the root lives, and releasing a root is for any thread.
unsafe impl Send for Lent {}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: see the type.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        roots::release(self.root);
    }
}

/// Strings from this size on are lent, not copied. None that long is embedded in its object.
pub const LENT_FROM: u64 = 32 * 1024;

/// Lends the bytes of a String. The GVL is held; may raise NoMemoryError.
pub fn lend(string: VALUE) -> Borrowed {
    // SAFETY: the GVL is held. The frozen String shares the bytes; should the original be changed, it gets a copy.
    let frozen = unsafe { rb_sys::rb_str_new_frozen(string) };
    let bytes = bytes(&frozen);
    let (start, length) = (bytes.as_ptr(), bytes.len());
    Box::new(Lent { start, length, root: roots::add(frozen) })
}

/// What kind of body `body` is. The GVL is held; may raise.
pub fn classify(body: VALUE) -> Result<Parts, Fault> {
    if is_type(body, ruby_value_type::RUBY_T_STRING) {
        return Ok(Parts::Single(body));
    }
    if is_type(body, ruby_value_type::RUBY_T_ARRAY) {
        // SAFETY: it is an Array, and the GVL is held.
        let (length, first) = unsafe {
            let length = rb_sys::RARRAY_LEN(body);
            (length, if length == 1 { rb_sys::rb_ary_entry(body, 0) } else { body })
        };
        return match length {
            // As in 0.7: the only element is the body itself.
            1 if is_type(first, ruby_value_type::RUBY_T_STRING) => Ok(Parts::Single(first)),
            1 if responds_to(first, "each") => Ok(Parts::Each(first)),
            _ => Ok(Parts::Many(body)),
        };
    }
    match () {
        () if responds_to(body, "each") => Ok(Parts::Each(body)),
        () if responds_to(body, "call") => Ok(Parts::Call(body)),
        () => Err(Fault::new(format!("the body is a {}, which has neither each nor call", class_name(body)))),
    }
}

/// Bytes of a body that is all Strings; `None` when only running `each` can tell. The GVL is held.
pub fn length(parts: Parts) -> Result<Option<u64>, Fault> {
    match parts {
        Parts::Single(string) => Ok(Some(bytes(&string).len() as u64)),
        Parts::Many(array) => {
            let mut total = 0;
            for index in 0..array_length(array) {
                // SAFETY: it is an Array; an index past its end gives nil.
                let part = unsafe { rb_sys::rb_ary_entry(array, index) };
                expect_string(part)?;
                total += bytes(&part).len() as u64;
            }
            Ok(Some(total))
        }
        Parts::Each(_) | Parts::Call(_) => Ok(None),
    }
}

/// Appends a body that is all Strings. The GVL is held, and nothing may have run since [`length`].
pub fn append(parts: Parts, out: &mut Vec<u8>) {
    match parts {
        Parts::Single(string) => out.extend_from_slice(bytes(&string)),
        Parts::Many(array) => {
            for index in 0..array_length(array) {
                // SAFETY: as in `length`, which has seen that each part is a String.
                let part = unsafe { rb_sys::rb_ary_entry(array, index) };
                out.extend_from_slice(bytes(&part));
            }
        }
        Parts::Each(_) | Parts::Call(_) => {}
    }
}

/// Whether `value` is of this built-in type.
pub fn is_type(value: VALUE, wanted: ruby_value_type) -> bool {
    // SAFETY: a live value.
    unsafe { rb_sys::RB_TYPE_P(value, wanted) }
}

/// Whether `value` responds to `method`. The GVL is held; may raise, as `respond_to?` is anybody's to define.
pub fn responds_to(value: VALUE, method: &str) -> bool {
    // SAFETY: the GVL is held.
    unsafe {
        rb_sys::rb_respond_to(value, rb_sys::rb_intern2(method.as_ptr().cast(), method.len() as c_long)) != 0
    }
}

/// The bytes of a String, valid until Ruby runs again: copy them before. Borrowing the value keeps it on the stack, where
/// the collector finds it.
pub fn bytes(string: &VALUE) -> &[u8] {
    // SAFETY: callers have seen that it is a String; the GVL is held.
    unsafe {
        let length = rb_sys::RSTRING_LEN(*string) as usize;
        std::slice::from_raw_parts(rb_sys::RSTRING_PTR(*string).cast(), length)
    }
}

/// The name of a value's class, for messages.
pub fn class_name(value: VALUE) -> String {
    use magnus::value::ReprValue;
    // SAFETY: a live value.
    let value = unsafe { magnus::Value::from_raw(value) };
    // SAFETY: the name is copied at once.
    unsafe { value.classname() }.into_owned()
}

fn expect_string(part: VALUE) -> Result<(), Fault> {
    match is_type(part, ruby_value_type::RUBY_T_STRING) {
        true => Ok(()),
        false => Err(Fault::new(format!("the body yielded a {}, not a String", class_name(part)))),
    }
}

fn array_length(array: VALUE) -> c_long {
    // SAFETY: callers have seen that it is an Array.
    unsafe { rb_sys::RARRAY_LEN(array) as c_long }
}
