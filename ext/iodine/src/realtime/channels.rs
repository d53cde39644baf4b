//! Which channels anybody in this process hears, in the root also any of its workers: engines are told of the first and of
//! the last.
//!
//! What changes is noted in order, and told by whichever thread comes by (`lib/iodine/engine.rb`), so that engines hear of one
//! thing at a time, and nothing is locked while they run. What changes back before it was told never was: for an engine that
//! is slower than clients come and go, no more waits than the channels that are not as it was told.

use crate::{fork, process};
use iodine_core::command::Command;
use iodine_core::hub::Subscription;
use magnus::{Error, Module, Object, RArray, RModule, RString, Ruby, function};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Only locked with the GVL held, and never while Ruby runs, so that a fork finds it open.
static CHANNELS: Mutex<Channels> = Mutex::new(Channels { heard: BTreeMap::new(), changes: Changes::new() });
/// Whether there are engines that want to be told.
static WATCHED: AtomicBool = AtomicBool::new(false);

/// A channel or, with the flag, a pattern.
type Key = (bool, Arc<[u8]>);

fn key(name: &Arc<[u8]>, pattern: bool) -> Key {
    (pattern, name.clone())
}

struct Channels {
    /// How many hear each; patterns apart.
    heard: BTreeMap<Key, usize>,
    /// What engines have not been told yet.
    changes: Changes,
}

/// Changes that wait, in order. Bounded by the channels whose state is not what was told, once more for each engine that
/// waits to be told of all there is.
struct Changes {
    /// By numbers that grow.
    waiting: BTreeMap<u64, Change>,
    next: u64,
    /// Where the change of a channel waits that another one undoes.
    untold: BTreeMap<Key, u64>,
}

impl Changes {
    const fn new() -> Changes {
        Changes { waiting: BTreeMap::new(), next: 0, untold: BTreeMap::new() }
    }

    fn push(&mut self, change: Change) -> u64 {
        self.next += 1;
        self.waiting.insert(self.next, change);
        self.next
    }

    /// The first has come to a channel, or the last has left. Each follows the other: two of them are none.
    fn note(&mut self, key: Key, heard: bool) {
        if let Some(undone) = self.untold.remove(&key) {
            self.waiting.remove(&undone);
            return;
        }
        let (pattern, name) = key.clone();
        let number = self.push(Change::Heard { name, pattern, heard });
        self.untold.insert(key, number);
    }

    /// The engine of that number is to be told of all there is now.
    fn queue(&mut self, engine: u64, there: impl Iterator<Item = Key>) {
        self.push(Change::Turn { engine, end: false });
        for (pattern, name) in there {
            self.push(Change::There { engine, name, pattern });
        }
        self.push(Change::Turn { engine, end: true });
        // What comes from here on undoes what this engine is told, too.
        self.untold.clear();
    }

    fn take(&mut self) -> Option<Change> {
        let (number, change) = self.waiting.pop_first()?;
        if let Change::Heard { name, pattern, .. } = &change {
            let key = key(name, *pattern);
            if self.untold.get(&key) == Some(&number) {
                self.untold.remove(&key);
            }
        }
        Some(change)
    }

    /// Forgets those of other channels.
    fn keep(&mut self, concerns: impl Fn(&Key) -> bool) {
        self.untold.retain(|key, _| concerns(key));
        self.waiting.retain(|_, change| match change {
            Change::Heard { name, pattern, .. } | Change::There { name, pattern, .. } => {
                concerns(&key(name, *pattern))
            }
            Change::Turn { .. } => true,
        });
    }
}

/// Something to tell engines.
enum Change {
    /// The first has come to a channel, or the last has left.
    Heard { name: Arc<[u8]>, pattern: bool, heard: bool },
    /// To the engine that goes by this number alone: a channel that there is.
    There { engine: u64, name: Arc<[u8]>, pattern: bool },
    /// That engine will be told of all there is; with `end`, it has been.
    Turn { engine: u64, end: bool },
}

/// Defines the primitives.
pub fn init(ruby: &Ruby) -> Result<(), Error> {
    let base: RModule = ruby.define_module("Iodine")?.define_module("Base")?;
    base.define_singleton_method("watch_channels", function!(watch, 1))?;
    base.define_singleton_method("channels", function!(channels, 0))?;
    base.define_singleton_method("queue_channels", function!(queue, 1))?;
    base.define_singleton_method("channel_changes", function!(changes, 0))?;
    base.define_singleton_method("take_channel_change", function!(take_change, 0))
}

/// Somebody hears the channel of this subscription.
pub fn join(subscription: &Subscription) {
    note(subscription.name(), subscription.is_pattern(), true, true);
}

/// One less hears the channel of this subscription.
pub fn leave(subscription: &Subscription) {
    note(subscription.name(), subscription.is_pattern(), false, true);
}

/// As [`leave`], for all of a connection's; then engines are told. The GVL is held.
pub fn leave_all(subscriptions: &[Arc<Subscription>]) {
    if subscriptions.is_empty() {
        return;
    }
    subscriptions.iter().for_each(|subscription| leave(subscription));
    tell_engines();
}

/// Root: a worker has told of one of its channels. The GVL is held.
pub fn note_of_worker(name: &[u8], pattern: bool, heard: bool) {
    note(&name.into(), pattern, heard, false);
    tell_engines();
}

fn note(name: &Arc<[u8]>, pattern: bool, joins: bool, tell_root: bool) {
    let mut channels = lock();
    let key = key(name, pattern);
    let count = channels.heard.entry(key.clone()).or_default();
    let before = *count;
    *count = if joins { before + 1 } else { before.saturating_sub(1) };
    let after = *count;
    if after == 0 {
        channels.heard.remove(&key);
    }
    if (before == 0) == (after == 0) {
        return;
    }
    if WATCHED.load(Relaxed) {
        channels.changes.note(key, joins);
    }
    drop(channels);
    if let (true, Some(handle)) = (tell_root, process::handle()) {
        // It goes nowhere unless this is a worker.
        handle.send(Command::Channel { name: name.clone(), pattern, heard: joins });
    }
}

/// A worker that begins tells the root what it hears already.
pub fn announce(handle: &iodine_core::command::Handle) {
    for (pattern, name) in lock().heard.keys() {
        handle.send(Command::Channel { name: name.clone(), pattern: *pattern, heard: true });
    }
}

/// In a worker that was forked just now: it hears what it has inherited, the subscriptions of the process. What the root
/// hears besides, by connections and by other workers, would never end here.
pub fn leave_root<'a>(inherited: impl Iterator<Item = &'a Arc<Subscription>>) {
    let mut channels = lock();
    let Channels { heard, changes } = &mut *channels;
    *heard = inherited.map(|subscription| (key(subscription.name(), subscription.is_pattern()), 1)).collect();
    changes.keep(|key| heard.contains_key(key));
}

/// Has engines told of what has changed. The GVL is held; what they raise is logged.
fn tell_engines() {
    if !WATCHED.load(Relaxed) || fork::is_inert() {
        return;
    }
    let told = crate::gvl::protect(|| {
        // SAFETY: the GVL is held; `lib/iodine/engine.rb` defines the method.
        unsafe {
            let id = rb_sys::rb_intern2(c"tell_engines".as_ptr(), 12);
            rb_sys::rb_funcallv(crate::api::base_module(), id, 0, std::ptr::null())
        }
    });
    if let Err(error) = told {
        let _: Option<Error> = crate::rack::report_error(error);
    }
}

/// `watch_channels(watched)`: whether changes are to be kept for `take_channel_change`.
fn watch(watched: bool) {
    WATCHED.store(watched, Relaxed);
}

/// `queue_channels(number)`: the engine of that number is to be told of all channels there are, between the changes before
/// this and those behind it.
fn queue(engine: u64) {
    let mut channels = lock();
    let Channels { heard, changes } = &mut *channels;
    changes.queue(engine, heard.keys().cloned());
}

/// `channels`: `[name, pattern]` of all that are heard; patterns last.
fn channels(ruby: &Ruby) -> Result<RArray, Error> {
    let known: Vec<_> = lock().heard.keys().cloned().collect();
    let list = ruby.ary_new();
    for (pattern, name) in known {
        list.push((binary(ruby, &name), pattern))?;
    }
    Ok(list)
}

/// `channel_changes`: how many `take_channel_change` has.
fn changes() -> usize {
    lock().changes.waiting.len()
}

/// What `take_channel_change` gives; see there.
type Told = (Option<RString>, bool, bool, Option<u64>);

/// `take_channel_change`: `[name, pattern, heard, nil]` for all attached engines, `[name, pattern, true, number]` for one, or
/// `[nil, false, end, number]` for its turn; nil when there is nothing.
fn take_change(ruby: &Ruby) -> Option<Told> {
    let change = lock().changes.take()?;
    Some(match change {
        Change::Heard { name, pattern, heard } => (Some(binary(ruby, &name)), pattern, heard, None),
        Change::There { engine, name, pattern } => (Some(binary(ruby, &name)), pattern, true, Some(engine)),
        Change::Turn { engine, end } => (None, false, end, Some(engine)),
    })
}

fn binary(ruby: &Ruby, bytes: &[u8]) -> RString {
    ruby.str_from_slice(bytes)
}

fn lock() -> MutexGuard<'static, Channels> {
    CHANNELS.lock().unwrap_or_else(PoisonError::into_inner)
}
