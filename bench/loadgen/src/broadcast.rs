//! `broadcast`: one publisher and many subscribers over WebSockets.
//!
//! Closed loop (`--window N`): at most N messages are under way that not every subscriber has. Open loop
//! (`--rate R`): R messages a second. A payload starts with 16 hex digits of the message's number and 16 of the
//! time it was sent, in nanoseconds since the start. Before the measuring begins, one probe a second is sent until
//! one has reached every subscriber: then every subscription is in place.

use crate::args::{fail, Args};
use crate::connection::Connection;
use crate::fleet::{each_message, Fleet};
use crate::frame::{self, TEXT};
use crate::histogram::Histogram;
use mio::Events;
use std::time::{Duration, Instant};

const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBE_PATIENCE: Duration = Duration::from_secs(15);
/// How long the last deliveries may take after the measured time; they count, but not for the rate.
const TAIL: Duration = Duration::from_secs(2);

pub fn run(args: &Args) {
    let mut cast = Broadcast::new(args);
    let mut events = Events::with_capacity(1024);
    cast.probe(&mut events);
    cast.begin();
    let (start, stop_at) = (Instant::now(), Instant::now() + args.duration());
    let rate: f64 = args.number("rate", 0.0);
    if rate > 0.0 {
        cast.drive_open(&mut events, stop_at, Duration::from_secs_f64(1.0 / rate));
    } else {
        cast.drive_closed(&mut events, stop_at, args.number("window", 4));
    }
    let (seconds, in_time) = (start.elapsed().as_secs_f64(), cast.delivered);
    cast.drain(&mut events, Instant::now() + TAIL);
    cast.report(seconds, in_time);
}

struct Broadcast {
    fleet: Fleet,
    publisher: Connection,
    size: usize,
    epoch: Instant,
    seen: Seen,
    delivered: u64,
    out_of_order: u64,
    latencies: Histogram,
}

/// Who has seen what. Messages before `first` were probes.
struct Seen {
    subscribers: usize,
    first: usize,
    deliveries: Vec<usize>,
    newest: Vec<Option<usize>>,
    complete: usize,
}

impl Broadcast {
    fn new(args: &Args) -> Broadcast {
        let subscribers: usize = args.number("conns", 1000);
        let mut fleet = Fleet::new(args.addr());
        fleet.upgrade(subscribers, args.text("path", "/sub"));
        fleet.upgrade(1, args.text("pub-path", "/pub"));
        let Some(publisher) = fleet.connections.pop() else { fail("no publisher") };
        let seen = Seen {
            subscribers,
            first: 0,
            deliveries: Vec::new(),
            newest: vec![None; subscribers],
            complete: 0,
        };
        Broadcast {
            fleet,
            publisher,
            size: args.number("size", 100).max(32),
            epoch: Instant::now(),
            seen,
            delivered: 0,
            out_of_order: 0,
            latencies: Histogram::new(),
        }
    }

    fn probe(&mut self, events: &mut Events) {
        let mut next = self.epoch;
        while !self.seen.probes_settled() {
            let now = Instant::now();
            if now > self.epoch + PROBE_PATIENCE {
                let most = self.seen.deliveries.iter().max().unwrap_or(&0);
                fail(&format!("a probe reached {most} of {} subscribers", self.seen.subscribers));
            }
            if now >= next {
                self.publish();
                next = now + PROBE_EVERY;
            }
            self.turn(events, next);
        }
    }

    /// From here on everything counts.
    fn begin(&mut self) {
        self.seen.first = self.seen.deliveries.len();
        self.seen.complete = 0;
        self.delivered = 0;
        self.out_of_order = 0;
        self.latencies = Histogram::new();
    }

    fn drive_closed(&mut self, events: &mut Events, stop_at: Instant, window: usize) {
        while Instant::now() < stop_at {
            while self.seen.under_way() < window {
                self.publish();
            }
            self.turn(events, stop_at);
        }
    }

    fn drive_open(&mut self, events: &mut Events, stop_at: Instant, gap: Duration) {
        let mut next = Instant::now();
        while Instant::now() < stop_at {
            while Instant::now() >= next {
                self.publish();
                next += gap;
            }
            self.turn(events, next.min(stop_at));
        }
    }

    fn drain(&mut self, events: &mut Events, until: Instant) {
        while self.seen.under_way() > 0 && Instant::now() < until {
            self.turn(events, until);
        }
    }

    fn publish(&mut self) {
        let number = self.seen.deliveries.len();
        let mut payload = format!("{number:016x}{:016x}", self.epoch.elapsed().as_nanos()).into_bytes();
        payload.resize(self.size, b'x');
        frame::write_masked(&mut self.publisher.output, TEXT, &payload);
        self.publisher.flush();
        self.seen.deliveries.push(0);
    }

    /// Takes what arrives until `until`, at the latest for 100 ms. The publisher's own socket is flushed here, too.
    fn turn(&mut self, events: &mut Events, until: Instant) {
        let timeout = until.saturating_duration_since(Instant::now());
        let timeout = timeout.clamp(Duration::from_micros(200), Duration::from_millis(100));
        let Broadcast { fleet, seen, size, epoch, delivered, out_of_order, latencies, .. } = self;
        fleet.turn(events, timeout, |connection| {
            let now = Instant::now();
            let subscriber = connection.token.0;
            each_message(connection, |payload| {
                if payload.len() != *size {
                    return;
                }
                let (number, sent) =
                    (hex(&payload[..16]) as usize, *epoch + Duration::from_nanos(hex(&payload[16..32])));
                *out_of_order += u64::from(seen.count(subscriber, number));
                if number >= seen.first {
                    *delivered += 1;
                    latencies.add(now.saturating_duration_since(sent));
                }
            });
            if connection.closed {
                fail("the server closed a connection");
            }
        });
        self.publisher.flush();
    }

    fn report(&self, seconds: f64, in_time: u64) {
        let published = self.seen.deliveries.len() - self.seen.first;
        let lost = ((published * self.seen.subscribers) as u64).saturating_sub(self.delivered);
        println!(
            r#"{{"published":{published},"deliveries":{in_time},"all_deliveries":{},"lost":{lost},"out_of_order":{},"seconds":{seconds:.4},"per_second":{:.2},{}}}"#,
            self.delivered,
            self.out_of_order,
            in_time as f64 / seconds,
            self.latencies.json()
        );
    }
}

impl Seen {
    /// Counts a delivery; true when the subscriber already had a later message.
    fn count(&mut self, subscriber: usize, number: usize) -> bool {
        let late = self.newest[subscriber] > Some(number);
        self.newest[subscriber] = self.newest[subscriber].max(Some(number));
        if let Some(deliveries) = self.deliveries.get_mut(number) {
            *deliveries += 1;
            self.complete += usize::from(*deliveries == self.subscribers && number >= self.first);
        }
        late
    }

    /// One probe has reached all, and none is still under way.
    fn probes_settled(&self) -> bool {
        self.complete > 0 && self.deliveries.iter().all(|n| *n == 0 || *n >= self.subscribers)
    }

    fn under_way(&self) -> usize {
        self.deliveries.len() - self.first - self.complete
    }
}

fn hex(digits: &[u8]) -> u64 {
    std::str::from_utf8(digits).ok().and_then(|text| u64::from_str_radix(text, 16).ok()).unwrap_or(0)
}
