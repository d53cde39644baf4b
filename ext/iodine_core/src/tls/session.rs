//! The TLS session of one connection, over its non-blocking socket.
//!
//! A stream is used under its connection's lock only, so a `RefCell` is enough here: the session can be sent between threads,
//! not shared by them. OpenSSL keeps a queue of errors per thread and takes what lies there for the outcome of the next call.
//! Others in this process use OpenSSL as well, therefore the queue is emptied before each call, and after.

use super::Handshake;
use super::client::{TlsClient, reason};
use crate::stream::Moved;
use crate::sys::{Fd, SEND};
use openssl::error::ErrorStack;
use openssl::ssl::{self, ErrorCode, SslStream};
use openssl::x509::X509VerifyResult;
use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown};
use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::RawFd;
use std::sync::Arc;

/// Bytes of one record (RFC 8446 section 5.1), so that is what a read or a write moves at most.
pub(crate) const RECORD: usize = 16 * 1024;
/// A TLS stream begins with one of these: an alert, or a handshake message (RFC 8446 section 5.1).
const FIRST_BYTES: [u8; 2] = [21, 22];
/// Bytes that a session keeps of what it has to say by itself. An alert or an exchange of keys has some thirty.
const KEPT: usize = 4096;

/// See the module's text.
pub(crate) struct Tls {
    session: RefCell<Session>,
    /// The session has the other reference.
    socket: Arc<Fd>,
}

struct Session {
    ssl: SslStream<Socket>,
    /// The server, as the application calls it.
    host: Box<str>,
    verify: bool,
    state: State,
    /// Bytes that were offered when a write blocked, else 0. OpenSSL has encrypted them, so the next write must offer them
    /// again: it goes on with what it has, and only looks at their number.
    begun: usize,
    goodbye: Goodbye,
    /// The socket's write half is to end when all has left.
    shuts: bool,
    truncated: bool,
}

enum State {
    Handshake,
    Open,
    /// Why it can not be used any more.
    Broken(String),
}

/// Our `close_notify` (RFC 8446 section 6.1).
#[derive(Clone, Copy, PartialEq)]
enum Goodbye {
    NotYet,
    /// A write that has begun comes first.
    Waits,
    Said,
}

/// Why a call did not do what it should.
enum Stop {
    WantsRead,
    WantsWrite,
    /// The peer will send no more, and has said so.
    End,
    /// The peer's half of the socket has ended without a word.
    Truncated,
    Failed(String),
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Tls {
    pub(crate) fn client(fd: Fd, settings: &TlsClient, host: &str) -> Result<Tls, String> {
        let ssl = settings.session(bare(host))?;
        let socket = Arc::new(fd);
        let ours = Socket {
            fd: socket.clone(),
            first: None,
            ended: false,
            waits: false,
            keeps: false,
            kept: Vec::new(),
        };
        let stream =
            SslStream::new(ssl, ours).map_err(|error| format!("no TLS session: {}", reason(&error)))?;
        let session = Session {
            ssl: stream,
            host: if host.is_empty() { "the server".into() } else { host.into() },
            verify: settings.verifies(),
            state: State::Handshake,
            begun: 0,
            goodbye: Goodbye::NotYet,
            shuts: false,
            truncated: false,
        };
        Ok(Tls { session: RefCell::new(session), socket })
    }

    pub(crate) fn socket(&self) -> &Fd {
        &self.socket
    }

    pub(crate) fn handshake(&self) -> Handshake {
        self.session.borrow_mut().handshake()
    }

    pub(crate) fn read(&self, buffer: &mut [u8]) -> Moved {
        self.session.borrow_mut().read(buffer)
    }

    pub(crate) fn read_spare(&self, buffer: &mut Vec<u8>) -> Moved {
        let start = buffer.len();
        // Zeroes are cheap beside what decrypting costs.
        buffer.resize(start + (buffer.capacity() - start).min(RECORD), 0);
        let moved = self.read(&mut buffer[start..]);
        buffer.truncate(match moved {
            Moved::Bytes(count) => start + count,
            Moved::WouldBlock | Moved::Broken => start,
        });
        moved
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> Moved {
        self.session.borrow_mut().write(&bytes[..bytes.len().min(RECORD)])
    }

    /// Small slices share a record, as each costs some thirty bytes and a call.
    pub(crate) fn write_slices(&self, slices: &[IoSlice<'_>]) -> Moved {
        let mut slices = slices.iter().filter(|slice| !slice.is_empty()).peekable();
        let Some(first) = slices.next() else { return Moved::Bytes(0) };
        if first.len() >= RECORD || slices.peek().is_none() {
            return self.write(first);
        }
        let mut record = [0; RECORD];
        let mut length = 0;
        for slice in std::iter::once(first).chain(slices) {
            let room = &mut record[length..];
            let count = slice.len().min(room.len());
            room[..count].copy_from_slice(&slice[..count]);
            length += count;
        }
        self.write(&record[..length])
    }

    /// Says that nothing more will come.
    pub(crate) fn say_end(&self) {
        self.session.borrow_mut().say_end();
    }

    /// As [`Tls::say_end`], and ends the socket's write half behind it.
    pub(crate) fn finish_writing(&self) {
        let mut session = self.session.borrow_mut();
        session.shuts = true;
        session.say_end();
        session.flush_own();
    }

    pub(crate) fn flush_own(&self) {
        self.session.borrow_mut().flush_own();
    }

    pub(crate) fn truncated(&self) -> bool {
        self.session.borrow().truncated
    }

    pub(crate) fn why_broken(&self) -> Option<String> {
        match &self.session.borrow().state {
            State::Broken(reason) => Some(reason.clone()),
            State::Handshake | State::Open => None,
        }
    }

    pub(crate) fn alpn(&self) -> Option<Vec<u8>> {
        self.session.borrow().ssl.ssl().selected_alpn_protocol().map(<[u8]>::to_vec)
    }

    pub(crate) fn into_raw(self) -> RawFd {
        drop(self.session);
        let fd = Arc::into_inner(self.socket);
        debug_assert!(fd.is_some(), "somebody else has the socket of a session that is gone");
        fd.map_or(-1, Fd::into_raw)
    }
}

/// `host` as certificates have it: no brackets around an address, no dot behind a name.
fn bare(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address,
        None => host.strip_suffix('.').unwrap_or(host),
    }
}

impl Session {
    fn handshake(&mut self) -> Handshake {
        match &self.state {
            State::Open => return Handshake::Done,
            State::Broken(reason) => return Handshake::Failed(reason.clone()),
            State::Handshake => {}
        }
        let stop = match self.call(false, SslStream::do_handshake) {
            Ok(()) => {
                self.state = State::Open;
                return Handshake::Done;
            }
            Err(Stop::WantsRead | Stop::WantsWrite) => return Handshake::WouldBlock,
            Err(stop) => stop,
        };
        let sentence = self.why_no_handshake(stop);
        self.state = State::Broken(sentence.clone());
        Handshake::Failed(sentence)
    }

    fn why_no_handshake(&self, stop: Stop) -> String {
        let host = &self.host;
        let verified = self.ssl.ssl().verify_result();
        if self.verify && verified != X509VerifyResult::OK {
            return format!("the certificate of {host} is not accepted: {}", verified.error_string());
        }
        if self.ssl.get_ref().first.is_some_and(|first| !FIRST_BYTES.contains(&first)) {
            return format!("what {host} answers is not TLS");
        }
        match stop {
            Stop::Failed(reason) => format!("the TLS handshake with {host} failed: {reason}"),
            _ => format!("{host} closed the connection during the TLS handshake"),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Moved {
        match self.state {
            State::Handshake => return Moved::WouldBlock,
            State::Broken(_) => return Moved::Broken,
            State::Open if self.truncated => return Moved::Bytes(0),
            State::Open => {}
        }
        self.flush_own();
        match self.call(true, |ssl| ssl.ssl_read(buffer)) {
            Ok(count) => Moved::Bytes(count),
            Err(Stop::End) => Moved::Bytes(0),
            Err(Stop::Truncated) => {
                self.truncated = true;
                Moved::Bytes(0)
            }
            Err(stop) => self.stopped(stop),
        }
    }

    /// Writes `bytes`, at most those of one record.
    fn write(&mut self, bytes: &[u8]) -> Moved {
        match self.state {
            State::Handshake => return Moved::WouldBlock,
            State::Broken(_) => return Moved::Broken,
            State::Open if bytes.len() < self.begun => {
                // A file that has shrunk, for one.
                return self.stopped(Stop::Failed("bytes that had begun to leave are there no more".into()));
            }
            State::Open => {}
        }
        let written = self.call(false, |ssl| ssl.ssl_write(bytes));
        self.begun = 0;
        match written {
            Ok(count) => Moved::Bytes(count),
            Err(stop) => {
                let moved = self.stopped(stop);
                if moved == Moved::WouldBlock {
                    self.begun = bytes.len();
                }
                moved
            }
        }
    }

    fn stopped(&mut self, stop: Stop) -> Moved {
        let reason = match stop {
            Stop::WantsRead | Stop::WantsWrite => return Moved::WouldBlock,
            Stop::Failed(reason) => reason,
            Stop::End | Stop::Truncated => "the peer has closed the connection".into(),
        };
        self.state = State::Broken(reason);
        Moved::Broken
    }

    fn say_end(&mut self) {
        // After an error, and in the middle of a handshake, OpenSSL must not be asked.
        if !matches!(self.state, State::Open) || self.goodbye == Goodbye::Said {
            return;
        }
        // In the middle of a record there is no place for another.
        if self.begun > 0 {
            self.goodbye = Goodbye::Waits;
            return;
        }
        self.goodbye = Goodbye::Said;
        let _ = self.call(true, SslStream::shutdown);
    }

    /// Sends what the session has to say by itself, and ends the write half if that is due.
    fn flush_own(&mut self) {
        if self.goodbye == Goodbye::Waits {
            self.say_end();
        }
        let socket = self.ssl.get_mut();
        let is_out = socket.kept.is_empty() || socket.send_kept() != Err(Errno::AGAIN);
        if self.shuts && is_out && self.goodbye != Goodbye::Waits {
            self.shuts = false;
            let _ = rustix::net::shutdown(&socket.fd, Shutdown::Write);
        }
    }

    /// Calls OpenSSL with a clean queue of errors, and leaves it clean. What it writes is taken from it in any case if
    /// `keeps`.
    fn call<T>(
        &mut self,
        keeps: bool,
        mut call: impl FnMut(&mut SslStream<Socket>) -> Result<T, ssl::Error>,
    ) -> Result<T, Stop> {
        loop {
            forget_errors();
            let socket = self.ssl.get_mut();
            (socket.waits, socket.keeps) = (false, keeps);
            let done = call(&mut self.ssl);
            forget_errors();
            let socket = self.ssl.get_ref();
            return Err(match done {
                Ok(value) => return Ok(value),
                Err(error) => match error.code() {
                    // It wants to be called again, and no event would remind us.
                    ErrorCode::WANT_READ if !socket.waits => continue,
                    ErrorCode::WANT_READ => Stop::WantsRead,
                    ErrorCode::WANT_WRITE => Stop::WantsWrite,
                    ErrorCode::ZERO_RETURN => Stop::End,
                    _ if socket.ended => Stop::Truncated,
                    _ => Stop::Failed(why(&error)),
                },
            });
        }
    }
}

fn forget_errors() {
    drop(ErrorStack::get());
}

fn why(error: &ssl::Error) -> String {
    match (error.ssl_error(), error.io_error()) {
        (Some(errors), _) => reason(errors).into(),
        (None, Some(error)) => error.to_string(),
        (None, None) => "the connection is broken".into(),
    }
}

/// The socket as OpenSSL's BIO uses it.
///
/// A read, too, may have something to write: it ends an exchange of keys that a write has begun, and OpenSSL reads nothing
/// before that has left. Were it to wait, with a peer that reads only when it has been read, both would wait for ever. So what is
/// written in a read is kept here while the socket is full; it leaves before anything else.
struct Socket {
    fd: Arc<Fd>,
    /// The first byte that came.
    first: Option<u8>,
    /// The peer's half of the socket has ended.
    ended: bool,
    /// Whether a call has come to nothing because the socket was empty or full.
    waits: bool,
    /// Whether this call may keep what the socket does not take.
    keeps: bool,
    /// At most [`KEPT`] bytes.
    kept: Vec<u8>,
}

impl Socket {
    fn moved(&mut self, mut call: impl FnMut(&Fd) -> rustix::io::Result<usize>) -> rustix::io::Result<usize> {
        loop {
            match call(&self.fd) {
                Err(Errno::INTR) => {}
                moved => {
                    self.waits |= moved == Err(Errno::AGAIN);
                    return moved;
                }
            }
        }
    }

    fn send_kept(&mut self) -> rustix::io::Result<()> {
        while !self.kept.is_empty() {
            let kept = std::mem::take(&mut self.kept);
            let sent = self.moved(|fd| rustix::net::send(fd, &kept, SEND));
            self.kept = kept;
            self.kept.drain(..sent?);
        }
        Ok(())
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count =
            self.moved(|fd| rustix::net::recv(fd, &mut *buffer, RecvFlags::empty()).map(|(count, _)| count))?;
        self.ended |= count == 0 && !buffer.is_empty();
        if self.first.is_none() {
            self.first = buffer[..count].first().copied();
        }
        Ok(count)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.send_kept().and_then(|()| self.moved(|fd| rustix::net::send(fd, bytes, SEND)));
        match sent {
            Err(Errno::AGAIN) if self.keeps && self.kept.len() + bytes.len() <= KEPT => {
                self.kept.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            Err(Errno::AGAIN) if self.keeps => {
                Err(io::Error::other("the peer does not read the answers it wants"))
            }
            sent => Ok(sent?),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
