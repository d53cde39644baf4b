//! Both ends of a WebSocket connection (RFC 6455), with compression of messages (RFC 7692), as bytes.
//!
//! - [`is_asked_for`] and [`accept`] are the server's side of the opening handshake, [`ClientHandshake`] the client's.
//! - [`Receiver`] makes messages and control frames of what arrives; a [`Violation`] knows its close code.
//! - [`encode_message`] and its siblings write frames, [`Deflater`] compressed ones.
//!
//! When to answer a ping or a close, and when a connection ends, is for the caller to decide. Masks and keys are
//! arguments: nothing in here is random.

mod client;
mod close;
mod deflate;
mod deflater;
mod encode;
mod extensions;
mod frame;
mod handshake;
mod inflater;
mod mask;
mod receiver;
mod violation;

pub use client::{BadAnswer, BadHeader, ClientHandshake, Opened};
pub use close::{CloseReason, is_close_code};
pub use deflate::{Deflate, DeflateConfig};
pub use deflater::Deflater;
pub use encode::{
    MAX_HEADER, encode_close, encode_header, encode_message, encode_ping, encode_pong, frame_length,
};
pub use handshake::{Accepted, Refusal, VERSION, accept, is_asked_for};
pub use receiver::{Receiver, Step};
pub use violation::Violation;

/// Which end of the connection is ours (RFC 6455 section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// We accepted the connection: what arrives is masked, what we send is not.
    Server,
    /// We opened the connection: what we send is masked, what arrives is not.
    Client,
}

/// What a message consists of (RFC 6455 section 5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

/// The most payload of a control frame (RFC 6455 section 5.5).
const MAX_CONTROL: usize = 125;
