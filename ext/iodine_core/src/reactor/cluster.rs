//! The links of a cluster: who is there, and what is published in one process and heard in another.
//!
//! The master relays: a worker has a link to it alone. What a worker publishes comes to the master in the order of publication,
//! and to each of the others in the order in which it came there, so that order is kept for each publisher.

use super::{FIRST_WORKER_LINK, MASTER_LINK, Reactor, WAKER};
use crate::command::Command;
use crate::hub::Message;
use crate::job::Job;
use crate::link::{Heard, Link};
use crate::notice::Notice;
use iodine_codec::link::{Frame, Scope};
use mio::unix::SourceFd;
use mio::{Interest, Token};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a worker that ends waits for the master to take what it has to say.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Frames of one link in a turn, so that none keeps the others waiting.
const FRAMES: usize = 4096;

/// A channel, or with the flag a pattern, that is heard in a worker.
pub(super) type Channel = (Box<[u8]>, bool);

/// Something that was said over a link.
enum Said {
    Ready,
    Stop,
    Publish(Scope, Arc<Message>),
    Channel { channel: Channel, heard: bool },
    Ask { engine: u32, id: u64, bytes: Vec<u8> },
    Reply { id: u64, bytes: Vec<u8> },
    Gone,
}

impl Said {
    fn of(frame: Frame<'_>) -> Said {
        match frame {
            Frame::Ready => Said::Ready,
            Frame::Stop => Said::Stop,
            Frame::Publish { scope, channel, data } => {
                Said::Publish(scope, Arc::new(Message { channel: channel.into(), data: data.into() }))
            }
            Frame::Channel { name, pattern, heard } => {
                Said::Channel { channel: (name.into(), pattern), heard }
            }
            Frame::Ask { engine, id, bytes } => Said::Ask { engine, id, bytes: bytes.to_vec() },
            Frame::Reply { id, bytes } => Said::Reply { id, bytes: bytes.to_vec() },
        }
    }
}

impl Reactor {
    /// Looks after the worker's end of its link to the master.
    pub fn follow(&mut self, link: Link) -> io::Result<()> {
        self.register_link(&link, MASTER_LINK)?;
        self.master_link = Some(link);
        Ok(())
    }

    fn register_link(&self, link: &Link, token: Token) -> io::Result<()> {
        debug_assert_ne!(token, WAKER, "a link has a token of its own");
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut SourceFd(&link.as_raw_fd()), token, interest)
    }

    pub(super) fn adopt(&mut self, slot: usize, link: Link) {
        debug_assert!(!self.worker_links.contains_key(&slot), "whoever had this place before is buried");
        if self.register_link(&link, Token(FIRST_WORKER_LINK + slot)).is_err() {
            return self.handle.notices().post(Notice::WorkerGone(slot));
        }
        self.worker_links.insert(slot, link);
        self.hear_worker(slot);
    }

    // --- listening ----------------------------------------------------------------------------------------------

    /// The link to the master has something to read, or takes more.
    pub(super) fn hear_master(&mut self) {
        self.unsent_links |= self.master_link.as_ref().is_some_and(Link::has_unsent);
        for _ in 0..FRAMES {
            let Some(said) = self.next_said(None) else { return };
            match said {
                Said::Stop => self.handle.notices().post(Notice::StopAsked),
                Said::Publish(_, message) => self.deliver_here(&message),
                Said::Reply { id, bytes } => self.jobs.push(Job::Reply { id, bytes }),
                Said::Gone => {
                    self.master_link = None;
                    self.handle.notices().post(Notice::MasterGone);
                }
                Said::Ready | Said::Channel { .. } | Said::Ask { .. } => {}
            }
        }
        self.unheard_links.push(None);
    }

    /// The link to the worker in this place has something to read, or takes more.
    pub(super) fn hear_worker(&mut self, slot: usize) {
        self.unsent_links |= self.worker_links.get(&slot).is_some_and(Link::has_unsent);
        for _ in 0..FRAMES {
            let Some(said) = self.next_said(Some(slot)) else { return };
            match said {
                Said::Ready => self.handle.notices().post(Notice::WorkerReady(slot)),
                Said::Gone => {
                    self.lose_worker(slot);
                    self.handle.notices().post(Notice::WorkerGone(slot));
                }
                said => self.heed_worker(slot, said),
            }
        }
        self.unheard_links.push(Some(slot));
    }

    /// The worker in this place has died, and was waited for. What it said last is heard now: before the next turn its place
    /// may be another's. Of its end nobody has to be told.
    pub fn bury_worker(&mut self, slot: usize) {
        if !self.worker_links.contains_key(&slot) {
            return;
        }
        // Bounded by what its socket holds.
        while let Some(said) = self.next_said(Some(slot)) {
            match said {
                Said::Gone => break,
                said => self.heed_worker(slot, said),
            }
        }
        self.lose_worker(slot);
        // At the end of a turn others are told what came of it.
        self.handle.send(Command::LookAround);
    }

    fn heed_worker(&mut self, slot: usize, said: Said) {
        match said {
            Said::Publish(scope, message) => self.relay(slot, scope, &message),
            Said::Channel { channel, heard } => self.note_channel(slot, channel, heard),
            Said::Ask { engine, id, bytes } => self.jobs.push(Job::Ask { slot, engine, id, bytes }),
            Said::Ready | Said::Gone | Said::Stop | Said::Reply { .. } => {}
        }
    }

    /// Goes on with the links that had more to say than one turn allows.
    pub(super) fn hear_on(&mut self) {
        for place in std::mem::take(&mut self.unheard_links) {
            match place {
                None => self.hear_master(),
                Some(slot) => self.hear_worker(slot),
            }
        }
    }

    /// The next thing said by the master, or by the worker in that place.
    fn next_said(&mut self, slot: Option<usize>) -> Option<Said> {
        loop {
            let link = match slot {
                None => self.master_link.as_mut()?,
                Some(slot) => self.worker_links.get_mut(&slot)?,
            };
            match link.next_frame() {
                Ok(Some(frame)) => return Some(Said::of(frame)),
                Ok(None) => {}
                Err(_) => return Some(Said::Gone),
            }
            match link.listen(&mut self.read_buffer) {
                // What was subscribed before this was published hears it.
                Heard::Something => self.handle_commands(),
                Heard::Nothing => return None,
                Heard::Gone => return Some(Said::Gone),
            }
        }
    }

    fn lose_worker(&mut self, slot: usize) {
        self.worker_links.remove(&slot);
        for (name, pattern) in self.worker_channels.remove(&slot).unwrap_or_default() {
            self.jobs.push(Job::Channel { name, pattern, heard: false });
        }
    }

    /// Each worker counts for one, however often it says so.
    fn note_channel(&mut self, slot: usize, channel: Channel, heard: bool) {
        let known = self.worker_channels.entry(slot).or_default();
        let changed = if heard { known.insert(channel.clone()) } else { known.remove(&channel) };
        if changed {
            let (name, pattern) = channel;
            self.jobs.push(Job::Channel { name, pattern, heard });
        }
    }

    // --- speaking -----------------------------------------------------------------------------------------------

    pub(super) fn say_to_master(&mut self, frame: &Frame<'_>) {
        if let Some(link) = &mut self.master_link {
            link.say(frame);
            self.unsent_links = true;
        }
    }

    pub(super) fn say_to_worker(&mut self, slot: usize, frame: &Frame<'_>) {
        if let Some(link) = self.worker_links.get_mut(&slot) {
            link.say(frame);
            self.unsent_links = true;
        }
    }

    /// Publishes a message of this process.
    pub(super) fn publish(&mut self, scope: Scope, message: &Arc<Message>) {
        let is_worker = self.master_link.is_some();
        let here = match scope {
            Scope::Cluster | Scope::Process => true,
            Scope::Siblings => false,
            // Whoever is no worker is the root.
            Scope::Root => !is_worker,
        };
        if here {
            self.deliver_here(message);
        }
        match scope {
            Scope::Process => {}
            Scope::Root if !is_worker => {}
            Scope::Cluster | Scope::Siblings | Scope::Root => self.relay_but(None, scope, message),
        }
    }

    /// What a worker has published, for the master and for the other workers.
    fn relay(&mut self, from: usize, scope: Scope, message: &Arc<Message>) {
        self.deliver_here(message);
        if matches!(scope, Scope::Cluster | Scope::Siblings) {
            self.relay_but(Some(from), scope, message);
        }
    }

    /// To all that have a link with this process, but one.
    fn relay_but(&mut self, but: Option<usize>, scope: Scope, message: &Message) {
        if self.master_link.is_none() && self.worker_links.is_empty() {
            return;
        }
        let Message { channel, data } = message;
        let frame: Arc<[u8]> = Frame::Publish { scope, channel, data }.to_vec().into();
        let workers = self.worker_links.iter_mut().filter(|(slot, _)| Some(**slot) != but);
        for link in workers.map(|(_, link)| link).chain(&mut self.master_link) {
            link.relay(&frame, self.now);
        }
        self.unsent_links = true;
    }

    fn deliver_here(&mut self, message: &Arc<Message>) {
        self.hub.publish(message, self.now, &mut self.published, &mut self.jobs);
    }

    /// Sends what was said in this turn: in one write for each link, however much it was.
    pub(super) fn flush_links(&mut self) {
        if !std::mem::take(&mut self.unsent_links) {
            return;
        }
        // One that is gone reads as such.
        for link in self.worker_links.values_mut().chain(&mut self.master_link) {
            if link.has_unsent() {
                link.flush();
            }
        }
    }

    /// What was published while the process ended still goes out.
    pub(super) fn say_last_words(&mut self) {
        let until = Instant::now() + LAST_WORDS;
        let Some(link) = &mut self.master_link else { return };
        while link.has_unsent() && link.flush() && link.has_unsent() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ReactorConfig;
    use mio::Events;

    fn publication(data: &[u8]) -> Frame<'_> {
        Frame::Publish { scope: Scope::Cluster, channel: b"c", data }
    }

    /// The frames that have come, as text.
    fn heard(link: &mut Link) -> Vec<String> {
        let mut buffer = [0; 64 * 1024];
        let mut frames = Vec::new();
        while link.listen(&mut buffer) == Heard::Something {
            while let Some(frame) = link.next_frame().unwrap() {
                frames.push(format!("{frame:?}"));
            }
        }
        frames
    }

    #[test]
    fn what_a_dead_worker_said_last_is_heard_though_its_place_is_taken_at_once() {
        let mut master = Reactor::new(ReactorConfig::default()).unwrap();
        let mut events = Events::with_capacity(8);
        let (ours, mut dying) = Link::pair().unwrap();
        let (others, mut other) = Link::pair().unwrap();
        master.adopt(0, ours);
        master.adopt(1, others);
        dying.say(&Frame::Channel { name: b"early", pattern: false, heard: true });
        assert!(dying.flush());
        master.turn(&mut events, Some(Duration::ZERO));
        assert_eq!(master.handle.jobs().drain().len(), 1);
        // Nobody turns the reactor between these words and the next worker's birth.
        dying.say(&Frame::Ready);
        dying.say(&Frame::Channel { name: b"late", pattern: false, heard: true });
        let last_words: Vec<String> = (0..FRAMES + 1).map(|number| number.to_string()).collect();
        last_words.iter().for_each(|words| dying.say(&publication(words.as_bytes())));
        assert!(dying.flush() && !dying.has_unsent());
        drop(dying);
        master.bury_worker(0);
        let (ours, mut fresh) = Link::pair().unwrap();
        master.handle.send(Command::Adopt { slot: 0, link: Box::new(ours) });
        assert_eq!(master.prepare_wait(), Some(Duration::ZERO));
        master.turn(&mut events, Some(Duration::ZERO));
        let jobs = master.handle.jobs().drain().into_iter().map(|job| match job {
            Job::Channel { name, heard, .. } => format!("{} {heard}", name.escape_ascii()),
            other => panic!("{other:?}"),
        });
        let mut ends: Vec<_> = jobs.collect();
        assert_eq!(ends.remove(0), "late true");
        ends.sort();
        assert_eq!(ends, ["early false", "late false"]);
        let expected: Vec<_> =
            last_words.iter().map(|words| format!("{:?}", publication(words.as_bytes()))).collect();
        assert_eq!(heard(&mut other), expected);
        // Neither readiness nor death of the old one is taken for the new one's.
        assert_eq!((master.handle.notices().take(), heard(&mut fresh)), (None, Vec::new()));
        fresh.say(&Frame::Ready);
        assert!(fresh.flush());
        master.turn(&mut events, Some(Duration::ZERO));
        assert_eq!(master.handle.notices().take(), Some(Notice::WorkerReady(0)));
        master.bury_worker(7);
    }
}
