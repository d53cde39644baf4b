//! System calls that need `unsafe` or differ between systems, and the tables that must survive a fork. Everything else in
//! this crate is safe code.

use std::os::fd::{BorrowedFd, OwnedFd};

mod board;
mod fd;
#[cfg(feature = "tls")]
mod openssl;
mod socket;

pub use board::Board;
pub use fd::{Fd, close_all, raise_descriptor_limit, undelivered};
#[cfg(feature = "tls")]
pub(crate) use openssl::forget_errors;
pub(crate) use socket::{SEND, accept, pair, set_defer_accept};

/// A copy of a descriptor, non-blocking and closed by exec.
pub fn duplicate(fd: BorrowedFd<'_>) -> std::io::Result<OwnedFd> {
    let copy = rustix::io::fcntl_dupfd_cloexec(fd, 0)?;
    rustix::io::ioctl_fionbio(&copy, true)?;
    Ok(copy)
}

/// Bytes that nobody can foretell.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // It fails on systems without any source only, and on those nothing else would work either.
    let filled = getrandom::fill(&mut bytes);
    debug_assert!(filled.is_ok(), "there is no randomness");
    bytes
}
