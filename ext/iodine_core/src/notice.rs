//! What the reactor tells the thread that called `start`: the main Ruby thread of a worker, or of the master.

use crate::sys::Fd;
use rustix::io::FdFlags;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An event in the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The master asks this worker to end.
    StopAsked,
    /// The master is gone without having asked.
    MasterGone,
    /// Worker: all connections are closed and all that was to be run has been, after [`crate::Command::Shutdown`].
    Drained,
    /// Worker: the time to drain was over; what was left has been closed.
    DrainTimedOut,
    /// The reactor has come to an end that nobody asked for: nothing is served any more.
    Failed,
    /// Master: the worker in this place serves.
    WorkerReady(usize),
    /// Master: the worker in this place is gone, or about to be.
    WorkerGone(usize),
}

/// A queue of notices; clones share it. It has a descriptor that is readable while a notice waits, because a Ruby thread
/// that is to hear of signals must wait in Ruby's own way, for a descriptor.
#[derive(Clone, Debug)]
pub struct Notices {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<VecDeque<Notice>>,
    reader: Fd,
    writer: Fd,
}

impl Notices {
    /// An empty queue.
    pub fn new() -> io::Result<Notices> {
        let (reader, writer) = rustix::pipe::pipe()?;
        for end in [&reader, &writer] {
            rustix::io::fcntl_setfd(end, FdFlags::CLOEXEC)?;
            rustix::io::ioctl_fionbio(end, true)?;
        }
        let (reader, writer) = (Fd::new(reader), Fd::new(writer));
        Ok(Notices { shared: Arc::new(Shared { queue: Mutex::default(), reader, writer }) })
    }

    /// The descriptor to wait for.
    pub fn descriptor(&self) -> RawFd {
        self.shared.reader.as_raw_fd()
    }

    /// Adds a notice. Bounded by what can happen to a process: a handful.
    pub fn post(&self, notice: Notice) {
        self.lock().push_back(notice);
        self.wake();
    }

    /// Makes the descriptor readable without a notice.
    pub fn wake(&self) {
        // A full pipe is readable already.
        let _ = rustix::io::write(&self.shared.writer, &[0]);
    }

    /// The next notice. Without one the descriptor falls silent until the next comes.
    pub fn take(&self) -> Option<Notice> {
        let mut queue = self.lock();
        if queue.is_empty() {
            while rustix::io::read(&self.shared.reader, &mut [0; 64]).is_ok_and(|count| count == 64) {}
        }
        queue.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Notice>> {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_readable(notices: &Notices) -> bool {
        let mut fds = [rustix::event::PollFd::new(&notices.shared.reader, rustix::event::PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut fds, Some(&now)).unwrap() == 1
    }

    #[test]
    fn the_descriptor_tells_of_notices_until_all_are_taken() {
        let notices = Notices::new().unwrap();
        assert!(!is_readable(&notices));
        notices.post(Notice::Drained);
        notices.post(Notice::StopAsked);
        assert!(is_readable(&notices));
        assert_eq!(notices.take(), Some(Notice::Drained));
        assert!(is_readable(&notices));
        assert_eq!((notices.take(), notices.take()), (Some(Notice::StopAsked), None));
        assert!(!is_readable(&notices));
    }
}
