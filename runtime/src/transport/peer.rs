//! One of the others: where it is dialed, and the connections it has with this member.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::{Notify, Semaphore};

use super::link::{CONTROL_BYTES, Link};
use super::options::Limits;
use crate::metrics::{PeerLabel, PeerMetrics};

/// A member as this one knows it, by name.
///
/// Once this member is born, only a connection with the founder's disk and key is the `member`'s.
/// Another disk under its name, that of a wiped member, is a stranger: it is heard and answered, so
/// that it learns what happened, and never stands in the founder's way.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) urls: Vec<String>,
    places: Mutex<Places>,
    /// A connection is gone: there may be something to dial. Only the dialing task waits here.
    pub(super) lost: Notify,
    /// Room, in bytes, for what waits for the driver.
    pub(super) waiting: Arc<Semaphore>,
    /// The same for forwarded messages, which must not hold up the others.
    pub(super) waiting_forwards: Arc<Semaphore>,
    /// The same for confirmations, which strangers may send.
    pub(super) waiting_controls: Arc<Semaphore>,
    pub(super) counts: Counts,
}

/// At most one connection of each kind.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) member: Option<Arc<Link>>,
    pub(super) stranger: Option<Arc<Link>>,
}

/// The metrics of one peer.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) sent: Counter,
    pub(super) sent_bytes: Counter,
    pub(super) received: Counter,
    pub(super) received_bytes: Counter,
    pub(super) dials_failed: Counter,
}

impl Peer {
    pub(super) fn new(
        name: String,
        urls: Vec<String>,
        limits: &Limits,
        metrics: &PeerMetrics,
    ) -> Self {
        let label = PeerLabel { peer: name.clone() };
        Self {
            urls,
            places: Mutex::new(Places::default()),
            lost: Notify::new(),
            waiting: Arc::new(Semaphore::new(limits.waiting_bytes)),
            waiting_forwards: Arc::new(Semaphore::new(limits.waiting_bytes)),
            waiting_controls: Arc::new(Semaphore::new(CONTROL_BYTES)),
            counts: Counts {
                sent: metrics.sent.get_or_create(&label).clone(),
                sent_bytes: metrics.sent_bytes.get_or_create(&label).clone(),
                received: metrics.received.get_or_create(&label).clone(),
                received_bytes: metrics.received_bytes.get_or_create(&label).clone(),
                dials_failed: metrics.dials_failed.get_or_create(&label).clone(),
            },
            name,
        }
    }

    /// The connection with the member, if there is one.
    pub(super) fn member(&self) -> Option<Arc<Link>> {
        self.places().member.clone()
    }

    pub(super) fn is_connected(&self) -> bool {
        let places = self.places();
        places.member.is_some() || places.stranger.is_some()
    }

    /// Returns once there is no connection.
    pub(super) async fn vacant(&self) {
        while self.is_connected() {
            self.lost.notified().await;
        }
    }

    /// A panic elsewhere leaves two places that are whole.
    pub(super) fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    pub(super) fn links(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.member.iter().chain(&self.stranger)
    }
}
