//! Connections that the server makes itself, or is given: what the application asks for, as checked.

use crate::config::Service;
use crate::conn::ConnHandle;
use crate::realtime::Upgrade;
use crate::stream::Stream;
use crate::tls::TlsClient;
use iodine_codec::websocket::ClientHandshake;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

/// A connection to make.
#[derive(Debug)]
pub struct Outgoing {
    /// Where to, in the order in which they are tried. Names are resolved before: that may take its time.
    pub targets: Vec<Target>,
    /// The settings it goes by; there is no application in it.
    pub service: Arc<Service>,
    /// What it is to be.
    pub upgrade: Upgrade,
    /// How TLS is spoken, and the name or the address that the server has to prove to be its own.
    pub tls: Option<(TlsClient, String)>,
    /// WebSocket: the request that opens it, and what judges the answer.
    pub handshake: Option<Handshake>,
    /// How long all of it may take, until the connection is open.
    pub timeout: Duration,
}

/// The opening handshake of a WebSocket client.
#[derive(Clone)]
pub struct Handshake {
    /// Knows the answer that is right.
    pub client: ClientHandshake,
    /// The request, whole.
    pub request: Vec<u8>,
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a request of {} bytes", self.request.len())
    }
}

/// Where a connection goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp(address) => address.fmt(f),
            Target::Unix(path) => path.display().fmt(f),
        }
    }
}

/// What has become of an [`Attached`]. Nothing is said by a reactor that has ended.
#[derive(Debug)]
pub enum Taken {
    /// The events of this connection are for whoever hears this.
    Yours(ConnHandle),
    /// An app thread runs its events: it is over already.
    Over,
}

/// A connected socket that the application has.
#[derive(Debug)]
pub struct Attached {
    /// The socket.
    pub stream: Stream,
    /// As in [`Outgoing`].
    pub service: Arc<Service>,
    /// As in [`Outgoing`].
    pub upgrade: Upgrade,
    /// Who runs its first event. Without anybody, an app thread does.
    pub taker: Option<SyncSender<Taken>>,
}
