//! A connected socket, TCP or Unix, non-blocking. Both kinds are used by the same calls; TLS will be another kind.

use crate::sys::{Fd, SEND};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, Shutdown};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

#[cfg(target_os = "linux")]
const SEND_MORE: rustix::net::SendFlags = SEND.union(rustix::net::SendFlags::MORE);
#[cfg(not(target_os = "linux"))]
const SEND_MORE: rustix::net::SendFlags = SEND;

/// Bytes that the system takes beyond what it can send, see [`Stream::keep_queue_short`]. Measured: 8 to 32 KiB
/// cost the same, 128 KiB three times as much.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 16 * 1024;

/// Bytes of a file that are copied at a time where the system does not send them by itself.
const COPIED: usize = 16 * 1024;

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

    /// As [`Stream::write_slices`]; more will follow at once, so the system need not send what fills no packet yet.
    pub fn write_slices_of_more(&self, slices: &[IoSlice<'_>]) -> Moved {
        let mut control = SendAncillaryBuffer::default();
        moved(|| rustix::net::sendmsg(&self.fd, slices, &mut control, SEND_MORE))
    }

    /// Has the system take only little more than it can send: what waits with us costs nothing, what waits there is cold
    /// when its turn comes. Unlike with a small send buffer, the client's distance may still fill the line.
    pub fn keep_queue_short(&self) {
        #[cfg(target_os = "linux")]
        let _ = socket2::SockRef::from(&self.fd).set_tcp_notsent_lowat(UNSENT);
    }

    /// Writes up to `count` bytes of `file` from `offset` on. Zero bytes mean that the file ends there.
    pub fn send_file(&self, file: BorrowedFd<'_>, offset: u64, count: usize) -> Moved {
        #[cfg(target_os = "linux")]
        match rustix::fs::sendfile(&self.fd, file, Some(&mut { offset }), count) {
            // Not every file system can.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            Err(Errno::INTR) => return self.send_file(file, offset, count),
            sent => return moved(|| sent),
        }
        self.copy_file(file, offset, count)
    }

    /// As [`Stream::send_file`], by way of our own memory.
    fn copy_file(&self, file: BorrowedFd<'_>, offset: u64, count: usize) -> Moved {
        let mut buffer = [0; COPIED];
        let wanted = count.min(COPIED);
        match moved(|| rustix::io::pread(file, &mut buffer[..wanted], offset)) {
            Moved::Bytes(0) => Moved::Bytes(0),
            Moved::Bytes(count) => self.write(&buffer[..count]),
            Moved::WouldBlock | Moved::Broken => Moved::Broken,
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_file_is_sent_from_where_it_is_wanted_to_its_end() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let stream = Stream::new(Fd::new(ours.into()));
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        for send in [Stream::send_file, Stream::copy_file] {
            assert_eq!(send(&stream, file.as_fd(), 2, 3), Moved::Bytes(3));
            assert_eq!(send(&stream, file.as_fd(), 8, 100), Moved::Bytes(2));
            assert_eq!(send(&stream, file.as_fd(), 10, 100), Moved::Bytes(0));
            let mut text = [0; 5];
            theirs.read_exact(&mut text).unwrap();
            assert_eq!(&text, b"23489");
        }
        drop(theirs);
        assert_eq!(stream.send_file(file.as_fd(), 0, 1), Moved::Broken);
    }
}
