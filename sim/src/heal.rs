//! The end of a run: faults stop, and the cluster must get on (SIMULATION.md §7).

use std::time::Duration;

use quorate_core::raft::Raft;
use quorate_core::store::{Content, Operation, Path, Put, Value, When};
use quorate_core::{Index, Opening, Term};

use crate::check::ttl::Working;
use crate::check::{Verdict, Violation};
use crate::clock::Time;
use crate::event::Event;
use crate::fault::{Counters, Dials, Fault};
use crate::node::Life;
use crate::recover::recover;
use crate::rng::Purpose;
use crate::world::World;

/// How far the healing has come.
#[derive(Clone, Debug)]
pub struct Heal {
    /// A majority that is without faults from now on.
    core: Vec<usize>,
    /// Members that will never be whole again.
    lost: Vec<usize>,
    stage: Stage,
    /// When the stage began.
    since: Time,
    /// How long the cluster could take, then, for what was left to do.
    backlog: Duration,
    /// The leader of the core, once there is one, and the cluster's clock then.
    leader: Option<(Term, usize)>,
    working: Option<Working>,
    /// The core's stores were seen to be equal.
    equal: bool,
    /// The fresh write was answered.
    probed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Waits for the core to run and to have a leader.
    Elect,
    /// Waits for a fresh write.
    Write,
    /// Looks at the core for a while.
    Settle,
    /// The others are healed, too.
    Rest,
}

impl Heal {
    /// Whether a node is out of it for good.
    #[must_use]
    pub fn is_lost(&self, seat: usize) -> bool {
        self.lost.contains(&seat)
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
        let lost = self.lost();
        seats.retain(|seat| !lost.contains(seat));
        if seats.len() < members / 2 + 1 {
            // Stuck, and silent: nothing wrong was said so far, and nothing more is promised.
            self.finished = true;
            return;
        }
        let outsiders = seats.split_off(size.min(seats.len()));
        seats.sort_unstable();
        let core = seats;
        self.dials = Dials::off();
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
                // D2: no stall outlasts the faults.
                if let Some(writing) = &process.writing {
                    let job = writing.number;
                    let incarnation = self.nodes[seat].incarnation;
                    self.queue.push(
                        self.now,
                        Event::LogDone {
                            seat,
                            incarnation,
                            job,
                        },
                    );
                }
            }
        }
        for &seat in &lost {
            self.crash(seat, None);
        }
        for seat in outsiders {
            // Dead, or cut off in one direction or both, for ever: where election livelocks live.
            match draw.below(4) {
                0 => self.crash(seat, None),
                1 => self.network.isolate(seat, false, false),
                2 => self.network.isolate(seat, true, false),
                _ => self.network.isolate(seat, false, true),
            }
        }
        for &seat in &core {
            self.queue.push(self.now, Event::Start { seat });
        }
        self.heal = Some(Heal {
            core,
            lost,
            stage: Stage::Elect,
            since: self.now,
            backlog: Duration::ZERO,
            leader: None,
            working: None,
            equal: false,
            probed: false,
        });
        self.queue.push(self.now, Event::Tick);
    }

    /// Who needs a snapshot after damage. What a damaged log lacks may be trimmed everywhere else,
    /// and one that was dropped for its tables holds nothing for those who are behind them. Until
    /// there are snapshots such a member has to be replaced, and so is out of it.
    fn lost(&self) -> Vec<usize> {
        let damage = [Fault::D6, Fault::D7, Fault::D8];
        if damage.iter().all(|&fault| self.counters.of(fault) == 0) {
            return Vec::new();
        }
        let impaired = |&seat: &usize| self.nodes[seat].is_impaired();
        let (mut lost, whole): (Vec<usize>, Vec<usize>) = (0..self.nodes.len()).partition(impaired);
        let logs: Vec<_> = whole
            .iter()
            .map(|&seat| (seat, self.log_of(seat)))
            .collect();
        let first = logs.iter().map(|&(_, (start, _))| start).max();
        let behind = logs.iter().filter(|&&(_, (_, last))| Some(last) < first);
        lost.extend(behind.map(|&(seat, _)| seat));
        lost
    }

    /// Where the log of a node begins and ends, as it is or as it will come back.
    fn log_of(&self, seat: usize) -> (Index, Index) {
        let node = &self.nodes[seat];
        let of = |opening: &Opening| {
            let last = opening
                .entries
                .last()
                .map_or(opening.log_start, |last| last.id);
            (opening.log_start.index, last.index)
        };
        match &node.life {
            Life::Up(process) => {
                let raft = process.replica.raft();
                (raft.log_start().index, raft.last().index)
            }
            Life::Starting { opening, .. } => of(opening),
            Life::Down => {
                let mut draw = self.seed.draw(Purpose::Heal, 1 + seat as u64, 0);
                let (disk, tables) = node.fork(&Dials::off(), &mut draw, &mut Counters::default());
                let found = recover(&self.birth, node.id, &disk, &tables, self.limits, true, 0);
                // One that cannot start says so when it tries.
                found.map_or((Index::ZERO, Index(u64::MAX)), |(opening, _)| of(&opening))
            }
        }
    }

    /// The fresh write, or an operation of the beginning, was answered.
    pub(crate) fn probe_answered(&mut self) {
        if let Some(heal) = &mut self.heal
            && heal.stage == Stage::Write
        {
            heal.probed = true;
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
            Stage::Rest => self.rest(&mut heal, waited),
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
        if settled && let Some(leader) = self.leader_of(&heal.core) {
            heal.leader = Some(leader);
            heal.working = Some(Working {
                since: self.now,
                clock: self.checks.model.clock(),
                // 2 h + 2 E, the probe's first turn, and one commit.
                slack: unit * 3
                    + self.options.config.expiry_interval * 2
                    + self.backlog(&heal.core),
            });
            let leader = leader.1;
            self.advance(heal, Stage::Write);
            self.ask_apart(fresh(), leader);
            return Ok(());
        }
        // Recovery and whatever its disk was busy with come on top of V1's ten.
        late(
            "V1",
            waited,
            unit * 12 + Duration::from_secs(35),
            &heal.core,
            || {
                let states: Vec<_> = heal.core.iter().map(|&seat| self.state(seat)).collect();
                format!("no leader in the core: {states:?}")
            },
        )
    }

    fn fresh_write(&mut self, heal: &mut Heal, waited: Duration) -> Verdict {
        if heal.probed {
            self.advance(heal, Stage::Settle);
            return Ok(());
        }
        if self.clients[self.options.clients].pending.is_none()
            && let Some((_, leader)) = self.leader_of(&heal.core)
        {
            self.ask_apart(fresh(), leader);
        }
        let unit = self.options.unit();
        if waited > unit * 3 + heal.backlog && self.is_stranded(&heal.core) {
            return self.leave_stranded();
        }
        late("V3", waited, unit * 3 + heal.backlog, &heal.core, || {
            let states: Vec<_> = heal.core.iter().map(|&seat| self.state(seat)).collect();
            format!("a fresh write is not committed: {states:?}")
        })
    }

    fn settle(&mut self, heal: &mut Heal, waited: Duration) -> Verdict {
        let unit = self.options.unit();
        heal.equal |= self.equal(&heal.core);
        if let (Some((term, leader)), Some((now_term, now_leader))) =
            (heal.leader, self.leader_of(&heal.core))
            && (now_term.0 > term.0 + 2 || (now_term, now_leader) != (term, leader))
        {
            let what = format!(
                "n{leader} led in term {term}; without a fault n{now_leader} leads in {now_term}"
            );
            return Err(Violation::new("V2", &heal.core, what));
        }
        if waited < unit * 20 + heal.backlog {
            return Ok(());
        }
        if self.leader_of(&heal.core).is_none() {
            let what = "the core has no leader any more".to_owned();
            return Err(Violation::new("V2", &heal.core, what));
        }
        if !self.must_be_equal(heal, "V4")? {
            return self.leave_stranded();
        }
        self.nothing_overdue(heal)?;
        if heal.core.len() + heal.lost.len() == self.nodes.len() {
            return self.end(heal);
        }
        self.network.heal();
        let rest: Vec<usize> = (0..self.nodes.len())
            .filter(|seat| !heal.lost.contains(seat))
            .collect();
        for &seat in &rest {
            if matches!(self.nodes[seat].life, Life::Down) {
                self.queue.push(self.now, Event::Start { seat });
            }
        }
        heal.core = rest;
        heal.equal = false;
        self.advance(heal, Stage::Rest);
        Ok(())
    }

    fn rest(&mut self, heal: &mut Heal, waited: Duration) -> Verdict {
        heal.equal |= self.equal(&heal.core);
        if waited < self.options.unit() * 20 + heal.backlog {
            return Ok(());
        }
        if self.must_be_equal(heal, "V9")? {
            self.end(heal)
        } else {
            self.leave_stranded()
        }
    }

    /// V5, V6, and a last look at everything.
    fn end(&mut self, heal: &Heal) -> Verdict {
        for client in &self.clients {
            if let Some(pending) = &client.pending {
                let what = format!("client {} still waits: {pending:?}", client.number);
                return Err(Violation::new("V5", &[pending.seat], what));
            }
        }
        if self.checks.are_on() {
            if let Some((watch, seat)) = self.checks.streams.behind(&self.checks.model) {
                let what = format!("{watch} at n{seat} has not been given everything");
                return Err(Violation::new("V6", &[seat], what));
            }
            for (seat, node) in self.nodes.iter().enumerate() {
                if let Some(process) = node.process() {
                    self.checks.holds_everything(seat, &process.replica)?;
                }
            }
        }
        self.nothing_overdue(heal)?;
        self.finished = true;
        Ok(())
    }

    fn nothing_overdue(&self, heal: &Heal) -> Verdict {
        match heal.working {
            Some(working) if self.checks.are_on() => {
                crate::check::ttl::overdue(&self.checks.model, self.now, working)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether they were seen equal: all of them, or it is a violation, unless one needs a
    /// snapshot.
    fn must_be_equal(&self, heal: &Heal, id: &'static str) -> Result<bool, Violation> {
        if heal.equal || self.is_stranded(&heal.core) {
            return Ok(heal.equal);
        }
        let states: Vec<_> = heal.core.iter().map(|&seat| self.state(seat)).collect();
        let what = format!("they are not equal after 20 E: {states:?}");
        Err(Violation::new(id, &heal.core, what))
    }

    /// Whether one of `core` lacks what its leader no longer has in its log: the leader was
    /// restarted from a checkpoint that was ahead of its own log, while the other's disk was stuck.
    /// Until there are snapshots nobody can help that member, and the cluster is as well as it can
    /// be.
    fn is_stranded(&self, core: &[usize]) -> bool {
        let rafts = || {
            let processes = core.iter().filter_map(|&seat| self.nodes[seat].process());
            processes.map(|process| process.replica.raft())
        };
        let leader = rafts()
            .filter(|raft| raft.is_leader())
            .max_by_key(|raft| raft.hard_state().term);
        let Some(start) = leader.map(Raft::log_start) else {
            return false;
        };
        rafts().any(|raft| {
            let held = raft.entry(start.index).map(|entry| entry.id);
            raft.log_start().index < start.index && held != Some(start)
        })
    }

    /// The run ends without a last look.
    fn leave_stranded(&mut self) -> Verdict {
        self.finished = true;
        Ok(())
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
        let shown = |seat: usize| {
            let replica = &self.nodes[seat].process()?.replica;
            let raft = replica.raft();
            let store = replica.store();
            Some((store.applied(), store.hash(), raft.last()))
        };
        let first = shown(core[0]);
        first.is_some() && core.iter().all(|&seat| shown(seat) == first)
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
        Duration::from_millis(20) * u32::try_from(steps).unwrap_or(u32::MAX)
    }

    fn state(&self, seat: usize) -> String {
        match self.nodes[seat].process() {
            None => format!("n{seat} down"),
            Some(process) => format!("n{seat}: {}", process.replica.raft()),
        }
    }
}

/// The fresh write of V3.
fn fresh() -> Operation {
    Operation::Put(Put {
        path: Path::root().child(b"_probe"),
        content: Content::Value(Value::from("fresh")),
        when: When::Always,
        ttl: None,
    })
}

fn late(
    id: &'static str,
    waited: Duration,
    limit: Duration,
    nodes: &[usize],
    what: impl FnOnce() -> String,
) -> Verdict {
    if waited <= limit {
        return Ok(());
    }
    Err(Violation::new(
        id,
        nodes,
        format!("after {waited:?}: {}", what()),
    ))
}
