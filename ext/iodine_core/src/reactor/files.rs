//! Requests that need no application: for files, and for what is not there where there is nothing but files.

use super::Reactor;
use super::accept::Door;
use super::conn::Pause;
use super::deadlines::Due;
use super::http::Outcome;
use crate::access_log::Answered;
use crate::conn::{Closing, ConnId, Flushed};
use crate::static_files::{Asking, Found, KEPT_OPEN, refusal};
use iodine_codec::http::FileRequest;
use iodine_codec::http1::RequestFacts;

/// What became of a request before it was a job.
pub(super) enum AtOnce {
    /// It is the application's.
    ForApp,
    /// Answers before it are still under way.
    Waits,
    /// It is answered, and decoding goes on or not.
    Answered(Option<Outcome>),
}

impl Reactor {
    /// Answers the request that is complete on this connection, if it needs no application.
    pub(super) fn answer_at_once(&mut self, id: ConnId) -> AtOnce {
        let (now, draining) = (self.now, self.is_draining());
        // Not all of the reactor is borrowed.
        let Some(conn) = self.conns.get_mut(id.slot as usize).filter(|conn| conn.id() == id) else {
            return AtOnce::ForApp;
        };
        let http = &conn.shared().service().http;
        if http.files.is_none() && !http.files_only {
            return AtOnce::ForApp;
        }
        let shared = conn.shared().clone();
        let http = &shared.service().http;
        let Some(message) = &conn.message else { return AtOnce::ForApp };
        let request = FileRequest::new(&message.head);
        let found = http.files.as_ref().map_or(Found::Nothing, |files| files.find(&request, now));
        if !self.closing_files && found.keeps_open() {
            self.closing_files = true;
            self.deadlines.add(now + KEPT_OPEN, Due::CloseFiles);
        }
        if matches!(found, Found::Nothing) && !http.files_only {
            return AtOnce::ForApp;
        }
        let mut io = shared.lock();
        let client_ends = !message.framing.keep_alive;
        if io.is_switching() {
            conn.message = None;
            return AtOnce::Answered(Some(Outcome::Paused(Pause::Upgrade)));
        }
        if io.closing != Closing::No {
            // An answer before it has told the client that this one will not be served (RFC 9112 section 9.6).
            io.closing = Closing::Linger;
            conn.finished = true;
            conn.message = None;
            return AtOnce::Answered(Some(Outcome::Finished));
        }
        if io.in_flight > 0 {
            return AtOnce::Waits;
        }
        drop(io);
        let facts = RequestFacts {
            version: message.head.version(),
            keep_alive: !client_ends && !draining,
            head: message.head.is_head(),
        };
        let asking = Asking { request, facts, closing: draining, date: None, files: http.files.as_deref() };
        let reply = match found {
            Found::Resource(resource) => resource.reply(&asking),
            Found::Failed(status) => Some(refusal(http, facts, status, draining)),
            Found::Nothing => None,
        };
        let mut reply = match reply {
            Some(reply) => reply,
            None if http.files_only => refusal(http, facts, 404, draining),
            None => return AtOnce::ForApp,
        };
        http.announce(&mut reply.head, &message.head);
        let (head, status, bytes) = (Some(&message.head), reply.status, reply.length);
        Answered { conn: &shared, head, status, bytes, started: message.started, at: now }.log();
        conn.message = None;
        conn.unwritten = true;
        conn.finished = reply.close;
        let finished = reply.close;
        let mut io = shared.lock();
        io.answer_at_once(reply.into(), client_ends, now);
        let has_room = io.has_room();
        AtOnce::Answered(match () {
            () if finished => Some(Outcome::Finished),
            () if !has_room => Some(Outcome::Paused(Pause::Pipeline)),
            () => None,
        })
    }

    /// Closes files that nobody asks for any more, and looks again as long as there are others.
    pub(super) fn close_files(&mut self) {
        let now = self.now;
        let mut kept = false;
        for files in self.doors.iter().filter_map(Door::files) {
            kept |= files.close_unused(now);
        }
        self.closing_files = kept;
        if kept {
            self.deadlines.add(now + KEPT_OPEN, Due::CloseFiles);
        }
    }

    /// Writes what [`Reactor::answer_at_once`] has left: once for all that a client asked for in one go.
    pub(super) fn write_at_once(&mut self, id: ConnId) {
        let Some(conn) = self.conn(id) else { return };
        if !std::mem::take(&mut conn.unwritten) {
            return;
        }
        match conn.shared().clone().flush() {
            Flushed::Closed => self.remove(id),
            // Flushing has asked for the rest.
            Flushed::Blocked | Flushed::More | Flushed::Empty => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HttpConfig, ReactorConfig, Service};
    use crate::listener::{Address, BindSpec, Listener};
    use crate::reactor::conn::Conn;
    use crate::static_files::{StaticConfig, StaticFiles};
    use std::io::Write;
    use std::net::{SocketAddr, TcpStream};
    use std::sync::Arc;
    use std::time::{Duration, Instant, SystemTime};

    /// A folder with a file that is too large for the memory.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        std::fs::write(&path, [0; 40_000]).unwrap();
        let then = SystemTime::now() - Duration::from_secs(10);
        std::fs::File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
        folder
    }

    fn fetch(reactor: &mut Reactor, address: SocketAddr) {
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"GET /large HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
        client.set_nonblocking(true).unwrap();
        let mut status = [0; 12];
        let patience = Instant::now() + Duration::from_secs(30);
        // A busy machine may take a moment to show the connection, or its request.
        while client.peek(&mut status).ok() != Some(12) {
            assert!(Instant::now() < patience, "no answer");
            reactor.accept(0);
            let unread = |(_, conn): (usize, &Conn)| (!conn.finished).then(|| conn.id());
            let ids: Vec<ConnId> = reactor.conns.iter().filter_map(unread).collect();
            ids.into_iter().for_each(|id| reactor.handle_readable(id));
        }
        assert_eq!(&status, b"HTTP/1.1 200");
    }

    #[test]
    fn files_of_which_nobody_asks_are_closed_and_then_nothing_is_due() {
        let folder = folder();
        let config =
            StaticConfig { folder: folder.path().into(), hidden: false, links_out: false, rules: Vec::new() };
        let files = Arc::new(StaticFiles::new(config));
        let http = HttpConfig { files: Some(files.clone()), ..HttpConfig::default() };
        let spec = BindSpec::Tcp { host: Some("127.0.0.1".into()), port: 0 };
        let listener = Listener::bind(&spec, |port| Service::http(0, http, port)).unwrap().remove(0);
        let Address::Tcp(address) = *listener.address() else { panic!("not TCP") };
        let mut reactor = Reactor::new(ReactorConfig::default()).unwrap();
        reactor.listen(Arc::new(listener)).unwrap();
        assert_eq!(files.kept_open(), 0);

        fetch(&mut reactor, address);
        reactor.now += KEPT_OPEN / 2;
        fetch(&mut reactor, address);
        std::fs::remove_file(folder.path().join("large")).unwrap();
        for (kept, closing) in [(1, true), (0, false), (0, false)] {
            // The first time comes a minute after the first request.
            reactor.now += if kept == 1 { KEPT_OPEN / 2 } else { KEPT_OPEN };
            reactor.handle_deadlines();
            assert_eq!((files.kept_open(), reactor.closing_files), (kept, closing));
        }
        assert_eq!(reactor.deadlines.next(), None);
    }
}
