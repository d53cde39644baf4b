//! `serve`: the ceiling of the machine. One epoll thread, httparse, one fixed answer; no Ruby and no routing.
//! It also echoes WebSocket messages (`/echo`) and does a plain broadcast (`/sub`, also as `/subblock`; `/pub`).

use crate::accept_key::accept_key;
use crate::args::{fail, Args};
use crate::connection::Connection;
use crate::frame::{self, BINARY, CLOSE, TEXT};
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type:text/html\r\ncontent-length:16\r\n\
date:Mon, 01 Jan 2024 00:00:00 GMT\r\n\r\nHello from Rack!";
const LISTENER: Token = Token(usize::MAX);

pub fn run(args: &Args) {
    Server::bind(args).run()
}

#[derive(PartialEq, Clone, Copy)]
enum Kind {
    Http,
    Echo,
    Subscriber,
    Publisher,
}

struct Client {
    connection: Connection,
    kind: Kind,
    /// The client asked for no more after this answer, which is too short to be written in parts.
    last: bool,
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    clients: Vec<Option<Client>>,
    free: Vec<usize>,
    /// What was published in this turn of the loop, as frames.
    published: Vec<u8>,
}

impl Server {
    fn bind(args: &Args) -> Server {
        let mut listener = TcpListener::bind(args.addr()).unwrap_or_else(|e| fail(&format!("bind: {e}")));
        // As our server does: the pace that some systems keep on a line is no part of a ceiling on loopback.
        let _ = SockRef::from(&listener).set_tcp_congestion(b"reno");
        let poll = Poll::new().unwrap_or_else(|e| fail(&format!("poll: {e}")));
        let registered = poll.registry().register(&mut listener, LISTENER, Interest::READABLE);
        registered.unwrap_or_else(|e| fail(&format!("listen: {e}")));
        Server { poll, listener, clients: Vec::new(), free: Vec::new(), published: Vec::new() }
    }

    fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        let mut scratch = vec![0; 64 * 1024];
        loop {
            self.poll.poll(&mut events, None).ok();
            for event in events.iter() {
                match event.token() {
                    LISTENER => self.accept(),
                    Token(index) => {
                        let Some(client) = self.clients[index].as_mut() else { continue };
                        if client.connection.handle(event, &mut scratch) {
                            client.serve(&mut self.published);
                        }
                        if client.connection.closed {
                            self.clients[index] = None;
                            self.free.push(index);
                        }
                    }
                }
            }
            self.deliver();
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let index = self.free.pop().unwrap_or(self.clients.len());
            let adopted = Connection::adopt(self.poll.registry(), stream, Token(index)).ok();
            let client = adopted.map(|connection| Client { connection, kind: Kind::Http, last: false });
            match self.clients.get_mut(index) {
                Some(slot) => *slot = client,
                None => self.clients.push(client),
            }
        }
    }

    fn deliver(&mut self) {
        if self.published.is_empty() {
            return;
        }
        for client in self.clients.iter_mut().flatten().filter(|client| client.kind == Kind::Subscriber) {
            client.connection.output.extend_from_slice(&self.published);
            client.connection.flush();
        }
        self.published.clear();
    }
}

impl Client {
    fn serve(&mut self, published: &mut Vec<u8>) {
        let mut input = std::mem::take(&mut self.connection.input);
        let mut used = 0;
        while used < input.len() {
            let taken = match self.kind {
                Kind::Http => self.answer(&input[used..]),
                _ => self.take_frame(&mut input[used..], published),
            };
            match taken {
                Some(taken) => used += taken,
                None => break,
            }
        }
        input.drain(..used);
        self.connection.input = input;
        self.connection.flush();
        self.connection.closed |= self.last;
    }

    /// Answers the request at the start of `input`. None while it is not complete.
    fn answer(&mut self, input: &[u8]) -> Option<usize> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut headers);
        let length = match request.parse(input) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return None,
            Err(_) => {
                self.connection.closed = true;
                return None;
            }
        };
        let named = |name| request.headers.iter().find(move |h| h.name.eq_ignore_ascii_case(name));
        self.last = named("connection").is_some_and(|h| h.value.eq_ignore_ascii_case(b"close"));
        match named("sec-websocket-key") {
            None => self.connection.output.extend_from_slice(HELLO),
            Some(key) => self.upgrade(request.path, std::str::from_utf8(key.value).unwrap_or("")),
        }
        Some(length)
    }

    fn upgrade(&mut self, path: Option<&str>, key: &str) {
        self.kind = match path {
            Some("/sub" | "/subblock") => Kind::Subscriber,
            Some("/pub") => Kind::Publisher,
            _ => Kind::Echo,
        };
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade:websocket\r\nconnection:Upgrade\r\n\
             sec-websocket-accept:{}\r\n\r\n",
            accept_key(key)
        );
        self.connection.output.extend_from_slice(answer.as_bytes());
    }

    /// Takes the frame at the start of `input`. None while it is not complete.
    fn take_frame(&mut self, input: &mut [u8], published: &mut Vec<u8>) -> Option<usize> {
        let found = frame::parse(input)?;
        let payload = &mut input[found.start..found.end];
        if let Some(mask) = found.mask {
            frame::apply_mask(payload, mask);
        }
        match (found.opcode, self.kind) {
            (CLOSE, _) => self.connection.closed = true,
            (TEXT | BINARY, Kind::Echo) => {
                frame::write_plain(&mut self.connection.output, found.opcode, payload)
            }
            (TEXT | BINARY, Kind::Publisher) => frame::write_plain(published, found.opcode, payload),
            _ => {}
        }
        Some(found.end)
    }
}
