//! Answers whose bodies are produced piece by piece, on any thread and for as long as it takes.
//!
//! The head of such an answer is *held* for a moment with what was produced first: a body that ends within that time goes
//! out with its length, in one write, as if it had been known all along. The reactor lets go of what was held for
//! [`HOLD`]; from then on each piece is written as it comes. A producer that is faster than its client waits, without
//! holding anybody up.

use crate::clock::http_date;
use crate::command::Command;
use crate::conn::{ConnHandle, Io, Shared};
use crate::job::Job;
use crate::outbox::Borrowed;
pub use crossbeam_utils::sync::Parker;
use crossbeam_utils::sync::Unparker;
use iodine_codec::http1::{BodySize, OpenHead, chunk};
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long the beginning of a body may be held back.
pub const HOLD: Duration = Duration::from_millis(1);
/// Bytes that are held back at most.
const HELD: usize = 16 * 1024;
/// A producer waits once so many bytes wait to be written,
const HIGH: u64 = 256 * 1024;
/// and goes on when no more than so many do.
const LOW: u64 = 64 * 1024;

/// The body of one answer on its way out. What is dropped before [`Producer::finish`] breaks the connection off: a body
/// that is not whole must not look as if it were.
#[derive(Debug)]
pub struct Producer {
    conn: ConnHandle,
    number: u64,
    ended: AtomicBool,
}

/// How a producer stands with its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// More is welcome.
    Enough,
    /// The client has to read first: [`Producer::wait`] before producing more.
    Full,
    /// There is no client any more.
    Gone,
}

/// What [`Producer::finish`] came to.
#[derive(Debug)]
pub struct Produced {
    /// Bytes of the body.
    pub length: u64,
    /// Those of them that were sent.
    pub sent: u64,
    /// The next job of the connection's lane, now the caller's to run.
    pub next: Option<Job>,
    /// What was odd about it, for the log.
    pub complaint: Option<Complaint>,
}

/// How a body did not fit the length that the application had declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// The declared length was replaced in time.
    Corrected,
    /// What was more than declared was not sent.
    TooLong,
    /// Bytes are missing: the connection was broken off.
    TooShort,
}

/// The part of a connection's shared state that is about such an answer.
#[derive(Debug)]
pub(crate) struct Producing {
    number: u64,
    wire: Wire,
    length: u64,
    /// Whether the connection closes behind it.
    close: bool,
    /// Bytes beyond the declared length, which are not sent.
    cut: u64,
}

#[derive(Debug)]
enum Wire {
    /// Nothing was sent yet. `text` is the head so far.
    Held { text: Vec<u8>, head: OpenHead, body: Vec<u8>, listed: bool },
    /// Each piece is a chunk.
    Chunked,
    /// As long as the application has declared.
    Exact { left: u64 },
    /// To the end of the connection.
    UntilClose,
}

impl Shared {
    /// Begins to produce the body of the request `number`, which is at work. `text` is its head as far as it is written.
    pub fn produce(self: &ConnHandle, number: u64, text: Vec<u8>, head: OpenHead) -> Producer {
        let mut io = self.lock();
        let ours = io.stream.is_some() && io.end_work(number);
        if ours {
            let wire = Wire::Held { text, head, body: Vec::new(), listed: false };
            io.producing = Some(Producing { number, wire, length: 0, close: false, cut: 0 });
        }
        drop(io);
        Producer { conn: self.clone(), number, ended: AtomicBool::new(!ours) }
    }

    /// Lets go of what a producer has held back for long enough.
    pub(crate) fn release_held(self: &ConnHandle, number: u64) {
        let mut io = self.lock();
        let held = io.producing.as_ref().is_some_and(|it| it.number == number && it.is_held());
        if held {
            self.begin_body(&mut io);
            drop(io);
            self.flush();
        }
    }

    /// Finishes the head of a held answer: its length is not going to be known.
    fn begin_body(&self, io: &mut Io) {
        let closing = self.handle().is_draining() && io.is_last();
        let Some(producing) = &mut io.producing else { return };
        let Wire::Held { text, head, body, .. } = &mut producing.wire else { return };
        let (mut text, body, head) = (std::mem::take(text), std::mem::take(body), *head);
        let declared = head.declared_length();
        let size = declared.map_or(BodySize::ChunkedByUs, BodySize::Known);
        let finished = head.resume(&mut text).finish(size, &http_date(), closing);
        producing.close = !finished.keep_alive;
        producing.wire = match declared {
            Some(left) => Wire::Exact { left },
            None if finished.chunked => Wire::Chunked,
            None => Wire::UntilClose,
        };
        io.outbox.push(text);
        io.produce(&body);
    }
}

impl Producing {
    fn is_held(&self) -> bool {
        matches!(self.wire, Wire::Held { .. })
    }
}

impl Io {
    /// Frames `bytes`, which are behind the head, and leaves them to be written.
    fn produce(&mut self, bytes: &[u8]) {
        let Some(producing) = &mut self.producing else { return };
        match &mut producing.wire {
            _ if bytes.is_empty() => {}
            Wire::Held { .. } => debug_assert!(false, "the head comes first"),
            Wire::Chunked => {
                self.outbox
                    .extend(bytes.len().saturating_add(chunk::MAX_FRAME), |out| chunk::encode(out, bytes));
            }
            Wire::Exact { left } => {
                let fitting = usize::try_from(*left).map_or(bytes, |left| bytes.get(..left).unwrap_or(bytes));
                producing.cut += (bytes.len() - fitting.len()) as u64;
                *left -= fitting.len() as u64;
                self.outbox.extend(fitting.len(), |out| out.extend_from_slice(fitting));
            }
            Wire::UntilClose => self.outbox.extend(bytes.len(), |out| out.extend_from_slice(bytes)),
        }
    }

    /// As [`Io::produce`], without a copy where the framing allows it.
    fn produce_borrowed(&mut self, bytes: Borrowed) {
        let Some(producing) = &mut self.producing else { return };
        let length = (*bytes).as_ref().len();
        match &mut producing.wire {
            Wire::Chunked => {
                self.outbox.extend(chunk::MAX_FRAME, |out| chunk::begin(out, length));
                self.outbox.push(bytes);
                self.outbox.extend(2, |out| out.extend_from_slice(b"\r\n"));
            }
            Wire::Exact { left } if length as u64 <= *left => {
                *left -= length as u64;
                self.outbox.push(bytes);
            }
            Wire::UntilClose => self.outbox.push(bytes),
            Wire::Exact { .. } | Wire::Held { .. } => self.produce((*bytes).as_ref()),
        }
    }

    /// Wakes the producers that wait for room, if there is room or nothing to wait for any more.
    pub(crate) fn wake_producers(&mut self) {
        if !self.waiting.is_empty() && (self.stream.is_none() || self.outbox.pending() <= LOW) {
            self.waiting.drain(..).for_each(|waiter| waiter.unpark());
        }
    }
}

impl Producer {
    /// The connection.
    pub fn conn(&self) -> &ConnHandle {
        &self.conn
    }

    /// Adds a copy of `bytes`.
    pub fn push(&self, bytes: &[u8]) -> Room {
        self.add(bytes.len(), |io| match io.producing.as_mut().map(|it| &mut it.wire) {
            Some(Wire::Held { body, .. }) => body.extend_from_slice(bytes),
            _ => io.produce(bytes),
        })
    }

    /// Adds many bytes that stay where they are until they are written.
    pub fn push_borrowed(&self, bytes: Borrowed) -> Room {
        let length = (*bytes).as_ref().len();
        self.add(length, |io| {
            self.conn.begin_body(io);
            io.produce_borrowed(bytes);
        })
    }

    /// Sends what is held back, and be it the head alone.
    pub fn begin(&self) -> Room {
        self.add(0, |io| self.conn.begin_body(io))
    }

    /// Sees to it that the head leaves before long, even if nothing is produced.
    pub fn announce(&self) -> Room {
        self.add(0, |_| {})
    }

    fn add(&self, length: usize, act: impl FnOnce(&mut Io)) -> Room {
        let mut io = self.conn.lock();
        if !io.is_producing(self.number) {
            return Room::Gone;
        }
        act(&mut io);
        let mut list = false;
        if let Some(producing) = &mut io.producing {
            producing.length += length as u64;
            if let Wire::Held { body, listed, .. } = &mut producing.wire {
                if body.len() <= HELD {
                    list = !std::mem::replace(listed, true);
                } else {
                    self.conn.begin_body(&mut io);
                }
            }
        }
        let held = io.producing.as_ref().is_some_and(Producing::is_held);
        // The reactor writes: it may be at it on another core while more is produced.
        let ask = !held && !std::mem::replace(&mut io.write_asked, true);
        let room = if io.outbox.pending() < HIGH { Room::Enough } else { Room::Full };
        drop(io);
        if list {
            self.conn.handle().hold(&self.conn, self.number);
        }
        if ask {
            self.conn.handle().send(Command::Write(self.conn.clone()));
        }
        room
    }

    /// Waits until the client has read, or is gone; `parker` ends the wait early. Without the GVL.
    pub fn wait(&self, parker: &Parker) -> Room {
        let look = |waiter: Option<&Unparker>| {
            let mut io = self.conn.lock();
            match () {
                () if !io.is_producing(self.number) => Room::Gone,
                () if io.outbox.pending() <= LOW => Room::Enough,
                () => {
                    io.waiting.extend(waiter.cloned());
                    Room::Full
                }
            }
        };
        match look(Some(parker.unparker())) {
            Room::Full => {
                parker.park();
                look(None)
            }
            room => room,
        }
    }

    /// Whether there is still a client, and the body is not finished.
    pub fn is_open(&self) -> bool {
        !self.ended.load(Relaxed) && self.conn.lock().is_producing(self.number)
    }

    /// The body is complete. `None` when it had an end before. The caller sees to it that the rest is written.
    pub fn finish(&self, now: Instant) -> Option<Produced> {
        if self.ended.swap(true, Relaxed) {
            return None;
        }
        let mut io = self.conn.lock();
        if !io.is_producing(self.number) {
            return None;
        }
        let closing = self.conn.handle().is_draining() && io.is_last();
        let mut producing = io.producing.take()?;
        // Another thread may wait to say more.
        io.waiting.drain(..).for_each(|waiter| waiter.unpark());
        let (length, sent) = (producing.length, producing.length.saturating_sub(producing.cut));
        let mut complaint = (producing.cut > 0).then_some(Complaint::TooLong);
        match producing.wire {
            Wire::Held { mut text, head, body, .. } => {
                let size = BodySize::Known(body.len() as u64);
                let finished = head.resume(&mut text).finish(size, &http_date(), closing);
                producing.close = !finished.keep_alive;
                // Beside chunks the declared length never counted.
                let corrected = finished.length_corrected && !head.is_chunked();
                complaint = corrected.then_some(Complaint::Corrected);
                text.extend_from_slice(&body);
                io.outbox.push(text);
            }
            Wire::Chunked => io.outbox.extend(chunk::MAX_FRAME, chunk::end),
            Wire::Exact { left: 0 } | Wire::UntilClose => {}
            Wire::Exact { .. } => {
                self.break_off(io, false);
                let complaint = Some(Complaint::TooShort);
                return Some(Produced { length, sent, next: None, complaint });
            }
        }
        let next = io.conclude(producing.close, now);
        Some(Produced { length, sent, next, complaint })
    }

    /// Takes the answer back, if nothing of it was sent: the request is at work again, for another answer.
    pub fn take_back(&self) -> bool {
        let mut io = self.conn.lock();
        let held = io.is_producing(self.number) && io.producing.as_ref().is_some_and(Producing::is_held);
        if held {
            self.ended.store(true, Relaxed);
            io.producing = None;
            io.resume_work(self.number);
        }
        held
    }

    /// The body can not be completed: breaks the connection off, behind the answers before it.
    pub fn abort(&self) {
        if self.ended.swap(true, Relaxed) {
            return;
        }
        let mut io = self.conn.lock();
        if io.is_producing(self.number) {
            let whole = io.producing.take().is_some_and(|it| matches!(it.wire, Wire::UntilClose));
            self.break_off(io, whole);
        }
    }

    /// Ends the connection behind what there is of the answer. `looks_whole` says that nothing but the end of the connection
    /// would be the end of the body.
    fn break_off(&self, mut io: MutexGuard<'_, Io>, looks_whole: bool) {
        if looks_whole {
            // A reset is no end, and is all that a client would not take for it.
            if let Some(stream) = &io.stream {
                stream.reset_on_close();
            }
            drop(io);
            return self.conn.abort();
        }
        // Chunks and lengths tell that there should be more. So nothing of the answers before it has to be lost.
        io.conclude(true, Instant::now());
        io.waiting.drain(..).for_each(|waiter| waiter.unpark());
        drop(io);
        self.conn.handle().send(Command::Write(self.conn.clone()));
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        if !*self.ended.get_mut() {
            // Dropped by the collector, perhaps: no lock is taken here.
            self.conn.handle().send(Command::Abandon(self.conn.clone(), self.number));
        }
    }
}

impl Io {
    fn is_producing(&self, number: u64) -> bool {
        self.stream.is_some() && self.producing.as_ref().is_some_and(|producing| producing.number == number)
    }
}

impl Shared {
    /// Somebody has lost the producer of this answer.
    pub(crate) fn abandon(self: &ConnHandle, number: u64) {
        let lost = Producer { conn: self.clone(), number, ended: AtomicBool::new(false) };
        lost.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HttpConfig, ReactorConfig, Service};
    use crate::conn::{ConnId, Peer};
    use crate::reactor::Reactor;
    use crate::stream::Stream;
    use crate::sys::Fd;
    use iodine_codec::http::Version;
    use iodine_codec::http1::{RequestFacts, ResponseEncoder};
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;

    /// Nobody writes here, so it waits for certain.
    #[test]
    fn a_producer_that_waits_hears_that_the_answer_was_given_up() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let reactor = Reactor::new(ReactorConfig::default()).unwrap();
        let service = Arc::new(Service::http(0, HttpConfig::default(), None));
        let (id, peer) = (ConnId { slot: 0, generation: 1 }, Peer::Unix(Arc::from("")));
        let stream = Some(Stream::new(Fd::new(ours.into())));
        let conn = Arc::new(Shared::new(id, peer, service, reactor.handle().clone(), stream));
        let facts = RequestFacts { version: Version::Http11, keep_alive: true, head: false };
        let mut text = Vec::new();
        let head = ResponseEncoder::new(&mut text, facts, 200).suspend();
        let producer = conn.produce(conn.begin().unwrap(), text, head);
        assert_eq!(producer.push(&vec![b'x'; HIGH as usize]), Room::Full);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| producer.wait(&Parker::new()));
            while conn.lock().waiting.is_empty() {
                std::thread::yield_now();
            }
            producer.abort();
            assert_eq!(waiting.join().unwrap(), Room::Gone);
        });
    }
}
