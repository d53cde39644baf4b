//! What is written to a real-time connection: framed by whoever writes, into the outbox, up to the bound that the service
//! sets. The protocol's own words (pings, pongs, goodbyes) are here, too.

use super::{LastWord, Payload, Protocol, SlowConsumer, Stage, Writer, Written, close_code};
use crate::command::Command;
use crate::conn::{Closing, ConnHandle, Io, Shared};
use crate::hub::Wire;
use crate::outbox::Piece;
use iodine_codec::sse;
use iodine_codec::websocket::{self, Deflate, Deflater, Kind, Role};
use std::cell::RefCell;
use std::sync::MutexGuard;

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

/// A control frame.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Control<'p> {
    /// Are you there?
    Ping,
    /// I am.
    Pong(&'p [u8]),
}

impl Io {
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
        let taken = self.outbox.taken();
        let end = taken + self.outbox.pending();
        if let Some(realtime) = &mut self.realtime {
            // The outbox of a peer that is always a little behind is never empty.
            while realtime.ends.front().is_some_and(|end| *end <= taken) {
                realtime.ends.pop_front();
            }
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
    pub(super) fn say_last(&mut self, word: LastWord) {
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
    pub(super) fn take_drained(&mut self) -> bool {
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

impl Shared {
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

    pub(super) fn ask_to_write(self: &ConnHandle, mut io: MutexGuard<'_, Io>, writer: Writer) {
        let ask = !std::mem::replace(&mut io.write_asked, true);
        drop(io);
        match writer {
            _ if !ask => {}
            Writer::Batch => {
                self.handle().leave_unwritten(self.clone());
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HttpConfig, ReactorConfig, Service};
    use crate::conn::{ConnId, Flushed, Peer};
    use crate::reactor::Reactor;
    use crate::realtime::Upgrade;
    use crate::stream::Stream;
    use crate::sys::Fd;
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;

    #[test]
    fn writes_that_have_left_are_forgotten_though_others_wait() {
        const MESSAGE: usize = 8 * 1024;
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let reactor = Reactor::new(ReactorConfig::default()).unwrap();
        let service = Arc::new(Service::http(0, HttpConfig::default(), None));
        let (id, peer) = (ConnId { slot: 0, generation: 1 }, Peer::Unix(Arc::from("")));
        let stream = Some(Stream::new(Fd::new(ours.into())));
        let conn = Arc::new(Shared::new(id, peer, service, reactor.handle().clone(), stream));
        conn.lock().become_realtime(&Upgrade::accepted());
        let write = || conn.write(Kind::Binary, Payload::Copied(&[b'x'; MESSAGE]), Writer::Batch);
        while conn.flush() == Flushed::Empty {
            assert_eq!(write(), Written::Queued);
        }
        (0..64).for_each(|_| assert_eq!(write(), Written::Queued));
        let mut buffer = [0; MESSAGE];
        for _ in 0..1000 {
            assert_eq!(write(), Written::Queued);
            theirs.read_exact(&mut buffer).unwrap();
            assert_ne!(conn.flush(), Flushed::Empty);
        }
        let kept = conn.lock().realtime.as_ref().unwrap().ends.len();
        assert!(kept < 200, "{kept} ends of writes are kept");
    }
}
