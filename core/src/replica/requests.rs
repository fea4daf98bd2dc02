//! Requests that wait for the log: each gets exactly one answer.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::ids::{Index, LogId, RequestId, Revision, Term};
use crate::store::Query;

/// Proposals by the entry they became, questions by what they wait for.
///
/// Invariant: a request is in one place only, and leaves it with its answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    proposals: BTreeMap<Index, (Term, RequestId)>,
    /// Waiting for a ReadIndex round.
    rounds: BTreeMap<RequestId, Query>,
    /// Waiting for an index to be applied.
    indexes: BTreeMap<(Index, RequestId), Query>,
    /// Waiting for the store's counter.
    revisions: BTreeMap<(Revision, RequestId), Query>,
}

impl Requests {
    pub(super) fn proposed(&mut self, at: LogId, request: RequestId) {
        let before = self.proposals.insert(at.index, (at.term, request));
        assert_eq!(before, None, "two proposals became entry {at}");
    }

    /// The proposal that became this entry, if it was made here.
    pub(super) fn committed(&mut self, at: LogId) -> Option<RequestId> {
        let (term, request) = self.proposals.remove(&at.index)?;
        // Lost leadership is told before anything that was committed after it: by then all are
        // gone.
        assert_eq!(term, at.term, "entry {at} took the place of a proposal");
        Some(request)
    }

    /// Leadership is lost: what becomes of these is not known here.
    pub(super) fn drop_proposals(&mut self) -> Vec<RequestId> {
        core::mem::take(&mut self.proposals)
            .into_values()
            .map(|(_, request)| request)
            .collect()
    }

    pub(super) fn wait_for_round(&mut self, request: RequestId, query: Query) {
        let before = self.rounds.insert(request, query);
        assert_eq!(before, None, "request {request} asked twice");
    }

    /// The round is over: what the leader had committed when it began is `index`.
    pub(super) fn round_done(&mut self, request: RequestId, index: Index) {
        if let Some(query) = self.rounds.remove(&request) {
            self.indexes.insert((index, request), query);
        }
    }

    /// The round failed; whether the request was still waiting for it.
    pub(super) fn round_lost(&mut self, request: RequestId) -> bool {
        self.rounds.remove(&request).is_some()
    }

    pub(super) fn wait_for_revision(&mut self, at: Revision, request: RequestId, query: Query) {
        self.revisions.insert((at, request), query);
    }

    /// Nobody waits for the answer to this question any more. Only one that waits for a revision
    /// could otherwise wait for ever; the others end with a round.
    pub(super) fn cancel(&mut self, request: RequestId) {
        self.revisions.retain(|&(_, waiting), _| waiting != request);
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
    pub(super) fn drop_reads(&mut self) -> Vec<RequestId> {
        let rounds = core::mem::take(&mut self.rounds).into_keys();
        let indexes = core::mem::take(&mut self.indexes)
            .into_keys()
            .map(|(_, request)| request);
        let revisions = core::mem::take(&mut self.revisions).into_keys();
        rounds
            .chain(indexes)
            .chain(revisions.map(|(_, request)| request))
            .collect()
    }

    pub(super) fn proposals(&self) -> usize {
        self.proposals.len()
    }

    pub(super) fn reads(&self) -> usize {
        self.rounds.len() + self.indexes.len() + self.revisions.len()
    }
}
