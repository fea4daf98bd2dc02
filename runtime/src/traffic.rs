//! What one member counts of the appends between it and the others.

use std::collections::BTreeMap;

use quorate_core::raft::{Message, MessageBody};
use quorate_core::{Duration, Instant, NodeId};

/// Appends since the start, and what the followers of a leader made of them since it leads.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    /// Appends received.
    pub received: u64,
    /// Appends sent.
    pub sent: u64,
    /// Of a leader: its followers. Those that nothing was sent to are missing.
    pub followers: BTreeMap<NodeId, Follower>,
}

/// One follower, as its leader sees it.
#[derive(Clone, Debug, Default)]
pub struct Follower {
    /// Appends answered.
    pub answered: u64,
    /// How often it could not be reached.
    pub failed: u64,
    /// The time from the first append without an answer to that answer, in milliseconds.
    pub latency: Latency,
    asked: Option<Instant>,
}

/// Times, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latency {
    /// The last one.
    pub current: f64,
    /// The shortest.
    pub minimum: f64,
    /// The longest.
    pub maximum: f64,
    count: f64,
    sum: f64,
    squares: f64,
}

impl Traffic {
    /// A message leaves.
    pub(crate) fn on_send(&mut self, now: Instant, to: NodeId, message: &Message) {
        if matches!(message.body, MessageBody::Append { .. }) {
            self.sent += 1;
            let follower = self.followers.entry(to).or_default();
            follower.asked.get_or_insert(now);
        }
    }

    /// A message of a member came.
    pub(crate) fn on_receive(&mut self, now: Instant, from: NodeId, message: &Message) {
        if matches!(message.body, MessageBody::Append { .. }) {
            self.received += 1;
        }
        if matches!(message.body, MessageBody::AppendReply { .. })
            && let Some(follower) = self.followers.get_mut(&from)
        {
            follower.answered += 1;
            if let Some(asked) = follower.asked.take() {
                follower.latency.add(now.since(asked));
            }
        }
    }

    /// A member cannot be reached.
    pub(crate) fn on_unreachable(&mut self, peer: NodeId) {
        if let Some(follower) = self.followers.get_mut(&peer) {
            follower.failed += 1;
            follower.asked = None;
        }
    }

    /// Another one leads, or nobody.
    pub(crate) fn on_leader_change(&mut self) {
        self.followers.clear();
    }
}

impl Latency {
    /// The mean; 0 where there is none.
    #[must_use]
    pub fn average(&self) -> f64 {
        self.sum / self.count.max(1.0)
    }

    /// The standard deviation; 0 where there is none.
    #[must_use]
    pub fn deviation(&self) -> f64 {
        let variance = self.squares / self.count.max(1.0) - self.average().powi(2);
        variance.max(0.0).sqrt()
    }

    fn add(&mut self, took: Duration) {
        let millis = took.as_secs_f64() * 1000.0;
        let is_first = self.count == 0.0;
        self.current = millis;
        self.minimum = if is_first {
            millis
        } else {
            self.minimum.min(millis)
        };
        self.maximum = self.maximum.max(millis);
        self.count += 1.0;
        self.sum += millis;
        self.squares += millis * millis;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_summed_up() {
        let mut latency = Latency::default();
        assert_eq!((latency.average(), latency.deviation()), (0.0, 0.0));
        for millis in [2, 4, 6] {
            latency.add(Duration::from_millis(millis));
        }
        assert_eq!(latency.current, 6.0);
        assert_eq!((latency.minimum, latency.maximum), (2.0, 6.0));
        assert!((latency.average() - 4.0).abs() < 1e-9);
        assert!((latency.deviation() - (8.0_f64 / 3.0).sqrt()).abs() < 1e-9);
    }
}
