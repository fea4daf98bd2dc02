//! The search: breadth first, so that what it finds is found on a shortest way.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use quorate_core::codec::encode_message;
use quorate_core::raft::{Message, MessageBody};
use quorate_core::{HardState, LogId};

use super::cluster::Cluster;
use super::fingerprint::fingerprint;
use super::interned::Interned;
use super::member::{Happening, Member, NOW, Outcome};
use super::state::{Event, State, What};
use super::{Budget, Failure, MEMBERS, Report};
use crate::check::durability::Image;
use crate::check::{Checks, Violation};
use crate::run::text_of;

/// Clocks of members go on by leaps, and true time stands still.
const GRAIN: Duration = Duration::from_secs(1 << 32);

/// Everything found so far. Most states consist of the same few members, messages and pasts, and
/// what happens to a member follows from it alone: so each step of a member is done once, and each
/// step of a member with a past is checked once.
pub(super) struct Search {
    cluster: Cluster,
    budget: Budget,
    members: Interned<u128, Member>,
    pasts: Interned<u128, Checks>,
    messages: Interned<(usize, usize, Vec<u8>), Letter>,
    /// Messages to one member, by name, sorted.
    inboxes: Interned<Rc<[u32]>, [u32]>,
    /// What comes of an event at a member; `None` where nothing does.
    steps: HashMap<(u32, Event), Option<Rc<Step>>>,
    /// Those of an inbox that make a difference to a member.
    heard: HashMap<(u32, u32), Rc<[u32]>>,
    /// What of an inbox a member may be done with.
    digested: HashMap<(u32, u32), Rc<Digested>>,
    /// The past after an event at a member with a past.
    checked: HashMap<(u32, u32, Event), u32>,
    states: Vec<State>,
    /// From where each state was reached first, and how.
    ways: Vec<(u32, u8, Event)>,
    seen: HashSet<State>,
    transitions: u64,
    /// Operations that were answered somewhere, one bit for each.
    answered: u64,
    /// The latest entry that was committed somewhere.
    committed: LogId,
}

/// A message on its way.
struct Letter {
    from: usize,
    message: Message,
}

/// What comes of an event at a member.
struct Step {
    /// What it is then.
    member: u32,
    /// What it says: to whom, and which message.
    sent: Vec<(usize, u32)>,
    /// Whether anything was written.
    wrote: bool,
}

/// What of an inbox a member may be done with.
#[derive(Default)]
struct Digested {
    /// Answers that change nothing.
    done: Vec<u32>,
    /// Questions that it only answers, and with what.
    answered: Vec<(u32, Rc<Step>)>,
}

impl Search {
    pub(super) fn new(budget: Budget) -> Self {
        let mut search = Self {
            cluster: Cluster::new(&budget),
            budget,
            members: Interned::new(),
            pasts: Interned::new(),
            messages: Interned::new(),
            inboxes: Interned::new(),
            steps: HashMap::new(),
            heard: HashMap::new(),
            digested: HashMap::new(),
            checked: HashMap::new(),
            states: Vec::new(),
            ways: Vec::new(),
            seen: HashSet::new(),
            transitions: 0,
            answered: 0,
            committed: LogId::ZERO,
        };
        let members = std::array::from_fn(|seat| {
            let member = Member::new(&search.cluster, seat);
            search
                .members
                .name(fingerprint(&member), || Rc::new(member))
        });
        let mut checks = search.checks(true);
        for seat in 0..MEMBERS {
            let (state, zero) = (HardState::default(), LogId::ZERO);
            let started = checks.restarted(NOW, seat, state, zero, &[], zero, None);
            started.expect("an empty disk is one to start from");
        }
        let past = search.keep_past(checks);
        let inbox = search.keep_inbox(Vec::new());
        let first = State::new(members, inbox, past, &search.budget);
        let (what, slow) = (What::Written, false);
        search.reached(first, (0, 0, Event { what, slow }));
        search
    }

    pub(super) fn run(mut self) -> Report {
        let (mut next, mut depth, mut level) = (0, 0, 1);
        let mut failure = None;
        while next < self.states.len() && self.states.len() < self.budget.states {
            if next == level {
                (depth, level) = (depth + 1, self.states.len());
            }
            if let Err((seat, event, violation)) = self.expand(next) {
                failure = Some(self.explain(next, seat, event, violation));
                break;
            }
            next += 1;
        }
        Report {
            states: self.states.len(),
            transitions: self.transitions,
            depth,
            members: self.members.len(),
            messages: self.messages.len(),
            pasts: self.pasts.len(),
            complete: next == self.states.len(),
            answered: self.answered.count_ones(),
            committed: self.committed,
            failure,
        }
    }

    /// Everything that can happen next.
    fn expand(&mut self, at: usize) -> Result<(), (usize, Event, Violation)> {
        let state = self.states[at];
        for seat in (0..MEMBERS).filter(|&seat| state.may_touch(seat)) {
            for what in self.happenings(&state, seat).into_iter().flatten() {
                self.goes(at, seat, what)?;
            }
            for &message in self.heard(&state, seat)?.iter() {
                self.goes(at, seat, What::Arrives(message))?;
            }
        }
        Ok(())
    }

    /// It happens, and what follows is durable at once, or not.
    fn goes(
        &mut self,
        at: usize,
        seat: usize,
        what: What,
    ) -> Result<(), (usize, Event, Violation)> {
        for slow in [false, true] {
            let event = Event { what, slow };
            let wrote = self.goes_on(at, seat, event);
            let wrote = wrote.map_err(|violation| (seat, event, violation))?;
            if !wrote || self.states[at].left.slow == 0 {
                break;
            }
        }
        Ok(())
    }

    /// What can happen at a member besides a message.
    fn happenings(&self, state: &State, seat: usize) -> [Option<What>; 6] {
        let member = self.members.get(state.members[seat]);
        let left = state.left;
        let asked = self.budget.operations.len() - left.operations;
        let may_ask = left.operations > 0 && member.knows_leader();
        let may_crash = left.crashes > 0 && state.is_touched(seat);
        let is_writing = member.is_writing();
        let may = |may: bool, what| may.then_some(what);
        [
            may(is_writing, What::Written),
            may(left.elections > 0, What::TimesOut),
            may(left.lapses > 0 && member.is_sticky(), What::Lapses),
            may(may_ask, What::Asked(asked)),
            may(may_crash, What::Crashes { kept: false }),
            may(may_crash && is_writing, What::Crashes { kept: true }),
        ]
    }

    /// The messages to a member that make a difference to it. One that makes none now is left for
    /// later: a network that lost it has not more to offer than one that still has it.
    fn heard(
        &mut self,
        state: &State,
        seat: usize,
    ) -> Result<Rc<[u32]>, (usize, Event, Violation)> {
        let key = (state.members[seat], state.inboxes[seat]);
        if let Some(heard) = self.heard.get(&key) {
            return Ok(heard.clone());
        }
        let inbox = self.inboxes.get(state.inboxes[seat]).clone();
        let mut heard = Vec::new();
        for &message in inbox.iter() {
            let (what, slow) = (What::Arrives(message), false);
            let event = Event { what, slow };
            let step = self.step(seat, state.members[seat], event);
            if step
                .map_err(|violation| (seat, event, violation))?
                .is_some()
            {
                heard.push(message);
            }
        }
        let heard: Rc<[u32]> = heard.into();
        self.heard.insert(key, heard.clone());
        Ok(heard)
    }

    /// An event at a member of a state: the state after it. Whether anything was written.
    fn goes_on(&mut self, at: usize, seat: usize, event: Event) -> Result<bool, Violation> {
        let state = self.states[at];
        let Some(step) = self.step(seat, state.members[seat], event)? else {
            return Ok(false);
        };
        self.transitions += 1;
        let mut next = state;
        next.past = self.checked(&state, seat, event)?;
        next.members[seat] = step.member;
        next.spend(seat, event);
        next.inboxes[seat] = self.inbox_after(&state, seat, event, step.member);
        for &(to, message) in &step.sent {
            let inbox = self.inboxes.get(next.inboxes[to]);
            if let Err(place) = inbox.binary_search(&message)
                && !self.is_lost(message, next.members[to])
            {
                let mut inbox = inbox.to_vec();
                inbox.insert(place, message);
                next.inboxes[to] = self.keep_inbox(inbox);
            }
        }
        if !self.budget.late {
            for seat in 0..MEMBERS {
                self.digest(&mut next, seat);
            }
        }
        let from = u32::try_from(at).expect("it has a name");
        let seat = u8::try_from(seat).expect("there are few members");
        self.reached(next, (from, seat, event));
        Ok(step.wrote)
    }

    /// What is still on its way to a member after an event that made `member` of it.
    fn inbox_after(&mut self, state: &State, seat: usize, event: Event, member: u32) -> u32 {
        let arrived = match event.what {
            What::Arrives(message) => Some(message).filter(|&message| {
                let body = &self.messages.get(message).message.body;
                matches!(body, MessageBody::Propose { .. })
            }),
            What::TimesOut
            | What::Lapses
            | What::Written
            | What::Asked(_)
            | What::Crashes { .. } => None,
        };
        let inbox = self.inboxes.get(state.inboxes[seat]).iter().copied();
        let left =
            inbox.filter(|&message| Some(message) != arrived && !self.is_lost(message, member));
        let left = left.collect();
        self.keep_inbox(left)
    }

    /// Whether a message is no longer heard by what a member is now.
    fn is_lost(&self, message: u32, member: u32) -> bool {
        let message = &self.messages.get(message).message;
        let (held, _) = self.members.get(member).durable();
        let is_over = match message.body {
            // Their term is the one that would be.
            MessageBody::PreVote { .. } | MessageBody::PreVoteReply { granted: true } => {
                message.term <= held.term
            }
            MessageBody::PreVoteReply { granted: false }
            | MessageBody::Vote { .. }
            | MessageBody::VoteReply { .. }
            | MessageBody::Append { .. }
            | MessageBody::AppendReply { .. }
            | MessageBody::TimeoutNow
            | MessageBody::Propose { .. }
            | MessageBody::ProposeRefused { .. }
            | MessageBody::ReadIndex { .. }
            | MessageBody::ReadIndexReply { .. } => message.term < held.term,
        };
        is_over && !self.budget.late
    }

    /// Takes away the messages to a member whose arrival would change nothing: neither at the
    /// member nor, by what it answers, elsewhere.
    fn digest(&mut self, state: &mut State, seat: usize) {
        let digested = self.digested(state.members[seat], state.inboxes[seat], seat);
        let mut done = digested.done.clone();
        for (message, step) in &digested.answered {
            let is_known = step.sent.iter().all(|&(to, answer)| {
                let inbox = self.inboxes.get(state.inboxes[to]);
                inbox.binary_search(&answer).is_ok()
                    || self.is_lost(answer, state.members[to])
                    || self.changes_nothing(to, state.members[to], answer)
            });
            if is_known {
                done.push(*message);
            }
        }
        if !done.is_empty() {
            let inbox = self.inboxes.get(state.inboxes[seat]).iter().copied();
            let left = inbox.filter(|message| !done.contains(message)).collect();
            state.inboxes[seat] = self.keep_inbox(left);
        }
    }

    /// What a member may be done with. What fails on arrival stays, to be found when it arrives.
    fn digested(&mut self, member: u32, inbox: u32, seat: usize) -> Rc<Digested> {
        if let Some(digested) = self.digested.get(&(member, inbox)) {
            return digested.clone();
        }
        let mut digested = Digested::default();
        for &message in self.inboxes.get(inbox).clone().iter() {
            let (what, slow) = (What::Arrives(message), false);
            let Ok(step) = self.step(seat, member, Event { what, slow }) else {
                continue;
            };
            match (&self.messages.get(message).message.body, step) {
                (MessageBody::VoteReply { .. } | MessageBody::AppendReply { .. }, None) => {
                    digested.done.push(message);
                }
                (
                    MessageBody::PreVote { .. }
                    | MessageBody::Vote { .. }
                    | MessageBody::Append { .. },
                    Some(step),
                ) if step.member == member && !step.sent.is_empty() => {
                    digested.answered.push((message, step));
                }
                // What is left may still be of use: a question that is not heard for now, an answer
                // to what may be asked again.
                (
                    MessageBody::PreVote { .. }
                    | MessageBody::PreVoteReply { .. }
                    | MessageBody::Vote { .. }
                    | MessageBody::VoteReply { .. }
                    | MessageBody::Append { .. }
                    | MessageBody::AppendReply { .. }
                    | MessageBody::TimeoutNow
                    | MessageBody::Propose { .. }
                    | MessageBody::ProposeRefused { .. }
                    | MessageBody::ReadIndex { .. }
                    | MessageBody::ReadIndexReply { .. },
                    _,
                ) => {}
            }
        }
        let digested = Rc::new(digested);
        self.digested.insert((member, inbox), digested.clone());
        digested
    }

    fn changes_nothing(&mut self, seat: usize, member: u32, message: u32) -> bool {
        let (what, slow) = (What::Arrives(message), false);
        matches!(self.step(seat, member, Event { what, slow }), Ok(None))
    }

    /// What comes of an event at a member, unchecked.
    fn step(
        &mut self,
        seat: usize,
        member: u32,
        event: Event,
    ) -> Result<Option<Rc<Step>>, Violation> {
        if let Some(step) = self.steps.get(&(member, event)) {
            return Ok(step.clone());
        }
        let mut after = Member::clone(self.members.get(member));
        let mut checks = self.checks(false);
        let mut outcome = Outcome {
            slow: event.slow,
            ..Outcome::default()
        };
        self.happens(&mut after, seat, event, &mut checks, &mut outcome)?;
        let after = self.members.name(fingerprint(&after), || Rc::new(after));
        let sent = outcome.sent.into_iter();
        let sent = sent.map(|(to, message)| (to, self.keep_message(seat, to, message)));
        let sent = sent.collect();
        let is_something = after != member || outcome.spoke;
        let step = is_something.then(|| {
            Rc::new(Step {
                member: after,
                sent,
                wrote: outcome.wrote,
            })
        });
        self.steps.insert((member, event), step.clone());
        Ok(step)
    }

    /// The same with a past: what the checks remember after it.
    fn checked(&mut self, state: &State, seat: usize, event: Event) -> Result<u32, Violation> {
        let key = (state.past, state.members[seat], event);
        if let Some(&past) = self.checked.get(&key) {
            return Ok(past);
        }
        let mut after = Member::clone(self.members.get(state.members[seat]));
        let mut checks = Checks::clone(self.pasts.get(state.past));
        let mut outcome = Outcome {
            slow: event.slow,
            ..Outcome::default()
        };
        self.happens(&mut after, seat, event, &mut checks, &mut outcome)?;
        // R11: the disks are part of the past, so they are looked at once for each.
        let images: Vec<Image> = (0..MEMBERS)
            .map(|other| {
                let member: &Member = self.members.get(state.members[other]);
                let (hard_state, entries) = if other == seat { &after } else { member }.durable();
                Image::recovered(hard_state, LogId::ZERO, LogId::ZERO, entries)
            })
            .collect();
        checks.forked(&images)?;
        self.answered |= outcome.answered;
        let committed = checks.ledger.iter().next_back().map(|entry| entry.id);
        self.committed = self.committed.max(committed.unwrap_or_default());
        let past = self.keep_past(checks);
        self.checked.insert(key, past);
        Ok(past)
    }

    /// A failed assertion of core is a finding like any other.
    fn happens(
        &self,
        member: &mut Member,
        seat: usize,
        event: Event,
        checks: &mut Checks,
        outcome: &mut Outcome,
    ) -> Result<(), Violation> {
        let letter;
        let happening = match event.what {
            What::Arrives(message) => {
                letter = self.messages.get(message).clone();
                Happening::Arrives {
                    from: letter.from,
                    message: &letter.message,
                }
            }
            What::TimesOut => Happening::TimesOut,
            What::Lapses => Happening::Lapses,
            What::Written => Happening::Written,
            What::Asked(operation) => Happening::Asked {
                operation: usize::from(operation),
            },
            What::Crashes { kept } => Happening::Crashes { kept },
        };
        if let Some(lines) = &mut outcome.lines {
            lines.push(format!("n{seat} {happening}"));
        }
        let turn = || member.happens(&self.cluster, seat, happening, checks, outcome);
        catch_unwind(AssertUnwindSafe(turn))
            .unwrap_or_else(|panic| Err(Violation::new("panic", &[seat], text_of(&*panic))))
    }

    fn reached(&mut self, state: State, way: (u32, u8, Event)) {
        if self.seen.insert(state) {
            self.states.push(state);
            self.ways.push(way);
        }
    }

    fn checks(&self, on: bool) -> Checks {
        let founders = self.cluster.birth.configuration();
        let mut checks = Checks::new(on, founders, GRAIN, self.cluster.config.clone());
        checks.count_nothing();
        checks
    }

    fn keep_past(&mut self, checks: Checks) -> u32 {
        self.pasts.name(fingerprint(&checks), || Rc::new(checks))
    }

    fn keep_inbox(&mut self, inbox: Vec<u32>) -> u32 {
        let inbox: Rc<[u32]> = inbox.into();
        self.inboxes.name(inbox.clone(), || inbox)
    }

    fn keep_message(&mut self, from: usize, to: usize, message: Message) -> u32 {
        let key = (from, to, encode_message(&message));
        self.messages
            .name(key, || Rc::new(Letter { from, message }))
    }

    /// The way to a state and to what failed after it, in words.
    fn explain(&self, at: usize, seat: usize, event: Event, violation: Violation) -> Failure {
        let mut way = vec![(seat, event)];
        let mut at = at;
        while at > 0 {
            let (before, seat, event) = self.ways[at];
            way.push((usize::from(seat), event));
            at = before as usize;
        }
        way.reverse();
        let first = self.states[0];
        let mut members = first
            .members
            .map(|name| Member::clone(self.members.get(name)));
        let mut checks = Checks::clone(self.pasts.get(first.past));
        let mut lines = Vec::new();
        for (number, &(seat, event)) in way.iter().enumerate() {
            let mut outcome = Outcome {
                slow: event.slow,
                lines: Some(Vec::new()),
                ..Outcome::default()
            };
            let member = &mut members[seat];
            // The last one fails again.
            let _ = self.happens(member, seat, event, &mut checks, &mut outcome);
            let mut told = outcome.lines.unwrap_or_default().into_iter();
            lines.extend(told.next().map(|line| format!("{:>3}. {line}", number + 1)));
            lines.extend(told.map(|line| format!("       {line}")));
        }
        Failure {
            violation,
            steps: way.len(),
            lines,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_forgets_is_found_out_on_the_shortest_way() {
        let mut search = Search::new(Budget {
            elections: 1,
            lapses: 0,
            crashes: 1,
            slow: 0,
            late: false,
            operations: "".parse().expect("none"),
            batch: 1,
            states: usize::MAX,
        });
        search.cluster.disks_forget = true;
        let failure = search.run().failure.expect("a vote is forgotten");
        assert_eq!(failure.violation.id, "R11", "{failure}");
        // It times out, one other would vote for it, it votes for itself; that is durable, and
        // gone.
        assert_eq!(failure.steps, 4, "{failure}");
    }
}
