//! A connected socket, TCP or Unix, plain or TLS, non-blocking. All kinds are used by the same calls.

use crate::sys::{Fd, SEND};
use crate::tls::{Handshake, Tls, TlsClient};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

#[cfg(target_os = "linux")]
const SEND_MORE: SendFlags = SEND.union(SendFlags::MORE);
#[cfg(not(target_os = "linux"))]
const SEND_MORE: SendFlags = SEND;

#[cfg(target_os = "linux")]
const SEND_APART: SendFlags = SEND_MORE.union(SendFlags::EOR);
#[cfg(not(target_os = "linux"))]
const SEND_APART: SendFlags = SEND;

/// Bytes of a file that are copied at a time where the system does not send them by itself: those of a TLS record.
const COPIED: usize = 16 * 1024;

/// A connected, non-blocking stream socket. What TLS asks of its user is told in [`crate::tls`].
#[derive(Debug)]
pub struct Stream {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Plain(Fd),
    Tls(Box<Tls>),
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
        Stream { kind: Kind::Plain(fd) }
    }

    /// As [`Stream::new`], for a client that speaks TLS to `host`: a name, an address, or nothing when it need not be
    /// verified. No byte moves before [`Stream::handshake`]. The error is a sentence, and the socket is closed then.
    pub fn tls_client(fd: Fd, settings: &TlsClient, host: &str) -> Result<Stream, String> {
        Tls::client(fd, settings, host).map(|tls| Stream { kind: Kind::Tls(Box::new(tls)) })
    }

    /// Goes on with what comes before the first byte of the application.
    pub fn handshake(&self) -> Handshake {
        match &self.kind {
            Kind::Plain(_) => Handshake::Done,
            Kind::Tls(tls) => tls.handshake(),
        }
    }

    /// Reads into `buffer`.
    pub fn read(&self, buffer: &mut [u8]) -> Moved {
        match &self.kind {
            Kind::Plain(fd) => {
                moved(|| match rustix::net::recv(fd, &mut *buffer, RecvFlags::empty()) {
                    // The application may have attached a pipe, or a terminal.
                    Err(Errno::NOTSOCK) => match rustix::io::read(fd, &mut *buffer) {
                        // Nothing will ever come from an end that is only written to. That nobody reads it is an event.
                        Err(Errno::BADF) => Err(Errno::AGAIN),
                        read => read,
                    },
                    read => read.map(|(count, _)| count),
                })
            }
            Kind::Tls(tls) => tls.read(buffer),
        }
    }

    /// Reads into the spare capacity of `buffer`, which must have some.
    pub fn read_spare(&self, buffer: &mut Vec<u8>) -> Moved {
        match &self.kind {
            Kind::Plain(fd) => moved(|| {
                rustix::net::recv(fd, rustix::buffer::spare_capacity(buffer), RecvFlags::empty())
                    .map(|(count, _)| count)
            }),
            Kind::Tls(tls) => tls.read_spare(buffer),
        }
    }

    /// Writes as much of `bytes` as the socket takes.
    pub fn write(&self, bytes: &[u8]) -> Moved {
        match &self.kind {
            Kind::Plain(fd) => moved(|| match rustix::net::send(fd, bytes, SEND) {
                Err(Errno::NOTSOCK) => rustix::io::write(fd, bytes),
                sent => sent,
            }),
            Kind::Tls(tls) => tls.write(bytes),
        }
    }

    /// Writes as much of `slices` as the socket takes.
    pub fn write_slices(&self, slices: &[IoSlice<'_>]) -> Moved {
        self.send_slices(slices, SEND)
    }

    /// As [`Stream::write_slices`]; more will follow at once, so the system need not send what fills no packet yet.
    pub fn write_slices_of_more(&self, slices: &[IoSlice<'_>]) -> Moved {
        self.send_slices(slices, SEND_MORE)
    }

    /// As [`Stream::write_slices_of_more`], for a little before a lot: it stays a packet of its own. As long as that waits,
    /// Linux only fills the packets behind it, and sends them all in one go when the call ends or half of what the peer
    /// once had room for is there. Otherwise each full packet would leave by itself and wake up the peer for itself, which
    /// costs a server beside its client a third of a body of 1 MiB. A file is no different, but for the copy.
    pub fn write_slices_apart(&self, slices: &[IoSlice<'_>]) -> Moved {
        self.send_slices(slices, SEND_APART)
    }

    /// Whether [`Stream::write_slices_apart`] is of any use.
    pub fn queues_apart(&self) -> bool {
        cfg!(target_os = "linux") && matches!(self.kind, Kind::Plain(_))
    }

    fn send_slices(&self, slices: &[IoSlice<'_>], flags: SendFlags) -> Moved {
        match &self.kind {
            Kind::Plain(fd) => {
                let mut control = SendAncillaryBuffer::default();
                moved(|| match rustix::net::sendmsg(fd, slices, &mut control, flags) {
                    Err(Errno::NOTSOCK) => rustix::io::writev(fd, slices),
                    sent => sent,
                })
            }
            Kind::Tls(tls) => tls.write_slices(slices),
        }
    }

    /// Whether a read of less than there was room for has left nothing to read. With TLS it was the rest of a record, and there
    /// may be others: only [`Moved::WouldBlock`] says that there are none.
    pub fn short_read_empties(&self) -> bool {
        matches!(self.kind, Kind::Plain(_))
    }

    /// Whether a write of less than there was has left no room in the socket. With TLS it was a record.
    pub fn short_write_fills(&self) -> bool {
        matches!(self.kind, Kind::Plain(_))
    }

    /// Whether it has things to say by itself, so that [`Stream::flush_own`] is to be called.
    pub fn has_own_output(&self) -> bool {
        matches!(self.kind, Kind::Tls(_))
    }

    /// Sends what the stream has to say by itself and had no room for, as the end of a TLS session. To be called on writable
    /// events.
    pub fn flush_own(&self) {
        if let Kind::Tls(tls) = &self.kind {
            tls.flush_own();
        }
    }

    /// Whether the peer's end came without its saying so, where it should: the network may have cut off the rest.
    pub fn truncated(&self) -> bool {
        match &self.kind {
            Kind::Plain(_) => false,
            Kind::Tls(tls) => tls.truncated(),
        }
    }

    /// Why TLS made it [`Moved::Broken`].
    pub fn why_broken(&self) -> Option<String> {
        match &self.kind {
            Kind::Plain(_) => None,
            Kind::Tls(tls) => tls.why_broken(),
        }
    }

    /// The protocol that both sides agreed on in the handshake, if they spoke of it.
    pub fn alpn(&self) -> Option<Vec<u8>> {
        match &self.kind {
            Kind::Plain(_) => None,
            Kind::Tls(tls) => tls.alpn(),
        }
    }

    /// Writes up to `count` bytes of `file` from `offset` on. Zero bytes mean that the file ends there.
    pub fn send_file(&self, file: BorrowedFd<'_>, offset: u64, count: usize) -> Moved {
        #[cfg(target_os = "linux")]
        if let Kind::Plain(fd) = &self.kind {
            match rustix::fs::sendfile(fd, file, Some(&mut { offset }), count) {
                // Not every file system can.
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
                Err(Errno::INTR) => return self.send_file(file, offset, count),
                sent => return moved(|| sent),
            }
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

    /// Bytes written that the peer has not taken yet, as far as the system tells. With TLS, those of its records.
    pub fn undelivered(&self) -> usize {
        crate::sys::undelivered(self.fd())
    }

    /// Tells the peer that nothing more will come. Reading goes on. False if only the close can tell, as with a pipe.
    pub fn finish_writing(&self) -> bool {
        match &self.kind {
            Kind::Plain(fd) => rustix::net::shutdown(fd, Shutdown::Write) != Err(Errno::NOTSOCK),
            Kind::Tls(tls) => {
                tls.finish_writing();
                true
            }
        }
    }

    /// For a connection that is closed at once: where the close alone does not tell the peer that it has everything, this
    /// does.
    pub fn say_end(&self) {
        if let Kind::Tls(tls) = &self.kind {
            tls.say_end();
        }
    }

    /// Makes the close a reset, which no peer takes for a proper end.
    pub fn reset_on_close(&self) {
        let _ = rustix::net::sockopt::set_socket_linger(self.fd(), Some(std::time::Duration::ZERO));
    }

    /// Gives the socket away. One that spoke TLS is of no use to whoever gets it, as the session stays behind: do not offer it.
    pub fn into_raw(self) -> RawFd {
        match self.kind {
            Kind::Plain(fd) => fd.into_raw(),
            Kind::Tls(tls) => tls.into_raw(),
        }
    }

    fn fd(&self) -> &Fd {
        match &self.kind {
            Kind::Plain(fd) => fd,
            Kind::Tls(tls) => tls.socket(),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd().as_fd()
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.fd().as_raw_fd()
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
