//! What of OpenSSL the crate of that name has only in a way that allocates, and that panics at text which is not UTF-8.

/// Empties this thread's queue of errors.
pub fn forget_errors() {
    // SAFETY: it touches nothing but memory of this thread that OpenSSL owns, and may be called at any time.
    unsafe { openssl_sys::ERR_clear_error() }
}
