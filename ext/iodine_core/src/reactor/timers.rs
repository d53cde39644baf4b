//! The application's timers: at a fixed rate, never over themselves, gone with the server.

use super::Reactor;
use super::deadlines::Due;
use crate::command::Timer;
use crate::job::{Job, Root};
use std::time::Instant;

/// A timer under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running {
    timer: Timer,
    next: Instant,
    left: Option<u64>,
    /// Its block waits to be run, or runs.
    at_work: bool,
    /// It will not fire again.
    cancelled: bool,
}

impl Reactor {
    pub(super) fn add_timer(&mut self, timer: Timer) {
        if self.is_draining() {
            return self.jobs.push(Job::Forget(timer.root));
        }
        let id = self.next_timer;
        self.next_timer += 1;
        // An interval that the clock can not hold never ends.
        let Some(next) = self.now.checked_add(timer.every) else {
            return self.jobs.push(Job::Forget(timer.root));
        };
        self.timers.insert(id, Running { timer, next, left: timer.times, at_work: false, cancelled: false });
        self.timers_by_root.insert(timer.root, id);
        self.deadlines.add(next, Due::Timer(id));
        self.prune_deadlines();
    }

    /// One whose block waits or runs is only done with when that has run.
    pub(super) fn cancel_timer(&mut self, root: Root) {
        let Some(id) = self.timers_by_root.remove(&root) else { return };
        let Some(running) = self.timers.get_mut(&id) else { return };
        if running.at_work {
            running.cancelled = true;
            return;
        }
        self.timers.remove(&id);
        self.jobs.push(Job::Forget(root));
    }

    pub(super) fn fire_timer(&mut self, id: u64) {
        let Some(running) = self.timers.get_mut(&id) else { return };
        running.left = running.left.map(|left| left.saturating_sub(1));
        running.at_work = true;
        let last = running.left == Some(0);
        let root = running.timer.root;
        if last {
            self.timers.remove(&id);
            self.timers_by_root.remove(&root);
        }
        self.jobs.push(Job::Timer { id, root, last });
    }

    /// Fixed rate: the next time is a whole number of intervals after the first, and never in the past.
    pub(super) fn rearm_timer(&mut self, id: u64) {
        let is_draining = self.is_draining();
        let Some(running) = self.timers.get_mut(&id) else { return };
        running.at_work = false;
        if running.cancelled {
            let root = running.timer.root;
            self.timers.remove(&id);
            return self.jobs.push(Job::Forget(root));
        }
        if is_draining {
            return self.drop_timers();
        }
        let every = running.timer.every;
        let late = self.now.saturating_duration_since(running.next);
        let missed = late.as_nanos().checked_div(every.as_nanos()).unwrap_or(0);
        let rounds = u32::try_from(missed).unwrap_or(u32::MAX).saturating_add(1);
        running.next += every.saturating_mul(rounds);
        self.deadlines.add(running.next, Due::Timer(id));
    }

    /// Timers end with the server; one whose block is at work, when that is done.
    pub(super) fn drop_timers(&mut self) {
        let (jobs, by_root) = (&mut self.jobs, &mut self.timers_by_root);
        self.timers.retain(|_, running| {
            if !running.at_work {
                by_root.remove(&running.timer.root);
                jobs.push(Job::Forget(running.timer.root));
            }
            running.at_work
        });
    }
}
