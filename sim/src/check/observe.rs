//! What is new on a node that stepped, and what follows from it for the whole world.

use std::collections::BTreeMap;

use quorate_core::raft::{Entry, Payload};
use quorate_core::store::{Action, Path, Store};
use quorate_core::{Index, Replica, Revision, Term};

use super::events::Events;
use super::log::Marks;
use super::state::{Kept, Origin, Shown, States};
use super::{Checks, Verdict, bounds, events, log, ttl};
use crate::clock::Time;
use crate::model::{Lease, Model};

/// So many entries pass between two comparisons of a whole store with the model.
const DEEP_EVERY: u64 = 64;

impl Checks {
    /// Looks at what is new on a node that stepped.
    ///
    /// # Errors
    /// R1, R3 to R9, R12, R14, R15, E1, E3 to E5, T1, T2, T5 to T7, T9, T10, L5, L8, B1, B2, B4.
    pub fn observe(&mut self, now: Time, seat: usize, replica: &Replica) -> Verdict {
        if !self.on {
            return Ok(());
        }
        let raft = replica.raft();
        let term = raft.hard_state().term;
        self.election.term(seat, term)?;
        let leads = raft.is_leader().then_some(term);
        let led = std::mem::replace(&mut self.seats[seat].leads, leads);
        let start = raft.log_start();
        let term_at = |index| {
            if index == start.index {
                return Some(start.term);
            }
            raft.entry(index).map(|entry| entry.id.term)
        };
        let entry = |index| raft.entry(index).expect("new entries are in memory");
        let still_leads = leads.is_some() && leads == led;
        if self.logs.is_replaced(seat, start) {
            self.logs.installs(seat, start, &self.ledger)?;
            let (shown, founders) = (raft.configuration(), &self.founders);
            log::in_force(seat, shown, founders, start, &self.ledger)?;
            self.streams.installs(seat);
            self.seats[seat].installed = true;
            self.seats[seat].kept = Kept::default();
        }
        self.logs
            .observe(now, seat, still_leads, start, raft.last(), term_at, entry)?;
        if let Some(term) = leads.filter(|_| !still_leads) {
            self.election.leads(seat, term)?;
            self.logs.elected(seat, term, &self.ledger)?;
        }
        self.bounded(seat, replica, leads.is_some() && !still_leads)?;
        let committed = raft.committed();
        let known = self.ledger.last();
        if committed > self.logs.committed(seat) {
            self.logs
                .commits(now, seat, term, committed, &mut self.ledger, entry)?;
        }
        if committed > known {
            self.extended(seat, leads, known)?;
        }
        let applied = replica.store().applied();
        let marks = (start.index, applied.index, committed, raft.last().index);
        if marks != self.seats[seat].marks {
            self.seats[seat].marks = marks;
            let marks = Marks {
                first: start.index.next(),
                checkpointed: replica.status().checkpointed.index,
                applied: applied.index,
                committed,
                last: raft.last().index,
            };
            self.logs.progress(seat, marks)?;
        }
        if applied.index != self.seats[seat].applied || self.seats[seat].loaded {
            self.compare(seat, replica)?;
        }
        Ok(())
    }

    /// What waits in a node, and how much of its log it keeps.
    fn bounded(&mut self, seat: usize, replica: &Replica, leads_anew: bool) -> Verdict {
        let (raft, queues) = (replica.raft(), replica.queues());
        let state = &mut self.seats[seat];
        if leads_anew {
            state.led_with = queues.uncommitted_bytes;
        }
        if queues != state.queues {
            state.queues = queues;
            let last = raft.entry(raft.last().index).map_or(0, Entry::weight);
            let peers = self.founders.voters.len() - 1;
            bounds::queues(seat, queues, (state.led_with, last), peers, &self.config)?;
        }
        let Some(needless) = state.needless.filter(|_| !raft.is_trimming()) else {
            return Ok(());
        };
        state.needless = None;
        let own = needless.min(raft.persisted_index()).next();
        let times = if state.sending.is_empty() { 1 } else { 2 };
        let most = self.config.log_bytes_max.saturating_mul(times);
        bounds::retained(seat, raft.log_start().index, own, raft.log_bytes(), most)
    }

    /// What follows from entries after `known` being committed, as `seat` was first to say.
    fn extended(&mut self, seat: usize, leads: Option<Term>, known: Index) -> Verdict {
        let last = self.ledger.last();
        let last_id = self.ledger.get(last).expect("just committed").id;
        self.durability.commits(seat, last_id, leads)?;
        for index in known.0 + 1..=last.0 {
            let before = self.ledger.get(Index(index - 1));
            let entry = self.ledger.get(Index(index)).expect("up to the last");
            if !self.drifts {
                ttl::stamps(before, entry, self.grain, &self.outages)?;
                if let Some(before) = before.filter(|before| before.id.term == entry.id.term)
                    && self.suspended <= before.stamped
                {
                    ttl::runs(before, entry, self.grain)?;
                }
            }
            let events = self.model.changes().len();
            let renews = matches!(entry.payload, Payload::Renew { .. });
            let renewed = renews.then(|| leases(&self.model));
            self.model.apply(entry.stamp, &entry.payload);
            if let (Some(leases_before), Some(last)) = (renewed, before) {
                let leases_now = leases(&self.model);
                ttl::renewed(last.stamp, &leases_before, &leases_now, self.window)?;
            }
            let done = self.model.is_done(entry.id.index);
            self.witness.commits(&entry.payload, done)?;
            for change in &self.model.changes()[events..] {
                if change.action == Action::Expire && !self.drifts {
                    let previous = change.previous.as_ref();
                    let lease = previous.and_then(|node| node.lease);
                    let lease = lease.expect("only what has a lease expires in the model");
                    let (grain, window) = (self.grain, self.window);
                    ttl::expired(&change.path, lease, &self.ledger, entry, grain, window)?;
                }
            }
        }
        Ok(())
    }

    fn compare(&mut self, seat: usize, replica: &Replica) -> Verdict {
        let store = replica.store();
        let shown = Shown::of(store);
        let mut loaded = std::mem::take(&mut self.seats[seat].loaded);
        let origin = if std::mem::take(&mut self.seats[seat].installed) {
            loaded = true;
            Origin::Snapshot
        } else if loaded {
            Origin::Disk
        } else {
            Origin::Log
        };
        self.seats[seat].applied = shown.applied.index;
        let before = std::mem::replace(&mut self.seats[seat].counter, shown.revision);
        if !loaded {
            self.happened(seat, before, store)?;
        }
        let root = Path::root();
        if origin == Origin::Disk
            && let Ok(tree) = store.get(&root, true)
            && let Ok(found) = self.model.get(shown.applied.index, &root, true)
        {
            ttl::kept(seat, &tree, &found)?;
        }
        let (configured, settings) = (self.model.configured(), self.model.settings());
        if shown.applied.index >= configured {
            let kept = store.answer_count();
            bounds::answers(seat, kept, configured, shown.applied.index, settings)?;
        }
        self.states.shows(seat, shown, origin, &self.model)?;
        if shown.applied.index.0 < self.seats[seat].deep + DEEP_EVERY && !loaded {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.seats[seat].deep, shown.applied.index.0);
        if shown.applied.index >= configured
            && let Some(by_count) = self.model.counted(shown.applied.index)
        {
            if before < configured.0 {
                // What other limits dropped since tells nothing of these.
                self.seats[seat].kept = Kept::default();
            }
            let kept = Kept::of(store);
            kept.is_due(seat, &self.seats[seat].kept, settings, by_count)?;
            self.seats[seat].kept = kept;
        }
        let tree = store.get(&root, true).ok();
        let at = shown.applied.index;
        States::knows(seat, at, store.members(), &self.model)?;
        States::holds(seat, at, tree.as_ref(), &root, &self.model)
    }

    /// The events that the entries just applied have made.
    fn happened(&mut self, seat: usize, before: Revision, store: &Store) -> Verdict {
        let (counter, applied) = (store.revision(), store.applied().index);
        // What is below the floor already was applied and dropped in one step.
        let first = before.next().max(store.oldest());
        for index in first.0..=counter.0 {
            let event = store.event(Revision(index));
            let (ledger, model) = (&self.ledger, &self.model);
            self.events.shows(seat, index, event, ledger, model)?;
            if let Some(event) = event
                && event.action == Action::Expire
                && event.node.is_directory()
            {
                let mut gone = model.gone_below(applied, &event.path);
                let left = gone.find(|path| store.get(path, false).is_ok());
                events::gone_with(seat, &event.path, left)?;
            }
        }
        Events::ends(seat, counter.0, store.event(counter.next()))
    }
}

fn leases(model: &Model) -> BTreeMap<Path, Lease> {
    let leased = model.leased();
    leased
        .map(|(path, _, lease)| (path.clone(), lease))
        .collect()
}
