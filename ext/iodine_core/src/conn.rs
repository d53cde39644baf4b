//! The half of a connection that the reactor and the app threads share: socket, outbox, and the lane of its jobs.
//!
//! One small lock guards all of it. It is held for a read or a write of a non-blocking socket at the longest, and never
//! while Ruby runs.

use crate::command::{Command, Handle};
use crate::config::Service;
use crate::job::Job;
use crate::outbox::{Outbox, Piece};
use crate::producer::Producing;
use crate::realtime::{Realtime, Upgrade};
use crate::stream::{Moved, Stream};
use crossbeam_utils::sync::Unparker;
use iodine_codec::http::RequestHead;
use iodine_codec::http::forwarded::{self, Forwarded};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Bytes that may wait to be written before no more requests of the connection are taken.
const UNWRITTEN: u64 = 256 * 1024;

/// Names a connection; harmless once stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId {
    /// Its place in the reactor's table.
    pub slot: u32,
    /// Which of the connections that had this place.
    pub generation: u32,
}

/// The other end of a connection.
#[derive(Clone, Debug)]
pub enum Peer {
    /// A TCP client.
    Tcp(SocketAddr),
    /// A client of the Unix socket at this path.
    Unix(Arc<str>),
}

/// The peer's address as `REMOTE_ADDR` and the log show it: IPv4 clients of a dual-stack socket appear as IPv4.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp(address) => match address.ip() {
                IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
                    Some(ip) => ip.fmt(f),
                    None => ip.fmt(f),
                },
                IpAddr::V4(ip) => ip.fmt(f),
            },
            Peer::Unix(path) => f.write_str(path),
        }
    }
}

impl Peer {
    /// Its address; `None` for the client of a Unix socket.
    fn ip(&self) -> Option<IpAddr> {
        match self {
            Peer::Tcp(address) => Some(address.ip()),
            Peer::Unix(_) => None,
        }
    }
}

/// What everyone but the reactor holds of a connection; clones share it.
pub type ConnHandle = Arc<Shared>;

/// See [`ConnHandle`].
#[derive(Debug)]
pub struct Shared {
    id: ConnId,
    peer: Peer,
    /// Whom the connection comes from, as text: every request wants it. That is the peer, or whom it stands for by a PROXY
    /// header.
    peer_text: Box<str>,
    /// Whether what it says of other clients counts.
    trusted: bool,
    service: Arc<Service>,
    handle: Handle,
    /// Whether the socket was given away. Set under the lock.
    hijacked: AtomicBool,
    io: Mutex<Io>,
}

/// What is behind the lock.
#[derive(Debug)]
pub struct Io {
    /// Invariant: `None` once closed or given away, and then for ever.
    pub(crate) stream: Option<Stream>,
    pub(crate) outbox: Outbox,
    /// Requests that wait for the one before them.
    lane: VecDeque<Job>,
    /// Requests dispatched and not yet answered.
    pub(crate) in_flight: u32,
    pub(crate) closing: Closing,
    /// The client has said that it sends nothing behind the last request dispatched.
    pub(crate) client_ends: bool,
    /// The reactor wants [`Command::Resume`] as soon as no more than so many requests are in flight and there is room
    /// for more answers.
    pub(crate) resume_at: Option<u32>,
    /// When the last answer was ready.
    pub(crate) answered: Option<Instant>,
    /// The request at work, so that a hijack that comes too late is noticed.
    at_work: Option<u64>,
    sequence: u64,
    /// The answer that is being produced piece by piece, instead of the request at work.
    pub(crate) producing: Option<Producing>,
    /// Producers that wait for the client to read.
    pub(crate) waiting: Vec<Unparker>,
    /// Whether the reactor was asked to write, or waits for the socket to take more.
    pub(crate) write_asked: bool,
    /// What it is since it left HTTP.
    pub(crate) realtime: Option<Box<Realtime>>,
    /// For the reactor to learn that it has.
    pub(crate) switch: Option<Box<Upgrade>>,
}

/// What is to become of the connection once the outbox is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// It stays.
    No,
    /// Close it: the client expects no more.
    Plain,
    /// Say that no more will come, but read on for a while: closing with unread input resets the connection, and the
    /// client might lose the answer (RFC 9112 section 9.6).
    Linger,
}

/// What [`Shared::flush`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Nothing waits any more.
    Empty,
    /// The client has to read first.
    Blocked,
    /// There is more to write, and the reactor goes on with it when others had their turn.
    More,
    /// The connection is closed.
    Closed,
}

/// What [`Shared::hijack`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hijack {
    /// The socket: a descriptor that nothing of the server touches again.
    Given(RawFd),
    /// What was answered before has to be read first: ask again, until the client has read or runs into its deadline.
    Wait,
    /// The request is answered already, or the client has gone.
    TooLate,
}

/// An answer on its way into the outbox.
#[derive(Debug)]
pub struct Answer {
    /// The bytes, head first.
    pub head: Vec<u8>,
    /// More bytes, when they are many.
    pub body: Option<Piece>,
    /// Whether the connection closes behind it.
    pub close: bool,
}

impl Shared {
    pub(crate) fn new(
        id: ConnId,
        peer: Peer,
        service: Arc<Service>,
        handle: Handle,
        stream: Option<Stream>,
    ) -> Shared {
        let io = Io {
            stream,
            outbox: Outbox::default(),
            lane: VecDeque::new(),
            in_flight: 0,
            closing: Closing::No,
            client_ends: false,
            resume_at: None,
            answered: None,
            at_work: None,
            sequence: 0,
            producing: None,
            waiting: Vec::new(),
            write_asked: false,
            realtime: None,
            switch: None,
        };
        let peer_text = peer.to_string().into();
        let trusted = service.http.trust.covers(peer.ip());
        let hijacked = AtomicBool::new(false);
        Shared { id, peer, peer_text, trusted, service, handle, hijacked, io: Mutex::new(io) }
    }

    /// Its name.
    pub fn id(&self) -> ConnId {
        self.id
    }

    /// The other end of the socket, whomever it speaks for.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The other end as `REMOTE_ADDR` and the log show it: the peer, or whom its PROXY header told of.
    pub fn peer_text(&self) -> &str {
        &self.peer_text
    }

    /// The peer is a balancer, and `client` whom it speaks for from here on.
    pub(crate) fn stand_for(&mut self, client: SocketAddr) {
        let client = Peer::Tcp(client);
        self.trusted = self.service.http.trust.covers(client.ip());
        self.peer_text = client.to_string().into();
    }

    /// Whether what it says of other clients counts.
    pub fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// What the proxies that are trusted say of the request with this head; `None` unless it comes from one of them.
    pub fn forwarded<'h>(&self, head: &'h RequestHead) -> Option<Forwarded<'h>> {
        self.trusted.then(|| forwarded::read(head, &self.service.http.trust))
    }

    /// The address of the client that sent the request with this head, for the log: the one that trusted proxies name,
    /// else [`Shared::peer_text`].
    pub fn client(&self, head: &RequestHead) -> Cow<'_, str> {
        match self.forwarded(head).and_then(|forwarded| forwarded.client) {
            Some(client) => Cow::Owned(client.to_string()),
            None => Cow::Borrowed(&self.peer_text),
        }
    }

    /// What the listener that it came through serves.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// The reactor that it belongs to.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// An app thread begins to work on a request of this connection. `None` when the connection is gone, so that there
    /// is nobody to answer; else the number to give to [`Shared::hijack`].
    pub fn begin(&self) -> Option<u64> {
        let mut io = self.lock();
        io.stream.as_ref()?;
        io.sequence += 1;
        io.at_work = Some(io.sequence);
        io.at_work
    }

    /// The request at work is answered. Returns the next job of the lane, which is now the caller's to run.
    pub fn answer(&self, answer: Answer, now: Instant) -> Option<Job> {
        let mut io = self.lock();
        if io.stream.is_some() {
            io.outbox.push(answer.head);
            if let Some(body) = answer.body {
                io.outbox.push(body);
            }
        }
        io.conclude(answer.close, now)
    }

    /// Whether the request at work is the last of its connection, because the server is ending.
    pub fn is_ending(&self) -> bool {
        self.handle.is_draining() && self.lock().is_last()
    }

    /// Breaks the connection off, so that the client can not take what it has for a whole answer.
    pub fn abort(&self) {
        let stream = self.lock().close();
        self.handle.send(Command::Closed(self.id));
        drop(stream);
    }

    /// Whether a client is still there.
    pub fn is_open(&self) -> bool {
        self.lock().stream.is_some()
    }

    /// Writes what waits. For app threads (without the GVL) and the reactor alike.
    pub fn flush(self: &ConnHandle) -> Flushed {
        let mut io = self.lock();
        let flushed = io.flush();
        let stream = if flushed == Flushed::Closed { io.close() } else { None };
        let resume = io.resume_at.is_some_and(|limit| io.in_flight <= limit) && io.has_room();
        if resume {
            io.resume_at = None;
        }
        let linger = flushed == Flushed::Empty && io.closing == Closing::Linger && io.in_flight == 0;
        let realtime = io.realtime.as_ref().map(|realtime| realtime.is_closing());
        drop(io);
        match flushed {
            Flushed::Blocked => self.handle.send(Command::Blocked(self.id)),
            Flushed::More => self.handle.send(Command::WriteOn(self.id)),
            // The application waits to hear of it.
            Flushed::Closed if realtime.is_some() => self.handle.send(Command::Closed(self.id)),
            Flushed::Closed => self.handle.send_lazily(Command::Closed(self.id)),
            Flushed::Empty if linger => self.handle.send(Command::Linger(self.id)),
            Flushed::Empty => match realtime {
                Some(true) => self.handle.send(Command::CloseSoon(self.id)),
                Some(false) => self.note_drained(),
                None => {}
            },
        }
        if resume {
            self.handle.send(Command::Resume(self.id));
        }
        // Only now: a client that sees the end may come again, and then there must be room for it.
        drop(stream);
        flushed
    }

    /// Leaves an interim response (RFC 9110 section 15.2) to be written before the answer of the request `number`, if that
    /// is still at work.
    pub fn push_interim(&self, number: u64, head: Vec<u8>) {
        let mut io = self.lock();
        if io.at_work == Some(number) && io.stream.is_some() {
            io.outbox.push(head);
        }
    }

    /// Gives the socket to the application, if the request `number` is still at work. `head` goes out before: in one step
    /// with the gift, since a client that has read it may go on speaking at once, and that is not for the server to hear.
    pub fn hijack(&self, number: u64, head: &mut Vec<u8>) -> Hijack {
        let mut io = self.lock();
        if io.at_work != Some(number) || io.stream.is_none() {
            return Hijack::TooLate;
        }
        io.outbox.push(std::mem::take(head));
        match io.flush() {
            Flushed::Blocked => {
                drop(io);
                self.handle.send(Command::Blocked(self.id));
                return Hijack::Wait;
            }
            Flushed::More => return Hijack::Wait,
            Flushed::Empty | Flushed::Closed => {}
        }
        let Some(stream) = io.stream.take() else { return Hijack::TooLate };
        self.handle.forget_socket(stream.as_raw_fd());
        self.hijacked.store(true, Relaxed);
        io.outbox.clear();
        drop(io);
        self.handle.send(Command::Closed(self.id));
        Hijack::Given(stream.into_raw())
    }

    /// Whether the socket was given away, as far as this thread, or one that held the GVL before it, has done that.
    pub fn is_hijacked(&self) -> bool {
        self.hijacked.load(Relaxed)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Io> {
        self.io.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Io {
    /// Takes a parsed request: returns it when it may run now, else it waits in the lane.
    pub(crate) fn dispatch(&mut self, job: Job) -> Option<Job> {
        self.in_flight += 1;
        if self.in_flight == 1 {
            return Some(job);
        }
        self.lane.push_back(job);
        None
    }

    /// Whether no request waits behind the one at work.
    pub(crate) fn is_last(&self) -> bool {
        self.lane.is_empty()
    }

    /// Takes the request `number` off work, if it is at work.
    pub(crate) fn end_work(&mut self, number: u64) -> bool {
        let is_at_work = self.at_work == Some(number);
        if is_at_work {
            self.at_work = None;
        }
        is_at_work
    }

    /// Undoes [`Io::end_work`].
    pub(crate) fn resume_work(&mut self, number: u64) {
        self.at_work = Some(number);
    }

    /// The request that was at work has its whole answer. Returns the next job of the lane.
    pub(crate) fn conclude(&mut self, close: bool, now: Instant) -> Option<Job> {
        self.at_work = None;
        self.in_flight = self.in_flight.saturating_sub(1);
        self.answered = Some(now);
        if self.stream.is_none() {
            self.lane.clear();
            return None;
        }
        if close {
            // What the client sends behind a request that closes is not answered (RFC 9112 section 9.6).
            let last = self.lane.is_empty() && self.client_ends;
            self.closing = self.closing.max(if last { Closing::Plain } else { Closing::Linger });
            self.lane.clear();
            self.in_flight = 0;
        }
        self.lane.pop_front()
    }

    /// The answer to a request that no app thread sees. Nothing is under way before it.
    pub(crate) fn answer_at_once(&mut self, answer: Answer, client_ends: bool, now: Instant) {
        debug_assert_eq!(self.in_flight, 0);
        self.client_ends = client_ends;
        self.answered = Some(now);
        self.outbox.push(answer.head);
        if let Some(body) = answer.body {
            self.outbox.push(body);
        }
        if answer.close {
            self.closing = if client_ends { Closing::Plain } else { Closing::Linger };
        }
    }

    /// It leaves HTTP: requests behind the one that does so are not answered, and nothing about how the connection was to
    /// go on holds any more.
    pub(crate) fn forget_requests(&mut self) {
        self.lane.clear();
        self.closing = Closing::No;
        self.client_ends = false;
    }

    /// Whether it has left HTTP and the reactor has not taken notice yet, so that what comes in still looks like requests.
    pub(crate) fn is_switching(&self) -> bool {
        self.switch.is_some()
    }

    /// Whether so much waits for the callbacks that no more should be read.
    pub(crate) fn is_crowded(&self) -> bool {
        self.realtime.as_ref().is_some_and(|realtime| realtime.is_full())
    }

    /// Whether so little waits to be written that more requests may be taken.
    pub(crate) fn has_room(&self) -> bool {
        self.outbox.pending() < UNWRITTEN
    }

    /// Bytes that have reached the client since the beginning, as far as the system tells.
    pub(crate) fn delivered(&self) -> u64 {
        let waiting = self.stream.as_ref().map_or(0, Stream::undelivered);
        self.outbox.taken().saturating_sub(waiting as u64)
    }

    /// Whether nothing is at work and nothing waits to be written.
    pub(crate) fn is_quiet(&self) -> bool {
        self.in_flight == 0 && self.outbox.is_empty()
    }

    /// Ends the connection for good. Its descriptor is closed when the caller drops what this returns; the reactor drops
    /// its half later.
    pub(crate) fn close(&mut self) -> Option<Stream> {
        self.outbox.clear();
        self.lane.clear();
        let stream = self.stream.take();
        self.wake_producers();
        stream
    }

    /// Writes what waits. `Closed` means that the connection is there no more, or is to be closed now.
    fn flush(&mut self) -> Flushed {
        let Some(stream) = &self.stream else { return Flushed::Closed };
        let before = self.outbox.taken();
        let closes = self.closing == Closing::Plain && self.in_flight == 0;
        let moved = self.outbox.write_to(stream, closes);
        if let Some(realtime) = self.realtime.as_mut().filter(|_| self.outbox.taken() > before) {
            realtime.note_written();
        }
        self.write_asked = moved == Moved::WouldBlock || !self.outbox.is_empty();
        self.wake_producers();
        let Some(stream) = &self.stream else { return Flushed::Closed };
        match moved {
            Moved::WouldBlock => Flushed::Blocked,
            Moved::Broken => Flushed::Closed,
            Moved::Bytes(_) if !self.outbox.is_empty() => Flushed::More,
            Moved::Bytes(_) => match self.closing {
                Closing::Plain if self.in_flight == 0 => {
                    stream.say_end();
                    Flushed::Closed
                }
                Closing::Linger if self.in_flight == 0 => match stream.finish_writing() {
                    true => Flushed::Empty,
                    false => Flushed::Closed,
                },
                _ => Flushed::Empty,
            },
        }
    }
}

impl Closing {
    fn max(self, other: Closing) -> Closing {
        match (self, other) {
            (Closing::Linger, _) | (_, Closing::Linger) => Closing::Linger,
            (Closing::Plain, _) | (_, Closing::Plain) => Closing::Plain,
            _ => Closing::No,
        }
    }
}
