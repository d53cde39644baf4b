//! Connections on their way to be open: connecting, TLS, and the handshake of a WebSocket. From then on they are real-time
//! connections like others.

use super::conn::Conn;
use super::realtime::Speaking;
use super::{Reactor, Readiness};
use crate::conn::{ConnHandle, ConnId, Peer};
use crate::job::Job;
use crate::log::{self, Level};
use crate::outgoing::{Attached, Handshake, Outgoing, Taken, Target};
use crate::realtime::Event;
use crate::stream::Stream;
use crate::sys::Fd;
use crate::tls;
use iodine_codec::websocket::ClientHandshake;
use rustix::io::Errno;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// Why a connection is given up.
const TOO_LONG: &str = "it took too long";

/// A connection that is not open yet.
#[derive(Debug)]
pub(super) struct Opening {
    outgoing: Outgoing,
    /// Which of them is tried.
    target: Target,
    /// Until when it has to be open.
    by: Instant,
    /// Until when this target has to be reached, so that the others have their share of the time.
    reached_by: Instant,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Connecting,
    Tls,
    /// The request is sent; the answer as far as it has come.
    Handshake {
        received: Vec<u8>,
    },
}

impl Opening {
    /// When the step that it is at must be over.
    pub(super) fn deadline(&self) -> Instant {
        match self.step {
            Step::Connecting => self.reached_by,
            Step::Tls | Step::Handshake { .. } => self.by,
        }
    }
}

impl Reactor {
    /// Makes a connection.
    pub(super) fn connect(&mut self, outgoing: Outgoing) {
        let by = self.now + outgoing.timeout;
        self.try_next(outgoing, by, "there is no address to connect to".to_owned());
    }

    /// Tries the next target. Without one, the application hears of the end.
    fn try_next(&mut self, mut outgoing: Outgoing, by: Instant, mut why: String) {
        while !outgoing.targets.is_empty() {
            let target = outgoing.targets.remove(0);
            match open_socket(&target, &outgoing) {
                Ok((stream, peer)) => return self.wait_for(stream, peer, outgoing, target, by),
                Err(error) => why = format!("{target}: {error}"),
            }
        }
        self.give_up_outgoing(outgoing, &why);
    }

    fn wait_for(&mut self, stream: Stream, peer: Peer, outgoing: Outgoing, target: Target, by: Instant) {
        let (service, draining) = (outgoing.service.clone(), self.is_draining());
        let upgrade = outgoing.upgrade.clone();
        let others = u32::try_from(outgoing.targets.len()).unwrap_or(u32::MAX - 1);
        let share = by.saturating_duration_since(self.now) / (others + 1);
        let reached_by = self.now + share;
        let opening = Box::new(Opening { outgoing, target, by, reached_by, step: Step::Connecting });
        let Ok(id) = self.insert_opening(stream, peer, service, &upgrade, opening) else { return };
        if draining {
            return self.fail_opening(id, "the server is ending");
        }
        self.watch(id);
    }

    /// There is no connection, and will be none: the handler hears of that as it would of a close.
    fn give_up_outgoing(&mut self, outgoing: Outgoing, why: &str) {
        log::message(Level::Info, &format!("no connection could be made: {why}"));
        let conn = self.unconnected(outgoing.service, &outgoing.upgrade);
        self.tell_closed(&conn);
    }

    /// Goes on with a connection that is not open yet.
    pub(super) fn go_on_opening(&mut self, id: ConnId, ready: Readiness) {
        let Some(conn) = self.conn(id) else { return };
        let Some(opening) = &mut conn.opening else { return };
        if let Step::Connecting = opening.step {
            match is_connected(conn.shared(), ready) {
                Ok(false) => return,
                Ok(true) => {}
                Err(error) => return self.try_another(id, &error.to_string()),
            }
            if let Some(opening) = &mut conn.opening {
                opening.step = Step::Tls;
            }
        }
        let Some(Opening { step: Step::Tls, .. }) = conn.opening.as_deref() else {
            return self.read_answer(id, ready);
        };
        let step = conn.shared().lock().stream.as_ref().map(Stream::handshake);
        match step {
            Some(tls::Handshake::WouldBlock) => {}
            Some(tls::Handshake::Failed(why)) => self.fail_opening(id, &why),
            Some(tls::Handshake::Done) => self.begin_conversation(id),
            None => self.remove(id),
        }
    }

    /// The peer can be spoken to.
    fn begin_conversation(&mut self, id: ConnId) {
        let Some(conn) = self.conn(id) else { return };
        let Some(opening) = &mut conn.opening else { return };
        let Some(Handshake { request, .. }) = opening.outgoing.handshake.as_ref() else {
            self.open_up(id, None, &[]);
            // Who speaks first may have done so already.
            return self.handle_readable(id);
        };
        let request = request.clone();
        opening.step = Step::Handshake { received: Vec::new() };
        conn.shared().lock().outbox.push(request);
        self.go_on_writing(id);
        // With TLS the answer may have come along with the end of its handshake.
        self.handle_readable(id);
    }

    fn read_answer(&mut self, id: ConnId, ready: Readiness) {
        if ready.writable {
            self.go_on_writing(id);
        }
        if ready.readable || ready.read_closed || ready.broken {
            self.handle_readable(id);
        }
    }

    /// The answer to the handshake of a WebSocket, or a part of it.
    pub(super) fn hear_answer(&mut self, id: ConnId, fresh: &[u8]) {
        let Some(conn) = self.conn(id) else { return };
        let Some(Opening { outgoing, step: Step::Handshake { received }, .. }) = conn.opening.as_deref_mut()
        else {
            return;
        };
        received.extend_from_slice(fresh);
        let Some(handshake) = &outgoing.handshake else { return };
        match ClientHandshake::read(&handshake.client, received) {
            Ok(None) => {}
            Ok(Some(opened)) => {
                let rest = received.split_off(opened.used.min(received.len()));
                self.open_up(id, opened.deflate, &rest);
            }
            Err(bad) => self.fail_opening(id, bad.reason()),
        }
    }

    /// The connection is open: its first event is due, and what came behind the handshake is heard. Whatever is still to be
    /// read is for the caller, who may be reading.
    fn open_up(&mut self, id: ConnId, deflate: Option<iodine_codec::websocket::Deflate>, rest: &[u8]) {
        let now = self.now;
        let Some(conn) = self.conn(id) else { return };
        let Some(opening) = conn.opening.take() else { return };
        let upgrade = crate::realtime::Upgrade { deflate, ..opening.outgoing.upgrade };
        let shared = conn.shared().clone();
        conn.realtime = Some(Box::new(Speaking::new(&upgrade, &shared.service().realtime)));
        conn.active = now;
        let mut io = shared.lock();
        if let Some(realtime) = &mut io.realtime {
            realtime.open_up(deflate);
        }
        let job = io.deliver(Event::Open);
        drop(io);
        if job {
            self.jobs.push(Job::Events(shared));
        }
        if !rest.is_empty() {
            self.hear(id, rest);
        }
    }

    /// This target is none; the next one may be.
    fn try_another(&mut self, id: ConnId, why: &str) {
        let Some(conn) = self.conn(id) else { return };
        let Some(opening) = conn.opening.take() else { return };
        let Opening { outgoing, target, by, .. } = *opening;
        self.forget(id);
        self.try_next(outgoing, by, format!("{target}: {why}"));
    }

    /// There will be no connection. The handler hears of that as it would of a close.
    pub(super) fn fail_opening(&mut self, id: ConnId, why: &str) {
        let Some(opening) = self.conn(id).and_then(|conn| conn.opening.as_deref()) else { return };
        log::message(Level::Info, &format!("no connection could be made: {}: {why}", opening.target));
        self.remove(id);
    }

    /// The time for it is over, or the peer has hung up.
    pub(super) fn give_up_opening(&mut self, id: ConnId, ended: bool) {
        let Some(opening) = self.conn(id).and_then(|conn| conn.opening.as_deref()) else { return };
        match opening.step {
            _ if ended => self.fail_opening(id, "the peer has closed it before it was open"),
            Step::Connecting if !opening.outgoing.targets.is_empty() => self.try_another(id, TOO_LONG),
            _ => self.fail_opening(id, TOO_LONG),
        }
    }

    /// Takes over a socket of the application's.
    pub(super) fn attach(&mut self, attached: Attached) {
        let Attached { stream, service, upgrade, taker } = attached;
        if self.is_over() {
            return;
        }
        let peer = Peer::Unix(Arc::from("attached"));
        let inserted = self.insert(stream, peer, service, Some(upgrade));
        if let Err(error) = &inserted {
            log::message(Level::Error, &format!("a socket can not be attached: {error}"));
        }
        let draining = self.is_draining();
        let shared = inserted.ok().and_then(|id| self.conn(id)).map(|conn| conn.shared().clone());
        if let Some(shared) = shared.as_ref().filter(|_| draining) {
            self.deliver(shared, Event::Shutdown);
        }
        match (taker, shared) {
            (None, _) => {}
            (Some(taker), None) => drop(taker.try_send(Taken::Over)),
            // Its first event is not for an app thread, unless nobody waits for it any more.
            (Some(taker), Some(shared)) => {
                if taker.try_send(Taken::Yours(shared.clone())).is_ok() {
                    self.jobs.retain(|job| !matches!(job, Job::Events(conn) if Arc::ptr_eq(conn, &shared)));
                }
            }
        }
    }
}

impl Conn {
    /// Whether there is nothing to decode yet: the peer is not reached.
    pub(super) fn is_unconnected(&self) -> bool {
        self.opening.as_ref().is_some_and(|opening| !matches!(opening.step, Step::Handshake { .. }))
    }
}

/// A socket that is about to be connected.
fn open_socket(target: &Target, outgoing: &Outgoing) -> Result<(Stream, Peer), String> {
    let (domain, address, peer) = match target {
        Target::Tcp(address) => {
            (Domain::for_address(*address), SockAddr::from(*address), Peer::Tcp(*address))
        }
        Target::Unix(path) => {
            let address = SockAddr::unix(path).map_err(|error| error.to_string())?;
            (Domain::UNIX, address, Peer::Unix(Arc::from(path.to_string_lossy())))
        }
    };
    let socket = Socket::new(domain, Type::STREAM, None).map_err(|error| error.to_string())?;
    socket.set_nonblocking(true).map_err(|error| error.to_string())?;
    if domain != Domain::UNIX {
        // Messages are whole when they are written: nothing is gained by waiting for more.
        let _ = socket.set_tcp_nodelay(true);
    }
    match socket.connect(&address) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error.to_string()),
    }
    let fd = Fd::new(socket.into());
    let stream = match &outgoing.tls {
        Some((tls, host)) => Stream::tls_client(fd, tls, host)?,
        None => Stream::new(fd),
    };
    Ok((stream, peer))
}

/// Whether the connection is made; an error if it can not be.
fn is_connected(conn: &ConnHandle, ready: Readiness) -> io::Result<bool> {
    let io = conn.lock();
    let Some(stream) = &io.stream else { return Ok(false) };
    let socket = SockRef::from(stream);
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    if !ready.writable && !ready.broken {
        return Ok(false);
    }
    match socket.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}
