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
