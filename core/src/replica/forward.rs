//! Writes that another member has to put into the log: this one does not lead.
//!
//! A write that is passed on carries a request id, so it may be passed on again whenever its fate
//! is in doubt: to the next leader, or to the same one after a while. It is answered when this
//! member applies the first entry with that id, whoever put it into the log (DESIGN.md §4, §5).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::config::Config;
use crate::ids::{NodeId, RequestId, Term};
use crate::raft::Forwarded;
use crate::store::{ClientRequest, Command, RequestKey};
use crate::time::{Duration, Instant};

/// So often the pause between two attempts doubles. Seldom: a client waits for a few election
/// timeouts, and what was lost on the way is to be tried again within them.
const DOUBLINGS_MAX: u32 = 1;

/// The writes of this member's clients that it does not lead.
///
/// Invariants: `open`, `due` and `awaited` hold the same requests; `bytes` is their weight; `own`
/// holds the sequences of those that this member named itself.
#[derive(Clone, Debug)]
pub(super) struct Forwards {
    /// Names this process to the store: no other process has the same.
    client: u64,
    sequence: u64,
    own: BTreeSet<u64>,
    open: BTreeMap<RequestId, Open>,
    /// When each is to be passed on, or again.
    due: BTreeSet<(Instant, RequestId)>,
    /// Who waits for which id. A client may have repeated a request at this same member.
    awaited: BTreeMap<RequestKey, BTreeSet<RequestId>>,
    bytes: usize,
    /// Whom they were passed on to.
    leader: Option<(Term, NodeId)>,
    /// The least time before one is passed on again to the same leader.
    patience: Duration,
}

#[derive(Clone, Debug)]
struct Open {
    command: Arc<Command>,
    key: RequestKey,
    due: Instant,
    attempts: u32,
    fate: Fate,
}

/// What may have become of a write that has no answer yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is in no log, or where it can never be committed.
    NotDone,
    /// It may be in the log.
    Unknown,
}

impl Forwards {
    /// None yet. `client` is drawn at random.
    pub(super) fn new(config: &Config, client: u64) -> Self {
        Self {
            client,
            sequence: 0,
            own: BTreeSet::new(),
            open: BTreeMap::new(),
            due: BTreeSet::new(),
            awaited: BTreeMap::new(),
            bytes: 0,
            leader: None,
            patience: config.election_timeout,
        }
    }

    /// Takes in a write of this fate so far. One without an id gets one of this process, and has
    /// not been done.
    pub(super) fn add(&mut self, request: RequestId, command: Arc<Command>, fate: Fate) {
        assert!(
            fate == Fate::NotDone || command.client.is_some(),
            "request {request} could be applied twice"
        );
        let command = self.named(command);
        let id = command.client.as_ref().expect("just named");
        let key = RequestKey::of(id);
        self.bytes += command.weight();
        self.awaited.entry(key.clone()).or_default().insert(request);
        let due = Instant::default();
        self.due.insert((due, request));
        let open = Open {
            command,
            key,
            due,
            attempts: 0,
            fate,
        };
        let before = self.open.insert(request, open);
        assert!(before.is_none(), "request {request} came twice");
    }

    /// The next batch to pass on to the leader, oldest first: at most `bytes_max`, and one in any
    /// case.
    pub(super) fn next(
        &mut self,
        now: Instant,
        leader: (Term, NodeId),
        bytes_max: usize,
        count_max: usize,
    ) -> Vec<Forwarded> {
        if self.leader != Some(leader) {
            self.leader = Some(leader);
            self.hurry();
        }
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(&(due, request)) = self.due.first()
            && due <= now
            && batch.len() < count_max
        {
            let open = &self.open[&request];
            bytes += open.command.weight();
            if bytes > bytes_max && !batch.is_empty() {
                break;
            }
            batch.push(Forwarded {
                ticket: request.0,
                command: open.command.clone(),
            });
            let doublings = open.attempts.min(DOUBLINGS_MAX);
            self.schedule(request, now + self.patience * (1 << doublings));
            let open = self.open.get_mut(&request).expect("it is due");
            open.attempts += 1;
            open.fate = Fate::Unknown;
        }
        batch
    }

    /// The leader would not take it: to be passed on again at `due`.
    pub(super) fn refused(&mut self, request: RequestId, due: Instant) {
        if self.open.contains_key(&request) {
            self.schedule(request, due);
        }
    }

    /// The leader may never have got what was passed on to it: all of it again.
    pub(super) fn hurry(&mut self) {
        let requests: Vec<_> = self.due.iter().map(|&(_, request)| request).collect();
        for request in requests {
            self.schedule(request, Instant::default());
        }
    }

    /// An entry with this id was applied: who waited for that.
    pub(super) fn applied(&mut self, id: &ClientRequest) -> BTreeSet<RequestId> {
        if self.awaited.is_empty() {
            return BTreeSet::new();
        }
        let requests = self.awaited.remove(&RequestKey::of(id)).unwrap_or_default();
        for request in &requests {
            self.forget(*request);
        }
        requests
    }

    /// Whether this process gave a request that id.
    pub(super) fn is_own(&self, id: &ClientRequest) -> bool {
        matches!(id, ClientRequest::Numbered { client, .. } if *client == self.client)
    }

    /// Nobody waits for it any more; `None` where it is not here.
    pub(super) fn cancel(&mut self, request: RequestId) -> Option<Fate> {
        let open = self.forget(request)?;
        if let Some(requests) = self.awaited.get_mut(&open.key) {
            requests.remove(&request);
            if requests.is_empty() {
                self.awaited.remove(&open.key);
            }
        }
        Some(open.fate)
    }

    /// All of them, oldest first.
    pub(super) fn requests(&self) -> Vec<RequestId> {
        self.open.keys().copied().collect()
    }

    /// When the next one is to be passed on.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|&(due, _)| due)
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// What they weigh, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The write with a request id.
    fn named(&mut self, command: Arc<Command>) -> Arc<Command> {
        if command.client.is_some() {
            return command;
        }
        self.sequence += 1;
        self.own.insert(self.sequence);
        // Everything below the oldest open one is answered: the store need not keep it.
        let oldest = self.own.first().expect("just inserted");
        Arc::new(Command {
            client: Some(ClientRequest::Numbered {
                client: self.client,
                sequence: self.sequence,
                acked: oldest - 1,
            }),
            operation: command.operation.clone(),
        })
    }

    fn schedule(&mut self, request: RequestId, due: Instant) {
        let open = self.open.get_mut(&request).expect("it is open");
        self.due.remove(&(open.due, request));
        open.due = due;
        self.due.insert((due, request));
    }

    fn forget(&mut self, request: RequestId) -> Option<Open> {
        let open = self.open.remove(&request)?;
        self.due.remove(&(open.due, request));
        self.bytes -= open.command.weight();
        if let Some(ClientRequest::Numbered {
            client, sequence, ..
        }) = open.command.client
            && client == self.client
        {
            self.own.remove(&sequence);
        }
        Some(open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Delete, Operation, Path, Scope};

    const LEADER: (Term, NodeId) = (Term(3), NodeId(2));

    fn command(id: Option<ClientRequest>) -> Arc<Command> {
        Arc::new(Command {
            client: id,
            operation: Operation::Delete(Delete {
                path: Path::root().child(b"a"),
                scope: Scope::Key,
            }),
        })
    }

    fn forwards(count: u64) -> Forwards {
        let mut forwards = Forwards::new(&Config::default(), 7);
        for request in 1..=count {
            forwards.add(RequestId(request), command(None), Fate::NotDone);
        }
        forwards
    }

    fn tickets(batch: &[Forwarded]) -> Vec<u64> {
        batch.iter().map(|request| request.ticket).collect()
    }

    fn numbered(sequence: u64) -> ClientRequest {
        ClientRequest::Numbered {
            client: 7,
            sequence,
            acked: 0,
        }
    }

    #[test]
    fn each_is_passed_on_once_and_again_to_the_next_leader() {
        let mut forwards = forwards(3);
        let now = Instant(5);
        assert_eq!(tickets(&forwards.next(now, LEADER, 1 << 20, 2)), [1, 2]);
        assert_eq!(tickets(&forwards.next(now, LEADER, 1 << 20, 2)), [3]);
        assert_eq!(tickets(&forwards.next(now, LEADER, 1 << 20, 2)), []);
        let next = (Term(4), NodeId(3));
        assert_eq!(
            tickets(&forwards.next(now, next, 0, 9)),
            [1],
            "one at least"
        );
        assert_eq!(tickets(&forwards.next(now, next, 1 << 20, 9)), [2, 3]);
    }

    #[test]
    fn patience_grows_with_each_attempt() {
        let mut forwards = forwards(1);
        let timeout = Config::default().election_timeout;
        let mut now = Instant(0);
        for doublings in [0, 1, 1, 1] {
            assert_eq!(forwards.next(now, LEADER, 0, 9).len(), 1);
            let due = now + timeout * (1 << doublings);
            assert_eq!(forwards.deadline(), Some(due));
            now = due;
        }
        forwards.refused(RequestId(1), now);
        assert_eq!(forwards.deadline(), Some(now));
    }

    #[test]
    fn an_answer_goes_to_all_who_asked_with_one_id() {
        let mut forwards = forwards(0);
        let id = ClientRequest::Opaque("x".into());
        forwards.add(RequestId(1), command(Some(id.clone())), Fate::NotDone);
        forwards.add(RequestId(2), command(Some(id.clone())), Fate::NotDone);
        assert_eq!(forwards.applied(&numbered(1)), [].into());
        assert_eq!(forwards.applied(&id), [RequestId(1), RequestId(2)].into());
        assert_eq!((forwards.len(), forwards.bytes()), (0, 0));
        assert_eq!(forwards.deadline(), None);
    }

    #[test]
    fn what_is_answered_is_acknowledged() {
        let mut forwards = forwards(3);
        forwards.applied(&numbered(2));
        forwards.add(RequestId(4), command(None), Fate::NotDone);
        forwards.applied(&numbered(1));
        forwards.add(RequestId(5), command(None), Fate::NotDone);
        let batch = forwards.next(Instant(0), LEADER, 1 << 20, 9);
        let acked: Vec<_> = batch
            .iter()
            .map(|request| match request.command.client {
                Some(ClientRequest::Numbered {
                    sequence, acked, ..
                }) => (sequence, acked),
                Some(ClientRequest::Opaque(_)) | None => panic!("not named"),
            })
            .collect();
        assert_eq!(acked, [(3, 0), (4, 0), (5, 2)]);
    }

    #[test]
    fn who_gives_up_learns_whether_it_may_be_done() {
        let mut forwards = forwards(2);
        let hidden = command(Some(ClientRequest::Opaque("x".into())));
        forwards.add(RequestId(3), hidden, Fate::Unknown);
        forwards.next(Instant(0), LEADER, 0, 1);
        assert_eq!(forwards.cancel(RequestId(1)), Some(Fate::Unknown));
        assert_eq!(forwards.cancel(RequestId(2)), Some(Fate::NotDone));
        assert_eq!(forwards.cancel(RequestId(2)), None);
        assert_eq!(forwards.cancel(RequestId(3)), Some(Fate::Unknown));
        assert_eq!(forwards.bytes(), 0);
    }
}
