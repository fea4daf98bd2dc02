//! What members say to each other: one variant per RPC and per answer.

use serde::{Deserialize, Serialize};

use crate::ids::{DiskId, Index, LogId, Term};
use crate::raft::entry::Entries;

/// What travels between members. Dropped on receipt unless the birth record and both disks are the
/// ones the receiver knows (DESIGN.md §4): a wiped disk is another member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The hash of the birth record of the sender's cluster.
    pub birth: u128,
    /// The sender's disk.
    pub from_disk: DiskId,
    /// The receiver's disk, as the sender knows it.
    pub to_disk: DiskId,
    /// The sender's term; of a pre-vote and its grant: the term it would be (thesis §9.6).
    pub term: Term,
    /// What it says.
    pub body: MessageBody,
}

/// What a [`Message`] says. Variants are only ever appended: members of two versions meet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MessageBody {
    /// «Would you vote for me?» (thesis §9.6). Changes nothing at the receiver.
    PreVote {
        /// The last entry of the sender's log.
        last: LogId,
    },
    /// The answer to [`PreVote`](Self::PreVote).
    PreVoteReply {
        /// Whether it would.
        granted: bool,
    },
    /// «Vote for me» (Raft §5.2).
    Vote {
        /// The last entry of the candidate's log (Raft §5.4.1).
        last: LogId,
        /// The old leader asked for this election: leader stickiness does not apply (thesis §3.10).
        transfer: bool,
    },
    /// The answer to [`Vote`](Self::Vote). Leaves only once the vote is on disk.
    VoteReply {
        /// Whether it did.
        granted: bool,
    },
    /// Entries to append (Raft §5.3); without entries, a heartbeat or a probe.
    Append {
        /// The entry just before `entries`.
        previous: LogId,
        /// What to append; may be empty.
        entries: Entries,
        /// What the leader knows to be committed.
        committed: Index,
        /// The newest ReadIndex round this message serves (thesis §6.4); rises within a term.
        round: u64,
    },
    /// The answer to [`Append`](Self::Append).
    AppendReply {
        /// What became of it.
        outcome: AppendOutcome,
        /// The round of the append answered. The answer may leave before the disk is done; only
        /// `outcome` speaks of what is durable.
        round: u64,
    },
    /// The leader asks the receiver to campaign at once (thesis §3.10).
    TimeoutNow,
}

/// What became of an append at a follower. Variants are only ever appended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum AppendOutcome {
    /// The follower's log equals the leader's through here, and is on its disk.
    Matched {
        /// Through here.
        through: Index,
    },
    /// The follower has no entry like `previous` (Raft §5.3).
    Conflict {
        /// The `previous` that was refused: an answer to an older probe is told apart by it.
        refused: Index,
        /// The highest place where the logs may still agree.
        hint: LogId,
    },
    /// As `Matched`, from a member that lost synced entries and is being repaired: it goes on from
    /// here, but does not count towards a quorum until its log is whole (DESIGN.md §6).
    Repairing {
        /// Through here.
        through: Index,
    },
}
