//! Publish and subscribe within a process: which subscription hears which channel, and a message framed once for all that
//! hear it. Owned by the reactor; everyone else sends it commands, so that what is subscribed before a publication hears it
//! and what is subscribed later does not.

use crate::conn::ConnHandle;
use crate::episode::Episode;
use crate::job::{Job, Root};
use crate::log::{self, Level};
use crate::realtime::{Event, SSE_FRAME, with_shared_deflater};
use iodine_codec::glob::Glob;
use iodine_codec::sse;
use iodine_codec::websocket::{self, Deflate, Kind, Role};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A published message. Its place in the history of its channel (a number and a time) will stand here, too.
#[derive(Debug)]
pub struct Message {
    /// The channel that it was published to.
    pub channel: Box<[u8]>,
    /// Its bytes.
    pub data: Box<[u8]>,
}

/// A retained value of the application, which is released when this is dropped.
pub trait Keeper: Send + Sync {
    /// Its number.
    fn root(&self) -> Root;
}

/// Who hears a channel.
pub enum Listener {
    /// The peer of a connection, without the application: the message is written to it.
    Peer {
        /// The connection.
        conn: ConnHandle,
        /// How WebSockets are told.
        format: Format,
    },
    /// A block, called as an event of a connection.
    Conn {
        /// The connection.
        conn: ConnHandle,
        /// The block.
        block: Box<dyn Keeper>,
    },
    /// A block of the process.
    Process {
        /// The block.
        block: Box<dyn Keeper>,
        /// Messages that wait for it: it is called for one at a time, in their order.
        lane: Mutex<Lane>,
    },
}

impl Listener {
    /// A block of the process.
    pub fn process(block: Box<dyn Keeper>) -> Listener {
        Listener::Process { block, lane: Mutex::default() }
    }
}

/// How a message is told to the peer of a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// As text if it is valid UTF-8, else as binary: text that is not would break the protocol (RFC 6455 section 8.1).
    Text,
    /// As binary in any case.
    Binary,
}

/// Messages that wait for a block of the process.
#[derive(Debug, Default)]
pub struct Lane {
    waiting: VecDeque<Arc<Message>>,
    /// Whether a job waits or runs for it.
    at_work: bool,
}

/// One subscription, shared by the hub and by whom it belongs to.
pub struct Subscription {
    name: Arc<[u8]>,
    /// Whether the name is a pattern.
    pattern: bool,
    listener: Listener,
    /// It has not ended yet: messages on their way to it when it ends are dropped.
    live: AtomicBool,
    /// Where the hub has it. For the hub alone.
    place: AtomicUsize,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.pattern { "pattern" } else { "channel" };
        write!(f, "{kind} {}", self.name.escape_ascii())
    }
}

impl Subscription {
    /// A subscription to the channel of this name, or to all channels that match it as a pattern.
    pub fn new(name: &[u8], pattern: bool, listener: Listener) -> Arc<Subscription> {
        Arc::new(Subscription {
            name: name.into(),
            pattern,
            listener,
            live: AtomicBool::new(true),
            place: AtomicUsize::new(usize::MAX),
        })
    }

    /// The channel or the pattern.
    pub fn name(&self) -> &Arc<[u8]> {
        &self.name
    }

    /// Whether the name is a pattern.
    pub fn is_pattern(&self) -> bool {
        self.pattern
    }

    /// Whether it has not ended.
    pub fn is_live(&self) -> bool {
        self.live.load(Relaxed)
    }

    /// It ends: what is on its way to it is not delivered. The hub has to be told, too.
    pub fn end(&self) {
        self.live.store(false, Relaxed);
    }

    /// The block to call; `None` if the peer is told directly.
    pub fn block(&self) -> Option<Root> {
        match &self.listener {
            Listener::Peer { .. } => None,
            Listener::Conn { block, .. } | Listener::Process { block, .. } => Some(block.root()),
        }
    }

    /// The messages that wait for a block of the process, for the thread that runs its [`Job::Deliver`].
    pub fn take_waiting(&self) -> VecDeque<Arc<Message>> {
        self.lane().map(|mut lane| std::mem::take(&mut lane.waiting)).unwrap_or_default()
    }

    /// What was taken is delivered. True if more waits, which the caller has to see to.
    pub fn finish_waiting(&self) -> bool {
        let Some(mut lane) = self.lane() else { return false };
        lane.at_work = !lane.waiting.is_empty();
        lane.at_work
    }

    /// The thread that had taken these is about to die: they come first again. True if the caller has to see to it.
    pub fn put_back_waiting(&self, mut messages: VecDeque<Arc<Message>>) -> bool {
        let Some(mut lane) = self.lane() else { return false };
        messages.append(&mut lane.waiting);
        lane.waiting = messages;
        lane.at_work = !lane.waiting.is_empty();
        lane.at_work
    }

    /// In a fork of the process: what waits is delivered there, by a job that is not here.
    pub fn forget_waiting(&self) {
        if let Some(mut lane) = self.lane() {
            *lane = Lane::default();
        }
    }

    fn lane(&self) -> Option<MutexGuard<'_, Lane>> {
        match &self.listener {
            Listener::Process { lane, .. } => Some(lane.lock().unwrap_or_else(PoisonError::into_inner)),
            _ => None,
        }
    }
}

/// Messages that may wait for one block: a block that takes longer than messages come must not fill the memory.
const MOST_WAITING: usize = 1 << 18;

/// The subscriptions of a process. See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    /// That messages for a block are lost.
    losing: Episode,
    channels: HashMap<Arc<[u8]>, Listeners>,
    patterns: HashMap<Arc<[u8]>, (Glob, Listeners)>,
}

/// Those that hear one channel or pattern, in no order that means anything.
#[derive(Debug, Default)]
struct Listeners(Vec<Arc<Subscription>>);

impl Listeners {
    fn add(&mut self, subscription: Arc<Subscription>) {
        subscription.place.store(self.0.len(), Relaxed);
        self.0.push(subscription);
    }

    fn remove(&mut self, subscription: &Arc<Subscription>) {
        let place = subscription.place.load(Relaxed);
        // It may have ended before the hub heard of it.
        if self.0.get(place).is_some_and(|found| Arc::ptr_eq(found, subscription)) {
            self.0.swap_remove(place);
            if let Some(moved) = self.0.get(place) {
                moved.place.store(place, Relaxed);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Hub {
    /// From here on the subscription hears what is published.
    pub(crate) fn subscribe(&mut self, subscription: Arc<Subscription>) {
        if !subscription.is_live() {
            return;
        }
        let name = subscription.name.clone();
        match subscription.pattern {
            true => self
                .patterns
                .entry(name)
                .or_insert_with_key(|name| (Glob::new(name), Listeners::default()))
                .1
                .add(subscription),
            false => self.channels.entry(name).or_default().add(subscription),
        }
    }

    /// It hears nothing more.
    pub(crate) fn unsubscribe(&mut self, subscription: &Arc<Subscription>) {
        let name = &subscription.name;
        if subscription.pattern {
            let Some((_, listeners)) = self.patterns.get_mut(name) else { return };
            listeners.remove(subscription);
            if listeners.is_empty() {
                self.patterns.remove(name);
            }
        } else {
            let Some(listeners) = self.channels.get_mut(name) else { return };
            listeners.remove(subscription);
            if listeners.is_empty() {
                self.channels.remove(name);
            }
        }
    }

    /// Delivers `message` to all that hear its channel. Connections that have something to write now are added to
    /// `unwritten`, jobs to `jobs`.
    pub(crate) fn publish(
        &mut self,
        message: &Arc<Message>,
        now: Instant,
        unwritten: &mut Vec<ConnHandle>,
        jobs: &mut Vec<Job>,
    ) {
        let mut wire = Wire::new(message);
        let mut lost = None;
        let exact = self.channels.get(&*message.channel).into_iter();
        let matching = self.patterns.values().filter(|(glob, _)| glob.matches(&message.channel));
        for listeners in exact.chain(matching.map(|(_, listeners)| listeners)) {
            for subscription in &listeners.0 {
                if !subscription.deliver(message, &mut wire, unwritten, jobs) {
                    lost = Some(subscription);
                }
            }
        }
        if let Some(subscription) = lost.filter(|_| self.losing.begins(now)) {
            log::message(
                Level::Error,
                &format!(
                    "the block of a subscription ({subscription:?}) does not keep up: {MOST_WAITING} messages wait for it, more are lost."
                ),
            );
        }
    }
}

impl Subscription {
    /// False if the message is lost, because too many wait.
    fn deliver(
        self: &Arc<Self>,
        message: &Arc<Message>,
        wire: &mut Wire<'_>,
        unwritten: &mut Vec<ConnHandle>,
        jobs: &mut Vec<Job>,
    ) -> bool {
        match &self.listener {
            _ if !self.is_live() => {}
            Listener::Peer { conn, format } => {
                let kind = match format {
                    Format::Text if wire.is_text() => Kind::Text,
                    Format::Text | Format::Binary => Kind::Binary,
                };
                if conn.push_published(wire, kind) {
                    unwritten.push(conn.clone());
                }
            }
            Listener::Conn { conn, .. } => {
                let event = Event::Published { subscription: self.clone(), message: message.clone() };
                let mut io = conn.lock();
                if io.waiting_events() >= MOST_WAITING {
                    return false;
                }
                if io.deliver(event) {
                    jobs.push(Job::Events(conn.clone()));
                }
            }
            Listener::Process { .. } => {
                let Some(mut lane) = self.lane() else { return true };
                if lane.waiting.len() >= MOST_WAITING {
                    return false;
                }
                lane.waiting.push_back(message.clone());
                if !std::mem::replace(&mut lane.at_work, true) {
                    jobs.push(Job::Deliver(self.clone()));
                }
            }
        }
        true
    }
}

/// A message in the forms in which it is written, each made once, when it is first wanted.
pub(crate) struct Wire<'m> {
    message: &'m Arc<Message>,
    is_text: Option<bool>,
    text: Option<Arc<[u8]>>,
    binary: Option<Arc<[u8]>>,
    deflated: Vec<(Kind, Deflate, Arc<[u8]>)>,
    sse: Option<Arc<[u8]>>,
    raw: Option<Arc<[u8]>>,
}

impl<'m> Wire<'m> {
    pub(crate) fn new(message: &'m Arc<Message>) -> Wire<'m> {
        Wire { message, is_text: None, text: None, binary: None, deflated: Vec::new(), sse: None, raw: None }
    }

    /// The bytes of the message.
    pub(crate) fn data(&self) -> &'m [u8] {
        &self.message.data
    }

    /// Bytes that it takes in an outbox, about.
    pub(crate) fn length(&self) -> usize {
        self.message.data.len()
    }

    fn is_text(&mut self) -> bool {
        *self.is_text.get_or_insert_with(|| std::str::from_utf8(&self.message.data).is_ok())
    }

    pub(crate) fn websocket(&mut self, kind: Kind) -> Arc<[u8]> {
        let data = &self.message.data;
        let slot = if kind == Kind::Text { &mut self.text } else { &mut self.binary };
        slot.get_or_insert_with(|| {
            let mut frame = Vec::with_capacity(data.len() + websocket::MAX_HEADER);
            websocket::encode_message(&mut frame, kind, data, None);
            frame.into()
        })
        .clone()
    }

    /// For connections that keep no state between messages, so that one form fits all that agreed upon the same.
    pub(crate) fn deflated(&mut self, kind: Kind, deflate: Deflate) -> Arc<[u8]> {
        let known = self.deflated.iter().find(|(known, agreed, _)| (*known, *agreed) == (kind, deflate));
        if let Some((_, _, frame)) = known {
            return frame.clone();
        }
        let mut frame = Vec::new();
        with_shared_deflater(deflate, Role::Server, |deflater| {
            deflater.encode_message(&mut frame, kind, &self.message.data, None)
        });
        let frame: Arc<[u8]> = frame.into();
        self.deflated.push((kind, deflate, frame.clone()));
        frame
    }

    pub(crate) fn sse(&mut self) -> Arc<[u8]> {
        let data = &self.message.data;
        self.sse
            .get_or_insert_with(|| {
                let mut text = Vec::with_capacity(data.len() + SSE_FRAME);
                sse::encode_message(&mut text, data);
                text.into()
            })
            .clone()
    }

    pub(crate) fn raw(&mut self) -> Arc<[u8]> {
        let data = &self.message.data;
        self.raw.get_or_insert_with(|| (&**data).into()).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Block;

    impl Keeper for Block {
        fn root(&self) -> Root {
            7
        }
    }

    fn subscription(name: &str, pattern: bool) -> Arc<Subscription> {
        Subscription::new(name.as_bytes(), pattern, Listener::process(Box::new(Block)))
    }

    fn publish(hub: &mut Hub, channel: &str, jobs: &mut Vec<Job>) {
        let message = Message { channel: channel.as_bytes().into(), data: (*b"x").into() };
        hub.publish(&Arc::new(message), Instant::now(), &mut Vec::new(), jobs);
    }

    #[test]
    fn channels_and_patterns_hear_until_they_leave() {
        let mut hub = Hub::default();
        let mut jobs = Vec::new();
        let all = [
            subscription("a", false),
            subscription("a", false),
            subscription("a*", true),
            subscription("b", false),
        ];
        all.iter().for_each(|subscription| hub.subscribe(subscription.clone()));
        publish(&mut hub, "a", &mut jobs);
        let heard = |subscription: &Arc<Subscription>| subscription.take_waiting().len();
        assert_eq!(all.each_ref().map(heard), [1, 1, 1, 0]);
        assert_eq!(jobs.len(), 3, "one job for each that has something to do");
        // The first leaves, and the last of those in its list takes its place.
        hub.unsubscribe(&all[0]);
        hub.unsubscribe(&all[0]);
        publish(&mut hub, "a", &mut jobs);
        publish(&mut hub, "ab", &mut jobs);
        assert_eq!(all.each_ref().map(heard), [0, 1, 2, 0]);
        assert_eq!(jobs.len(), 3, "they are at work");
        hub.unsubscribe(&all[1]);
        hub.unsubscribe(&all[2]);
        hub.unsubscribe(&all[3]);
        assert!(hub.channels.is_empty() && hub.patterns.is_empty());
    }

    #[test]
    fn who_has_left_before_coming_hears_nothing() {
        let mut hub = Hub::default();
        let late = subscription("a", false);
        late.end();
        hub.subscribe(late.clone());
        hub.unsubscribe(&late);
        assert!(hub.channels.is_empty());
    }

    #[test]
    fn what_waits_for_a_block_is_bounded() {
        log::set_verbosity(0);
        let mut hub = Hub::default();
        let slow = subscription("a", false);
        hub.subscribe(slow.clone());
        let message = Arc::new(Message { channel: (*b"a").into(), data: (*b"x").into() });
        for _ in 0..MOST_WAITING + 10 {
            hub.publish(&message, Instant::now(), &mut Vec::new(), &mut Vec::new());
        }
        assert_eq!(slow.take_waiting().len(), MOST_WAITING);
        assert!(!slow.finish_waiting());
    }
}
