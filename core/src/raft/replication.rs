//! What is in the log, and what of it is committed (Raft §5.3, §5.4.2).

use alloc::vec::Vec;

use crate::ids::{Index, LogId, NodeId};
use crate::output::PeerFault;
use crate::raft::clock::Anchor;
use crate::raft::progress::{Due, Progress};
use crate::raft::quorum;
use crate::raft::role::{Answer, RoleState};
use crate::raft::timers::Timer;
use crate::raft::{AppendOutcome, Entry, Forwarded, MessageBody, Payload, Raft, RaftOutput};
use crate::time::Instant;

/// How a follower's log stands to an append.
enum Reconciled {
    /// It now holds every entry of it; whether any was new.
    Agrees { is_news: bool },
    /// It has no entry like the previous one, and may agree at `hint` at the highest.
    Conflicts { hint: LogId },
}

impl Raft {
    /// A leader of this term sends entries, or says that it leads.
    pub(super) fn on_append(
        &mut self,
        now: Instant,
        from: NodeId,
        previous: LogId,
        entries: &[Entry],
        committed: Index,
        round: u64,
    ) {
        if let Err(fault) = self.follow(now, from) {
            return self.fault(from, fault);
        }
        if self.closed {
            // It takes in nothing new: under load the log would never come to rest.
            return;
        }
        let reconciled = match self.reconcile(now, previous, entries) {
            Ok(reconciled) => reconciled,
            Err(what) => return self.fault(from, PeerFault::Malformed { what }),
        };
        let last = self.log.last().index;
        let RoleState::Follower(Some(following)) = &mut self.role else {
            unreachable!("follows {from}");
        };
        match reconciled {
            Reconciled::Conflicts { hint } => {
                let refused = previous.index;
                following.answer = Some(Answer::Conflict { refused, hint });
            }
            Reconciled::Agrees { is_news } => {
                let through = entries
                    .last()
                    .map_or(previous.index, |entry| entry.id.index);
                following.matched = following.matched.max(through);
                // What is new is acknowledged when it is on disk; a round cannot wait for that.
                if !is_news || round > following.round {
                    following.answer = Some(Answer::Matched);
                }
            }
        }
        following.round = following.round.max(round);
        assert!(
            following.matched <= last,
            "matched {} past {last}",
            following.matched
        );
        // Raft §5.3: what follows the last entry known to match may be another leader's leavings.
        let committed = committed.min(following.matched);
        self.commit_to(committed);
    }

    /// Raft §5.1: tells the leader of an older term about the current one, and nothing more.
    ///
    /// Without this a member whose term ran ahead would stay cut off: with pre-vote and stickiness
    /// nobody else ever learns its term.
    pub(super) fn refuse_old_leader(&mut self, from: NodeId) {
        // It may lead the current term by the time it hears this: so it names no place but one that
        // every leader's log has.
        let outcome = AppendOutcome::Conflict {
            refused: Index(1),
            hint: LogId::ZERO,
        };
        let term = self.hard_state.term;
        self.hold(from, term, MessageBody::AppendReply { outcome, round: 0 });
    }

    /// The acknowledgement that is due to the leader, as far as the disk is done.
    pub(super) fn poll_acknowledgement(&mut self) -> Option<(NodeId, MessageBody)> {
        // Also a heartbeat's answer speaks of the term, which must not be forgotten after it.
        if !self.durability.holds(self.hard_state) {
            return None;
        }
        let persisted = self.durability.persisted();
        let is_repairing = self.held.is_some();
        let RoleState::Follower(Some(following)) = &mut self.role else {
            return None;
        };
        let through = following.matched.min(persisted);
        let is_news = through > following.acknowledged;
        let outcome = match following.answer.take() {
            Some(Answer::Conflict { refused, hint }) => AppendOutcome::Conflict { refused, hint },
            None if !is_news => return None,
            Some(Answer::Matched) | None => {
                following.acknowledged = through;
                if is_repairing {
                    AppendOutcome::Repairing { through }
                } else {
                    AppendOutcome::Matched { through }
                }
            }
        };
        // One that may have forgotten a vote cannot vouch for a leader either (DESIGN.md §6).
        let round = if is_repairing { 0 } else { following.round };
        Some((
            following.leader,
            MessageBody::AppendReply { outcome, round },
        ))
    }

    /// A member answers an append of this term.
    pub(super) fn on_append_reply(
        &mut self,
        now: Instant,
        from: NodeId,
        outcome: AppendOutcome,
        round: u64,
    ) {
        let last = self.log.last().index;
        let RoleState::Leader(leadership) = &mut self.role else {
            return;
        };
        let named = match outcome {
            AppendOutcome::Matched { through } | AppendOutcome::Repairing { through } => through,
            AppendOutcome::Conflict { refused, .. } => refused,
        };
        if named > last || round > leadership.reads.round() {
            let what = "an answer to what was never sent";
            return self.fault(from, PeerFault::Malformed { what });
        }
        let Some(progress) = leadership.progress.get_mut(&from) else {
            return;
        };
        progress.on_heard(now, round);
        match outcome {
            AppendOutcome::Matched { through } => progress.on_matched(through),
            AppendOutcome::Repairing { through } => progress.on_repairing(through),
            AppendOutcome::Conflict { refused, hint } => {
                let agreement = self.log.agreement(hint).map(|id| id.index);
                if progress.on_conflict(refused, agreement) {
                    self.outputs
                        .push_back(RaftOutput::NeedsSnapshot { to: from });
                }
            }
        }
        self.maybe_commit(now);
        self.maybe_finish_round();
    }

    /// A member passes on what its clients ask for. What is not taken in it may pass on again.
    pub(super) fn on_propose(&mut self, now: Instant, from: NodeId, requests: Vec<Forwarded>) {
        let mut tickets = Vec::new();
        for Forwarded { ticket, command } in requests {
            if self.propose(now, Payload::Command(command)).is_err() {
                tickets.push(ticket);
            }
        }
        // If it cannot be said at once, the sender's patience says it.
        if !tickets.is_empty() && self.durability.holds(self.hard_state) {
            let term = self.hard_state.term;
            self.hold(from, term, MessageBody::ProposeRefused { tickets });
        }
    }

    /// The next message that a peer of this leader is due.
    pub(super) fn poll_append(&mut self) -> Option<(NodeId, MessageBody)> {
        let (last, start) = (self.log.last().index, self.log.start().index);
        let limits = self.batch_limits();
        let RoleState::Leader(leadership) = &mut self.role else {
            return None;
        };
        let round = leadership.reads.round();
        for (&to, progress) in &mut leadership.progress {
            if progress.next() <= start {
                progress.on_trimmed();
            }
            let Some(due) = progress.due(last, self.committed, round) else {
                continue;
            };
            let after = progress.previous(start);
            let previous = self.log.id_at(after).expect("at or after the log's start");
            let through = match due {
                Due::Entries => last,
                Due::Bare => after,
            };
            let entries = self.log.slice(after, through, limits);
            progress.on_sent(due, entries.len() as u64, self.committed, round);
            let committed = self.committed;
            return Some((
                to,
                MessageBody::Append {
                    previous,
                    entries,
                    committed,
                    round,
                },
            ));
        }
        None
    }

    /// Time to say who leads.
    pub(super) fn on_heartbeat_timer(&mut self, now: Instant) {
        let RoleState::Leader(leadership) = &mut self.role else {
            unreachable!("only a leader sends heartbeats");
        };
        for progress in leadership.progress.values_mut() {
            progress.on_heartbeat();
        }
        self.maybe_hand_over_stalled(now);
        self.timers
            .set(Timer::Heartbeat, now + self.config.heartbeat_interval);
        self.maybe_trim();
    }

    /// The entry a leader would append now. Its stamp never falls: it grows from that of the last
    /// entry (SIMULATION.md §6, TTL contract).
    pub(super) fn next_entry(&self, now: Instant, payload: Payload) -> Entry {
        let id = LogId {
            term: self.hard_state.term,
            index: self.log.last().index.next(),
        };
        Entry {
            id,
            stamp: self.anchor.estimate(now),
            payload,
        }
    }

    /// Appends an entry of its own to a leader's log.
    pub(super) fn lead_entry(&mut self, now: Instant, entry: Entry) {
        let RoleState::Leader(leadership) = &mut self.role else {
            unreachable!("only a leader appends by itself");
        };
        leadership.uncommitted_bytes += entry.weight();
        let is_change = matches!(entry.payload, Payload::Configuration(_));
        let index = entry.id.index;
        self.append(now, entry);
        if is_change {
            self.meet_members(now, index);
        }
    }

    /// Commits what a quorum has on disk (Raft §5.3, §5.4).
    pub(super) fn maybe_commit(&mut self, now: Instant) {
        let RoleState::Leader(leadership) = &self.role else {
            return;
        };
        let configuration = self.configurations.in_force();
        let through = quorum::reached(configuration, |node| {
            if node == self.id {
                // Its own disk is one of the quorum, and may be its last (thesis §10.2.1).
                return self.durability.persisted();
            }
            leadership
                .progress
                .get(&node)
                .map_or(Index::ZERO, Progress::counted)
        });
        // Raft §5.4.2: count replicas only for an entry of the current term; older ones commit with
        // it.
        if through > self.committed && self.log.term_at(through) == Some(self.hard_state.term) {
            self.commit_to(through);
        }
        // Raft §6: a leader that is not in the configuration leads until that is committed.
        let is_member = self.configurations.in_force().is_voter(self.id);
        if !is_member && self.configurations.changed() <= self.committed {
            self.become_follower(now, self.hard_state.term);
        }
    }

    /// Whether the leader has committed an entry of its own term, so that it knows all that is
    /// committed (Raft §8; thesis §6.4).
    pub(super) fn has_committed_in_term(&self) -> bool {
        self.log.term_at(self.committed) == Some(self.hard_state.term)
    }

    /// Makes the log hold what an append says, as far as it is honest.
    ///
    /// # Errors
    /// How the append contradicts what is known; nothing was changed.
    fn reconcile(
        &mut self,
        now: Instant,
        previous: LogId,
        entries: &[Entry],
    ) -> Result<Reconciled, &'static str> {
        let last = self.log.last().index;
        match self.log.term_at(previous.index) {
            Some(term) if term == previous.term => {}
            // Below the log's start all is committed, so every leader's log is the same there.
            None if previous.index < self.log.start().index => {}
            Some(_) if previous.index <= self.committed => {
                return Err("a previous entry that contradicts what is committed");
            }
            Some(_) | None => {
                let below = Index(previous.index.0 - 1).min(last);
                let limit = LogId {
                    term: previous.term,
                    index: below,
                };
                let hint = self
                    .log
                    .agreement(limit)
                    .ok_or("terms older than what is committed")?;
                return Ok(Reconciled::Conflicts { hint });
            }
        }
        let Some(new) = self.first_new(entries) else {
            return Ok(Reconciled::Agrees { is_news: false });
        };
        self.check_new(&new[0])?;
        // Raft §5.3: only a true conflict removes entries; a shorter or repeated append does not.
        if new[0].id.index <= last {
            self.truncate(now, new[0].id.index);
        }
        for entry in new {
            self.append(now, entry.clone());
        }
        Ok(Reconciled::Agrees { is_news: true })
    }

    /// The entries from the first one on that the log does not hold.
    fn first_new<'a>(&self, entries: &'a [Entry]) -> Option<&'a [Entry]> {
        let start = self.log.start().index;
        let known = entries.iter().take_while(|entry| {
            entry.id.index < start || self.log.term_at(entry.id.index) == Some(entry.id.term)
        });
        let new = &entries[known.count()..];
        (!new.is_empty()).then_some(new)
    }

    /// Whether the log may go on with `entry` in its place.
    fn check_new(&self, entry: &Entry) -> Result<(), &'static str> {
        let RoleState::Follower(Some(following)) = &self.role else {
            unreachable!("only a follower is sent entries");
        };
        if entry.id.index <= self.committed {
            return Err("an entry that contradicts what is committed");
        }
        // Leader Append-Only (Raft figure 3).
        if entry.id.index <= following.matched {
            return Err("an entry that contradicts what its leader sent before");
        }
        let before = Index(entry.id.index.0 - 1);
        if self.log.term_at(before) > Some(entry.id.term) {
            return Err("an entry of an older term than the one before it");
        }
        if self.log.stamp_at(before) > Some(entry.stamp) {
            return Err("an entry stamped before the one before it");
        }
        Ok(())
    }

    fn append(&mut self, now: Instant, entry: Entry) {
        self.configurations.append_entry(&entry);
        self.anchor = Anchor {
            stamp: entry.stamp,
            at: now,
        };
        self.log.append(entry);
    }

    fn truncate(&mut self, now: Instant, from: Index) {
        assert!(
            from > self.committed,
            "truncating at {from}, committed {}",
            self.committed
        );
        let RoleState::Follower(Some(following)) = &mut self.role else {
            panic!("only a follower cuts its log (Raft §5.3, Leader Append-Only)");
        };
        following.acknowledged = following.acknowledged.min(Index(from.0 - 1));
        self.log.truncate(from);
        self.configurations.truncate(from);
        self.durability.truncate(from);
        self.anchor = Anchor {
            stamp: self.log.last_stamp(),
            at: now,
        };
    }

    pub(super) fn commit_to(&mut self, through: Index) {
        assert!(
            through <= self.log.last().index,
            "committing {through}, which is not there"
        );
        if through <= self.committed {
            return;
        }
        if let RoleState::Leader(leadership) = &mut self.role {
            leadership.uncommitted_bytes -= self.log.weight(self.committed, through);
            assert!(
                through < self.log.last().index || leadership.uncommitted_bytes == 0,
                "lost count of what is not committed",
            );
        }
        self.committed = through;
    }

    /// Keeps a progress for each other member whose disk is known, and only for those.
    pub(super) fn meet_members(&mut self, now: Instant, next: Index) {
        let members: Vec<NodeId> = self
            .configurations
            .in_force()
            .members()
            .filter(|node| *node != self.id && self.disks.contains_key(node))
            .collect();
        let RoleState::Leader(leadership) = &mut self.role else {
            unreachable!("only a leader keeps progress");
        };
        leadership.progress.retain(|node, _| members.contains(node));
        for node in members {
            leadership
                .progress
                .entry(node)
                .or_insert_with(|| Progress::new(now, next));
        }
    }
}
