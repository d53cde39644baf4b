//! Real-time connections in the reactor: what comes in becomes events, silence becomes pings, and every end is told once.

use super::Reactor;
use super::conn::Pause;
use super::http::Outcome;
use crate::config::RealtimeConfig;
use crate::conn::{Closing, ConnHandle, ConnId, Flushed, Io};
use crate::job::Job;
use crate::log::{self, Level};
use crate::realtime::{Control, Event, Protocol, Upgrade, close_code};
use iodine_codec::http1::RequestDecoder;
use iodine_codec::websocket::{Kind, Receiver, Step, Violation};
use std::time::{Duration, Instant};

/// How long the peer has to answer a Close frame, or to read what is before it.
const GOODBYE: Duration = Duration::from_secs(5);
/// The same, when the server is ending.
const LAST_GOODBYE: Duration = Duration::from_secs(1);

/// What a connection speaks since it left HTTP, and how far it is.
#[derive(Debug)]
pub(super) struct Speaking {
    reader: Reader,
    /// A ping was sent, and nothing was heard since.
    pinged: bool,
    /// Until when it may stay open now that it has said goodbye.
    pub(super) close_by: Option<Instant>,
}

#[derive(Debug)]
enum Reader {
    WebSocket(Receiver),
    Raw,
    /// Nobody listens.
    Deaf,
}

impl Speaking {
    pub(super) fn new(upgrade: &Upgrade, config: &RealtimeConfig) -> Speaking {
        let reader = match upgrade.protocol {
            Protocol::WebSocket => {
                Reader::WebSocket(Receiver::new(upgrade.role, config.max_message, upgrade.deflate))
            }
            Protocol::Raw => Reader::Raw,
            Protocol::Sse => Reader::Deaf,
        };
        Speaking { reader, pinged: false, close_by: None }
    }

    /// When its silence has lasted too long. `active` is when it was last read.
    pub(super) fn deadline(&self, io: &Io, active: Instant, paused: bool) -> Option<Instant> {
        let realtime = io.realtime.as_ref()?;
        let timeout = realtime.timeout;
        // Who is not read can not be blamed for silence.
        if paused || timeout.is_zero() {
            return None;
        }
        let since = [io.answered, realtime.wrote()].into_iter().flatten().fold(active, Instant::max);
        since.checked_add(timeout)
    }
}

/// What a piece of input came to.
enum Heard {
    All,
    /// The rest has to wait.
    Paused(Pause),
    /// The conversation is over.
    Over,
}

impl Reactor {
    /// Takes notice that the connection has left HTTP, if it has.
    pub(super) fn switch(&mut self, id: ConnId) -> bool {
        let draining = self.is_draining();
        let Some(conn) = self.conn(id) else { return false };
        let shared = conn.shared().clone();
        let Some(upgrade) = shared.lock().switch.take() else { return false };
        conn.realtime = Some(Box::new(Speaking::new(&upgrade, &shared.service().realtime)));
        conn.decoder = RequestDecoder::new();
        conn.message = None;
        conn.finished = false;
        // The end may have been read already, as that of the requests. It can be read again.
        conn.unread = true;
        // A client that had no more to ask may not have been listened to.
        self.register_late(id);
        if draining {
            self.deliver(&shared, Event::Shutdown);
        }
        true
    }

    /// Leaves an event to the application.
    pub(super) fn deliver(&mut self, conn: &ConnHandle, event: Event) {
        if conn.lock().deliver(event) {
            self.jobs.push(Job::Events(conn.clone()));
        }
    }

    /// Decodes input of a real-time connection.
    pub(super) fn hear(&mut self, id: ConnId, fresh: &[u8]) {
        let Some(conn) = self.conn(id) else { return };
        let shared = conn.shared().clone();
        let Some(mut speaking) = conn.realtime.take() else { return };
        speaking.pinged = false;
        let mut rest = fresh;
        let mut replied = false;
        let heard = loop {
            if rest.is_empty() {
                break Heard::All;
            }
            let (used, heard) = match &mut speaking.reader {
                Reader::Deaf => break Heard::All,
                Reader::Raw => (rest.len(), self.take_message(&shared, Kind::Binary, rest.to_vec())),
                Reader::WebSocket(receiver) => match receiver.decode(rest) {
                    Ok((used, step)) => (used, self.take_step(&shared, step, &mut replied)),
                    Err(violation) => {
                        break_off(&shared, violation);
                        replied = true;
                        break Heard::Over;
                    }
                },
            };
            rest = rest.get(used..).unwrap_or_default();
            if !matches!(heard, Heard::All) {
                break heard;
            }
        };
        let Some(conn) = self.conn(id) else { return };
        conn.realtime = Some(speaking);
        match heard {
            Heard::All => {}
            Heard::Paused(pause) => self.conclude(id, Outcome::Paused(pause), rest),
            Heard::Over => {
                conn.finished = true;
                if let Some(speaking) = &mut conn.realtime {
                    speaking.reader = Reader::Deaf;
                }
            }
        }
        if replied {
            self.write_out(id);
        }
    }

    fn take_step(&mut self, shared: &ConnHandle, step: Step, replied: &mut bool) -> Heard {
        match step {
            Step::NeedMore | Step::Pong(_) => Heard::All,
            Step::Message { kind, data } => self.take_message(shared, kind, data),
            Step::Ping(payload) => {
                let mut io = shared.lock();
                io.push_control(Control::Pong(&payload));
                *replied = true;
                // As with messages: who asks without reading must not fill our memory with answers.
                if io.has_room() { Heard::All } else { Heard::Paused(Pause::Events) }
            }
            Step::Close(said) => {
                let said = said.as_ref().map(|said| (said.code, said.reason.as_str()));
                shared.lock().answer_close(said);
                *replied = true;
                Heard::Over
            }
        }
    }

    fn take_message(&mut self, shared: &ConnHandle, kind: Kind, data: Vec<u8>) -> Heard {
        let mut io = shared.lock();
        let wanted = io.realtime.as_ref().is_some_and(|realtime| realtime.wants().messages);
        if !wanted {
            return Heard::All;
        }
        let job = io.deliver(Event::Message { kind, data });
        // Who sends without reading must not fill our memory with replies.
        let crowded = io.is_crowded() || !io.has_room();
        drop(io);
        if job {
            self.jobs.push(Job::Events(shared.clone()));
        }
        match () {
            () if crowded => Heard::Paused(Pause::Events),
            () if self.handle.jobs().is_full() => Heard::Paused(Pause::Queue),
            () => Heard::All,
        }
    }

    /// Writes what the reactor itself had to say.
    fn write_out(&mut self, id: ConnId) {
        let Some(conn) = self.conn(id) else { return };
        if conn.shared().clone().flush() == Flushed::Closed {
            self.remove(id);
        }
    }

    /// Writes to the connections that were published to.
    pub(super) fn write_published(&mut self) {
        // In order: whoever publishes meanwhile does so in the next turn.
        let mut published = std::mem::take(&mut self.published);
        for conn in published.drain(..) {
            conn.flush();
        }
        self.published = published;
    }

    /// The peer sends no more.
    pub(super) fn end_realtime(&mut self, id: ConnId) {
        let Some(conn) = self.conn(id) else { return };
        conn.finished = true;
        let half_closed = matches!(conn.realtime.as_deref(), Some(Speaking { reader: Reader::Raw, .. }));
        let mut io = conn.shared().lock();
        // A raw peer that has sent all it had may still read: what its last messages lead to is written.
        let over = conn.lingering.is_some() || io.is_quiet() || !half_closed;
        io.client_ends = true;
        io.closing = if io.closing == Closing::No { Closing::Plain } else { io.closing };
        drop(io);
        if over {
            self.remove(id);
        }
    }

    /// Tells the application that a connection is closed, and lets its subscriptions end. Does nothing the second time.
    pub(super) fn tell_closed(&mut self, conn: &ConnHandle) {
        let Some((ended, runs)) = conn.lock().deliver_closed() else { return };
        for subscription in &ended {
            self.hub.unsubscribe(subscription);
        }
        if runs {
            self.jobs.push(Job::Events(conn.clone()));
        }
    }

    /// The connection has said goodbye, and all that was to be written has left, or does not.
    pub(super) fn close_soon(&mut self, id: ConnId) {
        let time = if self.is_draining() { LAST_GOODBYE } else { GOODBYE };
        let by = self.now + time;
        let Some(conn) = self.conn(id) else { return };
        let Some(speaking) = &mut conn.realtime else { return };
        if speaking.close_by.is_none() {
            speaking.close_by = Some(by);
            self.watch(id);
        }
    }

    /// The server is ending. False if that is for HTTP to deal with.
    pub(super) fn shut_down_realtime(&mut self, id: ConnId) -> bool {
        let now = self.now;
        let Some(conn) = self.conn(id).filter(|conn| conn.realtime.is_some()) else { return false };
        let shared = conn.shared().clone();
        if shared.service().realtime.outlasts {
            return true;
        }
        // From here on it has less time to read.
        conn.blocked = conn.blocked.map(|(_, delivered)| (now, delivered));
        self.watch(id);
        self.deliver(&shared, Event::Shutdown);
        true
    }

    /// Nothing was heard of the connection for its timeout, or it does not read, or its goodbye takes too long.
    pub(super) fn time_out_realtime(&mut self, id: ConnId) {
        let now = self.now;
        let Some(conn) = self.conn(id) else { return };
        let shared = conn.shared().clone();
        let Some(speaking) = &mut conn.realtime else { return };
        let io = shared.lock();
        let unheard = speaking.close_by.is_some() || conn.blocked.is_some() && !io.outbox.is_empty();
        let Some(realtime) = &io.realtime else { return };
        let (protocol, wants) = (realtime.protocol(), realtime.wants());
        let at_work = io.in_flight > 0;
        drop(io);
        match protocol {
            _ if unheard => self.remove(id),
            // There was no pong (RFC 6455 section 5.5.3), nor anything else.
            Protocol::WebSocket if speaking.pinged => self.remove(id),
            Protocol::WebSocket | Protocol::Sse => {
                speaking.pinged = true;
                conn.active = now;
                shared.lock().push_control(Control::Ping);
                self.write_out(id);
                self.watch(id);
            }
            // It is for the application to speak, not for the peer.
            Protocol::Raw if at_work => {
                conn.active = now;
                self.watch(id);
            }
            Protocol::Raw if wants.timeouts => {
                conn.active = now;
                self.deliver(&shared, Event::TimedOut);
                self.watch(id);
            }
            Protocol::Raw => {
                shared.lock().begin_close(close_code::NORMAL, "");
                self.write_out(id);
            }
        }
    }
}

/// The peer has broken the rules of its protocol.
fn break_off(shared: &ConnHandle, violation: Violation) {
    let (code, reason) = (violation.close_code(), violation.reason());
    let peer = shared.peer_text();
    log::message(Level::Debug, &format!("WebSocket connection with {peer} closed with {code}: {reason}"));
    shared.lock().fail_close(code, reason);
}
