//! Events on their way to the callbacks of a real-time connection: the reactor leaves them, an app thread takes them.

use super::{Event, Stage};
use crate::command::Command;
use crate::conn::{Closing, ConnHandle, Io, Shared};
use crate::hub::Subscription;
use crate::job::Job;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

impl Io {
    /// Leaves `event` for the callbacks. True if the caller has to make a [`Job::Events`] of it.
    #[must_use]
    pub(crate) fn deliver(&mut self, event: Event) -> bool {
        let Some(realtime) = &mut self.realtime else { return false };
        if let Event::Message { data, .. } = &event {
            realtime.inbox_bytes += data.len();
        }
        realtime.inbox.push_back(event);
        if self.in_flight > 0 {
            return false;
        }
        self.in_flight = 1;
        true
    }

    /// Events that wait for the callbacks.
    pub(crate) fn waiting_events(&self) -> usize {
        self.realtime.as_ref().map_or(0, |realtime| realtime.inbox.len())
    }

    /// As [`Io::deliver`], for the last event. Its subscriptions end with it and are returned, under the same lock: one that
    /// was added in between would go on for ever. `None` if it was told before.
    #[must_use]
    pub(crate) fn deliver_closed(&mut self) -> Option<(Vec<Arc<Subscription>>, bool)> {
        let realtime = self.realtime.as_mut().filter(|realtime| realtime.stage != Stage::Closed)?;
        realtime.stage = Stage::Closed;
        realtime.ends = VecDeque::new();
        realtime.deflater = None;
        let ended: Vec<_> = std::mem::take(&mut realtime.subscriptions).into_values().collect();
        ended.iter().for_each(|subscription| subscription.end());
        let runs = self.deliver(Event::Closed(ended.clone()));
        Some((ended, runs))
    }
}

impl Shared {
    /// Takes the events that wait. For the thread that runs its [`Job::Events`].
    pub fn take_events(&self) -> VecDeque<Event> {
        let mut io = self.lock();
        let Some(realtime) = &mut io.realtime else { return VecDeque::new() };
        // An idle connection keeps no memory for events.
        let events = std::mem::take(&mut realtime.inbox);
        realtime.inbox_bytes = 0;
        let resume = io.resume_at.is_some() && io.has_room();
        if resume {
            io.resume_at = None;
        }
        drop(io);
        if resume {
            self.handle().send(Command::Resume(self.id()));
        }
        events
    }

    /// The events that were taken have been handled. True if more wait, which the caller has to see to.
    pub fn finish_events(self: &ConnHandle, now: Instant) -> bool {
        let mut io = self.lock();
        if io.realtime.as_ref().is_some_and(|realtime| !realtime.inbox.is_empty()) {
            return true;
        }
        // Where nothing was written, no flush tells so.
        if io.take_drained() {
            if let Some(realtime) = &mut io.realtime {
                realtime.inbox.push_back(Event::Drained);
                return true;
            }
        }
        io.in_flight = 0;
        io.answered = Some(now);
        if let Some(word) = io.realtime.as_mut().and_then(|realtime| realtime.last_word.take()) {
            io.say_last(word);
        }
        // It may have waited for this.
        let flush = io.closing != Closing::No && io.stream.is_some();
        drop(io);
        if flush {
            self.handle().leave_unwritten(self.clone());
        }
        false
    }

    /// The thread that had taken these events is about to die: another one runs them.
    pub fn put_back_events(self: &ConnHandle, mut events: VecDeque<Event>) {
        let mut io = self.lock();
        let Some(realtime) = &mut io.realtime else { return };
        while let Some(event) = events.pop_back() {
            if let Event::Message { data, .. } = &event {
                realtime.inbox_bytes += data.len();
            }
            realtime.inbox.push_front(event);
        }
        drop(io);
        if self.finish_events(Instant::now()) {
            self.handle().jobs().push(Job::Events(self.clone()));
        } else {
            // What may wait to be written is not for a dying thread.
            self.handle().send(Command::Write(self.clone()));
        }
    }

    /// To be called when a flush has emptied the outbox.
    pub(crate) fn note_drained(self: &ConnHandle) {
        let mut io = self.lock();
        if io.take_drained() && io.deliver(Event::Drained) {
            drop(io);
            self.handle().jobs().push(Job::Events(self.clone()));
        }
    }
}
