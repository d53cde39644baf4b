//! The link between master and worker: one socketpair per worker.
//!
//! So far it carries single bytes: the worker says that it is ready, the master asks it to stop, and each side sees in
//! the end of the stream that the other one is gone, however it died. It has no name in any folder (F-14).

use crate::sys::{Fd, SEND};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use std::os::fd::{AsRawFd, RawFd};

const READY: u8 = b'R';
const STOP: u8 = b'S';

/// One end of a link.
#[derive(Debug)]
pub struct Link {
    fd: Fd,
}

/// What came over a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// The worker serves.
    Ready,
    /// The worker is to end.
    Stop,
    /// The other side is gone.
    Gone,
}

impl Link {
    /// A pair of ends: the master's and the worker's.
    pub fn pair() -> std::io::Result<(Link, Link)> {
        let (master, worker) = crate::sys::pair()?;
        Ok((Link { fd: Fd::new(master) }, Link { fd: Fd::new(worker) }))
    }

    /// The worker tells that it serves.
    pub fn say_ready(&self) {
        self.say(READY);
    }

    /// The master asks the worker to end.
    pub fn say_stop(&self) {
        self.say(STOP);
    }

    /// The next thing that was said, if any.
    pub fn listen(&self) -> Option<Said> {
        let mut byte = [0];
        loop {
            return match rustix::net::recv(&self.fd, &mut byte, RecvFlags::empty()) {
                Ok((1, _)) if byte[0] == READY => Some(Said::Ready),
                Ok((1, _)) if byte[0] == STOP => Some(Said::Stop),
                Ok((0, _)) => Some(Said::Gone),
                Ok(_) | Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => None,
                Err(_) => Some(Said::Gone),
            };
        }
    }

    // A socketpair takes one byte unless its reader has been stuck for thousands of them; then it is beyond being told.
    fn say(&self, byte: u8) {
        let _ = rustix::net::send(&self.fd, &[byte], SEND);
    }
}

impl AsRawFd for Link {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carries_what_is_said_and_the_end() {
        let (master, worker) = Link::pair().unwrap();
        assert_eq!(master.listen(), None);
        worker.say_ready();
        master.say_stop();
        assert_eq!((master.listen(), worker.listen()), (Some(Said::Ready), Some(Said::Stop)));
        drop(worker);
        assert_eq!(master.listen(), Some(Said::Gone));
    }
}
