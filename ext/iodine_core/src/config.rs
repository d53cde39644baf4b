//! Settings as checked: what listeners, connections and the reactor go by. Built by the bridge from what users gave.

use crate::access_log::AccessLog;
use crate::job::Root;
use crate::realtime::SlowConsumer;
use crate::static_files::StaticFiles;
use crate::sys::Board;
use iodine_codec::http::{RequestHead, Trust, request_id};
use iodine_codec::http1::Limits;
use iodine_codec::websocket::DeflateConfig;
use std::sync::Arc;
use std::time::Duration;

/// What one listener serves, and how.
#[derive(Debug)]
pub struct Service {
    /// The application, as the bridge knows it.
    pub app: Root,
    /// Whether connections begin with HTTP; else the application has them from their first byte on.
    pub raw: bool,
    /// How HTTP is spoken here.
    pub http: HttpConfig,
    /// How real-time connections are kept.
    pub realtime: RealtimeConfig,
    /// The port that requests without one in `Host` are taken to mean; `None` for Unix sockets.
    pub port: Option<u16>,
}

impl Service {
    /// An application over HTTP, with the usual settings for the rest.
    pub fn http(app: Root, http: HttpConfig, port: Option<u16>) -> Service {
        Service { app, raw: false, http, realtime: RealtimeConfig::default(), port }
    }
}

/// How HTTP is spoken by one listener.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Sizes beyond which a request is refused.
    pub limits: Limits,
    /// How long a connection may stay open with no request on it.
    pub keep_alive: Duration,
    /// How long a request head may take from its first byte to its last.
    pub head_timeout: Duration,
    /// How long a body may take. There is as much time again after each in which it came at [`MIN_RATE`].
    pub body_timeout: Duration,
    /// How long a client may take to read an answer; again as above.
    pub write_timeout: Duration,
    /// How long a request that is answered before it has been read, as with a 413, is read on, so that the client can see
    /// the answer (RFC 9112 section 9.6). Sooner if the client is silent for two seconds.
    pub linger_timeout: Duration,
    /// A request that comes while more jobs than this wait is answered with a 503; `None` takes them all.
    pub max_queue: Option<usize>,
    /// A request that has waited longer than this for an app thread is answered with a 503; `None` for no such limit.
    pub queue_timeout: Option<Duration>,
    /// Bodies up to this many bytes stay in memory; longer ones go to an unlinked temporary file.
    pub body_memory: usize,
    /// Where each answer gets a line, if it gets one.
    pub log: Option<AccessLog>,
    /// Whether each request has an id: that of a trusted proxy, or one of ours.
    pub request_id: bool,
    /// Whether answers tell it.
    pub request_id_response: bool,
    /// Whether the application may send headers ahead of its answer (103).
    pub early_hints: bool,
    /// Whose word is taken for whom a request comes from, and how.
    pub trust: Trust,
    /// Whether each connection begins with a PROXY header.
    pub proxy_protocol: bool,
    /// Whether headers with an underscore in their name reach the application.
    pub underscore_headers: bool,
    /// Files that are served before the application is asked.
    pub files: Option<Arc<StaticFiles>>,
    /// Whether there is no application: what is no file is answered with 404.
    pub files_only: bool,
}

impl HttpConfig {
    /// Has `answer` tell the id of its request, if it is to. The answer's head may be open, and its body may follow.
    pub fn announce(&self, answer: &mut Vec<u8>, head: &RequestHead) {
        let told = self.request_id && self.request_id_response;
        if let Some(id) = told.then(|| request_id::of(head)).flatten() {
            request_id::announce(answer, id);
        }
    }
}

/// How real-time connections are kept.
#[derive(Clone, Debug)]
pub struct RealtimeConfig {
    /// Silence after which a WebSocket or SSE connection is sent a ping; zero is never.
    pub ping: Duration,
    /// The largest message of a WebSocket that is taken, in bytes, as it is after decompression.
    pub max_message: usize,
    /// Bytes that may wait to be written to one connection, beyond a first message.
    pub max_backlog: usize,
    /// What becomes of what is more.
    pub slow_consumer: SlowConsumer,
    /// How WebSockets are compressed; `None` is not at all.
    pub deflate: Option<DeflateConfig>,
    /// Whether the connection stays when the server drains, which does not wait for it: others may have last words that go
    /// this way.
    pub outlasts: bool,
}

impl Default for RealtimeConfig {
    fn default() -> RealtimeConfig {
        RealtimeConfig {
            ping: Duration::from_secs(40),
            max_message: 256 * 1024,
            max_backlog: 64 * 1024 * 1024,
            slow_consumer: SlowConsumer::default(),
            deflate: None,
            outlasts: false,
        }
    }
}

impl Default for HttpConfig {
    fn default() -> HttpConfig {
        HttpConfig {
            limits: Limits::default(),
            keep_alive: Duration::from_secs(40),
            head_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            linger_timeout: Duration::from_secs(30),
            max_queue: None,
            queue_timeout: None,
            body_memory: 512 * 1024,
            log: None,
            request_id: false,
            request_id_response: false,
            early_hints: false,
            trust: Trust::Nobody,
            proxy_protocol: false,
            underscore_headers: false,
            files: None,
            files_only: false,
        }
    }
}

/// A body or an answer that moves slower than this many bytes a second runs into its timeout: dripping does not keep a
/// connection for ever, and neither do bytes that came in a hurry before it stopped, while a slow honest client may take
/// its time.
pub const MIN_RATE: u64 = 1024;

/// What one reactor goes by.
#[derive(Clone, Debug)]
pub struct ReactorConfig {
    /// Connections beyond this number are refused with a 503.
    pub max_connections: usize,
    /// Descriptors that must stay free for the application; connections beyond are refused with a 503.
    pub reserved_descriptors: u64,
    /// Jobs that may wait for the application before sockets are no longer read.
    pub max_jobs: usize,
    /// The place of this worker on the board that all workers share; `None` for a single process.
    pub place: Option<(Board, usize)>,
}

impl Default for ReactorConfig {
    fn default() -> ReactorConfig {
        ReactorConfig { max_connections: 131_072, reserved_descriptors: 64, max_jobs: 16_384, place: None }
    }
}
