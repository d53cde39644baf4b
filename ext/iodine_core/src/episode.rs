//! Something that goes wrong again and again, and is to be logged once.

use std::time::{Duration, Instant};

/// An episode is over when it has not happened for so long.
const QUIET: Duration = Duration::from_secs(5);

/// Remembers when it last happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Episode {
    last: Option<Instant>,
}

impl Episode {
    /// An episode that has not begun.
    pub const fn new() -> Episode {
        Episode { last: None }
    }

    /// It happens, at `now`. True if an episode begins with that: time to log it.
    pub fn begins(&mut self, now: Instant) -> bool {
        let last = self.last.replace(now);
        last.is_none_or(|last| now.saturating_duration_since(last) > QUIET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_episode_begins_once_and_ends_with_quiet() {
        let start = Instant::now();
        let mut episode = Episode::new();
        assert!(episode.begins(start));
        // However long it lasts.
        let mut now = start;
        for _ in 0..100 {
            now += QUIET / 2;
            assert!(!episode.begins(now));
        }
        assert!(episode.begins(now + QUIET + Duration::from_millis(1)));
    }
}
