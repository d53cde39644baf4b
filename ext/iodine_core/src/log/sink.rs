//! A destination of the log: what waits for it, and how it is written without holding anybody up for long.

use super::{Level, message};
use crate::sys::Fd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

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

pub(super) static STDERR: Sink = Sink::new(Target::Stderr);
static STDOUT: Sink = Sink::new(Target::Stdout);
/// The files that are, or were, in use. Only locked with nothing to wait for.
static FILES: Mutex<Vec<Weak<Sink>>> = Mutex::new(Vec::new());

/// Where lines go.
#[derive(Clone, Debug)]
pub enum Destination {
    /// Where messages go, too.
    Stderr,
    /// Standard output.
    Stdout,
    /// A file.
    File(Arc<Sink>),
}

impl Destination {
    /// The file at `path`, made if it is not there. Who names a file that is open already shares it.
    pub fn file(path: &Path) -> std::io::Result<Destination> {
        let mut files = lock(&FILES);
        files.retain(|file| file.strong_count() > 0);
        let known = files.iter().filter_map(Weak::upgrade).find(|sink| sink.target.path() == Some(path));
        if let Some(sink) = known {
            return Ok(Destination::File(sink));
        }
        let fd = Mutex::new(Arc::new(open(path)?));
        let sink = Arc::new(Sink::new(Target::File { path: path.into(), fd }));
        files.push(Arc::downgrade(&sink));
        Ok(Destination::File(sink))
    }

    /// Writes `bytes`, which are whole lines.
    pub fn write(&self, bytes: &[u8]) {
        self.sink().write(bytes);
    }

    /// Whether it is the same one.
    pub fn is(&self, other: &Destination) -> bool {
        std::ptr::eq(self.sink(), other.sink())
    }

    pub(super) fn sink(&self) -> &Sink {
        match self {
            Destination::Stderr => &STDERR,
            Destination::Stdout => &STDOUT,
            Destination::File(sink) => sink,
        }
    }
}

/// Whether lines go to any file in this process.
pub fn are_files_open() -> bool {
    lock(&FILES).iter().any(|file| file.strong_count() > 0)
}

/// Opens the files anew, by their paths: whoever rotates them has renamed the old ones. One that can not be opened stays as
/// it is, and the log says so.
pub fn reopen_files() {
    let files: Vec<Arc<Sink>> = lock(&FILES).iter().filter_map(Weak::upgrade).collect();
    files.iter().for_each(|sink| sink.target.reopen());
}

/// See the module's text.
#[derive(Debug)]
pub struct Sink {
    target: Target,
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    /// Whether a writer thread takes the lines. In a fork of the application this is reset, and no lock is touched again.
    threaded: AtomicBool,
    /// Whether the last who wrote gave up.
    stalled: AtomicBool,
    /// Whether the last write failed, which was said.
    failing: AtomicBool,
    /// Whether a line was begun and not ended.
    torn: AtomicBool,
    /// Lines lost since it last moved.
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Waiting {
    bytes: Vec<u8>,
    stop: bool,
    writer_sleeps: bool,
}

#[derive(Debug)]
enum Target {
    Stderr,
    Stdout,
    File { path: PathBuf, fd: Mutex<Arc<Fd>> },
}

/// A target's descriptor, for as long as it is written to.
enum Open {
    Standard(BorrowedFd<'static>),
    File(Arc<Fd>),
}

impl AsFd for Open {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Open::Standard(fd) => *fd,
            Open::File(fd) => fd.as_fd(),
        }
    }
}

impl Target {
    fn path(&self) -> Option<&Path> {
        match self {
            Target::File { path, .. } => Some(path),
            Target::Stderr | Target::Stdout => None,
        }
    }

    fn open(&self) -> Open {
        match self {
            Target::Stderr => Open::Standard(rustix::stdio::stderr()),
            Target::Stdout => Open::Standard(rustix::stdio::stdout()),
            Target::File { fd, .. } => Open::File(lock(fd).clone()),
        }
    }

    fn reopen(&self) {
        let Target::File { path, fd } = self else { return };
        match open(path) {
            Ok(fresh) => *lock(fd) = Arc::new(fresh),
            Err(error) => message(
                Level::Error,
                &format!("{self} can not be opened again: {error}. What was open stays in use."),
            ),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Stderr => f.write_str("the log"),
            Target::Stdout => f.write_str("the request log on stdout"),
            Target::File { path, .. } => write!(f, "the request log {}", path.display()),
        }
    }
}

/// Without blocking, as it may be a pipe that nobody reads.
fn open(path: &Path) -> std::io::Result<Fd> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOCTTY;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    loop {
        match rustix::fs::open(path, flags | OFlags::NONBLOCK, mode) {
            Err(Errno::INTR) => {}
            opened => return Ok(Fd::new(opened?)),
        }
    }
}

impl Sink {
    const fn new(target: Target) -> Sink {
        Sink {
            target,
            waiting: Mutex::new(Waiting { bytes: Vec::new(), stop: false, writer_sleeps: false }),
            arrived: Condvar::new(),
            threaded: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            torn: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
        }
    }

    /// Writes `bytes`, which are whole lines, or has its thread write them.
    pub(super) fn write(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if !self.threaded.load(Relaxed) {
            return self.write_out(bytes, &mut Patience::new(self, || true));
        }
        let mut waiting = lock(&self.waiting);
        if waiting.bytes.len() + bytes.len() > CAPACITY {
            return self.count_dropped(bytes);
        }
        waiting.bytes.extend_from_slice(bytes);
        if waiting.writer_sleeps {
            waiting.writer_sleeps = false;
            drop(waiting);
            self.arrived.notify_one();
        }
    }

    /// Whether a thread takes what is written.
    pub(super) fn set_threaded(&self, threaded: bool) {
        self.threaded.store(threaded, Relaxed);
    }

    /// Before its thread is started.
    pub(super) fn prepare(&self) {
        lock(&self.waiting).stop = false;
    }

    /// Has its thread write what waits and end.
    pub(super) fn stop(&self) {
        self.set_threaded(false);
        lock(&self.waiting).stop = true;
        self.arrived.notify_one();
    }

    /// What its thread does.
    pub(super) fn run(&self) {
        let mut spare = Vec::new();
        loop {
            let mut waiting = lock(&self.waiting);
            while waiting.bytes.is_empty() && !waiting.stop {
                waiting.writer_sleeps = true;
                waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            let stop = waiting.stop;
            if !stop {
                drop(waiting);
                std::thread::sleep(GATHER);
                waiting = lock(&self.waiting);
            }
            std::mem::swap(&mut waiting.bytes, &mut spare);
            drop(waiting);
            self.write_out(&spare, &mut Patience::new(self, || lock(&self.waiting).stop));
            spare.clear();
            if stop {
                return;
            }
        }
    }

    /// Writes `bytes`, or counts what is lost of them.
    fn write_out<H: Fn() -> bool>(&self, bytes: &[u8], patience: &mut Patience<'_, H>) {
        let open = self.target.open();
        if self.torn.load(Relaxed) && write_pieces(&open, b"\n", patience) == Ok(1) {
            self.torn.store(false, Relaxed);
        }
        let (written, error) = match write_pieces(&open, bytes, patience) {
            Ok(written) => (written, None),
            Err((written, error)) => (written, Some(error)),
        };
        let lost = bytes.get(written..).unwrap_or_default();
        self.stalled.store(!lost.is_empty() && error.is_none(), Relaxed);
        if !lost.is_empty() {
            if written > 0 {
                self.torn.store(bytes.get(written - 1) != Some(&b'\n'), Relaxed);
            }
            self.count_dropped(lost);
            return error.map_or((), |error| self.complain(error));
        }
        self.failing.store(false, Relaxed);
        let dropped = self.dropped.swap(0, Relaxed);
        if dropped > 0 {
            self.tell_dropped(&open, dropped, patience);
        }
    }

    fn tell_dropped<H: Fn() -> bool>(&self, open: &Open, dropped: u64, patience: &mut Patience<'_, H>) {
        let text = format!("{} could not keep up, {dropped} lines were dropped.", self.target);
        match self.target {
            Target::Stderr => {
                let _ = write_pieces(open, format!("WARNING: {text}\n").as_bytes(), patience);
            }
            // Whoever reads these lines expects nothing else among them.
            Target::Stdout | Target::File { .. } => message(Level::Warning, &text),
        }
    }

    /// Says once that it can not be written. Whatever happens to stderr, there is nobody to tell.
    fn complain(&self, error: Errno) {
        if matches!(self.target, Target::Stderr) || self.failing.swap(true, Relaxed) {
            return;
        }
        let error = std::io::Error::from(error);
        message(Level::Error, &format!("{} can not be written: {error}. Lines are lost.", self.target));
    }

    fn count_dropped(&self, bytes: &[u8]) {
        self.dropped.fetch_add(bytes.iter().filter(|byte| **byte == b'\n').count() as u64, Relaxed);
    }
}

/// How long to wait for a log that takes nothing: for ever while `hurried` is false, and then not for long.
struct Patience<'s, H: Fn() -> bool> {
    sink: &'s Sink,
    hurried: H,
    since: Option<Instant>,
}

impl<'s, H: Fn() -> bool> Patience<'s, H> {
    fn new(sink: &'s Sink, hurried: H) -> Patience<'s, H> {
        Patience { sink, hurried, since: None }
    }

    fn is_over(&mut self) -> bool {
        if !(self.hurried)() {
            return false;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        self.sink.stalled.load(Relaxed) || since.elapsed() >= PATIENCE
    }
}

/// Returns how much was written, or how much before which error.
fn write_pieces<H: Fn() -> bool>(
    open: &Open,
    bytes: &[u8],
    patience: &mut Patience<'_, H>,
) -> Result<usize, (usize, Errno)> {
    let fd = open.as_fd();
    // A file takes the whole at once, so that lines of several processes do not break into each other.
    let is_file = fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
    let most = if is_file { usize::MAX } else { PIPE_PIECE };
    let mut written = 0;
    while written < bytes.len() {
        if !is_ready(&fd, &Timespec::default()) {
            if patience.is_over() {
                break;
            }
            is_ready(&fd, &STEP);
            continue;
        }
        let end = bytes.len().min(written.saturating_add(most));
        match rustix::io::write(fd, &bytes[written..end]) {
            Ok(count) => written += count,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if patience.is_over() => break,
            Err(Errno::AGAIN) => std::thread::sleep(GATHER),
            Err(error) => return Err((written, error)),
        }
    }
    Ok(written)
}

/// Whether `fd` takes something, or is broken, within `limit`.
fn is_ready(fd: &BorrowedFd<'_>, limit: &Timespec) -> bool {
    match poll(&mut [PollFd::new(fd, PollFlags::OUT)], Some(limit)) {
        Ok(ready) => ready > 0,
        Err(error) => error != Errno::INTR,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Writer;

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn a_file_is_opened_anew_by_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let [path, old] = ["log", "old"].map(|name| folder.path().join(name));
        let file = Destination::file(&path).unwrap();
        assert!(are_files_open());
        assert!(file.is(&Destination::file(&path).unwrap()), "who names it again shares it");
        assert!(!file.is(&Destination::Stderr));
        file.write(b"one\n");
        std::fs::rename(&path, &old).unwrap();
        file.write(b"two\n");
        reopen_files();
        file.write(b"three\n");
        assert_eq!((read(&old).as_str(), read(&path).as_str()), ("one\ntwo\n", "three\n"));
    }

    #[test]
    fn a_writer_writes_what_waits_before_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let file = Destination::file(&path).unwrap();
        let mut writer = Writer::default();
        writer.add(file.clone()).unwrap();
        writer.add(file.clone()).unwrap();
        (0..100).for_each(|number| file.write(format!("{number}\n").as_bytes()));
        drop(writer);
        assert_eq!(read(&path).lines().count(), 100);
        file.write(b"directly\n");
        assert!(read(&path).ends_with("99\ndirectly\n"));
    }

    #[test]
    fn what_can_not_be_opened_is_told() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Destination::file(folder.path()).is_err());
        assert!(Destination::file(&folder.path().join("none/log")).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_pipe_that_nobody_reads_costs_lines_and_the_next_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        assert!(Destination::file(&path).is_err(), "nobody would read it");
        let reader = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        let pipe = Destination::file(&path).unwrap();
        let line = [&[b'x'; 5_999][..], b"\n"].concat();
        (0..20).for_each(|_| pipe.write(&line));
        let sink = pipe.sink();
        assert!(sink.stalled.load(Relaxed) && sink.dropped.load(Relaxed) > 0);
        let mut taken = vec![0; 1 << 20];
        let count = rustix::io::read(&reader, &mut taken).unwrap();
        pipe.write(b"whole\n");
        let more = rustix::io::read(&reader, &mut taken[count..]).unwrap();
        let text = String::from_utf8(taken[..count + more].to_vec()).unwrap();
        assert!(text.ends_with("\nwhole\n"), "{} bytes", text.len());
        assert_eq!(sink.dropped.load(Relaxed), 0, "they were told of");
    }
}
