//! App threads: Ruby threads that run jobs.
//!
//! A thread takes the GVL once and runs jobs until none waits. Then it leaves the GVL, writes the answers itself and, while jobs
//! are instant, turns the reactor. Where the standby does that, it writes many answers meanwhile, on another core.

use crate::rack::{self, Callbacks, Outcome, answer_request, report_error};
use crate::{allocator, api, fork, gvl, process, realtime, roots, timers};
use iodine_codec::http::RequestHead;
use iodine_core::access_log::Lines;
use iodine_core::command::{Command, Handle};
use iodine_core::queue::Taken;
use iodine_core::{Answered, AppThread, ConnHandle, Job, Request, Root};
use magnus::rb_sys::FromRawValue;
use magnus::value::ReprValue;
use magnus::{Error, Ruby, Value};
use rb_sys::{ID, VALUE};
use std::ffi::c_long;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// Fewer answers a thread writes itself when no job waits: a lone request costs no hop to another thread.
const WRITE_FEW: usize = 5;
/// So many answers gather, while jobs wait, before the reactor is asked to write them. More than a few are better
/// written by the thread that reads the sockets, too: what the kernel keeps of them stays on one core.
const HAND_OVER: usize = 32;
/// Jobs run between two looks at what is pending for this thread.
const CHECK_EVERY: usize = 64;

/// Runs jobs until the queue ends. Returns an error only to let the thread die of it.
pub fn work(ruby: &Ruby) -> Result<(), Error> {
    let Some(handle) = process::handle() else { return Ok(()) };
    realtime::set_in_batch(true);
    let mut thread = handle.jobs().enter();
    let mut runner = Runner { handle, answered: Vec::new(), lines: Lines::default(), killed: None };
    if let Some(lead) = process::lead() {
        thread.follow(lead);
    }
    let interrupter = thread.interrupter();
    loop {
        let taken = {
            let (runner, thread) = (&mut runner, &mut thread);
            gvl::without(
                || {
                    thread.finish_job();
                    runner.write_out(thread.leads());
                    thread.wait(|| runner.handle.wake())
                },
                || interrupter.interrupt(),
            )
        };
        if fork::is_inert() {
            return abandon(runner, thread);
        }
        let job = match taken {
            Some((Taken::Job(job), room)) => {
                runner.note_room(room);
                Some(job)
            }
            Some((Taken::Ended, _)) => return Ok(()),
            Some((Taken::Interrupted, _)) | None => None,
        };
        // What is pending for this thread must not strike the job, which has nothing to do with it.
        runner.killed = gvl::check_interrupts().err().and_then(report_error);
        match (job, &runner.killed) {
            (Some(job), None) => runner.run_all(ruby, &mut thread, job),
            (Some(job), Some(_)) => runner.handle.jobs().put_back(job),
            (None, _) => {}
        }
        if fork::is_inert() {
            return abandon(runner, thread);
        }
        if let Some(error) = runner.killed.take() {
            // Nothing may be pending for the thread itself any more, so this can not be refused for long.
            let _ = gvl::without(|| runner.write_out(false), || {});
            runner.hand_over();
            // The reactor sees to it that this thread is missed, even if its last words in Ruby are cut off by another kill.
            drop(thread);
            runner.handle.wake();
            return Err(error);
        }
    }
}

/// Runs the jobs that wait now, on the calling thread: for the master, which has no app threads. Returns whether there are
/// more.
pub fn run_waiting(ruby: &Ruby) -> Result<bool, Error> {
    let Some(handle) = process::handle() else { return Ok(false) };
    let mut thread = handle.jobs().enter();
    let mut runner = Runner { handle, answered: Vec::new(), lines: Lines::default(), killed: None };
    // What these jobs add is left for the next time, so that signals and workers get their turn.
    for _ in 0..runner.handle.jobs().waiting() {
        let Some((job, room)) = thread.take(None) else { break };
        runner.note_room(room);
        runner.run(ruby, job);
        if fork::is_inert() {
            return abandon(runner, thread).map(|()| false);
        }
    }
    let more = runner.handle.jobs().waiting() > 0;
    runner.killed.take().map_or(Ok(more), Err)
}

/// A forked child of the application: its copy of the thread ends without touching what it holds. What the application has
/// raised there, such as the SystemExit of `exit`, is the end of the child.
fn abandon(mut runner: Runner, thread: AppThread) -> Result<(), Error> {
    let raised = runner.killed.take();
    std::mem::forget(runner);
    std::mem::forget(thread);
    raised.map_or(Ok(()), Err)
}

struct Runner {
    handle: Handle,
    /// Answers to log.
    answered: Vec<Line>,
    lines: Lines,
    killed: Option<Error>,
}

// SAFETY: it crosses to no other thread: `without` runs its work on the calling one. `killed`, its only Ruby value, is
// not looked at there.
unsafe impl Send for Runner {}

struct Line {
    conn: ConnHandle,
    head: RequestHead,
    status: u16,
    length: u64,
    started: Instant,
    at: Instant,
}

impl Runner {
    fn run_all(&mut self, ruby: &Ruby, thread: &mut AppThread, first: Job) {
        let mut ended = self.run(ruby, first);
        for _ in 0..CHECK_EVERY {
            if self.killed.is_some() || fork::is_inert() {
                return;
            }
            let Some((job, room)) = thread.take(ended) else { return };
            self.note_room(room);
            // Nothing that is ready waits for a slow job; when a quick one turns out slow, the reactor notices.
            if !self.handle.jobs().is_quick()
                || self.handle.unwritten() >= HAND_OVER && self.handle.is_attended()
            {
                self.hand_over();
            }
            ended = self.run(ruby, job);
        }
    }

    /// Returns when it ended, if that was just now and is known.
    fn run(&mut self, ruby: &Ruby, job: Job) -> Option<Instant> {
        match job {
            Job::Request(request) => return self.run_lane(ruby, request),
            Job::Task(root) => self.run_task(root, true),
            Job::Timer { id, root, last } => {
                self.run_timer(root, last);
                if !last && !fork::is_inert() {
                    self.handle.send(Command::TimerDone(id));
                }
            }
            Job::Forget(root) => timers::release(root),
            Job::Events(conn) => self.run_events(ruby, &conn),
            Job::Deliver(subscription) => {
                let death = realtime::run_deliveries(&subscription, self.handle.jobs());
                self.killed = death.or(self.killed.take());
            }
            Job::Channel { name, pattern, heard } => {
                realtime::channels::note_of_worker(&name, pattern, heard);
            }
            Job::Ask { slot, engine, id, bytes } => {
                self.tell(ruby, "engine_asked", |ruby| (slot, engine, id, ruby.str_from_slice(&bytes)));
            }
            Job::Reply { id, bytes } => {
                self.tell(ruby, "engine_replied", |ruby| (id, ruby.str_from_slice(&bytes)));
            }
            Job::Idle => self.call(api::base_module, "run_idle_blocks"),
            Job::GiveBack => self.give_back(),
        }
        None
    }

    /// A request, and those of its connection that became ready behind it.
    fn run_lane(&mut self, ruby: &Ruby, mut request: Box<Request>) -> Option<Instant> {
        loop {
            let answered = catch_unwind(AssertUnwindSafe(|| answer_request(ruby, &mut request)));
            if fork::is_inert() {
                self.killed = answered.ok().and_then(|mut answered| {
                    let raised = answered.killed.take();
                    std::mem::forget(answered);
                    raised
                });
                std::mem::forget(request);
                return None;
            }
            // A panic of ours costs one connection, and leaves its client in no doubt.
            let Ok(answered) = answered else {
                request.conn.abort();
                return None;
            };
            let rack::Answered { outcome, status, length, logged, callbacks, error, killed } = answered;
            self.killed = killed.or(self.killed.take());
            let Request { conn, head, started, .. } = *request;
            let now = Instant::now();
            let job = match outcome {
                Outcome::Answer(answer) => conn.answer(answer, now),
                Outcome::Produced(job) => job,
                Outcome::Upgraded => Some(Job::Events(conn.clone())),
                Outcome::Nothing => {
                    self.call_back(callbacks, error);
                    return None;
                }
            };
            if logged && conn.service().http.log.is_some() {
                self.answered.push(Line { conn: conn.clone(), head, status, length, started, at: now });
            }
            self.handle.leave_unwritten(conn);
            let called_back = !callbacks.is_empty();
            if called_back {
                // The client does not wait for them.
                self.hand_over();
                self.call_back(callbacks, error);
                if fork::is_inert() {
                    // A child that one of them has forked: what comes next is its parent's to do.
                    std::mem::forget(job);
                    return None;
                }
            }
            request = match job {
                Some(Job::Request(next)) => next,
                Some(Job::Events(conn)) => {
                    self.run_events(ruby, &conn);
                    return None;
                }
                _ => return (!called_back).then_some(now),
            };
            // The reactor knows nothing of what waits in a lane: it has to look, in case this one is slow.
            if self.handle.jobs().is_quick() { self.handle.watch() } else { self.hand_over() }
        }
    }

    /// The events of a real-time connection that wait.
    fn run_events(&mut self, ruby: &Ruby, conn: &ConnHandle) {
        match catch_unwind(AssertUnwindSafe(|| realtime::run_events(ruby, conn))) {
            Ok(death) => self.killed = death.or(self.killed.take()),
            // As with a request: a panic of ours costs one connection, which is not a forked child's.
            Err(_) if fork::is_inert() => {}
            Err(_) => conn.abort(),
        }
    }

    /// Calls what the application has left to be called behind its answer.
    fn call_back(&mut self, callbacks: Callbacks, error: Option<Error>) {
        let death = callbacks.run(error.as_ref());
        self.killed = death.or(self.killed.take());
    }

    /// Calls the block of a timer, unless that was cancelled meanwhile.
    fn run_timer(&mut self, root: Root, last: bool) {
        let live = timers::is_live(root);
        if last {
            timers::forget(root);
        }
        match live {
            true => self.run_task(root, last),
            false if last => roots::release(root),
            false => {}
        }
    }

    /// Gives back what connections have left behind that are gone: their objects are garbage that an idle process would keep.
    fn give_back(&mut self) {
        let collected = gvl::protect(|| {
            // SAFETY: the GVL is held, and what finalizers raise stays in them.
            unsafe { rb_sys::rb_gc_start() }
        });
        if let Err(error) = collected {
            self.killed = report_error(error).or(self.killed.take());
        }
        let _ = gvl::without(allocator::give_back, || {});
        if let Some(lead) = process::lead() {
            lead.send_standby(allocator::give_back);
        }
    }

    fn run_task(&mut self, root: Root, last: bool) {
        self.call(|| roots::value(root), "call");
        if last {
            roots::release(root);
        }
    }

    /// Calls a method of the Ruby side; what it raises is logged.
    fn tell<A: magnus::ArgList>(&mut self, ruby: &Ruby, method: &str, arguments: impl FnOnce(&Ruby) -> A) {
        // SAFETY: the live module.
        let base = unsafe { Value::from_raw(api::base_module()) };
        let told: Result<Value, Error> = base.funcall(method, arguments(ruby));
        if let Err(error) = told {
            self.killed = report_error(error).or(self.killed.take());
        }
    }

    /// Calls a method without arguments; what it raises is logged.
    fn call(&mut self, receiver: impl FnOnce() -> VALUE, method: &str) {
        let called = gvl::protect(|| {
            // SAFETY: the GVL is held, and what is raised is caught.
            unsafe {
                let id: ID = rb_sys::rb_intern2(method.as_ptr().cast(), method.len() as c_long);
                rb_sys::rb_funcallv(receiver(), id, 0, std::ptr::null())
            }
        });
        if let Err(error) = called {
            let death = if fork::is_inert() { Some(error) } else { report_error(error) };
            self.killed = death.or(self.killed.take());
        }
    }

    fn note_room(&self, room: bool) {
        if room {
            self.handle.send(Command::QueueHasRoom);
        }
    }

    /// Has the answers at hand written, before something that may take a while. With the GVL.
    fn hand_over(&self) {
        if self.handle.unwritten() == 0 {
            return;
        }
        let handle = &self.handle;
        if handle.is_attended() || gvl::without(|| handle.write_unwritten(), || {}).is_none() {
            handle.send(Command::Flush);
        }
    }

    /// Writes answers and log lines. Without the GVL.
    fn write_out(&mut self, leads: bool) {
        match self.handle.unwritten() {
            WRITE_FEW.. if self.handle.is_attended() => self.handle.send(Command::Flush),
            // Before it turns the reactor.
            _ if leads && !self.handle.is_attended() => {}
            _ => self.handle.write_unwritten(),
        }
        if self.answered.is_empty() {
            return;
        }
        self.lines.begin();
        for Line { conn, head, status, length, started, at } in self.answered.drain(..) {
            self.lines.add(&Answered { conn: &conn, head: Some(&head), status, bytes: length, started, at });
        }
        self.lines.end();
    }
}
