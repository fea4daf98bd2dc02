//! Linearizability from outside: L1 and L2 once more (SIMULATION.md §8.2), by a judge that believes
//! nothing but what clients were told.
//!
//! | what | where |
//! |---|---|
//! | what clients asked and were told | [`History`], filled by `world/requests.rs` |
//! | paths and values as numbers, what follows from sightings | `book`, `names` |
//! | what the store does, one operation after the other | `spec` |
//! | an order that explains every answer | `search`; a guess at it, `search/guide` |
//! | a failure in words | `story` |
//!
//! **What is compared.** Actions, paths, values, kinds, granted times to live, nodes as they were
//! before, children of directories, causes of refusals: all exactly. v2 indexes must rise: answered
//! changes stand in the order of their indexes, a refusal stands between the changes below and
//! above the index it shows, and a node shows the indexes of the changes that made and last changed
//! it, where these were shown. No other number of an answer is looked at, no term, no log index.
//!
//! **Partitions.** What begins with one name is a partition: no write but one of the root, which is
//! refused whatever there is, reads or writes anything elsewhere, so a write is whole in one
//! partition, and nothing is left out. A recursive listing of the root falls into the listings of
//! all partitions at one moment: each must be right in its partition by itself, which is weaker
//! than all at once. In profile `whole` the store is one partition. Stale reads are not part of it
//! (L6).
//!
//! **Unknown outcomes.** What was not answered may take effect at any time after it was invoked, or
//! never. A write without a request id takes effect up to as many times as members took it in
//! without refusing it (K3), one with an id once; an opaque one more often if the store may have
//! forgotten its answer. What was refused each time did not happen. Where the value of such a write
//! was seen, it did take effect, before the first that saw it returned; the index under which it
//! was seen is that of the write, unless an unanswered refresh may have come in between. A child in
//! order is named by its index. Any other index that an answer shows, and that no answered change
//! has, is a *gap*: one of the writes without an answer took place there, and wrote what the index
//! is shown for. And so, what is not in a gap was never seen: no answer shows what it left.
//!
//! **Expiry.** A key with a time to live may go, with all that is below it, at any time from `ttl`
//! after the invocation of what granted it: cluster time never runs ahead of true time, and that
//! write was stamped later than it was invoked. Each leader in between may measure one step of the
//! clock too much. Nothing says when it must be gone (T2): one that is still seen is there.
//!
//! What nobody saw is tried only where something that was seen does not fit without it.
//!
//! **A guess first.** The order of the ledger is tried before any other is searched for. It makes
//! nothing legal by itself: an order is one that explains every answer, whoever proposed it, and
//! where it does not, all orders are searched as if there were no ledger. But it tells which of
//! hundreds of unanswered writes took place, which no search finds out in time.
//!
//! Limits of the search: 2,000,000 steps for each partition, some 200 ms; a limit in real time
//! would make the verdict depend on the machine. What is undecided then is counted, and is no pass.

mod book;
mod history;
mod names;
mod search;
mod spec;
mod story;
#[cfg(test)]
mod tests;

pub use book::Clocks;
pub use history::{History, Record, Said};

use self::book::{Book, Depth};
use self::search::{Guide, Outcome, Search};
use super::{Verdict, Violation};
use crate::model::Change;

/// The share of undecided partitions from which on a sweep fails (SIMULATION.md §8).
const UNDECIDED_PER_MILLE_MAX: u64 = 1;

/// Of fewer partitions no share is looked at.
const FEW: u64 = 1_000;

/// How many partitions there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All of them.
    pub partitions: u64,
    /// Those of which it is not known whether there is an order.
    pub undecided: u64,
}

impl Tally {
    /// Adds those of another run.
    pub const fn add(&mut self, other: Self) {
        self.partitions += other.partitions;
        self.undecided += other.undecided;
    }

    /// Whether little enough is undecided, of so many partitions that a share says something.
    #[must_use]
    pub const fn is_decided(&self) -> bool {
        let is_small = self.partitions < FEW;
        is_small || self.undecided * 1_000 < self.partitions * UNDECIDED_PER_MILLE_MAX
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let share = self.undecided * 100_000 / self.partitions.max(1);
        write!(
            f,
            "black box: {} partitions, {} undecided ({}.{:03} %)",
            self.partitions,
            self.undecided,
            share / 1_000,
            share % 1_000
        )
    }
}

/// Looks for an order of all operations, `whole` or partition by partition, and tries that of
/// `changes` first. Counts in `tally`.
///
/// # Errors
/// L1, L2: there is none in some partition.
pub fn judge(
    history: &History,
    clocks: &Clocks,
    changes: &[Change],
    whole: bool,
    tally: &mut Tally,
) -> Verdict {
    let book = Book::new(history, clocks, whole, Depth::Sighted);
    let guide = Guide::new(&book, changes, whole);
    for (&top, ops) in &book.partitions {
        tally.partitions += 1;
        match Search::new(&book, ops).run(guide.of(top)) {
            Outcome::Legal => {}
            Outcome::Undecided => tally.undecided += 1,
            Outcome::Illegal(_) => {
                let path = book.names.place(top).path.clone();
                let (id, what) = story::told(history, clocks, whole, &path);
                return Err(Violation::new(id, &[], what));
            }
        }
    }
    Ok(())
}
