//! Ruby Strings of bytes that came from elsewhere.

use iodine_codec::websocket::Kind;
use rb_sys::VALUE;
use std::ffi::c_long;

/// A fresh String: UTF-8 for text, binary for the rest. The GVL is held; may raise NoMemoryError.
pub fn of_kind(bytes: &[u8], kind: Kind) -> VALUE {
    match kind {
        Kind::Text => text(bytes),
        Kind::Binary => binary(bytes),
    }
}

/// A fresh UTF-8 String. The GVL is held; may raise NoMemoryError.
pub fn text(bytes: &[u8]) -> VALUE {
    // SAFETY: the GVL is held; Ruby copies the bytes.
    unsafe { rb_sys::rb_utf8_str_new(bytes.as_ptr().cast(), bytes.len() as c_long) }
}

/// A fresh binary String. The GVL is held; may raise NoMemoryError.
pub fn binary(bytes: &[u8]) -> VALUE {
    // SAFETY: the GVL is held; Ruby copies the bytes.
    unsafe { rb_sys::rb_str_new(bytes.as_ptr().cast(), bytes.len() as c_long) }
}

/// UTF-8 if it is that, else binary: what a block is given can be written on as what it was. The GVL is held; may raise
/// NoMemoryError.
pub fn text_if_valid(bytes: &[u8]) -> VALUE {
    if std::str::from_utf8(bytes).is_ok() { text(bytes) } else { binary(bytes) }
}
