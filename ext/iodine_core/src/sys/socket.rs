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

/// Whether the TCP socket `listener` has a connection only when its first bytes are there, or after a second or so of
/// silence. Where the system can not do that, it makes no difference.
pub fn set_defer_accept(listener: impl AsFd, defer: bool) {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        let seconds = libc::c_int::from(defer);
        // SAFETY: the option's value is an int, which outlives the call.
        unsafe {
            libc::setsockopt(
                listener.as_fd().as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_DEFER_ACCEPT,
                (&raw const seconds).cast(),
                size_of_val(&seconds) as libc::socklen_t,
            )
        };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (listener, defer);
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
