//! The half of a real-time connection (WebSocket, SSE, raw) that the reactor and the app threads share: the events that wait
//! for its callbacks, and what the application may do with it from any thread.
//!
//! Invariant: while a job of the connection waits or runs, `Io::in_flight` is 1, as with a request. So its callbacks run in
//! order, one at a time, and what closes "when nothing is under way" closes behind the last of them.

mod events;
mod writing;

pub(crate) use writing::{Control, SSE_FRAME, with_shared_deflater};

use crate::command::Command;
use crate::conn::{ConnHandle, Io, Shared};
use crate::hub::{Message, Subscription};
use crate::job::Root;
use crate::outbox::Borrowed;
use iodine_codec::websocket::{Deflate, Deflater, Kind, Role};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Messages that may wait for the callbacks of one connection before it is no longer read.
const INBOX: usize = 256;
/// Bytes of them.
const INBOX_BYTES: usize = 1024 * 1024;

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
    /// Something has failed here.
    pub const INTERNAL_ERROR: u16 = 1011;
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
        self.handle().leave_unwritten(self.clone());
        self.handle().send(Command::Resume(self.id()));
        true
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

    /// The application does not want this connection, or can not have it. `code` is what a WebSocket is closed with.
    pub fn refuse(self: &ConnHandle, code: u16) {
        let mut io = self.lock();
        if let Some(realtime) = &mut io.realtime {
            realtime.handler = Handler::Refused;
            realtime.wants = Wants::default();
        }
        io.begin_close(code, "");
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
