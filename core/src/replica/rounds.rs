//! Questions that a leader must vouch for: ReadIndex rounds, seen by who asks (thesis §6.4).

use alloc::collections::BTreeMap;
use core::mem;

use crate::ids::{Index, NodeId, RequestId, Term};
use crate::store::Query;
use crate::time::{Duration, Instant};

/// The linearizable questions of this member's clients. All that wait are asked as one, and asked
/// again, under the same name, until a leader answers: it only has to lead after they came.
#[derive(Clone, Debug)]
pub(super) struct Rounds {
    waiting: BTreeMap<RequestId, Query>,
    asked: Option<Asked>,
    /// The name of the last one. Begins at random, so that no answer to an earlier process of this
    /// member is taken for one to this.
    nonce: u64,
    patience: Duration,
}

#[derive(Clone, Debug)]
struct Asked {
    nonce: u64,
    questions: BTreeMap<RequestId, Query>,
    /// Who was asked.
    told: Option<(Term, NodeId)>,
    /// When to ask again.
    due: Instant,
}

impl Rounds {
    /// None yet. `nonce` is drawn at random; a leader that says nothing is asked again after
    /// `patience`.
    pub(super) fn new(nonce: u64, patience: Duration) -> Self {
        Self {
            waiting: BTreeMap::new(),
            asked: None,
            nonce,
            patience,
        }
    }

    pub(super) fn add(&mut self, request: RequestId, query: Query) {
        let before = self.waiting.insert(request, query);
        assert_eq!(before, None, "request {request} asked twice");
    }

    /// What to ask this leader now, if anything.
    pub(super) fn next(&mut self, now: Instant, leader: (Term, NodeId)) -> Option<u64> {
        if self.asked.is_none() && !self.waiting.is_empty() {
            self.nonce = self.nonce.wrapping_add(1);
            self.asked = Some(Asked {
                nonce: self.nonce,
                questions: mem::take(&mut self.waiting),
                told: None,
                due: now,
            });
        }
        let asked = self.asked.as_mut()?;
        if asked.told == Some(leader) && asked.due > now {
            return None;
        }
        asked.told = Some(leader);
        asked.due = now + self.patience;
        Some(asked.nonce)
    }

    /// The leader would not hear of it now.
    pub(super) fn refused(&mut self, due: Instant) {
        if let Some(asked) = &mut self.asked {
            asked.due = due;
        }
    }

    /// Whoever was asked may never answer.
    pub(super) fn hurry(&mut self) {
        if let Some(asked) = &mut self.asked {
            asked.told = None;
        }
    }

    /// A leader has vouched for what was asked as `nonce`: these may be answered by a store that
    /// has applied through `index`.
    pub(super) fn done(
        &mut self,
        nonce: u64,
        index: Index,
    ) -> impl Iterator<Item = ((Index, RequestId), Query)> + use<> {
        let asked = self.asked.take_if(|asked| asked.nonce == nonce);
        let questions = asked.map(|asked| asked.questions).unwrap_or_default();
        questions
            .into_iter()
            .map(move |(request, query)| ((index, request), query))
    }

    /// Nobody waits for the answer any more. Whether it was here.
    pub(super) fn cancel(&mut self, request: RequestId) -> bool {
        let asked = self.asked.as_mut();
        let was_asked = asked.is_some_and(|asked| asked.questions.remove(&request).is_some());
        was_asked || self.waiting.remove(&request).is_some()
    }

    /// When to ask again, or at once where nobody was asked.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.asked {
            Some(Asked {
                told: Some(_), due, ..
            }) => Some(*due),
            Some(Asked { told: None, .. }) => Some(Instant::default()),
            None if self.waiting.is_empty() => None,
            None => Some(Instant::default()),
        }
    }

    /// All of them, which are then no longer here.
    pub(super) fn take(&mut self) -> impl Iterator<Item = RequestId> + use<> {
        let asked = self.asked.take().map(|asked| asked.questions);
        let asked = asked.unwrap_or_default().into_keys();
        asked.chain(mem::take(&mut self.waiting).into_keys())
    }

    pub(super) fn len(&self) -> usize {
        let asked = self.asked.as_ref();
        self.waiting.len() + asked.map_or(0, |asked| asked.questions.len())
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::store::{Consistency, Path};

    const LEADER: (Term, NodeId) = (Term(3), NodeId(2));
    const PATIENCE: Duration = Duration::from_nanos(10);

    fn query() -> Query {
        Query {
            path: Path::root(),
            recursive: false,
            consistency: Consistency::Linearizable,
        }
    }

    #[test]
    fn a_question_is_only_answered_by_what_was_asked_after_it() {
        let mut rounds = Rounds::new(u64::MAX, PATIENCE);
        rounds.add(RequestId(1), query());
        assert_eq!(rounds.next(Instant(0), LEADER), Some(0));
        rounds.add(RequestId(2), query());
        assert_eq!(rounds.next(Instant(1), LEADER), None, "one at a time");
        assert_eq!(rounds.done(u64::MAX, Index(7)).count(), 0, "another name");
        let done: Vec<_> = rounds.done(0, Index(7)).map(|(at, _)| at).collect();
        assert_eq!(done, [(Index(7), RequestId(1))]);
        assert_eq!(rounds.next(Instant(1), LEADER), Some(1));
        assert_eq!(rounds.done(0, Index(9)).count(), 0, "answered once");
        assert_eq!(rounds.len(), 1);
    }

    #[test]
    fn it_is_asked_again_after_a_while_and_of_the_next_leader() {
        let mut rounds = Rounds::new(4, PATIENCE);
        assert_eq!(rounds.deadline(), None);
        rounds.add(RequestId(1), query());
        assert_eq!(rounds.deadline(), Some(Instant(0)));
        assert_eq!(rounds.next(Instant(0), LEADER), Some(5));
        assert_eq!(rounds.deadline(), Some(Instant(10)));
        assert_eq!(rounds.next(Instant(10), LEADER), Some(5));
        let next = (Term(4), NodeId(2));
        assert_eq!(rounds.next(Instant(11), next), Some(5));
        rounds.hurry();
        assert_eq!(rounds.next(Instant(11), next), Some(5));
        assert!(rounds.cancel(RequestId(1)) && !rounds.cancel(RequestId(1)));
        assert_eq!(rounds.len(), 0);
    }
}
