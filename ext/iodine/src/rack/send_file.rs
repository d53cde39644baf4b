//! Answers whose body is a file: `X-Sendfile`, `X-Accel-Redirect`, and bodies with `to_path`.
//!
//! The application names the file; it is opened and read without the GVL, and sent by the kernel.

use super::body::{bytes, is_type, responds_to};
use super::{keys, response};
use crate::gvl;
use iodine_codec::http::{FileRequest, RequestHead};
use iodine_core::static_files::{self, Folder, OpenFile, Reply, Sendfile};
use iodine_core::{FilePart, Piece, Request};
use rb_sys::{VALUE, ruby_value_type};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Seek;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Whether the headers are the server's: as in iodine 0.7 for the whole process, as soon as one listener serves files.
static ENABLED: AtomicBool = AtomicBool::new(false);
/// Where files named by headers may be; anywhere while there is none.
static ROOTS: Mutex<Vec<Arc<Folder>>> = Mutex::new(Vec::new());

/// What the env says to `Rack::Sendfile`.
struct Announcement {
    keys: [VALUE; 2],
    value: VALUE,
}

static ANNOUNCEMENT: OnceLock<Announcement> = OnceLock::new();

/// Files up to this size are read at once and leave with the head.
const READ_UP_TO: u64 = 32 * 1024;

/// Makes the constants. The GVL is held.
pub fn init() {
    let _ = ANNOUNCEMENT.set(Announcement {
        keys: ["sendfile.type", "HTTP_X_SENDFILE_TYPE"].map(keys::constant),
        value: keys::constant("X-Sendfile"),
    });
}

/// From here on the headers are honoured, for files below `roots` if there are any.
pub fn enable(roots: Vec<PathBuf>) {
    let mut known = ROOTS.lock().unwrap_or_else(PoisonError::into_inner);
    known.extend(roots.into_iter().map(|root| Arc::new(Folder::new(root, false))));
    ENABLED.store(true, Relaxed);
}

/// The last listener is closed.
pub fn disable() {
    ROOTS.lock().unwrap_or_else(PoisonError::into_inner).clear();
    ENABLED.store(false, Relaxed);
}

/// Tells the application that it may name files. The GVL is held; may raise NoMemoryError.
pub fn announce(env: VALUE, head: &RequestHead) {
    if !ENABLED.load(Relaxed) || FileRequest::new(head).wants_upgrade() {
        return;
    }
    if let Some(announcement) = ANNOUNCEMENT.get() {
        for key in announcement.keys {
            // SAFETY: the GVL is held; all three are live values.
            unsafe { rb_sys::rb_hash_aset(env, key, announcement.value) };
        }
    }
}

/// A file named by a header.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    /// A String.
    path: VALUE,
    is_request_path: bool,
}

impl Named {
    /// The file that a header of this name, in any case, asks for (F-41). The GVL is held.
    pub fn by(name: &[u8], value: VALUE) -> Option<Named> {
        if !ENABLED.load(Relaxed) || !is_type(value, ruby_value_type::RUBY_T_STRING) {
            return None;
        }
        match name.len() {
            10 if name.eq_ignore_ascii_case(b"x-sendfile") => {
                Some(Named { path: value, is_request_path: false })
            }
            16 if name.eq_ignore_ascii_case(b"x-accel-redirect") => {
                Some(Named { path: value, is_request_path: true })
            }
            _ => None,
        }
    }
}

/// Replaces the draft, in which the application's headers are written, by the answer with the file. The GVL is held;
/// never raises.
pub fn write(draft: &mut response::Draft, request: &Request, closing: bool, named: Named) {
    let path = bytes(&named.path).to_vec();
    let roots = ROOTS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let head = std::mem::take(&mut draft.head);
    let line_end = head.iter().position(|&byte| byte == b'\n').map_or(head.len(), |at| at + 1);
    let sendfile = Sendfile {
        path: &path,
        is_request_path: named.is_request_path,
        status: draft.status,
        given: head.get(line_end..).unwrap_or_default(),
        roots: &roots,
    };
    let http = &request.conn.service().http;
    let send = || static_files::send_file(&sendfile, &request.head, request.facts, closing, http);
    let Reply { status, head, body, length, close } = without_gvl(send);
    *draft = response::Draft { head, lent: body, status, length, close, ..response::Draft::default() };
}

/// The file that a body names by `to_path`, and its length. `None` when there is none, or when it has another length than
/// the application declared: then its bytes are not those of the file, and `each` tells which. So it is with an IO that was
/// read in part, and with one whose size says nothing, as below /proc. The GVL is held; may raise what `to_path` raises.
pub fn of_body(body: VALUE, declared: Option<u64>) -> Option<(Piece, u64)> {
    let is_plain = rb_sys::SPECIAL_CONST_P(body)
        || is_type(body, ruby_value_type::RUBY_T_ARRAY)
        || is_type(body, ruby_value_type::RUBY_T_STRING);
    if is_plain || !responds_to(body, "to_path") {
        return None;
    }
    // SAFETY: the GVL is held; what is raised is caught by the `protect` around.
    let path =
        unsafe { rb_sys::rb_funcallv(body, rb_sys::rb_intern2(c"to_path".as_ptr(), 7), 0, std::ptr::null()) };
    if !is_type(path, ruby_value_type::RUBY_T_STRING) {
        return None;
    }
    let is_io = is_type(body, ruby_value_type::RUBY_T_FILE);
    if is_io && was_read(body) {
        return None;
    }
    let path = bytes(&path).to_vec();
    let file = without_gvl(|| open(Path::new(OsStr::from_bytes(&path)), declared));
    file.filter(|(_, length)| !is_io || *length > 0)
}

/// Whether an open IO is behind its beginning. What has no position, as a pipe, names no file that is sent. The GVL is held.
fn was_read(io: VALUE) -> bool {
    // SAFETY: a live IO; the GVL is held.
    let closed =
        unsafe { rb_sys::rb_funcallv(io, rb_sys::rb_intern2(c"closed?".as_ptr(), 7), 0, std::ptr::null()) };
    if closed != rb_sys::Qfalse as VALUE {
        return false;
    }
    // SAFETY: the IO is open, so this raises nothing; its descriptor is only borrowed, and never closed here.
    let mut file = ManuallyDrop::new(unsafe { File::from_raw_fd(rb_sys::rb_io_descriptor(io)) });
    file.stream_position().is_ok_and(|position| position > 0)
}

fn open(path: &Path, declared: Option<u64>) -> Option<(Piece, u64)> {
    let file = OpenFile::at(path).ok()??;
    let len = file.facts.len;
    if declared.is_some_and(|declared| declared != len) {
        return None;
    }
    if len <= READ_UP_TO {
        let bytes = file.read(0, len as usize).ok().filter(|bytes| bytes.len() as u64 == len)?;
        return Some((Piece::Owned(bytes), len));
    }
    Some((Piece::File(FilePart { file: Arc::new(file.fd), offset: 0, len }), len))
}

/// Runs `work` without the GVL; with it when an interrupt is pending, which is for others to handle.
fn without_gvl<R: Send>(work: impl Fn() -> R + Send + Sync) -> R {
    gvl::without(&work, || {}).unwrap_or_else(work)
}
