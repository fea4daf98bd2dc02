//! A watch in the hands of a client: a stream of events against credit.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use quorate_core::store::{Event, Header};
use quorate_core::{EndReason, Revision, WatchId};
use tokio::sync::mpsc;

use crate::driver::{Mail, Shared};

/// An event on its way to watchers, shared by all who get it at the same time.
pub struct Notice {
    /// What happened.
    pub event: Arc<Event>,
    rendered: OnceLock<Bytes>,
}

impl Notice {
    pub(crate) fn new(event: Arc<Event>) -> Self {
        Self {
            event,
            rendered: OnceLock::new(),
        }
    }

    /// The event as bytes: made by whoever asks first, shared by all the others.
    pub fn rendered(&self, render: impl FnOnce(&Event) -> Bytes) -> Bytes {
        self.rendered.get_or_init(|| render(&self.event)).clone()
    }
}

impl fmt::Debug for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Notice({})", self.event.id)
    }
}

/// What a watch delivers.
#[derive(Clone, Debug)]
pub enum WatchItem {
    /// An event that matches, in order, each once.
    Event(Arc<Notice>),
    /// The watch is over; nothing follows.
    End(WatchEnd),
}

/// How a watch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchEnd {
    /// Why.
    pub reason: EndReason,
    /// The v2 index to go on from with nothing lost, where that is still possible.
    pub resume: Revision,
    /// The store as it was then.
    pub header: Header,
}

/// An open watch. Dropped, it is closed.
///
/// Bounded: no more events wait in it than its credit; what it has not been sent stays in history.
#[derive(Debug)]
pub struct Watcher {
    id: WatchId,
    events: mpsc::Receiver<WatchItem>,
    shared: Arc<Shared>,
    /// The credit it began with.
    credit: u32,
    /// Events read since credit was last given back.
    read: u32,
}

impl Watcher {
    pub(crate) fn new(
        id: WatchId,
        events: mpsc::Receiver<WatchItem>,
        shared: Arc<Shared>,
        credit: u32,
    ) -> Self {
        assert!(credit > 0, "a watcher that sees nothing");
        Self {
            id,
            events,
            shared,
            credit,
            read: 0,
        }
    }

    /// The next item; `None` after an end, or where the member stopped without one.
    pub async fn next(&mut self) -> Option<WatchItem> {
        let item = self.events.recv().await;
        self.account(item.as_ref());
        item
    }

    /// As [`Watcher::next`], for hand-written streams.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<WatchItem>> {
        let polled = self.events.poll_recv(context);
        if let Poll::Ready(item) = &polled {
            self.account(item.as_ref());
        }
        polled
    }

    /// Gives credit back by halves: often enough that a reader who keeps up never waits, seldom
    /// enough that the driver hears of it once for many events.
    fn account(&mut self, item: Option<&WatchItem>) {
        let Some(WatchItem::Event(_)) = item else {
            return;
        };
        self.read += 1;
        if self.read * 2 >= self.credit {
            let events = std::mem::take(&mut self.read);
            let mail = Mail::Credit {
                watch: self.id,
                events,
            };
            // A driver that is gone needs no credit.
            let _ = self.shared.inbox.send(mail);
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.shared.inbox.send(Mail::Unwatch { watch: self.id });
    }
}
