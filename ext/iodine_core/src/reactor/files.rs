//! Requests that need no application: for files, and for what is not there where there is nothing but files.

use super::Reactor;
use super::conn::Pause;
use super::http::Outcome;
use crate::access_log::Answered;
use crate::conn::{Closing, ConnId, Flushed};
use crate::static_files::{Asking, Found, refusal};
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
        let Some(conn) = self.conn(id) else { return AtOnce::ForApp };
        let http = &conn.shared().service().http;
        if http.files.is_none() && !http.files_only {
            return AtOnce::ForApp;
        }
        let shared = conn.shared().clone();
        let http = &shared.service().http;
        let Some(message) = &conn.message else { return AtOnce::ForApp };
        let request = FileRequest::new(&message.head);
        let found = http.files.as_ref().map_or(Found::Nothing, |files| files.find(&request, now));
        if matches!(found, Found::Nothing) && !http.files_only {
            return AtOnce::ForApp;
        }
        let mut io = shared.lock();
        let client_ends = !message.framing.keep_alive;
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
