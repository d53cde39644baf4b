//! A non-blocking TCP connection with an input and an output buffer, registered edge-triggered.

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use std::io::{ErrorKind, Read, Result, Write};
use std::net::SocketAddr;

pub struct Connection {
    pub token: Token,
    pub input: Vec<u8>,
    pub output: Vec<u8>,
    pub closed: bool,
    stream: TcpStream,
    written: usize,
}

impl Connection {
    /// Connects and waits for it: to the loopback that takes no time.
    pub fn open(registry: &Registry, addr: SocketAddr, token: Token) -> Result<Connection> {
        let stream = std::net::TcpStream::connect(addr)?;
        stream.set_nonblocking(true)?;
        Connection::adopt(registry, TcpStream::from_std(stream), token)
    }

    pub fn adopt(registry: &Registry, mut stream: TcpStream, token: Token) -> Result<Connection> {
        stream.set_nodelay(true)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Connection { token, input: Vec::new(), output: Vec::new(), closed: false, stream, written: 0 })
    }

    /// Writes and reads what the event tells of. True when there may be new input.
    pub fn handle(&mut self, event: &Event, scratch: &mut [u8]) -> bool {
        self.receive(event, scratch, |_| 0)
    }

    /// As `handle`. After each read `take` sees all input and tells how much of it is done with: what is used at once is
    /// never copied, so that large answers do not push the server's memory out of the cache that both share.
    pub fn receive(&mut self, event: &Event, scratch: &mut [u8], take: impl FnMut(&[u8]) -> usize) -> bool {
        if event.is_writable() && self.wants_write() {
            self.flush();
        }
        let readable = event.is_readable() || event.is_read_closed();
        if readable {
            self.fill(scratch, event.is_read_closed(), take);
        }
        readable
    }

    /// Reads what there is. `scratch` is shared, so that idle connections hold no buffer. A short read means
    /// that all was read, unless the event told of the stream's end: that must be read, too.
    fn fill(&mut self, scratch: &mut [u8], ended: bool, mut take: impl FnMut(&[u8]) -> usize) {
        loop {
            match self.stream.read(scratch) {
                Ok(0) => break self.closed = true,
                Ok(n) => {
                    if self.input.is_empty() {
                        let used = take(&scratch[..n]);
                        self.input.extend_from_slice(&scratch[used..n]);
                    } else {
                        self.input.extend_from_slice(&scratch[..n]);
                        let used = take(&self.input);
                        self.input.drain(..used);
                    }
                    if n < scratch.len() && !ended {
                        break;
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => break self.closed = true,
            }
        }
    }

    pub fn flush(&mut self) {
        while self.wants_write() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(n) => self.written += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.closed = true,
            }
        }
        self.output.clear();
        self.written = 0;
    }

    fn wants_write(&self) -> bool {
        self.written < self.output.len()
    }

    /// Gives the buffers' memory back: for connections that are to be held by the thousand.
    pub fn shrink(&mut self) {
        if self.input.is_empty() && !self.wants_write() {
            self.input = Vec::new();
            self.output = Vec::new();
            self.written = 0;
        }
    }
}
