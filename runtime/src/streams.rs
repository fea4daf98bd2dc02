//! The driver's ends of open watches.

use std::collections::HashMap;
use std::sync::Arc;

use quorate_core::WatchId;
use quorate_core::store::{Event, Header};
use tokio::sync::mpsc;

use crate::driver::{Shared, Started};
use crate::watcher::{Notice, WatchEnd, WatchItem, Watcher};

/// Open watches by id. Looked up, never walked.
pub(crate) struct Streams {
    shared: Arc<Shared>,
    open: HashMap<WatchId, Stream>,
    last: WatchId,
}

/// A watch that core knows of.
enum Stream {
    /// Core has not said yet whether it stands.
    Asked { credit: u32, started: Started },
    /// It stands. The channel has room for the credit and an end.
    Standing(mpsc::Sender<WatchItem>),
}

impl Streams {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            open: HashMap::new(),
            last: WatchId::ZERO,
        }
    }

    /// A watch is asked for; it gets a name.
    pub(crate) fn add(&mut self, credit: u32, started: Started) -> WatchId {
        self.last = self.last.next();
        self.open
            .insert(self.last, Stream::Asked { credit, started });
        self.last
    }

    /// The watch stands.
    pub(crate) fn begin(&mut self, watch: WatchId, header: Header) {
        let Some(Stream::Asked { credit, started }) = self.open.remove(&watch) else {
            return;
        };
        let room = usize::try_from(credit).map_or(usize::MAX, |credit| credit.saturating_add(1));
        let (events, receiver) = mpsc::channel(room.min(mpsc_max()));
        self.open.insert(watch, Stream::Standing(events));
        let watcher = Watcher::new(watch, receiver, Arc::clone(&self.shared), credit);
        // A client that is gone drops the watcher here, which then says so to the driver.
        let _ = started.send(Ok((header, watcher)));
    }

    /// An event for all of `watches`, shared.
    pub(crate) fn notify(&self, watches: &[WatchId], event: Arc<Event>) {
        let notice = Arc::new(Notice::new(event));
        for watch in watches {
            if let Some(Stream::Standing(events)) = self.open.get(watch)
                && let Err(mpsc::error::TrySendError::Full(_)) =
                    events.try_send(WatchItem::Event(Arc::clone(&notice)))
            {
                panic!("{watch} got an event beyond its credit");
            }
        }
    }

    /// The watch is over, begun or not.
    pub(crate) fn end(&mut self, watch: WatchId, end: WatchEnd) {
        match self.open.remove(&watch) {
            Some(Stream::Asked { started, .. }) => {
                let _ = started.send(Err(end));
            }
            Some(Stream::Standing(events)) => {
                let _ = events.try_send(WatchItem::End(end));
            }
            None => {}
        }
    }

    /// The watcher is gone.
    pub(crate) fn remove(&mut self, watch: WatchId) {
        self.open.remove(&watch);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }
}

/// The most a channel can hold.
const fn mpsc_max() -> usize {
    tokio::sync::Semaphore::MAX_PERMITS
}
