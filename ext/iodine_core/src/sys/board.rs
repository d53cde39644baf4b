//! How many connections each worker holds, in memory that master and workers share.
//!
//! All workers wait on the same listening sockets, so whoever wakes first could take every connection. A worker looks
//! at the board before it accepts and leaves the connection to another one that holds clearly fewer.

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

const VACANT: u32 = u32::MAX;

/// One counter per worker slot. Copies, also those made by fork, show the same memory.
#[derive(Clone, Copy, Debug)]
pub struct Board {
    counts: &'static [AtomicU32],
}

impl Board {
    /// A board of `slots` vacant places. The memory stays mapped until the process ends.
    pub fn new(slots: usize) -> std::io::Result<Board> {
        let bytes = slots.max(1) * size_of::<AtomicU32>();
        // SAFETY: a fresh anonymous mapping overlaps nothing; it is page aligned, zeroed, and never unmapped, so the
        // slice is valid for 'static. Zeroed AtomicU32 are valid.
        let counts = unsafe {
            let start = mmap_anonymous(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
            )?;
            std::slice::from_raw_parts(start.cast::<AtomicU32>(), slots)
        };
        counts.iter().for_each(|count| count.store(VACANT, Relaxed));
        Ok(Board { counts })
    }

    /// Says how many connections the worker in `slot` holds.
    pub fn set(&self, slot: usize, connections: usize) {
        if let Some(count) = self.counts.get(slot) {
            count.store(u32::try_from(connections).unwrap_or(VACANT - 1), Relaxed);
        }
    }

    /// The worker in `slot` is gone.
    pub fn vacate(&self, slot: usize) {
        if let Some(count) = self.counts.get(slot) {
            count.store(VACANT, Relaxed);
        }
    }

    /// The smallest count among the workers other than `slot`; `None` without another one.
    pub fn least_of_others(&self, slot: usize) -> Option<usize> {
        let others = self.counts.iter().enumerate().filter(|(other, _)| *other != slot);
        let counts = others.map(|(_, count)| count.load(Relaxed));
        counts.filter(|count| *count != VACANT).min().map(|count| count as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_least_of_the_others() {
        let board = Board::new(3).unwrap();
        assert_eq!(board.least_of_others(0), None);
        board.set(0, 1);
        board.set(1, 7);
        board.set(2, 5);
        assert_eq!(board.least_of_others(0), Some(5));
        assert_eq!(board.least_of_others(2), Some(1));
        board.vacate(0);
        assert_eq!(board.least_of_others(2), Some(7));
        board.set(9, 1);
    }
}
