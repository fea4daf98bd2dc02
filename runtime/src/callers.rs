//! Those who wait for an answer.

use std::collections::BTreeMap;

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

    /// Tells those who waited too long that the outcome is unknown; says who they were.
    pub(crate) fn time_out(&mut self, now: Instant) -> Vec<RequestId> {
        let mut timed_out = Vec::new();
        while let Some(first) = self.waiting.first_entry()
            && first.get().until <= now
        {
            let (request, caller) = first.remove_entry();
            caller.reply.send(Err(RequestError::Dropped), || None);
            timed_out.push(request);
        }
        timed_out
    }

    /// When the next one has waited too long.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.waiting
            .first_key_value()
            .map(|(_, caller)| caller.until)
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
        assert_eq!(first_answer.try_recv(), Ok(Err(RequestError::Dropped)));
        assert_eq!(callers.deadline(), Some(Instant(15)));
        callers.answer(second, Err(RequestError::Busy), || None);
        assert_eq!(second_answer.try_recv(), Ok(Err(RequestError::Busy)));
        assert_eq!(callers.deadline(), None);
        // An answer that comes too late is nobody's.
        callers.answer(second, Err(RequestError::Busy), || None);
    }
}
