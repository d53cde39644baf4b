//! The half of a real-time connection (WebSocket, SSE, raw) that the reactor and the app threads share: the events that wait
//! for its callbacks, and what the application may do with it from any thread.
//!
//! Invariant: while a job of the connection waits or runs, `Io::in_flight` is 1, as with a request. So its callbacks run in
//! order, one at a time, and what closes "when nothing is under way" closes behind the last of them.

use crate::command::Command;
use crate::conn::{Closing, ConnHandle, Io, Shared};
use crate::hub::{Message, Subscription, Wire};
use crate::job::{Job, Root};
use crate::outbox::{Borrowed, Piece};
use iodine_codec::sse;
use iodine_codec::websocket::{self, Deflate, Deflater, Kind, Role};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Messages that may wait for the callbacks of one connection before it is no longer read.
const INBOX: usize = 256;
/// Bytes of them.
const INBOX_BYTES: usize = 1024 * 1024;
/// What SSE adds to a message of one line, about.
pub(crate) const SSE_FRAME: usize = 16;
/// Agreements on compression for which a thread keeps the means.
const DEFLATERS: usize = 4;

thread_local! {
    /// Connections that carry nothing from one message to the next need no state of their own, which would be 260 KiB.
    static SHARED_DEFLATERS: RefCell<Vec<(Deflate, Role, Deflater)>> = const { RefCell::new(Vec::new()) };
}

/// Lends out a deflater for those who agreed on the same, without context takeover.
pub(crate) fn with_shared_deflater<R>(
    deflate: Deflate,
    role: Role,
    act: impl FnOnce(&mut Deflater) -> R,
) -> R {
    SHARED_DEFLATERS.with_borrow_mut(|known| {
        let place = known.iter().position(|(agreed, whose, _)| (*agreed, *whose) == (deflate, role));
        let place = place.unwrap_or_else(|| {
            if known.len() >= DEFLATERS {
                known.remove(0);
            }
            known.push((deflate, role, Deflater::new(deflate, role)));
            known.len() - 1
        });
        act(&mut known[place].2)
    })
}

/// What is spoken on a real-time connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// RFC 6455.
    WebSocket,
    /// Server-sent events: only the server speaks.
    Sse,
    /// Bytes as they are.
    Raw,
}

/// Something for the callbacks of a connection.
#[derive(Debug)]
pub enum Event {
    /// It is open: first of all.
    Open,
    /// What the peer has sent.
    Message {
        /// Whether it is text; raw bytes are not.
        kind: Kind,
        /// The bytes.
        data: Vec<u8>,
    },
    /// A message of a channel, for a block that was subscribed along with the connection.
    Published {
        /// The subscription. Its block is called unless it has ended meanwhile.
        subscription: Arc<Subscription>,
        /// The message.
        message: Arc<Message>,
    },
    /// All that was written has left.
    Drained,
    /// A raw connection was silent for its timeout.
    TimedOut,
    /// The server is ending.
    Shutdown,
    /// It is closed: last of all. These subscriptions have ended with it.
    Closed(Vec<Arc<Subscription>>),
}

/// Which callbacks the handler of a connection has, so that no job is made for those that it lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// `on_message`
    pub messages: bool,
    /// `on_drained`
    pub drained: bool,
    /// `ping`
    pub timeouts: bool,
}

/// How a connection begins to be a real-time one.
#[derive(Clone, Debug)]
pub struct Upgrade {
    /// What is spoken from here on.
    pub protocol: Protocol,
    /// Which end of it we are.
    pub role: Role,
    /// Whose callbacks are run.
    pub handler: Handler,
    /// What its handler wants.
    pub wants: Wants,
    /// As in [`Realtime::timeout`].
    pub timeout: Duration,
    /// The compression agreed upon.
    pub deflate: Option<Deflate>,
}

impl Upgrade {
    /// A connection that was accepted by a listener without HTTP.
    pub fn accepted() -> Upgrade {
        Upgrade {
            protocol: Protocol::Raw,
            role: Role::Server,
            handler: Handler::Asked,
            // Until the application has said what it wants.
            wants: Wants { messages: true, drained: true, timeouts: true },
            timeout: Duration::ZERO,
            deflate: None,
        }
    }
}

/// Whose callbacks a connection runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handler {
    /// Those of the handler that this object of the application for the connection knows.
    Object(Root),
    /// This handler's: the object is made at the first event.
    Given(Root),
    /// Those of the handler that the service's application returns when it is called, at the first event.
    Asked,
    /// There is nobody to call: the application wanted no such connection, or it is over.
    Refused,
}

/// See the module's text.
#[derive(Debug)]
pub struct Realtime {
    protocol: Protocol,
    role: Role,
    handler: Handler,
    wants: Wants,
    stage: Stage,
    inbox: VecDeque<Event>,
    /// Bytes of the messages in it.
    inbox_bytes: usize,
    /// WebSocket and SSE: silence after which we ping. Raw: silence after which the application is told, or the connection
    /// closed. Zero is never.
    pub(crate) timeout: Duration,
    deflate: Option<Deflate>,
    deflater: Option<Box<Deflater>>,
    /// Where writes that wait end, as counted by [`crate::Outbox::taken`].
    ends: VecDeque<u64>,
    /// Where the last one ended, or what was to be written before there was any.
    last_end: u64,
    /// [`Event::Drained`] is due when the outbox is empty.
    drained_due: bool,
    /// When something was last written.
    wrote: Option<Instant>,
    /// What the peer's Close frame said.
    peer_close: Option<(u16, Box<str>)>,
    /// What to say to the end that the peer has made, behind the callbacks of what it said before.
    last_word: Option<LastWord>,
    /// The subscriptions of the connection, by name.
    subscriptions: HashMap<Arc<[u8]>, Arc<Subscription>>,
}

/// How we end what the peer has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastWord {
    /// By answering its Close frame (RFC 6455 section 5.5.1).
    Answer,
    /// By telling it of its error.
    Complaint(u16, &'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// A client that is not connected yet.
    Opening,
    Open,
    /// Nothing more is written but the end.
    Closing,
    /// [`Event::Closed`] is in the inbox, or was.
    Closed,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It waits its turn, or is on its way.
    Queued,
    /// The peer reads too slowly: it was dropped, or the connection is being closed, as the service has it.
    Refused,
    /// There is no connection any more.
    Closed,
}

/// What to do about a peer that does not read what is written to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowConsumer {
    /// Close the connection; WebSockets with 1013 ("try again later").
    #[default]
    Close,
    /// Lose messages: whole ones, and the newest.
    Drop,
}

/// Who writes: an app thread within a batch of jobs writes out by itself, later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// An app thread that runs jobs.
    Batch,
    /// Any other thread.
    Anyone,
}

/// Bytes to write.
pub enum Payload<'b> {
    /// To be copied.
    Copied(&'b [u8]),
    /// To be written from where they are.
    Lent(Borrowed),
}

impl Payload<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Payload::Copied(bytes) => bytes,
            Payload::Lent(bytes) => (**bytes).as_ref(),
        }
    }
}

/// Status codes of RFC 6455 section 7.4.1 that the server says by itself.
pub mod close_code {
    /// The purpose is fulfilled.
    pub const NORMAL: u16 = 1000;
    /// The server is ending.
    pub const GOING_AWAY: u16 = 1001;
    /// The peer is too slow, or the server too busy.
    pub const TRY_AGAIN_LATER: u16 = 1013;
}

impl Realtime {
    /// What is spoken.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    fn new(upgrade: &Upgrade, stage: Stage) -> Realtime {
        Realtime {
            protocol: upgrade.protocol,
            role: upgrade.role,
            handler: upgrade.handler,
            wants: upgrade.wants,
            stage,
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            timeout: upgrade.timeout,
            deflate: upgrade.deflate,
            deflater: None,
            ends: VecDeque::new(),
            last_end: 0,
            drained_due: true,
            wrote: None,
            peer_close: None,
            last_word: None,
            subscriptions: HashMap::new(),
        }
    }

    /// Whether so much waits for the callbacks that the connection should not be read.
    pub(crate) fn is_full(&self) -> bool {
        self.inbox.len() >= INBOX || self.inbox_bytes >= INBOX_BYTES
    }

    pub(crate) fn wants(&self) -> Wants {
        self.wants
    }

    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.stage, Stage::Closing | Stage::Closed)
    }

    /// The connection is made.
    pub(crate) fn open_up(&mut self, deflate: Option<Deflate>) {
        self.stage = Stage::Open;
        self.deflate = deflate;
    }

    /// When something was last written, where that counts as a sign of life: a WebSocket's peer gives its own.
    pub(crate) fn wrote(&self) -> Option<Instant> {
        self.wrote.filter(|_| self.protocol != Protocol::WebSocket)
    }

    /// Something was written just now.
    pub(crate) fn note_written(&mut self) {
        self.wrote = Some(Instant::now());
    }

    fn mask(&self) -> Option<[u8; 4]> {
        match self.role {
            Role::Client => Some(crate::sys::random()),
            Role::Server => None,
        }
    }
}

impl Io {
    /// Leaves `event` for the callbacks. True if the caller has to make a [`Job::Events`] of it.
    #[must_use]
    pub(crate) fn deliver(&mut self, event: Event) -> bool {
        let Some(realtime) = &mut self.realtime else { return false };
        if let Event::Message { data, .. } = &event {
            realtime.inbox_bytes += data.len();
        }
        realtime.inbox.push_back(event);
        if self.in_flight > 0 {
            return false;
        }
        self.in_flight = 1;
        true
    }

    /// Events that wait for the callbacks.
    pub(crate) fn waiting_events(&self) -> usize {
        self.realtime.as_ref().map_or(0, |realtime| realtime.inbox.len())
    }

    /// As [`Io::deliver`], for the last event. Later calls do nothing.
    #[must_use]
    pub(crate) fn deliver_closed(&mut self, ended: Vec<Arc<Subscription>>) -> bool {
        match &mut self.realtime {
            Some(realtime) if realtime.stage != Stage::Closed => {
                realtime.stage = Stage::Closed;
                realtime.ends = VecDeque::new();
                realtime.deflater = None;
                self.deliver(Event::Closed(ended))
            }
            _ => false,
        }
    }

    /// Frames a message and leaves it to be written. `max_backlog` and `slow` are the service's.
    fn push_message(&mut self, kind: Kind, payload: Payload<'_>) {
        let Some(realtime) = &mut self.realtime else { return };
        let outbox = &mut self.outbox;
        match realtime.protocol {
            Protocol::Raw => match payload {
                Payload::Copied(bytes) => outbox.extend(bytes.len(), |out| out.extend_from_slice(bytes)),
                Payload::Lent(bytes) => outbox.push(bytes),
            },
            Protocol::Sse => {
                let bytes = payload.bytes();
                outbox.extend(bytes.len() + SSE_FRAME, |out| sse::encode_message(out, bytes));
            }
            Protocol::WebSocket => {
                let mask = realtime.mask();
                let role = realtime.role;
                if let Some(deflate) = realtime.deflate {
                    let bytes = payload.bytes();
                    outbox.extend(bytes.len() + websocket::MAX_HEADER, |out| {
                        if deflate.context_takeover(role) {
                            let own = &mut realtime.deflater;
                            own.get_or_insert_with(|| Box::new(Deflater::new(deflate, role)))
                                .encode_message(out, kind, bytes, mask);
                        } else {
                            with_shared_deflater(deflate, role, |deflater| {
                                deflater.encode_message(out, kind, bytes, mask)
                            });
                        }
                    });
                } else {
                    match (payload, mask) {
                        (Payload::Lent(bytes), None) => {
                            let length = (*bytes).as_ref().len();
                            outbox.extend(websocket::MAX_HEADER, |out| {
                                websocket::encode_header(out, kind, length)
                            });
                            outbox.push(bytes);
                        }
                        (payload, mask) => {
                            let bytes = payload.bytes();
                            outbox.extend(bytes.len() + websocket::MAX_HEADER, |out| {
                                websocket::encode_message(out, kind, bytes, mask)
                            });
                        }
                    }
                }
            }
        }
        self.note_write();
    }

    /// Something was written by the application or for it.
    fn note_write(&mut self) {
        let end = self.outbox.taken() + self.outbox.pending();
        if let Some(realtime) = &mut self.realtime {
            // A message that left no bytes, as an empty one of SSE, is no write.
            if realtime.last_end < end {
                realtime.last_end = end;
                realtime.ends.push_back(end);
                realtime.drained_due = true;
            }
        }
    }

    /// Says goodbye as the protocol has it, and closes behind what waits. Does nothing when that was done before.
    pub(crate) fn begin_close(&mut self, code: u16, reason: &str) {
        let Some(realtime) = &mut self.realtime else { return };
        if realtime.is_closing() {
            return;
        }
        let opening = realtime.stage == Stage::Opening;
        realtime.stage = Stage::Closing;
        match realtime.protocol {
            // There is nobody to say it to yet.
            _ if opening => self.closing = Closing::Plain,
            Protocol::WebSocket => {
                let mask = realtime.mask();
                self.outbox.extend(websocket::MAX_HEADER + 125, |out| {
                    websocket::encode_close(out, Some((code, reason)), mask);
                });
                self.note_write();
            }
            // What the peer has sent and nobody reads would turn the close into a reset.
            Protocol::Sse | Protocol::Raw => self.closing = Closing::Linger,
        }
    }

    /// The peer has closed its WebSocket: answers that, unless we closed first.
    pub(crate) fn answer_close(&mut self, said: Option<(u16, &str)>) {
        if let Some(realtime) = &mut self.realtime {
            realtime.peer_close = said.map(|(code, reason)| (code, reason.into()));
        }
        self.say_last(LastWord::Answer);
    }

    /// The peer has broken the protocol: says so, and closes.
    pub(crate) fn fail_close(&mut self, code: u16, reason: &'static str) {
        self.say_last(LastWord::Complaint(code, reason));
    }

    /// What came before the end was said in good order, and is answered before it.
    fn say_last(&mut self, word: LastWord) {
        let Some(realtime) = &mut self.realtime else { return };
        if self.in_flight > 0 {
            realtime.last_word = Some(word);
            return;
        }
        match word {
            LastWord::Answer => {
                if !realtime.is_closing() {
                    realtime.stage = Stage::Closing;
                    let mask = realtime.mask();
                    let code = realtime.peer_close.as_ref().map(|(code, _)| (*code, ""));
                    self.outbox.extend(websocket::MAX_HEADER + 125, |out| {
                        websocket::encode_close(out, code, mask);
                    });
                }
                self.closing = Closing::Plain;
            }
            LastWord::Complaint(code, reason) => {
                self.begin_close(code, reason);
                self.closing = Closing::Linger;
            }
        }
    }

    /// Answers or sends a ping.
    pub(crate) fn push_control(&mut self, control: Control<'_>) {
        let Some(realtime) = &mut self.realtime else { return };
        if realtime.is_closing() {
            return;
        }
        let mask = realtime.mask();
        match control {
            Control::Ping if realtime.protocol == Protocol::Sse => {
                self.outbox.extend(sse::PING.len(), |out| out.extend_from_slice(sse::PING));
            }
            Control::Ping => {
                self.outbox.extend(websocket::MAX_HEADER, |out| websocket::encode_ping(out, b"", mask))
            }
            Control::Pong(payload) => self
                .outbox
                .extend(websocket::MAX_HEADER + 125, |out| websocket::encode_pong(out, payload, mask)),
        }
        self.note_write();
    }

    /// Whether it is to be told that all that was written has left. It is said once.
    fn take_drained(&mut self) -> bool {
        if !self.outbox.is_empty() {
            return false;
        }
        let Some(realtime) = self.realtime.as_mut().filter(|realtime| realtime.stage != Stage::Opening)
        else {
            return false;
        };
        // All that was written has left.
        realtime.ends.clear();
        let due = std::mem::take(&mut realtime.drained_due);
        due && realtime.wants.drained && matches!(realtime.stage, Stage::Open | Stage::Closing)
    }
}

/// A control frame.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Control<'p> {
    /// Are you there?
    Ping,
    /// I am.
    Pong(&'p [u8]),
}

impl Shared {
    /// Turns the connection of the request `number`, which is at work, into a real-time one. `head` is the answer to the
    /// request. The caller runs its events next. False if there is no client any more; nothing was done then.
    pub fn upgrade(self: &ConnHandle, number: u64, head: Vec<u8>, upgrade: Upgrade) -> bool {
        let mut io = self.lock();
        if io.stream.is_none() || !io.end_work(number) {
            return false;
        }
        io.outbox.push(head);
        io.become_realtime(&upgrade);
        io.switch = Some(Box::new(upgrade));
        io.write_asked = true;
        drop(io);
        self.handle().leave_unwritten(self);
        self.handle().send(Command::Resume(self.id()));
        true
    }

    /// Writes a message. Bytes are framed now; what is lent is kept until it has left.
    pub fn write(self: &ConnHandle, kind: Kind, payload: Payload<'_>, writer: Writer) -> Written {
        let mut io = self.lock();
        if let Some(refused) = self.refuse_write(&mut io, payload.bytes().len()) {
            return refused;
        }
        io.push_message(kind, payload);
        self.ask_to_write(io, writer);
        Written::Queued
    }

    /// Writes an event of SSE with its fields. Other protocols get its data alone.
    pub fn write_event(
        self: &ConnHandle,
        event: &sse::Event<'_>,
        writer: Writer,
    ) -> Result<Written, sse::EventError> {
        let mut text = Vec::new();
        sse::encode_event(&mut text, event)?;
        let mut io = self.lock();
        if io.realtime.as_ref().is_some_and(|realtime| realtime.protocol != Protocol::Sse) {
            drop(io);
            return Ok(self.write(Kind::Text, Payload::Copied(event.data), writer));
        }
        if let Some(refused) = self.refuse_write(&mut io, text.len()) {
            return Ok(refused);
        }
        io.outbox.push(text);
        io.note_write();
        self.ask_to_write(io, writer);
        Ok(Written::Queued)
    }

    /// A message that was published, already framed. Whoever publishes writes it, when all of it has been pushed: true if
    /// that is to be done for this connection.
    pub(crate) fn push_published(self: &ConnHandle, wire: &mut Wire<'_>, kind: Kind) -> bool {
        let mut io = self.lock();
        if self.refuse_write(&mut io, wire.length()).is_some() {
            return false;
        }
        let Some(realtime) = &mut io.realtime else { return false };
        match (realtime.protocol, realtime.role, realtime.deflate) {
            (Protocol::WebSocket, Role::Server, None) => {
                let piece = Piece::Shared(wire.websocket(kind));
                io.outbox.push(piece);
                io.note_write();
            }
            (Protocol::WebSocket, Role::Server, Some(deflate)) if !deflate.context_takeover(Role::Server) => {
                let piece = Piece::Shared(wire.deflated(kind, deflate));
                io.outbox.push(piece);
                io.note_write();
            }
            (Protocol::WebSocket, ..) => io.push_message(kind, Payload::Copied(wire.data())),
            (Protocol::Sse, ..) => {
                let piece = Piece::Shared(wire.sse());
                io.outbox.push(piece);
                io.note_write();
            }
            (Protocol::Raw, ..) => {
                let piece = Piece::Shared(wire.raw());
                io.outbox.push(piece);
                io.note_write();
            }
        }
        !std::mem::replace(&mut io.write_asked, true)
    }

    /// Whether there is nobody to write to, or too much waits already.
    fn refuse_write(self: &ConnHandle, io: &mut Io, length: usize) -> Option<Written> {
        let realtime = io.realtime.as_ref()?;
        if io.stream.is_none() || realtime.stage != Stage::Open {
            return Some(Written::Closed);
        }
        let config = &self.service().realtime;
        let most = config.max_backlog as u64;
        // Whatever the size, one message may wait: it may be larger than what is allowed to gather.
        if io.outbox.is_empty() || io.outbox.pending().saturating_add(length as u64) <= most {
            return None;
        }
        if config.slow_consumer == SlowConsumer::Close {
            io.begin_close(close_code::TRY_AGAIN_LATER, "too slow");
            self.handle().send(Command::CloseSoon(self.id()));
        }
        Some(Written::Refused)
    }

    fn ask_to_write(self: &ConnHandle, mut io: std::sync::MutexGuard<'_, Io>, writer: Writer) {
        let ask = !std::mem::replace(&mut io.write_asked, true);
        drop(io);
        match writer {
            _ if !ask => {}
            Writer::Batch => {
                self.handle().leave_unwritten(self);
                // Should the callback turn out slow, the reactor writes.
                self.handle().watch();
            }
            Writer::Anyone => self.handle().send(Command::Write(self.clone())),
        }
    }

    /// Closes the connection behind what waits to be written. The code and the reason are for WebSockets.
    pub fn close(self: &ConnHandle, code: u16, reason: &str, writer: Writer) {
        let mut io = self.lock();
        io.begin_close(code, reason);
        self.ask_to_write(io, writer);
    }

    /// Whether it may be written to.
    pub fn is_writable(&self) -> bool {
        let io = self.lock();
        io.stream.is_some() && io.realtime.as_ref().is_some_and(|realtime| realtime.stage == Stage::Open)
    }

    /// Writes that have not left yet; `None` once it is closed.
    pub fn pending_writes(&self) -> Option<usize> {
        let io = self.lock();
        io.stream.as_ref()?;
        let realtime = io.realtime.as_ref().filter(|realtime| realtime.stage != Stage::Closed)?;
        let taken = io.outbox.taken();
        Some(realtime.ends.iter().filter(|end| **end > taken).count())
    }

    /// Whose callbacks are run; `None` for HTTP.
    pub fn handler(&self) -> Option<Handler> {
        Some(self.lock().realtime.as_ref()?.handler)
    }

    /// The application has made its object for the connection, whose handler wants this.
    pub fn set_object(&self, object: Root, wants: Wants) {
        if let Some(realtime) = &mut self.lock().realtime {
            realtime.handler = Handler::Object(object);
            realtime.wants = wants;
        }
    }

    /// Takes back what the application has for the connection: its object, or the handler of which none was made. For when its
    /// last callback has run, or none ever will.
    pub fn take_object(&self) -> Option<Root> {
        let mut io = self.lock();
        let realtime = io.realtime.as_mut()?;
        match std::mem::replace(&mut realtime.handler, Handler::Refused) {
            Handler::Object(root) | Handler::Given(root) => Some(root),
            Handler::Asked | Handler::Refused => None,
        }
    }

    /// The application does not want this connection.
    pub fn refuse(self: &ConnHandle) {
        let mut io = self.lock();
        if let Some(realtime) = &mut io.realtime {
            realtime.handler = Handler::Refused;
            realtime.wants = Wants::default();
        }
        io.begin_close(close_code::NORMAL, "");
        self.ask_to_write(io, Writer::Anyone);
    }

    /// The handler is another one from here on.
    pub fn set_wants(&self, wants: Wants) {
        if let Some(realtime) = &mut self.lock().realtime {
            realtime.wants = wants;
        }
    }

    /// See [`Realtime::timeout`]; `None` once it is closed.
    pub fn timeout(&self) -> Option<Duration> {
        let io = self.lock();
        let realtime = io.realtime.as_ref().filter(|realtime| realtime.stage != Stage::Closed)?;
        Some(realtime.timeout)
    }

    /// Sets what [`Shared::timeout`] returns.
    pub fn set_timeout(&self, timeout: Duration) {
        if let Some(realtime) = &mut self.lock().realtime {
            realtime.timeout = timeout;
        }
        self.handle().send(Command::Look(self.id()));
    }

    /// What is spoken; `None` for HTTP.
    pub fn protocol(&self) -> Option<Protocol> {
        self.lock().realtime.as_ref().map(|realtime| realtime.protocol)
    }

    /// The code and the reason of the peer's Close frame.
    pub fn peer_close(&self) -> Option<(u16, Box<str>)> {
        self.lock().realtime.as_ref()?.peer_close.clone()
    }

    // --- events -------------------------------------------------------------------------------------------------

    /// Takes the events that wait. For the thread that runs its [`Job::Events`].
    pub fn take_events(&self) -> VecDeque<Event> {
        let mut io = self.lock();
        let Some(realtime) = &mut io.realtime else { return VecDeque::new() };
        // An idle connection keeps no memory for events.
        let events = std::mem::take(&mut realtime.inbox);
        realtime.inbox_bytes = 0;
        let resume = io.resume_at.is_some() && io.has_room();
        if resume {
            io.resume_at = None;
        }
        drop(io);
        if resume {
            self.handle().send(Command::Resume(self.id()));
        }
        events
    }

    /// The events that were taken have been handled. True if more wait, which the caller has to see to.
    pub fn finish_events(self: &ConnHandle, now: Instant) -> bool {
        let mut io = self.lock();
        if io.realtime.as_ref().is_some_and(|realtime| !realtime.inbox.is_empty()) {
            return true;
        }
        // Where nothing was written, no flush tells so.
        if io.take_drained()
            && let Some(realtime) = &mut io.realtime
        {
            realtime.inbox.push_back(Event::Drained);
            return true;
        }
        io.in_flight = 0;
        io.answered = Some(now);
        if let Some(word) = io.realtime.as_mut().and_then(|realtime| realtime.last_word.take()) {
            io.say_last(word);
        }
        // It may have waited for this.
        let flush = io.closing != Closing::No && io.stream.is_some();
        drop(io);
        if flush {
            self.handle().leave_unwritten(self);
        }
        false
    }

    /// The thread that had taken these events is about to die: another one runs them.
    pub fn put_back_events(self: &ConnHandle, mut events: VecDeque<Event>) {
        let mut io = self.lock();
        let Some(realtime) = &mut io.realtime else { return };
        while let Some(event) = events.pop_back() {
            if let Event::Message { data, .. } = &event {
                realtime.inbox_bytes += data.len();
            }
            realtime.inbox.push_front(event);
        }
        drop(io);
        if self.finish_events(Instant::now()) {
            self.handle().jobs().push(Job::Events(self.clone()));
        } else {
            // What may wait to be written is not for a dying thread.
            self.handle().send(Command::Write(self.clone()));
        }
    }

    /// To be called when a flush has emptied the outbox.
    pub(crate) fn note_drained(self: &ConnHandle) {
        let mut io = self.lock();
        if io.take_drained() && io.deliver(Event::Drained) {
            drop(io);
            self.handle().jobs().push(Job::Events(self.clone()));
        }
    }

    // --- subscriptions ------------------------------------------------------------------------------------------

    /// Notes a subscription of the connection. Returns the one of this name that it replaces; `Err` if the connection is
    /// closed.
    pub fn add_subscription(
        &self,
        subscription: &Arc<Subscription>,
    ) -> Result<Option<Arc<Subscription>>, Gone> {
        let mut io = self.lock();
        match &mut io.realtime {
            Some(realtime) if realtime.stage != Stage::Closed => {
                Ok(realtime.subscriptions.insert(subscription.name().clone(), subscription.clone()))
            }
            _ => Err(Gone),
        }
    }

    /// Forgets a subscription of the connection.
    pub fn remove_subscription(&self, name: &[u8]) -> Option<Arc<Subscription>> {
        self.lock().realtime.as_mut()?.subscriptions.remove(name)
    }

    /// Forgets all of them, because the connection is closed.
    pub(crate) fn take_subscriptions(&self) -> Vec<Arc<Subscription>> {
        let mut io = self.lock();
        let taken = io.realtime.as_mut().map(|realtime| std::mem::take(&mut realtime.subscriptions));
        taken.unwrap_or_default().into_values().collect()
    }
}

/// There is no connection any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl Io {
    /// From here on its events are real-time ones; the first is there already, and the caller's to run.
    pub(crate) fn become_realtime(&mut self, upgrade: &Upgrade) {
        let mut realtime = Realtime::new(upgrade, Stage::Open);
        realtime.inbox.push_back(Event::Open);
        realtime.last_end = self.outbox.taken() + self.outbox.pending();
        self.realtime = Some(Box::new(realtime));
        self.forget_requests();
        self.in_flight = 1;
    }

    /// It is going to be a real-time one, unless the connection can not be made.
    pub(crate) fn await_opening(&mut self, upgrade: &Upgrade) {
        self.realtime = Some(Box::new(Realtime::new(upgrade, Stage::Opening)));
    }
}
