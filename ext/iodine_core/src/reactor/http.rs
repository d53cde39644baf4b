//! HTTP/1 on a connection: bytes through the decoder, requests into the lane, refusals out.

use super::Reactor;
use super::conn::{Conn, Message, Pause};
use super::files::AtOnce;
use crate::access_log::Answered;
use crate::body::BodySink;
use crate::conn::{Closing, ConnId, Flushed, Io};
use crate::job::{Job, Request as RequestJob};
use crate::log::{self, Level};
use crate::overload::refusal;
use iodine_codec::http::{RequestHead, Version};
use iodine_codec::http1::{BodyLength, Rejection, Request, RequestFacts, Step};
use std::time::Instant;

/// Requests of one connection that may be under way at a time; a client that pipelines more waits.
const PIPELINE: u32 = 32;
/// A paused connection goes on once no more than so many are under way.
const PIPELINE_RESUME: u32 = 8;

/// What decoding a piece of input came to.
pub(super) enum Outcome {
    /// All of it is decoded.
    Done,
    /// The rest has to wait.
    Paused(Pause),
    /// Nothing more is decoded on this connection.
    Finished,
}

impl Reactor {
    /// Decodes `fresh` input, of which nothing is kept but what must wait.
    pub(super) fn decode(&mut self, id: ConnId, fresh: &[u8]) {
        let mut rest = fresh;
        let outcome = loop {
            let Some(conn) = self.conn(id) else { return };
            if conn.finished {
                break Outcome::Finished;
            }
            if conn.realtime.is_some() {
                return self.hear(id, rest);
            }
            if conn.opening.is_some() {
                return self.hear_answer(id, rest);
            }
            if conn.proxy.is_some() {
                match self.take_proxy_header(id, rest) {
                    Some(behind) => rest = behind,
                    None => return,
                }
                continue;
            }
            let limits = conn.shared().service().http.limits;
            let was_idle = conn.decoder.is_idle();
            match conn.decoder.decode(rest, &limits) {
                Ok((used, step)) => {
                    let done = matches!(step, Step::NeedMore);
                    if let Some(outcome) = self.handle_step(id, step, was_idle, rest.len() > used) {
                        rest = rest.get(used..).unwrap_or_default();
                        break outcome;
                    }
                    rest = rest.get(used..).unwrap_or_default();
                    if done {
                        break Outcome::Done;
                    }
                }
                Err(rejection) => break Outcome::Paused(Pause::Reject(rejection)),
            }
        };
        self.conclude(id, outcome, rest);
        self.write_at_once(id);
    }

    /// What becomes of the `rest` of the input.
    pub(super) fn conclude(&mut self, id: ConnId, outcome: Outcome, rest: &[u8]) {
        let Some(conn) = self.conn(id) else { return };
        match outcome {
            Outcome::Done => {}
            // Kept bytes are bounded: by one read, or by what was kept before.
            Outcome::Paused(pause) => {
                conn.backlog = rest.to_vec();
                self.pause(id, pause);
            }
            Outcome::Finished => {
                // What follows a request that closes is not decoded, but it must be read.
                if !rest.is_empty() {
                    let mut io = conn.shared().lock();
                    if !io.is_switching() && (io.closing != Closing::No || io.in_flight > 0) {
                        io.closing = Closing::Linger;
                    }
                }
            }
        }
    }

    /// Takes one step of the decoder. An outcome ends the decoding of this input.
    fn handle_step(&mut self, id: ConnId, step: Step<'_>, was_idle: bool, more: bool) -> Option<Outcome> {
        let now = self.now;
        let conn = self.conn(id)?;
        match step {
            Step::NeedMore => {
                if was_idle && !conn.decoder.is_idle() {
                    conn.began = now;
                }
                None
            }
            Step::Head(request) => self.begin_message(id, request, more),
            Step::Body(piece) => {
                let pushed = conn.message.as_mut().map(|message| message.sink.push(piece));
                match pushed {
                    Some(Err(error)) => self.fail_message(id, &error),
                    _ => None,
                }
            }
            Step::End => self.dispatch(id),
        }
    }

    fn begin_message(&mut self, id: ConnId, request: Request, more: bool) -> Option<Outcome> {
        let now = self.now;
        let conn = self.conn(id)?;
        conn.began = now;
        let expected = match request.framing.body {
            BodyLength::Length(length) => length,
            BodyLength::Empty | BodyLength::Chunked => 0,
        };
        let expects = request.framing.expect_continue && !more;
        let sink = BodySink::new(expected, conn.shared().service().http.body_memory);
        let wants_id = conn.shared().service().http.request_id;
        let Request { head, framing } = request;
        conn.message = Some(Box::new(Message { head, framing, sink, before: 0, started: now }));
        if wants_id {
            self.identify(id);
        }
        // A client that has sent some of the body does not wait for leave (RFC 9110 section 10.1.1).
        expects.then_some(Outcome::Paused(Pause::Continue))
    }

    fn fail_message(&mut self, id: ConnId, error: &std::io::Error) -> Option<Outcome> {
        log::message(Level::Error, &format!("a request body could not be stored: {error}"));
        if let Some(conn) = self.conn(id) {
            conn.message = None;
        }
        self.refuse_request(id, 500, "its body could not be stored");
        Some(Outcome::Finished)
    }

    /// The request is complete: it goes to the application, behind those before it.
    fn dispatch(&mut self, id: ConnId) -> Option<Outcome> {
        match self.answer_at_once(id) {
            AtOnce::Answered(outcome) => return outcome,
            AtOnce::Waits => return Some(Outcome::Paused(Pause::AtOnce)),
            AtOnce::ForApp => {}
        }
        let now = self.now;
        let draining = self.is_draining();
        let full = self.handle.jobs().is_full();
        let crowded = self.is_crowded(id);
        let conn = self.conn(id)?;
        let message = *conn.message.take()?;
        let Message { head, framing, sink, started, .. } = message;
        let body = match sink.finish() {
            Ok(body) => body,
            Err(error) => return self.fail_message(id, &error),
        };
        let keep_alive = framing.keep_alive && !draining;
        let facts = RequestFacts { version: head.version(), keep_alive, head: head.is_head() };
        // Behind a request to upgrade may come what belongs to another protocol.
        let ends = !keep_alive && !framing.upgrade;
        conn.finished = ends;
        let shared = conn.shared().clone();
        let job = RequestJob { conn: shared, head, body, facts, started, arrived: now, crowded };
        let job = Job::Request(Box::new(job));
        let mut io = conn.shared().lock();
        if io.is_switching() {
            return Some(Outcome::Paused(Pause::Upgrade));
        }
        if io.closing != Closing::No {
            // An answer before it has told the client that this one will not be served (RFC 9112 section 9.6).
            io.closing = Closing::Linger;
            drop(io);
            conn.finished = true;
            return Some(Outcome::Finished);
        }
        io.client_ends = ends && !framing.keep_alive;
        let ready = io.dispatch(job);
        let in_flight = io.in_flight;
        // A client that asks without reading must not fill our memory with answers.
        let reads = io.has_room();
        drop(io);
        conn.handed_at = Some(now);
        match ready {
            // Its turn has come already. One that is behind others is refused when they are answered.
            Some(Job::Request(request)) if request.crowded => self.answer_crowded(&request),
            ready => self.jobs.extend(ready),
        }
        match () {
            () if ends => Some(Outcome::Finished),
            () if framing.upgrade => Some(Outcome::Paused(Pause::Upgrade)),
            () if in_flight >= PIPELINE || !reads => Some(Outcome::Paused(Pause::Pipeline)),
            () if full => Some(Outcome::Paused(Pause::Queue)),
            () => None,
        }
    }

    /// Whether more jobs wait than the service of this connection wants to wait.
    fn is_crowded(&mut self, id: ConnId) -> bool {
        let most = self.conn(id).and_then(|conn| conn.shared().service().http.max_queue);
        most.is_some_and(|most| self.handle.jobs().waiting() + self.jobs.len() > most)
    }

    /// Answers a request whose turn it is in place of the application. It is written at the end of the turn, with those
    /// behind it.
    fn answer_crowded(&mut self, request: &RequestJob) {
        let Some(refused) = refusal(request, || self.now) else { return };
        let conn = &request.conn;
        let (status, bytes) = (refused.status, refused.length);
        Answered { conn, head: Some(&request.head), status, bytes, started: request.started, at: self.now }
            .log();
        conn.answer(refused.answer, self.now);
        self.handle.leave_unwritten(conn.clone());
        self.refused = true;
    }

    fn pause(&mut self, id: ConnId, pause: Pause) {
        let Some(conn) = self.conn(id) else { return };
        conn.paused = Some(pause);
        let resume_at = match pause {
            Pause::Queue => return self.starved.push(id),
            Pause::Pipeline => PIPELINE_RESUME,
            Pause::Continue | Pause::Reject(_) | Pause::AtOnce | Pause::Upgrade => 0,
            Pause::Events => u32::MAX,
        };
        let mut io = conn.shared().lock();
        // The command that tells of it ends every pause.
        if io.is_switching() {
            return;
        }
        // Answered in the meantime: nobody would tell us.
        let at_once = io.in_flight <= resume_at && io.has_room() && !io.is_crowded();
        io.resume_at = (!at_once).then_some(resume_at);
        drop(io);
        if at_once {
            self.resume(id);
        }
    }

    /// Ends a pause: does what was waiting, decodes what was kept, and reads on.
    pub(super) fn resume(&mut self, id: ConnId) {
        let now = self.now;
        let switched = self.switch(id);
        let Some(conn) = self.conn(id) else { return };
        match conn.paused.take() {
            // What waited was a matter of HTTP.
            _ if switched => {}
            Some(Pause::Reject(rejection)) => return self.reject(id, rejection),
            // Nobody will read the body: the client need not send it.
            Some(Pause::Continue) if self.is_crowded(id) => {
                let waiting = self.handle.jobs().waiting();
                self.handle.overload().note(now, || format!("{waiting} jobs wait"));
                return self.answer_refused(id, 503);
            }
            Some(Pause::Continue) => {
                let Some(conn) = self.conn(id) else { return };
                conn.began = now;
                let shared = conn.shared().clone();
                let mut io = shared.lock();
                if io.closing != Closing::No {
                    return close_behind(conn, &mut io);
                }
                io.outbox.push(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec());
                drop(io);
                self.go_on_writing(id);
            }
            Some(Pause::AtOnce) => {
                if let Some(outcome) = self.dispatch(id) {
                    let backlog = self.conn(id).map(|conn| std::mem::take(&mut conn.backlog));
                    self.conclude(id, outcome, &backlog.unwrap_or_default());
                }
                self.write_at_once(id);
            }
            Some(Pause::Pipeline | Pause::Queue | Pause::Upgrade | Pause::Events) => {}
            None => return,
        }
        let Some(conn) = self.conn(id) else { return };
        if conn.paused.is_some() {
            return;
        }
        let backlog = std::mem::take(&mut conn.backlog);
        if !backlog.is_empty() {
            self.decode(id, &backlog);
        }
        let Some(conn) = self.conn(id) else { return };
        if conn.paused.is_none() && conn.unread {
            self.handle_readable(id);
        } else {
            self.watch(id);
        }
    }

    pub(super) fn feed_starved(&mut self) {
        for id in std::mem::take(&mut self.starved) {
            self.resume(id);
        }
    }

    fn reject(&mut self, id: ConnId, rejection: Rejection) {
        self.refuse_request(id, rejection.status(), rejection.reason());
    }

    /// Answers a request that the application never sees, and closes.
    pub(super) fn refuse_request(&mut self, id: ConnId, status: u16, reason: &str) {
        let Some(conn) = self.conn(id) else { return };
        let shared = conn.shared().clone();
        log::message(
            Level::Warning,
            &format!("HTTP request from {} refused with {status}: {reason}", shared.peer_text()),
        );
        self.answer_refused(id, status);
    }

    /// The head of the request that is being refused, if there is one, and when it had arrived.
    fn refused_head(&mut self, id: ConnId) -> (Option<Box<RequestHead>>, Instant) {
        let now = self.now;
        let Some(conn) = self.conn(id) else { return (None, now) };
        if let Some(message) = conn.message.take() {
            return (Some(Box::new(message.head)), message.started);
        }
        let Some(mut head) = conn.decoder.take_refused_head() else { return (None, now) };
        if conn.shared().service().http.request_id {
            let trusted = conn.shared().is_trusted();
            self.give_id(&mut head, trusted);
        }
        (Some(head), now)
    }

    /// As [`Reactor::refuse_request`], without a word in the log but the line of the answer.
    fn answer_refused(&mut self, id: ConnId, status: u16) {
        let now = self.now;
        let Some(conn) = self.conn(id) else { return };
        let shared = conn.shared().clone();
        let mut io = shared.lock();
        if io.is_switching() {
            conn.message = None;
            return;
        }
        if io.in_flight > 0 || io.closing != Closing::No {
            // Its turn has not come: what is under way is answered, and then the connection closes. Or it does already, perhaps
            // behind an answer that is not whole: what came next would be taken for its rest.
            return close_behind(conn, &mut io);
        }
        drop(io);
        let (version, is_head) = match &conn.message {
            Some(message) => (message.head.version(), message.head.is_head()),
            None => (Version::Http11, conn.decoder.is_head()),
        };
        let facts = RequestFacts { version, keep_alive: false, head: is_head };
        let http = &shared.service().http;
        let reply = crate::static_files::refusal(http, facts, status, true);
        let (mut answer, bytes) = (reply.head, reply.length);
        let (head, started) = self.refused_head(id);
        if let Some(head) = &head {
            http.announce(&mut answer, head);
        }
        Answered { conn: &shared, head: head.as_deref(), status, bytes, started, at: now }.log();
        let Some(conn) = self.conn(id) else { return };
        conn.finished = true;
        conn.message = None;
        conn.backlog = Vec::new();
        let mut io = shared.lock();
        io.outbox.push(answer);
        io.closing = Closing::Linger;
        drop(io);
        match shared.flush() {
            Flushed::Closed => self.remove(id),
            // Flushing has asked for the rest: a watch on a blocked client, or the linger.
            Flushed::Blocked | Flushed::More | Flushed::Empty => {}
        }
    }
}

/// What the client sent next is not answered: the connection closes behind what is under way.
fn close_behind(conn: &mut Conn, io: &mut Io) {
    io.closing = Closing::Linger;
    conn.finished = true;
    conn.message = None;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HttpConfig, ReactorConfig, Service};
    use crate::conn::Peer;
    use crate::realtime::{Event, Handler, Protocol, Upgrade, Wants};
    use crate::static_files::{StaticConfig, StaticFiles};
    use crate::stream::Stream;
    use crate::sys::Fd;
    use iodine_codec::http1::ResponseEncoder;
    use iodine_codec::websocket::Role;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::time::Duration;

    /// A reactor with a connection whose client has sent a request, and this behind it.
    fn asked(service: &Arc<Service>, behind: &str) -> (Reactor, ConnId, UnixStream, Box<RequestJob>) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let (stream, peer) = (Stream::new(Fd::new(ours.into())), Peer::Unix(Arc::from("")));
        let mut reactor = Reactor::new(ReactorConfig::default()).unwrap();
        let id = reactor.insert(stream, peer, service.clone(), None).unwrap();
        theirs.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        theirs.write_all(behind.as_bytes()).unwrap();
        reactor.handle_readable(id);
        let Some(Job::Request(request)) = reactor.jobs.pop() else { panic!("no request") };
        (reactor, id, theirs, request)
    }

    /// The application upgrades a request without an `Upgrade` header, behind which its client has sent more. The reactor
    /// comes to that before the command that tells of the switch.
    #[test]
    fn what_comes_before_the_switch_is_known_is_no_request() {
        const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
        log::set_verbosity(0);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "content").unwrap();
        let config =
            StaticConfig { folder: folder.path().into(), hidden: false, links_out: false, rules: Vec::new() };
        let files = Some(Arc::new(StaticFiles::new(config)));
        let http = HttpConfig { files, ..HttpConfig::default() };
        let service = Arc::new(Service::http(0, http, None));
        for behind in [
            "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /file HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
            "no request\r\n\r\n",
        ] {
            let (mut reactor, id, mut theirs, request) = asked(&service, "");
            let conn = request.conn.clone();
            let upgrade = Upgrade {
                protocol: Protocol::Raw,
                role: Role::Server,
                handler: Handler::Object(7),
                wants: Wants { messages: true, drained: false, timeouts: false },
                timeout: Duration::ZERO,
                deflate: None,
            };
            assert!(conn.upgrade(conn.begin().unwrap(), HEAD.to_vec(), upgrade));
            drop(conn.take_events());
            assert!(!conn.finish_events(Instant::now()));
            theirs.write_all(behind.as_bytes()).unwrap();
            reactor.handle_readable(id);
            assert!(reactor.jobs.is_empty(), "a job for {behind:?}");
            // Its time may be over just now, too.
            reactor.refuse_request(id, 408, "the test says so");
            reactor.handle_commands();
            theirs.write_all(b"message").unwrap();
            reactor.handle_readable(id);
            let heard: Vec<u8> = conn
                .take_events()
                .into_iter()
                .flat_map(|event| match event {
                    Event::Message { data, .. } => data,
                    other => panic!("{other:?} behind {behind:?}"),
                })
                .collect();
            assert!(heard.ends_with(b"message"), "{} behind {behind:?}", heard.escape_ascii());
            conn.flush();
            let mut received = [0; 1024];
            let count = theirs.read(&mut received).unwrap();
            assert_eq!(received[..count].escape_ascii().to_string(), HEAD.escape_ascii().to_string());
        }
    }

    /// Bytes of ours behind it would be taken for its rest.
    #[test]
    fn nothing_is_said_behind_an_answer_that_broke_off() {
        const SENT: usize = 300_000;
        log::set_verbosity(0);
        let service = Arc::new(Service::http(0, HttpConfig::default(), None));
        for behind in [
            "no request\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
        ] {
            let (mut reactor, _, mut theirs, request) = asked(&service, behind);
            let conn = request.conn.clone();
            let mut text = Vec::new();
            let mut encoder = ResponseEncoder::new(&mut text, request.facts, 200);
            encoder.header(b"content-length", (SENT + 100).to_string().as_bytes()).unwrap();
            let head = encoder.suspend();
            let producer = conn.produce(conn.begin().unwrap(), text, head);
            producer.push(&vec![b'x'; SENT]);
            producer.begin();
            // A part stays here, and is little enough for the connection to be read on.
            assert_eq!(conn.flush(), Flushed::Blocked);
            assert!(conn.lock().has_room());
            producer.abort();
            (0..3).for_each(|_| reactor.handle_commands());
            let mut received = Vec::new();
            while conn.flush() == Flushed::Blocked {
                let _ = theirs.read_to_end(&mut received);
            }
            let _ = theirs.read_to_end(&mut received);
            assert!(received.ends_with(b"xxx"), "{} behind {behind:?}", received[SENT..].escape_ascii());
        }
    }
}
