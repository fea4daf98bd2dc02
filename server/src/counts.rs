//! What the server counts itself: reads, and watches that are open. The store counts writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the start of the process.
#[derive(Debug, Default)]
pub struct Counts {
    reads: AtomicU64,
    reads_failed: AtomicU64,
    watchers: Arc<AtomicU64>,
}

/// A watch that is open; counted as closed when dropped.
#[derive(Debug)]
pub struct Open(Arc<AtomicU64>);

impl Counts {
    /// A key or directory was read, or was not there.
    pub fn read(&self, done: bool) {
        let counter = if done {
            &self.reads
        } else {
            &self.reads_failed
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A watch began.
    #[must_use]
    pub fn watcher(&self) -> Open {
        self.watchers.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(&self.watchers))
    }

    /// Reads that found something, and those that did not.
    #[must_use]
    pub fn reads(&self) -> (u64, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (load(&self.reads), load(&self.reads_failed))
    }

    /// Watches open now.
    #[must_use]
    pub fn watchers(&self) -> u64 {
        self.watchers.load(Ordering::Relaxed)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
