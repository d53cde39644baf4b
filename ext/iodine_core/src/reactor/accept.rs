//! Accepting connections: in bursts, shared fairly between workers, and refused with a reason when there are too many.

use super::conn::LAST_CHANCE;
use super::deadlines::Due;
use super::rush::{DEFER_FOR, Rush};
use super::{Phase, Reactor};
use crate::access_log::Refused;
use crate::config::Service;
use crate::conn::Peer;
use crate::episode::Episode;
use crate::listener::{Address, Listener};
use crate::log::{self, Level};
use crate::realtime::Upgrade;
use crate::static_files::{StaticFiles, plain_refusal};
use crate::stream::{Moved, Stream};
use crate::sys::{Fd, set_defer_accept};
use iodine_codec::http::Version;
use iodine_codec::http1::RequestFacts;
use mio::unix::SourceFd;
use rustix::io::Errno;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Connections that this worker may hold more than the one with the fewest, before it leaves new ones to that one.
const IMBALANCE: usize = 2;
/// How long connections left to others may wait before this worker takes them after all.
const LEAVE_FOR: Duration = Duration::from_millis(2);
/// When accepting fails for want of memory or descriptors.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// A listener as this reactor sees it.
#[derive(Debug)]
pub(super) struct Door {
    listener: Arc<Listener>,
    /// Whether a [`Due::Accept`] is under way.
    late: bool,
    open: bool,
    /// While there is one, the system waits for first bytes, until [`Due::Undefer`].
    rush: Rush,
    /// That accepting fails here.
    failing: Episode,
}

impl Door {
    pub(super) fn new(listener: Arc<Listener>) -> Door {
        let rush = Rush::new(Instant::now());
        let door = Door { listener, late: false, open: true, rush, failing: Episode::new() };
        if door.can_defer() {
            // A worker that was killed in a rush may have left it so.
            set_defer_accept(&*door.listener, false);
        }
        door
    }

    /// Where it is for the client to speak first.
    fn can_defer(&self) -> bool {
        matches!(self.listener.address(), Address::Tcp(_)) && !self.listener.service().raw
    }

    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// The files that are served to those who come in here.
    pub(super) fn files(&self) -> Option<&StaticFiles> {
        self.listener.service().http.files.as_deref()
    }
}

impl Reactor {
    /// Accepts all that waits at a door, as long as this worker is not the one that should rest.
    pub(super) fn accept(&mut self, door: usize) {
        loop {
            if self.should_leave() {
                return self.look_again(door, LEAVE_FOR);
            }
            if !self.accept_one(door) {
                return;
            }
        }
    }

    /// Somebody else was to take these. Whoever is still here now is taken, one at a time, so that others may wake up.
    pub(super) fn accept_late(&mut self, door: usize) {
        if let Some(door) = self.doors.get_mut(door) {
            door.late = false;
        }
        if self.accept_one(door) {
            self.accept(door);
        }
    }

    /// Serves what has been accepted by the kernel already, then accepts no more. Who comes meanwhile is taken, too, but
    /// only as many as can have been waiting: a flood of connections must not put off the end.
    pub(super) fn close_doors(&mut self, most: usize) {
        // In a cluster the others take them, and the master keeps the socket open.
        let alone = self.config.place.is_none();
        for index in 0..self.doors.len() {
            let _ = (0..most).take_while(|_| alone && self.accept_one(index)).count();
            match self.undefer(index) && alone {
                // Who has connected is not seen yet, and has a last chance like those who are.
                true => self.deadlines.add(self.now + LAST_CHANCE, Due::CloseDoor(index)),
                false => self.close_door(index),
            }
        }
    }

    pub(super) fn close_door(&mut self, index: usize) {
        let Some(door) = self.doors.get_mut(index) else { return };
        if std::mem::take(&mut door.open) {
            let _ = self.poll.registry().deregister(&mut SourceFd(&door.listener.as_raw_fd()));
        }
    }

    fn should_leave(&self) -> bool {
        let Some((board, slot)) = &self.config.place else { return false };
        board.least_of_others(*slot).is_some_and(|least| self.conns.len() >= least + IMBALANCE)
    }

    fn look_again(&mut self, index: usize, after: Duration) {
        let Some(door) = self.doors.get_mut(index) else { return };
        if !door.late {
            door.late = true;
            self.deadlines.add(self.now + after, Due::Accept(index));
        }
    }

    /// False when nobody waits.
    fn accept_one(&mut self, index: usize) -> bool {
        let Some(door) = self.doors.get(index).filter(|door| door.open) else { return false };
        let listener = door.listener.clone();
        let (fd, address) = match accept_socket(&listener) {
            Ok(accepted) => accepted,
            Err(Errno::AGAIN) => return false,
            // The client left before we came, or a signal did.
            Err(Errno::INTR | Errno::CONNABORTED | Errno::PROTO) => return true,
            Err(error) => {
                self.note_failure(index, error);
                self.look_again(index, TRY_AGAIN);
                return false;
            }
        };
        let raw = fd.as_raw_fd();
        let stream = Stream::new(fd);
        let peer = match (listener.address(), address) {
            (Address::Unix(path), _) => Peer::Unix(path.clone()),
            (Address::Tcp(_), Some(address)) => Peer::Tcp(address),
            (Address::Tcp(_), None) => Peer::Tcp((Ipv4Addr::UNSPECIFIED, 0).into()),
        };
        if self.conns.len() >= self.config.max_connections || self.lacks_descriptors(raw) {
            self.refuse(&stream, &peer, listener.service());
            return true;
        }
        let silent = self.open(stream, peer, listener.service());
        self.note_arrival(index, silent);
        true
    }

    fn note_arrival(&mut self, index: usize, silent: bool) {
        let now = self.now;
        let Some(door) = self.doors.get_mut(index).filter(|door| door.can_defer()) else { return };
        if door.rush.begins(silent, now) {
            set_defer_accept(&*door.listener, true);
            self.deadlines.add(now + DEFER_FOR, Due::Undefer(index));
        }
    }

    /// Whoever connects is accepted at once again. Returns whether that was different.
    pub(super) fn undefer(&mut self, index: usize) -> bool {
        let now = self.now;
        let Some(door) = self.doors.get_mut(index).filter(|door| door.open) else { return false };
        let ended = door.rush.ends(now);
        if ended {
            set_defer_accept(&*door.listener, false);
        }
        ended
    }

    /// It is tried again and again, and said once.
    fn note_failure(&mut self, index: usize, error: Errno) {
        let now = self.now;
        if self.doors.get_mut(index).is_some_and(|door| door.failing.begins(now)) {
            log::message(Level::Error, &format!("can not accept connections: {error}; trying on."));
        }
    }

    /// Returns whether the connection has said nothing yet.
    fn open(&mut self, stream: Stream, peer: Peer, service: &Arc<Service>) -> bool {
        let upgrade = service.raw.then(Upgrade::accepted);
        let inserted = self.insert(stream, peer, service.clone(), upgrade);
        if inserted.is_err() {
            log::message(Level::Error, "a connection could not be registered");
        }
        self.show_count();
        inserted.is_ok_and(|id| self.conn(id).is_some_and(|conn| conn.has_said_nothing()))
    }

    /// Shows the number of connections to the other workers.
    pub(super) fn show_count(&self) {
        if let Some((board, slot)) = &self.config.place {
            match self.phase {
                Phase::Serving => board.set(*slot, self.conns.len()),
                // Nobody should leave a connection to a worker that takes none.
                _ => board.vacate(*slot),
            }
        }
    }

    fn lacks_descriptors(&self, raw: i32) -> bool {
        raw as u64 + self.config.reserved_descriptors >= self.descriptor_limit
    }

    /// 503 (RFC 9110 section 15.6.4), as far as the socket takes it at once (F-33). There is no room for anything that
    /// would take longer: no page is looked up, and nobody waits for what the client still sends.
    fn refuse(&mut self, stream: &Stream, peer: &Peer, service: &Service) {
        if self.refusing.begins(self.now) {
            let count = self.conns.len();
            log::message(
                Level::Warning,
                &format!("HTTP server at capacity: {count} connections, refusing more."),
            );
        }
        // What the client sent already would turn the close into a reset; and it tells whether a body is welcome.
        let head = match stream.read(&mut self.read_buffer) {
            Moved::Bytes(count) => {
                self.read_buffer.get(..count).is_some_and(|sent| sent.starts_with(b"HEAD "))
            }
            Moved::WouldBlock | Moved::Broken => false,
        };
        let facts = RequestFacts { version: Version::Http11, keep_alive: false, head };
        let reply = plain_refusal(facts, 503, true);
        if let Some(log) = service.http.log.as_ref().filter(|_| !service.raw) {
            let (client, status, bytes) = (&peer.to_string(), reply.status, reply.length);
            Refused { log, client, status, bytes, at: self.now }.log();
        }
        stream.write(&reply.head);
        stream.finish_writing();
        stream.read(&mut self.read_buffer);
    }
}

fn accept_socket(listener: &Listener) -> rustix::io::Result<(Fd, Option<SocketAddr>)> {
    let (fd, address) = crate::sys::accept(listener)?;
    Ok((Fd::new(fd), address.and_then(|any| SocketAddr::try_from(any).ok())))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::super::rush::{RUSH, RUSH_FOR};
    use super::*;
    use crate::config::{HttpConfig, ReactorConfig};
    use crate::listener::BindSpec;
    use std::io::Write;
    use std::net::TcpStream;

    fn door(reactor: &mut Reactor, service: impl FnOnce(Option<u16>) -> Service) -> SocketAddr {
        let spec = BindSpec::Tcp { host: Some("127.0.0.1".into()), port: 0 };
        let listener = Listener::bind(&spec, service).unwrap().remove(0);
        let Address::Tcp(address) = *listener.address() else { panic!("not TCP") };
        reactor.listen(Arc::new(listener)).unwrap();
        address
    }

    fn http(port: Option<u16>) -> Service {
        Service::http(0, HttpConfig::default(), port)
    }

    fn connect(address: SocketAddr, count: u32) -> Vec<TcpStream> {
        (0..count).map(|_| TcpStream::connect(address).unwrap()).collect()
    }

    /// Accepts until there are so many, which a busy machine may take a moment to show.
    fn accept_to(reactor: &mut Reactor, count: usize) {
        let patience = Instant::now() + Duration::from_secs(10);
        while reactor.conns.len() < count && Instant::now() < patience {
            reactor.accept(0);
        }
        assert_eq!(reactor.conns.len(), count);
    }

    #[test]
    fn in_a_rush_connections_are_taken_with_their_first_bytes() {
        let mut reactor = Reactor::new(ReactorConfig::default()).unwrap();
        let address = door(&mut reactor, http);
        let _rush = connect(address, RUSH);
        accept_to(&mut reactor, RUSH as usize);
        let due = reactor.now + DEFER_FOR;
        assert_eq!(reactor.deadlines.next(), Some(due));

        let begun = Instant::now();
        let mut silent = connect(address, 1);
        reactor.accept(0);
        // The system waits no longer, should this have taken so long.
        assert!(reactor.conns.len() == RUSH as usize || begun.elapsed() >= DEFER_FOR);
        silent[0].write_all(b"GET").unwrap();
        accept_to(&mut reactor, RUSH as usize + 1);

        reactor.now = due;
        reactor.handle_deadlines();
        let _again = connect(address, 1);
        accept_to(&mut reactor, RUSH as usize + 2);
    }

    #[test]
    fn who_speaks_first_or_comes_now_and_then_makes_no_rush() {
        let mut reactor = Reactor::new(ReactorConfig::default()).unwrap();
        let address = door(&mut reactor, http);
        for round in 0..3 {
            let _silent = connect(address, RUSH - 1);
            accept_to(&mut reactor, (RUSH as usize - 1) * (round + 1));
            reactor.now += RUSH_FOR * 2;
        }
        // None is deferred: these would be.
        let _silent = connect(address, 1);
        accept_to(&mut reactor, (RUSH as usize - 1) * 3 + 1);
    }

    #[test]
    fn the_server_may_speak_first_in_other_protocols() {
        let mut reactor = Reactor::new(ReactorConfig::default()).unwrap();
        let address = door(&mut reactor, |port| Service { raw: true, ..http(port) });
        let _silent = connect(address, RUSH * 2);
        accept_to(&mut reactor, RUSH as usize * 2);
    }
}
