//! The allocator of the extension, and how what it and Ruby's have free goes back to the system.

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Gives back what the calling thread has free, and what is nobody's. Takes some milliseconds, so: without the GVL.
pub fn give_back() {
    // SAFETY: it may be called from any thread at any time.
    #[cfg(feature = "mimalloc")]
    unsafe {
        libmimalloc_sys::mi_collect(true)
    };
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        // SAFETY: so may this (malloc_trim(3)).
        unsafe { malloc_trim(0) };
    }
}
