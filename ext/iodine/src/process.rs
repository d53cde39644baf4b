//! The server's state in this process, as the Ruby side sees it: listeners, and the reactor of the worker or the master.
//!
//! Everything here is called with the GVL, and the lock is never held across a call into Ruby or a wait, so that a fork
//! finds it open.

use crate::realtime::subscriptions;
use crate::{gvl, roots, timers};
use iodine_core::command::{Command, Handle};
use iodine_core::link::Link;
use iodine_core::log::{Destination, Writer};
use iodine_core::sys::Board;
use iodine_core::{Lead, Listener, Reactor, ReactorConfig, Root};
use mio::Events;
use std::collections::HashSet;
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

static STATE: Mutex<State> = Mutex::new(State {
    listeners: Vec::new(),
    role: Role::Idle,
    board: None,
    nursery: None,
    handle: None,
    lead: None,
});

struct State {
    listeners: Vec<Arc<Listener>>,
    role: Role,
    board: Option<Board>,
    /// Both ends of the link of the worker that is about to be forked, and its place.
    nursery: Option<(usize, Link, Link)>,
    /// The way to the reactor, while there is one.
    handle: Option<Handle>,
    /// Who turns it, in a process that serves.
    lead: Option<Lead>,
}

enum Role {
    /// No server runs.
    Idle,
    /// This process serves: app threads turn the reactor, or the standby, whose thread this is.
    Worker { thread: JoinHandle<()>, log: Writer },
    /// This process looks after workers. Its only thread turns the reactor.
    Master(Box<Master>),
}

struct Master {
    reactor: Reactor,
    events: Events,
}

/// Remembers `listeners`; a serving process starts on them at once.
pub fn add_listeners(listeners: Vec<Listener>) {
    let mut state = lock();
    for listener in listeners.into_iter().map(Arc::new) {
        let State { role, handle, .. } = &mut *state;
        if let (Role::Worker { log, .. }, Some(handle)) = (role, handle) {
            // Without a thread of its own lines are written by whoever has them.
            let _ = log_of(&listener).map_or(Ok(()), |destination| log.add(destination));
            handle.send(Command::Listen(listener.clone()));
        }
        state.listeners.push(listener);
    }
}

/// Where answers to requests that come this way are logged.
fn log_of(listener: &Listener) -> Option<Destination> {
    listener.service().http.log.as_ref().map(|log| log.destination.clone())
}

/// Closes all listeners, which nobody serves any more; `unlink` removes the files of Unix sockets.
pub fn close_listeners(unlink: bool) {
    let listeners = std::mem::take(&mut lock().listeners);
    if unlink {
        listeners.iter().for_each(|listener| listener.unlink());
    }
    // Several listeners may have one application.
    let apps: HashSet<Root> = listeners.iter().map(|listener| listener.service().app).collect();
    apps.into_iter().for_each(roots::release);
}

/// The way to this process's reactor, while there is one.
pub fn handle() -> Option<Handle> {
    lock().handle.clone()
}

/// Who turns the reactor of a process that serves.
pub fn lead() -> Option<Lead> {
    lock().lead.clone()
}

/// Starts serving in this process. A forked worker names its `slot`.
pub fn start_worker(slot: Option<usize>, mut config: ReactorConfig) -> io::Result<()> {
    roots::serve();
    let mut state = lock();
    let link = match (slot, state.nursery.take()) {
        (Some(slot), Some((named, _, ours))) if named == slot => {
            config.place = state.board.map(|board| (board, slot));
            Some(ours)
        }
        _ => None,
    };
    if let Some((board, slot)) = &config.place {
        board.set(*slot, 0);
    }
    let mut reactor = Reactor::new(config)?;
    for listener in &state.listeners {
        reactor.listen(listener.clone())?;
    }
    if let Some(link) = link {
        reactor.follow(link)?;
    }
    subscriptions::announce(reactor.handle());
    state.handle = Some(reactor.handle().clone());
    let log = Writer::start(state.listeners.iter().filter_map(|listener| log_of(listener)))?;
    let (lead, standby) = Lead::new(reactor);
    state.lead = Some(lead);
    let thread = std::thread::Builder::new().name("iodine-reactor".into()).spawn(move || standby.run())?;
    state.role = Role::Worker { thread, log };
    Ok(())
}

/// Ends the reactor of this process and waits for its thread, which ends at once; then for the log.
pub fn stop_worker() {
    let (role, handle) = {
        let mut state = lock();
        state.lead = None;
        (std::mem::replace(&mut state.role, Role::Idle), state.handle.take())
    };
    let Role::Worker { thread, log } = role else { return };
    if let Some(handle) = &handle {
        handle.send(Command::Exit);
    }
    gvl::without(
        move || {
            let _ = thread.join();
            drop(log);
        },
        || {},
    );
    close_notices(handle);
    timers::release_all();
}

/// The application may keep what holds this handle.
fn close_notices(handle: Option<Handle>) {
    if let Some(handle) = handle {
        handle.notices().close();
    }
}

/// Becomes the master of a cluster with places for `slots` workers.
pub fn start_master(slots: usize) -> io::Result<()> {
    let mut state = lock();
    let reactor = Reactor::new(ReactorConfig::default())?;
    subscriptions::announce(reactor.handle());
    state.board = Some(Board::new(slots)?);
    state.handle = Some(reactor.handle().clone());
    state.role = Role::Master(Box::new(Master { reactor, events: Events::with_capacity(64) }));
    Ok(())
}

/// In a worker that was forked just now: what the master has is not this process's. What the application asks for from here
/// on waits for a reactor of its own.
pub fn leave_master() {
    let mut state = lock();
    close_notices(state.handle.take());
    // Dropping closes the copies of the master's descriptors; its poller keeps what it has registered.
    if let Role::Master(master) = std::mem::replace(&mut state.role, Role::Idle) {
        master.reactor.abandon();
    }
    subscriptions::leave_root();
    timers::release_all();
}

/// The end of the master's part.
pub fn stop_master() {
    let mut state = lock();
    if matches!(state.role, Role::Master(_)) {
        state.role = Role::Idle;
        close_notices(state.handle.take());
        state.board = None;
        timers::release_all();
    }
}

/// Before the fork of the worker for `slot`: makes its link.
pub fn prepare_worker(slot: usize) -> io::Result<()> {
    let (ours, theirs) = Link::pair()?;
    lock().nursery = Some((slot, ours, theirs));
    Ok(())
}

/// After the fork, in the master: looks after the worker's link, or drops it when the fork failed.
pub fn adopt_worker(slot: usize, forked: bool) {
    let mut state = lock();
    let Some((_, link, _)) = state.nursery.take_if(|(named, _, _)| *named == slot) else { return };
    if let (true, Some(handle)) = (forked, &state.handle) {
        handle.send(Command::Adopt { slot, link: Box::new(link) });
    }
}

/// The worker in `slot` has been reaped.
pub fn vacate(slot: usize) {
    let mut state = lock();
    if let Some(board) = state.board {
        board.vacate(slot);
    }
    if let Role::Master(master) = &mut state.role {
        master.reactor.bury_worker(slot);
    }
}

/// Master: the descriptor to wait for before [`turn`], and for how long at most.
pub fn prepare_turn() -> Option<(RawFd, Option<Duration>)> {
    match &lock().role {
        Role::Master(master) => Some((master.reactor.descriptor(), master.reactor.prepare_wait())),
        _ => None,
    }
}

/// Master: handles what has happened. Never waits. Does nothing in other processes.
pub fn turn() {
    if let Role::Master(master) = &mut lock().role {
        let Master { reactor, events } = &mut **master;
        reactor.turn(events, Some(Duration::ZERO));
    }
}

/// Asks the reactor to finish what is under way within `timeout`.
pub fn shut_down(timeout: Duration) {
    if let Some(handle) = handle() {
        handle.send(Command::Shutdown(Instant::now() + timeout));
    }
}

/// For a forked child: leaves everything as it lies. Nothing is dropped, because threads are gone that hold its locks.
pub fn forget() {
    let mut state = lock();
    std::mem::forget(std::mem::take(&mut state.listeners));
    std::mem::forget(std::mem::replace(&mut state.role, Role::Idle));
    std::mem::forget(state.handle.take());
    std::mem::forget(state.lead.take());
    std::mem::forget(state.nursery.take());
    state.board = None;
}

fn lock() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}
