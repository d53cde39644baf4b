//! Connections that the application makes, or hands over: from what `lib/iodine/connect.rb` has made of its arguments to a
//! command for the reactor.

use super::{duration, limits, option, system_error};
use crate::realtime::{self, Callbacks};
use crate::{gvl, process, roots};
use iodine_codec::websocket::{ClientHandshake, Role};
use iodine_core::command::{Command, Handle};
use iodine_core::outgoing::{Attached, Handshake, Outgoing, Taken, Target};
use iodine_core::realtime::{Handler, Protocol, Upgrade};
use iodine_core::stream::Stream;
use iodine_core::sys::{self, Fd};
use iodine_core::tls::{Identity, TlsClient, TlsClientConfig};
use iodine_core::{HttpConfig, Job, Service};
use magnus::rb_sys::AsRawValue;
use magnus::{Error, Object, RArray, RHash, RModule, RString, Ruby, TryConvert, Value, function};
use rb_sys::VALUE;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

/// How long a connection may take to be made, unless told.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait for the reactor before having a look at what else may have happened.
const LOOK: Duration = Duration::from_millis(50);

/// Defines the primitives.
pub fn init(base: RModule) -> Result<(), Error> {
    base.define_singleton_method("connect", function!(connect, 3))?;
    base.define_singleton_method("attach", function!(attach, 2))
}

/// `connect(handler, targets, options)`: false when no reactor runs in this process. A target is `[address, port]`, or
/// `[path]` for a Unix socket. Raises ArgumentError for headers that can not be sent and RuntimeError for what TLS refuses.
fn connect(ruby: &Ruby, handler: Value, targets: RArray, options: RHash) -> Result<bool, Error> {
    let outgoing = Outgoing {
        targets: targets.into_iter().map(|target| read_target(ruby, target)).collect::<Result<_, _>>()?,
        service: Arc::new(service(ruby, options)?),
        tls: tls(ruby, options)?,
        handshake: handshake(ruby, options)?,
        timeout: option::<f64>(ruby, options, "connect_timeout")?
            .map(|seconds| duration(ruby, seconds))
            .transpose()?
            .unwrap_or(CONNECT_TIMEOUT),
        upgrade: upgrade(ruby, handler, options)?,
    };
    let Some(handle) = process::handle() else { return Ok(false) };
    let root = roots::add(handler.as_raw());
    let upgrade = Upgrade { handler: Handler::Given(root), ..outgoing.upgrade };
    handle.send(Command::Connect(Box::new(Outgoing { upgrade, ..outgoing })));
    Ok(true)
}

/// `attach(fd, handler)`: false when no reactor runs in this process. Where one does, `on_open` has run when this returns.
/// Raises RuntimeError if the descriptor can not be used.
fn attach(ruby: &Ruby, fd: RawFd, handler: Value) -> Result<bool, Error> {
    let Some(handle) = process::handle() else { return Ok(false) };
    let options = ruby.hash_new();
    let upgrade = upgrade(ruby, handler, options)?;
    // SAFETY: the descriptor is the caller's, who keeps it open during this call.
    let copy =
        sys::duplicate(unsafe { BorrowedFd::borrow_raw(fd) }).map_err(|error| system_error(ruby, &error))?;
    let stream = Stream::new(Fd::new(copy));
    let root = roots::add(handler.as_raw());
    let upgrade = Upgrade { handler: Handler::Given(root), ..upgrade };
    let service = Arc::new(service(ruby, options)?);
    let (taker, taken) = sync_channel(1);
    handle.send(Command::Attach(Box::new(Attached { stream, service, upgrade, taker: Some(taker) })));
    // Only if it is the master's. Its reactor has no thread: nobody would answer.
    process::turn();
    match wait_until_taken(&handle, taken)? {
        Some(Taken::Yours(conn)) => realtime::run_events(ruby, &conn).map_or(Ok(true), Err),
        Some(Taken::Over) => Ok(true),
        None => {
            roots::release(root);
            Ok(false)
        }
    }
}

/// Waits for the reactor to take a socket over; `None` if it has ended. Returns an error to let the thread die of it: the
/// connection is the app threads' then.
fn wait_until_taken(handle: &Handle, mut taken: Receiver<Taken>) -> Result<Option<Taken>, Error> {
    loop {
        let waiting = &mut taken;
        match gvl::without(move || waiting.recv_timeout(LOOK), || {}) {
            Some(Ok(taken)) => return Ok(Some(taken)),
            Some(Err(RecvTimeoutError::Disconnected)) => return Ok(None),
            // Nobody answers any more who has ended before it was asked.
            Some(Err(RecvTimeoutError::Timeout)) if process::handle().is_none() => return Ok(None),
            Some(Err(RecvTimeoutError::Timeout)) | None => {}
        }
        if let Err(death) = gvl::check_interrupts() {
            if let Ok(Taken::Yours(conn)) = taken.recv_timeout(LOOK) {
                handle.jobs().push(Job::Events(conn));
            }
            return Err(death);
        }
    }
}

fn service(ruby: &Ruby, options: RHash) -> Result<Service, Error> {
    let realtime = limits::realtime_config(ruby, options)?;
    // There is no application: whoever is called is known to the connection.
    Ok(Service { app: 0, raw: true, http: HttpConfig::default(), realtime, port: None })
}

/// What the connection is to be. Its handler is rooted when all else is known to be right.
fn upgrade(ruby: &Ruby, handler: Value, options: RHash) -> Result<Upgrade, Error> {
    let mut callbacks = Callbacks::default();
    gvl::protect(|| {
        callbacks = Callbacks::of(handler.as_raw());
        rb_sys::Qnil as VALUE
    })?;
    let websocket = option(ruby, options, "websocket")? == Some(true);
    let timeout =
        option::<f64>(ruby, options, "timeout")?.map(|seconds| duration(ruby, seconds)).transpose()?;
    Ok(Upgrade {
        protocol: if websocket { Protocol::WebSocket } else { Protocol::Raw },
        role: Role::Client,
        handler: Handler::Refused,
        wants: callbacks.wants(),
        timeout: timeout.unwrap_or_default(),
        deflate: None,
    })
}

fn read_target(ruby: &Ruby, target: Value) -> Result<Target, Error> {
    let parts = RArray::try_convert(target)?;
    if parts.len() == 1 {
        return Ok(Target::Unix(parts.entry::<PathBuf>(0)?));
    }
    let address: String = parts.entry(0)?;
    let address: IpAddr = address
        .parse()
        .map_err(|_| Error::new(ruby.exception_arg_error(), format!("{address} is no address")))?;
    Ok(Target::Tcp(SocketAddr::new(address, parts.entry(1)?)))
}

/// `tls:` is the name that the server has to prove, or nil.
fn tls(ruby: &Ruby, options: RHash) -> Result<Option<(TlsClient, String)>, Error> {
    let Some(host) = option::<String>(ruby, options, "tls")? else { return Ok(None) };
    let identity = match option(ruby, options, "tls_certificate")? {
        Some(certificate) => Some(Identity {
            certificate,
            private_key: option(ruby, options, "tls_private_key")?.unwrap_or_default(),
            password: option::<String>(ruby, options, "tls_password")?.map(String::into_bytes),
        }),
        None => None,
    };
    let config = TlsClientConfig {
        verify: option(ruby, options, "tls_verify")?.unwrap_or(true),
        trust: option::<Vec<PathBuf>>(ruby, options, "tls_trust")?.unwrap_or_default(),
        identity,
        alpn: Vec::new(),
    };
    let client =
        TlsClient::new(&config).map_err(|error| Error::new(ruby.exception_runtime_error(), error))?;
    Ok(Some((client, host)))
}

fn handshake(ruby: &Ruby, options: RHash) -> Result<Option<Handshake>, Error> {
    if option(ruby, options, "websocket")? != Some(true) {
        return Ok(None);
    }
    let text = |name| -> Result<Vec<u8>, Error> {
        // SAFETY: copied at once.
        Ok(option::<RString>(ruby, options, name)?
            .map_or_else(Vec::new, |text| unsafe { text.as_slice() }.to_vec()))
    };
    let mut headers = Vec::new();
    for line in option::<RArray>(ruby, options, "headers")?.into_iter().flatten() {
        let line = RArray::try_convert(line)?;
        let part = |index| -> Result<Vec<u8>, Error> {
            let text: RString = line.entry(index)?;
            // SAFETY: copied at once.
            Ok(unsafe { text.as_slice() }.to_vec())
        };
        headers.push((part(0)?, part(1)?));
    }
    let deflate = limits::realtime_config(ruby, options)?.deflate;
    let mut client = ClientHandshake::new(sys::random(), deflate.as_ref());
    let request = client.request(&text("host")?, &text("path")?, &headers).map_err(|bad| {
        Error::new(ruby.exception_arg_error(), format!("the request can not be sent: {}", bad.reason()))
    })?;
    Ok(Some(Handshake { client, request }))
}
