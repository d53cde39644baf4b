//! Real-time connections in Ruby: `Iodine::Connection`, the callbacks of its handler, and subscriptions.

mod callbacks;
pub mod channels;
mod connection;
mod run;
mod string;
pub mod subscriptions;

pub use callbacks::Callbacks;
pub use connection::{new, refused};
pub use run::{run_deliveries, run_events};

use iodine_core::realtime::Writer;
use magnus::{Error, Ruby};
use std::cell::Cell;

thread_local! {
    /// Whether this thread runs a batch of jobs, at whose end it writes what they left.
    static IN_BATCH: Cell<bool> = const { Cell::new(false) };
}

/// Says whether the calling thread writes out by itself, later.
pub fn set_in_batch(in_batch: bool) {
    IN_BATCH.set(in_batch);
}

/// Who the calling thread is as a writer.
pub fn writer() -> Writer {
    if IN_BATCH.get() { Writer::Batch } else { Writer::Anyone }
}

/// Defines the classes.
pub fn init(ruby: &Ruby) -> Result<(), Error> {
    connection::init(ruby)?;
    channels::init(ruby)?;
    subscriptions::init(ruby)
}
