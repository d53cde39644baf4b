//! The request log: who was answered what. Which format it has, where it goes, and what a line is made of.

use crate::conn::Shared;
use crate::log::Destination;
use iodine_codec::access_log::{Dates, Entry, Format};
use iodine_codec::http::{RequestHead, Scheme, request_id};
use std::borrow::Cow;
use std::cell::RefCell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Bytes of lines that are handed over before there are more of them, and the memory that stays.
const LARGE: usize = 64 * 1024;

/// The request log of a listener.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// How lines are written.
    pub format: Format,
    /// Where to.
    pub destination: Destination,
}

/// An answer, as the log wants to know it.
#[derive(Debug)]
pub struct Answered<'a> {
    /// Its connection.
    pub conn: &'a Shared,
    /// The head of its request; `None` when that could not be understood.
    pub head: Option<&'a RequestHead>,
    /// Its status.
    pub status: u16,
    /// Bytes of its body.
    pub bytes: u64,
    /// When the head had arrived.
    pub started: Instant,
    /// When it was ready.
    pub at: Instant,
}

impl Answered<'_> {
    /// Writes its line, if its listener has a log.
    pub fn log(&self) {
        if self.conn.service().http.log.is_some() {
            with_lines(|lines| lines.add(self));
        }
    }
}

/// An answer to a client whose connection was not taken in, so that there is no request.
#[derive(Debug)]
pub(crate) struct Refused<'a> {
    /// The log of the listener that it came to.
    pub log: &'a AccessLog,
    /// Its address.
    pub client: &'a str,
    /// The status.
    pub status: u16,
    /// Bytes of the body.
    pub bytes: u64,
    /// When it was refused.
    pub at: Instant,
}

impl Refused<'_> {
    /// Writes its line.
    pub fn log(&self) {
        with_lines(|lines| lines.add_refused(self));
    }
}

fn with_lines(add: impl FnOnce(&mut Lines)) {
    thread_local! {
        static LINES: RefCell<Lines> = RefCell::default();
    }
    LINES.with_borrow_mut(|lines| {
        lines.begin();
        add(lines);
        lines.end();
    });
}

/// Lines that are written in one go. Their memory stays for the next ones, and so do the texts of the last second.
#[derive(Debug)]
pub struct Lines {
    text: Vec<u8>,
    /// Where they go.
    destination: Destination,
    /// What the clock of the day says at an instant.
    now: (Duration, Instant),
    dates: Dates,
}

impl Default for Lines {
    fn default() -> Lines {
        let now = (Duration::ZERO, Instant::now());
        Lines { text: Vec::new(), destination: Destination::Stderr, now, dates: Dates::new(0) }
    }
}

impl Lines {
    /// Looks at the clocks: once for all lines.
    pub fn begin(&mut self) {
        let day = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.now = (day, Instant::now());
    }

    /// Adds the line of an answer, if its listener has a log.
    pub fn add(&mut self, answered: &Answered<'_>) {
        let http = &answered.conn.service().http;
        let Some(AccessLog { format, destination }) = &http.log else { return };
        let micros_of_second = self.prepare(destination, answered.at);
        let (client, scheme) = asked_by(answered);
        let entry = Entry {
            client: &client,
            head: answered.head,
            scheme,
            request_id: answered.head.filter(|_| http.request_id).and_then(request_id::of),
            dates: &self.dates,
            micros_of_second,
            status: answered.status,
            bytes: answered.bytes,
            duration: answered.at.saturating_duration_since(answered.started),
        };
        format.write(&mut self.text, &entry);
    }

    fn add_refused(&mut self, refused: &Refused<'_>) {
        let AccessLog { format, destination } = refused.log;
        let micros_of_second = self.prepare(destination, refused.at);
        let entry = Entry {
            client: refused.client,
            head: None,
            scheme: Scheme::Http,
            request_id: None,
            dates: &self.dates,
            micros_of_second,
            status: refused.status,
            bytes: refused.bytes,
            duration: Duration::ZERO,
        };
        format.write(&mut self.text, &entry);
    }

    /// Makes ready for a line to `destination` and of this instant. Returns its microseconds behind the second of `dates`.
    fn prepare(&mut self, destination: &Destination, at: Instant) -> u32 {
        if !self.destination.is(destination) || self.text.len() > LARGE {
            self.end();
            self.destination = destination.clone();
        }
        let (day, instant) = self.now;
        let time = day.saturating_sub(instant.saturating_duration_since(at));
        let second = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        if self.dates.second != second {
            self.dates = Dates::new(second);
        }
        time.subsec_micros()
    }

    /// Hands over what was added, and keeps no file open beyond that.
    pub fn end(&mut self) {
        std::mem::replace(&mut self.destination, Destination::Stderr).write(&self.text);
        self.text.clear();
        self.text.shrink_to(LARGE);
    }
}

/// Who asked, and how, by the word of trusted proxies.
fn asked_by<'a>(answered: &'a Answered<'_>) -> (Cow<'a, str>, Scheme) {
    let conn = answered.conn;
    match answered.head.filter(|_| conn.is_trusted()).and_then(|head| conn.forwarded(head)) {
        None => (Cow::Borrowed(conn.peer_text()), Scheme::Http),
        Some(told) => {
            let client =
                told.client.map_or(Cow::Borrowed(conn.peer_text()), |client| client.to_string().into());
            (client, told.scheme.unwrap_or(Scheme::Http))
        }
    }
}
