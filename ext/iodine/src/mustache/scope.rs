//! Ruby values as a template sees them.
//!
//! A whole rendering runs inside one `gvl::protect` (see `mod.rs`), so a call that raises in here is caught there, at the
//! price of the rendering; whatever is anybody's code gets a `protect` of its own, so that its exception ends in the log.
//! Either way nothing in here owns memory while Ruby runs.
//!
//! Looking up a Symbol or a String in a Hash runs no code of the application: Ruby compares by the `eql?` of the key that
//! is looked for, and default procs are passed by. If somebody redefines `String#eql?` to raise, the rendering raises.

use crate::{gvl, rack};
use iodine_codec::mustache::{Key, Scope, Shape, Sink};
use magnus::value::ReprValue;
use magnus::{Error, Ruby, error::ErrorType};
use rb_sys::{ID, VALUE, ruby_value_type as Type};
use std::ffi::c_long;
use std::io::Write;

/// The values of one rendering.
pub struct RubyScope {
    /// A frozen Array that has for each key of the template a Symbol (nil when there can be none) and a String. The
    /// rendering's stack frame keeps it alive.
    keys: VALUE,
    ids: Ids,
}

/// Method names that this calls.
#[derive(Clone, Copy)]
struct Ids {
    call: ID,
    public_send: ID,
    respond_to: ID,
}

const NIL: VALUE = rb_sys::Qnil as VALUE;
const FALSE: VALUE = rb_sys::Qfalse as VALUE;
const TRUE: VALUE = rb_sys::Qtrue as VALUE;
/// No Ruby value at all.
const UNDEFINED: VALUE = rb_sys::Qundef as VALUE;

/// Methods of Strings and collections that a template must not call (F57).
const MUTATORS: [&[u8]; 6] = [b"clear", b"compare_by_identity", b"pop", b"rehash", b"reset", b"shift"];

/// Makes the Array of keys. The GVL is held; may raise NoMemoryError.
pub fn make_keys<'t>(count: usize, keys: impl Iterator<Item = Key<'t>>) -> VALUE {
    // SAFETY: the GVL is held; all values are on the stack or in the Array, which is.
    unsafe {
        let array = rb_sys::rb_ary_new_capa(count.saturating_mul(2) as c_long);
        for key in keys {
            let string = rb_sys::rb_str_freeze(utf8(key.text));
            // There is no Symbol that is invalid, only an EncodingError.
            let symbol =
                if std::str::from_utf8(key.text).is_ok() { rb_sys::rb_str_intern(string) } else { NIL };
            rb_sys::rb_ary_push(array, symbol);
            rb_sys::rb_ary_push(array, string);
        }
        rb_sys::rb_obj_freeze(array)
    }
}

/// A fresh UTF-8 String. The GVL is held; may raise NoMemoryError.
pub fn utf8(text: &[u8]) -> VALUE {
    // SAFETY: the GVL is held; Ruby copies the bytes.
    unsafe { rb_sys::rb_utf8_str_new(text.as_ptr().cast(), text.len() as c_long) }
}

/// Whether a String's bytes can go among UTF-8 as they are. Binary ones are taken at their word.
fn fits_utf8(string: VALUE) -> bool {
    // SAFETY: the GVL is held, and the value is a String: every String has an encoding.
    unsafe {
        let encoding = rb_sys::rb_enc_get_index(string);
        encoding == rb_sys::rb_utf8_encindex()
            || encoding == rb_sys::rb_usascii_encindex()
            || encoding == rb_sys::rb_ascii8bit_encindex()
    }
}

/// A String whose bytes can go among UTF-8: itself where that is so, else converted. The GVL is held; may raise.
pub fn as_utf8(string: VALUE) -> VALUE {
    if fits_utf8(string) {
        return string;
    }
    // SAFETY: the GVL is held, and the value is a String.
    unsafe {
        let utf8 = rb_sys::rb_enc_from_encoding(rb_sys::rb_utf8_encoding());
        rb_sys::rb_str_encode(string, utf8, 0, NIL)
    }
}

/// The bytes of a String, valid until Ruby runs again.
pub fn bytes(string: &VALUE) -> &[u8] {
    // SAFETY: callers know that it is a String, and copy the bytes before Ruby runs.
    unsafe {
        let length = rb_sys::RSTRING_LEN(*string) as usize;
        std::slice::from_raw_parts(rb_sys::RSTRING_PTR(*string).cast(), length)
    }
}

fn type_of(value: VALUE) -> Type {
    // SAFETY: a live value.
    unsafe { rb_sys::RB_TYPE(value) }
}

fn intern(name: &str) -> ID {
    // SAFETY: the GVL is held; the name is a constant, so no table grows by it twice.
    unsafe { rb_sys::rb_intern2(name.as_ptr().cast(), name.len() as c_long) }
}

/// Whether a method is known to change its receiver or to write somewhere, so that a template must not call it.
fn is_mutator(receiver: VALUE, name: &[u8]) -> bool {
    name.ends_with(b"!")
        || name == b"freeze"
        || name == b"display"
        || (MUTATORS.contains(&name) && is_string_or_collection(receiver))
}

fn is_string_or_collection(value: VALUE) -> bool {
    // SAFETY: the GVL is held; a live value and a class.
    type_of(value) == Type::RUBY_T_STRING
        || unsafe { rb_sys::rb_obj_is_kind_of(value, rb_sys::rb_mEnumerable) } == TRUE
}

fn is_no_value(value: VALUE) -> bool {
    value == NIL || value == UNDEFINED
}

impl RubyScope {
    /// For the template that `keys` was made for. The GVL is held.
    pub fn new(keys: VALUE) -> RubyScope {
        let ids = Ids {
            call: intern("call"),
            public_send: intern("public_send"),
            respond_to: intern("respond_to?"),
        };
        RubyScope { keys, ids }
    }

    fn symbol(&self, key: Key<'_>) -> VALUE {
        // SAFETY: the GVL is held; `rb_ary_entry` checks bounds.
        unsafe { rb_sys::rb_ary_entry(self.keys, key.index as c_long * 2) }
    }

    fn string(&self, key: Key<'_>) -> VALUE {
        // SAFETY: the GVL is held; `rb_ary_entry` checks bounds.
        unsafe { rb_sys::rb_ary_entry(self.keys, key.index as c_long * 2 + 1) }
    }

    fn find_in_hash(&self, hash: VALUE, key: Key<'_>) -> Result<Option<VALUE>, Error> {
        let symbol = self.symbol(key);
        for entry in [symbol, self.string(key)] {
            // SAFETY: the GVL is held, and `hash` is a Hash.
            let value = unsafe { rb_sys::rb_hash_lookup2(hash, entry, UNDEFINED) };
            // A nil ends the search in this Hash, though not in those around it.
            if value != UNDEFINED && entry != NIL {
                return Ok((value != NIL).then_some(value));
            }
        }
        self.find_method(hash, key, symbol)
    }

    /// What the public method of that name returns. An exception counts as false: it ends the search and renders nothing.
    fn find_method(&self, context: VALUE, key: Key<'_>, symbol: VALUE) -> Result<Option<VALUE>, Error> {
        if symbol == NIL || is_mutator(context, key.text) {
            return Ok(None);
        }
        let value = self.guarded(|| self.call_method(context, symbol))?.unwrap_or(FALSE);
        Ok((!is_no_value(value)).then_some(value))
    }

    /// The GVL is held; may raise.
    fn call_method(&self, context: VALUE, symbol: VALUE) -> VALUE {
        let mut name = symbol;
        // SAFETY: the GVL is held, and `name` is a Symbol. Asking for the ID does not make one: a template's names must not
        // become Symbols for ever.
        unsafe {
            match rb_sys::rb_check_id(&raw mut name) {
                // There is no method of that name anywhere, but `method_missing` may do.
                0 => {
                    let responds = rb_sys::rb_funcallv(context, self.ids.respond_to, 1, &raw const symbol);
                    match rb_sys::TEST(responds) {
                        true => rb_sys::rb_funcallv(context, self.ids.public_send, 1, &raw const symbol),
                        false => UNDEFINED,
                    }
                }
                id if rb_sys::rb_obj_respond_to(context, id, 0) == 0 => UNDEFINED,
                id if type_of(context) == Type::RUBY_T_HASH && !takes_nothing(context, id) => UNDEFINED,
                id => rb_sys::rb_funcallv_public(context, id, 0, std::ptr::null()),
            }
        }
    }

    /// Calls what is anybody's code. `None` if it raised, which is in the log then.
    fn guarded(&self, work: impl FnOnce() -> VALUE) -> Result<Option<VALUE>, Error> {
        match gvl::protect(work) {
            Ok(value) => Ok(Some(value)),
            Err(error) => dismiss(error).map(|()| None),
        }
    }

    fn write_string(&self, string: VALUE, sink: &mut Sink<'_>) -> Result<(), Error> {
        if fits_utf8(string) {
            sink.write(bytes(&string));
        } else if let Some(string) = self.guarded(|| as_utf8(string))? {
            sink.write(bytes(&string));
        }
        Ok(())
    }

    fn write_result(&self, work: impl FnOnce() -> VALUE, sink: &mut Sink<'_>) -> Result<(), Error> {
        // SAFETY: the GVL is held.
        let string = self.guarded(|| unsafe { rb_sys::rb_obj_as_string(work()) })?;
        string.map_or(Ok(()), |string| self.write_string(string, sink))
    }

    /// The GVL is held; may raise, as `respond_to?` is anybody's to define.
    fn is_callable(&self, value: VALUE) -> bool {
        // SAFETY: the GVL is held.
        unsafe { rb_sys::rb_obj_respond_to(value, self.ids.call, 0) != 0 }
    }
}

/// Whether a method of a Hash can be called without arguments, as far as can be told. The GVL is held; may raise.
fn takes_nothing(hash: VALUE, id: ID) -> bool {
    // SAFETY: the GVL is held.
    matches!(unsafe { rb_sys::rb_obj_method_arity(hash, id) }, 0 | -1)
}

/// Logs an exception. Gives it back when it is not the template's to swallow: `Thread#kill`, `throw`, `exit`, a signal.
fn dismiss(error: Error) -> Result<(), Error> {
    let Ok(ruby) = Ruby::get() else { return Err(error) };
    let ordinary = match error.error_type() {
        ErrorType::Exception(exception) => {
            exception.is_kind_of(ruby.exception_standard_error())
                || exception.is_kind_of(ruby.exception_script_error())
        }
        _ => false,
    };
    if !ordinary {
        return Err(error);
    }
    rack::report_error(error).map_or(Ok(()), Err)
}

impl Scope for RubyScope {
    type Value = VALUE;
    type Error = Error;

    /// A Hash has its keys, as Symbols and then as Strings, and its methods; everything else has itself as `.` and its
    /// methods. nil has nothing.
    fn find(&mut self, context: VALUE, key: Key<'_>) -> Result<Option<VALUE>, Error> {
        match type_of(context) {
            Type::RUBY_T_NIL => Ok(None),
            Type::RUBY_T_HASH => self.find_in_hash(context, key),
            _ if key.text == b"." => Ok(Some(context)),
            _ => self.find_method(context, key, self.symbol(key)),
        }
    }

    fn shape(&mut self, value: VALUE) -> Result<Shape, Error> {
        Ok(match type_of(value) {
            Type::RUBY_T_NIL | Type::RUBY_T_FALSE => Shape::Empty,
            // SAFETY: an Array.
            Type::RUBY_T_ARRAY => Shape::List(unsafe { rb_sys::RARRAY_LEN(value) } as usize),
            Type::RUBY_T_HASH => Shape::Context,
            Type::RUBY_T_TRUE
            | Type::RUBY_T_FIXNUM
            | Type::RUBY_T_BIGNUM
            | Type::RUBY_T_FLOAT
            | Type::RUBY_T_SYMBOL
            | Type::RUBY_T_STRING => Shape::Once,
            _ => match self.guarded(|| if self.is_callable(value) { TRUE } else { FALSE })? {
                Some(TRUE) => Shape::Lambda,
                Some(_) => Shape::Once,
                None => Shape::Empty,
            },
        })
    }

    fn item(&mut self, list: VALUE, index: usize) -> Result<Option<VALUE>, Error> {
        // SAFETY: the GVL is held; only Arrays have the shape of a list, and they stay Arrays.
        unsafe {
            let present = index < rb_sys::RARRAY_LEN(list) as usize;
            Ok(present.then(|| rb_sys::rb_ary_entry(list, index as c_long)))
        }
    }

    fn print(&mut self, value: VALUE, sink: &mut Sink<'_>) -> Result<(), Error> {
        match type_of(value) {
            Type::RUBY_T_NIL | Type::RUBY_T_FALSE => Ok(()),
            Type::RUBY_T_TRUE => {
                sink.write(b"true");
                Ok(())
            }
            Type::RUBY_T_STRING => self.write_string(value, sink),
            // SAFETY: the GVL is held, and `value` is a Symbol.
            Type::RUBY_T_SYMBOL => self.write_string(unsafe { rb_sys::rb_sym2str(value) }, sink),
            Type::RUBY_T_FIXNUM => {
                // SAFETY: a Fixnum.
                write_integer(unsafe { rb_sys::FIX2LONG(value) }, sink);
                Ok(())
            }
            Type::RUBY_T_BIGNUM | Type::RUBY_T_FLOAT | Type::RUBY_T_ARRAY | Type::RUBY_T_HASH => {
                self.write_result(|| value, sink)
            }
            _ => self.write_result(
                || match self.is_callable(value) {
                    // SAFETY: the GVL is held.
                    true => unsafe { rb_sys::rb_funcallv(value, self.ids.call, 0, std::ptr::null()) },
                    false => value,
                },
                sink,
            ),
        }
    }

    fn call(&mut self, lambda: VALUE, raw: &[u8], sink: &mut Sink<'_>) -> Result<(), Error> {
        self.write_result(
            || {
                let text = if raw.is_empty() { NIL } else { utf8(raw) };
                // SAFETY: the GVL is held; `text` is on the stack.
                unsafe { rb_sys::rb_funcallv(lambda, self.ids.call, 1, &raw const text) }
            },
            sink,
        )
    }

    fn pause(&mut self) -> Result<(), Error> {
        gvl::check_interrupts()
    }
}

fn write_integer(number: c_long, sink: &mut Sink<'_>) {
    let mut digits = [0; 20];
    let mut rest = &mut digits[..];
    // Twenty bytes hold every number of 64 bits.
    let _ = write!(rest, "{number}");
    let left = rest.len();
    sink.write(digits.split_at(20 - left).0);
}
