//! Messages that nobody sent: well-formed, and meant to do harm.

use quorate_core::raft::{AppendOutcome, Entry, Message, MessageBody, Payload, Raft};
use quorate_core::{Index, LogId, NodeId, Term};

use super::member::Member;
use crate::numbers::near;

/// Brings an arbitrary message near to what member `at` would believe, and says who sent it.
pub(super) fn forge(
    members: &[Member],
    at: usize,
    from: NodeId,
    message: Message,
) -> (NodeId, Message) {
    let (victim, birth) = (&members[at], members[at].birth());
    let raft = victim.replica().raft();
    let seat = usize::try_from(from.0 % 8).expect("below eight");
    let from = birth.nodes().nth(seat % 4).map_or(from, |(node, _)| node);
    let disk_of = |node| birth.founder(node).map(|founder| founder.disk);
    let mut body = message.body;
    liken(&mut body, raft);
    let term = near_term(message.term, raft);
    // One in eight keeps what it said of itself.
    let message = if message.birth.is_multiple_of(8) {
        Message {
            term,
            body,
            ..message
        }
    } else {
        Message {
            birth: birth.hash(),
            from_disk: disk_of(from).unwrap_or(message.from_disk),
            to_disk: disk_of(raft.id()).expect("the victim is a member"),
            term,
            body,
        }
    };
    (from, message)
}

fn liken(body: &mut MessageBody, raft: &Raft) {
    match body {
        MessageBody::PreVote { last } | MessageBody::Vote { last, .. } => {
            *last = near_id(*last, raft);
        }
        MessageBody::Append {
            previous,
            entries,
            committed,
            round,
        } => {
            *previous = near_id(*previous, raft);
            *committed = near_index(*committed, raft);
            *round = near_number(*round, 2);
            let entries_of_one_log = follow(*previous, entries, raft);
            *entries = entries_of_one_log.into();
        }
        MessageBody::AppendReply { outcome, round } => {
            *round = near_number(*round, 2);
            match outcome {
                AppendOutcome::Matched { through } | AppendOutcome::Repairing { through } => {
                    *through = near_index(*through, raft);
                }
                AppendOutcome::Conflict { refused, hint } => {
                    *refused = near_index(*refused, raft);
                    *hint = near_id(*hint, raft);
                }
            }
        }
        MessageBody::Propose { requests } => {
            for request in requests {
                let mut command = (*request.command).clone();
                near(&mut command);
                request.command = command.into();
            }
        }
        MessageBody::ProposeRefused { tickets } => {
            for ticket in tickets {
                *ticket %= 8;
            }
        }
        MessageBody::ReadIndexReply { index, .. } => *index = near_index(*index, raft),
        MessageBody::PreVoteReply { .. }
        | MessageBody::VoteReply { .. }
        | MessageBody::TimeoutNow
        | MessageBody::ReadIndex { .. } => {}
    }
}

/// Entries that could stand in a log after `previous`: some as the victim has them, some not.
fn follow(previous: LogId, entries: &[Entry], raft: &Raft) -> Vec<Entry> {
    let mut last = previous;
    let mut stamp = raft.entry(previous.index).map(|entry| entry.stamp);
    let mut log = Vec::new();
    for entry in entries {
        let index = Index(last.index.0.saturating_add(1));
        let own = raft.entry(index).filter(|own| own.id.term >= last.term);
        let entry = match own {
            Some(own) if !entry.stamp.0.is_multiple_of(4) => own.clone(),
            Some(_) | None => {
                let term = near_term(entry.id.term, raft).max(last.term).max(Term(1));
                let mut stamp_after = stamp.unwrap_or_default();
                stamp_after.0 = stamp_after
                    .0
                    .saturating_add(near_number(entry.stamp.0, 1 << 30));
                Entry {
                    id: LogId { term, index },
                    stamp: stamp_after,
                    payload: near_payload(&entry.payload),
                }
            }
        };
        last = entry.id;
        stamp = Some(entry.stamp);
        log.push(entry);
    }
    log
}

fn near_payload(payload: &Payload) -> Payload {
    match payload {
        Payload::Command(command) => {
            let mut command = (**command).clone();
            near(&mut command);
            Payload::Command(command.into())
        }
        Payload::Empty
        | Payload::Expire { .. }
        | Payload::Configuration(_)
        | Payload::Renew { .. } => payload.clone(),
    }
}

/// An entry of the victim's log, or one near it.
fn near_id(raw: LogId, raft: &Raft) -> LogId {
    let index = near_index(raw.index, raft);
    let own = if index == raft.log_start().index {
        Some(raft.log_start())
    } else {
        raft.entry(index).map(|entry| entry.id)
    };
    match own {
        Some(own) if !raw.term.0.is_multiple_of(4) => own,
        Some(_) | None => LogId {
            term: near_term(raw.term, raft),
            index,
        },
    }
}

fn near_index(raw: Index, raft: &Raft) -> Index {
    if raw.0 >> 60 == 0xf {
        return raw;
    }
    let end = raft.last().index.0 + 4;
    Index(end.saturating_sub(raw.0 % 12))
}

fn near_term(raw: Term, raft: &Raft) -> Term {
    if raw.0 >> 60 == 0xf {
        return raw;
    }
    let end = raft.hard_state().term.0.saturating_add(2);
    Term(end.saturating_sub(raw.0 % 6 % 4))
}

const fn near_number(raw: u64, below: u64) -> u64 {
    if raw >> 60 == 0xf { raw } else { raw % below }
}
