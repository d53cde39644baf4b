//! The application's timers by their blocks, so that it can cancel them. The reactor knows them by the number of the root
//! alone, and hears of a cancellation later: what counts for whether a block is still called is this table.
//!
//! Only locked with the GVL held, and never while Ruby runs, so that a fork finds it open.

use crate::roots;
use iodine_core::Root;
use rb_sys::VALUE;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

static TIMERS: LazyLock<Mutex<Timers>> = LazyLock::new(Mutex::default);

/// Invariant: both say the same. Roots pin the blocks, so that they are where they were.
#[derive(Default)]
struct Timers {
    blocks: HashMap<Root, VALUE>,
    roots: HashMap<VALUE, Vec<Root>>,
}

/// Keeps the block of a new timer. The GVL is held.
pub fn add(block: VALUE) -> Root {
    let root = roots::add(block);
    let mut timers = timers();
    timers.blocks.insert(root, block);
    timers.roots.entry(block).or_default().push(root);
    root
}

/// Whether this timer's block may be called. The GVL is held.
pub fn is_live(root: Root) -> bool {
    timers().blocks.contains_key(&root)
}

/// The timer can not be cancelled any more: it runs for the last time, or never again. The GVL is held.
pub fn forget(root: Root) {
    let mut timers = timers();
    let Some(block) = timers.blocks.remove(&root) else { return };
    let Some(roots) = timers.roots.get_mut(&block) else { return };
    roots.retain(|other| *other != root);
    if roots.is_empty() {
        timers.roots.remove(&block);
    }
}

/// Nobody will ask for the timer's block any more. The GVL is held.
pub fn release(root: Root) {
    forget(root);
    roots::release(root);
}

/// Cancels all timers with this block, of which the reactor is to be told. The GVL is held.
pub fn cancel(block: VALUE) -> Vec<Root> {
    let mut timers = timers();
    let roots = timers.roots.remove(&block).unwrap_or_default();
    for root in &roots {
        timers.blocks.remove(root);
    }
    roots
}

/// The reactor that knew them is gone. The GVL is held.
pub fn release_all() {
    let left = std::mem::take(&mut *timers());
    left.blocks.into_keys().for_each(roots::release);
}

fn timers() -> MutexGuard<'static, Timers> {
    TIMERS.lock().unwrap_or_else(PoisonError::into_inner)
}
