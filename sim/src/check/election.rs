//! One leader a term, one vote a term, terms that never fall: R1, R2, R3, R16.

use std::collections::BTreeMap;

use quorate_core::raft::Role;
use quorate_core::{HardState, Index, Instant, LogId, NodeId, Term};

use super::{Verdict, ensure};

/// Who led, who voted for whom, over the whole run, dead nodes included.
#[derive(Clone, Debug)]
pub struct Election {
    leaders: BTreeMap<Term, usize>,
    votes: BTreeMap<(usize, Term), NodeId>,
    /// Per node: the highest term it has promised something in.
    promised: Vec<Term>,
    /// Per node: the term it was last seen in.
    terms: Vec<Term>,
}

/// What a message of an older term must leave alone (R16).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untouched {
    /// Term and vote.
    pub hard_state: HardState,
    /// What the node is.
    pub role: Role,
    /// Whom it follows.
    pub leader: Option<NodeId>,
    /// Its log's end.
    pub last: LogId,
    /// What it knows to be committed.
    pub committed: Index,
    /// Of a leader: how far it knows its peers to be.
    pub matched: BTreeMap<NodeId, Index>,
    /// Questions it is to vouch for, and what its own clients wait for.
    pub pending: (usize, usize, usize),
    /// When its next timer is due.
    pub deadline: Option<Instant>,
}

impl Election {
    /// Nothing has happened among `seats` nodes.
    #[must_use]
    pub fn new(seats: usize) -> Self {
        Self {
            leaders: BTreeMap::new(),
            votes: BTreeMap::new(),
            promised: vec![Term::ZERO; seats],
            terms: vec![Term::ZERO; seats],
        }
    }

    /// `seat` was seen leading in `term`.
    ///
    /// # Errors
    /// R1.
    pub fn leads(&mut self, seat: usize, term: Term) -> Verdict {
        let leader = *self.leaders.entry(term).or_insert(seat);
        ensure(leader == seat, "R1", &[leader, seat], || {
            format!("n{leader} and n{seat} both lead in term {term}")
        })
    }

    /// The highest term somebody led in, and who.
    #[must_use]
    pub fn latest(&self) -> Option<(Term, usize)> {
        self.leaders
            .last_key_value()
            .map(|(&term, &seat)| (term, seat))
    }

    /// A vote of `seat` for `candidate` reaches the network; a candidacy is a vote for oneself.
    ///
    /// # Errors
    /// R2: it voted otherwise in this term, or the vote is not what its disk holds.
    pub fn votes(
        &mut self,
        seat: usize,
        term: Term,
        candidate: NodeId,
        durable: HardState,
    ) -> Verdict {
        let first = *self.votes.entry((seat, term)).or_insert(candidate);
        ensure(first == candidate, "R2", &[seat], || {
            format!("n{seat} votes for {candidate} in term {term}, and voted for {first}")
        })?;
        let held = HardState {
            term,
            vote: Some(candidate),
        };
        // A later term on the disk holds no vote of this one, and none is ever asked for again.
        ensure(
            durable == held || durable.term > term,
            "R2",
            &[seat],
            || format!("n{seat} votes for {candidate} in term {term}; its disk holds {durable:?}"),
        )
    }

    /// A promise of `seat` in `term` reaches the network: a vote, or an acknowledgement of entries.
    ///
    /// # Errors
    /// R3: its disk would take it back to an earlier term.
    pub fn promises(&mut self, seat: usize, term: Term, durable: Term) -> Verdict {
        self.promised[seat] = self.promised[seat].max(term);
        ensure(durable >= term, "R3", &[seat], || {
            format!("n{seat} speaks in term {term}; its disk holds term {durable}")
        })
    }

    /// `seat` is seen in `term`.
    ///
    /// # Errors
    /// R3: it was in a later one.
    pub fn term(&mut self, seat: usize, term: Term) -> Verdict {
        let before = std::mem::replace(&mut self.terms[seat], term);
        ensure(term >= before, "R3", &[seat], || {
            format!("n{seat} goes back from term {before} to {term}")
        })
    }

    /// `seat` starts again with what its disk holds: it may have forgotten terms in which it made
    /// no promise, and no others.
    ///
    /// # Errors
    /// R3.
    pub fn restarted(&mut self, seat: usize, term: Term) -> Verdict {
        self.terms[seat] = term;
        let promised = self.promised[seat];
        ensure(term >= promised, "R3", &[seat], || {
            format!("n{seat} made a promise in term {promised} and starts in {term}")
        })
    }

    /// A message of an older term was absorbed by `seat`.
    ///
    /// # Errors
    /// R16: it changed something.
    pub fn ignored(seat: usize, before: &Untouched, after: &Untouched) -> Verdict {
        ensure(before == after, "R16", &[seat], || {
            format!("n{seat} was {before:?} and, after a message of an older term, is {after:?}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::id_of;
    use super::*;

    const fn held(term: u64, vote: u64) -> HardState {
        HardState {
            term: Term(term),
            vote: Some(NodeId(vote)),
        }
    }

    #[test]
    fn r1_two_leaders_in_a_term() {
        let mut election = Election::new(3);
        assert_eq!(election.leads(0, Term(1)), Ok(()));
        assert_eq!(election.leads(0, Term(1)), Ok(()));
        assert_eq!(election.leads(1, Term(2)), Ok(()));
        assert_eq!(id_of(&election.leads(1, Term(1))), "R1");
    }

    #[test]
    fn r2_two_votes_or_one_that_no_disk_holds() {
        let mut election = Election::new(2);
        assert_eq!(election.votes(0, Term(3), NodeId(7), held(3, 7)), Ok(()));
        assert_eq!(election.votes(0, Term(3), NodeId(7), held(4, 8)), Ok(()));
        assert_eq!(
            id_of(&election.votes(0, Term(3), NodeId(8), held(3, 8))),
            "R2"
        );
        assert_eq!(
            id_of(&election.votes(1, Term(3), NodeId(8), held(2, 8))),
            "R2"
        );
    }

    #[test]
    fn r3_terms_that_fall() {
        let mut election = Election::new(1);
        assert_eq!(election.term(0, Term(4)), Ok(()));
        assert_eq!(election.promises(0, Term(3), Term(3)), Ok(()));
        assert_eq!(election.restarted(0, Term(3)), Ok(()));
        assert_eq!(id_of(&election.restarted(0, Term(2))), "R3");
        assert_eq!(id_of(&election.promises(0, Term(5), Term(4))), "R3");
        assert_eq!(election.term(0, Term(5)), Ok(()));
        assert_eq!(id_of(&election.term(0, Term(4))), "R3");
    }

    #[test]
    fn r16_a_stale_message_that_changes_something() {
        let before = Untouched {
            hard_state: held(3, 1),
            role: Role::Follower,
            leader: None,
            last: LogId::ZERO,
            committed: Index(4),
            matched: BTreeMap::new(),
            pending: (0, 0, 0),
            deadline: Some(Instant(9)),
        };
        assert_eq!(Election::ignored(0, &before, &before), Ok(()));
        let mut after = before.clone();
        after.deadline = Some(Instant(10));
        assert_eq!(id_of(&Election::ignored(0, &before, &after)), "R16");
    }
}
