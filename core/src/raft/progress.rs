//! What a leader knows of one peer, and what to send it next.

use crate::ids::Index;
use crate::time::Instant;

/// One peer, as its leader sees it.
///
/// Invariants: `matched < next`, except while the peer is being repaired or needs a snapshot; a
/// batch in flight ends just before `next`.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    /// The peer's disk is known to agree through here.
    matched: Index,
    /// Where the next append begins.
    next: Index,
    state: State,
    /// The peer lost synced entries: what it has does not count until it is whole (DESIGN.md §6).
    repairing: bool,
    /// When it was last heard from, in this term.
    heard: Instant,
    /// The newest round it has answered (thesis §6.4).
    round: u64,
    /// What the last message to it told of rounds and of commits.
    told_round: u64,
    told_committed: Index,
    /// A heartbeat is due.
    ping: bool,
}

/// How the peer is sent to. One batch is in flight at a time: what arrives meanwhile is the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is not known where the logs agree: one message, then wait for its answer. If that is
    /// lost, a heartbeat asks again.
    Probe { sent: bool },
    /// They agree up to `next`.
    Replicate { in_flight: Option<InFlight> },
    /// It needs an entry that was trimmed. Asked at each heartbeat whether that still holds: it
    /// gets a snapshot once it has said so, for one that is down would be sent it in vain.
    Snapshot(Sending),
}

/// How a snapshot for the peer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// Nobody has been asked for one, or the last attempt failed: asked for when the peer next
    /// says that it lags.
    Due,
    /// It was asked for.
    Asked,
    /// It is on its way: it holds everything through here.
    Through(Index),
}

/// The batch `(previous, through]`, not yet acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct InFlight {
    previous: Index,
    through: Index,
}

/// What a message to the peer shall carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Entries from `next` on, as many as fit; possibly none.
    Entries,
    /// None: a heartbeat, a round or a newer commit.
    Bare,
}

impl Progress {
    /// A peer of a new leader, whose log probably equals the leader's up to `next`.
    pub(super) fn new(now: Instant, next: Index) -> Self {
        Self {
            matched: Index::ZERO,
            next,
            state: State::Probe { sent: false },
            repairing: false,
            heard: now,
            round: 0,
            told_round: 0,
            told_committed: Index::ZERO,
            ping: false,
        }
    }

    /// The peer answered.
    pub(super) fn on_heard(&mut self, now: Instant, round: u64) {
        self.heard = now;
        self.round = self.round.max(round);
    }

    /// The peer's disk agrees through `through`.
    pub(super) fn on_matched(&mut self, through: Index) {
        self.repairing = false;
        self.matched = self.matched.max(through);
        self.go_on(through);
    }

    /// The peer's disk agrees through `through`, but it has lost entries beyond: what it once
    /// acknowledged there is no longer true.
    pub(super) fn on_repairing(&mut self, through: Index) {
        self.repairing = true;
        self.matched = through;
        self.go_on(through);
    }

    /// The peer's log differs at `refused`, and agrees at `agreement` at the highest; `None` is
    /// before the log's start. Whether a snapshot is to be asked for.
    ///
    /// Only an answer to what is being asked counts: others are late. One about a place it had once
    /// acknowledged counts too, since a damaged disk forgets; believing it errs to the safe side.
    pub(super) fn on_conflict(&mut self, refused: Index, agreement: Option<Index>) -> bool {
        if !self.is_asked(refused) {
            return false;
        }
        let Some(agreement) = agreement else {
            return self.ask_for_snapshot();
        };
        assert!(
            agreement < refused,
            "no step back from {refused}: {agreement}"
        );
        self.matched = self.matched.min(agreement);
        self.next = agreement.next();
        self.state = State::Probe { sent: false };
        false
    }

    /// The transport gave up: what was in flight is probably lost. The next heartbeat asks.
    pub(super) fn on_unreachable(&mut self) {
        match self.state {
            State::Replicate { .. } => {
                self.next = self.matched.next();
                self.state = State::Probe { sent: true };
            }
            State::Probe { .. } | State::Snapshot(_) => {}
        }
    }

    /// A heartbeat is due.
    pub(super) fn on_heartbeat(&mut self) {
        self.ping = true;
    }

    /// The entry at `next` was trimmed.
    pub(super) fn on_trimmed(&mut self) {
        match self.state {
            State::Snapshot(_) => {}
            State::Probe { .. } | State::Replicate { .. } => {
                self.state = State::Snapshot(Sending::Due);
            }
        }
    }

    /// A snapshot through `last` is on its way.
    pub(super) fn on_snapshot_started(&mut self, last: Index) {
        if matches!(self.state, State::Snapshot(_)) {
            self.state = State::Snapshot(Sending::Through(last));
        }
    }

    /// The snapshot through `last` has arrived, or has not. `start` is the log's.
    pub(super) fn on_snapshot_sent(&mut self, last: Index, delivered: bool, start: Index) {
        if !matches!(self.state, State::Snapshot(_)) {
            return;
        }
        if delivered && last >= start {
            // Whether it took it shows when it is asked about the entry after it.
            self.next = last.next();
            self.state = State::Probe { sent: false };
        } else {
            self.state = State::Snapshot(Sending::Due);
        }
    }

    /// Through where the snapshot on its way to the peer goes.
    pub(super) fn sending(&self) -> Option<Index> {
        match self.state {
            State::Snapshot(Sending::Through(last)) => Some(last),
            State::Snapshot(Sending::Due | Sending::Asked)
            | State::Probe { .. }
            | State::Replicate { .. } => None,
        }
    }

    /// What to send now, if anything.
    pub(super) fn due(&self, last: Index, committed: Index, round: u64) -> Option<Due> {
        let asked = self.ping || self.told_round < round;
        match self.state {
            State::Probe { sent: false } => Some(Due::Entries),
            State::Replicate { in_flight: None } if self.next <= last => Some(Due::Entries),
            State::Replicate { in_flight: None } if self.told_committed < committed => {
                Some(Due::Bare)
            }
            State::Probe { sent: true } | State::Replicate { .. } | State::Snapshot(_) => {
                asked.then_some(Due::Bare)
            }
        }
    }

    /// Where the message to send begins: the entry before it. `start` is the log's.
    pub(super) fn previous(&mut self, start: Index) -> Index {
        if matches!(self.state, State::Snapshot(_)) {
            self.next = start.next();
        }
        assert!(
            self.next > start,
            "next {} is not after the log's start {start}",
            self.next
        );
        Index(self.next.0 - 1)
    }

    /// A message with `entries` entries from `next` on was sent.
    pub(super) fn on_sent(&mut self, due: Due, entries: u64, committed: Index, round: u64) {
        self.ping = false;
        self.told_round = round;
        self.told_committed = committed;
        match (&mut self.state, due) {
            (State::Probe { sent }, Due::Entries) => *sent = true,
            (State::Replicate { in_flight }, Due::Entries) => {
                assert!(
                    in_flight.is_none() && entries > 0,
                    "a second batch in flight"
                );
                let previous = Index(self.next.0 - 1);
                self.next = Index(self.next.0 + entries);
                let through = Index(self.next.0 - 1);
                *in_flight = Some(InFlight { previous, through });
            }
            (State::Snapshot(_), Due::Entries) => panic!("entries to a peer that needs a snapshot"),
            (State::Probe { .. } | State::Replicate { .. } | State::Snapshot(_), Due::Bare) => {
                assert_eq!(entries, 0, "a bare message with entries");
            }
        }
    }

    /// Through where the peer's disk counts towards a quorum.
    pub(super) fn counted(&self) -> Index {
        if self.repairing {
            Index::ZERO
        } else {
            self.matched
        }
    }

    /// The peer's disk is known to agree through here.
    pub(super) fn matched(&self) -> Index {
        self.matched
    }

    /// Where the next append begins.
    pub(super) fn next(&self) -> Index {
        self.next
    }

    /// When it was last heard from.
    pub(super) fn heard(&self) -> Instant {
        self.heard
    }

    /// The newest round it has answered.
    pub(super) fn round(&self) -> u64 {
        self.round
    }

    /// The logs agree through `through`: replicate from there on.
    fn go_on(&mut self, through: Index) {
        self.next = self.next.max(through.next());
        self.state = match self.state {
            State::Replicate {
                in_flight: Some(batch),
            } if batch.through > through => State::Replicate {
                in_flight: Some(batch),
            },
            State::Probe { .. } | State::Replicate { .. } | State::Snapshot(_) => {
                State::Replicate { in_flight: None }
            }
        };
    }

    /// Whether a snapshot is to be asked for: unless that was done already.
    fn ask_for_snapshot(&mut self) -> bool {
        match self.state {
            State::Snapshot(Sending::Asked | Sending::Through(_)) => false,
            State::Snapshot(Sending::Due) | State::Probe { .. } | State::Replicate { .. } => {
                self.state = State::Snapshot(Sending::Asked);
                true
            }
        }
    }

    /// Whether a message in flight may be asking about the entry at `refused`.
    fn is_asked(&self, refused: Index) -> bool {
        let bare = refused.next() == self.next;
        match self.state {
            State::Replicate {
                in_flight: Some(batch),
            } => bare || refused == batch.previous,
            State::Probe { .. } | State::Replicate { in_flight: None } | State::Snapshot(_) => bare,
        }
    }
}
