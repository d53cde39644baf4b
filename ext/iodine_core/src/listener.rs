//! Listening sockets: bound in the process that calls `listen`, inherited by every worker.

use crate::config::Service;
use crate::sys::Fd;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::fmt;
use std::fs::Permissions;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Connections that may wait to be accepted; the kernel lowers it to its own maximum.
pub(crate) const BACKLOG: i32 = 4096;
/// Ports that are tried for a name with several addresses when any port will do.
const PORT_CHOICES: u32 = 16;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindSpec {
    /// TCP. Without a host on every address of the machine, IPv6 and IPv4; port 0 is any free one.
    Tcp {
        /// A name, an IPv4 address or an IPv6 address without brackets. A name is bound at each of its addresses.
        host: Option<String>,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix {
        /// Where in the file system.
        path: PathBuf,
        /// Permissions of the socket file.
        mode: u32,
    },
}

impl fmt::Display for BindSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindSpec::Tcp { host: None, port } => write!(f, "port {port}"),
            BindSpec::Tcp { host: Some(host), port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            BindSpec::Tcp { host: Some(host), port } => write!(f, "{host}:{port}"),
            BindSpec::Unix { path, .. } => write!(f, "{}", path.display()),
        }
    }
}

/// Why a listener could not be opened: where, and the cause.
#[derive(Debug)]
pub struct BindError {
    /// What was asked for.
    pub spec: BindSpec,
    /// What the system said.
    pub cause: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Couldn't open listening socket. ({}: {})", self.spec, self.cause)
    }
}

impl std::error::Error for BindError {}

/// The address that a listener is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and the port in fact bound.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(Arc<str>),
}

/// A listening socket and what it serves.
#[derive(Debug)]
pub struct Listener {
    fd: Fd,
    address: Address,
    service: Arc<Service>,
    /// Device and inode of a Unix socket's file, so that only the file that is ours gets removed.
    file: Option<(u64, u64)>,
}

impl Listener {
    /// Opens what `spec` asks for: one listener, or one for each address of a name. `service` is called with the port.
    pub fn bind(
        spec: &BindSpec,
        service: impl FnOnce(Option<u16>) -> Service,
    ) -> Result<Vec<Listener>, BindError> {
        let bound = match spec {
            BindSpec::Tcp { host, port } => bind_tcp(host.as_deref(), *port),
            BindSpec::Unix { path, mode } => bind_unix(path, *mode).map(|bound| vec![bound]),
        };
        let bound = bound.map_err(|cause| BindError { spec: spec.clone(), cause })?;
        let port = bound.first().and_then(|(_, address, _)| match address {
            Address::Tcp(address) => Some(address.port()),
            Address::Unix(_) => None,
        });
        let service = Arc::new(service(port));
        let listeners = bound.into_iter().map(|(socket, address, file)| Listener {
            fd: Fd::new(socket.into()),
            address,
            service: service.clone(),
            file,
        });
        Ok(listeners.collect())
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What it serves.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Removes the file of a Unix socket, if it is still this listener's own.
    pub fn unlink(&self) {
        let (Address::Unix(path), Some(ours)) = (&self.address, self.file) else { return };
        if std::fs::symlink_metadata(&**path).is_ok_and(|now| (now.dev(), now.ino()) == ours) {
            let _ = std::fs::remove_file(&**path);
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

type Bound = (Socket, Address, Option<(u64, u64)>);

fn bind_tcp(host: Option<&str>, port: u16) -> io::Result<Vec<Bound>> {
    let Some(host) = host else {
        // One socket for both families; without IPv6 on this machine, IPv4 alone.
        return bind_address((Ipv6Addr::UNSPECIFIED, port).into())
            .or_else(|_| bind_address((Ipv4Addr::UNSPECIFIED, port).into()))
            .map(|bound| vec![bound]);
    };
    let mut addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    addresses.dedup();
    if port == 0 { on_any_port(|| bind_all(&addresses)) } else { bind_all(&addresses) }
}

/// Tries again where the port that the system chose for the first address of a name is taken on another one.
fn on_any_port<T>(mut bind: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..PORT_CHOICES {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            outcome => return outcome,
        }
    }
    bind()
}

/// One socket for each address of a name; all share the port that the first one is given.
fn bind_all(addresses: &[SocketAddr]) -> io::Result<Vec<Bound>> {
    let mut bound: Vec<Bound> = Vec::new();
    let mut failure = None;
    for mut address in addresses.iter().copied() {
        if let Some((_, Address::Tcp(first), _)) = bound.first() {
            address.set_port(first.port());
        }
        match bind_address(address) {
            Ok(one) => bound.push(one),
            // A machine without IPv6 still names ::1 "localhost".
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => failure = Some(error),
            Err(error) => return Err(error),
        }
    }
    match (bound.is_empty(), failure) {
        (false, _) => Ok(bound),
        (true, Some(error)) => Err(error),
        (true, None) => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
    }
}

fn bind_address(address: SocketAddr) -> io::Result<Bound> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_cloexec(true)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // "::" serves IPv4 too.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // Accepted sockets inherit these.
    socket.set_tcp_nodelay(true)?;
    if address.ip().is_loopback() {
        send_unpaced(&socket);
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let address = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok((socket, Address::Tcp(address), None))
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<Bound> {
    // A socket file that an earlier run left is in the way; any other file is somebody's.
    if let Ok(found) = std::fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
        }
        std::fs::remove_file(path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_cloexec(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    std::fs::set_permissions(path, Permissions::from_mode(mode))?;
    let made = std::fs::symlink_metadata(path)?;
    socket.listen(BACKLOG)?;
    Ok((socket, Address::Unix(path.to_string_lossy().into()), Some((made.dev(), made.ino()))))
}

/// Nobody comes over a line to a loopback address. Where the system uses BBR, its model of one would still be kept, and large
/// answers would leave at its pace, by a timer for each piece; the simplest algorithm, which every system has, sends as fast
/// as the peer takes it.
fn send_unpaced(socket: &Socket) {
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_congestion(b"reno");
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HttpConfig;
    use std::net::TcpStream;
    use std::os::unix::net::UnixStream;

    fn service(port: Option<u16>) -> Service {
        Service::http(0, HttpConfig::default(), port)
    }

    fn tcp(host: Option<&str>, port: u16) -> Result<Vec<Listener>, BindError> {
        Listener::bind(&BindSpec::Tcp { host: host.map(Into::into), port }, service)
    }

    fn port(listener: &Listener) -> u16 {
        match listener.address() {
            Address::Tcp(address) => address.port(),
            Address::Unix(_) => panic!("not TCP"),
        }
    }

    #[test]
    fn any_address_serves_ipv4_and_tells_its_port() {
        let listeners = tcp(None, 0).unwrap();
        let port = port(&listeners[0]);
        assert_ne!(port, 0);
        assert_eq!(listeners[0].service().port, Some(port));
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    }

    #[test]
    fn a_name_is_bound_at_each_address_with_one_port() {
        let listeners = tcp(Some("localhost"), 0).unwrap();
        let first = port(&listeners[0]);
        assert!(listeners.iter().all(|listener| port(listener) == first));
    }

    #[test]
    fn a_port_that_is_taken_on_another_address_is_not_the_last_word() {
        let taken = || io::Error::from(io::ErrorKind::AddrInUse);
        let mut answers = vec![Ok(7), Err(taken()), Err(taken())];
        assert_eq!(on_any_port(|| answers.pop().unwrap()).unwrap(), 7);
        let mut tries = 0;
        let outcome = on_any_port(|| {
            tries += 1;
            Err::<(), _>(taken())
        });
        assert_eq!((outcome.unwrap_err().kind(), tries), (io::ErrorKind::AddrInUse, PORT_CHOICES));
        // The same address twice: whatever the port, it is taken the second time.
        let twice = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); 2];
        assert_eq!(bind_all(&twice).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let other = io::Error::from(io::ErrorKind::PermissionDenied);
        let mut answers = vec![Ok(7), Err(other)];
        assert_eq!(
            on_any_port(|| answers.pop().unwrap()).unwrap_err().kind(),
            io::ErrorKind::PermissionDenied
        );
    }

    #[test]
    fn the_error_tells_where_and_why() {
        let taken = tcp(Some("127.0.0.1"), 0).unwrap();
        let text = tcp(Some("127.0.0.1"), port(&taken[0])).unwrap_err().to_string();
        assert!(text.contains("127.0.0.1:") && text.contains("in use"), "{text}");
    }

    #[test]
    fn a_unix_socket_replaces_a_stale_one_and_removes_only_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let spec = BindSpec::Unix { path: path.clone(), mode: 0o600 };
        let stale = Listener::bind(&spec, service).unwrap();
        let fresh = Listener::bind(&spec, service).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        stale[0].unlink();
        assert!(path.exists());
        fresh[0].unlink();
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        std::fs::write(&path, "data").unwrap();
        assert!(Listener::bind(&BindSpec::Unix { path: path.clone(), mode: 0o600 }, service).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
    }
}
