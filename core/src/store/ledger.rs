//! The ledger of rows: every change of a table goes through here once, and with it into the set
//! hash and into the set of changes that the next checkpoint must write.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::mem;

use super::row::{Row, RowKey, weigh};

/// The scratch buffer is given back after a row larger than this, in bytes.
const SCRATCH_MAX: usize = 1 << 16;

/// Invariant: `hash` is the wrapping sum of what every row of every table weighs, the events of
/// retained history included, whether they are in memory or not.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    hash: u128,
    rows: BTreeMap<RowKey, Option<Row>>,
    scratch: Vec<u8>,
}

impl Ledger {
    /// Records that the row of `key` was `old` and is now `new`. Returns the canonical lengths of
    /// both in bytes, zero for none.
    pub(super) fn change(&mut self, key: RowKey, old: Option<Row>, new: Option<Row>) -> (u64, u64) {
        assert!(
            old.is_some() || new.is_some(),
            "no row, before or after: {key:?}"
        );
        let gone = old.map_or(0, |row| self.weigh_out(&key, &row));
        let come = new.as_ref().map_or(0, |row| self.weigh_in(&key, row));
        self.rows.insert(key, new);
        (gone, come)
    }

    /// Records a row that is kept elsewhere: only its hash counts here.
    pub(super) fn weigh_in(&mut self, key: &RowKey, row: &Row) -> u64 {
        let (hash, length) = self.weigh(key, row);
        self.hash = self.hash.wrapping_add(hash);
        length
    }

    /// What a row weighs, without recording it.
    pub(super) fn weigh(&mut self, key: &RowKey, row: &Row) -> (u128, u64) {
        let weight = weigh(key, row, &mut self.scratch);
        if self.scratch.capacity() > SCRATCH_MAX {
            self.scratch = Vec::new();
        }
        weight
    }

    /// Takes a sum of hashes in, of rows that are kept elsewhere.
    pub(super) fn add(&mut self, hash: u128) {
        self.hash = self.hash.wrapping_add(hash);
    }

    /// Takes a sum of hashes out again.
    pub(super) fn subtract(&mut self, hash: u128) {
        self.hash = self.hash.wrapping_sub(hash);
    }

    /// Has the next checkpoint remove a row that no longer counts, if it is there at all.
    pub(super) fn erase(&mut self, key: RowKey) {
        self.rows.insert(key, None);
    }

    /// The sum over all rows.
    pub(super) fn hash(&self) -> u128 {
        self.hash
    }

    /// Moves out what changed.
    pub(super) fn take(&mut self) -> BTreeMap<RowKey, Option<Row>> {
        mem::take(&mut self.rows)
    }

    /// Puts changes back that were taken and not written: those made since then are newer.
    pub(super) fn merge_back(&mut self, mut older: BTreeMap<RowKey, Option<Row>>) {
        older.extend(mem::take(&mut self.rows));
        self.rows = older;
    }

    fn weigh_out(&mut self, key: &RowKey, row: &Row) -> u64 {
        let (hash, length) = self.weigh(key, row);
        self.hash = self.hash.wrapping_sub(hash);
        length
    }
}
