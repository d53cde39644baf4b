//! The reactor: the one owner of all sockets, timers and protocol state of a process.
//!
//! In a worker whoever has its [lead](crate::lead) turns it, an app thread or the standby; in the master, which must stay free of
//! native threads because it forks, the main thread does ([`Reactor::turn`]). It never calls the application: what there is to do
//! goes into the queue of jobs, once per turn.
//!
//! Registration is edge-triggered and for both directions, once per connection: there is no system call to re-arm it.

mod accept;
mod client;
mod cluster;
mod conn;
mod deadlines;
mod files;
mod http;
mod proxy;
mod realtime;
mod request_id;
mod rush;
mod timers;
mod token;

use crate::command::{Command, Handle, Wires};
use crate::config::ReactorConfig;
use crate::conn::ConnHandle;
use crate::conn::ConnId;
use crate::episode::Episode;
use crate::hub::Hub;
use crate::job::{Job, Root};
use crate::link::Link;
use crate::listener::{BACKLOG, Listener};
use crate::notice::{Notice, Notices};
use crate::queue::{JobQueue, STALL, StallWatch};
use accept::Door;
use cluster::Channel;
use conn::Conn;
use deadlines::{Deadlines, Due};
use iodine_codec::http::request_id::Sequence;
use iodine_codec::link::Frame;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;
use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use timers::Running;
use token::{FIRST_CONN, slot_of, token_of};

/// Bytes read from a socket at a time.
const READ_BUFFER: usize = 64 * 1024;
/// How long jobs may wait unnoticed while app threads sleep; the poller knows no shorter time.
const STALL_CHECK: Duration = Duration::from_millis(1);
/// How soon to ask again for app threads that are missing: whoever is to replace them may have looked when one that had
/// left was not dead yet.
const CREW_CHECK: Duration = Duration::from_millis(10);
/// After so long without events the process counts as idle, for `on_idle`.
const IDLE_AFTER: Duration = Duration::from_millis(20);

// Tokens: connections are generation and slot, with generations from 1 on; all others are below.
const WAKER: Token = Token(0);
const MASTER_LINK: Token = Token(1);
const FIRST_LISTENER: usize = 1 << 8;
const FIRST_WORKER_LINK: usize = 1 << 16;

/// When so many connections have gone, much memory is free.
const CROWD: usize = 1000;
/// Nothing heard for so long: it is quiet.
const QUIET: Duration = Duration::from_secs(1);
/// A turn of which so many jobs come, or so many connections with a message to write, is a broad one.
const BROAD: usize = 256;
/// So long another one is expected.
const BROAD_FOR: Duration = Duration::from_millis(20);

/// See the module's text.
#[derive(Debug)]
pub struct Reactor {
    poll: Poll,
    /// For its handle, until it ends.
    _wires: Arc<Wires>,
    handle: Handle,
    config: ReactorConfig,
    /// Descriptors this process may have.
    descriptor_limit: u64,
    conns: Slab<Conn>,
    generation: u32,
    doors: Vec<Door>,
    master_link: Option<Link>,
    worker_links: HashMap<usize, Link>,
    /// What is heard in each worker, as far as it has told.
    worker_channels: HashMap<usize, HashSet<Channel>>,
    /// Links with something to send.
    unsent_links: bool,
    /// Links with more to hear than one turn allows: the master's, or that of the worker in this place.
    unheard_links: Vec<Option<usize>>,
    deadlines: Deadlines,
    timers: HashMap<u64, Running>,
    /// Those of them that will fire again, by their blocks.
    timers_by_root: HashMap<Root, u64>,
    next_timer: u64,
    /// Jobs of this turn; published at its end.
    jobs: Vec<Job>,
    /// Connections not read because the queue was full.
    starved: Vec<ConnId>,
    /// Connections with more to read than one turn allows.
    unfinished: Vec<ConnId>,
    /// Connections with more to write than one turn allows.
    unwritten: Vec<ConnId>,
    read_buffer: Box<[u8]>,
    phase: Phase,
    /// The time to drain was over before the connections were.
    cut_off: bool,
    stall: StallWatch,
    idle_wanted: bool,
    /// Whether something has happened since the process was last idle. Not that `on_idle` blocks were given: one that
    /// gives itself again would keep the process awake.
    was_active: bool,
    /// The time of this turn.
    now: Instant,
    /// When the poller last had something to tell.
    heard_at: Instant,
    /// That connections are refused at the door.
    refusing: Episode,
    /// Whether requests were answered in this turn that the application will not see.
    refused: bool,
    hub: Hub,
    /// Connections that were published to in this turn, and are written at its end: once, however many messages there were.
    published: Vec<ConnHandle>,
    /// Whether callbacks began lately: they write while they run, and then somebody should be there to notice.
    attentive: bool,
    /// Whether an app thread turns this.
    led: bool,
    /// Until when much comes of a turn: see [`BROAD`].
    broad_until: Instant,
    /// Ids for requests, from the first on that needs one.
    request_ids: Option<Sequence>,
    /// The most connections that there were since memory was last given back.
    peak: usize,
    /// Whether a [`Due::GiveBack`] is under way.
    giving_back: bool,
    /// Whether a [`Due::CloseFiles`] is under way: while files are kept open, and no longer.
    closing_files: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    Draining,
    Drained,
    Ended,
}

impl Reactor {
    /// A reactor with nothing to do yet. Its poller and its wake-up descriptor belong to this process: a fork that goes
    /// on must make its own.
    pub fn new(config: ReactorConfig) -> io::Result<Reactor> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let wires = Arc::new(Wires { waker, registry: poll.registry().try_clone()? });
        let handle = Handle::new(&wires, JobQueue::new(config.max_jobs), Notices::new()?);
        let now = Instant::now();
        Ok(Reactor {
            poll,
            _wires: wires,
            handle,
            config,
            descriptor_limit: crate::sys::raise_descriptor_limit(),
            conns: Slab::new(),
            generation: 0,
            doors: Vec::new(),
            master_link: None,
            worker_links: HashMap::new(),
            worker_channels: HashMap::new(),
            unsent_links: false,
            unheard_links: Vec::new(),
            deadlines: Deadlines::default(),
            timers: HashMap::new(),
            timers_by_root: HashMap::new(),
            next_timer: 0,
            jobs: Vec::new(),
            starved: Vec::new(),
            unfinished: Vec::new(),
            unwritten: Vec::new(),
            read_buffer: vec![0; READ_BUFFER].into_boxed_slice(),
            phase: Phase::Serving,
            cut_off: false,
            stall: StallWatch::new(now),
            idle_wanted: false,
            was_active: true,
            now,
            heard_at: now,
            refusing: Episode::new(),
            refused: false,
            hub: Hub::default(),
            published: Vec::new(),
            attentive: false,
            led: false,
            broad_until: now,
            request_ids: None,
            peak: 0,
            giving_back: false,
            closing_files: false,
        })
    }

    /// The way to this reactor from other threads.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Serves `listener` from here on.
    pub fn listen(&mut self, listener: Arc<Listener>) -> io::Result<()> {
        if self.is_draining() {
            return Ok(());
        }
        let token = Token(FIRST_LISTENER + self.doors.len());
        self.poll.registry().register(&mut SourceFd(&listener.as_raw_fd()), token, Interest::READABLE)?;
        self.doors.push(Door::new(listener));
        Ok(())
    }

    /// Whether it has ended: it is to be finished, and not to be turned any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// Ends what is left.
    pub(crate) fn finish(&mut self) {
        self.close_all();
        self.say_last_words();
        // What app threads left behind holds this reactor's handle, and so itself.
        self.handle.write_unwritten();
        // Whoever waits for an answer to a command learns that there will be none.
        while self.handle.next_command().is_some() {}
    }

    /// In a fork of the process that it belongs to: lets go of it. Its sockets are closed here, and go on there.
    pub fn abandon(self) {
        for (_, conn) in &self.conns {
            drop(conn.shared().lock().close());
        }
    }

    /// The poller's descriptor: readable when [`Reactor::turn`] would find something.
    pub fn descriptor(&self) -> RawFd {
        self.poll.as_raw_fd()
    }

    /// How long to wait for events, from now on woken by every command; `None` is for ever.
    pub fn prepare_wait(&self) -> Option<Duration> {
        if !self.handle.prepare_sleep() {
            return Some(Duration::ZERO);
        }
        let timeout = self.timeout();
        if timeout.is_some_and(|timeout| timeout <= STALL_CHECK) {
            self.handle.doze();
        }
        timeout
    }

    /// Waits for something to happen, at most for `timeout`, and handles it. Returns whether an app
    /// thread was woken for it.
    pub fn turn(&mut self, events: &mut Events, timeout: Option<Duration>) -> bool {
        self.wait(events, timeout);
        self.handle_events(events)
    }

    /// Waits for something to happen, at most for `timeout`.
    pub(crate) fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) {
        let polled = self.poll.poll(events, timeout);
        self.handle.woke();
        if let Err(error) = polled {
            events.clear();
            if error.kind() != io::ErrorKind::Interrupted {
                crate::log::message(crate::log::Level::Fatal, &format!("the reactor can not wait: {error}"));
                self.phase = Phase::Ended;
                self.handle.notices().post(Notice::Failed);
            }
        }
    }

    /// Handles what has happened. Returns whether an app thread was woken for it.
    pub(crate) fn handle_events(&mut self, events: &Events) -> bool {
        self.now = Instant::now();
        if !events.is_empty() {
            self.heard_at = self.now;
        }
        // Before the events: a connection that is known to be closed makes room for one at the door.
        self.handle_commands();
        // Before the events, too: what others go on saying does not put off the end.
        let settled = self.is_deserted() && self.is_settled();
        for event in events.iter() {
            self.handle_event(event.token(), Readiness::of(event));
        }
        for id in std::mem::take(&mut self.unfinished) {
            self.handle_readable(id);
        }
        self.hear_on();
        for id in std::mem::take(&mut self.unwritten) {
            self.go_on_writing(id);
        }
        self.handle_commands();
        self.handle_deadlines();
        self.notice_idleness();
        if self.published.len().max(self.jobs.len()) >= BROAD {
            self.broad_until = self.now + BROAD_FOR;
        }
        self.write_published();
        self.flush_links();
        self.attentive = self.jobs.iter().any(|job| matches!(job, Job::Events(_)));
        let woke = self.handle.jobs().publish(&mut self.jobs);
        self.handle.release_held(self.now);
        let unwritten = self.handle.unwritten() > 0;
        if self.handle.jobs().relieve(&mut self.stall, self.now, unwritten) {
            // Whoever made these answers is held up by what came behind them.
            self.handle.write_unwritten();
        }
        if std::mem::take(&mut self.refused) {
            self.handle.write_unwritten();
        }
        if self.handle.jobs().is_short_handed() {
            self.handle.notices().wake();
        }
        // Only now: what the last connections lead to is in the queue, if it has not been run.
        if self.is_deserted() && (self.cut_off || settled) {
            self.phase = Phase::Drained;
            let notice = if self.cut_off { Notice::DrainTimedOut } else { Notice::Drained };
            self.handle.notices().post(notice);
        }
        woke
    }

    /// Whether the server ends and its clients are gone.
    fn is_deserted(&self) -> bool {
        let outlasts = |(_, conn): (usize, &Conn)| conn.shared().service().realtime.outlasts;
        let closed = !self.doors.iter().any(Door::is_open);
        self.phase == Phase::Draining && closed && self.conns.iter().all(outlasts)
    }

    /// Whether the application has run all there was to run, and nothing has come of it that is still to be done.
    fn is_settled(&self) -> bool {
        // In this order: commands come from jobs.
        self.jobs.is_empty()
            && self.handle.jobs().is_at_rest(usize::from(self.led))
            && !self.handle.has_commands()
    }

    /// Whether so much has come of a turn lately that it is better not turned by an app thread: while messages go out to
    /// many, more are published, and join them.
    pub(crate) fn is_broad(&self) -> bool {
        self.now < self.broad_until
    }

    /// Says whether an app thread turns this: it is awake, and at rest all the same.
    pub(crate) fn set_led(&mut self, led: bool) {
        self.led = led;
    }

    /// Says that this was not turned for a while: what waits has waited for long enough.
    pub(crate) fn take_over(&mut self) {
        self.handle.write_unwritten();
        let taken = self.handle.jobs().taken();
        if let Some(since) = Instant::now().checked_sub(STALL) {
            self.stall = StallWatch::seen(taken, since);
        }
        self.handle.send(Command::LookAround);
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.unfinished.is_empty() || !self.unwritten.is_empty() || !self.unheard_links.is_empty() {
            return Some(Duration::ZERO);
        }
        let due = self.deadlines.next().map(|at| at.saturating_duration_since(Instant::now()));
        let watched = self.handle.unwritten() > 0
            || self.handle.held() > 0
            || self.handle.jobs().may_stall()
            || self.handle.jobs().may_hold_up()
            || self.attentive
            || self.is_deserted();
        let stall = watched.then_some(STALL_CHECK);
        let crew = self.handle.jobs().is_short_handed().then_some(CREW_CHECK);
        let idle = (self.idle_wanted && self.was_active).then_some(IDLE_AFTER);
        [due, stall, crew, idle].into_iter().flatten().min()
    }

    fn handle_event(&mut self, token: Token, ready: Readiness) {
        match token {
            WAKER => {}
            MASTER_LINK => self.hear_master(),
            Token(number) if number >= FIRST_CONN => {
                self.was_active = true;
                let named = self.conns.get(slot_of(number)).map(Conn::id);
                // It may have been closed in this turn, and its slot be another's.
                if let Some(id) = named.filter(|id| token_of(*id) == token) {
                    self.handle_conn(id, ready);
                }
            }
            Token(number) if number >= FIRST_WORKER_LINK => {
                self.was_active = true;
                self.hear_worker(number - FIRST_WORKER_LINK);
            }
            Token(number) => {
                self.was_active = true;
                self.accept(number - FIRST_LISTENER);
            }
        }
    }

    fn handle_commands(&mut self) {
        while let Some(command) = self.handle.next_command() {
            self.handle_command(command);
        }
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Flush => self.handle.write_unwritten(),
            Command::Write(conn) => {
                conn.flush();
            }
            Command::Abandon(conn, number) => conn.abandon(number),
            Command::Blocked(id) => self.watch_writing(id),
            Command::WriteOn(id) => self.write_on(id),
            Command::Resume(id) => self.resume(id),
            Command::Linger(id) => self.linger(id),
            Command::Closed(id) => self.remove(id),
            Command::CloseSoon(id) => self.close_soon(id),
            Command::Look(id) => self.watch(id),
            Command::Connect(outgoing) => self.connect(*outgoing),
            Command::Attach(attached) => self.attach(*attached),
            Command::Subscribe(subscription) => self.hub.subscribe(subscription),
            Command::Unsubscribe(subscription) => self.hub.unsubscribe(&subscription),
            Command::Publish(scope, message) => self.publish(scope, &message),
            Command::QueueHasRoom => self.feed_starved(),
            Command::Listen(listener) => {
                if let Err(error) = self.listen(listener) {
                    crate::log::message(
                        crate::log::Level::Error,
                        &format!("can not serve a listener: {error}"),
                    );
                }
            }
            Command::Adopt { slot, link } => self.adopt(slot, *link),
            Command::StopWorker(slot) => self.say_to_worker(slot, &Frame::Stop),
            Command::Ready => self.say_to_master(&Frame::Ready),
            Command::Channel { name, pattern, heard } => {
                self.say_to_master(&Frame::Channel { name: &name, pattern, heard })
            }
            Command::Ask { engine, id, bytes } => {
                self.say_to_master(&Frame::Ask { engine, id, bytes: &bytes })
            }
            Command::Reply { slot, id, bytes } => {
                self.say_to_worker(slot, &Frame::Reply { id, bytes: &bytes })
            }
            Command::AddTimer(timer) => self.add_timer(timer),
            Command::CancelTimer(root) => self.cancel_timer(root),
            Command::TimerDone(id) => self.rearm_timer(id),
            Command::WantIdle => self.idle_wanted = true,
            Command::Shutdown(until) => self.shut_down(until),
            Command::LookAround => {}
            Command::Exit => self.phase = Phase::Ended,
        }
    }

    fn handle_deadlines(&mut self) {
        while let Some(due) = self.deadlines.pop(self.now) {
            match due {
                Due::Conn(id) => self.handle_deadline(id),
                Due::Timer(id) => self.fire_timer(id),
                Due::Accept(door) => self.accept_late(door),
                Due::Undefer(door) => {
                    self.undefer(door);
                }
                Due::CloseDoor(door) => self.close_door(door),
                Due::DrainEnd => self.cut_off(),
                Due::GiveBack => self.give_back(),
                Due::CloseFiles => self.close_files(),
            }
        }
    }

    // --- idleness -----------------------------------------------------------------------------------------------

    fn notice_idleness(&mut self) {
        let quiet = self.now.duration_since(self.heard_at) >= IDLE_AFTER;
        if !(quiet && self.idle_wanted && self.was_active)
            || self.handle.jobs().waiting() > 0
            || !self.jobs.is_empty()
        {
            return;
        }
        self.was_active = false;
        self.idle_wanted = false;
        self.jobs.push(Job::Idle);
    }

    /// To be called when a connection has gone.
    fn note_crowd(&mut self) {
        self.peak = self.peak.max(self.conns.len() + 1);
        if !self.giving_back && self.peak.saturating_sub(self.conns.len()) >= CROWD && !self.is_draining() {
            self.giving_back = true;
            self.deadlines.add(self.now + QUIET, Due::GiveBack);
        }
    }

    /// What a crowd has left behind goes back to the system when it is quiet: that takes a while.
    fn give_back(&mut self) {
        let quiet_at = self.heard_at + QUIET;
        if self.now < quiet_at {
            return self.deadlines.add(quiet_at, Due::GiveBack);
        }
        self.giving_back = false;
        if self.peak.saturating_sub(self.conns.len()) >= CROWD && !self.is_draining() {
            self.jobs.push(Job::GiveBack);
        }
        self.peak = self.conns.len();
    }

    // --- the end ------------------------------------------------------------------------------------------------

    fn shut_down(&mut self, until: Instant) {
        if self.phase != Phase::Serving {
            // A second request to stop brings the end of the drain forward.
            return self.deadlines.add(until, Due::DrainEnd);
        }
        self.phase = Phase::Draining;
        self.handle.set_draining();
        self.show_count();
        self.drop_timers();
        self.close_doors(BACKLOG as usize);
        let ids: Vec<ConnId> = self.conns.iter().map(|(_, conn)| conn.id()).collect();
        ids.into_iter().for_each(|id| self.close_when_idle(id));
        self.deadlines.add(until, Due::DrainEnd);
    }

    fn cut_off(&mut self) {
        if self.phase != Phase::Draining {
            return;
        }
        (0..self.doors.len()).for_each(|door| self.close_door(door));
        self.close_all();
        self.cut_off = true;
    }

    /// Closes, rather than drops: a connection whose lane holds jobs of its own would live on in them.
    fn close_all(&mut self) {
        let ids: Vec<ConnId> = self.conns.iter().map(|(_, conn)| conn.id()).collect();
        ids.into_iter().for_each(|id| self.remove(id));
    }
}

/// What an event says about a socket.
#[derive(Clone, Copy, Debug)]
struct Readiness {
    readable: bool,
    writable: bool,
    /// The peer will send no more: read until the end is seen, for there will be no further event.
    read_closed: bool,
    broken: bool,
}

impl Readiness {
    fn of(event: &mio::event::Event) -> Readiness {
        Readiness {
            readable: event.is_readable(),
            // Where nobody reads any more a write tells so.
            writable: event.is_writable() || event.is_write_closed(),
            read_closed: event.is_read_closed(),
            broken: event.is_error(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Timer;

    #[test]
    fn a_turn_of_which_much_comes_is_broad_for_a_while() {
        let mut reactor = Reactor::new(ReactorConfig::default()).unwrap();
        let mut events = Events::with_capacity(1);
        for (count, broad) in [(BROAD - 1, false), (BROAD, true)] {
            for root in 0..count {
                let timer = Timer { root: root as Root, every: Duration::ZERO, times: Some(1) };
                reactor.handle.send(Command::AddTimer(timer));
            }
            reactor.turn(&mut events, Some(Duration::ZERO));
            assert_eq!((reactor.handle.jobs().drain().len(), reactor.is_broad()), (count, broad));
        }
        let until = Instant::now() + BROAD_FOR;
        while Instant::now() < until {
            reactor.turn(&mut events, Some(BROAD_FOR));
        }
        reactor.turn(&mut events, Some(Duration::ZERO));
        assert!(!reactor.is_broad());
    }

    #[test]
    fn memory_is_given_back_when_a_crowd_has_gone_and_it_is_quiet() {
        let mut reactor = Reactor::new(ReactorConfig::default()).unwrap();
        let mut events = Events::with_capacity(1);
        for (peak, given) in [(CROWD - 1, 0), (CROWD, 1)] {
            reactor.peak = peak;
            reactor.note_crowd();
            reactor.note_crowd();
            let end = reactor.now + QUIET;
            while Instant::now() < end {
                assert_eq!(reactor.handle.jobs().waiting(), 0);
                let timeout = reactor.prepare_wait().map_or(QUIET, |due| due.min(QUIET));
                reactor.turn(&mut events, Some(timeout));
            }
            reactor.turn(&mut events, Some(Duration::ZERO));
            let jobs = reactor.handle.jobs().drain();
            assert_eq!(jobs.iter().filter(|job| matches!(job, Job::GiveBack)).count(), given);
        }
    }

    /// Nobody waits for longer than it takes to accept as many as the kernel holds.
    #[test]
    fn the_doors_close_whoever_still_comes() {
        use crate::config::{HttpConfig, Service};
        use crate::listener::{Address, BindSpec};
        let spec = BindSpec::Tcp { host: Some("127.0.0.1".into()), port: 0 };
        let service = |port| Service::http(0, HttpConfig::default(), port);
        let listener = Arc::new(Listener::bind(&spec, service).unwrap().remove(0));
        let Address::Tcp(address) = *listener.address() else { panic!("not TCP") };
        let clients: Vec<_> = (0..5).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let mut reactor = Reactor::new(ReactorConfig::default()).unwrap();
        reactor.listen(listener).unwrap();
        reactor.close_doors(2);
        assert_eq!(reactor.conns.len(), 2);
        reactor.accept(0);
        assert_eq!((reactor.conns.len(), clients.len()), (2, 5));
    }
}
