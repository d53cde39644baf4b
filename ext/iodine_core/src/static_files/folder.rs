//! A folder, and the files below it: opened so that no name leads to anything else.
//!
//! Paths given here are relative, and none of their parts is `..` (`iodine_codec::http::file_path` sees to that). What is
//! left are symbolic links. Linux resolves a path below a folder by itself; where it does not, or when a link is
//! absolute, the path is resolved first and then walked, part by part, following no link.

use crate::sys::Fd;
use rustix::fs::{AtFlags, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::{Errno, Result};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long what was found in the file system is believed.
pub const BELIEVED: Duration = Duration::from_secs(1);

/// Symbolic links that a path may lead through: as many as Linux follows.
const LINKS: usize = 40;
/// A file is opened for reading; a FIFO in its place must not keep us waiting, nor a terminal become ours.
const FILE: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
/// A folder is only a place to start from.
#[cfg(target_os = "linux")]
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// See the module's text.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Whether links may lead out of it.
    links_out: bool,
    root: Mutex<Option<Root>>,
}

#[derive(Debug)]
struct Root {
    fd: Arc<Fd>,
    id: (u64, u64),
    checked: Instant,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Bytes.
    pub len: u64,
    /// When its bytes were changed: seconds of the Unix epoch, and nanoseconds.
    pub modified: (i64, u32),
    /// When its bytes or what is noted of it were changed.
    changed: (i64, u32),
    id: (u64, u64),
}

impl Facts {
    /// Those of a regular file; `None` for anything else.
    fn of(stat: &Stat) -> Option<Facts> {
        if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
            return None;
        }
        #[allow(clippy::unnecessary_cast, reason = "the types are not the same on every system")]
        Some(Facts {
            len: u64::try_from(stat.st_size).ok()?,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as u32),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as u32),
            id: id(stat),
        })
    }
}

#[allow(clippy::unnecessary_cast, reason = "the types are not the same on every system")]
fn id(stat: &Stat) -> (u64, u64) {
    (stat.st_dev as u64, stat.st_ino as u64)
}

/// A regular file, open for reading.
#[derive(Debug)]
pub struct OpenFile {
    /// Its descriptor.
    pub fd: Fd,
    /// Its state when it was opened.
    pub facts: Facts,
}

impl OpenFile {
    fn new(fd: OwnedFd) -> Result<Option<OpenFile>> {
        let facts = Facts::of(&fstat(&fd)?);
        Ok(facts.map(|facts| OpenFile { fd: Fd::new(fd), facts }))
    }

    /// Opens the file at `path`, wherever that is. `None` when there is no regular file.
    pub fn at(path: &Path) -> Result<Option<OpenFile>> {
        found(rustix::fs::open(path, FILE, Mode::empty()))
    }

    /// What can be read of `len` bytes from `offset` on.
    pub fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let mut filled = 0;
        while filled < len {
            match rustix::io::pread(&self.fd, &mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// Whether the file is still as it was when it was opened.
    pub fn is_unchanged(&self) -> bool {
        fstat(&self.fd).is_ok_and(|stat| Facts::of(&stat) == Some(self.facts))
    }
}

impl Folder {
    /// The folder at `path`, which need not be there yet. `links_out` lets symbolic links lead out of it.
    pub fn new(path: PathBuf, links_out: bool) -> Folder {
        Folder { path, links_out, root: Mutex::default() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder itself, opened once: in the process that asks, and again when another folder has taken its place, as
    /// deployments do. `None` while there is none.
    pub fn root(&self, now: Instant) -> Option<Arc<Fd>> {
        let mut root = self.root.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &mut *root {
            if now.saturating_duration_since(known.checked) < BELIEVED {
                return Some(known.fd.clone());
            }
            if rustix::fs::stat(&self.path).is_ok_and(|stat| id(&stat) == known.id) {
                known.checked = now;
                return Some(known.fd.clone());
            }
        }
        *root = self.open_root(now);
        root.as_ref().map(|root| root.fd.clone())
    }

    fn open_root(&self, now: Instant) -> Option<Root> {
        let fd = rustix::fs::open(&self.path, FOLDER, Mode::empty()).ok()?;
        let id = id(&fstat(&fd).ok()?);
        Some(Root { fd: Arc::new(Fd::new(fd)), id, checked: now })
    }

    /// Opens the file at `path` below `root`. `None` when there is no regular file, or it lies outside.
    pub fn open(&self, root: &Fd, path: &Path) -> Result<Option<OpenFile>> {
        if self.links_out {
            return found(openat(root, path, FILE, Mode::empty()));
        }
        match open_beneath(root, path) {
            Err(Errno::XDEV) => self.open_resolved(root, &self.path.join(path)),
            opened => found(opened),
        }
    }

    /// Opens the file at `path`, which is absolute, if it lies below the folder when all links are resolved.
    pub fn open_absolute(&self, path: &Path, now: Instant) -> Result<Option<OpenFile>> {
        match self.root(now) {
            Some(root) => self.open_resolved(&root, path),
            None => Ok(None),
        }
    }

    /// What is known of the file at `path`, without opening it.
    pub fn facts(&self, root: &Fd, path: &Path) -> Option<Facts> {
        statat(root, path, AtFlags::empty()).ok().and_then(|stat| Facts::of(&stat))
    }

    fn open_resolved(&self, root: &Fd, path: &Path) -> Result<Option<OpenFile>> {
        let folder = match canonicalize(&self.path) {
            Ok(folder) => folder,
            Err(error) => return found(Err(error)),
        };
        match canonicalize(path) {
            Ok(path) => match path.strip_prefix(&folder) {
                Ok(inside) => found(walk(root.as_fd(), inside)),
                Err(_) => Ok(None),
            },
            // What is elsewhere is no file, whether or not it may be looked at.
            Err(Errno::ACCESS) if !is_stopped_in(&folder, path) => Ok(None),
            Err(error) => found(Err(error)),
        }
    }
}

fn canonicalize(path: &Path) -> Result<PathBuf> {
    std::fs::canonicalize(path).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::NOENT))
}

/// Whether the way to `path`, which leads through a folder that may not be searched, has come to one that is in `folder`.
fn is_stopped_in(folder: &Path, path: &Path) -> bool {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        let reached = path.ancestors().find_map(|start| Some((start, canonicalize(start).ok()?)));
        let Some((start, reached)) = reached else { return false };
        let mut rest = path.strip_prefix(start).unwrap_or(Path::new("")).components();
        let link = rest.next().and_then(|name| std::fs::read_link(reached.join(name)).ok());
        match link {
            Some(target) => path = reached.join(target).join(rest.as_path()),
            None => return reached.starts_with(folder),
        }
    }
    false
}

/// `XDEV` says that the path has to be resolved first.
#[cfg(target_os = "linux")]
fn open_beneath(root: &Fd, path: &Path) -> Result<OwnedFd> {
    use rustix::fs::{ResolveFlags, openat2};
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    match openat2(root, path, FILE, Mode::empty(), beneath) {
        // Before Linux 5.6, or under a filter that does not know the call; or something was renamed meanwhile.
        Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) => walk_or_resolve(root, path),
        opened => opened,
    }
}

#[cfg(not(target_os = "linux"))]
fn open_beneath(root: &Fd, path: &Path) -> Result<OwnedFd> {
    walk_or_resolve(root, path)
}

fn walk_or_resolve(root: &Fd, path: &Path) -> Result<OwnedFd> {
    match walk(root.as_fd(), path) {
        // A link on the way, or a file where a folder should be.
        Err(Errno::LOOP | Errno::NOTDIR | Errno::MLINK) => Err(Errno::XDEV),
        walked => walked,
    }
}

/// Opens a file part by part, following no link.
fn walk(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    let mut names = path.as_os_str().as_bytes().split(|&byte| byte == b'/').map(OsStr::from_bytes);
    let last = names.next_back().ok_or(Errno::NOENT)?;
    let mut folder: Option<OwnedFd> = None;
    for name in names {
        let from = folder.as_ref().map_or(root, OwnedFd::as_fd);
        folder = Some(openat(from, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())?);
    }
    openat(folder.as_ref().map_or(root, OwnedFd::as_fd), last, FILE | OFlags::NOFOLLOW, Mode::empty())
}

/// Tells "there is no such file" from what is worth a word.
fn found(opened: Result<OwnedFd>) -> Result<Option<OpenFile>> {
    match opened {
        Ok(fd) => OpenFile::new(fd),
        Err(
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::LOOP
            | Errno::MLINK
            | Errno::NAMETOOLONG
            | Errno::XDEV
            | Errno::ISDIR
            | Errno::INVAL
            | Errno::NXIO
            | Errno::NODEV
            | Errno::OPNOTSUPP,
        ) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// `inside/a.txt`, `inside/sub/b.txt`, `outside.txt`, and links of every kind.
    fn tree() -> tempfile::TempDir {
        let top = tempfile::tempdir().unwrap();
        let inside = top.path().join("inside");
        fs::create_dir_all(inside.join("sub")).unwrap();
        fs::write(inside.join("a.txt"), "a").unwrap();
        fs::write(inside.join("sub/b.txt"), "b").unwrap();
        fs::write(top.path().join("outside.txt"), "o").unwrap();
        symlink("sub/b.txt", inside.join("relative")).unwrap();
        symlink(inside.join("a.txt"), inside.join("absolute")).unwrap();
        symlink("sub", inside.join("folder")).unwrap();
        symlink("../outside.txt", inside.join("out")).unwrap();
        symlink(top.path().join("outside.txt"), inside.join("far-out")).unwrap();
        symlink("..", inside.join("up")).unwrap();
        symlink("loop", inside.join("loop")).unwrap();
        symlink("nowhere", inside.join("dead")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(inside.join("fifo")).status().unwrap().success());
        top
    }

    fn content(folder: &Folder, path: &str) -> Option<String> {
        let root = folder.root(Instant::now()).unwrap();
        let file = folder.open(&root, Path::new(path)).unwrap()?;
        Some(String::from_utf8(file.read(0, file.facts.len as usize).unwrap()).unwrap())
    }

    #[test]
    fn nothing_outside_is_opened() {
        let top = tree();
        let folder = Folder::new(top.path().join("inside"), false);
        for (path, expected) in [
            ("a.txt", Some("a")),
            ("sub/b.txt", Some("b")),
            ("relative", Some("b")),
            ("absolute", Some("a")),
            ("folder/b.txt", Some("b")),
            ("out", None),
            ("far-out", None),
            ("up/outside.txt", None),
            // It leads out, and back in.
            ("up/inside/a.txt", Some("a")),
            ("loop", None),
            ("dead", None),
            ("fifo", None),
            ("sub", None),
            ("a.txt/x", None),
            ("nothing", None),
            ("../outside.txt", None),
            ("/etc/passwd", None),
        ] {
            assert_eq!(content(&folder, path).as_deref(), expected, "{path}");
        }
        assert_eq!(content(&folder, &"x/".repeat(3000)), None);
        let open = Folder::new(top.path().join("inside"), true);
        assert_eq!(content(&open, "out").as_deref(), Some("o"));
        assert_eq!(content(&open, "far-out").as_deref(), Some("o"));
    }

    #[test]
    fn the_walk_is_as_strict_as_the_kernel() {
        let top = tree();
        let root = Fd::new(rustix::fs::open(top.path().join("inside"), FOLDER, Mode::empty()).unwrap());
        assert!(walk(root.as_fd(), Path::new("sub/b.txt")).is_ok());
        for path in ["relative", "folder/b.txt", "out", "up/outside.txt"] {
            assert_eq!(walk_or_resolve(&root, Path::new(path)).err(), Some(Errno::XDEV), "{path}");
        }
        assert_eq!(walk_or_resolve(&root, Path::new("nothing")).err(), Some(Errno::NOENT));
    }

    #[test]
    fn an_absolute_path_has_to_lie_inside() {
        let top = tree();
        let folder = Folder::new(top.path().join("inside"), false);
        let opens =
            |path: &str| folder.open_absolute(&top.path().join(path), Instant::now()).unwrap().is_some();
        assert!(opens("inside/a.txt") && opens("inside/../inside/sub/b.txt") && opens("inside/relative"));
        assert!(!opens("outside.txt") && !opens("inside/out") && !opens("inside/../outside.txt"));
    }

    #[test]
    fn another_folder_may_take_its_place() {
        let top = tempfile::tempdir().unwrap();
        let folder = Folder::new(top.path().join("current"), false);
        let now = Instant::now();
        assert!(folder.root(now).is_none());
        for release in ["one", "two"] {
            fs::create_dir(top.path().join(release)).unwrap();
            fs::write(top.path().join(release).join("name"), release).unwrap();
        }
        symlink("one", top.path().join("current")).unwrap();
        let read = |at| {
            let file = folder.open(&folder.root(at).unwrap(), Path::new("name")).unwrap().unwrap();
            String::from_utf8(file.read(0, 9).unwrap()).unwrap()
        };
        assert_eq!(read(now), "one");
        symlink("two", top.path().join("next")).unwrap();
        fs::rename(top.path().join("next"), top.path().join("current")).unwrap();
        assert_eq!(read(now), "one");
        assert_eq!(read(now + BELIEVED), "two");
    }
}
