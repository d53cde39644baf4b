//! Bytes become values and values become bytes: everything of HTTP and WebSocket that can be decided without
//! a socket.
//!
//! This crate knows no socket, no clock (the date is an argument), no thread and no Ruby. What is hard to get right
//! lives here, because here it can be tested from tables, cut at every byte and fuzzed.
//!
//! - [`http`]: meanings that every version of HTTP shares: heads, statuses, authorities, forwarded schemes.
//! - [`http1`]: the bytes of HTTP/1: the request decoder, the response encoder and the chunked coding.
//! - [`websocket`]: both ends of RFC 6455: handshakes, frames, messages, compression.
//! - [`sse`]: the event stream that browsers read.
//! - [`json`]: JSON, told value by value.
//! - [`url`], [`date`]: percent-encoding undone, and dates as protocols write them.
//! - [`glob`]: patterns of channel names.
//! - [`link`]: what the processes of a cluster say to each other.
//! - [`mustache`]: templates, compiled and rendered.
//! - [`proxy_protocol`]: what a load balancer says before the first byte.
//! - [`resp`]: what Redis speaks.
//! - [`access_log`]: the line written for each answered request, in several formats.
//! - [`check`]: what must hold for any input at all; the fuzz targets call it, and so do unit tests.
//!
//! Invariant of the whole crate: no byte from the wire can make it panic, and the way the bytes were cut into reads
//! never changes what they mean.
#![forbid(unsafe_code)]

pub mod access_log;
pub mod check;
pub mod date;
pub mod glob;
mod hex;
pub mod http;
pub mod http1;
pub mod json;
pub mod link;
pub mod mustache;
pub mod proxy_protocol;
pub mod resp;
pub mod sse;
pub mod url;
pub mod websocket;
