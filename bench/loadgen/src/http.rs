//! `http`: HTTP/1.1 load over a fixed number of connections, each with a fixed number of requests under way.
//! A connection that the server closes is replaced by a new one.

use crate::answer::{Answer, AnswerDecoder};
use crate::args::{fail, Args};
use crate::connection::Connection;
use crate::histogram::Histogram;
use mio::event::Event;
use mio::{Events, Poll, Token};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// So long without any answer, and the run is over: the server hangs.
const PATIENCE: Duration = Duration::from_secs(10);

pub fn run(args: &Args) {
    let mut load = Load::new(args);
    let start = Instant::now();
    load.drive(start + args.duration());
    load.report(start.elapsed().as_secs_f64());
}

struct Client {
    connection: Connection,
    awaited: Awaited,
}

/// The answers that one connection still owes.
struct Awaited {
    decoder: AnswerDecoder,
    sent: VecDeque<Instant>,
    closing: bool,
}

impl Client {
    fn new(connection: Connection) -> Client {
        let awaited = Awaited { decoder: AnswerDecoder::new(), sent: VecDeque::new(), closing: false };
        Client { connection, awaited }
    }
}

struct Load {
    addr: SocketAddr,
    poll: Poll,
    clients: Vec<Client>,
    tally: Tally,
    batch: Batch,
}

/// What was asked for so far, and the requests to send.
struct Batch {
    request: Vec<u8>,
    depth: usize,
    issued: u64,
    limit: u64,
}

struct Tally {
    done: u64,
    bytes: u64,
    bad: u64,
    reconnects: u64,
    latencies: Histogram,
    last: Instant,
}

impl Load {
    fn new(args: &Args) -> Load {
        let batch = Batch {
            request: request(args),
            depth: args.number("pipeline", 1),
            issued: 0,
            limit: args.number("requests", u64::MAX),
        };
        let tally = Tally {
            done: 0,
            bytes: 0,
            bad: 0,
            reconnects: 0,
            latencies: Histogram::new(),
            last: Instant::now(),
        };
        let poll = Poll::new().unwrap_or_else(|e| fail(&format!("poll: {e}")));
        let mut load = Load { addr: args.addr(), poll, clients: Vec::new(), tally, batch };
        for index in 0..args.number("conns", 64) {
            let client = load.connect(Token(index));
            load.clients.push(client);
        }
        load
    }

    fn connect(&self, token: Token) -> Client {
        let opened = Connection::open(self.poll.registry(), self.addr, token);
        Client::new(opened.unwrap_or_else(|e| fail(&format!("connect: {e}"))))
    }

    fn drive(&mut self, stop_at: Instant) {
        let mut events = Events::with_capacity(1024);
        let mut scratch = vec![0; 256 * 1024];
        self.clients.iter_mut().for_each(|client| self.batch.send(client));
        self.tally.last = Instant::now();
        while self.tally.done < self.batch.limit {
            let now = Instant::now();
            if now >= stop_at || now - self.tally.last > PATIENCE {
                break;
            }
            self.poll.poll(&mut events, Some((stop_at - now).min(Duration::from_millis(500)))).ok();
            events.iter().for_each(|event| self.handle(event, &mut scratch));
        }
    }

    fn handle(&mut self, event: &Event, scratch: &mut [u8]) {
        let Client { connection, awaited } = &mut self.clients[event.token().0];
        if !connection.receive(event, scratch, |input| self.tally.take(awaited, input)) {
            return;
        }
        if connection.closed {
            self.tally.end(awaited);
            self.replace(event.token());
        }
        self.batch.send(&mut self.clients[event.token().0]);
    }

    fn replace(&mut self, token: Token) {
        let unanswered = self.clients[token.0].awaited.sent.len() as u64;
        self.batch.issued -= unanswered;
        self.tally.reconnects += 1;
        self.clients[token.0] = self.connect(token);
    }

    fn report(&self, seconds: f64) {
        let Tally { done, bytes, bad, reconnects, latencies, .. } = &self.tally;
        println!(
            r#"{{"requests":{done},"seconds":{seconds:.4},"rps":{:.2},"bytes":{bytes},"bad":{bad},"reconnects":{reconnects},{}}}"#,
            *done as f64 / seconds,
            latencies.json()
        );
    }
}

impl Batch {
    /// Sends a whole batch, once all of the last one was answered: as wrk's pipelining does.
    fn send(&mut self, Client { connection, awaited }: &mut Client) {
        if !awaited.sent.is_empty() || awaited.closing || connection.closed {
            return;
        }
        let now = Instant::now();
        while awaited.sent.len() < self.depth && self.issued < self.limit {
            connection.output.extend_from_slice(&self.request);
            awaited.sent.push_back(now);
            self.issued += 1;
        }
        connection.flush();
    }
}

impl Tally {
    /// Counts the answers in `input`, and tells how many bytes are done with.
    fn take(&mut self, awaited: &mut Awaited, input: &[u8]) -> usize {
        let now = Instant::now();
        let mut used = 0;
        loop {
            let (taken, answer) = awaited.decoder.next(&input[used..]).unwrap_or_else(|e| fail(&e));
            used += taken;
            let Some(answer) = answer else { break };
            self.count(awaited, answer, now);
        }
        self.bytes += used as u64;
        used
    }

    fn end(&mut self, awaited: &mut Awaited) {
        if let Some(answer) = awaited.decoder.end() {
            self.count(awaited, answer, Instant::now());
        }
    }

    fn count(&mut self, awaited: &mut Awaited, answer: Answer, now: Instant) {
        awaited.closing |= answer.close;
        let Some(sent) = awaited.sent.pop_front() else {
            self.bad += 1; // an answer to no request
            return;
        };
        self.latencies.add(now - sent);
        self.done += 1;
        self.last = now;
        self.bad += u64::from(!(200..300).contains(&answer.status));
    }
}

fn request(args: &Args) -> Vec<u8> {
    let body: usize = args.number("body-bytes", 0);
    let method = args.text("method", if body > 0 { "POST" } else { "GET" });
    let mut text = format!("{method} {} HTTP/1.1\r\nHost: {}\r\n", args.text("path", "/"), args.addr());
    if body > 0 {
        text.push_str(&format!("Content-Type: application/octet-stream\r\nContent-Length: {body}\r\n"));
    }
    args.text("headers", "").lines().for_each(|header| text.push_str(&format!("{header}\r\n")));
    text.push_str("\r\n");
    let mut request = text.into_bytes();
    request.resize(request.len() + body, b'x');
    request
}
