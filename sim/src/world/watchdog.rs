//! Leaders that should not lead any more (SIMULATION.md V8).

use quorate_core::Term;

use super::World;
use crate::check::Verdict;
use crate::check::leadership::{Lead, deposed, stalled};
use crate::clock::Time;
use crate::event::Event;
use crate::fault::{Counters, Fault};

/// What is remembered of who leads, and of whom they hear.
#[derive(Clone, Debug)]
pub(crate) struct Watchdog {
    seats: Vec<Seat>,
    /// How often what keeps others from leading had happened at the last look.
    disturbances: u64,
    /// The last look at which something was wrong but for one disk.
    disturbed: Time,
}

#[derive(Clone, Debug)]
struct Seat {
    /// In which term it leads, and since when it was seen to.
    leads: Option<(Term, Time)>,
    /// When it last heard from each of the others.
    heard: Vec<Time>,
    /// It stood still until then.
    still: Time,
    /// The write it was seen at, and since when.
    writing: Option<(u64, Time)>,
    /// The last look at which nobody else held all of its log: leadership is handed to who does.
    ahead: Time,
}

impl Watchdog {
    pub(super) fn new(seats: usize) -> Self {
        let seat = Seat {
            leads: None,
            heard: vec![Time(0); seats],
            still: Time(0),
            writing: None,
            ahead: Time(0),
        };
        Self {
            seats: vec![seat; seats],
            disturbances: 0,
            disturbed: Time(0),
        }
    }

    /// A message of `from` reaches `seat`.
    pub(super) fn hears(&mut self, now: Time, seat: usize, from: usize) {
        self.seats[seat].heard[from] = now;
    }

    /// C7: a timer of `seat` fires late.
    pub(super) fn oversleeps(&mut self, seat: usize, until: Time) {
        let still = &mut self.seats[seat].still;
        *still = (*still).max(until);
    }

    /// A process starts.
    pub(super) fn starts(&mut self, seat: usize) {
        self.seats[seat].leads = None;
        self.seats[seat].writing = None;
    }
}

impl World {
    /// Looks at all who lead.
    pub(super) fn watch_over(&mut self) -> Verdict {
        let unit = self.options.unit();
        if self.heal.is_some() || !self.checks.are_on() {
            // The event itself happens, looked at or not.
            self.queue.push(self.now + unit / 4, Event::Watchdog);
            return Ok(());
        }
        self.look_at_disturbances();
        for seat in 0..self.nodes.len() {
            self.look_at(seat);
            if let Some(process) = self.nodes[seat].process() {
                self.checks.watches_meet(seat, &process.replica)?;
            }
            let state = &self.watchdog.seats[seat];
            let Some((term, since)) = state.leads else {
                continue;
            };
            let lead = Lead {
                seat,
                term,
                since: since.max(state.still),
            };
            let mut heard = state.heard.clone();
            heard[seat] = self.now;
            deposed(self.now, lead, &heard, unit)?;
            let hangs = state.writing.map(|(_, since)| since);
            let disturbed = self.watchdog.disturbed.max(state.ahead);
            stalled(self.now, lead, hangs, disturbed, unit)?;
        }
        self.queue.push(self.now + unit / 4, Event::Watchdog);
        Ok(())
    }

    fn look_at(&mut self, seat: usize) {
        let lasts = self.nodes.iter().map(|node| {
            let process = node.process()?;
            Some(process.replica.raft().last().index)
        });
        let lasts: Vec<_> = lasts.collect();
        let mut others = lasts.iter().enumerate().filter(|(other, _)| *other != seat);
        let is_ahead = others.all(|(_, last)| *last < lasts[seat]);
        let node = &self.nodes[seat];
        let state = &mut self.watchdog.seats[seat];
        state.still = state.still.max(node.paused_until);
        if is_ahead {
            state.ahead = self.now;
        }
        let process = node.process();
        let leads = process
            .map(|process| process.replica.raft())
            .filter(|raft| raft.is_leader())
            .map(|raft| raft.hard_state().term);
        if leads != state.leads.map(|(term, _)| term) {
            state.leads = leads.map(|term| (term, self.now));
        }
        let writing = process.and_then(|process| process.writing.as_ref());
        let writing = writing.map(|writing| writing.number);
        if writing != state.writing.map(|(number, _)| number) {
            state.writing = writing.map(|number| (number, self.now));
        }
    }

    /// Whether all are well, but for at most one disk that hangs.
    fn look_at_disturbances(&mut self) {
        let disturbances = disturbances(&self.fates.counters);
        let hangs = |seat: &usize| {
            let writing = self.watchdog.seats[*seat].writing;
            writing.is_some_and(|(_, since)| self.now.since(since) > self.options.unit() / 4)
        };
        let well = |seat: usize| {
            let node = &self.nodes[seat];
            node.paused_until <= self.now && node.process().is_some_and(|process| !process.stopping)
        };
        let seats = 0..self.nodes.len();
        let wrong = disturbances != self.watchdog.disturbances
            || self.network.is_disturbed(self.now)
            || seats.clone().filter(hangs).count() > 1
            || !seats.clone().all(well)
            // Who is alone can hand over to nobody.
            || seats.len() < 2;
        self.watchdog.disturbances = disturbances;
        if wrong {
            self.watchdog.disturbed = self.now;
        }
    }
}

/// How often those faults have happened that can keep others from leading.
fn disturbances(counters: &Counters) -> u64 {
    let harmless = [
        Fault::D2,
        Fault::C1,
        Fault::C2,
        Fault::C3,
        Fault::P7,
        Fault::K2,
        Fault::K3,
        Fault::K9,
        Fault::K1,
        Fault::K4,
        Fault::K5,
        Fault::K6,
        Fault::K7,
        Fault::K8,
        Fault::N3,
    ];
    let harmless: u64 = harmless.iter().map(|&fault| counters.of(fault)).sum();
    counters.total() - harmless
}
