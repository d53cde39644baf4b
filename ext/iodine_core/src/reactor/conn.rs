//! The reactor's half of a connection: what it is in the middle of, and how long that may take.

use super::client::Opening;
use super::deadlines::Due;
use super::realtime::Speaking;
use super::token::token_of;
use super::{Phase, Reactor, Readiness};
use crate::body::BodySink;
use crate::config::{MIN_RATE, Service};
use crate::conn::{Closing, ConnHandle, ConnId, Flushed, Peer, Shared};
use crate::job::Job;
use crate::realtime::Upgrade;
use crate::stream::{Moved, Stream};
use iodine_codec::http::RequestHead;
use iodine_codec::http1::{Framing, Rejection, RequestDecoder};
use iodine_codec::proxy_protocol::ProxyDecoder;
use mio::Interest;
use mio::unix::SourceFd;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a client whose connection is to close may be silent, though it may still send.
const SILENCE: Duration = Duration::from_secs(2);
/// A server that ends lets a connection that was in use just now have its next request: that one is answered and told to
/// be the last, whereas it would be lost if it met the close on its way.
pub(super) const LAST_CHANCE: Duration = Duration::from_millis(250);
/// How long a real-time connection may read nothing when the server is ending.
const LAST_READING: Duration = Duration::from_secs(3);
/// Reads of one connection in a turn, so that none keeps the others waiting.
const READS: usize = 16;
/// A body is read straight into its own memory while at least so much of it is outstanding.
const DIRECT: u64 = 16 * 1024;
/// Deadlines are checked no oftener than this for one connection.
const GRAIN: Duration = Duration::from_millis(50);

/// See the module's text.
#[derive(Debug)]
pub(super) struct Conn {
    shared: ConnHandle,
    /// What it speaks since it left HTTP.
    pub(super) realtime: Option<Box<Speaking>>,
    /// How far it is, if it is one of ours to make.
    pub(super) opening: Option<Box<Opening>>,
    /// The PROXY header, as long as it is still to come.
    pub(super) proxy: Option<Box<ProxyDecoder>>,
    pub(super) decoder: RequestDecoder,
    /// The request whose body is arriving.
    pub(super) message: Option<Box<Message>>,
    /// Bytes read and not yet decoded, because the connection is paused.
    pub(super) backlog: Vec<u8>,
    pub(super) paused: Option<Pause>,
    /// There is, or may be, something to read that no event will tell of any more.
    pub(super) unread: bool,
    /// There are answers that the reactor gave and has not written yet.
    pub(super) unwritten: bool,
    /// The peer sends no more, once all is read.
    ending: bool,
    /// Nothing more is decoded: the connection closes after what is under way.
    pub(super) finished: bool,
    /// Until when, at most, what still comes is read, for the connection is to close.
    pub(super) lingering: Option<Instant>,
    /// When the connection was made, last read, or last took what was written.
    pub(super) active: Instant,
    /// When the time for the head or the body that is arriving began.
    pub(super) began: Instant,
    /// When the time for a blocked outbox began, and how much had been delivered then.
    pub(super) blocked: Option<(Instant, u64)>,
    /// When the last request went to the application.
    pub(super) handed_at: Option<Instant>,
    /// The earliest entry among the deadlines.
    checked_at: Option<Instant>,
    /// Whether the poller knows it.
    registered: bool,
    /// See [`Stream::has_own_output`].
    has_own_output: bool,
}

/// A request on its way in.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) head: RequestHead,
    pub(super) framing: Framing,
    pub(super) sink: BodySink,
    /// Bytes that had arrived when the time now running began.
    pub(super) before: u64,
    pub(super) started: Instant,
}

/// Why a connection is not decoded for now; [`crate::Command::Resume`] or room in the queue ends it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pause {
    /// Enough requests of it are waiting.
    Pipeline,
    /// The queue of jobs is full.
    Queue,
    /// A `100 Continue` waits for the answers before it.
    Continue,
    /// A refusal waits for the answers before it.
    Reject(Rejection),
    /// A request that needs no application waits for the answers before it.
    AtOnce,
    /// What comes behind a request that may be an upgrade waits for its answer: it may be no HTTP.
    Upgrade,
    /// Enough events wait for the callbacks of a real-time connection, or enough to be read by its peer.
    Events,
}

impl Conn {
    pub(super) fn id(&self) -> ConnId {
        self.shared.id()
    }

    pub(super) fn shared(&self) -> &ConnHandle {
        &self.shared
    }

    pub(super) fn shared_mut(&mut self) -> &mut ConnHandle {
        &mut self.shared
    }

    /// Whether a client that has just come is not known to want anything.
    pub(super) fn has_said_nothing(&self) -> bool {
        let introduced = self.proxy.is_none() && self.shared.service().http.proxy_protocol;
        let begun = introduced || self.finished || self.message.is_some() || !self.decoder.is_idle();
        let io = self.shared.lock();
        !begun && io.is_quiet() && io.answered.is_none()
    }

    /// When it must have got on, as things stand in the turn of `now`.
    fn deadline(&self, now: Instant) -> Option<Instant> {
        if let Some(opening) = &self.opening {
            return Some(opening.deadline());
        }
        if let Some(until) = self.lingering {
            return Some(until.min(self.active + SILENCE));
        }
        let http = &self.shared.service().http;
        if self.proxy.is_some() {
            let over = self.began + http.head_timeout;
            return Some(match self.shared.handle().is_draining() {
                true => over.min(self.active + LAST_CHANCE),
                false => over,
            });
        }
        if let Some(by) = self.realtime.as_ref().and_then(|speaking| speaking.close_by) {
            return Some(by);
        }
        if let Some((since, _)) = self.blocked.filter(|_| !self.shared.lock().outbox.is_empty()) {
            return Some(since + self.reading_time());
        }
        if let Some(speaking) = &self.realtime {
            return speaking.deadline(&self.shared.lock(), self.active, self.paused.is_some());
        }
        if self.paused.is_some() {
            return None;
        }
        if self.message.is_some() {
            return Some(self.began + http.body_timeout);
        }
        if !self.decoder.is_idle() && !self.finished {
            return Some(self.began + http.head_timeout);
        }
        // Jobs of this turn are taken when it is over. One that waited behind another may be answered already: then the
        // next look is due when it would have been anyway.
        if self.handed_at == Some(now) {
            return None;
        }
        let io = self.shared.lock();
        if !io.is_quiet() {
            return None;
        }
        let since = io.answered.map_or(self.active, |answered| answered.max(self.active));
        Some(since + self.patience())
    }

    /// Whether enough of a body or of an answer moved in the time that is over; then there is as much time again.
    fn moves(&mut self, now: Instant) -> bool {
        let http = &self.shared.service().http;
        let reading_time = self.reading_time();
        let io = self.shared.lock();
        let (before, after, time) = match (&mut self.blocked, &mut self.message) {
            _ if self.lingering.is_some() => return false,
            (Some((since, delivered)), _) if !io.outbox.is_empty() => {
                *since = now;
                let before = std::mem::replace(delivered, io.delivered());
                (before, *delivered, reading_time)
            }
            (_, Some(message)) => {
                self.began = now;
                let before = std::mem::replace(&mut message.before, message.sink.received());
                (before, message.before, http.body_timeout)
            }
            _ => return false,
        };
        after.saturating_sub(before) >= least(time).max(1)
    }

    /// How long the client may read nothing of what waits for it. The end of the server waits for real-time connections
    /// only as long as they read.
    fn reading_time(&self) -> Duration {
        let time = self.shared.service().http.write_timeout;
        match self.realtime.is_some() && self.shared.handle().is_draining() {
            true => time.min(LAST_READING),
            false => time,
        }
    }

    /// When to look again while the application is at work.
    fn next_look(&self, now: Instant) -> Option<Instant> {
        (!self.finished && self.realtime.is_none()).then(|| now + self.patience())
    }

    /// How long it may stay open with no request on it.
    fn patience(&self) -> Duration {
        match self.shared.handle().is_draining() {
            true => LAST_CHANCE,
            false => self.shared.service().http.keep_alive,
        }
    }
}

/// Bytes that must move in `time`.
fn least(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).saturating_mul(MIN_RATE) / 1000
}

impl Reactor {
    pub(super) fn conn(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(id.slot as usize).filter(|conn| conn.shared.id() == id)
    }

    /// Takes a connection in. With an upgrade it is a real-time one from its first byte on.
    pub(super) fn insert(
        &mut self,
        stream: Stream,
        peer: Peer,
        service: Arc<Service>,
        upgrade: Option<Upgrade>,
    ) -> io::Result<ConnId> {
        let conn = self.conn_of(stream, peer, service);
        let Some(upgrade) = upgrade else { return self.take_in(conn) };
        conn.shared.lock().become_realtime(&upgrade);
        self.jobs.push(Job::Events(conn.shared.clone()));
        let speaking = Speaking::new(&upgrade, &conn.shared.service().realtime);
        self.take_in(Conn { realtime: Some(Box::new(speaking)), ..conn })
    }

    /// As [`Reactor::insert`], for a connection that is not made yet.
    pub(super) fn insert_opening(
        &mut self,
        stream: Stream,
        peer: Peer,
        service: Arc<Service>,
        upgrade: &Upgrade,
        opening: Box<Opening>,
    ) -> io::Result<ConnId> {
        let conn = self.conn_of(stream, peer, service);
        conn.shared.lock().await_opening(upgrade);
        self.take_in(Conn { opening: Some(opening), ..conn })
    }

    /// What the application is told of a connection that could not be made is told by one that never was.
    pub(super) fn unconnected(&mut self, service: Arc<Service>, upgrade: &Upgrade) -> ConnHandle {
        let peer = Peer::Unix(Arc::from(""));
        let shared = Shared::new(self.next_id(), peer, service, self.handle.clone(), None);
        shared.lock().await_opening(upgrade);
        Arc::new(shared)
    }

    /// The name of the connection that is taken in next.
    fn next_id(&mut self) -> ConnId {
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        ConnId { slot: self.conns.vacant_key() as u32, generation: self.generation }
    }

    fn conn_of(&mut self, stream: Stream, peer: Peer, service: Arc<Service>) -> Conn {
        let id = self.next_id();
        let proxy = (service.http.proxy_protocol && !service.raw).then(Box::default);
        let has_own_output = stream.has_own_output();
        Conn {
            shared: Arc::new(Shared::new(id, peer, service, self.handle.clone(), Some(stream))),
            realtime: None,
            opening: None,
            proxy,
            decoder: RequestDecoder::new(),
            message: None,
            backlog: Vec::new(),
            paused: None,
            unread: false,
            unwritten: false,
            ending: false,
            finished: false,
            lingering: None,
            active: self.now,
            began: self.now,
            blocked: None,
            handed_at: None,
            checked_at: None,
            registered: false,
            has_own_output,
        }
    }

    /// Takes in a connection that was named by [`Reactor::next_id`] just now.
    fn take_in(&mut self, conn: Conn) -> io::Result<ConnId> {
        let id = conn.id();
        let slot = self.conns.insert(conn);
        debug_assert_eq!(slot, id.slot as usize, "a connection is where its name says");
        // The request may be there already, and a client that asks for no more than one costs no registration at all.
        self.handle_readable(id);
        if let Err(error) = self.register_unless_finished(id) {
            self.remove(id);
            return Err(error);
        }
        self.prune_deadlines();
        Ok(id)
    }

    /// Throws out what means nothing any more, when much has gathered.
    pub(super) fn prune_deadlines(&mut self) {
        let (conns, timers) = (&self.conns, &self.timers);
        self.deadlines.prune(|at, due| match due {
            Due::Conn(id) => {
                conns.get(id.slot as usize).is_some_and(|conn| conn.id() == id && conn.checked_at == Some(at))
            }
            Due::Timer(id) => timers.contains_key(&id),
            Due::Accept(_)
            | Due::Undefer(_)
            | Due::CloseDoor(_)
            | Due::DrainEnd
            | Due::GiveBack
            | Due::CloseFiles => true,
        });
    }

    /// Drops a connection of which nobody is to hear.
    pub(super) fn forget(&mut self, id: ConnId) {
        if self.conn(id).is_some() {
            let conn = self.conns.remove(id.slot as usize);
            conn.shared.lock().close();
            self.show_count();
        }
    }

    fn register_unless_finished(&mut self, id: ConnId) -> io::Result<()> {
        match self.conn(id) {
            Some(conn) if !conn.finished => self.register(id),
            _ => Ok(()),
        }
    }

    /// Has the poller tell of the connection from here on. What there is to tell already is told at once.
    fn register(&mut self, id: ConnId) -> io::Result<()> {
        let Some(conn) = self.conn(id).filter(|conn| !conn.registered) else { return Ok(()) };
        conn.registered = true;
        let shared = conn.shared.clone();
        // Under the lock: an app thread could close it, and its number could become another socket's.
        let io = shared.lock();
        let Some(stream) = &io.stream else { return Ok(()) };
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut SourceFd(&stream.as_raw_fd()), token_of(id), interest)
    }

    /// As [`Reactor::register`], for a connection that has lived without: it can not go on if that fails.
    pub(super) fn register_late(&mut self, id: ConnId) {
        if self.register(id).is_err() {
            self.remove(id);
        }
    }

    /// Drops the reactor's half of a connection, if it is still there.
    pub(super) fn remove(&mut self, id: ConnId) {
        if self.conn(id).is_some() {
            let conn = self.conns.remove(id.slot as usize);
            let mut io = conn.shared.lock();
            let stream = io.close();
            let realtime = io.realtime.is_some();
            drop(io);
            if realtime {
                self.tell_closed(&conn.shared);
            }
            drop(stream);
            self.show_count();
            self.note_crowd();
        }
    }

    pub(super) fn handle_conn(&mut self, id: ConnId, ready: Readiness) {
        let Some(conn) = self.conn(id) else { return };
        // No other event will tell of it, also where a peer has come and gone before the connection was seen to be made.
        conn.ending |= ready.read_closed;
        if conn.opening.is_some() {
            return self.go_on_opening(id, ready);
        }
        if ready.broken {
            return self.remove(id);
        }
        if ready.writable && conn.has_own_output {
            conn.flush_own();
        }
        if ready.writable && conn.blocked.is_some() {
            self.go_on_writing(id);
        }
        let Some(conn) = self.conn(id) else { return };
        // Unfinished ones are read in this turn anyway.
        let unfinished = conn.unread && conn.paused.is_none();
        if (ready.readable || ready.read_closed) && !unfinished {
            self.handle_readable(id);
        }
    }

    /// Reads what there is and decodes it.
    pub(super) fn handle_readable(&mut self, id: ConnId) {
        let now = self.now;
        let mut buffer = std::mem::take(&mut self.read_buffer);
        debug_assert!(!buffer.is_empty(), "one read in the middle of another");
        for _ in 0..READS {
            let Some(conn) = self.conn(id) else { break };
            if conn.is_unconnected() {
                break;
            }
            if conn.paused.is_some() {
                conn.unread = true;
                break;
            }
            conn.unread = false;
            let read = conn.read(&mut buffer);
            let count = match read.moved {
                Moved::Bytes(0) => {
                    self.handle_end(id);
                    break;
                }
                Moved::Bytes(count) => count,
                Moved::WouldBlock => break,
                Moved::Broken => {
                    self.remove(id);
                    break;
                }
            };
            conn.active = now;
            // A short read has emptied the socket (unless its end is there, too): no second call to learn that.
            let emptied = count < read.wanted && read.short_empties && !conn.ending;
            if conn.lingering.is_none() {
                let fresh = read.behind_body.as_deref().or(buffer.get(..count));
                self.decode(id, fresh.unwrap_or_default());
            }
            if emptied {
                break;
            }
            if let Some(conn) = self.conn(id) {
                conn.unread = true;
            }
        }
        self.read_buffer = buffer;
        let Some(conn) = self.conn(id) else { return };
        if conn.unread && conn.paused.is_none() {
            self.unfinished.push(id);
        }
        self.watch(id);
    }

    /// The peer will send no more. What it asked for is answered before the close.
    fn handle_end(&mut self, id: ConnId) {
        let Some(conn) = self.conn(id) else { return };
        if conn.proxy.is_some() {
            return self.give_up_proxy_header(id, true);
        }
        if conn.opening.is_some() {
            return self.give_up_opening(id, true);
        }
        if conn.realtime.is_some() {
            return self.end_realtime(id);
        }
        conn.finished = true;
        conn.message = None;
        let mut io = conn.shared.lock();
        let over = conn.lingering.is_some() || io.is_quiet();
        io.client_ends = true;
        io.closing = if io.closing == Closing::No { Closing::Plain } else { io.closing };
        drop(io);
        if over {
            self.remove(id);
        }
    }

    pub(super) fn go_on_writing(&mut self, id: ConnId) {
        let now = self.now;
        let Some(conn) = self.conn(id) else { return };
        match conn.shared.clone().flush() {
            Flushed::Blocked | Flushed::More => {}
            Flushed::Closed => self.remove(id),
            Flushed::Empty => {
                if conn.blocked.take().is_some() {
                    conn.active = now;
                }
                self.watch(id);
            }
        }
    }

    pub(super) fn watch_writing(&mut self, id: ConnId) {
        self.register_late(id);
        let now = self.now;
        let Some(conn) = self.conn(id) else { return };
        if conn.blocked.is_some() {
            return;
        }
        let delivered = conn.shared.lock().delivered();
        conn.blocked = Some((now, delivered));
        // The event for more space may have come before we began to look for it.
        self.go_on_writing(id);
        self.watch(id);
    }

    /// Goes on in the next turn. Until then it is as if the client had to read first.
    pub(super) fn write_on(&mut self, id: ConnId) {
        self.register_late(id);
        let now = self.now;
        let Some(conn) = self.conn(id) else { return };
        if conn.blocked.is_none() {
            let delivered = conn.shared.lock().delivered();
            conn.blocked = Some((now, delivered));
        }
        self.unwritten.push(id);
        self.watch(id);
    }

    pub(super) fn linger(&mut self, id: ConnId) {
        self.register_late(id);
        let (now, draining) = (self.now, self.is_draining());
        let Some(conn) = self.conn(id) else { return };
        if conn.lingering.is_none() {
            let time = if draining { LAST_CHANCE } else { conn.shared.service().http.linger_timeout };
            conn.lingering = Some(now + time);
            conn.active = now;
            conn.backlog = Vec::new();
            conn.paused = None;
            let shared = conn.shared.clone();
            self.tell_closed(&shared);
            self.handle_readable(id);
        }
    }

    /// The server is ending: the connection closes as soon as nothing is under way on it.
    pub(super) fn close_when_idle(&mut self, id: ConnId) {
        // A request that is there already is served.
        self.handle_readable(id);
        let soon = self.now + LAST_CHANCE;
        if self.conn(id).is_some_and(|conn| conn.opening.is_some()) {
            return self.fail_opening(id, "the server is ending");
        }
        if self.shut_down_realtime(id) {
            return;
        }
        let Some(conn) = self.conn(id) else { return };
        // Deadlines have changed with this.
        conn.lingering = conn.lingering.map(|until| until.min(soon));
        conn.checked_at = None;
        self.handle_deadline(id);
    }

    /// Sees to it that the connection is looked at when its time is up.
    pub(super) fn watch(&mut self, id: ConnId) {
        let now = self.now;
        let floor = now + GRAIN;
        let Some(conn) = self.conn(id) else { return };
        // An app thread is at work, and its answer causes no event here. What closes behind its answer needs no look.
        let Some(at) = conn.deadline(now).or_else(|| conn.next_look(floor)).map(|at| at.max(floor)) else {
            return;
        };
        // The entry that is there comes early enough: it will look again.
        if conn.checked_at.is_none_or(|checked| checked > at) {
            conn.checked_at = Some(at);
            self.deadlines.add(at, Due::Conn(id));
        }
    }

    pub(super) fn handle_deadline(&mut self, id: ConnId) {
        let now = self.now;
        let Some(conn) = self.conn(id) else { return };
        if conn.checked_at.is_some_and(|checked| checked > now) {
            return;
        }
        conn.checked_at = None;
        match conn.deadline(now) {
            Some(at) if at <= now && !conn.moves(now) => self.give_up(id),
            _ => self.watch(id),
        }
    }

    /// The connection took too long. A request that has begun gets a 408 (RFC 9110 section 15.5.9).
    fn give_up(&mut self, id: ConnId) {
        let Some(conn) = self.conn(id) else { return };
        if conn.proxy.is_some() {
            return self.give_up_proxy_header(id, false);
        }
        if conn.opening.is_some() {
            return self.give_up_opening(id, false);
        }
        if conn.realtime.is_some() && conn.lingering.is_none() {
            return self.time_out_realtime(id);
        }
        let unheard = conn.blocked.is_some() || conn.lingering.is_some();
        if unheard || conn.decoder.is_idle() && conn.message.is_none() || conn.finished {
            return self.remove(id);
        }
        let slow = if conn.message.is_some() { "body" } else { "head" };
        self.refuse_request(id, 408, &format!("the request {slow} took too long"));
    }

    /// Whether nobody is left to run what there is to do.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Drained | Phase::Ended)
    }

    pub(super) fn is_draining(&self) -> bool {
        self.phase != Phase::Serving
    }
}

/// What [`Conn::read`] did.
struct Read {
    moved: Moved,
    /// Bytes that there was room for.
    wanted: usize,
    /// Whether a read of fewer has left nothing to read.
    short_empties: bool,
    /// When they went straight into the body of the request: what came behind it.
    behind_body: Option<Vec<u8>>,
}

impl Conn {
    /// Lets the stream send what it has to say by itself.
    fn flush_own(&self) {
        if let Some(stream) = &self.shared.lock().stream {
            stream.flush_own();
        }
    }

    /// Reads into `buffer`, or straight into the body when much of it is outstanding.
    fn read(&mut self, buffer: &mut [u8]) -> Read {
        let io = self.shared.lock();
        let Some(stream) = &io.stream else {
            return Read { moved: Moved::Broken, wanted: 0, short_empties: true, behind_body: None };
        };
        let short_empties = stream.short_read_empties();
        let outstanding = self.decoder.body_remaining().unwrap_or(0);
        let body = match &mut self.message {
            Some(message) if outstanding >= DIRECT => message.sink.spare(outstanding),
            _ => None,
        };
        let Some(body) = body else {
            return Read {
                moved: stream.read(buffer),
                wanted: buffer.len(),
                short_empties,
                behind_body: None,
            };
        };
        let start = body.len();
        let wanted = body.capacity() - start;
        let moved = stream.read_spare(body);
        let count = ((body.len() - start) as u64).min(outstanding);
        // There may be room for more than the body.
        let behind_body = body.split_off(start + count as usize);
        self.decoder.consume_body(count);
        Read { moved, wanted, short_empties, behind_body: Some(behind_body) }
    }
}
