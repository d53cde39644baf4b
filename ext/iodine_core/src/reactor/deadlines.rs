//! What is due when. Entries are not removed when they lose their meaning: whoever is named looks again when called. When
//! many have gathered, those that are known to mean nothing any more are thrown out together.

use crate::conn::ConnId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Something to look at when its time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// A connection may have run out of time.
    Conn(ConnId),
    /// A timer of the application.
    Timer(u64),
    /// A door with connections left to other workers, which perhaps nobody took.
    Accept(usize),
    /// A door at which connections had to wait for their first bytes.
    Undefer(usize),
    /// A door that is open for a last moment, as the server ends.
    CloseDoor(usize),
    /// The time to drain is over.
    DrainEnd,
    /// It may be quiet enough to give memory back.
    GiveBack,
    /// Files may be open of which nobody asks any more.
    CloseFiles,
}

#[derive(Debug, Default)]
pub(super) struct Deadlines {
    heap: BinaryHeap<Reverse<Entry>>,
    added: u64,
    /// Entries that there were after the last pruning.
    pruned: usize,
}

/// So many entries may gather in any case.
const SPARE: usize = 1024;

#[derive(Debug)]
struct Entry {
    at: Instant,
    /// What is due at the same instant comes in the order of adding.
    order: u64,
    due: Due,
}

impl Deadlines {
    pub(super) fn add(&mut self, at: Instant, due: Due) {
        self.added += 1;
        self.heap.push(Reverse(Entry { at, order: self.added, due }));
    }

    /// Throws out what means nothing any more, if that may be the half of all.
    pub(super) fn prune(&mut self, is_live: impl Fn(Instant, Due) -> bool) {
        if self.heap.len() > SPARE + 2 * self.pruned {
            self.heap.retain(|Reverse(entry)| is_live(entry.at, entry.due));
            self.pruned = self.heap.len();
        }
    }

    /// The earliest instant at which something is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// Removes something that is due at `now`.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Due> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry.due)
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn gives_what_is_due_in_order() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut deadlines = Deadlines::default();
        deadlines.add(at(20), Due::Timer(2));
        deadlines.add(at(10), Due::Timer(1));
        deadlines.add(at(20), Due::Timer(3));
        assert_eq!((deadlines.pop(at(5)), deadlines.next()), (None, Some(at(10))));
        let due: Vec<_> = std::iter::from_fn(|| deadlines.pop(at(20))).collect();
        assert_eq!(due, [Due::Timer(1), Due::Timer(2), Due::Timer(3)]);
    }

    #[test]
    fn does_not_grow_with_what_means_nothing_any_more() {
        let start = Instant::now();
        let mut deadlines = Deadlines::default();
        for id in 0..100_000 {
            deadlines.add(start, Due::Timer(id));
            deadlines.prune(|_, due| matches!(due, Due::Timer(live) if live % 100 == 0 || live == id));
        }
        assert!(deadlines.heap.len() <= 2 * SPARE + 1000, "{}", deadlines.heap.len());
        let left = std::iter::from_fn(|| deadlines.pop(start));
        assert_eq!(left.filter(|due| matches!(due, Due::Timer(id) if id % 100 == 0)).count(), 1000);
    }
}
