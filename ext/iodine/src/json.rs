//! JSON into Ruby objects while it is being read.
//!
//! Values wait on a stack of our own until what holds them is complete; then one call makes the Array or Hash. Keys
//! repeat, within a document and from one to the next, so a small table remembers the latest ones. An object with a
//! mark function holds both.
//!
//! No Ruby code runs meanwhile, so the source can not change and nobody else gets the GVL.

use iodine_codec::json::{self, Builder, Rules, Scratch, Text};
use magnus::Error;
use rb_sys::VALUE;
use std::cell::UnsafeCell;
use std::ffi::{c_char, c_int, c_long, c_void};

/// Slots of the table of keys, a power of two, and its longest key.
const KEY_SLOTS: usize = 512;
const KEY_LENGTH: usize = 40;
/// Memory that is kept between documents, in bytes for each buffer.
const KEPT: usize = 64 * 1024;

const NIL: VALUE = rb_sys::Qnil as VALUE;

/// Why there is no value.
pub enum Failure {
    /// The text is no JSON.
    Json(json::Error),
    /// Ruby raised: NoMemoryError.
    Ruby(Error),
}

/// A key seen lately, as a String and, once somebody asked, as a Symbol; nil when there is none.
#[derive(Clone, Copy)]
struct Key {
    string: VALUE,
    symbol: VALUE,
}

struct State {
    values: Vec<VALUE>,
    keys: [Key; KEY_SLOTS],
    scratch: Scratch,
}

struct Guarded(UnsafeCell<Option<State>>);

// SAFETY: only touched with the GVL held: by the functions here and by the collector.
unsafe impl Sync for Guarded {}

static STATE: Guarded = Guarded(UnsafeCell::new(None));

/// The state, for a short while: while it is borrowed nothing may call Ruby, since the collector wants to read it. The
/// GVL is held.
fn with_state<R>(work: impl FnOnce(&mut State) -> R) -> Option<R> {
    // SAFETY: the GVL is held and no `work` in this file calls Ruby or comes back here, so the borrow is the only one.
    unsafe { &mut *STATE.0.get() }.as_mut().map(work)
}

unsafe extern "C" fn mark(_: *mut c_void) {
    // SAFETY: the collector runs with the GVL held, and never while the state is borrowed for writing.
    let Some(state) = (unsafe { &*STATE.0.get() }) else { return };
    let keys = state.keys.iter().flat_map(|key| [key.string, key.symbol]);
    for value in state.values.iter().copied().chain(keys) {
        // SAFETY: a live value, or nil; marking pins it, so that compaction leaves it where we know it to be.
        unsafe { rb_sys::rb_gc_mark(value) };
    }
}

struct DataType(rb_sys::rb_data_type_t);

// SAFETY: constant data.
unsafe impl Sync for DataType {}

static DATA_TYPE: DataType = DataType(rb_sys::rb_data_type_t {
    wrap_struct_name: c"Iodine::Base::JSONValues".as_ptr(),
    function: rb_sys::rb_data_type_struct__bindgen_ty_1 {
        dmark: Some(mark),
        dfree: None,
        dsize: None,
        dcompact: None,
        reserved: [std::ptr::null_mut(); 1],
    },
    parent: std::ptr::null(),
    data: std::ptr::null_mut(),
    flags: 0,
});

/// Makes the stack known to the collector. Called once, with the GVL.
pub fn init() {
    let keys = [Key { string: NIL, symbol: NIL }; KEY_SLOTS];
    // SAFETY: the GVL is held during Init_iodine and nothing else has the state yet. The data pointer only has to be
    // non-null for `mark` to be called.
    unsafe {
        *STATE.0.get() = Some(State { values: Vec::new(), keys, scratch: Scratch::default() });
        let object = rb_sys::rb_data_typed_object_wrap(
            rb_sys::rb_cObject,
            STATE.0.get().cast(),
            &raw const DATA_TYPE.0,
        );
        rb_sys::rb_gc_register_mark_object(object);
    }
}

/// The value of the document in `source`, a String. The GVL is held, and the caller keeps `source` alive.
pub fn parse(source: VALUE, rules: &Rules, symbolize: bool) -> Result<VALUE, Failure> {
    // What needs dropping stays in this frame, behind the one that a `longjmp` may leave.
    let mut scratch = with_state(|state| std::mem::take(&mut state.scratch)).unwrap_or_default();
    let mut outcome = Ok(());
    let result = crate::gvl::protect(|| {
        // SAFETY: a String that the caller keeps alive. No Ruby code runs while it is read, so it can not change.
        let text = unsafe {
            let start = rb_sys::RSTRING_PTR(source).cast::<u8>();
            std::slice::from_raw_parts(start, rb_sys::RSTRING_LEN(source) as usize)
        };
        outcome = json::parse(text, rules, &mut scratch, &mut RubyBuilder { symbolize });
        match outcome {
            Ok(()) => with_state(|state| state.values.pop()).flatten().unwrap_or(NIL),
            Err(_) => NIL,
        }
    });
    with_state(|state| {
        // What a failure has left.
        state.values.clear();
        state.values.shrink_to(KEPT / size_of::<VALUE>());
        scratch.trim(KEPT);
        state.scratch = std::mem::take(&mut scratch);
    });
    match (result, outcome) {
        (Err(error), _) => Err(Failure::Ruby(error)),
        (_, Err(error)) => Err(Failure::Json(error)),
        (Ok(value), Ok(())) => Ok(value),
    }
}

/// Makes Ruby values. Each of its calls may raise NoMemoryError; nothing here owns anything.
struct RubyBuilder {
    symbolize: bool,
}

impl RubyBuilder {
    #[inline]
    fn push(&mut self, value: VALUE) {
        with_state(|state| state.values.push(value));
    }

    /// Replaces the last `count` values by what `make` makes of them.
    #[inline]
    fn gather(&mut self, count: usize, make: impl FnOnce(c_long, *const VALUE) -> VALUE) {
        let Some((start, first)) = with_state(|state| {
            let start = state.values.len().saturating_sub(count);
            (start, state.values[start..].as_ptr())
        }) else {
            return;
        };
        // The values stay on the stack until they have a new home; nobody else pushes, so they stay where they are.
        let value = make(count as c_long, first);
        with_state(|state| {
            state.values.truncate(start);
            state.values.push(value);
        });
    }
}

impl Builder for RubyBuilder {
    #[inline]
    fn null(&mut self) {
        self.push(NIL);
    }

    #[inline]
    fn boolean(&mut self, value: bool) {
        self.push(if value { rb_sys::Qtrue as VALUE } else { rb_sys::Qfalse as VALUE });
    }

    #[inline]
    fn integer(&mut self, value: i64) {
        // SAFETY: the GVL is held.
        self.push(unsafe { rb_sys::rb_ll2inum(value) });
    }

    fn big_integer(&mut self, negative: bool, digits: &[u8], radix: u32) {
        let value = std::str::from_utf8(digits).ok().and_then(|text| u128::from_str_radix(text, radix).ok());
        self.push(match value {
            Some(value) => wide_integer(negative, value),
            None => long_integer(negative, digits, radix),
        });
    }

    #[inline]
    fn float(&mut self, value: f64) {
        // SAFETY: the GVL is held.
        self.push(unsafe { rb_sys::rb_float_new(value) });
    }

    #[inline]
    fn string(&mut self, text: Text<'_>) {
        self.push(new_string(text));
    }

    #[inline]
    fn key(&mut self, text: Text<'_>) {
        let key = match text {
            Text::Utf8(bytes) if bytes.len() <= KEY_LENGTH => known_key(bytes, self.symbolize),
            _ => Key::new(text, self.symbolize),
        };
        self.push(if self.symbolize { key.symbol } else { key.string });
    }

    #[inline]
    fn array(&mut self, count: usize) {
        // SAFETY: the GVL is held; the values are alive and stay where they are (see `gather`).
        self.gather(count, |count, first| unsafe { rb_sys::rb_ary_new_from_values(count, first) });
    }

    #[inline]
    fn object(&mut self, count: usize) {
        self.gather(count * 2, |count, first| {
            // SAFETY: as above. Keys are frozen Strings or Symbols: neither is copied, neither calls Ruby code.
            unsafe {
                let hash = rb_sys::rb_hash_new();
                rb_sys::rb_hash_bulk_insert(count, first, hash);
                hash
            }
        });
    }
}

/// An integer of 128 bits and a sign. The GVL is held.
fn wide_integer(negative: bool, value: u128) -> VALUE {
    let words = [value as u64, (value >> 64) as u64];
    let sign = if negative { rb_sys::INTEGER_PACK_NEGATIVE } else { 0 };
    let flags = rb_sys::INTEGER_PACK_LSWORD_FIRST | rb_sys::INTEGER_PACK_NATIVE_BYTE_ORDER | sign;
    // SAFETY: the GVL is held; two words of eight bytes, as said.
    unsafe { rb_sys::rb_integer_unpack(words.as_ptr().cast(), 2, size_of::<u64>() as _, 0, flags as c_int) }
}

/// An integer of any number of digits. The GVL is held.
fn long_integer(negative: bool, digits: &[u8], radix: u32) -> VALUE {
    let sign: &[u8] = if negative { b"-" } else { b"" };
    // SAFETY: the GVL is held; Ruby copies the digits.
    unsafe {
        let text = rb_sys::rb_str_new(sign.as_ptr().cast(), sign.len() as c_long);
        rb_sys::rb_str_cat(text, digits.as_ptr().cast(), digits.len() as c_long);
        let value = rb_sys::rb_str_to_inum(text, radix as c_int, 0);
        // Nobody will see the digits again: their memory need not wait for the collector.
        rb_sys::rb_str_resize(text, 0);
        value
    }
}

fn new_string(text: Text<'_>) -> VALUE {
    let bytes = text.bytes();
    let (start, length) = (bytes.as_ptr().cast::<c_char>(), bytes.len() as c_long);
    // SAFETY: the GVL is held; Ruby copies the bytes.
    unsafe {
        match text {
            Text::Utf8(_) => rb_sys::rb_utf8_str_new(start, length),
            Text::Binary(_) => rb_sys::rb_str_new(start, length),
        }
    }
}

impl Key {
    /// A frozen String, one for all equal ones, and its Symbol if that is wanted. The GVL is held.
    fn new(text: Text<'_>, symbolize: bool) -> Key {
        let bytes = text.bytes();
        // SAFETY: the GVL is held; Ruby copies the bytes. A Symbol made of a String can be collected.
        unsafe {
            let string = match text {
                Text::Utf8(_) => rb_sys::rb_enc_interned_str(
                    bytes.as_ptr().cast(),
                    bytes.len() as c_long,
                    rb_sys::rb_utf8_encoding(),
                ),
                Text::Binary(_) => rb_sys::rb_str_to_interned_str(new_string(text)),
            };
            let symbol = if symbolize { rb_sys::rb_str_intern(string) } else { NIL };
            Key { string, symbol }
        }
    }

    /// True if this is the key that `bytes` spell.
    #[inline]
    fn is(&self, bytes: &[u8]) -> bool {
        // SAFETY: a live String, which the table keeps, or nil, which is looked at no further.
        self.string != NIL
            && unsafe {
                let start = rb_sys::RSTRING_PTR(self.string).cast::<u8>();
                std::slice::from_raw_parts(start, rb_sys::RSTRING_LEN(self.string) as usize) == bytes
            }
    }
}

/// The key of the table that `bytes` spell; it takes the place of another one if need be. The GVL is held.
#[inline]
fn known_key(bytes: &[u8], symbolize: bool) -> Key {
    let slot = slot_of(bytes);
    let known = with_state(|state| state.keys[slot]);
    match known {
        Some(key) if key.is(bytes) && !(symbolize && key.symbol == NIL) => key,
        _ => {
            let key = Key::new(Text::Utf8(bytes), symbolize);
            with_state(|state| state.keys[slot] = key);
            key
        }
    }
}

/// A mix of the length and of the bytes at both ends. A poor one costs a look-up in Ruby's own table, no more.
#[inline]
fn slot_of(bytes: &[u8]) -> usize {
    let head = bytes.first_chunk::<8>().map(|chunk| u64::from_le_bytes(*chunk));
    let tail = bytes.last_chunk::<8>().map(|chunk| u64::from_le_bytes(*chunk));
    let mixed = match (head, tail) {
        (Some(head), Some(tail)) => head ^ tail.rotate_left(23),
        _ => bytes.iter().fold(0, |word, &byte| (word << 8) | u64::from(byte)),
    };
    let spread = (mixed ^ ((bytes.len() as u64) << 56)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (spread >> 55) as usize % KEY_SLOTS
}
