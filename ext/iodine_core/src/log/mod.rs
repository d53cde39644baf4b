//! The log: levelled messages on stderr, and lines for answers there or elsewhere.
//!
//! Each destination is a [`Sink`]. A worker hands its lines to a writer thread for each sink, so that a stalled terminal or
//! pipe never holds up a request; past [`CAPACITY`] waiting bytes lines are dropped and counted. The master, and everything
//! before `start` and after it, has no such thread (a process that forks must not) and writes directly, but waits no
//! longer than [`PATIENCE`].

mod sink;

pub use sink::{CAPACITY, Destination, are_files_open, reopen_files};

use sink::STDERR;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::thread::JoinHandle;

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

static VERBOSITY: AtomicI64 = AtomicI64::new(4);

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
        STDERR.write(format!("{}{text}\n", level.prefix()).as_bytes());
    }
}

/// The writer threads of a process; dropping it writes what waits and ends the threads.
#[derive(Debug, Default)]
pub struct Writer {
    threads: Vec<(Destination, JoinHandle<()>)>,
}

impl Writer {
    /// Starts the threads: one for messages, one for each other destination. Only in a process that forks no more.
    pub fn start(destinations: impl IntoIterator<Item = Destination>) -> std::io::Result<Writer> {
        let mut writer = Writer::default();
        writer.add(Destination::Stderr)?;
        destinations.into_iter().try_for_each(|destination| writer.add(destination))?;
        Ok(writer)
    }

    /// Starts the thread of one more destination, unless it has one.
    pub fn add(&mut self, destination: Destination) -> std::io::Result<()> {
        if self.threads.iter().any(|(known, _)| known.is(&destination)) {
            return Ok(());
        }
        let sink = destination.clone();
        sink.sink().prepare();
        let thread =
            std::thread::Builder::new().name("iodine-log".into()).spawn(move || sink.sink().run())?;
        destination.sink().set_threaded(true);
        self.threads.push((destination, thread));
        Ok(())
    }
}

impl Drop for Writer {
    // Messages come last: the others may have something to say.
    fn drop(&mut self) {
        for (destination, thread) in self.threads.drain(..).rev() {
            destination.sink().stop();
            let _ = thread.join();
        }
    }
}

/// For a forked child of the application: from here on messages are written directly.
pub fn write_directly() {
    STDERR.set_threaded(false);
}
