//! Whether connections come faster than their requests: then each costs two events, one for itself and one for its request,
//! unless the system keeps it until its first bytes are there.
//!
//! Not for ever: whoever connects and is silent does so by intention when few do, and is to hear of the server's end. And
//! not for silent ones: they would wait in the kernel's queue of half-open connections, which holds as many as the backlog
//! allows, and whoever comes when it is full has to do with SYN cookies.

use std::time::{Duration, Instant};

/// So many connections with nothing to say yet, within [`RUSH_FOR`], are a rush.
pub(super) const RUSH: u32 = 64;
pub(super) const RUSH_FOR: Duration = Duration::from_millis(100);
/// How long the system waits for first bytes then.
pub(super) const DEFER_FOR: Duration = Duration::from_secs(1);
/// For so long it is not asked to again when that has gained nothing.
const REST: Duration = Duration::from_secs(60);

/// What is known of the rush at one door.
#[derive(Debug)]
pub(super) struct Rush {
    /// Connections that had said nothing when they were accepted, and since when they are counted.
    silent: u32,
    since: Instant,
    deferring: bool,
    /// Connections that came with their first bytes meanwhile.
    gained: u32,
    rests_until: Option<Instant>,
}

impl Rush {
    pub(super) fn new(now: Instant) -> Rush {
        Rush { silent: 0, since: now, deferring: false, gained: 0, rests_until: None }
    }

    /// Counts a connection. True when the system should wait for first bytes from now on, for [`DEFER_FOR`].
    pub(super) fn begins(&mut self, silent: bool, now: Instant) -> bool {
        if self.deferring {
            self.gained += u32::from(!silent);
            return false;
        }
        if !silent || self.rests_until.is_some_and(|until| now < until) {
            return false;
        }
        if now.duration_since(self.since) > RUSH_FOR {
            (self.silent, self.since) = (0, now);
        }
        self.silent += 1;
        self.deferring = self.silent >= RUSH;
        self.gained = 0;
        self.deferring
    }

    /// Returns whether there was one.
    pub(super) fn ends(&mut self, now: Instant) -> bool {
        if !std::mem::take(&mut self.deferring) {
            return false;
        }
        self.silent = 0;
        if self.gained < RUSH {
            self.rests_until = Some(now + REST);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begins_with(rush: &mut Rush, silent: u32, now: Instant) -> bool {
        (0..silent).filter(|_| rush.begins(true, now)).count() == 1
    }

    #[test]
    fn many_silent_ones_at_once_are_a_rush() {
        let start = Instant::now();
        let mut rush = Rush::new(start);
        assert!(!begins_with(&mut rush, RUSH - 1, start));
        assert!((0..RUSH).all(|_| !rush.begins(false, start)));
        // Too late to count with the others.
        let late = start + RUSH_FOR * 2;
        assert!(!begins_with(&mut rush, RUSH - 1, late));
        assert!(rush.begins(true, late));
        assert!(rush.ends(late) && !rush.ends(late));
    }

    #[test]
    fn it_begins_again_only_if_the_last_one_was_worth_it() {
        let start = Instant::now();
        let mut rush = Rush::new(start);
        let mut at = start;
        for _ in 0..3 {
            assert!(begins_with(&mut rush, RUSH, at));
            assert!((0..RUSH).all(|_| !rush.begins(false, at)));
            at += DEFER_FOR;
            assert!(rush.ends(at));
        }
        assert!(begins_with(&mut rush, RUSH, at));
        assert!(rush.ends(at));
        assert!(!begins_with(&mut rush, RUSH * 3, at + REST / 2));
        assert!(begins_with(&mut rush, RUSH, at + REST));
    }
}
