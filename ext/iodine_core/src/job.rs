//! `Job`: all that the reactor ever asks of the application.

use crate::body::Body;
use crate::conn::ConnHandle;
use crate::hub::Subscription;
use iodine_codec::http::RequestHead;
use iodine_codec::http1::RequestFacts;
use std::sync::Arc;
use std::time::Instant;

/// A retained value of the application (a handler, a block), known here by its number only.
pub type Root = u32;

/// Something for an app thread to run.
#[derive(Debug)]
pub enum Job {
    /// A request to answer. At most one of a connection runs at a time, in the order of arrival.
    Request(Box<Request>),
    /// A block to call once; its root is released afterwards.
    Task(Root),
    /// A timer came due. Unless `last`, the app thread reports with [`crate::Command::TimerDone`] when the block has run,
    /// so that a timer never overlaps itself.
    Timer {
        /// The timer, to be named in the report.
        id: u64,
        /// The block.
        root: Root,
        /// Whether the root is to be released afterwards.
        last: bool,
    },
    /// This block will not be called any more: its root is to be released.
    Forget(Root),
    /// The events of this connection are to be run, [`ConnHandle`]'s `take_events` to `finish_events`. There is at most one
    /// such job of a connection.
    Events(ConnHandle),
    /// The messages that wait for this subscription are to be delivered to its block, in order.
    Deliver(Arc<Subscription>),
    /// Root: somebody in a worker hears this channel from here on, or one less.
    Channel {
        /// The channel or the pattern.
        name: Box<[u8]>,
        /// Whether it is a pattern.
        pattern: bool,
        /// Whether it is one more.
        heard: bool,
    },
    /// Root: a worker asks something of an engine.
    Ask {
        /// The worker's place.
        slot: usize,
        /// Which engine.
        engine: u32,
        /// What the reply is to be called; 0 if none is wanted.
        id: u64,
        /// What is asked.
        bytes: Vec<u8>,
    },
    /// Worker: the reply to what it has asked.
    Reply {
        /// What it was called.
        id: u64,
        /// The reply.
        bytes: Vec<u8>,
    },
    /// There was something to do, and now there is not: time for the `on_idle` blocks.
    Idle,
    /// Many connections have closed, and it is quiet: time to give memory back to the system.
    GiveBack,
}

/// A request whose body has arrived in full.
#[derive(Debug)]
pub struct Request {
    /// Where the answer goes.
    pub conn: ConnHandle,
    /// The request line and the headers.
    pub head: RequestHead,
    /// The body.
    pub body: Body,
    /// What the answer's head needs to know of the request.
    pub facts: RequestFacts,
    /// When its head had arrived: the log tells the time from here to the answer.
    pub started: Instant,
    /// When all of it had arrived: from here on it waits for the application.
    pub arrived: Instant,
    /// Whether more jobs waited than `max_queue` allows when it came: [`crate::overload::refusal`] answers it.
    pub crowded: bool,
}
