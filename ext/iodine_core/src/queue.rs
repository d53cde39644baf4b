//! The queue of jobs and the app threads that run them: whom to wake, and when.
//!
//! Several Ruby threads that want one GVL slow each other down, so a quick application is served by one of them: another
//! one is woken only when jobs wait and nothing has moved for [`STALL`], and then one at a time. Once jobs turn out to
//! take longer than [`QUICK`] (they sleep, or wait for a database), each job that waits gets a thread at once, as in any
//! thread pool. While jobs are instant ([`INSTANT`]), the thread that runs out of them turns the reactor: see [`crate::lead`].

use crate::command::{Command, Handle};
use crate::job::Job;
use crate::lead::Lead;
use crossbeam_utils::sync::{Parker, Unparker};
use std::collections::VecDeque;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Jobs that wait for so long, with nobody taking one, get another thread.
pub const STALL: Duration = Duration::from_millis(1);
/// While jobs take less than this on average, one running thread is enough.
pub const QUICK: Duration = Duration::from_micros(300);
/// Jobs that take less than this on average are instant: the thread that runs them turns the reactor, too, see [`crate::lead`].
pub const INSTANT: Duration = Duration::from_micros(50);
/// They are until they take more than this.
pub const NOT_INSTANT: Duration = Duration::from_micros(100);

/// The queue; clones share it.
#[derive(Clone, Debug)]
pub struct JobQueue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Mirrors of the state, for a look without the lock.
    waiting: AtomicUsize,
    idle: AtomicUsize,
    /// Jobs taken so far.
    taken: AtomicU64,
    /// Moving average of a job's duration in microseconds.
    duration: AtomicU32,
    /// See [`JobQueue::is_instant`].
    instant: AtomicBool,
    /// Threads that there are, and that there should be.
    entered: AtomicUsize,
    crew: AtomicUsize,
    /// Whether the reactor wants to hear when the queue has room again.
    room_wanted: AtomicBool,
    capacity: usize,
}

impl Shared {
    fn pop(&self, state: &mut State) -> Option<Popped> {
        let job = state.jobs.pop_front()?;
        self.waiting.store(state.jobs.len(), Relaxed);
        // Nobody else writes it: `state` is locked.
        let taken = self.taken.load(Relaxed) + 1;
        self.taken.store(taken, Relaxed);
        let room = self.room_wanted.load(Relaxed)
            && state.jobs.len() < self.capacity.div_ceil(2)
            && self.room_wanted.swap(false, Relaxed);
        Some(Popped { job, taken, room })
    }
}

struct Popped {
    job: Job,
    /// Which of all jobs this is.
    taken: u64,
    /// Whether the reactor wants to hear that the queue has room again.
    room: bool,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Threads that sleep, the last to fall asleep on top: it is the warmest.
    idle: Vec<Sleeper>,
    /// Threads that are awake.
    active: usize,
    /// Threads end when nothing waits any more.
    ending: bool,
}

#[derive(Debug)]
struct Sleeper {
    thread: u64,
    bed: Bed,
}

/// How a thread sleeps, and so is woken.
#[derive(Clone, Debug)]
enum Bed {
    Parked(Unparker),
    /// In the lead of a reactor.
    Polling(Handle),
}

impl Bed {
    fn wake(&self) {
        match self {
            Bed::Parked(unparker) => unparker.unpark(),
            Bed::Polling(handle) => handle.send(Command::LookAround),
        }
    }
}

/// What [`AppThread::wait`] came to.
#[derive(Debug)]
pub enum Taken {
    /// A job to run.
    Job(Job),
    /// Somebody wants this thread's attention: a signal, `Thread#kill`.
    Interrupted,
    /// No job will come any more.
    Ended,
}

impl JobQueue {
    /// An empty queue that counts as full from `capacity` jobs on.
    pub fn new(capacity: usize) -> JobQueue {
        JobQueue {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                waiting: AtomicUsize::new(0),
                idle: AtomicUsize::new(0),
                taken: AtomicU64::new(0),
                duration: AtomicU32::new(0),
                instant: AtomicBool::new(true),
                entered: AtomicUsize::new(0),
                crew: AtomicUsize::new(0),
                room_wanted: AtomicBool::new(false),
                capacity: capacity.max(1),
            }),
        }
    }

    /// Adds a job from outside the reactor.
    pub fn push(&self, job: Job) {
        self.publish(&mut vec![job]);
    }

    /// Adds all of `jobs`, and wakes whom it takes to run them. Returns whether somebody was woken.
    pub fn publish(&self, jobs: &mut Vec<Job>) -> bool {
        if jobs.is_empty() {
            return false;
        }
        let mut state = self.lock();
        state.jobs.extend(jobs.drain(..));
        let wanted = if self.is_quick() { usize::from(state.active == 0) } else { state.jobs.len() };
        let woken = self.wake(&mut state, wanted);
        self.mirror(&state);
        drop(state);
        woken.iter().for_each(Bed::wake);
        !woken.is_empty()
    }

    /// Returns a job that was taken and not begun, because its thread has to die. It comes first again.
    pub fn put_back(&self, job: Job) {
        let mut state = self.lock();
        state.jobs.push_front(job);
        self.mirror(&state);
    }

    /// Jobs that wait.
    pub fn waiting(&self) -> usize {
        self.shared.waiting.load(Relaxed)
    }

    /// Jobs taken so far.
    pub(crate) fn taken(&self) -> u64 {
        self.shared.taken.load(Relaxed)
    }

    /// Whether so many jobs wait that no more should be added. Once this was true, [`AppThread::take`] tells when it no
    /// longer is.
    pub fn is_full(&self) -> bool {
        if self.waiting() < self.shared.capacity {
            return false;
        }
        // Under the lock, so that nobody takes the last job between the look and the wish.
        let full = self.lock().jobs.len() >= self.shared.capacity;
        self.shared.room_wanted.fetch_or(full, Relaxed);
        full
    }

    /// Whether jobs wait while threads sleep, so that [`JobQueue::relieve`] is to be called before long.
    pub fn may_stall(&self) -> bool {
        self.waiting() > 0 && self.shared.idle.load(Relaxed) > 0
    }

    /// Whether a quick job that waits may leave its answer to wait for a slow one behind it. Slow ones never do.
    pub fn may_hold_up(&self) -> bool {
        self.waiting() > 0 && self.is_quick()
    }

    /// Whether nothing has moved for [`STALL`] while jobs or, as the caller says, answers wait. Wakes another thread then,
    /// if that may help. `watch` is the caller's memory between calls.
    pub fn relieve(&self, watch: &mut StallWatch, now: Instant, unwritten: bool) -> bool {
        let taken = self.shared.taken.load(Relaxed);
        if taken != watch.taken || !(unwritten || self.may_stall()) {
            *watch = StallWatch { taken, since: now };
            return false;
        }
        if now.duration_since(watch.since) < STALL {
            return false;
        }
        watch.since = now;
        let mut state = self.lock();
        let wanted = usize::from(!state.jobs.is_empty());
        let woken = self.wake(&mut state, wanted);
        self.mirror(&state);
        drop(state);
        woken.iter().for_each(Bed::wake);
        true
    }

    /// Says how many threads there should be.
    pub fn set_crew(&self, threads: usize) {
        self.shared.crew.store(threads, Relaxed);
    }

    /// Whether threads are missing: one that was killed at a bad moment has told nobody.
    pub fn is_short_handed(&self) -> bool {
        self.shared.entered.load(Relaxed) < self.shared.crew.load(Relaxed)
    }

    /// Whether no job waits and not more than so many threads are awake.
    pub fn is_at_rest(&self, awake: usize) -> bool {
        let state = self.lock();
        state.jobs.is_empty() && state.active <= awake
    }

    /// Lets the threads end once nothing waits.
    pub fn end(&self) {
        self.set_crew(0);
        let mut state = self.lock();
        state.ending = true;
        let everyone = state.idle.len();
        let woken = self.wake(&mut state, everyone);
        self.mirror(&state);
        drop(state);
        woken.iter().for_each(Bed::wake);
    }

    /// Removes and returns what still waits, when nobody will run it.
    pub fn drain(&self) -> VecDeque<Job> {
        let mut state = self.lock();
        let jobs = std::mem::take(&mut state.jobs);
        self.mirror(&state);
        jobs
    }

    /// A new app thread, awake; it ends when dropped.
    pub fn enter(&self) -> AppThread {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        self.lock().active += 1;
        self.shared.entered.fetch_add(1, Relaxed);
        AppThread {
            queue: self.clone(),
            id: NEXT.fetch_add(1, Relaxed),
            parker: Parker::new(),
            taken: 0,
            started: None,
            called: Arc::default(),
            lead: None,
            leads: false,
        }
    }

    /// Whether jobs take less than [`QUICK`] on average.
    pub fn is_quick(&self) -> bool {
        u128::from(self.shared.duration.load(Relaxed)) < QUICK.as_micros()
    }

    /// Whether jobs have taken less than [`INSTANT`] on average, and not more than [`NOT_INSTANT`] since.
    pub fn is_instant(&self) -> bool {
        self.shared.instant.load(Relaxed)
    }

    /// Counts up to `wanted` sleepers as awake; the caller unparks them once the lock is open.
    fn wake(&self, state: &mut State, wanted: usize) -> Vec<Bed> {
        let count = wanted.min(state.idle.len());
        state.active += count;
        let from = state.idle.len() - count;
        state.idle.drain(from..).map(|sleeper| sleeper.bed).collect()
    }

    fn mirror(&self, state: &State) {
        self.shared.waiting.store(state.jobs.len(), Relaxed);
        self.shared.idle.store(state.idle.len(), Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What [`JobQueue::relieve`] saw the last time.
#[derive(Clone, Copy, Debug)]
pub struct StallWatch {
    taken: u64,
    since: Instant,
}

impl StallWatch {
    pub(crate) fn seen(taken: u64, since: Instant) -> StallWatch {
        StallWatch { taken, since }
    }

    /// A watch that begins now.
    pub fn new(now: Instant) -> StallWatch {
        StallWatch { taken: 0, since: now }
    }
}

/// One thread's part in the queue.
#[derive(Debug)]
pub struct AppThread {
    queue: JobQueue,
    id: u64,
    parker: Parker,
    /// Jobs taken by all threads when this one last took one.
    taken: u64,
    /// When the job at hand was taken.
    started: Option<Instant>,
    /// Somebody wants its attention.
    called: Arc<AtomicBool>,
    /// What it may take when it finds no job.
    lead: Option<Lead>,
    /// Whether it has taken the lead, and will come back to it behind the jobs at hand.
    leads: bool,
}

/// Wakes an [`AppThread`] out of its wait.
#[derive(Clone, Debug)]
pub struct Interrupter {
    unparker: Unparker,
    called: Arc<AtomicBool>,
    handle: Option<Handle>,
}

impl Interrupter {
    /// Makes the wait return [`Taken::Interrupted`].
    pub fn interrupt(&self) {
        self.called.store(true, SeqCst);
        self.unparker.unpark();
        self.handle.iter().for_each(Handle::wake);
    }
}

impl AppThread {
    /// From now on it turns the reactor when it finds no job and jobs are instant. To be called before
    /// [`AppThread::interrupter`], which has to know where it may sleep.
    pub fn follow(&mut self, lead: Lead) {
        self.lead = Some(lead);
    }

    /// What another thread needs to interrupt this one.
    pub fn interrupter(&self) -> Interrupter {
        Interrupter {
            unparker: self.parker.unparker().clone(),
            called: self.called.clone(),
            handle: self.lead.as_ref().map(|lead| lead.handle().clone()),
        }
    }

    /// When the job at hand was taken.
    pub fn started(&self) -> Option<Instant> {
        self.started
    }

    /// The next job, if one waits. Never blocks. The flag says that the queue has room again, for a reactor that waits
    /// for that. The job at hand has `ended` then, or now.
    pub fn take(&mut self, ended: Option<Instant>) -> Option<(Job, bool)> {
        let now = ended.unwrap_or_else(Instant::now);
        self.finish(now);
        let popped = self.queue.shared.pop(&mut self.queue.lock());
        popped.map(|popped| self.note(popped, now))
    }

    /// Waits for the next job. To be called without the GVL.
    ///
    /// Where no job waits and jobs are instant, a thread that follows a [`Lead`] turns the reactor meanwhile, if nobody does.
    ///
    /// `alarm` is called when this thread falls asleep while jobs wait: from then on somebody must call
    /// [`JobQueue::relieve`], and the reactor, which found no sleeper to wake when it last looked, may be asleep itself.
    pub fn wait(&mut self, alarm: impl FnOnce()) -> (Taken, bool) {
        let queue = self.queue.clone();
        let mut state = loop {
            let now = Instant::now();
            self.finish(now);
            let mut state = queue.lock();
            let popped = if self.should_retire(&state) { None } else { queue.shared.pop(&mut state) };
            if let Some(popped) = popped {
                drop(state);
                let (job, room) = self.note(popped, now);
                if let (true, Some(lead)) = (self.leads, &self.lead) {
                    lead.leave();
                    lead.handle().write_unwritten();
                }
                return (Taken::Job(job), room);
            }
            if state.ending && state.jobs.is_empty() {
                drop(state);
                self.resign();
                return (Taken::Ended, false);
            }
            let lead = self.lead.clone().filter(|_| queue.is_instant() && state.jobs.is_empty());
            let Some(lead) = lead else { break state };
            let Some(turn) = lead.take() else { break state };
            self.leads = true;
            state.idle.push(Sleeper { thread: self.id, bed: Bed::Polling(turn.handle().clone()) });
            state.active -= 1;
            queue.mirror(&state);
            drop(state);
            turn.turn(|| self.called.load(SeqCst), || self.rise());
            // Where a panic came before it could.
            self.rise();
            if self.called.swap(false, SeqCst) {
                self.resign();
                return (Taken::Interrupted, false);
            }
        };
        state.idle.push(Sleeper { thread: self.id, bed: Bed::Parked(self.parker.unparker().clone()) });
        state.active -= 1;
        queue.mirror(&state);
        let unwatched = !state.jobs.is_empty();
        drop(state);
        if unwatched {
            alarm();
        }
        self.resign();
        self.parker.park();
        self.called.store(false, SeqCst);

        let mut state = queue.lock();
        // Still listed: it was not a job that woke us.
        if let Some(index) = state.idle.iter().position(|sleeper| sleeper.thread == self.id) {
            state.idle.remove(index);
            state.active += 1;
            queue.mirror(&state);
            return (Taken::Interrupted, false);
        }
        match queue.shared.pop(&mut state) {
            Some(popped) => {
                let (job, room) = self.note(popped, Instant::now());
                (Taken::Job(job), room)
            }
            None if state.ending => (Taken::Ended, false),
            None => (Taken::Interrupted, false),
        }
    }

    /// Whether it turns the reactor between jobs, and writes what is left to be written then.
    pub fn leads(&self) -> bool {
        self.leads
    }

    /// Leaves the lead for good, with nothing left to be written.
    fn resign(&mut self) {
        if let (true, Some(lead)) = (std::mem::take(&mut self.leads), &self.lead) {
            lead.resign();
            lead.handle().write_unwritten();
        }
    }

    /// Awake after a turn in the lead. Whoever woke it for a job has counted it as awake already.
    fn rise(&self) {
        let mut state = self.queue.lock();
        if let Some(index) = state.idle.iter().position(|sleeper| sleeper.thread == self.id) {
            state.idle.remove(index);
            state.active += 1;
            self.queue.mirror(&state);
        }
    }

    fn note(&mut self, popped: Popped, now: Instant) -> (Job, bool) {
        self.taken = popped.taken;
        self.started = Some(now);
        (popped.job, popped.room)
    }

    /// Another quick thread is at work; two would only pass the GVL to and fro.
    fn should_retire(&self, state: &State) -> bool {
        state.active > 1
            && !self.leads
            && !state.ending
            && self.queue.is_quick()
            && self.queue.shared.taken.load(Relaxed) > self.taken
    }

    /// Takes the time of the job at hand into the average.
    pub fn finish_job(&mut self) {
        self.finish(Instant::now());
    }

    fn finish(&mut self, now: Instant) {
        let Some(started) = self.started.take() else { return };
        let duration = &self.queue.shared.duration;
        let sample =
            u32::try_from(now.duration_since(started).as_micros().min(1_000_000)).unwrap_or(u32::MAX);
        let average = duration.load(Relaxed);
        // An eighth of the difference, rounded up, or small differences would be lost.
        let step = average.abs_diff(sample).div_ceil(8);
        let next = if sample > average { average + step } else { average - step };
        if next != average {
            duration.store(next, Relaxed);
        }
        let bound = if self.queue.is_instant() { NOT_INSTANT } else { INSTANT };
        let instant = u128::from(next) < bound.as_micros();
        if instant != self.queue.is_instant() {
            self.queue.shared.instant.store(instant, Relaxed);
        }
    }
}

impl Drop for AppThread {
    fn drop(&mut self) {
        self.resign();
        let queue = self.queue.clone();
        queue.shared.entered.fetch_sub(1, Relaxed);
        let mut state = queue.lock();
        state.active -= 1;
        // Whoever was woken for what this thread leaves behind may have been this thread.
        let wanted = usize::from(state.active == 0 && !state.jobs.is_empty());
        let woken = queue.wake(&mut state, wanted);
        queue.mirror(&state);
        drop(state);
        woken.iter().for_each(Bed::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(taken: Taken) -> u32 {
        match taken {
            Taken::Job(Job::Task(root)) => root,
            other => panic!("no task: {other:?}"),
        }
    }

    #[test]
    fn hands_out_jobs_in_order_and_ends() {
        let queue = JobQueue::new(10);
        queue.publish(&mut vec![Job::Task(1), Job::Task(2)]);
        assert!(!queue.is_at_rest(0));
        let mut thread = queue.enter();
        assert_eq!(task(thread.wait(|| {}).0), 1);
        assert!(matches!(thread.take(None), Some((Job::Task(2), false))));
        assert!(!queue.is_at_rest(0) && queue.is_at_rest(1), "the last one runs");
        assert!(thread.take(None).is_none());
        queue.push(Job::Task(3));
        queue.end();
        assert_eq!(task(thread.wait(|| {}).0), 3);
        assert!(matches!(thread.wait(|| {}).0, Taken::Ended));
        drop(thread);
        assert!(queue.is_at_rest(0));
    }

    #[test]
    fn wakes_one_sleeper_for_quick_jobs_and_another_after_each_stall() {
        let queue = JobQueue::new(10);
        let (sender, receiver) = std::sync::mpsc::channel();
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (queue, sender) = (queue.clone(), sender.clone());
                std::thread::spawn(move || {
                    let mut thread = queue.enter();
                    while let (Taken::Job(_), _) = thread.wait(|| {}) {
                        let (resume, wait) = std::sync::mpsc::channel::<()>();
                        sender.send(resume).unwrap();
                        let _ = wait.recv();
                    }
                })
            })
            .collect();
        while queue.shared.idle.load(Relaxed) < 3 {
            std::thread::yield_now();
        }
        queue.publish(&mut vec![Job::Task(1), Job::Task(2), Job::Task(3)]);
        let first = receiver.recv().unwrap();
        assert_eq!((queue.waiting(), queue.shared.idle.load(Relaxed)), (2, 2));
        let start = Instant::now();
        let mut watch = StallWatch::new(start);
        queue.relieve(&mut watch, start, false);
        queue.relieve(&mut watch, start + STALL, false);
        let second = receiver.recv().unwrap();
        assert_eq!((queue.waiting(), queue.shared.idle.load(Relaxed)), (1, 1));
        queue.relieve(&mut watch, start + STALL * 2, false);
        queue.relieve(&mut watch, start + STALL * 3, false);
        let third = receiver.recv().unwrap();
        queue.end();
        drop((first, second, third));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }

    #[test]
    fn an_interrupt_ends_the_wait_without_a_job() {
        let queue = JobQueue::new(10);
        let mut thread = queue.enter();
        thread.interrupter().interrupt();
        assert!(matches!(thread.wait(|| {}).0, Taken::Interrupted));
        queue.push(Job::Task(1));
        assert_eq!(task(thread.wait(|| {}).0), 1);
    }

    #[test]
    fn a_thread_that_leaves_jobs_to_a_busy_one_gives_the_alarm() {
        let queue = JobQueue::new(10);
        let mut busy = queue.enter();
        queue.publish(&mut vec![Job::Task(1), Job::Task(2)]);
        assert_eq!(task(busy.wait(|| {}).0), 1);
        let (sender, receiver) = std::sync::mpsc::channel();
        let late = {
            let queue = queue.clone();
            std::thread::spawn(move || task(queue.enter().wait(|| sender.send(()).unwrap()).0))
        };
        receiver.recv().unwrap();
        assert!(queue.may_stall());
        let start = Instant::now();
        let mut watch = StallWatch::new(start);
        queue.relieve(&mut watch, start, false);
        queue.relieve(&mut watch, start + STALL, false);
        assert_eq!(late.join().unwrap(), 2);
    }

    #[test]
    fn says_when_a_full_queue_has_room_again() {
        let queue = JobQueue::new(4);
        let mut thread = queue.enter();
        queue.publish(&mut (0..4).map(Job::Task).collect());
        assert!(queue.is_full());
        let room: Vec<bool> = (0..4).map(|_| thread.take(None).unwrap().1).collect();
        assert_eq!(room, [false, false, true, false]);
    }

    #[test]
    fn tells_when_threads_are_missing() {
        let queue = JobQueue::new(4);
        queue.set_crew(2);
        let one = queue.enter();
        assert!(queue.is_short_handed());
        let _two = queue.enter();
        assert!(!queue.is_short_handed());
        drop(one);
        assert!(queue.is_short_handed());
        queue.end();
        assert!(!queue.is_short_handed());
    }

    #[test]
    fn a_thread_that_dies_leaves_its_jobs_to_another() {
        let queue = JobQueue::new(4);
        let other = {
            let queue = queue.clone();
            std::thread::spawn(move || task(queue.enter().wait(|| {}).0))
        };
        let dying = queue.enter();
        while queue.shared.idle.load(Relaxed) < 1 {
            std::thread::yield_now();
        }
        queue.put_back(Job::Task(7));
        drop(dying);
        assert_eq!(other.join().unwrap(), 7);
    }
}
