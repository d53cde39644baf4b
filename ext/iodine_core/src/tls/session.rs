//! The TLS session of one connection, over its non-blocking socket.
//!
//! A stream is used under its connection's lock only, so a `RefCell` is enough here: the session can be sent between threads,
//! not shared by them. OpenSSL keeps a queue of errors per thread and takes what lies there for the outcome of the next call.
//! Others in this process use OpenSSL as well, therefore the queue is emptied before each call, and after.

use super::Handshake;
use super::client::{TlsClient, reason};
use crate::stream::Moved;
use crate::sys::{Fd, SEND, forget_errors};
use openssl::ssl::{self, ErrorCode, SslStream};
use openssl::x509::X509VerifyResult;
use rustix::io::{Errno, retry_on_intr};
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
/// Bytes that wait for room in the socket: a record, and what the session has to say by itself. That is little, an alert or new
/// keys have some thirty bytes, but a peer that reads nothing could make it say much.
const KEPT: usize = 2 * RECORD;

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
    /// Bytes of a write that blocked, else 0: they are encrypted, and the socket keeps what has not left. They count as written
    /// when all has; until then each write must offer them again.
    begun: usize,
    /// Our `close_notify` (RFC 8446 section 6.1) is said.
    said_end: bool,
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
        let ours = Socket::new(socket.clone());
        let stream =
            SslStream::new(ssl, ours).map_err(|error| format!("no TLS session: {}", reason(&error)))?;
        let session = Session {
            ssl: stream,
            host: if host.is_empty() { "the server".into() } else { host.into() },
            verify: settings.verifies(),
            state: State::Handshake,
            begun: 0,
            said_end: false,
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
        let stop = match self.call(SslStream::do_handshake) {
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
        match self.call(|ssl| ssl.ssl_read(buffer)) {
            Ok(count) => Moved::Bytes(count),
            Err(Stop::WantsRead) => Moved::WouldBlock,
            Err(Stop::End) => Moved::Bytes(0),
            Err(Stop::Truncated) => {
                self.truncated = true;
                Moved::Bytes(0)
            }
            Err(stop) => self.broken(stop),
        }
    }

    /// Writes `bytes`, at most those of one record.
    fn write(&mut self, bytes: &[u8]) -> Moved {
        match self.state {
            State::Handshake => return Moved::WouldBlock,
            State::Broken(_) => return Moved::Broken,
            State::Open => {}
        }
        if bytes.len() < self.begun {
            // A file that has shrunk, for one.
            return self.broken(Stop::Failed("bytes that had begun to leave are there no more".into()));
        }
        if self.begun == 0 {
            if let Some(stopped) = self.send_kept() {
                return stopped;
            }
            match self.call(|ssl| ssl.ssl_write(bytes)) {
                Ok(count) => self.begun = count,
                Err(stop) => return self.broken(stop),
            }
        }
        match self.send_kept() {
            None => Moved::Bytes(std::mem::take(&mut self.begun)),
            Some(stopped) => stopped,
        }
    }

    /// What a write comes to if the socket does not take all that it has kept.
    fn send_kept(&mut self) -> Option<Moved> {
        match self.ssl.get_mut().send_kept() {
            Ok(()) => None,
            Err(Errno::AGAIN) => Some(Moved::WouldBlock),
            Err(errno) => Some(self.broken(Stop::Failed(io::Error::from(errno).to_string()))),
        }
    }

    fn broken(&mut self, stop: Stop) -> Moved {
        let reason = match stop {
            Stop::Failed(reason) => reason,
            Stop::End | Stop::Truncated => "the peer has closed the connection".into(),
            Stop::WantsRead | Stop::WantsWrite => {
                debug_assert!(false, "renegotiation is refused, and the socket takes what OpenSSL writes");
                "OpenSSL waits without need".into()
            }
        };
        self.state = State::Broken(reason);
        Moved::Broken
    }

    fn say_end(&mut self) {
        // After an error, and in the middle of a handshake, OpenSSL must not be asked.
        if matches!(self.state, State::Open) && !std::mem::replace(&mut self.said_end, true) {
            let _ = self.call(SslStream::shutdown);
        }
    }

    /// Sends what the session has to say by itself, and ends the write half if that is due.
    fn flush_own(&mut self) {
        let is_out = self.ssl.get_mut().send_kept() != Err(Errno::AGAIN);
        if self.shuts && is_out {
            self.shuts = false;
            let _ = rustix::net::shutdown(&self.ssl.get_ref().fd, Shutdown::Write);
        }
    }

    /// Calls OpenSSL with a clean queue of errors, and leaves it clean.
    fn call<T>(
        &mut self,
        mut call: impl FnMut(&mut SslStream<Socket>) -> Result<T, ssl::Error>,
    ) -> Result<T, Stop> {
        loop {
            forget_errors();
            let socket = self.ssl.get_mut();
            socket.is_empty = false;
            socket.keeps = matches!(self.state, State::Open);
            let done = call(&mut self.ssl);
            forget_errors();
            let socket = self.ssl.get_ref();
            return Err(match done {
                Ok(value) => return Ok(value),
                Err(error) => match error.code() {
                    // It wants to be called again, and no event would remind us.
                    ErrorCode::WANT_READ if !socket.is_empty => continue,
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

fn why(error: &ssl::Error) -> String {
    match (error.ssl_error(), error.io_error()) {
        (Some(errors), _) => reason(errors).into(),
        (None, Some(error)) => error.to_string(),
        (None, None) => "the connection is broken".into(),
    }
}

/// The socket as OpenSSL's BIO uses it.
///
/// Once the handshake is done, OpenSSL never has to wait for room: what the socket does not take is kept here. With a record half
/// written OpenSSL can do nothing else: it does not read while an exchange of keys waits (with a peer that reads only when it has
/// been read, both would wait for ever), and it gives up when the peer asks for new keys twice in the middle of a write.
struct Socket {
    fd: Arc<Fd>,
    /// The first byte that came.
    first: Option<u8>,
    /// The peer's half of the socket has ended.
    ended: bool,
    /// Whether nothing more could be read in this call.
    is_empty: bool,
    /// Whether what the socket does not take is kept.
    keeps: bool,
    /// Leaves before anything else; at most [`KEPT`] bytes.
    kept: Vec<u8>,
}

impl Socket {
    fn new(fd: Arc<Fd>) -> Socket {
        Socket { fd, first: None, ended: false, is_empty: false, keeps: false, kept: Vec::new() }
    }

    fn send(&self, bytes: &[u8]) -> rustix::io::Result<usize> {
        retry_on_intr(|| rustix::net::send(&self.fd, bytes, SEND))
    }

    fn send_kept(&mut self) -> rustix::io::Result<()> {
        let mut kept = std::mem::take(&mut self.kept);
        while !kept.is_empty() {
            match self.send(&kept) {
                Ok(count) => drop(kept.drain(..count)),
                Err(errno) => {
                    self.kept = kept;
                    return Err(errno);
                }
            }
        }
        Ok(())
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let received = retry_on_intr(|| rustix::net::recv(&self.fd, &mut *buffer, RecvFlags::empty()));
        self.is_empty |= received == Err(Errno::AGAIN);
        let (count, _) = received?;
        self.ended |= count == 0 && !buffer.is_empty();
        if self.first.is_none() {
            self.first = buffer[..count].first().copied();
        }
        Ok(count)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.send_kept().and_then(|()| self.send(bytes)) {
            Err(Errno::AGAIN) if self.keeps && self.kept.len() + bytes.len() <= KEPT => {
                self.kept.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            Err(Errno::AGAIN) if self.keeps => {
                Err(io::Error::other("the peer does not read what it asks for"))
            }
            sent => Ok(sent?),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::TlsClientConfig;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    fn pair() -> (Socket, std::os::unix::net::UnixStream) {
        let (ours, theirs) = crate::sys::pair().unwrap();
        (Socket::new(Arc::new(Fd::new(ours))), theirs.into())
    }

    #[test]
    fn what_is_kept_leaves_in_order_and_has_a_limit() {
        let (mut ours, mut theirs) = pair();
        let mut sent = Vec::new();
        for index in 0.. {
            let bytes = [index as u8; 1000];
            match ours.write(&bytes) {
                Ok(count) => sent.extend_from_slice(&bytes[..count]),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        ours.keeps = true;
        let before = sent.len();
        let error = loop {
            let bytes = [(sent.len() / 7) as u8; 1000];
            match ours.write(&bytes) {
                Ok(count) => sent.extend_from_slice(&bytes[..count]),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::Other);
        assert_eq!(sent.len() - before, KEPT / 1000 * 1000);
        let mut received = vec![0; 10_000];
        let mut read = 0;
        while read < sent.len() {
            let _ = ours.send_kept();
            received.resize(read + 10_000, 0);
            read += theirs.read(&mut received[read..]).unwrap();
        }
        assert!(ours.kept.is_empty());
        assert!(received[..read] == sent);
    }

    #[test]
    fn a_socket_is_given_away_alive() {
        let (ours, theirs) = crate::sys::pair().unwrap();
        let number = ours.as_raw_fd();
        let settings = TlsClient::new(&TlsClientConfig::default()).unwrap();
        let tls = Tls::client(Fd::new(ours), &settings, "localhost").unwrap();
        let raw = tls.into_raw();
        assert_eq!(raw, number);
        // SAFETY: it was given away just now.
        let mut ours = std::os::unix::net::UnixStream::from(unsafe { OwnedFd::from_raw_fd(raw) });
        ours.write_all(b"x").unwrap();
        let mut theirs = std::os::unix::net::UnixStream::from(theirs);
        assert_eq!(theirs.read(&mut [0; 10]).unwrap(), 1);
    }
}
