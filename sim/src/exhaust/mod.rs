//! All orders: three members, a few elections, crashes and client operations, and everything that
//! can happen next, until nothing new does (SIMULATION.md §11). It finds what random seeds need
//! millions of runs for, and names the shortest way there.
//!
//! The members are the shipped replicas, their messages go through the shipped codec, and what must
//! hold is checked by [`check`](crate::check), as in a run. What is searched is small, and its
//! bounds are part of what is claimed:
//!
//! * **Network.** A message that was sent may arrive at any time, any number of times, or never,
//!   also after its sender or its receiver has started anew. So loss, delay, duplication,
//!   reordering and partitions have no bound. With three exceptions: a proposal that is passed on
//!   arrives once at most, for each arrival makes the log longer. A vote, an append or an answer to
//!   one is gone as soon as its arrival would change nothing, at its receiver or by what that
//!   answers; and any message is, once the disk of its receiver holds a later term.
//!   [`Budget::late`] keeps them all.
//! * **Disk.** A write is durable at once, or, as often as there is a budget for that, at any later
//!   time. A crash keeps all durable writes, and the one on its way or not. No write is torn: that
//!   is for the log's frames, and for seeds.
//! * **Time.** A member's clock stands still but for two events, each with a budget: an election
//!   timeout passes without a word (a follower campaigns, a leader finds that it lost its quorum),
//!   or only the least one, after which a follower hears out another candidate. So between any two
//!   events no time passes, or so much, at each member by itself.
//! * **Clients.** Operations are asked in a given order, each once, at any member that knows a
//!   leader, whether those before it were answered or not. (At another one they only wait.)
//! * **Not searched**: heartbeats, snapshots, changes of membership, transfers, times to live,
//!   watches.
//!
//! Members are alike until something has happened to them: of those to which nothing has, only the
//! first is next. States are equal where `fingerprint` says so, of the members and of what the
//! checks remember of all that happened before.

mod cluster;
mod fingerprint;
mod interned;
mod member;
mod operations;
mod search;
mod state;

use std::fmt;

use quorate_core::LogId;

pub use operations::Operations;

use crate::check::Violation;

/// How many members there are.
pub const MEMBERS: usize = 3;

/// How much may happen in a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Election timeouts that pass, at all members together.
    pub elections: u8,
    /// Times that a follower has not heard from its leader for long enough to hear out another
    /// candidate, and does not campaign.
    pub lapses: u8,
    /// Crashes.
    pub crashes: u8,
    /// Writes that are not durable at once.
    pub slow: u8,
    /// No message is ever forgotten, whatever came of it: a far larger search.
    pub late: bool,
    /// What clients ask.
    pub operations: Operations,
    /// Entries in one append and in one write.
    pub batch: usize,
    /// States after which the search is given up. Each costs somewhat less than a kilobyte.
    pub states: usize,
}

/// What came of a search.
#[derive(Debug)]
pub struct Report {
    /// States that differ.
    pub states: usize,
    /// Ways from one of them to another, or to the same again.
    pub transitions: u64,
    /// Events on the longest of the shortest ways.
    pub depth: usize,
    /// Members that differ, each taken by itself.
    pub members: usize,
    /// Messages that differ.
    pub messages: usize,
    /// Pasts that differ, as far as the checks remember.
    pub pasts: usize,
    /// Whether there is nothing else that could happen.
    pub complete: bool,
    /// Operations that were answered, somewhere.
    pub answered: u32,
    /// The latest entry that was committed, somewhere.
    pub committed: LogId,
    /// What does not hold, at the end of a shortest way.
    pub failure: Option<Failure>,
}

/// A way to what must not be.
#[derive(Debug)]
pub struct Failure {
    /// What does not hold.
    pub violation: Violation,
    /// Events on the way there.
    pub steps: usize,
    /// What happens, and what members make of it.
    pub lines: Vec<String>,
}

/// Searches everything within `budget`, or up to the first thing that does not hold.
#[must_use]
pub fn search(budget: Budget) -> Report {
    search::Search::new(budget).run()
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{MEMBERS} members, {} elections, {} lapses, {} crashes, {} slow writes, operations \
             \"{}\", batches of {}{}",
            self.elections,
            self.lapses,
            self.crashes,
            self.slow,
            self.operations,
            self.batch,
            if self.late { ", late messages" } else { "" },
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} states, {} transitions, depth {}; {} members, {} messages, {} pasts; {} operations \
             answered, committed through {}",
            self.states,
            self.transitions,
            self.depth,
            self.members,
            self.messages,
            self.pasts,
            self.answered,
            self.committed,
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        write!(f, "after {} steps: {}", self.steps, self.violation)
    }
}
