//! The link between master and worker: one socketpair per worker, without a name in any folder (F-14). Each side sees in the
//! end of the stream that the other one is gone, however it died. What is said stands in [`iodine_codec::link`].
//!
//! A link is its reactor's alone. What is said to a process that does not listen waits, up to [`MOST_WAITING`] bytes; what is
//! published beyond is lost for that process, which is counted and logged. One that has taken something lately does listen:
//! so that a burst reaches it whole, four times as much may wait for it. What keeps the cluster itself together always waits.

use crate::episode::Episode;
use crate::log::{self, Level};
use crate::outbox::{Outbox, Piece};
use crate::stream::{Moved, Stream};
use crate::sys::Fd;
use iodine_codec::link::{Frame, FrameDecoder, Garbled};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes that may wait for the other side before messages to it are dropped.
pub const MOST_WAITING: u64 = 64 * 1024 * 1024;
/// The same for one that takes what it is sent, only not as quickly.
const MOST_IN_BURSTS: u64 = 4 * MOST_WAITING;
/// A process that takes nothing for so long does not listen.
const DEAF_AFTER: Duration = Duration::from_secs(1);

/// One end of a link.
#[derive(Debug)]
pub struct Link {
    stream: Stream,
    decoder: FrameDecoder,
    outbox: Outbox,
    /// When something began to wait, or when the other side has last taken some of it.
    taken: Instant,
    /// Messages are being lost.
    losing: Episode,
    lost: u64,
}

/// What a link came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// There is something to look at.
    Something,
    /// There is nothing more to read for now.
    Nothing,
    /// The other side is gone.
    Gone,
}

impl Link {
    /// A pair of ends: the master's and the worker's.
    pub fn pair() -> std::io::Result<(Link, Link)> {
        let (master, worker) = crate::sys::pair()?;
        Ok((Link::new(Fd::new(master)), Link::new(Fd::new(worker))))
    }

    fn new(fd: Fd) -> Link {
        Link {
            stream: Stream::new(fd),
            decoder: FrameDecoder::default(),
            outbox: Outbox::default(),
            taken: Instant::now(),
            losing: Episode::new(),
            lost: 0,
        }
    }

    /// Says something that must not be lost. [`Link::flush`] sends it.
    pub fn say(&mut self, frame: &Frame<'_>) {
        self.note_begin();
        self.outbox.extend(64, |out| frame.encode(out));
    }

    /// Says something that was published: a whole frame, which other links may share. It is dropped while too much waits.
    pub fn relay(&mut self, frame: &Arc<[u8]>, now: Instant) {
        if !self.has_room(frame.len(), now) {
            self.lost += 1;
            if self.losing.begins(now) {
                let waiting = MOST_WAITING >> 20;
                log::message(
                    Level::Error,
                    &format!(
                        "a process of the cluster does not listen: {waiting} MiB wait for it, messages to it are lost"
                    ),
                );
            }
            return;
        }
        if self.lost > 0 && self.outbox.is_empty() {
            let lost = std::mem::take(&mut self.lost);
            log::message(
                Level::Warning,
                &format!("a process of the cluster listens again; {lost} messages to it were lost"),
            );
        }
        self.note_begin();
        self.outbox.push(Piece::Shared(frame.clone()));
    }

    /// Whether so many bytes more may wait. Alone, anything may.
    fn has_room(&mut self, length: usize, now: Instant) -> bool {
        let fits = |outbox: &Outbox, most| outbox.is_empty() || outbox.pending() + length as u64 <= most;
        if fits(&self.outbox, MOST_WAITING) {
            return true;
        }
        // All this may have gathered in one turn. If the other side is gone, reading tells.
        self.flush();
        let listens = now.saturating_duration_since(self.taken) < DEAF_AFTER;
        fits(&self.outbox, if listens { MOST_IN_BURSTS } else { MOST_WAITING })
    }

    fn note_begin(&mut self) {
        if self.outbox.is_empty() {
            self.taken = Instant::now();
        }
    }

    /// Sends what waits, as far as the other side takes it. False when it is gone.
    pub fn flush(&mut self) -> bool {
        let before = self.outbox.pending();
        let moved = self.outbox.write_to(&self.stream, false);
        if self.outbox.pending() < before {
            self.taken = Instant::now();
        }
        moved != Moved::Broken
    }

    /// Whether something waits to be sent.
    pub fn has_unsent(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Reads some of what has come; [`Link::next_frame`] has it then.
    pub fn listen(&mut self, buffer: &mut [u8]) -> Heard {
        match self.stream.read(buffer) {
            Moved::Bytes(0) | Moved::Broken => Heard::Gone,
            Moved::WouldBlock => Heard::Nothing,
            Moved::Bytes(count) => {
                self.decoder.feed(buffer.get(..count).unwrap_or_default());
                Heard::Something
            }
        }
    }

    /// The next thing that was said.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, Garbled> {
        self.decoder.next_frame()
    }
}

impl AsRawFd for Link {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(link: &mut Link) -> (Heard, usize) {
        let mut buffer = vec![0; 64 * 1024];
        let mut frames = 0;
        loop {
            let heard = link.listen(&mut buffer);
            while link.next_frame().unwrap().is_some() {
                frames += 1;
            }
            if heard != Heard::Something {
                return (heard, frames);
            }
        }
    }

    #[test]
    fn carries_what_is_said_and_the_end() {
        let (mut master, mut worker) = Link::pair().unwrap();
        assert_eq!(hear(&mut master), (Heard::Nothing, 0));
        worker.say(&Frame::Ready);
        worker.say(&Frame::Channel { name: b"x", pattern: false, heard: true });
        assert!(worker.flush());
        assert_eq!(hear(&mut master), (Heard::Nothing, 2));
        drop(worker);
        assert_eq!(hear(&mut master), (Heard::Gone, 0));
        master.say(&Frame::Stop);
        assert!(!master.flush());
    }

    #[test]
    fn a_process_that_does_not_listen_loses_messages_but_not_what_matters() {
        log::set_verbosity(0);
        let (mut master, mut worker) = Link::pair().unwrap();
        let frame: Arc<[u8]> = Frame::Publish {
            scope: iodine_codec::link::Scope::Cluster,
            channel: b"c",
            data: &vec![0; 1 << 20],
        }
        .to_vec()
        .into();
        // A burst waits.
        let now = Instant::now();
        for _ in 0..80 {
            master.relay(&frame, now);
        }
        assert_eq!(master.lost, 0);
        while master.has_unsent() {
            hear(&mut worker);
            assert!(master.flush());
        }
        hear(&mut worker);
        let later = Instant::now() + DEAF_AFTER * 2;
        for _ in 0..80 {
            master.relay(&frame, later);
        }
        master.say(&Frame::Stop);
        assert!(master.flush() && master.has_unsent());
        assert!(master.lost >= 80 - 65, "{}", master.lost);
        let mut frames = 0;
        while master.has_unsent() {
            frames += hear(&mut worker).1;
            assert!(master.flush());
        }
        frames += hear(&mut worker).1;
        assert_eq!(frames as u64 + master.lost, 80 + 1);
        master.relay(&frame, Instant::now());
        assert_eq!(master.lost, 0);
    }
}
