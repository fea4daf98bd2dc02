//! The lifecycle of a process: it starts, crashes, and finds its disk as it left it, or damaged.

use std::time::Duration;

use quorate_core::Replica;

use super::World;
use crate::check::{Verdict, Violation};
use crate::clock::{BEGINNING, Clock, Time, nanos};
use crate::disk::Pace;
use crate::event::Event;
use crate::fates::Place;
use crate::fault::Fault;
use crate::node::{Caller, Life, Process, Waiting};
use crate::process;
use crate::recover::{Refusal, recover};
use crate::rng::Purpose;

impl World {
    pub(super) fn start(&mut self, seat: usize) -> Verdict {
        if !matches!(self.nodes[seat].life, Life::Down) {
            return Ok(());
        }
        let node = &mut self.nodes[seat];
        node.paused_until = Time(0);
        let incarnation = node.incarnation;
        let mut draw = self.seed.draw(Purpose::Replica, seat as u64, incarnation);
        let wall = node.clock.wall_error();
        let mut clock_draw = self.seed.draw(Purpose::Clock, seat as u64, incarnation + 1);
        let here = self
            .fates
            .at(Place::Node(seat), BEGINNING + incarnation + 1);
        node.clock = Clock::new(self.now, here, &mut clock_draw);
        node.clock.jump(wall);
        let (birth, id, limits) = (&self.birth, node.id, self.limits);
        if node.impaired {
            // What is given up needs a new segment: whoever starts it has made room.
            node.disk.borrow_mut().set_full(false);
        }
        let (impaired, own) = (node.impaired, draw.next_u64());
        match recover(birth, id, &node.disk, &node.tables, limits, impaired, own) {
            Ok((opening, wal)) => {
                let job = node.disk.borrow_mut().take_job();
                let (opening, wal) = (Box::new(opening), Box::new(wal));
                node.life = Life::Starting { job, opening, wal };
            }
            Err(Refusal::Full) => {
                self.fates.count(Fault::D12);
                self.has_no_room(seat);
                return Ok(());
            }
            Err(Refusal::Broken(what)) => {
                let what = format!("n{seat} cannot start from its own disk: {what}");
                return Err(Violation::new("R11", &[seat], what));
            }
        }
        let latency = self.disk_latency(seat, Pace::read_latency)
            + self.disk_latency(seat, Pace::sync_latency);
        let fails = draw.percent(self.fates.dials.scale(Fault::P3, 60));
        if self
            .fates
            .strikes(Fault::P3, Place::Node(seat), incarnation, fails)
        {
            let at = self.now + Duration::from_nanos(draw.below(nanos(latency)));
            self.queue.push(at, Event::FailStart { seat, incarnation });
        } else {
            self.queue
                .push(self.now + latency, Event::Started { seat, incarnation });
        }
        Ok(())
    }

    pub(super) fn started(&mut self, seat: usize, incarnation: u64) -> Verdict {
        let node = &mut self.nodes[seat];
        if node.incarnation != incarnation {
            return Ok(());
        }
        let Life::Starting { job, opening, wal } = std::mem::replace(&mut node.life, Life::Down)
        else {
            return Ok(());
        };
        node.disk.borrow_mut().complete(job);
        let applied = opening.store.applied();
        let (held, start) = (opening.hard_state, opening.log_start);
        let (entries, owed) = (&opening.entries, opening.held);
        self.watchdog.starts(seat);
        self.checks
            .restarted(self.now, seat, held, start, entries, applied, owed)?;
        self.checks.log_found(seat, wal.disk_bytes());
        let local = node.clock.read(self.now);
        let replica = Replica::new(self.options.config.clone(), *opening, local);
        self.marking.started(seat, &replica);
        node.life = Life::Up(Box::new(Process::new(replica, *wal)));
        if self.log.is_on() {
            self.log.line(self.now, self.trace.steps(), &[seat], || {
                format!("n{seat} starts: {held:?}, log after {start}, applied {applied}")
            });
        }
        self.take_turn(seat)
    }

    /// Crashes a node, which starts again after `downtime`, if at all.
    pub(crate) fn crash(&mut self, seat: usize, downtime: Option<Duration>) {
        self.end_process(seat, true, downtime);
    }

    /// Ends a process; its machine loses power, or goes on.
    fn end_process(&mut self, seat: usize, power: bool, downtime: Option<Duration>) {
        let incarnation = self.nodes[seat].incarnation;
        let mut draw = self.seed.draw(Purpose::DiskCrash, seat as u64, incarnation);
        self.log.line(self.now, self.trace.steps(), &[seat], || {
            format!("n{seat} crashes")
        });
        self.checks.stops(self.now, seat);
        let marking = self.mark_crash(seat);
        let node = &mut self.nodes[seat];
        let here = self.fates.at(Place::Node(seat), incarnation);
        let Waiting { callers, watchers } = node.crash(power, here, &mut draw);
        self.mark_crashed(seat, &marking);
        if power {
            self.damage(seat, incarnation);
        }
        let node = &mut self.nodes[seat];
        node.paused_until = Time(0);
        self.trace
            .event(self.now, 103, seat as u64, node.incarnation);
        for Caller {
            client,
            operation,
            attempt,
            ..
        } in callers
        {
            // A connection that breaks is noticed by some; others wait until they lose patience.
            if draw.percent(50) {
                let at = self.now + Duration::from_millis(draw.below(20));
                self.queue.push(
                    at,
                    Event::Lose {
                        client,
                        operation,
                        attempt,
                    },
                );
            }
        }
        for (watch, (client, stream)) in watchers {
            self.checks.streams.drops(watch);
            if let Some(state) = self.clients[client].streams.get_mut(&stream) {
                state.open = None;
                let at = self.now + Duration::from_millis(draw.between(1, 500));
                self.queue.push(at, Event::Open { client, stream });
            }
        }
        if let Some(downtime) = downtime {
            self.queue.push(self.now + downtime, Event::Start { seat });
        }
    }

    /// D6 to D10: what a node that is down finds on its disk when it comes back. A majority is
    /// spared, so that what is committed is somewhere.
    fn damage(&mut self, seat: usize, incarnation: u64) {
        for fault in [Fault::D6, Fault::D7, Fault::D8, Fault::D9, Fault::D10] {
            let others = self.nodes.iter().enumerate();
            let impaired = others.filter(|(other, node)| *other != seat && node.is_impaired());
            let most = (self.nodes.len() - 1) / 2;
            let mut draw = self.seed.draw(
                Purpose::Damage,
                seat as u64,
                (incarnation << 8) | fault as u64,
            );
            let strikes = draw.percent(self.fates.dials.scale(fault, 60));
            let (place, is_spared) = (Place::Node(seat), impaired.count() >= most);
            if !is_spared && self.fates.allow(fault, place, incarnation, strikes) {
                let node = &mut self.nodes[seat];
                if node.disk.borrow_mut().damage(fault, &mut draw) {
                    self.fates.note(fault, place, incarnation);
                    node.impaired = true;
                }
            }
        }
    }

    /// D11: a write or its sync failed, and the process ends at once, as it must.
    pub(super) fn gives_up(&mut self, seat: usize) {
        let downtime = self.downtime(seat, 1 << 39);
        self.marking.failed(seat);
        self.end_process(seat, false, Some(downtime));
    }

    /// D12: a start found no room on its disk. It ends, and is tried again once there is some.
    fn has_no_room(&mut self, seat: usize) {
        let disk = &self.nodes[seat].disk;
        let job = disk.borrow_mut().take_job();
        disk.borrow_mut().complete(job);
        let downtime = self.downtime(seat, 1 << 40);
        self.end_process(seat, false, Some(downtime));
    }

    pub(super) fn crash_for_a_while(&mut self, seat: usize) {
        let downtime = self.downtime(seat, 1 << 32);
        self.crash(seat, Some(downtime));
    }

    /// How long the process that ends now stays away; `why` keeps its draws apart.
    fn downtime(&self, seat: usize, why: u64) -> Duration {
        let incarnation = self.nodes[seat].incarnation;
        let mut draw = self
            .seed
            .draw(Purpose::Fault, why | seat as u64, incarnation);
        process::downtime(self.options.unit(), &mut draw)
    }
}
