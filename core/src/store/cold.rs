//! Slices of history that were read back from disk for watches that lag.
//!
//! Each is asked for once, whoever needs it, and a bounded number is held or asked for at a time.
//! One that a watch is reading stays until that watch has moved on, so that watches at different
//! places cannot throw out each other's slices; the others wait their turn.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};

use super::history::{SliceEvents, SliceId};
use crate::ids::WatchId;

/// Slices held or asked for at a time: 32 MiB of canonical bytes, as slices are by default.
pub(super) const SLICES_MAX: usize = 4;

/// Invariant: a slice is either wanted, with a place in `queue`, or one of at most [`SLICES_MAX`]
/// slots; only slots that nobody reads are given away.
#[derive(Clone, Debug, Default)]
pub(super) struct ColdSlices {
    slots: BTreeMap<SliceId, Slot>,
    readers: BTreeMap<SliceId, BTreeSet<WatchId>>,
    queue: VecDeque<SliceId>,
    /// Counts uses, to find the slot that has not been used for longest.
    uses: u64,
}

#[derive(Clone, Debug)]
struct Slot {
    /// `None` while it is being read.
    events: Option<SliceEvents>,
    used: u64,
}

impl ColdSlices {
    /// The events of a slice, for `watch`; `None` where it has to be read first, for which the
    /// watch is noted.
    pub(super) fn read(&mut self, slice: SliceId, watch: WatchId) -> Option<SliceEvents> {
        self.readers.entry(slice).or_default().insert(watch);
        self.uses += 1;
        match self.slots.get_mut(&slice) {
            Some(slot) => {
                slot.used = self.uses;
                slot.events.clone()
            }
            None => {
                if !self.queue.contains(&slice) {
                    self.queue.push_back(slice);
                }
                None
            }
        }
    }

    /// `watch` no longer needs this slice.
    pub(super) fn leave(&mut self, slice: SliceId, watch: WatchId) {
        if let Some(readers) = self.readers.get_mut(&slice) {
            readers.remove(&watch);
            if readers.is_empty() {
                self.readers.remove(&slice);
                self.queue.retain(|&queued| queued != slice);
            }
        }
    }

    /// The next slice to ask the driver for, if there is room for one.
    pub(super) fn ask(&mut self) -> Option<SliceId> {
        let &slice = self.queue.front()?;
        if self.slots.len() >= SLICES_MAX {
            let held = self.slots.iter().filter(|(_, slot)| slot.events.is_some());
            let unread = held.filter(|(slice, _)| !self.readers.contains_key(slice));
            let (&oldest, _) = unread.min_by_key(|(_, slot)| slot.used)?;
            self.slots.remove(&oldest);
        }
        self.queue.pop_front();
        let (events, used) = (None, self.uses);
        let old = self.slots.insert(slice, Slot { events, used });
        assert!(old.is_none(), "slice {slice} is asked for twice");
        Some(slice)
    }

    /// A slice was read, or could not be. Returns who waits for it.
    pub(super) fn arrived(
        &mut self,
        slice: SliceId,
        events: Option<SliceEvents>,
    ) -> BTreeSet<WatchId> {
        match (self.slots.get_mut(&slice), events) {
            (Some(slot), Some(events)) => slot.events = Some(events),
            (Some(_), None) => {
                self.slots.remove(&slice);
            }
            // Nobody asked: an answer from before the store was replaced.
            (None, _) => return BTreeSet::new(),
        }
        self.readers.get(&slice).cloned().unwrap_or_default()
    }

    /// Forgets everything, answers still to come included.
    pub(super) fn clear(&mut self) {
        let Self {
            slots,
            readers,
            queue,
            ..
        } = self;
        slots.clear();
        readers.clear();
        queue.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ChangeId, Revision};

    fn slice(revision: u64) -> SliceId {
        ChangeId {
            revision: Revision(revision),
            sub: 0,
        }
    }

    fn watch(id: u64) -> WatchId {
        WatchId(id)
    }

    #[test]
    fn a_slice_is_asked_for_once_and_told_to_all_who_wait() {
        let mut cold = ColdSlices::default();
        assert!(cold.read(slice(1), watch(1)).is_none());
        assert!(cold.read(slice(1), watch(2)).is_none());
        assert_eq!(cold.ask(), Some(slice(1)));
        assert_eq!(cold.ask(), None);
        let told = cold.arrived(slice(1), Some([].into()));
        assert_eq!(told, BTreeSet::from([watch(1), watch(2)]));
        assert!(cold.read(slice(1), watch(1)).is_some());
        assert!(
            cold.arrived(slice(9), Some([].into())).is_empty(),
            "nobody asked"
        );
    }

    #[test]
    fn what_is_being_read_is_not_given_away() {
        let mut cold = ColdSlices::default();
        let last = SLICES_MAX as u64 + 1;
        for id in 1..=last {
            assert!(cold.read(slice(id), watch(id)).is_none());
        }
        let asked: alloc::vec::Vec<_> = core::iter::from_fn(|| cold.ask()).collect();
        assert_eq!(asked.len(), SLICES_MAX, "the last one waits for its turn");
        for &id in &asked {
            cold.arrived(id, Some([].into()));
        }
        assert_eq!(cold.ask(), None, "all are being read");
        cold.leave(slice(2), watch(2));
        assert_eq!(cold.ask(), Some(slice(last)));
        assert!(cold.read(slice(1), watch(1)).is_some());
        assert!(
            cold.read(slice(2), watch(2)).is_none(),
            "this one made room"
        );
    }

    #[test]
    fn who_leaves_before_its_turn_is_not_asked_for() {
        let mut cold = ColdSlices::default();
        assert!(cold.read(slice(1), watch(1)).is_none());
        cold.leave(slice(1), watch(1));
        assert_eq!(cold.ask(), None);
    }
}
