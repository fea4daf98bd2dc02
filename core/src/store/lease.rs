//! Table `lease`: what limits the life of a node, in cluster time (DESIGN.md §3, §5).
//!
//! A v2 TTL is a lease of its own for one node, from a reserved range of ids. Nothing here reads a
//! clock: a lease whose deadline has passed stays until an entry of the log ends it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::event::Lease;
use super::ledger::Ledger;
use super::path::Path;
use super::row::{Row, RowKey};
use crate::ids::{ChangeId, LeaseId};
use crate::time::{ClusterTime, Duration};

/// One lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRow {
    /// The time granted.
    pub granted: Duration,
    /// When it is over.
    pub deadline: ClusterTime,
    /// The node that it limits.
    pub path: Path,
}

/// All leases.
///
/// Invariant: `due` holds each lease once, as (deadline, creation of the node, path): the order in
/// which nodes expire (SIMULATION.md T7).
#[derive(Clone, Debug, Default)]
pub(super) struct Leases {
    rows: BTreeMap<LeaseId, LeaseRow>,
    due: BTreeSet<(ClusterTime, ChangeId, Path)>,
}

impl Leases {
    /// Limits the life of the node at `path`, which `created` made.
    pub(super) fn attach(
        &mut self,
        ledger: &mut Ledger,
        id: LeaseId,
        row: LeaseRow,
        created: ChangeId,
    ) {
        assert!(
            id >= LeaseId::PRIVATE,
            "a TTL takes a private lease, not {id}"
        );
        ledger.change(RowKey::Lease(id), None, Some(Row::Lease(row.clone())));
        assert!(self.restore(id, row, created), "lease {id} is in use");
    }

    /// Frees the node, which `created` made.
    pub(super) fn detach(&mut self, ledger: &mut Ledger, id: LeaseId, created: ChangeId) {
        let row = self
            .rows
            .remove(&id)
            .expect("a node's lease is in the table");
        let due = (row.deadline, created, row.path.clone());
        assert!(
            self.due.remove(&due),
            "lease {id} was not due at {}",
            row.deadline
        );
        ledger.change(RowKey::Lease(id), Some(Row::Lease(row)), None);
    }

    /// Lets what was granted at `since` or later last as long as if it were granted at `now`.
    pub(super) fn grant_anew(&mut self, ledger: &mut Ledger, since: ClusterTime, now: ClusterTime) {
        let is_recent = |row: &LeaseRow| row.deadline >= since + row.granted;
        let recent = self.rows.iter().filter(|(_, row)| is_recent(row));
        let ids: BTreeMap<Path, LeaseId> =
            recent.map(|(&id, row)| (row.path.clone(), id)).collect();
        let due = self
            .due
            .iter()
            .filter(|(_, _, path)| ids.contains_key(path));
        let due: Vec<_> = due.cloned().collect();
        for (deadline, created, path) in due {
            self.due.remove(&(deadline, created, path.clone()));
            let row = self
                .rows
                .get_mut(&ids[&path])
                .expect("what is due has a row");
            let old = row.clone();
            row.deadline = now + row.granted;
            self.due.insert((row.deadline, created, path.clone()));
            let (old, new) = (Row::Lease(old), Row::Lease(row.clone()));
            ledger.change(RowKey::Lease(ids[&path]), Some(old), Some(new));
        }
    }

    /// Puts a saved row back; `false` where one is there.
    pub(super) fn restore(&mut self, id: LeaseId, row: LeaseRow, created: ChangeId) -> bool {
        let first = self.due.insert((row.deadline, created, row.path.clone()));
        self.rows.insert(id, row).is_none() && first
    }

    /// The lease called `id`, as events and answers show it.
    pub(super) fn lease(&self, id: LeaseId) -> Lease {
        let row = &self.rows[&id];
        Lease {
            id,
            granted: row.granted,
            deadline: row.deadline,
        }
    }

    /// The node that is due first, if one is due by `now`.
    pub(super) fn due(&self, now: ClusterTime) -> Option<&Path> {
        let (deadline, _, path) = self.due.first()?;
        (*deadline <= now).then_some(path)
    }

    /// When the next node is due.
    pub(super) fn next_deadline(&self) -> Option<ClusterTime> {
        self.due.first().map(|&(deadline, _, _)| deadline)
    }

    /// When the last node is due.
    pub(super) fn last_deadline(&self) -> Option<ClusterTime> {
        self.due.last().map(|&(deadline, _, _)| deadline)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Every row of this table.
    pub(super) fn rows(&self) -> impl Iterator<Item = (RowKey, Row)> {
        self.rows
            .iter()
            .map(|(id, row)| (RowKey::Lease(*id), Row::Lease(row.clone())))
    }
}
