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
    /// Until nobody waits for notices any more.
    pipe: Mutex<Option<Pipe>>,
}

#[derive(Debug)]
struct Pipe {
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
        let pipe = Mutex::new(Some(Pipe { reader: Fd::new(reader), writer: Fd::new(writer) }));
        Ok(Notices { shared: Arc::new(Shared { queue: Mutex::default(), pipe }) })
    }

    /// The descriptor to wait for; none when this is closed.
    pub fn descriptor(&self) -> Option<RawFd> {
        self.pipe().as_ref().map(|pipe| pipe.reader.as_raw_fd())
    }

    /// Closes the descriptors: nobody waits for notices any more, however long something holds this.
    pub fn close(&self) {
        *self.pipe() = None;
    }

    /// Adds a notice. Bounded by what can happen to a process: a handful.
    pub fn post(&self, notice: Notice) {
        self.lock().push_back(notice);
        self.wake();
    }

    /// Makes the descriptor readable without a notice.
    pub fn wake(&self) {
        // A full pipe is readable already.
        if let Some(pipe) = &*self.pipe() {
            let _ = rustix::io::write(&pipe.writer, &[0]);
        }
    }

    /// The next notice. Without one the descriptor falls silent until the next comes.
    pub fn take(&self) -> Option<Notice> {
        let mut queue = self.lock();
        if let (true, Some(pipe)) = (queue.is_empty(), &*self.pipe()) {
            while rustix::io::read(&pipe.reader, &mut [0; 64]).is_ok_and(|count| count == 64) {}
        }
        queue.pop_front()
    }

    fn pipe(&self) -> MutexGuard<'_, Option<Pipe>> {
        self.shared.pipe.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Notice>> {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_readable(notices: &Notices) -> bool {
        let pipe = notices.pipe();
        let reader = &pipe.as_ref().unwrap().reader;
        let mut fds = [rustix::event::PollFd::new(reader, rustix::event::PollFlags::IN)];
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

    #[test]
    fn a_closed_one_has_no_descriptors() {
        let notices = Notices::new().unwrap();
        let kept = notices.clone();
        notices.close();
        assert_eq!(kept.descriptor(), None);
        kept.post(Notice::Drained);
        assert_eq!((kept.take(), kept.take()), (Some(Notice::Drained), None));
    }
}
