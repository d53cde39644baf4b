//! What the tests of the reactor share: a server whose application is a closure, and a client that reads answers.
//!
//! The server is a whole one (a reactor on its thread, app threads on theirs) but for Ruby. A test without app threads
//! takes the jobs itself, so that it decides what is under way when. No test sleeps to let something happen: it waits
//! for it, with a deadline that only a fault ever reaches.

// Each test file uses its part of this.
#![allow(dead_code, unused_imports)]

mod client;

pub use client::{Client, get, wait_until};

use iodine_codec::http1::{BodySize, ResponseEncoder};
use iodine_core::clock::http_date;
use iodine_core::command::{Command, Handle};
use iodine_core::conn::Answer;
use iodine_core::listener::Address;
use iodine_core::queue::{AppThread, Taken};
use iodine_core::{
    BindSpec, Body, ConnHandle, HttpConfig, Job, Lead, Listener, Notice, Reactor, ReactorConfig, Request,
    Service,
};
use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Far longer than anything here takes, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A request as the application of a test sees it.
pub struct Asked {
    pub conn: ConnHandle,
    pub method: String,
    pub path: String,
    pub body: Vec<u8>,
    /// Whether the body came in a file.
    pub spilled: bool,
    /// What [`iodine_core::conn::Shared::hijack`] wants to know.
    pub number: u64,
    /// Whether the thread that runs this turns the reactor.
    pub leads: bool,
}

/// What the application of a test says.
pub enum Said {
    /// Text, with status 200.
    Text(String),
    /// The same, and the connection closes.
    Last(String),
    /// Many bytes.
    Bytes(Vec<u8>),
    /// Nothing: the connection is no longer the server's.
    Nothing,
}

impl From<&str> for Said {
    fn from(text: &str) -> Said {
        Said::Text(text.to_owned())
    }
}

impl From<String> for Said {
    fn from(text: String) -> Said {
        Said::Text(text)
    }
}

/// What runs jobs that are no requests.
type Other = Arc<dyn Fn(&Handle, Job) + Send + Sync>;
type App = Arc<dyn Fn(Asked) -> Said + Send + Sync>;

/// A server to be.
pub struct Setup {
    pub http: HttpConfig,
    pub reactor: ReactorConfig,
    pub threads: usize,
    listener: Option<Arc<Listener>>,
    link: Option<iodine_core::link::Link>,
    other: Other,
}

impl Setup {
    pub fn new() -> Setup {
        Setup {
            http: HttpConfig::default(),
            reactor: ReactorConfig::default(),
            threads: 2,
            listener: None,
            link: None,
            other: Arc::new(|_, job| panic!("no job for this test: {job:?}")),
        }
    }

    /// With so many app threads; without any, the test takes the jobs.
    pub fn threads(mut self, threads: usize) -> Setup {
        self.threads = threads;
        self
    }

    pub fn http(mut self, change: impl FnOnce(&mut HttpConfig)) -> Setup {
        change(&mut self.http);
        self
    }

    pub fn reactor(mut self, change: impl FnOnce(&mut ReactorConfig)) -> Setup {
        change(&mut self.reactor);
        self
    }

    /// On a Unix socket.
    pub fn unix(mut self, path: PathBuf) -> Setup {
        self.listener = Some(listener(&BindSpec::Unix { path, mode: 0o600 }, &self.http));
        self
    }

    /// On a listener that others serve, too.
    pub fn listener(mut self, listener: &Arc<Listener>) -> Setup {
        self.listener = Some(listener.clone());
        self
    }

    /// With the worker's end of a link.
    pub fn link(mut self, link: iodine_core::link::Link) -> Setup {
        self.link = Some(link);
        self
    }

    /// With something that runs timers, tasks and idle jobs.
    pub fn other(mut self, other: impl Fn(&Handle, Job) + Send + Sync + 'static) -> Setup {
        self.other = Arc::new(other);
        self
    }

    pub fn serve<S: Into<Said>>(self, app: impl Fn(Asked) -> S + Send + Sync + 'static) -> Server {
        iodine_core::log::set_verbosity(0);
        let listener = self.listener.unwrap_or_else(|| local_listener(&self.http));
        let mut reactor = Reactor::new(self.reactor).unwrap();
        reactor.listen(listener.clone()).unwrap();
        if let Some(link) = self.link {
            reactor.follow(link).unwrap();
        }
        let handle = reactor.handle().clone();
        let name = format!("reactor{}", NEXT.fetch_add(1, Relaxed));
        let (lead, standby) = Lead::new(reactor);
        let thread = std::thread::Builder::new().name(name.clone()).spawn(move || standby.run()).unwrap();
        let app: App = Arc::new(move |asked| app(asked).into());
        let mut threads = vec![thread];
        for _ in 0..self.threads {
            let (lead, app, other) = (lead.clone(), app.clone(), self.other.clone());
            let thread = std::thread::Builder::new().name(name.clone());
            threads.push(thread.spawn(move || work(lead, &app, &other)).unwrap());
        }
        let taker = (self.threads == 0).then(|| handle.jobs().enter());
        Server { handle, listener, threads, name, taker, lead }
    }
}

/// Bytes that, repeated, tell when some of them are lost, doubled or moved: their number is a prime.
pub fn pattern() -> &'static [u8] {
    static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
    PATTERN.get_or_init(|| (0..65_521).map(|index: u32| (index ^ index >> 8) as u8).collect())
}

/// Something for an application to wait at, and the sender that lets one through.
pub fn gate() -> (Sender<()>, impl Fn() + Send + Sync + 'static) {
    let (open, opened) = channel();
    let opened = Mutex::new(opened);
    let wait = move || {
        // A test that has failed opens no more: then this ends by itself.
        let _ = opened.lock().unwrap().recv_timeout(PATIENCE);
    };
    (open, wait)
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A listener on a free port of 127.0.0.1.
pub fn local_listener(http: &HttpConfig) -> Arc<Listener> {
    listener(&BindSpec::Tcp { host: Some("127.0.0.1".into()), port: 0 }, http)
}

fn listener(spec: &BindSpec, http: &HttpConfig) -> Arc<Listener> {
    let service = |port| Service::http(0, http.clone(), port);
    Arc::new(Listener::bind(spec, service).unwrap().remove(0))
}

/// A running server. Dropping it ends it, and fails the test when one of its threads has panicked.
pub struct Server {
    pub handle: Handle,
    listener: Arc<Listener>,
    threads: Vec<JoinHandle<()>>,
    /// The name of the reactor's thread and of the app threads.
    name: String,
    taker: Option<AppThread>,
    lead: Lead,
}

/// A server with an application and nothing else of note.
pub fn serve<S: Into<Said>>(app: impl Fn(Asked) -> S + Send + Sync + 'static) -> Server {
    Setup::new().serve(app)
}

impl Server {
    pub fn address(&self) -> SocketAddr {
        match self.listener.address() {
            Address::Tcp(address) => *address,
            Address::Unix(path) => panic!("no TCP socket but {path}"),
        }
    }

    pub fn connect(&self) -> Client {
        match self.listener.address() {
            Address::Tcp(address) => Client::tcp(*address),
            Address::Unix(path) => Client::unix(path),
        }
    }

    /// A connection that has said this within `time`, though the machine may stand still.
    pub fn connect_and_send(&self, bytes: impl AsRef<[u8]>, time: Duration) -> Client {
        loop {
            let until = Instant::now() + time;
            let mut client = self.connect();
            if client.send_by(&bytes, until) {
                return client;
            }
        }
    }

    /// The next job, for a test without app threads.
    pub fn job(&mut self) -> Job {
        let taker = self.taker.as_mut().expect("a server without app threads");
        let patience = Instant::now() + PATIENCE;
        loop {
            if let Some((job, room)) = taker.take(None) {
                note_room(&self.handle, room);
                return job;
            }
            assert!(Instant::now() < patience, "no job came");
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// The next job, which must be a request.
    pub fn request(&mut self) -> Box<Request> {
        match self.job() {
            Job::Request(request) => request,
            other => panic!("no request but {other:?}"),
        }
    }

    /// An app thread to be, for a test without app threads; it takes the jobs from here on.
    pub fn app_thread(&mut self) -> AppThread {
        self.rest();
        let mut thread = self.handle.jobs().enter();
        thread.follow(self.lead.clone());
        thread
    }

    pub fn lead(&self) -> Lead {
        self.lead.clone()
    }

    /// The test takes no more jobs: whoever did has ended.
    pub fn rest(&mut self) {
        self.taker = None;
    }

    pub fn notice(&self) -> Notice {
        wait_until("a notice", || self.handle.notices().take())
    }

    /// How often the server's threads went to sleep so far. Linux only.
    pub fn sleeps(&self) -> u64 {
        let sleeps = |task: std::io::Result<std::fs::DirEntry>| {
            let path = task.ok()?.path();
            let name = std::fs::read_to_string(path.join("comm")).ok()?;
            let status = std::fs::read_to_string(path.join("status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            (name.trim() == self.name).then(|| line.trim().parse::<u64>().unwrap())
        };
        // While threads of other tests end, the kernel's list may lack some.
        wait_until("all threads", || {
            let tasks = std::fs::read_dir("/proc/self/task").ok()?;
            let sleeps: Vec<u64> = tasks.filter_map(sleeps).collect();
            (sleeps.len() == self.threads.len()).then(|| sleeps.iter().sum())
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.handle.send(Command::Exit);
        self.handle.jobs().end();
        self.taker = None;
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("a thread of the server panicked");
            }
        }
        self.listener.unlink();
    }
}

fn note_room(handle: &Handle, room: bool) {
    if room {
        handle.send(Command::QueueHasRoom);
    }
}

/// An app thread.
fn work(lead: Lead, app: &App, other: &Other) {
    let handle = &lead.handle().clone();
    let mut thread = handle.jobs().enter();
    thread.follow(lead);
    loop {
        let (taken, room) = thread.wait(|| handle.wake());
        note_room(handle, room);
        match taken {
            Taken::Job(Job::Request(request)) => run_lane(request, app, thread.leads()),
            Taken::Job(job) => other(handle, job),
            Taken::Interrupted => {}
            Taken::Ended => return,
        }
    }
}

fn run_lane(request: Box<Request>, app: &App, leads: bool) {
    let mut next = Some(request);
    while let Some(request) = next {
        next = run(request, app, leads);
    }
}

fn run(mut request: Box<Request>, app: &App, leads: bool) -> Option<Box<Request>> {
    let number = request.conn.begin()?;
    if let Some(refused) = iodine_core::overload::refusal(&request, Instant::now) {
        let next = put(&request, refused.answer);
        request.conn.flush();
        return next;
    }
    let spilled = matches!(request.body, Body::File { .. });
    let asked = Asked {
        conn: request.conn.clone(),
        method: String::from_utf8(request.head.method().to_vec()).unwrap(),
        path: String::from_utf8(request.head.path().to_vec()).unwrap(),
        body: bytes_of(std::mem::take(&mut request.body)),
        spilled,
        number,
        leads,
    };
    let next = answer(&request, app(asked));
    request.conn.flush();
    next
}

/// Puts what was said into the outbox. The caller flushes.
pub fn answer(request: &Request, said: Said) -> Option<Box<Request>> {
    let (bytes, last) = match said {
        Said::Text(text) => (text.into_bytes(), false),
        Said::Last(text) => (text.into_bytes(), true),
        Said::Bytes(bytes) => (bytes, false),
        Said::Nothing => return None,
    };
    let mut head = Vec::new();
    let encoder = ResponseEncoder::new(&mut head, request.facts, 200);
    let closing = last || request.conn.handle().is_draining();
    let finished = encoder.finish(BodySize::Known(bytes.len() as u64), &http_date(), closing);
    let body = finished.send_body.then(|| bytes.into());
    put(request, Answer { head, body, close: !finished.keep_alive })
}

fn put(request: &Request, answer: Answer) -> Option<Box<Request>> {
    match request.conn.answer(answer, Instant::now())? {
        Job::Request(request) => Some(request),
        other => panic!("no request but {other:?}"),
    }
}

fn bytes_of(body: Body) -> Vec<u8> {
    match body {
        Body::Empty => Vec::new(),
        Body::Memory(bytes) => bytes,
        Body::File { mut file, len } => {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes.len() as u64, len);
            bytes
        }
    }
}
