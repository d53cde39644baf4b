//! Requests that are answered without the application because too much waits for it: a 503 (RFC 9110 section 15.6.4) at
//! once is worth more than an answer that nobody waits for any more. Off unless `max_queue` or `queue_timeout` is set.
//!
//! A refused request keeps its place among those of its connection, and the connection stays open: all of the request has
//! been read, and a client that had to connect again would only add to the load.

use crate::conn::Answer;
use crate::episode::Episode;
use crate::job::Request;
use crate::log::{self, Level};
use crate::static_files::Reply;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// When a client that was refused with a 503 may come again, in seconds.
pub(crate) const RETRY_AFTER: (&str, &str) = ("retry-after", "1");

/// What a process remembers of refusing requests: whether it was logged. Threads share it.
#[derive(Debug, Default)]
pub struct Overload {
    episode: Mutex<Episode>,
}

impl Overload {
    /// Logs that requests are refused, once per episode.
    pub(crate) fn note(&self, now: Instant, why: impl FnOnce() -> String) {
        let begins = self.episode.lock().unwrap_or_else(PoisonError::into_inner).begins(now);
        if begins {
            log::message(Level::Warning, &format!("HTTP server overloaded: {}, answering 503.", why()));
        }
    }
}

/// A request answered in place of the application.
#[derive(Debug)]
pub struct Refusal {
    /// The answer, for [`crate::conn::Shared::answer`].
    pub answer: Answer,
    /// Its status.
    pub status: u16,
    /// Bytes of its body.
    pub length: u64,
}

/// The answer to `request`, which an app thread or the reactor is about to run, if it came when too many jobs waited or
/// has waited for too long itself. `None` if the application is to answer.
pub fn refusal(request: &Request, now: impl FnOnce() -> Instant) -> Option<Refusal> {
    let limit = request.conn.service().http.queue_timeout;
    if !request.crowded && limit.is_none() {
        return None;
    }
    let now = now();
    let waited = now.saturating_duration_since(request.arrived);
    if !request.crowded && limit.is_none_or(|limit| waited <= limit) {
        return None;
    }
    request.conn.handle().overload().note(now, || match request.crowded {
        true => format!("{} jobs wait", request.conn.handle().jobs().waiting()),
        false => format!("a request has waited for {:.1} s", waited.as_secs_f64()),
    });
    let http = &request.conn.service().http;
    let reply = crate::static_files::refusal(http, request.facts, 503, request.conn.is_ending());
    let Reply { status, mut head, length, close, .. } = reply;
    http.announce(&mut head, &request.head);
    let answer = Answer { head, body: None, close };
    Some(Refusal { answer, status, length })
}
