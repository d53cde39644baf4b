//! The server without Ruby: the reactor and what it owns.
//!
//! A worker is one [`Reactor`] and a few app threads, which take turns with a native thread in turning it ([`Lead`]).
//! They meet in two enums: a [`Job`] is all that the reactor ever asks of the application, a [`Command`] all that anyone ever
//! asks of the reactor. What both sides touch (a connection's socket, its [`Outbox`], its lane of jobs) lies behind
//! one small lock in [`ConnHandle`].

pub mod access_log;
pub mod body;
pub mod clock;
pub mod command;
pub mod config;
pub mod conn;
pub mod episode;
pub mod hub;
pub mod job;
pub mod lead;
pub mod link;
pub mod listener;
pub mod log;
pub mod notice;
pub mod outbox;
pub mod outgoing;
pub mod overload;
pub mod producer;
pub mod queue;
pub mod reactor;
pub mod realtime;
pub mod static_files;
pub mod stream;
pub mod sys;
pub mod tls;

pub use access_log::{AccessLog, Answered};
pub use body::Body;
pub use command::{Command, Handle};
pub use config::{HttpConfig, ReactorConfig, Service};
pub use conn::{ConnHandle, ConnId, Peer};
pub use job::{Job, Request, Root};
pub use lead::{Lead, Standby};
pub use listener::{BindError, BindSpec, Listener};
pub use notice::{Notice, Notices};
pub use outbox::{FilePart, Outbox, Piece};
pub use producer::{Complaint, Produced, Producer, Room};
pub use queue::{AppThread, JobQueue};
pub use reactor::Reactor;
pub use static_files::StaticFiles;
pub use tls::{Handshake, Identity, TlsClient, TlsClientConfig};

/// The TLS library in use, for the start-up banner; `None` when built without TLS.
pub fn tls_library() -> Option<&'static str> {
    #[cfg(feature = "tls")]
    return Some(openssl::version::version());
    #[cfg(not(feature = "tls"))]
    None
}
