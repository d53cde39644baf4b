//! Files that are served without the application: which file a request names, and the answer that it gets.
//!
//! The reactor asks here before it makes a job of a request; app threads do for `X-Sendfile`. Small files are kept in
//! memory, of larger ones the descriptor is; what was found is believed for a second.

mod cache;
mod folder;
mod reply;
mod resource;
mod rules;

pub(crate) use cache::KEPT_OPEN;
pub use folder::{Folder, OpenFile};
pub(crate) use reply::{Asking, plain_refusal};
pub use reply::{Reply, Sendfile, refusal, send_file};
pub use rules::{Rule, set_media_type};

use crate::log::{self, Level};
use crate::sys::Fd;
use cache::Cache;
use iodine_codec::http::{FileRequest, file_path};
use resource::{Content, Resource, Wishes};
use rustix::io::Errno;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What is to be served, and how.
#[derive(Debug)]
pub struct StaticConfig {
    /// The folder, as an absolute path. It need not be there yet.
    pub folder: PathBuf,
    /// Whether files and folders are served whose name begins with a dot. `.well-known` is in any case.
    pub hidden: bool,
    /// Whether symbolic links may lead out of the folder.
    pub links_out: bool,
    /// Headers; of several rules that fit a file the first one counts.
    pub rules: Vec<Rule>,
}

/// The files of one folder, as all listeners of it share them.
#[derive(Debug)]
pub struct StaticFiles {
    folder: Folder,
    hidden: bool,
    rules: Vec<Rule>,
    /// Held for a look-up, never while the file system is asked.
    cache: Mutex<Cache>,
}

/// What was found of a request's path.
#[derive(Debug)]
pub enum Found {
    /// Something to serve.
    Resource(Arc<Resource>),
    /// Nothing: the request is somebody else's.
    Nothing,
    /// There is a file that can not be read: a status to answer with.
    Failed(u16),
}

impl Found {
    /// Whether a descriptor may be kept of it.
    pub(crate) fn keeps_open(&self) -> bool {
        matches!(self, Found::Resource(resource) if resource.keeps_open())
    }
}

impl StaticFiles {
    /// Files as `config` says. Nothing is opened before it is asked for, so this may be made before a fork.
    pub fn new(config: StaticConfig) -> StaticFiles {
        let StaticConfig { folder, hidden, links_out, rules } = config;
        StaticFiles { folder: Folder::new(folder, links_out), hidden, rules, cache: Mutex::default() }
    }

    /// The folder.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// What there is to serve for `request`, which may be any.
    pub fn find(&self, request: &FileRequest<'_>, now: Instant) -> Found {
        if request.method().is_none() || request.wants_upgrade() {
            return Found::Nothing;
        }
        match file_path::decode(request.path(), self.hidden) {
            Ok(path) => self.find_path(&path, now),
            Err(_) => Found::Nothing,
        }
    }

    fn find_path(&self, path: &[u8], now: Instant) -> Found {
        let known = self.lock().find(path, now);
        if let Some((resource, false)) = known {
            return Found::Resource(resource);
        }
        let Some(root) = self.folder.root(now) else { return Found::Nothing };
        if let Some((resource, true)) = known {
            if resource.is_current(&self.folder, &root, path) {
                self.lock().confirm(path, now);
                return Found::Resource(resource);
            }
        }
        self.load(&root, path, now)
    }

    fn load(&self, root: &Fd, path: &[u8], now: Instant) -> Found {
        let rule = self.rules.iter().find(|rule| rule.fits(path));
        let wishes = Wishes { given: &[], rule, status: 200 };
        let loaded = Resource::load(&|path| self.folder.open(root, path), path, true, &wishes);
        match loaded {
            Ok(Some(resource)) => {
                let resource = Arc::new(resource);
                match resource.settled {
                    true => self.lock().put(path, resource.clone(), now),
                    // What was changed just now may change again without a trace.
                    false => self.lock().forget(path),
                }
                Found::Resource(resource)
            }
            Ok(None) => {
                self.lock().forget(path);
                Found::Nothing
            }
            Err(error) => {
                let shown = self.folder.path().join(String::from_utf8_lossy(path).as_ref());
                Found::Failed(report(&shown.to_string_lossy(), error))
            }
        }
    }

    /// The content of the page for an error, if there is one in memory's reach.
    fn error_page(&self, status: u16) -> Option<Arc<Resource>> {
        let path = format!("{status}.html");
        let Found::Resource(page) = self.find_path(path.as_bytes(), Instant::now()) else { return None };
        if page.keeps_open() {
            // It may be the application's thread that asks, and only the reactor sees to it that files are closed again.
            self.lock().forget(path.as_bytes());
        }
        page.page().is_some().then_some(page)
    }

    /// Closes files that nobody has asked for in [`KEPT_OPEN`]. Returns whether others are still open.
    pub(crate) fn close_unused(&self, now: Instant) -> bool {
        let mut cache = self.lock();
        let unused = cache.take_unused(now);
        let keeps_open = cache.keeps_open();
        drop(cache);
        drop(unused);
        keeps_open
    }

    /// Descriptors kept.
    #[cfg(test)]
    pub(crate) fn kept_open(&self) -> usize {
        self.lock().kept().2
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resource {
    /// Its plain form, when that is in memory.
    fn page(&self) -> Option<(&[u8], &str)> {
        match self.plain.as_ref().map(|form| (&form.content, &form.media_type)) {
            Some((Content::Memory(bytes), media_type)) => Some((bytes, media_type)),
            _ => None,
        }
    }
}

/// Logs why a file that is there could not be read, and gives the status that this earns.
fn report(path: &str, error: Errno) -> u16 {
    log::message(Level::Error, &format!("can not open the file {}: {error}", path.escape_debug()));
    match error {
        Errno::ACCESS | Errno::PERM => 403,
        // The descriptors of the process, or of the machine, are used up.
        Errno::MFILE | Errno::NFILE => 503,
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_read_earns_a_status() {
        log::set_verbosity(0);
        for (error, status) in [
            (Errno::ACCESS, 403),
            (Errno::PERM, 403),
            (Errno::MFILE, 503),
            (Errno::NFILE, 503),
            (Errno::IO, 500),
        ] {
            assert_eq!(report("/a/b", error), status, "{error}");
        }
    }

    #[test]
    fn the_cache_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let files = StaticFiles::new(StaticConfig {
            folder: folder.path().into(),
            hidden: false,
            links_out: false,
            rules: Vec::new(),
        });
        let write = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            let then = std::time::SystemTime::now() - std::time::Duration::from_secs(10);
            std::fs::File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
        };
        let now = Instant::now();
        (0..300).for_each(|index| write(&format!("large{index}"), &[0; 33_000]));
        (0..1100).for_each(|index| write(&format!("small{index}"), &[0; 32_000]));
        for name in (0..1100)
            .map(|index| format!("small{index}"))
            .chain((0..300).map(|index| format!("large{index}")))
        {
            assert!(matches!(files.find_path(name.as_bytes(), now), Found::Resource(_)), "{name}");
        }
        let (resources, memory, descriptors) = files.lock().kept();
        assert!(memory <= 32 * 1024 * 1024 && memory > 16 * 1024 * 1024, "{memory} bytes");
        assert!(descriptors <= 256 && descriptors > 200, "{descriptors} descriptors");
        assert!(resources > 1000);
    }
}
