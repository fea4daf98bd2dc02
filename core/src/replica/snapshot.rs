//! A snapshot that was received takes the place of the store (Raft §7; DESIGN.md §6).

use alloc::boxed::Box;

use super::forward::Fate;
use super::requests::Proposal;
use super::{Replica, configuration_of};
use crate::output::{Output, RequestError};
use crate::raft::SnapshotHead;
use crate::store::Store;
use crate::time::Instant;

impl Replica {
    /// Keeps a snapshot until it can be installed. One at a time: a newer one takes the place of
    /// one that waits.
    pub(super) fn on_snapshot(&mut self, store: Box<Store>) {
        self.drop_arrived();
        self.arrived = Some(store);
        if self.stopping {
            self.drop_arrived();
        }
    }

    /// The snapshot that waits is of no use.
    pub(super) fn drop_arrived(&mut self) {
        if let Some(store) = self.arrived.take() {
            let last = store.applied();
            self.outbox.push_back(Output::DropSnapshot { last });
        }
    }

    /// Installs the snapshot that waits, once no checkpoint is in flight: whether there was one.
    /// The tables on disk are one or the other, never a mixture.
    pub(super) fn maybe_install(&mut self, now: Instant) -> bool {
        if self.schedule.in_flight() || self.raft.is_installing() {
            return false;
        }
        let Some(store) = self.arrived.take() else {
            return false;
        };
        let last = store.applied();
        let head = SnapshotHead {
            last,
            stamp: store.clock(),
            configuration: configuration_of(&store, &self.founders),
        };
        if !self.raft.install(now, head) {
            self.outbox.push_back(Output::DropSnapshot { last });
            return true;
        }
        self.store = *store;
        self.checkpointed = last;
        self.trimmed = last.index.next();
        self.schedule.superseded();
        self.watches.replaced(&self.store);
        for Proposal { request, command } in self.requests.hidden(last.index) {
            // One with an id finds its answer in the snapshot, if it has one there.
            match command.client {
                Some(_) => self.forwards.add(request, command, Fate::Unknown),
                None => self.reply(request, Err(RequestError::Dropped)),
            }
        }
        // What is of an older term cannot follow the snapshot; it may be long until an entry tells.
        for Proposal { request, command } in self.requests.superseded(last) {
            self.propose_anew(request, command);
        }
        self.forwards.hurry();
        true
    }
}
