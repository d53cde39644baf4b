//! What becomes of the server in a child that the application forks: nothing.
//!
//! The child has a copy of everything and a thread for none of it. Locks may be held by threads that do not exist there,
//! so nothing is torn down: descriptors are closed, the log writes directly, and everything else is left as it lies.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static INERT: AtomicBool = AtomicBool::new(false);

/// Whether this process is such a child. An app thread that finds itself in one ends without a word.
pub fn is_inert() -> bool {
    INERT.load(Relaxed)
}

/// Called first of all in a child forked by the application.
pub fn become_inert() {
    INERT.store(true, Relaxed);
    iodine_core::log::write_directly();
    iodine_core::sys::close_all();
    crate::process::forget();
}
