//! TLS on a connection's socket: the settings that connections share, and the session that each of them has.
//!
//! [`TlsClient`] is made once of a [`TlsClientConfig`]; [`Stream::tls_client`](crate::stream::Stream::tls_client) then
//! makes a socket a TLS client. Without the feature `tls` the same types are there, and the first step fails.
//!
//! # What a reactor does with such a stream
//!
//! The socket is registered edge-triggered, once, for both directions, as any other. Then:
//!
//! 1. *Handshake first.* After the TCP connection is made, and again on each readable or writable event, it calls
//!    `handshake` until that is `Done` or `Failed`, within a deadline of its own: a peer may be silent for ever. Until then
//!    `read` and `write` are `WouldBlock` and touch nothing. After `Done` no event needs to come: what the peer has sent
//!    may be decrypted already, and what was queued could not leave, so it reads once and flushes once.
//! 2. *Reads go on until `WouldBlock`* (or in the next turn, as with [`READS`] used up). A short read says nothing of what is
//!    left: `short_read_empties` is false. Likewise `short_write_fills`, since a write takes one record at most.
//! 3. *The same bytes again.* Of a write that was `WouldBlock` a record may be on its way: the next one has to begin with the
//!    same bytes and have at least as many. An outbox does, as bytes leave at its front and are added at its end.
//! 4. *On a writable event* it calls `flush_own`, whether or not its outbox is empty, beside what it does anyway. That ends what
//!    `finish_writing` has begun.
//! 5. *Reads wait for readable events only, writes for writable ones only*, once the handshake is done. (A TLS session has the
//!    other cases, too. Renegotiation, in which a write has to read, is refused; what a read has to write never has to wait.)
//! 6. *The end.* `finish_writing` says it (`close_notify`) and ends the socket's write half; reading goes on. Who closes at once
//!    calls `say_end` before dropping the stream. A stream that is only dropped says nothing, and its peer knows that
//!    bytes may be missing: that is for what is broken off. A read of zero bytes is the peer's end; `truncated` tells whether
//!    the peer said so, or may have been cut off.
//! 7. *Never `into_raw` for the application*: a hijack has nothing to give that could be used.
//!
//! [`READS`]: crate::reactor

#[cfg(feature = "tls")]
mod client;
#[cfg(feature = "tls")]
mod session;
#[cfg(not(feature = "tls"))]
mod without;

#[cfg(feature = "tls")]
pub use client::TlsClient;
#[cfg(feature = "tls")]
pub(crate) use session::Tls;
#[cfg(not(feature = "tls"))]
pub(crate) use without::Tls;
#[cfg(not(feature = "tls"))]
pub use without::TlsClient;

use std::fmt;
use std::path::PathBuf;

/// Settings of TLS clients, as given.
#[derive(Clone, Debug)]
pub struct TlsClientConfig {
    /// Whether the server has to prove who it is: a certificate that is valid now, for the name or the address that was
    /// asked for, from somebody who is trusted.
    pub verify: bool,
    /// PEM files with the certificates that are trusted *instead of* those that the system trusts: of authorities, or of
    /// servers. Empty: the system's.
    pub trust: Vec<PathBuf>,
    /// Who the client is, for servers that ask.
    pub identity: Option<Identity>,
    /// The protocols that it offers, the preferred one first (RFC 7301). Empty: none is spoken of.
    pub alpn: Vec<Vec<u8>>,
}

impl Default for TlsClientConfig {
    fn default() -> TlsClientConfig {
        TlsClientConfig { verify: true, trust: Vec::new(), identity: None, alpn: Vec::new() }
    }
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Identity {
    /// PEM file: the certificate first, then those between it and one that is trusted.
    pub certificate: PathBuf,
    /// PEM file; may be the same.
    pub private_key: PathBuf,
    /// What the key is encrypted with, if it is.
    pub password: Option<Vec<u8>>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({}, {})", self.certificate.display(), self.private_key.display())
    }
}

/// What a step of a handshake came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// Bytes can be exchanged.
    Done,
    /// The next step is due at the next readable or writable event.
    WouldBlock,
    /// There will be no connection: a sentence tells why.
    Failed(String),
}
