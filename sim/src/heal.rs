//! The end of a run: faults stop, and the cluster must get on (SIMULATION.md §7).

use std::time::Duration;

use quorate_core::raft::Raft;
use quorate_core::store::{
    Command, Consistency, Content, Operation, Path, Put, Query, Value, When,
};
use quorate_core::{Input, Revision, Term};

use crate::check::bounds::Quiet;
use crate::check::linearizability::Asked;
use crate::check::liveness::Leader;
use crate::check::ttl::Working;
use crate::check::{Verdict, liveness};
use crate::clock::Time;
use crate::event::Event;
use crate::fault::Fault;
use crate::node::Life;
use crate::rng::Purpose;
use crate::world::World;

/// So many questions are asked of a healed core: a write and a read at its leader, and a write and
/// two reads at others.
const PROBES: u64 = 5;

/// How far the healing has come.
#[derive(Clone, Debug)]
pub struct Heal {
    /// A majority that is without faults from now on.
    core: Vec<usize>,
    /// When chaos ended.
    begun: Time,
    stage: Stage,
    /// When the stage began.
    since: Time,
    /// How long the cluster could take, then, for what was left to do.
    backlog: Duration,
    /// The leader of the core, once there is one, and the cluster's clock then.
    leader: Option<(Term, usize)>,
    working: Option<Working>,
    /// Who ran outside of the core when it had its leader, and in which term.
    apart: Vec<(usize, u64, Term)>,
    /// The core's stores were seen to be equal.
    equal: bool,
    /// What had been said when nobody had anything left to ask.
    quiet: Option<Quiet>,
    /// So many probes were answered.
    probes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Waits for the core to run and to have a leader.
    Elect,
    /// Waits for a fresh write.
    Write,
    /// Looks at the core for a while.
    Settle,
    /// The leader and another do not reach each other, all others reach both.
    Bridge,
    /// The others are healed, too.
    Rest,
    /// The leader was asked to hand over to this one, in its term.
    HandOver(Leader),
}

impl Heal {
    /// Whether what was sent then was sent in chaos.
    pub(crate) fn is_late(&self, sent: Time) -> bool {
        sent < self.begun
    }

    /// Whether the leader was asked to hand over, and everybody is well.
    pub(crate) fn hands_over(&self) -> bool {
        matches!(self.stage, Stage::HandOver(_))
    }
}

impl World {
    /// Chaos ends.
    pub(crate) fn begin_heal(&mut self) {
        let members = self.nodes.len();
        let mut draw = self.seed.draw(Purpose::Heal, 0, 0);
        let mut seats: Vec<usize> = (0..members).collect();
        for place in (1..members).rev() {
            seats.swap(place, draw.place(place + 1));
        }
        let size = if draw.percent(50) {
            members
        } else {
            members / 2 + 1
        };
        // Of those that are whole there is a majority: damage spares one (SIMULATION.md §3, the
        // fault atlas).
        seats.sort_by_key(|&seat| self.nodes[seat].is_impaired());
        let outsiders = seats.split_off(size.min(seats.len()));
        seats.sort_unstable();
        let core = seats;
        self.fates.end();
        self.network.heal();
        for seat in 0..members {
            self.nodes[seat].disk.borrow_mut().set_full(false);
            self.nodes[seat].paused_until = Time(0);
            self.nodes[seat].clock.wake(self.now);
            let incarnation = self.nodes[seat].incarnation;
            if let Some(process) = self.nodes[seat].process_mut() {
                // P5, C5: what was to wake it waits for the end of a pause that is over.
                process.turn_pending = false;
                self.queue.push(self.now, Event::Turn { seat, incarnation });
            }
            self.nodes[seat].pace.heal();
            if self.nodes[seat]
                .process()
                .is_some_and(|process| process.stopping)
            {
                self.crash(seat, Some(Duration::from_millis(1)));
            }
            if let Some(process) = self.nodes[seat].process_mut() {
                process.fuse = None;
                process.log_fuse = false;
            }
            self.end_stalls(seat);
        }
        for seat in outsiders {
            // Dead, or cut off in one direction or both, for ever: where election livelocks live.
            match draw.below(4) {
                0 => self.crash(seat, None),
                1 => self.network.isolate(seat, false, false),
                2 => {
                    self.network.isolate(seat, true, false);
                    self.marking.goes_one_way();
                }
                _ => {
                    self.network.isolate(seat, false, true);
                    self.marking.goes_one_way();
                }
            }
        }
        for &seat in &core {
            self.queue.push(self.now, Event::Start { seat });
        }
        self.lose_patience();
        self.heal = Some(Heal {
            core,
            begun: self.now,
            stage: Stage::Elect,
            since: self.now,
            backlog: Duration::ZERO,
            leader: None,
            working: None,
            apart: Vec::new(),
            equal: false,
            quiet: None,
            probes: 0,
        });
        self.queue.push(self.now, Event::Tick);
    }

    /// D2: no stall outlasts the faults.
    fn end_stalls(&mut self, seat: usize) {
        let incarnation = self.nodes[seat].incarnation;
        let Some(process) = self.nodes[seat].process() else {
            return;
        };
        let log = process.writing.as_ref().map(|writing| Event::LogDone {
            seat,
            incarnation,
            job: writing.number,
        });
        let checkpoint = process.checkpoint.as_ref();
        let checkpoint = checkpoint.map(|_| Event::CheckpointDone { seat, incarnation });
        let switching = process.switching.as_ref();
        let switching = switching.map(|_| Event::Switched { seat, incarnation });
        let storing = process.storing.iter().map(|storing| Event::SnapshotStored {
            seat,
            incarnation,
            number: storing.number,
        });
        let ends = log.into_iter().chain(checkpoint).chain(switching);
        for event in ends.chain(storing) {
            self.queue.push(self.now, event);
        }
    }

    /// The fresh write, or an operation of the beginning, was answered.
    pub(crate) fn probe_answered(&mut self) {
        if let Some(heal) = &mut self.heal
            && heal.stage == Stage::Write
        {
            heal.probes += 1;
            heal.since = self.now;
        }
    }

    /// Looks at the progress.
    pub(crate) fn heal_tick(&mut self) -> Verdict {
        let Some(mut heal) = self.heal.take() else {
            return Ok(());
        };
        let unit = self.options.unit();
        let waited = self.now.since(heal.since);
        let verdict = match heal.stage {
            Stage::Elect => self.elect(&mut heal, waited),
            Stage::Write => self.fresh_write(&mut heal, waited),
            Stage::Settle => self.settle(&mut heal, waited),
            Stage::Bridge => self.bridge(&mut heal, waited),
            Stage::Rest => self.rest(&mut heal, waited),
            Stage::HandOver(asked) => self.hand_over(&heal, asked, waited),
        };
        self.heal = Some(heal);
        self.queue.push(self.now + unit / 4, Event::Tick);
        verdict
    }

    fn elect(&mut self, heal: &mut Heal, waited: Duration) -> Verdict {
        let unit = self.options.unit();
        let running = heal
            .core
            .iter()
            .all(|&seat| self.nodes[seat].process().is_some());
        // One that was cut off until now may be about to notice and step down.
        let settled = running && waited >= unit;
        let leader = self.leader_of(&heal.core).filter(|_| settled);
        liveness::elected(&heal.core, leader, waited, unit, || self.states(&heal.core))?;
        let Some(leader) = leader else {
            return Ok(());
        };
        heal.leader = Some(leader);
        heal.working = Some(Working {
            since: self.now,
            clock: self.checks.model.clock(),
            // 2 h + 2 E, the probe's first turn, and one commit; and what was answered late is held
            // back by as much.
            slack: unit * 3
                + self.options.config.election_timeout * 2
                + self.options.config.expiry_interval * 2
                + self.backlog(&heal.core),
        });
        heal.apart = self.apart(&heal.core);
        self.advance(heal, Stage::Write);
        self.probe(heal, leader.1);
        Ok(())
    }

    fn fresh_write(&mut self, heal: &mut Heal, waited: Duration) -> Verdict {
        if heal.probes == PROBES {
            self.advance(heal, Stage::Settle);
            return Ok(());
        }
        if self.clients[self.options.clients].pending.is_none()
            && let Some((_, leader)) = self.leader_of(&heal.core)
        {
            self.probe(heal, leader);
        }
        let unit = self.options.unit();
        liveness::served(&heal.core, waited, unit, heal.backlog, || {
            let probe = self.clients[self.options.clients].pending.as_ref();
            format!("{probe:?} is not answered: {}", self.states(&heal.core))
        })
    }

    /// Asks what is next: a write and a read at the leader, and the same at another member.
    fn probe(&mut self, heal: &Heal, leader: usize) {
        let others = heal.core.iter().copied().filter(|&seat| seat != leader);
        let other = others.cycle().nth(usize::from(heal.probes == 2));
        let seat = match heal.probes {
            0 | 1 => leader,
            _ => other.unwrap_or(leader),
        };
        let path = Path::root().child(b"_probe");
        let at_least = Revision::ZERO;
        let asked = match heal.probes {
            0 | 2 => {
                let value = format!("fresh {}", self.clients[self.options.clients].begun);
                let put = Put {
                    path,
                    content: Content::Value(Value::from(value.as_str())),
                    when: When::Always,
                    ttl: None,
                };
                let command = Command {
                    client: None,
                    operation: Operation::Put(put),
                };
                Asked::Write(command.into())
            }
            probe => Asked::Read(Query {
                path,
                recursive: false,
                consistency: match probe {
                    4 => Consistency::Local { at_least },
                    _ => Consistency::Linearizable,
                },
            }),
        };
        self.ask_apart(asked, seat);
    }

    fn settle(&mut self, heal: &mut Heal, waited: Duration) -> Verdict {
        let unit = self.options.unit();
        heal.equal |= self.equal(&heal.core);
        liveness::steady(&heal.core, heal.leader, self.leader_of(&heal.core))?;
        if waited >= unit * 10 + heal.backlog && heal.quiet.is_none() {
            heal.quiet = self.quiet_begins(&heal.core);
        }
        if waited < unit * 20 + heal.backlog {
            return Ok(());
        }
        liveness::still_led(&heal.core, self.leader_of(&heal.core))?;
        let states = || self.states(&heal.core);
        liveness::converged("V4", &heal.core, heal.equal, states)?;
        self.nothing_overdue(heal)?;
        let led = heal.leader.map_or(Term::default(), |(term, _)| term);
        liveness::stays_apart(&heal.apart, &self.apart(&heal.core), led)?;
        self.was_quiet(heal)?;
        if heal.core.len() == self.nodes.len() {
            return if self.parts(heal) {
                Ok(())
            } else {
                self.end(heal)
            };
        }
        self.rejoin(heal);
        Ok(())
    }

    /// N8: whether the leader and one of those that hold the same log shall not reach each other
    /// now. Whoever hears the leader must not help to depose it (thesis §4.2.3).
    fn parts(&mut self, heal: &mut Heal) -> bool {
        let mut draw = self.seed.draw(Purpose::Heal, 0, 1);
        let wanted = self.nodes.len() > 2 && draw.percent(30);
        let Some((_, leader)) = heal.leader.filter(|_| wanted) else {
            return false;
        };
        let seats = self.nodes.len();
        let other = (leader + 1 + draw.place(seats - 1)) % seats;
        self.network.part(leader, other);
        heal.core.retain(|&seat| seat != other);
        self.advance(heal, Stage::Bridge);
        true
    }

    fn bridge(&mut self, heal: &mut Heal, waited: Duration) -> Verdict {
        liveness::steady(&heal.core, heal.leader, self.leader_of(&heal.core))?;
        if waited >= self.options.unit() * 10 {
            liveness::still_led(&heal.core, self.leader_of(&heal.core))?;
            self.rejoin(heal);
        }
        Ok(())
    }

    /// Whoever is outside of the core is well from now on.
    fn rejoin(&mut self, heal: &mut Heal) {
        self.network.heal();
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        for &seat in &all {
            if matches!(self.nodes[seat].life, Life::Down) {
                self.queue.push(self.now, Event::Start { seat });
            }
        }
        heal.core = all;
        heal.equal = false;
        self.advance(heal, Stage::Rest);
    }

    fn rest(&mut self, heal: &mut Heal, waited: Duration) -> Verdict {
        heal.equal |= self.equal(&heal.core);
        if waited < self.options.unit() * 20 + heal.backlog {
            return Ok(());
        }
        let states = || self.states(&heal.core);
        liveness::converged("V9", &heal.core, heal.equal, states)?;
        for (seat, node) in self.nodes.iter().enumerate() {
            if let Some(process) = node.process() {
                let raft = process.replica.raft();
                liveness::repaired(seat, raft.repairing(), raft.last().index)?;
            }
        }
        self.end(heal)
    }

    /// V5, V6, and a last look at everything. Then, now and then, a transfer.
    fn end(&mut self, heal: &mut Heal) -> Verdict {
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        liveness::answered(self.still_waits(&all))?;
        if self.checks.are_on() {
            liveness::told(self.checks.streams.behind(&self.checks.model))?;
            for (seat, node) in self.nodes.iter().enumerate() {
                if let Some(process) = node.process() {
                    self.checks.holds_everything(seat, &process.replica)?;
                    self.look_at_files(seat)?;
                }
            }
        }
        self.nothing_overdue(heal)?;
        let mut draw = self.seed.draw(Purpose::Heal, 0, 2);
        let wanted = self.nodes.len() > 1 && draw.percent(50);
        let Some((term, leader)) = self.leader_of(&all).filter(|_| wanted) else {
            self.finish();
            return Ok(());
        };
        let to = (leader + 1 + draw.place(self.nodes.len() - 1)) % self.nodes.len();
        // Who lost some of its log may not lead before it is as long as it was.
        let process = self.nodes[to].process();
        if process.is_none_or(|process| process.replica.raft().repairing().is_some()) {
            self.finish();
            return Ok(());
        }
        self.advance(heal, Stage::HandOver((term, to)));
        let to = self.nodes[to].id;
        self.input(leader, Input::Transfer { to })
    }

    /// M8: the leader was `asked` to hand over.
    fn hand_over(&mut self, heal: &Heal, asked: Leader, waited: Duration) -> Verdict {
        let leads = self.leader_of(&heal.core);
        let unit = self.options.unit();
        if liveness::handed_over(&heal.core, asked, leads, waited, unit)? {
            self.finish();
        }
        Ok(())
    }

    fn finish(&mut self) {
        self.marking.ends();
        self.finished = true;
    }

    fn nothing_overdue(&self, heal: &Heal) -> Verdict {
        match heal.working {
            Some(working) if self.checks.are_on() && !self.options.dials.on(Fault::C4) => {
                crate::check::ttl::overdue(&self.checks.model, self.now, working)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Those outside of the core that run, with their incarnations and terms.
    fn apart(&self, core: &[usize]) -> Vec<(usize, u64, Term)> {
        let outside = self.nodes.iter().enumerate();
        let outside = outside.filter(|(seat, _)| !core.contains(seat));
        let running = outside.filter_map(|(seat, node)| {
            let raft = node.process()?.replica.raft();
            Some((seat, node.incarnation, raft.hard_state().term))
        });
        running.collect()
    }

    /// Who has not got an answer of one of `seats`: a client, or somebody whose request it took in.
    fn still_waits(&self, seats: &[usize]) -> Option<(usize, String)> {
        let mut clients = self.clients.iter();
        let client = clients.find_map(|client| {
            let pending = client
                .pending
                .as_ref()
                .filter(|p| seats.contains(&p.seat))?;
            let what = format!("client {} waits for {pending:?}", client.number);
            Some((pending.seat, what))
        });
        client.or_else(|| {
            seats.iter().find_map(|&seat| {
                let process = self.nodes[seat].process()?;
                let (request, caller) = process.requests.first_key_value()?;
                Some((seat, format!("n{seat} has {request} of {caller:?}")))
            })
        })
    }

    /// B6: from now on the core has nothing to do but what falls due; `None` where a client still
    /// waits.
    fn quiet_begins(&self, core: &[usize]) -> Option<Quiet> {
        let is_quiet = self.checks.are_on() && self.still_waits(core).is_none();
        is_quiet.then(|| self.checks.quiet(self.now, core))
    }

    fn was_quiet(&self, heal: &Heal) -> Verdict {
        match &heal.quiet {
            Some(quiet) => self.checks.was_quiet(self.now, &heal.core, quiet),
            None => Ok(()),
        }
    }

    fn advance(&self, heal: &mut Heal, stage: Stage) {
        heal.stage = stage;
        heal.since = self.now;
        heal.backlog = self.backlog(&heal.core);
    }

    /// The leader that all of `core` follow.
    fn leader_of(&self, core: &[usize]) -> Option<(Term, usize)> {
        let leader = core.iter().copied().find(|&seat| {
            let process = self.nodes[seat].process();
            process.is_some_and(|process| process.replica.raft().is_leader())
        })?;
        let id = self.nodes[leader].id;
        let term = self.nodes[leader]
            .process()?
            .replica
            .raft()
            .hard_state()
            .term;
        let all = core.iter().all(|&seat| {
            self.nodes[seat].process().is_some_and(|process| {
                let raft = process.replica.raft();
                raft.leader() == Some(id) && raft.hard_state().term == term
            })
        });
        all.then_some((term, leader))
    }

    fn equal(&self, core: &[usize]) -> bool {
        let shown = |&seat: &usize| {
            let replica = &self.nodes[seat].process()?.replica;
            let raft = replica.raft();
            let store = replica.store();
            Some((store.applied(), store.hash(), raft.last()))
        };
        let shown: Vec<_> = core.iter().map(shown).collect();
        liveness::are_equal(&shown)
    }

    /// What a cluster with the smallest limits takes to work through what is left, an entry at a
    /// time: what one of `core` has and another lacks or has not on disk, and what is due to
    /// expire.
    fn backlog(&self, core: &[usize]) -> Duration {
        let replicas = || core.iter().filter_map(|&seat| self.nodes[seat].process());
        let last = replicas().map(|process| process.replica.raft().last().index.0);
        let behind = replicas().map(|process| {
            let applied = process.replica.store().applied().index;
            applied.min(process.replica.raft().persisted_index()).0
        });
        let leases = replicas().map(|process| process.replica.store().lease_count() as u64);
        let entries = last.max().unwrap_or(0) - behind.min().unwrap_or(0);
        let steps = entries + leases.max().unwrap_or(0);
        Duration::from_millis(20) * u32::try_from(steps).unwrap_or(u32::MAX) + self.travel(core)
    }

    /// What it takes to send a snapshot, if one may be needed. One that was under way may have to
    /// be given up first.
    fn travel(&self, core: &[usize]) -> Duration {
        let rafts = || {
            let processes = core.iter().map(|&seat| self.nodes[seat].process());
            processes.map(|process| process.map(|process| process.replica.raft()))
        };
        let start = rafts().flatten().map(|raft| raft.log_start().index).max();
        let behind = |raft: Option<&Raft>| raft.map(|raft| raft.last().index) < start;
        if rafts().any(behind) {
            Duration::from_secs(5) + self.options.unit() * 8
        } else {
            Duration::ZERO
        }
    }

    fn states(&self, seats: &[usize]) -> String {
        let states: Vec<_> = seats.iter().map(|&seat| self.state(seat)).collect();
        format!("{states:?}")
    }

    fn state(&self, seat: usize) -> String {
        match self.nodes[seat].process() {
            None => format!("n{seat} down"),
            Some(process) => format!("n{seat}: {}", process.replica.raft()),
        }
    }
}
