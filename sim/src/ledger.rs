//! The one list of committed entries, built as they commit.

use quorate_core::raft::{Entry, Payload};
use quorate_core::{ClusterTime, Index, LogId, Term};

use crate::clock::Time;

/// A committed entry, with what only the simulator knows about it.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Where it stands.
    pub id: LogId,
    /// The hash of all entries through this one.
    pub chain: u128,
    /// What its leader stamped it with.
    pub stamp: ClusterTime,
    /// What it says.
    pub payload: Payload,
    /// The true time at which its leader appended it.
    pub stamped: Time,
    /// The term of the first node that knew it to be committed.
    pub committed_in: Term,
    /// The true time at which the first node knew it to be committed.
    pub committed: Time,
}

/// All committed entries: index 1 first, nothing missing, nothing ever changed.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    entries: Vec<Committed>,
}

impl Ledger {
    /// Appends the next entry.
    ///
    /// # Panics
    /// Where it is not the next one: the caller walks the log in order.
    pub fn push(&mut self, entry: Committed) {
        assert_eq!(entry.id.index, self.last().next(), "a gap in the ledger");
        self.entries.push(entry);
    }

    /// The last index.
    #[must_use]
    pub const fn last(&self) -> Index {
        Index(self.entries.len() as u64)
    }

    /// The entry at `index`, once committed.
    #[must_use]
    pub fn get(&self, index: Index) -> Option<&Committed> {
        let place = usize::try_from(index.0.checked_sub(1)?).ok()?;
        self.entries.get(place)
    }

    /// The hash of all entries through `index`; that of no entry is zero.
    #[must_use]
    pub fn chain(&self, index: Index) -> Option<u128> {
        if index == Index::ZERO {
            return Some(0);
        }
        self.get(index).map(|entry| entry.chain)
    }

    /// The last entry that was committed before `term`: what its leader must hold (Raft §5.4).
    #[must_use]
    pub fn last_before(&self, term: Term) -> Index {
        let after = self
            .entries
            .partition_point(|entry| entry.committed_in < term);
        Index(after as u64)
    }

    /// All entries.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Committed> {
        self.entries.iter()
    }
}

/// The hash of the log through `entry`, given that of the log before it.
#[must_use]
pub fn chained(before: u128, entry: &Entry) -> u128 {
    let bytes = postcard::to_allocvec(entry).expect("an entry encodes");
    let seed = xxhash_rust::xxh3::xxh3_64(&before.to_le_bytes());
    xxhash_rust::xxh3::xxh3_128_with_seed(&bytes, seed)
}
