//! What the statistics endpoint counts (api/v2.md §13): of this member, since its start, not
//! replicated. A refused write counts as failed.

use super::command::{Operation, Scope, When};

/// Successes and failures of one operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Done.
    pub success: u64,
    /// Refused.
    pub fail: u64,
}

impl Count {
    fn add(&mut self, done: bool) {
        if done {
            self.success += 1;
        } else {
            self.fail += 1;
        }
    }
}

/// The counters of writes. Reads and watchers are counted by who serves them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// `set`.
    pub sets: Count,
    /// `create`, in-order children among them.
    pub creates: Count,
    /// `update`.
    pub updates: Count,
    /// `compareAndSwap`.
    pub swaps: Count,
    /// `delete`.
    pub deletes: Count,
    /// `compareAndDelete`.
    pub compare_deletes: Count,
    /// Nodes that expired.
    pub expired: u64,
}

impl StoreStats {
    pub(super) fn count(&mut self, operation: &Operation, done: bool) {
        let count = match operation {
            Operation::Put(put) => match put.when {
                When::Always => &mut self.sets,
                When::Missing => &mut self.creates,
                When::Exists => &mut self.updates,
                When::Matches(_) => &mut self.swaps,
            },
            Operation::Append(_) => &mut self.creates,
            Operation::Delete(delete) => match delete.scope {
                Scope::Key | Scope::EmptyDirectory | Scope::Tree => &mut self.deletes,
                Scope::Matches(_) => &mut self.compare_deletes,
            },
            Operation::Configure(_) | Operation::Publish(_) => return,
        };
        count.add(done);
    }
}
