//! Strokes of fate: the faults that strike now and then, strangers, and forks.

use std::time::Duration;

use quorate_core::raft::{Forwarded, Message, MessageBody};
use quorate_core::store::{ClientRequest, Command, Content, Operation, Path, Put, When};
use quorate_core::{Index, Input, LogId, Term};

use super::World;
use crate::check::durability::Image;
use crate::check::{Verdict, Violation};
use crate::clock::{RATE_ERROR_PPM, nanos};
use crate::event::Event;
use crate::fates::{Fates, Place};
use crate::fault::{Fault, kinds};
use crate::node::Life;
use crate::process;
use crate::recover::{Refusal, recover, recover_log};
use crate::rng::{Draw, Purpose};

/// So many looks at forked disks load the tables once.
const TABLES_EVERY: u64 = 8;

/// The names of kills of the leader.
pub(crate) const KILLS: u64 = 1 << 33;

impl World {
    pub(super) fn schedule_strike(&mut self, number: usize, count: u64) {
        let kind = kinds().nth(number).expect("a kind of the tables");
        let mut draw = self.seed.draw(Purpose::Fault, number as u64, 2 * count);
        let intensity = self.fates.dials.of(kind.fault);
        if intensity > 0 {
            let gap = process::gap(kind, intensity, self.options.unit(), &mut draw);
            self.queue
                .push(self.now + gap, Event::Strike { number, count });
        }
    }

    pub(super) fn strike(&mut self, number: usize, count: u64) -> Verdict {
        let kind = kinds().nth(number).expect("a kind of the tables");
        let fault = kind.fault;
        let victim = self
            .script
            .as_ref()
            .map(|script| script.victim(fault, count));
        if victim.is_none() {
            self.schedule_strike(number, count + 1);
        }
        let mut draw = self.seed.draw(Purpose::Fault, number as u64, 2 * count + 1);
        let drawn = draw.place(self.nodes.len());
        // Whom a plan names is struck, and otherwise whom it will, or the leader now and then.
        let seat = victim.unwrap_or(drawn);
        let leader = |world: &Self, draw: &mut Draw| {
            let leader = world.leader().filter(|_| draw.percent(60));
            victim.or(leader).unwrap_or(drawn)
        };
        self.log.line(self.now, self.trace.steps(), &[seat], || {
            format!("{fault} strikes n{seat}")
        });
        self.see_strike(fault, seat);
        let unit = self.options.unit();
        let hears = |world: &Self, seat: usize| world.nodes[seat].paused_until <= world.now;
        match fault {
            Fault::P1 if self.nodes[seat].process().is_some() => {
                self.fates.note(fault, Place::Node(seat), count);
                self.crash_for_a_while(seat);
            }
            Fault::P2 => {
                let seat = leader(self, &mut draw);
                let (effects, at_log) = (draw.below(12), draw.percent(50));
                self.fates.remember_one(fault, Place::Node(seat), count);
                if let Some(process) = self.nodes[seat].process_mut() {
                    if at_log {
                        process.log_fuse = true;
                    } else {
                        process.fuse = Some(effects);
                    }
                }
            }
            Fault::P4 => {
                self.fates.note(fault, Place::Cluster, count);
                for seat in 0..self.nodes.len() {
                    let downtime = Duration::from_nanos(draw.below(nanos(unit)));
                    if !matches!(self.nodes[seat].life, Life::Down) {
                        self.crash(seat, Some(downtime));
                    }
                }
            }
            Fault::P5 if self.nodes[seat].process().is_some() => {
                self.fates.note(fault, Place::Node(seat), count);
                // A machine that is suspended meanwhile stays so.
                let until = self.now + process::pause(unit, &mut draw);
                let node = &mut self.nodes[seat];
                node.paused_until = node.paused_until.max(until);
            }
            Fault::C5 => {
                let seat = leader(self, &mut draw);
                if self.nodes[seat].process().is_none() {
                    return Ok(());
                }
                self.fates.note(fault, Place::Node(seat), count);
                // Longer than it takes to elect another, mostly.
                let span = process::pause(unit, &mut draw) + unit;
                let until = (self.now + span).max(self.nodes[seat].paused_until);
                self.nodes[seat].clock.suspend(self.now, until);
                self.checks.suspends(until);
                self.nodes[seat].paused_until = until;
                // It does not know how long it was gone, and nobody can tell it at once.
                let told = until + Duration::from_nanos(draw.below(2 * nanos(unit)));
                match draw.below(3) {
                    0 => {}
                    1 => self.network.cut_off(seat, self.now, told),
                    _ => self.network.clog(seat, told),
                }
            }
            Fault::P7 if hears(self, seat) => {
                self.fates.note(fault, Place::Node(seat), count);
                return self.stranger(seat, &mut draw);
            }
            Fault::P10 if hears(self, seat) => {
                let incarnation = self.nodes[seat].incarnation;
                let Some(process) = self.nodes[seat].process_mut() else {
                    return Ok(());
                };
                if !process.stopping {
                    process.stopping = true;
                    self.fates.note(fault, Place::Node(seat), count);
                    let at = self.now + unit * 4;
                    self.queue.push(at, Event::Stopped { seat, incarnation });
                    return self.input(seat, Input::Shutdown);
                }
            }
            Fault::P1 | Fault::P5 | Fault::P7 | Fault::P10 => {}
            Fault::M8 => {
                let to = self.nodes[seat].id;
                if let Some(leader) = self.leader().filter(|&seat| hears(self, seat)) {
                    self.fates.note(fault, Place::Node(seat), count);
                    return self.input(leader, Input::Transfer { to });
                }
            }
            Fault::C1 | Fault::C2 => {
                self.fates.note(fault, Place::Node(seat), count);
                let mean = *draw.pick(&[1_000_000_000, 1 << 55]);
                let by = draw.skewed(mean);
                let by = i64::try_from(by).unwrap_or(i64::MAX);
                self.nodes[seat]
                    .clock
                    .jump(if fault == Fault::C1 { by } else { -by });
            }
            Fault::C3 => {
                self.fates.note(fault, Place::Node(seat), count);
                let bound = self.fates.dials.scale(Fault::C3, RATE_ERROR_PPM);
                let clock = &mut self.nodes[seat].clock;
                clock.change_rate(self.now, bound, &mut draw);
                if let Some(process) = self.nodes[seat].process_mut() {
                    process.alarm.0 = None;
                }
                self.set_alarm(seat);
            }
            Fault::D12 => {
                self.fates.remember_one(fault, Place::Node(seat), count);
                self.nodes[seat].disk.borrow_mut().set_full(true);
                let mut until = self.now + Duration::from_nanos(draw.skewed(2 * nanos(unit)));
                // Some operators take their time: long enough for a leader to be without a
                // successor, and to refuse.
                let mut draw = self
                    .seed
                    .draw(Purpose::Fault, (1 << 36) | seat as u64, count);
                // Who is alone can hand over to nobody: it refuses until then.
                let longest = if self.nodes.len() == 1 { 150 } else { 30 };
                if draw.one_in(2) {
                    until = until + Duration::from_nanos(draw.skewed(longest * nanos(unit)));
                }
                self.queue.push(until, Event::Unfull { seat });
            }
            Fault::N11 if self.nodes.len() > 1 => {
                let other = (seat + 1 + draw.place(self.nodes.len() - 1)) % self.nodes.len();
                self.fates.note(fault, Place::Node(seat), count);
                self.network.reset(self.now, seat, other);
                for (seat, peer) in [(seat, other), (other, seat)] {
                    let after = Duration::from_nanos(draw.below(2 * nanos(unit)));
                    let told = self.now + after.min(after * u32::from(draw.percent(80)));
                    self.queue.push(told, Event::GaveUp { seat, peer });
                }
                return self.reset_transfers(seat, other);
            }
            Fault::N11 => {}
            Fault::K4 | Fault::K6 | Fault::K7 => {
                self.fates.note(fault, Place::Cluster, count);
                return self.strike_clients(fault, &mut draw);
            }
            Fault::N6 | Fault::N7 | Fault::N8 | Fault::N9 | Fault::N12 | Fault::N14 => {
                if self.nodes.len() > 1 {
                    let node = self.network.strike(fault, self.now, victim, &mut draw);
                    self.fates.note(fault, Place::Node(node), count);
                }
            }
            Fault::N1
            | Fault::N2
            | Fault::N3
            | Fault::N4
            | Fault::N5
            | Fault::N10
            | Fault::D1
            | Fault::D2
            | Fault::D3
            | Fault::D4
            | Fault::D5
            | Fault::D6
            | Fault::D7
            | Fault::D8
            | Fault::D15
            | Fault::C6
            | Fault::P3
            | Fault::P6
            | Fault::D14
            | Fault::K2
            | Fault::K3
            | Fault::K9
            | Fault::D10
            | Fault::K1
            | Fault::K5
            | Fault::K8
            | Fault::C4
            | Fault::C7
            | Fault::D9
            | Fault::D11
            | Fault::D13
            | Fault::N13
            | Fault::P8 => unreachable!("{fault} does not strike now and then"),
        }
        Ok(())
    }

    /// T4: every 2 E the leader goes.
    pub(super) fn kill_leader(&mut self, count: u64) -> Verdict {
        let unit = self.options.unit();
        self.checks.churned(self.now, unit * 20)?;
        let victim = self.script.as_ref();
        let victim = victim.map(|script| script.victim(Fault::P1, KILLS | count));
        if let Some(seat) = victim.or_else(|| self.leader()) {
            self.fates.note(Fault::P1, Place::Node(seat), KILLS | count);
            let mut draw = self.seed.draw(Purpose::Fault, 1 << 33, count);
            let downtime = Duration::from_nanos(draw.between(nanos(unit) / 4, nanos(unit)));
            self.crash(seat, Some(downtime));
        }
        if victim.is_none() {
            let count = count + 1;
            self.queue
                .push(self.now + unit * 2, Event::KillLeader { count });
        }
        Ok(())
    }

    pub(super) fn expects_strangers(&mut self, seat: usize) -> bool {
        let process = self.nodes[seat].process_mut().expect("it just spoke");
        let expected = process.strangers > 0;
        process.strangers = process.strangers.saturating_sub(1);
        expected
    }

    /// P7: a message of another cluster, or from or to a disk that was replaced. It must change
    /// nothing (DESIGN.md §4).
    fn stranger(&mut self, seat: usize, draw: &mut Draw) -> Verdict {
        let from = draw.place(self.nodes.len());
        let (from_id, own) = (self.nodes[from].id, self.nodes[seat].id);
        let local = self.nodes[seat].clock.read(self.now);
        let disk = |id| self.birth.founder(id).expect("all are founders").disk;
        let (mut from_disk, mut to_disk) = (disk(from_id), disk(own));
        let mut birth = self.birth.hash();
        match draw.below(3) {
            0 => birth ^= 1,
            1 => from_disk.0 ^= 1 << 64,
            _ => to_disk.0 ^= 1 << 64,
        }
        let Some(process) = self.nodes[seat].process_mut() else {
            return Ok(());
        };
        let raft = process.replica.raft();
        let last = LogId {
            term: raft.hard_state().term.next(),
            index: Index(raft.last().index.0 + 9),
        };
        let (transfer, entries) = (true, [].into());
        let append = MessageBody::Append {
            previous: raft.last(),
            entries,
            committed: raft.last().index,
            round: 0,
        };
        let vote = MessageBody::Vote { last, transfer };
        let stolen = ClientRequest::Numbered {
            client: 1,
            sequence: 1 << 40,
            acked: 1 << 39,
        };
        let put = Put {
            path: Path::root().child(b"stranger"),
            content: Content::Value("strange".into()),
            when: When::Always,
            ttl: None,
        };
        let command = Command {
            client: Some(stolen),
            operation: Operation::Put(put),
        };
        let requests = vec![Forwarded {
            ticket: 1,
            command: command.into(),
        }];
        let nonce = process.nonce;
        let index = Index(draw.below(1 + raft.committed().0));
        let bodies = [
            vote,
            append,
            MessageBody::TimeoutNow,
            MessageBody::PreVote { last },
            MessageBody::Propose { requests },
            MessageBody::ProposeRefused {
                tickets: (1..=process.taken).collect(),
            },
            MessageBody::ReadIndex {
                nonce,
                counts: true,
            },
            MessageBody::ReadIndexReply { nonce, index },
        ];
        let message = Message {
            birth,
            from_disk,
            to_disk,
            term: Term(raft.hard_state().term.0 + draw.below(3)),
            body: draw.pick(&bodies).clone(),
        };
        let before = self.checks.strange(&process.replica);
        let from = from_id;
        process.strangers += 1;
        let input = Input::Receive { from, message };
        process.replica.step(local, input);
        let after = self.checks.strange(&process.replica);
        if before != after {
            let what = format!("n{seat} was {before:?} and, after a stranger spoke, is {after:?}");
            return Err(Violation::new("P7", &[seat], what));
        }
        self.take_turn(seat)
    }

    pub(super) fn schedule_fork(&mut self, count: u64) {
        let mut draw = self.seed.draw(Purpose::Fork, count, 0);
        let unit = nanos(self.options.unit());
        let after = match self.options.fork_every {
            0 => unit / 8,
            every => draw.skewed(unit * every),
        };
        self.queue.push(
            self.now + Duration::from_nanos(after),
            Event::Fork { count },
        );
    }

    /// Now and then all might lose power.
    pub(super) fn fork(&mut self, count: u64) -> Verdict {
        self.schedule_fork(count + 1);
        self.look_at_forks(count)
    }

    /// R11: what if all lost power now, for the `count`-th time?
    pub(super) fn look_at_forks(&self, count: u64) -> Verdict {
        if !self.checks.are_on() {
            return Ok(());
        }
        let mut images = Vec::new();
        for seat in 0..self.nodes.len() {
            match self.after_power_cut(seat, count) {
                Ok(image) => images.push(image),
                Err(refusal) => {
                    let what = format!("n{seat} could not start after a power cut: {refusal:?}");
                    return Err(Violation::new("R11", &[seat], what));
                }
            }
        }
        self.checks.forked(&images)
    }

    /// What a member would start from if it lost power now.
    fn after_power_cut(&self, seat: usize, count: u64) -> Result<Image, Refusal> {
        let node = &self.nodes[seat];
        let mut draw = self.seed.draw(Purpose::Fork, count, seat as u64 + 1);
        let mut fates = Fates::of_chance(self.fates.dials.clone());
        let here = fates.at(Place::Node(seat), 0);
        let (disk, tables) = node.fork(here, &mut draw);
        let (birth, limits, impaired) = (&self.birth, self.limits, node.impaired);
        // Tables are the same whatever a disk loses: now and then is enough to load them.
        if count.is_multiple_of(TABLES_EVERY) || self.options.fork_every == 0 {
            let (found, _) = recover(birth, node.id, &disk, &tables, limits, impaired, 0)?;
            let (term, applied) = (found.hard_state, found.store.applied());
            let image = Image::recovered(term, applied, found.log_start, &found.entries);
            return Ok(image.owing(found.held));
        }
        let log = recover_log(birth, &disk, &tables, limits, impaired)?;
        let image = Image::recovered(log.hard_state, tables.applied, log.start, &log.entries);
        Ok(image.owing(log.held))
    }
}
