//! Many connections that all begin with the same request: a WebSocket upgrade, or one plain GET.

use crate::answer::AnswerDecoder;
use crate::args::fail;
use crate::connection::Connection;
use crate::frame::{self, CLOSE, PING, PONG};
use mio::{Events, Poll, Token};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How many connect before their answers are awaited: less than any usual backlog.
const BATCH: usize = 100;
const PATIENCE: Duration = Duration::from_secs(60);
const SCRATCH: usize = 64 * 1024;

pub struct Fleet {
    pub poll: Poll,
    pub connections: Vec<Connection>,
    addr: SocketAddr,
    scratch: Vec<u8>,
}

impl Fleet {
    pub fn new(addr: SocketAddr) -> Fleet {
        let poll = Poll::new().unwrap_or_else(|e| fail(&format!("poll: {e}")));
        Fleet { poll, connections: Vec::new(), addr, scratch: vec![0; SCRATCH] }
    }

    /// Opens `count` WebSocket connections.
    pub fn upgrade(&mut self, count: usize, path: &str) {
        let addr = self.addr;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {addr}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        self.open(count, &request, 101);
    }

    /// Opens `count` keep-alive connections and has one request answered on each.
    pub fn get(&mut self, count: usize, path: &str) {
        let addr = self.addr;
        self.open(count, &format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n"), 200);
    }

    fn open(&mut self, count: usize, request: &str, status: u16) {
        let deadline = Instant::now() + PATIENCE;
        let total = self.connections.len() + count;
        while self.connections.len() < total {
            let first = self.connections.len();
            for index in first..total.min(first + BATCH) {
                let connection = self.connect(index, request);
                self.connections.push(connection);
            }
            self.await_answers(first, status, deadline);
        }
    }

    fn connect(&self, index: usize, request: &str) -> Connection {
        let opened = Connection::open(self.poll.registry(), self.addr, Token(index));
        let mut connection = opened.unwrap_or_else(|e| fail(&format!("connection {index}: {e}")));
        connection.output.extend_from_slice(request.as_bytes());
        connection.flush();
        connection
    }

    /// Waits until each connection from `first` on has its answer. What follows it stays in the input, as does
    /// what the earlier connections receive meanwhile.
    fn await_answers(&mut self, first: usize, status: u16, deadline: Instant) {
        let mut events = Events::with_capacity(1024);
        let mut decoders: Vec<_> =
            (first..self.connections.len()).map(|_| Some(AnswerDecoder::new())).collect();
        let mut waiting = decoders.len();
        while waiting > 0 {
            if Instant::now() > deadline {
                fail(&format!("only {} connections were answered in time", self.connections.len() - waiting));
            }
            self.poll.poll(&mut events, Some(Duration::from_millis(200))).ok();
            for event in events.iter() {
                let index = event.token().0;
                let connection = &mut self.connections[index];
                connection.handle(event, &mut self.scratch);
                let Some(slot) = index.checked_sub(first).and_then(|i| decoders.get_mut(i)) else { continue };
                let Some(decoder) = slot.as_mut() else { continue };
                if is_answered(connection, decoder, status) {
                    *slot = None;
                    waiting -= 1;
                }
            }
        }
    }

    /// Waits for events and takes them; `on_input` gets each connection that may have new input.
    pub fn turn(
        &mut self,
        events: &mut Events,
        timeout: Duration,
        mut on_input: impl FnMut(&mut Connection),
    ) {
        self.poll.poll(events, Some(timeout)).ok();
        for event in events.iter() {
            let Some(connection) = self.connections.get_mut(event.token().0) else { continue };
            if connection.handle(event, &mut self.scratch) {
                on_input(connection);
            }
        }
    }
}

fn is_answered(connection: &mut Connection, decoder: &mut AnswerDecoder, status: u16) -> bool {
    let index = connection.token.0;
    let (used, answer) = decoder.next(&connection.input).unwrap_or_else(|e| fail(&e));
    connection.input.drain(..used);
    match answer {
        Some(answer) if answer.status != status => {
            fail(&format!("connection {index}: answered {}", answer.status))
        }
        None if connection.closed => fail(&format!("connection {index} was closed before it was answered")),
        None => false,
        Some(_) => {
            connection.shrink();
            true
        }
    }
}

/// Calls `on_message` with the payload of each whole frame in the input. Pings are answered.
pub fn each_message(connection: &mut Connection, mut on_message: impl FnMut(&[u8])) {
    let input = std::mem::take(&mut connection.input);
    let mut used = 0;
    while let Some(found) = frame::parse(&input[used..]) {
        let payload = &input[used + found.start..used + found.end];
        match found.opcode {
            PING => frame::write_masked(&mut connection.output, PONG, payload),
            CLOSE => connection.closed = true,
            _ => on_message(payload),
        }
        used += found.end;
    }
    connection.input = input;
    connection.input.drain(..used);
    connection.flush();
}
