//! Resources that were asked for lately: bounded in number, in memory and in descriptors.

use super::folder::BELIEVED;
use super::resource::Resource;
use lru::LruCache;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// Resources kept.
const RESOURCES: usize = 4096;
/// Bytes of content kept.
const MEMORY: usize = 32 * 1024 * 1024;
/// Descriptors kept open. Those of files that are being sent are not counted once they are dropped from here.
const DESCRIPTORS: usize = 256;

/// What one folder has in memory.
pub struct Cache {
    entries: LruCache<Box<[u8]>, Entry>,
    memory: usize,
    descriptors: usize,
}

struct Entry {
    resource: Arc<Resource>,
    checked: Instant,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} resources, {} bytes, {} descriptors", self.entries.len(), self.memory, self.descriptors)
    }
}

impl Default for Cache {
    fn default() -> Cache {
        Cache { entries: LruCache::unbounded(), memory: 0, descriptors: 0 }
    }
}

impl Cache {
    /// What is kept of `path`, and whether it has to be looked after before it is believed.
    pub fn find(&mut self, path: &[u8], now: Instant) -> Option<(Arc<Resource>, bool)> {
        let entry = self.entries.get(path)?;
        let stale = now.saturating_duration_since(entry.checked) >= BELIEVED;
        Some((entry.resource.clone(), stale))
    }

    /// It was looked after, and nothing had changed.
    pub fn confirm(&mut self, path: &[u8], now: Instant) {
        if let Some(entry) = self.entries.get_mut(path) {
            entry.checked = now;
        }
    }

    /// Keeps `resource`, and lets go of what was not asked for the longest.
    pub fn put(&mut self, path: &[u8], resource: Arc<Resource>, now: Instant) {
        self.forget(path);
        let (memory, descriptors) = resource.cost();
        self.memory += memory;
        self.descriptors += descriptors;
        self.entries.put(path.into(), Entry { resource, checked: now });
        while self.entries.len() > RESOURCES || self.memory > MEMORY || self.descriptors > DESCRIPTORS {
            let Some((_, entry)) = self.entries.pop_lru() else { return };
            self.subtract(&entry);
        }
    }

    /// Lets go of what is kept of `path`.
    pub fn forget(&mut self, path: &[u8]) {
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
