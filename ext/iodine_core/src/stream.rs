//! A connected socket, TCP or Unix, non-blocking. Both kinds are used by the same calls; TLS will be another kind.

use crate::sys::{Fd, SEND};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, Shutdown};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, RawFd};

/// A connected, non-blocking stream socket.
#[derive(Debug)]
pub struct Stream {
    fd: Fd,
}

/// What a read or a write came to. "Would block" is an outcome, not an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// So many bytes; zero from a read means that the peer will send no more.
    Bytes(usize),
    /// Nothing can be moved now.
    WouldBlock,
    /// The connection is broken.
    Broken,
}

impl Stream {
    /// Takes over a connected, non-blocking socket.
    pub fn new(fd: Fd) -> Stream {
        Stream { fd }
    }

    /// Reads into `buffer`.
    pub fn read(&self, buffer: &mut [u8]) -> Moved {
        moved(|| rustix::net::recv(&self.fd, &mut *buffer, RecvFlags::empty()).map(|(count, _)| count))
    }

    /// Reads into the spare capacity of `buffer`, which must have some.
    pub fn read_spare(&self, buffer: &mut Vec<u8>) -> Moved {
        moved(|| {
            rustix::net::recv(&self.fd, rustix::buffer::spare_capacity(buffer), RecvFlags::empty())
                .map(|(count, _)| count)
        })
    }

    /// Writes as much of `bytes` as the socket takes.
    pub fn write(&self, bytes: &[u8]) -> Moved {
        moved(|| rustix::net::send(&self.fd, bytes, SEND))
    }

    /// Writes as much of `slices` as the socket takes.
    pub fn write_slices(&self, slices: &[IoSlice<'_>]) -> Moved {
        let mut control = SendAncillaryBuffer::default();
        moved(|| rustix::net::sendmsg(&self.fd, slices, &mut control, SEND))
    }

    /// Bytes written that the peer has not taken yet, as far as the system tells.
    pub fn undelivered(&self) -> usize {
        crate::sys::undelivered(&self.fd)
    }

    /// Tells the peer that nothing more will come.
    pub fn finish_writing(&self) {
        let _ = rustix::net::shutdown(&self.fd, Shutdown::Write);
    }

    /// Makes the close a reset, which no peer takes for a proper end.
    pub fn reset_on_close(&self) {
        let _ = rustix::net::sockopt::set_socket_linger(&self.fd, Some(std::time::Duration::ZERO));
    }

    /// Gives the socket away.
    pub fn into_raw(self) -> RawFd {
        self.fd.into_raw()
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_fd().as_raw_fd()
    }
}

fn moved(mut call: impl FnMut() -> rustix::io::Result<usize>) -> Moved {
    loop {
        return match call() {
            Ok(count) => Moved::Bytes(count),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Moved::WouldBlock,
            Err(_) => Moved::Broken,
        };
    }
}
