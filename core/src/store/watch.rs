//! What a watch wants, and what it is told (api/v2.md §10).

use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::event::{Audience, Event};
use super::history::{Change, SliceId};
use super::path::{Path, hidden};
use crate::ids::{Revision, WatchId};
use crate::output::EndReason;

/// Which events a watch wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Filter {
    /// The path watched; nothing need be there.
    pub path: Path,
    /// Whether what is below it is watched too, hidden names excepted.
    pub recursive: bool,
}

impl Filter {
    /// Whether the watch is to see this change (api/v2.md §10), live or from history.
    #[must_use]
    pub fn matches(&self, change: &Change<'_>) -> bool {
        let event = change.event;
        if event.audience != Audience::Everyone {
            return false;
        }
        if event.path == self.path {
            return true;
        }
        let below = event.path.below(&self.path);
        if self.recursive && below.is_some_and(|names| !hidden(names)) {
            return true;
        }
        // What was there and went away with a directory, hidden or not, sees the directory go.
        let own_record = |record: &Arc<Event>| record.path.cmp(&self.path);
        event.action.removes() && change.gone.binary_search_by(own_record).is_ok()
    }
}

/// What [`Watches`](super::Watches) asks for: the part of [`Output`](crate::Output) that concerns
/// watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchOutput {
    /// A watch has begun.
    Watching {
        /// Which.
        watch: WatchId,
    },
    /// An event for these watches, each of which had credit for it.
    Notify {
        /// For whom; not empty.
        watches: Vec<WatchId>,
        /// What happened.
        event: Arc<Event>,
    },
    /// A watch is over; nothing follows.
    End {
        /// Which.
        watch: WatchId,
        /// Why.
        reason: EndReason,
        /// The v2 index to go on from with nothing lost, where that is still possible.
        resume: Revision,
    },
    /// Read this slice of history back, then say
    /// [`Watches::history_read`](super::Watches::history_read).
    ReadHistory {
        /// Which.
        slice: SliceId,
    },
}
