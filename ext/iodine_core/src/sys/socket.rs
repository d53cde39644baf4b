//! Sockets as the server wants them on every system: non-blocking, closed by exec, and no SIGPIPE from a write.
//!
//! Most systems make them so in one call, and are told with each write; Apple's want a call for each of these.

use rustix::io::Result;
use rustix::net::{AddressFamily, SendFlags, SocketAddrAny, SocketFlags, SocketType, socketpair};
use std::os::fd::{AsFd, OwnedFd};

#[cfg(not(target_vendor = "apple"))]
const NEW: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);
#[cfg(target_vendor = "apple")]
const NEW: SocketFlags = SocketFlags::empty();

/// For each write.
#[cfg(not(target_vendor = "apple"))]
pub const SEND: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
pub const SEND: SendFlags = SendFlags::empty();

/// A connection that waits at `listener`, and where it comes from.
pub fn accept(listener: impl AsFd) -> Result<(OwnedFd, Option<SocketAddrAny>)> {
    #[cfg(not(target_vendor = "apple"))]
    let (socket, address) = rustix::net::acceptfrom_with(listener, NEW)?;
    #[cfg(target_vendor = "apple")]
    let (socket, address) = rustix::net::acceptfrom(listener)?;
    Ok((prepared(socket)?, address))
}

/// Two Unix sockets that are connected with each other.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    let (one, other) = socketpair(AddressFamily::UNIX, SocketType::STREAM, NEW, None)?;
    Ok((prepared(one)?, prepared(other)?))
}

#[cfg(not(target_vendor = "apple"))]
fn prepared(socket: OwnedFd) -> Result<OwnedFd> {
    Ok(socket)
}

#[cfg(target_vendor = "apple")]
fn prepared(socket: OwnedFd) -> Result<OwnedFd> {
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    rustix::net::sockopt::set_socket_nosigpipe(&socket, true)?;
    Ok(socket)
}
