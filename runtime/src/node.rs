//! The handle through which the rest of the program talks to its member.

use std::sync::Arc;

use quorate_core::store::{Command, Filter, Header, Query, Response};
use quorate_core::{BirthRecord, Duration, NodeId, RequestError, Revision};
use tokio::sync::oneshot;

use crate::callers::Reply;
use crate::driver::{Mail, Shared};
use crate::inbox::Refused;
use crate::metrics::Metrics;
use crate::view::View;
use crate::watcher::{WatchEnd, Watcher};

/// A member, to be asked. Cheap to clone; outliving the member it only gets
/// [`RequestError::Stopping`].
#[derive(Clone, Debug)]
pub struct Node {
    shared: Arc<Shared>,
}

impl Node {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Asks for a change. Answered once it is on the disks of a majority and applied.
    ///
    /// Dropping the future takes nothing back: the change may still be made.
    ///
    /// # Errors
    /// See [`RequestError`]: `Store`, `Busy`, `NotLeader` and `Stopping` say that nothing was done;
    /// `Dropped` (leadership was lost, the time was over, or the member died) that nobody knows.
    pub async fn propose(&self, command: Command) -> Result<Response, RequestError> {
        let (reply, answer) = oneshot::channel();
        let reply = Reply::Plain(reply);
        self.offer(Mail::Propose { command, reply })?;
        answer.await.unwrap_or(Err(RequestError::Dropped))
    }

    /// Asks a question, of the freshness the query names.
    ///
    /// # Errors
    /// See [`RequestError`]; whatever it is, the question can be asked again.
    pub async fn read(&self, query: Query) -> Result<Response, RequestError> {
        let (reply, answer) = oneshot::channel();
        let reply = Reply::Plain(reply);
        self.offer(Mail::Read { query, reply })?;
        answer.await.unwrap_or(Err(RequestError::Dropped))
    }

    /// As [`Node::read`], with how long ago this member had last heard from its leader, or as the
    /// leader from a quorum, when it answered: so old may a local answer be. `None` where it has
    /// heard of no leader since it started.
    ///
    /// # Errors
    /// As [`Node::read`].
    pub async fn read_aged(
        &self,
        query: Query,
    ) -> Result<(Response, Option<Duration>), RequestError> {
        let (reply, answer) = oneshot::channel();
        let reply = Reply::Aged(reply);
        self.offer(Mail::Read { query, reply })?;
        answer.await.unwrap_or(Err(RequestError::Dropped))
    }

    /// Watches for events from the v2 index `since` on, or from now on. Returns as soon as the
    /// watch stands, with the store as it is then; events wait in the watcher up to
    /// [`Options::watch_credit`](crate::Options::watch_credit).
    ///
    /// # Errors
    /// [`WatchError::Ended`] where it cannot begin, such as below the history floor.
    pub async fn watch(
        &self,
        filter: Filter,
        since: Option<Revision>,
    ) -> Result<(Header, Watcher), WatchError> {
        self.watch_with_credit(filter, since, self.shared.watch_credit)
            .await
    }

    /// As [`Node::watch`], for a client that wants one event (a long poll): no second one is
    /// fetched for it.
    ///
    /// # Errors
    /// As [`Node::watch`].
    pub async fn watch_once(
        &self,
        filter: Filter,
        since: Option<Revision>,
    ) -> Result<(Header, Watcher), WatchError> {
        self.watch_with_credit(filter, since, 1).await
    }

    /// The member at this moment: what it is in Raft, counters of the store, published members.
    ///
    /// # Errors
    /// [`RequestError::Stopping`] once it stopped.
    pub async fn view(&self) -> Result<View, RequestError> {
        let (reply, answer) = oneshot::channel();
        // Not bounded by the inbox: it is what one wants to see when that is full.
        self.shared
            .inbox
            .send(Mail::View { reply })
            .map_err(refused)?;
        answer.await.map_err(|_| RequestError::Stopping)
    }

    /// Asks this leader to hand over to `to`.
    ///
    /// # Errors
    /// [`RequestError::Stopping`] once it stopped. Whether it comes to pass shows in
    /// [`Node::view`].
    pub fn transfer(&self, to: NodeId) -> Result<(), RequestError> {
        self.offer(Mail::Transfer { to })
    }

    /// This member's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.shared.id
    }

    /// The cluster's id.
    #[must_use]
    pub fn cluster_id(&self) -> u64 {
        self.shared.birth.cluster_id()
    }

    /// Who founded the cluster.
    #[must_use]
    pub fn birth(&self) -> &BirthRecord {
        &self.shared.birth
    }

    /// This member's metrics. What comes from core is as fresh as the last [`Node::view`].
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    async fn watch_with_credit(
        &self,
        filter: Filter,
        since: Option<Revision>,
        credit: u32,
    ) -> Result<(Header, Watcher), WatchError> {
        let (started, answer) = oneshot::channel();
        let mail = Mail::Watch {
            filter,
            since,
            credit,
            started,
        };
        self.offer(mail).map_err(WatchError::Refused)?;
        match answer.await {
            Ok(Ok(standing)) => Ok(standing),
            Ok(Err(end)) => Err(WatchError::Ended(end)),
            Err(_) => Err(WatchError::Refused(RequestError::Stopping)),
        }
    }

    fn offer(&self, mail: Mail) -> Result<(), RequestError> {
        self.shared.inbox.offer(mail).map_err(|why| {
            if why == Refused::Full {
                self.shared.metrics.raft.busy.inc();
            }
            refused(why)
        })
    }
}

/// Why there is no watch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// The member does not take it now.
    #[error(transparent)]
    Refused(RequestError),
    /// It ended before it began.
    #[error("the watch could not begin: {:?}", .0.reason)]
    Ended(WatchEnd),
}

fn refused(why: Refused) -> RequestError {
    match why {
        Refused::Full => RequestError::Busy,
        Refused::Closed => RequestError::Stopping,
    }
}
