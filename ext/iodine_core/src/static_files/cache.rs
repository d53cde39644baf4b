//! Resources that were asked for lately: bounded in number, in memory and in descriptors.

use super::folder::BELIEVED;
use super::resource::Resource;
use lru::LruCache;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Resources kept of either kind.
const RESOURCES: usize = 4096;
/// Bytes of content kept of either kind; what has descriptors has few of them.
const MEMORY: usize = 32 * 1024 * 1024;
/// Descriptors kept open. Those of files that are being sent are not counted once they are dropped from here.
const DESCRIPTORS: usize = 256;
/// How long a descriptor is kept of which nobody asks: if its file was deleted, the disk has it for as long.
pub const KEPT_OPEN: Duration = Duration::from_secs(60);

/// What one folder has in memory. What keeps descriptors is apart from what does not, so that neither kind costs the
/// other its place.
#[derive(Debug, Default)]
pub struct Cache {
    in_memory: Shelf,
    open: Shelf,
}

struct Shelf {
    entries: LruCache<Box<[u8]>, Entry>,
    memory: usize,
    descriptors: usize,
}

struct Entry {
    resource: Arc<Resource>,
    checked: Instant,
    /// When it was last asked for.
    used: Instant,
}

impl Cache {
    /// What is kept of `path`, and whether it has to be looked after before it is believed.
    pub fn find(&mut self, path: &[u8], now: Instant) -> Option<(Arc<Resource>, bool)> {
        let entry = self.entry(path)?;
        entry.used = now;
        let stale = now.saturating_duration_since(entry.checked) >= BELIEVED;
        Some((entry.resource.clone(), stale))
    }

    /// It was looked after, and nothing had changed.
    pub fn confirm(&mut self, path: &[u8], now: Instant) {
        if let Some(entry) = self.entry(path) {
            entry.checked = now;
        }
    }

    /// Keeps `resource`, and lets go of what was not asked for the longest.
    pub fn put(&mut self, path: &[u8], resource: Arc<Resource>, now: Instant) {
        self.forget(path);
        let shelf = if resource.keeps_open() { &mut self.open } else { &mut self.in_memory };
        shelf.put(path, Entry { resource, checked: now, used: now });
    }

    /// Lets go of what is kept of `path`.
    pub fn forget(&mut self, path: &[u8]) {
        self.in_memory.forget(path);
        self.open.forget(path);
    }

    /// Takes out what has descriptors and was not asked for lately: for the caller to drop, since the last one to close a
    /// deleted file waits for the file system.
    pub fn take_unused(&mut self, now: Instant) -> Vec<Arc<Resource>> {
        std::iter::from_fn(|| self.open.take_unused(now)).collect()
    }

    /// Whether it keeps descriptors.
    pub fn keeps_open(&self) -> bool {
        !self.open.entries.is_empty()
    }

    fn entry(&mut self, path: &[u8]) -> Option<&mut Entry> {
        match self.in_memory.entries.get_mut(path) {
            Some(entry) => Some(entry),
            None => self.open.entries.get_mut(path),
        }
    }

    /// Resources, bytes and descriptors kept.
    #[cfg(test)]
    pub fn kept(&self) -> (usize, usize, usize) {
        let Cache { in_memory, open } = self;
        let resources = in_memory.entries.len() + open.entries.len();
        (resources, in_memory.memory + open.memory, in_memory.descriptors + open.descriptors)
    }
}

impl Shelf {
    fn put(&mut self, path: &[u8], entry: Entry) {
        let (memory, descriptors) = entry.resource.cost();
        self.memory += memory;
        self.descriptors += descriptors;
        self.entries.put(path.into(), entry);
        while self.entries.len() > RESOURCES || self.memory > MEMORY || self.descriptors > DESCRIPTORS {
            let Some((_, entry)) = self.entries.pop_lru() else { return };
            self.subtract(&entry);
        }
    }

    fn take_unused(&mut self, now: Instant) -> Option<Arc<Resource>> {
        let (_, oldest) = self.entries.peek_lru()?;
        if now.saturating_duration_since(oldest.used) < KEPT_OPEN {
            return None;
        }
        let (_, entry) = self.entries.pop_lru()?;
        self.subtract(&entry);
        Some(entry.resource)
    }

    fn forget(&mut self, path: &[u8]) {
        if let Some(entry) = self.entries.pop(path) {
            self.subtract(&entry);
        }
    }

    fn subtract(&mut self, entry: &Entry) {
        let (memory, descriptors) = entry.resource.cost();
        self.memory -= memory;
        self.descriptors -= descriptors;
    }
}

impl Default for Shelf {
    fn default() -> Shelf {
        Shelf { entries: LruCache::unbounded(), memory: 0, descriptors: 0 }
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} resources, {} bytes, {} descriptors", self.entries.len(), self.memory, self.descriptors)
    }
}
