//! Requests that wait for the log: each gets exactly one answer.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::ids::{Index, LogId, RequestId, Revision};
use crate::store::{Command, Query};

/// A write that this member put into its log as leader.
#[derive(Clone, Debug)]
pub(super) struct Proposal {
    pub(super) request: RequestId,
    pub(super) command: Arc<Command>,
}

/// Proposals by the entry they became, questions by what they wait for.
///
/// Invariants: a request is in one place only, and leaves it with its answer; `places` holds each
/// proposal.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    proposals: BTreeMap<LogId, Proposal>,
    places: BTreeMap<RequestId, LogId>,
    /// Waiting for an index to be applied.
    indexes: BTreeMap<(Index, RequestId), Query>,
    /// Waiting for the store's counter.
    revisions: BTreeMap<(Revision, RequestId), Query>,
}

impl Requests {
    pub(super) fn proposed(&mut self, at: LogId, request: RequestId, command: Arc<Command>) {
        let before = self.proposals.insert(at, Proposal { request, command });
        assert!(before.is_none(), "two proposals became entry {at}");
        self.places.insert(request, at);
    }

    /// The proposal that became this entry, if it was made here.
    pub(super) fn committed(&mut self, at: LogId) -> Option<Proposal> {
        let proposal = self.proposals.remove(&at)?;
        self.places.remove(&proposal.request);
        Some(proposal)
    }

    /// Those that can never be committed, now that `at` is: another entry has their place, or one
    /// of a later term stands before it (Raft §5.3, Log Matching: terms never fall along a log).
    ///
    /// To be called after [`committed`](Self::committed).
    pub(super) fn superseded(&mut self, at: LogId) -> Vec<Proposal> {
        let ends = (
            self.proposals.first_key_value(),
            self.proposals.last_key_value(),
        );
        let (Some((first, _)), Some((last, _))) = ends else {
            return Vec::new();
        };
        // By far most often all are of this term, and follow.
        if first.term == at.term && last.term == at.term && first.index > at.index {
            return Vec::new();
        }
        let places = self.proposals.keys();
        let gone = places.filter(|place| place.index == at.index || place.term < at.term);
        let gone: Vec<LogId> = gone.copied().collect();
        self.take(&gone)
    }

    /// Those through `at`, whose fate a snapshot hides.
    pub(super) fn hidden(&mut self, at: Index) -> Vec<Proposal> {
        let places = self.proposals.keys();
        let hidden: Vec<LogId> = places.filter(|place| place.index <= at).copied().collect();
        self.take(&hidden)
    }

    /// All of them: what becomes of these will not be known here.
    pub(super) fn drop_proposals(&mut self) -> Vec<RequestId> {
        self.places.clear();
        let proposals = core::mem::take(&mut self.proposals).into_values();
        proposals.map(|proposal| proposal.request).collect()
    }

    /// Waits for `index` to be applied.
    pub(super) fn wait_for_index(&mut self, at: (Index, RequestId), query: Query) {
        self.indexes.insert(at, query);
    }

    pub(super) fn wait_for_revision(&mut self, at: Revision, request: RequestId, query: Query) {
        self.revisions.insert((at, request), query);
    }

    /// Nobody waits for the answer to this proposal any more. Whether it was here.
    pub(super) fn cancel_proposal(&mut self, request: RequestId) -> bool {
        let place = self.places.remove(&request);
        place.is_some_and(|place| self.proposals.remove(&place).is_some())
    }

    /// Nobody waits for the answer to this question any more. Whether it was here.
    pub(super) fn cancel_question(&mut self, request: RequestId) -> bool {
        let before = self.questions();
        self.indexes.retain(|&(_, waiting), _| waiting != request);
        self.revisions.retain(|&(_, waiting), _| waiting != request);
        self.questions() < before
    }

    /// A question that can be answered now.
    pub(super) fn answerable(
        &mut self,
        applied: Index,
        revision: Revision,
    ) -> Option<(RequestId, Query)> {
        if let Some(first) = self.indexes.first_entry()
            && first.key().0 <= applied
        {
            let ((_, request), query) = first.remove_entry();
            return Some((request, query));
        }
        if let Some(first) = self.revisions.first_entry()
            && first.key().0 <= revision
        {
            let ((_, request), query) = first.remove_entry();
            return Some((request, query));
        }
        None
    }

    /// Everything that still waits for an answer to a question.
    pub(super) fn drop_questions(&mut self) -> Vec<RequestId> {
        let indexes = core::mem::take(&mut self.indexes).into_keys();
        let revisions = core::mem::take(&mut self.revisions).into_keys();
        indexes
            .map(|(_, request)| request)
            .chain(revisions.map(|(_, request)| request))
            .collect()
    }

    pub(super) fn proposals(&self) -> usize {
        self.proposals.len()
    }

    pub(super) fn questions(&self) -> usize {
        self.indexes.len() + self.revisions.len()
    }

    fn take(&mut self, places: &[LogId]) -> Vec<Proposal> {
        let taken = places
            .iter()
            .filter_map(|place| self.proposals.remove(place));
        let taken: Vec<_> = taken.collect();
        for proposal in &taken {
            self.places.remove(&proposal.request);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Term;
    use crate::store::{Delete, Operation, Path, Scope};

    fn at(index: u64, term: u64) -> LogId {
        LogId {
            term: Term(term),
            index: Index(index),
        }
    }

    /// Requests 1, 2, … at these places.
    fn requests(places: &[LogId]) -> Requests {
        let mut requests = Requests::default();
        let command = Arc::new(Command {
            client: None,
            operation: Operation::Delete(Delete {
                path: Path::root().child(b"a"),
                scope: Scope::Key,
            }),
        });
        for (place, number) in places.iter().zip(1..) {
            requests.proposed(*place, RequestId(number), command.clone());
        }
        requests
    }

    fn numbers(proposals: Vec<Proposal>) -> Vec<u64> {
        proposals
            .iter()
            .map(|proposal| proposal.request.0)
            .collect()
    }

    #[test]
    fn what_a_later_term_overtook_is_gone() {
        let places = [at(5, 2), at(6, 2), at(6, 4), at(9, 4)];
        let mut waiting = requests(&places);
        assert_eq!(numbers(waiting.superseded(at(4, 2))), [] as [u64; 0]);
        assert_eq!(
            waiting.committed(at(5, 2)).map(|p| p.request),
            Some(RequestId(1))
        );
        assert_eq!(numbers(waiting.superseded(at(5, 2))), [] as [u64; 0]);
        assert_eq!(numbers(waiting.superseded(at(6, 3))), [2, 3]);
        assert_eq!(numbers(waiting.superseded(at(7, 5))), [4]);
        assert_eq!(waiting.proposals(), 0);
    }

    #[test]
    fn a_snapshot_hides_what_it_contains() {
        let mut waiting = requests(&[at(5, 2), at(6, 2), at(7, 2)]);
        assert_eq!(numbers(waiting.hidden(Index(6))), [1, 2]);
        assert!(waiting.cancel_proposal(RequestId(3)));
        assert!(!waiting.cancel_proposal(RequestId(3)));
    }
}
