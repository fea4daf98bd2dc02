//! The last things of one kind.

use std::collections::VecDeque;

/// So much of each kind is kept: enough for minutes, and a page that opens at once.
const KEPT: usize = 40_000;

/// The last things of one kind.
#[derive(Clone, Debug)]
pub struct Reel<T> {
    kept: VecDeque<T>,
    dropped: u64,
    max: usize,
}

impl<T> Default for Reel<T> {
    fn default() -> Self {
        Self::new(KEPT)
    }
}

impl<T> Reel<T> {
    pub(super) const fn new(max: usize) -> Self {
        Self {
            kept: VecDeque::new(),
            dropped: 0,
            max,
        }
    }

    pub(super) fn push(&mut self, thing: T) {
        if self.kept.len() == self.max {
            self.kept.pop_front();
            self.dropped += 1;
        }
        self.kept.push_back(thing);
    }

    /// Those that are kept, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.kept.iter()
    }

    /// How many there were before those.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }
}
