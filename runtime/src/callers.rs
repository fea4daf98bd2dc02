//! Those who wait for an answer.

use std::collections::BTreeMap;
use std::ops::Bound;

use quorate_core::store::Response;
use quorate_core::{Duration, Instant, RequestError, RequestId};
use tokio::sync::oneshot;

/// Where the answer to a request goes.
#[derive(Debug)]
pub(crate) enum Reply {
    /// As it is.
    Plain(oneshot::Sender<Result<Response, RequestError>>),
    /// With what [`Raft::age`](quorate_core::raft::Raft::age) says when it is given.
    Aged(oneshot::Sender<Result<(Response, Option<Duration>), RequestError>>),
}

impl Reply {
    /// Gives the answer. The client may have gone away meanwhile.
    fn send(self, result: Result<Response, RequestError>, age: impl FnOnce() -> Option<Duration>) {
        match self {
            Self::Plain(reply) => {
                let _ = reply.send(result);
            }
            Self::Aged(reply) => {
                let _ = reply.send(result.map(|response| (response, age())));
            }
        }
    }
}

/// Requests without an answer yet, oldest first: ids rise with time, and all wait equally long, so
/// the first in line is always the next to run out of time. That costs no timer per request.
#[derive(Debug)]
pub(crate) struct Callers {
    waiting: BTreeMap<RequestId, Caller>,
    last: RequestId,
    /// All through this one were told of, if they still wait.
    timed_out: RequestId,
    patience: Duration,
}

#[derive(Debug)]
struct Caller {
    reply: Reply,
    until: Instant,
}

impl Callers {
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            waiting: BTreeMap::new(),
            last: RequestId::ZERO,
            timed_out: RequestId::ZERO,
            patience,
        }
    }

    /// Somebody waits from now on; the request gets a name.
    pub(crate) fn add(&mut self, now: Instant, reply: Reply) -> RequestId {
        self.last = self.last.next();
        let until = now + self.patience;
        self.waiting.insert(self.last, Caller { reply, until });
        self.last
    }

    /// Gives the answer, if it is still waited for.
    pub(crate) fn answer(
        &mut self,
        request: RequestId,
        result: Result<Response, RequestError>,
        age: impl FnOnce() -> Option<Duration>,
    ) {
        if let Some(caller) = self.waiting.remove(&request) {
            caller.reply.send(result, age);
        }
    }

    /// Those who have waited too long since the last call. They still wait: for what core says when
    /// it hears of it.
    pub(crate) fn time_out(&mut self, now: Instant) -> Vec<RequestId> {
        let waiting = self.patient();
        let timed_out = waiting.take_while(|(_, caller)| caller.until <= now);
        let timed_out: Vec<_> = timed_out.map(|(&request, _)| request).collect();
        if let Some(&last) = timed_out.last() {
            self.timed_out = last;
        }
        timed_out
    }

    /// When the next one has waited too long.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.patient().next().map(|(_, caller)| caller.until)
    }

    /// Those who have not waited too long yet, oldest first.
    fn patient(&self) -> impl Iterator<Item = (&RequestId, &Caller)> {
        let after = (Bound::Excluded(self.timed_out), Bound::Unbounded);
        self.waiting.range(after)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn the_oldest_runs_out_of_time_first() {
        let mut callers = Callers::new(Duration::from_nanos(10));
        let (first, mut first_answer) = oneshot::channel();
        let (second, mut second_answer) = oneshot::channel();
        let first = callers.add(Instant(0), Reply::Plain(first));
        let second = callers.add(Instant(5), Reply::Plain(second));
        assert_eq!(callers.deadline(), Some(Instant(10)));
        assert_eq!(callers.time_out(Instant(10)), [first]);
        assert_eq!(callers.time_out(Instant(11)), [], "told once");
        assert_eq!(callers.deadline(), Some(Instant(15)));
        callers.answer(first, Err(RequestError::Dropped), || None);
        assert_eq!(first_answer.try_recv(), Ok(Err(RequestError::Dropped)));
        callers.answer(second, Err(RequestError::Busy), || None);
        assert_eq!(second_answer.try_recv(), Ok(Err(RequestError::Busy)));
        assert_eq!(callers.deadline(), None);
        // An answer that comes too late is nobody's.
        callers.answer(second, Err(RequestError::Busy), || None);
    }
}
