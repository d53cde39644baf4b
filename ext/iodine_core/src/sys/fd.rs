//! Descriptors that the server owns, and how a forked child of the application gets rid of them.
//!
//! Each [`Fd`] is noted in a process-wide bitmap. A fork made by the application copies every descriptor; were they to
//! stay open in the child, a connection closed here would stay open for its client. The child walks the bitmap, which
//! needs no lock that some other thread may have held at the fork.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Descriptors from this number on are not noted; the limit below keeps the process under it.
const TRACKED: usize = 1 << 20;
/// As iodine 0.7: the soft limit is raised to the hard one, but no further than this.
const WANTED_DESCRIPTORS: u64 = 131_072;

static OPEN: [AtomicU64; TRACKED / 64] = [const { AtomicU64::new(0) }; TRACKED / 64];

/// A descriptor owned by the server: closed on drop, and in forked children of the application.
#[derive(Debug)]
pub struct Fd(OwnedFd);

impl Fd {
    /// Takes over `fd`.
    pub fn new(fd: OwnedFd) -> Fd {
        if let Some((word, bit)) = place(fd.as_raw_fd()) {
            OPEN[word].fetch_or(bit, Relaxed);
        }
        Fd(fd)
    }

    /// Gives the descriptor away: from here on the server has no part in it.
    pub fn into_raw(self) -> RawFd {
        let raw = std::mem::ManuallyDrop::new(self).0.as_raw_fd();
        forget(raw);
        raw
    }
}

impl AsFd for Fd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Drop for Fd {
    // Before the close: another thread may be handed the same number right after it.
    fn drop(&mut self) {
        forget(self.0.as_raw_fd());
    }
}

fn place(raw: RawFd) -> Option<(usize, u64)> {
    let raw = usize::try_from(raw).ok().filter(|raw| *raw < TRACKED)?;
    Some((raw / 64, 1 << (raw % 64)))
}

fn forget(raw: RawFd) {
    if let Some((word, bit)) = place(raw) {
        OPEN[word].fetch_and(!bit, Relaxed);
    }
}

/// Closes every descriptor of the server. Only for a forked child in which no code of the server runs any more: the
/// `Fd` values of the parent's memory must never be used or dropped there.
pub fn close_all() {
    for (index, word) in OPEN.iter().enumerate() {
        let mut bits = word.swap(0, Relaxed);
        while bits != 0 {
            let raw = (index * 64) as RawFd + bits.trailing_zeros() as RawFd;
            bits &= bits - 1;
            // SAFETY: the bit says that an `Fd` owns `raw`; by this function's contract that owner is never used again.
            unsafe { rustix::io::close(raw) };
        }
    }
}

/// Bytes that a socket has taken and that its peer has not: a large buffer can hide for long that the peer reads. 0 where
/// the system does not tell.
#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")
))]
pub fn undelivered(socket: impl AsFd) -> usize {
    const SIOCOUTQ: rustix::ioctl::Opcode = 0x5411;
    // SAFETY: on these architectures this is the code with which the kernel writes one C int, and does nothing else.
    let asked =
        unsafe { rustix::ioctl::ioctl(socket, rustix::ioctl::Getter::<SIOCOUTQ, std::ffi::c_int>::new()) };
    asked.ok().and_then(|count| usize::try_from(count).ok()).unwrap_or(0)
}

#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")
)))]
/// As above; this system is not asked.
pub fn undelivered(_socket: impl AsFd) -> usize {
    0
}

/// Raises the soft limit of open descriptors to the hard one; returns the limit in force.
pub fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let soft = limit.current.unwrap_or(TRACKED as u64);
    let wanted = limit.maximum.unwrap_or(WANTED_DESCRIPTORS).min(WANTED_DESCRIPTORS);
    if soft >= wanted {
        return soft.min(TRACKED as u64);
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }) {
        Ok(()) => wanted,
        Err(_) => soft,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_and_forgets_its_number() {
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        let fd = Fd::new(reader);
        let (word, bit) = place(fd.as_raw_fd()).unwrap();
        assert_ne!(OPEN[word].load(Relaxed) & bit, 0);
        drop(fd);
        assert_eq!(OPEN[word].load(Relaxed) & bit, 0);
    }

    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    #[test]
    fn a_socket_tells_what_its_peer_has_not_taken() {
        use std::io::Write;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut writer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _reader = listener.accept().unwrap();
        writer.set_nonblocking(true).unwrap();
        assert_eq!(undelivered(&writer), 0);
        while writer.write(&[0; 65536]).is_ok() {}
        assert!(undelivered(&writer) > 0);
    }

    #[test]
    fn the_limit_is_at_least_what_it_was() {
        let before = getrlimit(Resource::Nofile).current.unwrap_or(0).min(TRACKED as u64);
        assert!(raise_descriptor_limit() >= before.min(WANTED_DESCRIPTORS));
    }
}
