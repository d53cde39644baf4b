//! `echo`: WebSocket messages that the server sends back, a fixed number under way on each connection.

use crate::args::{fail, Args};
use crate::fleet::{each_message, Fleet};
use crate::frame::{self, TEXT};
use crate::histogram::Histogram;
use mio::Events;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub fn run(args: &Args) {
    let count: usize = args.number("conns", 64);
    let size: usize = args.number("size", 100);
    let depth: usize = args.number("pipeline", 1);
    let mut fleet = Fleet::new(args.addr());
    fleet.upgrade(count, args.text("path", "/echo"));

    let mut message = Vec::new();
    frame::write_masked(&mut message, TEXT, &vec![b'x'; size]);
    let mut pace = Pace { message, issued: 0, limit: args.number("messages", u64::MAX) };
    let mut sent = vec![VecDeque::new(); count];
    let mut latencies = Histogram::new();
    let (mut done, mut bad) = (0u64, 0u64);
    let mut events = Events::with_capacity(1024);
    let start = Instant::now();
    let stop_at = start + args.duration();
    for (connection, sent) in fleet.connections.iter_mut().zip(&mut sent) {
        pace.send(depth, &mut connection.output, sent);
        connection.flush();
    }
    while done < pace.limit && Instant::now() < stop_at {
        let timeout = stop_at.saturating_duration_since(Instant::now()).min(Duration::from_millis(500));
        fleet.turn(&mut events, timeout, |connection| {
            let now = Instant::now();
            let sent = &mut sent[connection.token.0];
            let mut back = 0;
            each_message(connection, |payload| {
                bad += u64::from(payload.len() != size);
                let Some(at) = sent.pop_front() else { fail("an echo of nothing") };
                latencies.add(now - at);
                back += 1;
            });
            if connection.closed {
                fail("the server closed a connection");
            }
            done += back as u64;
            pace.send(back, &mut connection.output, sent);
            connection.flush();
        });
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        r#"{{"messages":{done},"seconds":{seconds:.4},"per_second":{:.2},"bad":{bad},{}}}"#,
        done as f64 / seconds,
        latencies.json()
    );
}

struct Pace {
    message: Vec<u8>,
    issued: u64,
    limit: u64,
}

impl Pace {
    fn send(&mut self, count: usize, output: &mut Vec<u8>, sent: &mut VecDeque<Instant>) {
        for _ in 0..count {
            if self.issued < self.limit {
                output.extend_from_slice(&self.message);
                sent.push_back(Instant::now());
                self.issued += 1;
            }
        }
    }
}
