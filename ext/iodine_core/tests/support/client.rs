//! A client that sends what it is told, and reads answers strictly.

use super::PATIENCE;
use socket2::SockRef;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Waits for `look` to find something.
pub fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let patience = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < patience, "waited in vain for {what}");
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// A request without a body.
pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// An answer, as received.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// One connection.
pub struct Client {
    socket: Socket,
    /// Received and not yet looked at.
    received: Vec<u8>,
}

impl Client {
    pub fn tcp(address: SocketAddr) -> Client {
        Client::of(TcpStream::connect(address).unwrap())
    }

    pub fn of(stream: TcpStream) -> Client {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client { socket: Socket::Tcp(stream), received: Vec::new() }
    }

    pub fn unix(path: &str) -> Client {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client { socket: Socket::Unix(stream), received: Vec::new() }
    }

    /// Has the system take little that is not read, so that the server notices soon that nobody reads.
    pub fn take_little(&self) {
        let socket = match &self.socket {
            Socket::Tcp(stream) => SockRef::from(stream),
            Socket::Unix(stream) => SockRef::from(stream),
        };
        socket.set_recv_buffer_size(128 * 1024).unwrap();
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    /// For when the server may have had enough.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        match &mut self.socket {
            Socket::Tcp(stream) => stream.write_all(bytes.as_ref()),
            Socket::Unix(stream) => stream.write_all(bytes.as_ref()),
        }
    }

    /// Whether it is sent in time, so that the server has to heed it. Otherwise it may have closed by then.
    pub fn send_by(&mut self, bytes: impl AsRef<[u8]>, until: Instant) -> bool {
        let sent = self.try_send(bytes);
        let in_time = Instant::now() < until;
        if in_time {
            sent.unwrap();
        }
        in_time
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) {
        match &self.socket {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Socket::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
        .unwrap();
    }

    /// The same connection, to send on while another thread reads.
    pub fn sender(&self) -> Client {
        let socket = match &self.socket {
            Socket::Tcp(stream) => Socket::Tcp(stream.try_clone().unwrap()),
            Socket::Unix(stream) => Socket::Unix(stream.try_clone().unwrap()),
        };
        Client { socket, received: Vec::new() }
    }

    /// Some bytes, as they come; none at the end.
    pub fn read(&mut self, most: usize) -> io::Result<Vec<u8>> {
        if !self.received.is_empty() {
            let count = most.min(self.received.len());
            return Ok(self.received.drain(..count).collect());
        }
        let mut bytes = vec![0; most];
        loop {
            let outcome = match &mut self.socket {
                Socket::Tcp(stream) => stream.read(&mut bytes),
                Socket::Unix(stream) => stream.read(&mut bytes),
            };
            match outcome {
                // The process was stopped meanwhile.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => {
                    bytes.truncate(outcome?);
                    return Ok(bytes);
                }
            }
        }
    }

    /// Puts back what was read too early.
    pub fn give_back(&mut self, bytes: Vec<u8>) {
        self.received.splice(..0, bytes);
    }

    fn fill(&mut self) {
        let bytes = self.read_fresh();
        assert!(
            !bytes.is_empty(),
            "the connection ended; received {:?}",
            String::from_utf8_lossy(&self.received)
        );
        self.received.extend_from_slice(&bytes);
    }

    fn read_fresh(&mut self) -> Vec<u8> {
        let received = std::mem::take(&mut self.received);
        let bytes = self.read(64 * 1024).unwrap();
        self.received = received;
        bytes
    }

    /// So many bytes, behind what was taken before.
    pub fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.received.len() < count {
            self.fill();
        }
        self.received.drain(..count).collect()
    }

    /// The next answer, which must be whole.
    pub fn answer(&mut self) -> Reply {
        let end = loop {
            if let Some(at) = self.received.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.fill();
        };
        let head = String::from_utf8(self.received.drain(..end).collect()).unwrap();
        let status: u16 = head[9..12].parse().unwrap();
        let mut reply = Reply { status, head, body: Vec::new() };
        let length = match status {
            100..=199 => 0,
            _ => reply.header("content-length").expect("a length").parse().unwrap(),
        };
        while self.received.len() < length {
            self.fill();
        }
        reply.body = self.received.drain(..length).collect();
        reply
    }

    /// Asks for `path` and returns the answer.
    pub fn get(&mut self, path: &str) -> Reply {
        self.send(get(path));
        self.answer()
    }

    /// The connection ends here, in good order.
    pub fn expect_end(&mut self) {
        assert_eq!(String::from_utf8_lossy(&self.received), "");
        let rest = self.read_fresh();
        assert!(rest.is_empty(), "no end but {:?}", String::from_utf8_lossy(&rest));
    }

    /// All that comes until the connection is closed or reset.
    pub fn read_until_cut(&mut self) -> Vec<u8> {
        let mut received = Vec::new();
        loop {
            match self.read(64 * 1024) {
                Ok(bytes) if bytes.is_empty() => return received,
                Ok(bytes) => received.extend_from_slice(&bytes),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return received,
                Err(error) => panic!("not closed: {error}"),
            }
        }
    }

    /// The connection is closed or reset, whatever else comes before that.
    pub fn expect_cut(&mut self) {
        loop {
            match self.read(64 * 1024) {
                Ok(bytes) if bytes.is_empty() => return,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
                Err(error) => panic!("not closed: {error}"),
            }
        }
    }

    /// The connection is open and silent, for as long as it takes to see that.
    pub fn expect_silence(&mut self, time: Duration) {
        assert_eq!(String::from_utf8_lossy(&self.received), "");
        let read = self.read_within(time).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert_eq!(read, None);
    }

    /// Some bytes, or `None` when none come for so long.
    pub fn read_within(&mut self, time: Duration) -> Option<Vec<u8>> {
        self.set_read_timeout(time);
        let outcome = self.read(64 * 1024);
        self.set_read_timeout(PATIENCE);
        match outcome {
            Ok(bytes) => Some(bytes),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn set_read_timeout(&self, time: Duration) {
        match &self.socket {
            Socket::Tcp(stream) => stream.set_read_timeout(Some(time)),
            Socket::Unix(stream) => stream.set_read_timeout(Some(time)),
        }
        .unwrap();
    }
}
