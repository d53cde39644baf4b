//! Leaving the GVL, and calling Ruby so that nothing unwinds through Rust.
//!
//! A Ruby exception, a `throw` or a `Thread#kill` is a `longjmp`: it skips destructors. So every call that may raise
//! goes through [`protect`], and inside it nothing is owned that needs dropping.

use magnus::Error;
use rb_sys::VALUE;
use std::any::Any;
use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs `work` without the GVL and returns its result; `None` when an interrupt (a signal, `Thread#kill`) was pending,
/// in which case `work` did not run. Never raises: the caller looks after interrupts itself.
///
/// `unblock` must make `work` return soon. It is called from other threads, and `work` must not touch a Ruby value.
pub fn without<R: Send>(work: impl FnOnce() -> R + Send, unblock: impl Fn() + Sync) -> Option<R> {
    struct Call<F, R> {
        work: Option<F>,
        result: Option<Result<R, Box<dyn Any + Send>>>,
    }

    unsafe extern "C" fn run<R, F: FnOnce() -> R>(data: *mut c_void) -> *mut c_void {
        // SAFETY: `data` is the `Call` below, which outlives this call and is used by nobody else meanwhile.
        let call = unsafe { &mut *data.cast::<Call<F, R>>() };
        if let Some(work) = call.work.take() {
            // A panic must not cross the C frames of Ruby; it goes on behind them.
            call.result = Some(catch_unwind(AssertUnwindSafe(work)));
        }
        std::ptr::null_mut()
    }

    unsafe extern "C" fn interrupt<U: Fn()>(data: *mut c_void) {
        // SAFETY: `data` is `unblock` below; Ruby calls this only while `rb_nogvl` runs.
        let unblock = unsafe { &*data.cast::<U>() };
        let _ = catch_unwind(AssertUnwindSafe(unblock));
    }

    fn start<R, F: FnOnce() -> R, U: Fn()>(call: &mut Call<F, R>, unblock: &U) {
        // SAFETY: both pointers outlive the call. With INTR_FAIL Ruby neither raises nor runs handlers in here.
        unsafe {
            rb_sys::rb_nogvl(
                Some(run::<R, F>),
                std::ptr::from_mut(call).cast(),
                Some(interrupt::<U>),
                std::ptr::from_ref(unblock).cast_mut().cast(),
                rb_sys::RB_NOGVL_INTR_FAIL as c_int,
            );
        }
    }

    let mut call = Call { work: Some(work), result: None };
    start(&mut call, &unblock);
    match call.result? {
        Ok(result) => Some(result),
        Err(panic) => resume_unwind(panic),
    }
}

/// Calls `work`, which may raise. The GVL is held. Whatever `work` owns is leaked if it raises, so it owns nothing.
pub fn protect(work: impl FnOnce() -> VALUE) -> Result<VALUE, Error> {
    let mut panicked = None;
    let result = magnus::rb_sys::protect(|| match catch_unwind(AssertUnwindSafe(work)) {
        Ok(value) => value,
        Err(panic) => {
            panicked = Some(panic);
            rb_sys::Qnil as VALUE
        }
    });
    match panicked {
        Some(panic) => resume_unwind(panic),
        None => result,
    }
}

/// Lets Ruby handle what is pending: signals, `Thread#kill`, `Thread#raise`. The GVL is held.
pub fn check_interrupts() -> Result<(), Error> {
    // SAFETY: the GVL is held, and what is raised is caught.
    protect(|| unsafe {
        rb_sys::rb_thread_check_ints();
        rb_sys::Qnil as VALUE
    })
    .map(|_| ())
}
