//! `Command`: all that anyone ever asks of the reactor, and the [`Handle`] by which they ask.

use crate::conn::{ConnHandle, ConnId};
use crate::hub::{Message, Subscription};
use crate::job::Root;
use crate::link::Link;
use crate::listener::Listener;
use crate::notice::Notices;
use crate::outgoing::{Attached, Outgoing};
use crate::overload::Overload;
use crate::producer::HOLD;
use crate::queue::JobQueue;
use crossbeam_queue::SegQueue;
use iodine_codec::link::Scope;
use mio::unix::SourceFd;
use mio::{Registry, Waker};
use std::os::fd::RawFd;
use std::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
    fence,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// A request to the reactor.
#[derive(Debug)]
pub enum Command {
    /// Write the answers that app threads have left with [`Handle::leave_unwritten`].
    Flush,
    /// Write what waits on this connection.
    Write(ConnHandle),
    /// The producer of this answer of the connection was lost before the answer was whole.
    Abandon(ConnHandle, u64),
    /// The connection's socket takes no more; watch that the client reads on.
    Blocked(ConnId),
    /// The connection has more to write, and its socket takes it.
    WriteOn(ConnId),
    /// The connection has room for more requests, or what it waited for is done.
    Resume(ConnId),
    /// The last answer is written; read what still comes, for a while, and close.
    Linger(ConnId),
    /// The connection's socket is closed or given away.
    Closed(ConnId),
    /// A real-time connection has said its goodbye: it is closed before long, whatever the peer does.
    CloseSoon(ConnId),
    /// The timeout of a real-time connection was changed.
    Look(ConnId),
    /// Make a connection.
    Connect(Box<Outgoing>),
    /// Take over a socket of the application's.
    Attach(Box<Attached>),
    /// From here on the subscription hears what is published.
    Subscribe(Arc<Subscription>),
    /// It hears nothing more.
    Unsubscribe(Arc<Subscription>),
    /// To all that hear its channel, in the processes of the scope.
    Publish(Scope, Arc<Message>),
    /// Worker: somebody in it hears this channel from here on, or nobody does any more.
    Channel {
        /// The channel or the pattern.
        name: Arc<[u8]>,
        /// Whether it is a pattern.
        pattern: bool,
        /// Whether there is somebody.
        heard: bool,
    },
    /// Worker: something for an engine of the root.
    Ask {
        /// Which engine.
        engine: u32,
        /// What the reply is to be called; 0 if none is wanted.
        id: u64,
        /// What is asked.
        bytes: Vec<u8>,
    },
    /// Master: the reply to what a worker has asked.
    Reply {
        /// The worker's place.
        slot: usize,
        /// What the worker calls it.
        id: u64,
        /// The reply.
        bytes: Vec<u8>,
    },
    /// Jobs may be pushed again after the queue was full.
    QueueHasRoom,
    /// Serve a listener.
    Listen(Arc<Listener>),
    /// Master: look after a worker's link.
    Adopt {
        /// The worker's place.
        slot: usize,
        /// The master's end.
        link: Box<Link>,
    },
    /// Master: ask the worker in this place to end.
    StopWorker(usize),
    /// Worker: tell the master that this worker serves.
    Ready,
    /// Run a block after a while, once or repeatedly.
    AddTimer(Timer),
    /// The timer of this block is not to run any more. What it has in the queue of jobs stays there.
    CancelTimer(Root),
    /// A timer's block has run.
    TimerDone(u64),
    /// There are `on_idle` blocks: a [`crate::Job::Idle`] is wanted when there is nothing to do.
    WantIdle,
    /// Look around: unlike [`Handle::wake`] this is heard by a reactor that was about to sleep, too.
    LookAround,
    /// Accept no more, close what is idle, finish the rest until the instant given.
    Shutdown(Instant),
    /// End the reactor.
    Exit,
}

/// A block to run later.
#[derive(Clone, Copy, Debug)]
pub struct Timer {
    /// The block.
    pub root: Root,
    /// From now, and between repetitions.
    pub every: Duration,
    /// Times to run; `None` for ever.
    pub times: Option<u64>,
}

/// What reaches a reactor's poller. The reactor's own: a handle may be kept for as long as the application keeps anything
/// of a connection, and these are descriptors.
#[derive(Debug)]
pub(crate) struct Wires {
    pub(crate) waker: Waker,
    pub(crate) registry: Registry,
}

/// The way to a reactor from any thread; clones share it.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    commands: SegQueue<Command>,
    /// Whether the reactor is in its poll, or about to be: only then a wake-up costs a system call.
    asleep: AtomicBool,
    /// Whether it will look around within a millisecond or so by itself.
    dozing: AtomicBool,
    /// Whether it is turned by somebody who does nothing else.
    attended: AtomicBool,
    /// Gone with the reactor.
    wires: Weak<Wires>,
    draining: AtomicBool,
    jobs: JobQueue,
    notices: Notices,
    overload: Overload,
    /// Connections with answers that nobody writes yet. Bounded by the connections there are.
    unwritten: Mutex<Vec<ConnHandle>>,
    unwritten_count: AtomicUsize,
    /// Answers held back by their producers, and since when. Bounded by the connections there are.
    held: Mutex<Vec<(ConnHandle, u64, Instant)>>,
    held_count: AtomicUsize,
}

impl Handle {
    pub(crate) fn new(wires: &Arc<Wires>, jobs: JobQueue, notices: Notices) -> Handle {
        Handle {
            shared: Arc::new(Shared {
                commands: SegQueue::new(),
                asleep: AtomicBool::new(false),
                dozing: AtomicBool::new(false),
                attended: AtomicBool::new(true),
                wires: Arc::downgrade(wires),
                draining: AtomicBool::new(false),
                jobs,
                notices,
                overload: Overload::default(),
                unwritten: Mutex::default(),
                unwritten_count: AtomicUsize::new(0),
                held: Mutex::default(),
                held_count: AtomicUsize::new(0),
            }),
        }
    }

    /// Asks for `command`, at once.
    pub fn send(&self, command: Command) {
        self.shared.commands.push(command);
        self.wake();
    }

    /// Asks for `command` when the reactor next has something to do anyway; at once when the server is ending, because
    /// then the reactor waits for connections to be gone.
    pub fn send_lazily(&self, command: Command) {
        self.shared.commands.push(command);
        if self.is_draining() {
            self.wake();
        }
    }

    /// Wakes the reactor: one system call per sleep, however many ask.
    pub fn wake(&self) {
        // Either this sees that the reactor sleeps, or the reactor, before it sleeps, sees what this is about.
        fence(SeqCst);
        if self.shared.asleep.swap(false, SeqCst) {
            // Without the poller nobody sleeps in it.
            let _ = self.shared.wires.upgrade().map(|wires| wires.waker.wake());
        }
    }

    /// Has the reactor look around within a millisecond or so.
    pub fn watch(&self) {
        // As in `wake`: a reactor that is about to sleep sees what this is about.
        fence(SeqCst);
        if !self.shared.dozing.load(SeqCst) {
            self.wake();
        }
    }

    /// Remembers that the answer `number` of `conn` is held back, for a moment.
    pub(crate) fn hold(&self, conn: &ConnHandle, number: u64) {
        let mut held = self.shared.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.push((conn.clone(), number, Instant::now()));
        self.shared.held_count.store(held.len(), Relaxed);
        drop(held);
        self.watch();
    }

    /// Answers that may be held back.
    pub(crate) fn held(&self) -> usize {
        self.shared.held_count.load(Relaxed)
    }

    /// Lets go of the answers that were held back for long enough.
    pub(crate) fn release_held(&self, now: Instant) {
        if self.held() == 0 {
            return;
        }
        let mut held = self.shared.held.lock().unwrap_or_else(PoisonError::into_inner);
        // In the order of their beginning.
        let count = held.iter().take_while(|(_, _, since)| now.duration_since(*since) >= HOLD).count();
        let due: Vec<_> = held.drain(..count).collect();
        self.shared.held_count.store(held.len(), Relaxed);
        drop(held);
        for (conn, number, _) in due {
            conn.release_held(number);
        }
    }

    /// Remembers that `conn` has an answer to write. It is for the app thread to write it soon, or to ask for
    /// [`Command::Flush`]; when it is held up by a job instead, the reactor writes it.
    pub fn leave_unwritten(&self, conn: ConnHandle) {
        let mut unwritten = self.lock_unwritten();
        // Pipelined requests answer one after the other.
        if unwritten.last().is_none_or(|last| !Arc::ptr_eq(last, &conn)) {
            unwritten.push(conn);
            self.shared.unwritten_count.store(unwritten.len(), Relaxed);
        }
    }

    /// Connections left by [`Handle::leave_unwritten`].
    pub fn unwritten(&self) -> usize {
        self.shared.unwritten_count.load(Relaxed)
    }

    /// Writes what was left to be written. Without the GVL.
    pub fn write_unwritten(&self) {
        if self.unwritten() == 0 {
            return;
        }
        let conns = {
            let mut unwritten = self.lock_unwritten();
            self.shared.unwritten_count.store(0, Relaxed);
            std::mem::take(&mut *unwritten)
        };
        for conn in conns {
            conn.flush();
        }
    }

    fn lock_unwritten(&self) -> MutexGuard<'_, Vec<ConnHandle>> {
        self.shared.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The jobs that wait for the application.
    pub fn jobs(&self) -> &JobQueue {
        &self.shared.jobs
    }

    /// What the reactor has to say to the thread that started it.
    pub fn notices(&self) -> &Notices {
        &self.shared.notices
    }

    /// What is remembered of refusing requests.
    pub(crate) fn overload(&self) -> &Overload {
        &self.shared.overload
    }

    /// Whether the server is ending: answers then close their connections.
    pub fn is_draining(&self) -> bool {
        self.shared.draining.load(SeqCst)
    }

    pub(crate) fn set_draining(&self) {
        self.shared.draining.store(true, SeqCst);
    }

    /// The poller forgets a socket that is about to be given away. Before that, because later its number may be
    /// somebody else's.
    pub(crate) fn forget_socket(&self, fd: RawFd) {
        let _ = self.shared.wires.upgrade().map(|wires| wires.registry.deregister(&mut SourceFd(&fd)));
    }

    pub(crate) fn next_command(&self) -> Option<Command> {
        self.shared.commands.pop()
    }

    pub(crate) fn has_commands(&self) -> bool {
        !self.shared.commands.is_empty()
    }

    /// Says that the reactor is about to sleep. False when commands wait: then it must not.
    pub(crate) fn prepare_sleep(&self) -> bool {
        self.shared.asleep.store(true, SeqCst);
        fence(SeqCst);
        if self.shared.commands.is_empty() {
            return true;
        }
        self.shared.asleep.store(false, SeqCst);
        false
    }

    /// Whether somebody turns the reactor who does nothing else, so that answers can be left to it ([`Command::Flush`]). Else
    /// whoever makes them writes them.
    pub fn is_attended(&self) -> bool {
        self.shared.attended.load(Relaxed)
    }

    pub(crate) fn set_attended(&self, attended: bool) {
        self.shared.attended.store(attended, Relaxed);
    }

    /// Says that the sleep will be a short one. Only between [`Handle::prepare_sleep`] and [`Handle::woke`].
    pub(crate) fn doze(&self) {
        self.shared.dozing.store(true, SeqCst);
    }

    pub(crate) fn woke(&self) {
        self.shared.asleep.store(false, SeqCst);
        self.shared.dozing.store(false, SeqCst);
    }
}
