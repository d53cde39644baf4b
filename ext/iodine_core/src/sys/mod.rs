//! System calls that need `unsafe` or differ between systems, and the tables that must survive a fork. Everything else in
//! this crate is safe code.

mod board;
mod fd;
#[cfg(feature = "tls")]
mod openssl;
mod socket;

pub use board::Board;
pub use fd::{Fd, close_all, raise_descriptor_limit, undelivered};
#[cfg(feature = "tls")]
pub(crate) use openssl::forget_errors;
pub(crate) use socket::{SEND, accept, pair};

/// Bytes that nobody can foretell.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // It fails on systems without any source only, and on those nothing else would work either.
    let filled = getrandom::fill(&mut bytes);
    debug_assert!(filled.is_ok(), "there is no randomness");
    bytes
}
