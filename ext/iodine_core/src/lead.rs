//! Who turns the reactor: an app thread that has nothing else to do, or the standby, a native thread.
//!
//! To hand a few quick jobs to another thread, and their answers back, costs more than to run them. So while jobs are
//! [instant](crate::JobQueue::is_instant), the app thread that finds none takes the lead: it turns the reactor, without the GVL, and
//! runs what comes of it (leader and followers). Meanwhile nobody waits for events. The standby sees to it that this
//! does not last: it looks once in a [`TICK`], and takes the lead when nobody has turned the reactor since. While an app thread
//! has the lead and sleeps, there is nothing to look after, and the standby sleeps, too. While jobs are not instant, or much comes
//! of a turn, the standby leads all the time, so that reading and writing go on beside Ruby.

use crate::command::{Command, Handle};
use crate::log;
use crate::notice::Notice;
use crate::reactor::Reactor;
use crossbeam_utils::sync::{Parker, Unparker};
use mio::Events;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, SeqCst},
    fence,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// How often the standby looks whether the reactor is turned.
pub const TICK: Duration = Duration::from_millis(2);
/// Events taken from the poller at a time.
const EVENTS: usize = 1024;

/// The lead of a reactor, which one thread at a time has; clones share it.
#[derive(Clone, Debug)]
pub struct Lead {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Locked by whoever has the lead.
    seat: Mutex<Seat>,
    handle: Handle,
    /// Turns that app threads have made.
    turns: AtomicU64,
    /// Whether the standby looks, or leads. Whoever lets go of the seat sees to it afterwards.
    watched: AtomicBool,
    /// The app thread that had the lead will not come back to it.
    resigned: AtomicBool,
    /// An app thread would rather have the lead.
    wanted: AtomicBool,
    standby: Unparker,
    /// What the standby was asked to do besides.
    errand: Mutex<Option<fn()>>,
}

#[derive(Debug)]
struct Seat {
    /// Gone when it has ended.
    reactor: Option<Reactor>,
    events: Events,
    courtesy: Courtesy,
}

/// The thread that leads when no app thread does.
#[derive(Debug)]
pub struct Standby {
    lead: Lead,
    parker: Parker,
}

/// An app thread's time in the lead.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    seat: MutexGuard<'a, Seat>,
    lead: &'a Lead,
}

impl Lead {
    /// The lead of `reactor`, which the standby has first.
    pub fn new(reactor: Reactor) -> (Lead, Standby) {
        let parker = Parker::new();
        let shared = Shared {
            handle: reactor.handle().clone(),
            seat: Mutex::new(Seat {
                reactor: Some(reactor),
                events: Events::with_capacity(EVENTS),
                courtesy: Courtesy { from: Instant::now() },
            }),
            turns: AtomicU64::new(0),
            watched: AtomicBool::new(true),
            resigned: AtomicBool::new(false),
            wanted: AtomicBool::new(false),
            standby: parker.unparker().clone(),
            errand: Mutex::default(),
        };
        let lead = Lead { shared: Arc::new(shared) };
        (lead.clone(), Standby { lead, parker })
    }

    /// The way to the reactor.
    pub fn handle(&self) -> &Handle {
        &self.shared.handle
    }

    /// The lead, if nobody has it and app threads may. Else the standby gives way when there is next something to run.
    pub(crate) fn take(&self) -> Option<Turn<'_>> {
        let Some(seat) = self.try_seat() else {
            self.shared.wanted.store(true, Relaxed);
            return None;
        };
        if seat.reactor.as_ref().is_some_and(|reactor| !reactor.has_ended() && !reactor.is_broad()) {
            return Some(Turn { seat, lead: self });
        }
        drop(seat);
        self.shared.wanted.store(true, Relaxed);
        // The standby may have taken this look for somebody who leads.
        self.leave();
        None
    }

    /// To be called by an app thread that has had the lead, and goes to run a job.
    pub(crate) fn leave(&self) {
        // Either this sees that the standby does not look, or the standby, before it sleeps, sees that nobody leads.
        fence(SeqCst);
        if !self.shared.watched.swap(true, SeqCst) {
            self.shared.standby.unpark();
        }
    }

    /// To be called by an app thread that has had the lead, and will not come back for it.
    pub(crate) fn resign(&self) {
        self.shared.resigned.store(true, SeqCst);
        self.shared.watched.store(true, SeqCst);
        self.shared.standby.unpark();
    }

    /// Has the standby do `errand` soon: what only that thread can do, which may have allocated much.
    pub fn send_standby(&self, errand: fn()) {
        *self.shared.errand.lock().unwrap_or_else(PoisonError::into_inner) = Some(errand);
        self.shared.standby.unpark();
        self.shared.handle.send(Command::LookAround);
    }

    fn try_seat(&self) -> Option<MutexGuard<'_, Seat>> {
        match self.shared.seat.try_lock() {
            Ok(seat) => Some(seat),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl Turn<'_> {
    pub(crate) fn handle(&self) -> &Handle {
        &self.lead.shared.handle
    }

    /// Turns the reactor once, after what is left to be written. `is_called` tells, when others have to wake the reactor,
    /// whether the thread is wanted already; `woken` is called when it is awake again.
    pub(crate) fn turn(mut self, is_called: impl FnOnce() -> bool, woken: impl FnOnce()) {
        // With the seat taken, so that the standby need not think that nobody looks after anything.
        self.handle().write_unwritten();
        self.seat.courtesy.give_way();
        self.seat.turn(|reactor, events| {
            reactor.set_led(true);
            let timeout = reactor.prepare_wait();
            reactor.wait(events, if is_called() { Some(Duration::ZERO) } else { timeout });
            woken();
            reactor.handle_events(events)
        });
        self.lead.shared.turns.fetch_add(1, Relaxed);
    }
}

impl Seat {
    /// Has `work` turn the reactor, and returns what it does. A panic is the end of the reactor, but not unheard: whoever
    /// waits for notices would wait for ever.
    fn turn(&mut self, work: impl FnOnce(&mut Reactor, &mut Events) -> bool) -> bool {
        let Seat { reactor: place, events, .. } = self;
        let Some(reactor) = place else { return false };
        let handle = reactor.handle().clone();
        catch_unwind(AssertUnwindSafe(|| work(reactor, events))).unwrap_or_else(|panic| {
            *place = None;
            tell_of_panic(&handle, &*panic);
            false
        })
    }
}

fn tell_of_panic(handle: &Handle, panic: &(dyn Any + Send)) {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("for a reason that is no text");
    log::message(log::Level::Fatal, &format!("the reactor has panicked: {text}"));
    handle.notices().post(Notice::Failed);
}

impl Standby {
    /// Leads, or stands by, until [`Command::Exit`](crate::Command::Exit). When the reactor ends in any other way,
    /// [`Notice::Failed`] tells.
    pub fn run(self) {
        let mut seat = self.lead.shared.seat.lock().unwrap_or_else(PoisonError::into_inner);
        while self.lead_on(&mut seat) {
            drop(seat);
            seat = self.stand_by();
            if let Some(reactor) = &mut seat.reactor {
                reactor.take_over();
            }
        }
    }

    /// Leads until an app thread that wants to is woken. False when the reactor has ended.
    fn lead_on(&self, seat: &mut Seat) -> bool {
        let shared = &self.lead.shared;
        shared.handle.set_attended(true);
        loop {
            let Some(reactor) = &seat.reactor else { return false };
            if reactor.has_ended() {
                seat.turn(|reactor, _| {
                    reactor.finish();
                    false
                });
                seat.reactor = None;
                return false;
            }
            self.run_errand();
            let mut broad = false;
            let woke = seat.turn(|reactor, events| {
                reactor.set_led(false);
                let timeout = reactor.prepare_wait();
                let woke = reactor.turn(events, timeout);
                broad = reactor.is_broad();
                woke
            });
            if woke && !broad && shared.handle.jobs().is_instant() && shared.wanted.swap(false, Relaxed) {
                shared.handle.set_attended(false);
                // Nobody can have let go of the lead since; of what was said before nothing counts.
                shared.resigned.store(false, SeqCst);
                self.parker.park_timeout(Duration::ZERO);
                return true;
            }
        }
    }

    fn run_errand(&self) {
        let errand = self.lead.shared.errand.lock().unwrap_or_else(PoisonError::into_inner).take();
        errand.into_iter().for_each(|errand| errand());
    }

    /// Looks, until nobody has turned the reactor for a while.
    fn stand_by(&self) -> MutexGuard<'_, Seat> {
        let shared = &self.lead.shared;
        let mut seen = shared.turns.load(Relaxed);
        loop {
            match shared.watched.load(SeqCst) {
                true => self.parker.park_timeout(TICK),
                false => self.parker.park(),
            }
            self.run_errand();
            let turns = shared.turns.load(Relaxed);
            let moves = std::mem::replace(&mut seen, turns) != turns;
            if !shared.resigned.swap(false, SeqCst) && moves {
                continue;
            }
            if let Some(seat) = self.lead.try_seat() {
                return seat;
            }
            // Whoever has the lead sleeps, or takes its time, and calls when it goes.
            shared.watched.store(false, SeqCst);
            fence(SeqCst);
            if self.lead.try_seat().is_some() {
                shared.watched.store(true, SeqCst);
            }
        }
    }
}

/// Giving way to other threads of the machine before waiting. Whoever makes requests often waits for this core: let go
/// on, it makes several, and is not interrupted to have the first of them read at once.
#[derive(Debug)]
struct Courtesy {
    from: Instant,
}

/// Somebody else's work that goes on for so long has nothing to do with ours.
const ABUSED: Duration = Duration::from_millis(2);
/// Then nobody is given way to for so many times as long: of its share of a busy core this thread gives away little.
const REST: u32 = 16;

impl Courtesy {
    fn give_way(&mut self) {
        let before = Instant::now();
        if before < self.from {
            return;
        }
        std::thread::yield_now();
        let after = Instant::now();
        self.note(before, after);
    }

    fn note(&mut self, before: Instant, after: Instant) {
        let away = after.duration_since(before);
        if away >= ABUSED {
            self.from = after + away * REST;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ReactorConfig;

    #[test]
    fn a_panic_ends_the_reactor_and_is_told() {
        log::set_verbosity(0);
        for text in [false, true] {
            let (lead, standby) = Lead::new(Reactor::new(ReactorConfig::default()).unwrap());
            let turn = |seat: &mut Seat| {
                seat.turn(|_, _| match text {
                    true => panic!("on purpose, in slot {}", 1),
                    false => std::panic::panic_any(7),
                })
            };
            assert!(!turn(&mut lead.try_seat().unwrap()));
            let notices = lead.handle().notices();
            assert_eq!((notices.take(), notices.take()), (Some(Notice::Failed), None));
            assert!(lead.take().is_none());
            standby.run();
        }
    }

    /// The standby, which may just then have found the seat locked, is not left to sleep.
    #[test]
    fn who_may_not_have_the_lead_calls_the_standby() {
        let (lead, _standby) = Lead::new(Reactor::new(ReactorConfig::default()).unwrap());
        assert!(lead.take().is_some());
        lead.shared.watched.store(false, SeqCst);
        lead.try_seat().unwrap().reactor = None;
        assert!(lead.take().is_none());
        assert!(lead.shared.watched.load(SeqCst) && lead.shared.wanted.load(Relaxed));
    }

    #[test]
    fn nobody_is_given_way_to_for_long() {
        let start = Instant::now();
        let mut courtesy = Courtesy { from: start };
        courtesy.note(start, start + ABUSED / 2);
        assert_eq!(courtesy.from, start);
        courtesy.note(start, start + ABUSED);
        assert_eq!(courtesy.from, start + ABUSED + ABUSED * REST);
    }
}
