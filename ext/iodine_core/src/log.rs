//! The log: levelled messages and one line per answer, on stderr.
//!
//! A worker hands its lines to a writer thread, so that a stalled terminal or pipe never holds up a request; past
//! [`CAPACITY`] waiting bytes lines are dropped and counted. The master, and everything before `start` and after it,
//! has no such thread (a process that forks must not) and writes directly, but waits no longer than [`PATIENCE`].

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Severity of a message; a message is written when the verbosity is at least its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The process can not go on.
    Fatal = 1,
    /// Something failed.
    Error = 2,
    /// Something is not as it should be.
    Warning = 3,
    /// What the server does.
    Info = 4,
    /// For those who look for a fault.
    Debug = 5,
}

impl Level {
    /// The level with this number; numbers out of range are taken to the nearest.
    pub fn from_number(number: i64) -> Level {
        match number {
            ..=1 => Level::Fatal,
            2 => Level::Error,
            3 => Level::Warning,
            4 => Level::Info,
            _ => Level::Debug,
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Level::Fatal => "FATAL: ",
            Level::Error => "ERROR: ",
            Level::Warning => "WARNING: ",
            Level::Info => "INFO: ",
            Level::Debug => "DEBUG: ",
        }
    }
}

/// Bytes that may wait for the writer thread.
pub const CAPACITY: usize = 1 << 20;
/// How long the writer lets lines gather before it writes them.
const GATHER: Duration = Duration::from_millis(5);
/// How long somebody who has other things to do waits for a stalled log. Once it has taken so long nobody waits at all,
/// until it moves again.
const PATIENCE: Duration = Duration::from_millis(200);
/// How often the writer thread, while it waits, looks whether it is to stop.
const STEP: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// A pipe that is ready takes so much without blocking (PIPE_BUF of Linux).
const PIPE_PIECE: usize = 4096;

static VERBOSITY: AtomicI64 = AtomicI64::new(4);
/// Whether a writer thread takes the lines. In a fork of the application this is reset, and no lock is touched again.
static THREADED: AtomicBool = AtomicBool::new(false);
/// Whether the last who wrote gave up.
static STALLED: AtomicBool = AtomicBool::new(false);
/// Lines lost since the log last moved.
static DROPPED: AtomicU64 = AtomicU64::new(0);
static SHARED: Shared = Shared {
    waiting: Mutex::new(Waiting { bytes: Vec::new(), stop: false, writer_sleeps: false }),
    arrived: Condvar::new(),
};

struct Shared {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

struct Waiting {
    bytes: Vec<u8>,
    stop: bool,
    writer_sleeps: bool,
}

/// The level up to which messages are written; 4 at first.
pub fn verbosity() -> i64 {
    VERBOSITY.load(Relaxed)
}

/// Sets the level up to which messages are written.
pub fn set_verbosity(level: i64) {
    VERBOSITY.store(level, Relaxed);
}

/// Writes `text` as one message, if the verbosity asks for it.
pub fn message(level: Level, text: &str) {
    if level as i64 <= verbosity() {
        write(format!("{}{text}\n", level.prefix()).as_bytes());
    }
}

/// Writes `bytes`, which are whole lines, whatever the verbosity.
pub fn write(bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    if !THREADED.load(Relaxed) {
        return write_out(bytes, &mut Patience::new(|| true));
    }
    let mut waiting = lock();
    if waiting.bytes.len() + bytes.len() > CAPACITY {
        return count_dropped(bytes);
    }
    waiting.bytes.extend_from_slice(bytes);
    if waiting.writer_sleeps {
        waiting.writer_sleeps = false;
        drop(waiting);
        SHARED.arrived.notify_one();
    }
}

/// The writer thread of a process; dropping it writes what waits and ends the thread.
#[derive(Debug)]
pub struct Writer {
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread. Only in a process that forks no more.
    pub fn start() -> std::io::Result<Writer> {
        lock().stop = false;
        let thread = std::thread::Builder::new().name("iodine-log".into()).spawn(run)?;
        THREADED.store(true, Relaxed);
        Ok(Writer { thread: Some(thread) })
    }

    /// For a forked child: there is no thread here any more, and perhaps a lock that nobody will open.
    pub fn forget(mut self) {
        THREADED.store(false, Relaxed);
        std::mem::forget(self.thread.take());
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        THREADED.store(false, Relaxed);
        lock().stop = true;
        SHARED.arrived.notify_one();
        let _ = thread.join();
    }
}

/// For a forked child of the application: from here on messages are written directly.
pub fn write_directly() {
    THREADED.store(false, Relaxed);
}

fn lock() -> MutexGuard<'static, Waiting> {
    SHARED.waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run() {
    let mut spare = Vec::new();
    loop {
        let mut waiting = lock();
        while waiting.bytes.is_empty() && !waiting.stop {
            waiting.writer_sleeps = true;
            waiting = SHARED.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let stop = waiting.stop;
        if !stop {
            drop(waiting);
            std::thread::sleep(GATHER);
            waiting = lock();
        }
        std::mem::swap(&mut waiting.bytes, &mut spare);
        drop(waiting);
        write_out(&spare, &mut Patience::new(|| lock().stop));
        spare.clear();
        if stop {
            return;
        }
    }
}

/// How long to wait for a log that takes nothing: for ever while `hurried` is false, and then not for long.
struct Patience<H: Fn() -> bool> {
    hurried: H,
    since: Option<Instant>,
}

impl<H: Fn() -> bool> Patience<H> {
    fn new(hurried: H) -> Patience<H> {
        Patience { hurried, since: None }
    }

    fn is_over(&mut self) -> bool {
        if !(self.hurried)() {
            return false;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        STALLED.load(Relaxed) || since.elapsed() >= PATIENCE
    }
}

/// Writes `bytes`, or counts what is lost of them.
fn write_out<H: Fn() -> bool>(bytes: &[u8], patience: &mut Patience<H>) {
    let written = write_pieces(bytes, patience);
    let lost = written < bytes.len();
    STALLED.store(lost, Relaxed);
    if lost {
        return count_dropped(&bytes[written..]);
    }
    let dropped = DROPPED.swap(0, Relaxed);
    if dropped > 0 {
        let text = format!("WARNING: the log could not keep up, {dropped} lines were dropped.\n");
        write_pieces(text.as_bytes(), patience);
    }
}

/// Returns how much was written. Whatever else happens to stderr, there is nobody to tell.
fn write_pieces<H: Fn() -> bool>(bytes: &[u8], patience: &mut Patience<H>) -> usize {
    let stderr = rustix::stdio::stderr();
    // A file or a terminal takes the whole at once, so that lines of several processes do not break into each other.
    let is_file =
        fstat(stderr).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
    let most = if is_file { usize::MAX } else { PIPE_PIECE };
    let mut written = 0;
    while written < bytes.len() {
        if !is_ready(&stderr, &Timespec::default()) {
            if patience.is_over() {
                break;
            }
            is_ready(&stderr, &STEP);
            continue;
        }
        let end = bytes.len().min(written.saturating_add(most));
        match rustix::io::write(stderr, &bytes[written..end]) {
            Ok(count) => written += count,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if patience.is_over() => break,
            Err(Errno::AGAIN) => std::thread::sleep(GATHER),
            Err(_) => return bytes.len(),
        }
    }
    written
}

/// Whether `fd` takes something, or is broken, within `limit`.
fn is_ready(fd: &BorrowedFd<'_>, limit: &Timespec) -> bool {
    match poll(&mut [PollFd::new(fd, PollFlags::OUT)], Some(limit)) {
        Ok(ready) => ready > 0,
        Err(error) => error != Errno::INTR,
    }
}

fn count_dropped(bytes: &[u8]) {
    DROPPED.fetch_add(bytes.iter().filter(|byte| **byte == b'\n').count() as u64, Relaxed);
}
