//! What members say to each other: one variant per RPC and per answer.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{DiskId, Index, LogId, Term};
use crate::raft::entry::{Entries, Entry, Payload};
use crate::store::Command;

/// What travels between members. Dropped on receipt unless the birth record and both disks are the
/// ones the receiver knows (DESIGN.md §4): a wiped disk is another member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
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
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
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
    /// A member passes on what its clients ask for. It may arrive twice: the commands carry the ids
    /// that make a repetition harmless.
    Propose {
        /// What, oldest first.
        requests: Vec<Forwarded>,
    },
    /// The receiver of [`Propose`](Self::Propose) has not put these into its log: they may be
    /// passed on again.
    ProposeRefused {
        /// Which.
        tickets: Vec<u64>,
    },
    /// A member asks its leader from which index on it may answer questions (thesis §6.4).
    ReadIndex {
        /// Names the question: unlike any that this member asked before, also before a restart.
        nonce: u64,
        /// Whether the sender counts: it remembers all its votes, and so vouches that it has not
        /// voted in a later term when it asked.
        counts: bool,
    },
    /// The answer to [`ReadIndex`](Self::ReadIndex): the sender still led after it came.
    ReadIndexReply {
        /// Which question.
        nonce: u64,
        /// From here on.
        index: Index,
    },
}

/// A request of a client that another member is to put into the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Forwarded {
    /// Names it between the two members.
    pub ticket: u64,
    /// What. Carries a request id.
    pub command: Arc<Command>,
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

impl Message {
    /// Terms, indexes and rounds above this come from no honest member, and would leave no room to
    /// count on.
    pub const NUMBER_MAX: u64 = u64::MAX >> 1;

    /// Whether the message contradicts itself, whoever receives it.
    ///
    /// # Errors
    /// How.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.term.0 == 0 || self.term.0 > Self::NUMBER_MAX {
            return Err("a term out of range");
        }
        match &self.body {
            MessageBody::PreVote { last } | MessageBody::Vote { last, .. } => {
                check_id(*last)?;
                // Of a pre-vote too: the term it would be is above that of any entry.
                if last.term >= self.term {
                    return Err("a candidate's log is not older than its term");
                }
            }
            MessageBody::Append {
                previous,
                entries,
                committed,
                round,
            } => {
                check_number(committed.0)?;
                check_number(*round)?;
                check_entries(*previous, entries)?;
                if entries.last().map_or(*previous, |last| last.id).term > self.term {
                    return Err("an entry of a later term than its leader's");
                }
            }
            MessageBody::AppendReply { outcome, round } => {
                check_number(*round)?;
                outcome.check()?;
            }
            MessageBody::ReadIndexReply { index, .. } => check_number(index.0)?,
            MessageBody::Propose { requests } => {
                if requests
                    .iter()
                    .any(|request| request.command.client.is_none())
                {
                    return Err("a forwarded request without an id");
                }
            }
            MessageBody::PreVoteReply { .. }
            | MessageBody::VoteReply { .. }
            | MessageBody::TimeoutNow
            | MessageBody::ProposeRefused { .. }
            | MessageBody::ReadIndex { .. } => {}
        }
        Ok(())
    }
}

impl AppendOutcome {
    fn check(&self) -> Result<(), &'static str> {
        match *self {
            Self::Matched { through } | Self::Repairing { through } => check_number(through.0),
            Self::Conflict { refused, hint } => {
                check_number(refused.0)?;
                check_id(hint)?;
                if hint.index >= refused {
                    return Err("a hint that is no step back");
                }
                Ok(())
            }
        }
    }
}

fn check_number(number: u64) -> Result<(), &'static str> {
    if number > Message::NUMBER_MAX {
        Err("a number out of range")
    } else {
        Ok(())
    }
}

fn check_id(id: LogId) -> Result<(), &'static str> {
    check_number(id.index.0)?;
    if (id.index.0 == 0) == (id.term.0 == 0) {
        Ok(())
    } else {
        Err("only the place before the first entry has no term")
    }
}

/// The order of entries that [`Entries`] promises, after `previous`.
fn check_entries(previous: LogId, entries: &[Entry]) -> Result<(), &'static str> {
    check_id(previous)?;
    let mut last = previous;
    let mut stamp = None;
    for entry in entries {
        check_id(entry.id)?;
        if entry.id.index != last.index.next() {
            return Err("entries with a gap");
        }
        if entry.id.term < last.term {
            return Err("entries whose terms fall");
        }
        if stamp > Some(entry.stamp) {
            return Err("entries whose stamps fall");
        }
        match &entry.payload {
            Payload::Configuration(configuration) if configuration.voters.is_empty() => {
                return Err("a configuration without voters");
            }
            Payload::Configuration(_)
            | Payload::Empty
            | Payload::Renew { .. }
            | Payload::Command(_)
            | Payload::Expire { .. } => {}
        }
        last = entry.id;
        stamp = Some(entry.stamp);
    }
    Ok(())
}

impl fmt::Display for MessageBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PreVote { last } => write!(f, "pre-vote? {last}"),
            Self::PreVoteReply { granted } => write!(f, "pre-vote {}", yes(*granted)),
            Self::Vote {
                last,
                transfer: false,
            } => write!(f, "vote? {last}"),
            Self::Vote {
                last,
                transfer: true,
            } => write!(f, "vote? {last} by transfer"),
            Self::VoteReply { granted } => write!(f, "vote {}", yes(*granted)),
            Self::Append {
                previous,
                entries,
                committed,
                round,
            } => {
                match entries.last() {
                    Some(last) => write!(f, "append ({previous}, {}]", last.id)?,
                    None => write!(f, "heartbeat {previous}")?,
                }
                write!(f, " committed {committed}")?;
                if *round > 0 {
                    write!(f, " round {round}")
                } else {
                    Ok(())
                }
            }
            Self::AppendReply { outcome, round } => {
                write!(f, "{outcome}")?;
                if *round > 0 {
                    write!(f, " round {round}")
                } else {
                    Ok(())
                }
            }
            Self::TimeoutNow => write!(f, "timeout now"),
            Self::Propose { requests } => write!(f, "propose {}", requests.len()),
            Self::ProposeRefused { tickets } => write!(f, "{} refused", tickets.len()),
            Self::ReadIndex { nonce, .. } => write!(f, "read index? {nonce:x}"),
            Self::ReadIndexReply { nonce, index } => write!(f, "read index {nonce:x}: {index}"),
        }
    }
}

impl fmt::Display for AppendOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Matched { through } => write!(f, "matched {through}"),
            Self::Conflict { refused, hint } => write!(f, "conflict at {refused}, try {hint}"),
            Self::Repairing { through } => write!(f, "repairing {through}"),
        }
    }
}

fn yes(granted: bool) -> &'static str {
    if granted { "yes" } else { "no" }
}
