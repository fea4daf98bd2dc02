//! Virtual time, one heap of events, and all that they happen to.
//!
//! The loop is here; what an event does is in the file of what it concerns. The end of a run is in
//! [`heal`](crate::heal).

mod jobs;
mod lifecycle;
mod marking;
mod members;
mod requests;
mod seen;
mod snapshots;
mod streams;
mod strikes;
mod watchdog;

pub(crate) use strikes::KILLS;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use quorate_core::store::{ClientRequest, Command, Operation, Path};
use quorate_core::wal::WalLimits;
use quorate_core::{BirthRecord, Input, NodeId};

use crate::birth::Founded;
use crate::check::blackbox::{Clocks, History, Tally, judge};
use crate::check::linearizability::Asked;
use crate::check::{Checks, Verdict, Violation};
use crate::client::Client;
use crate::clock::{BEGINNING, Clock, Time, grain};
use crate::disk::{Pace, SimFiles};
use crate::event::Event;
use crate::fates::{Fates, Place};
use crate::fault::{Fault, kinds};
use crate::heal::Heal;
use crate::log::Log;
use crate::network::Network;
use crate::node::{Node, birth};
use crate::options::{Options, Profile};
use crate::plan::{End, Plan, PlannedFault, PlannedOperation, Script, occasions};
use crate::queue::Queue;
use crate::rng::{Purpose, Seed};
use crate::scene::Scene;
use crate::snapshot::Parcel;
use crate::tables::read_slice;
use crate::trace::Trace;
use marking::Marking;
use snapshots::Transfer;
use watchdog::Watchdog;

/// A run that takes more steps than this goes round in circles.
const STEPS_MAX: u64 = 20_000_000;

/// What decides about faults and operations.
#[derive(Clone, Copy, Debug)]
pub enum Course<'a> {
    /// Chance.
    Chance,
    /// Chance, and it is noted for a plan.
    Noted,
    /// A plan.
    Planned(&'a Plan),
}

/// A cluster, its clients, and everything between them.
#[derive(Debug)]
pub struct World {
    pub(crate) seed: Seed,
    /// The knobs.
    pub options: Options,
    /// The faults that happen.
    pub fates: Fates,
    pub(crate) birth: BirthRecord,
    pub(crate) limits: WalLimits,
    /// True time.
    pub now: Time,
    pub(crate) queue: Queue<Event>,
    /// What happened.
    pub trace: Trace,
    pub(crate) network: Network,
    pub(crate) nodes: Vec<Node>,
    /// P6: the last node is slow.
    ponders: bool,
    /// The clients; the last one only configures and probes.
    pub(crate) clients: Vec<Client>,
    paths: Vec<Path>,
    /// What must hold.
    pub checks: Checks,
    /// What clients asked and were told.
    pub(crate) history: History,
    /// How much of it was judged.
    pub tally: Tally,
    /// Operations begun.
    pub issued: u64,
    watches: u64,
    /// Snapshots sent, or come again.
    snapshots: u64,
    /// Snapshots that took the place of tables.
    pub installed: u64,
    transfers: BTreeMap<u64, Transfer>,
    /// Those that will come again.
    parcels: Vec<Rc<Parcel>>,
    watchdog: Watchdog,
    /// Rare situations.
    pub(crate) marking: Marking,
    pub(crate) heal: Option<Heal>,
    pub(crate) finished: bool,
    /// What it follows, where it was planned.
    script: Option<Script>,
    /// What clients began, where a plan is to be made of it.
    begun: Option<Vec<PlannedOperation>>,
    /// When chaos ended.
    healed: Option<Time>,
    /// Lines for people, if anyone reads them.
    pub log: Log,
    /// What is seen, if anyone looks.
    pub scene: Scene,
}

impl World {
    /// The world of a run, about to begin.
    #[must_use]
    pub fn new(options: Options, course: Course<'_>, checks: bool, log: Log) -> Self {
        let seed = Seed::new(options.run.seed);
        let members = options.members;
        let birth = birth(members);
        let limits = WalLimits {
            segment_bytes: options.segment_bytes,
            ready_segments: 1,
            spare_segments: 1,
        };
        let dials = options.dials.clone();
        let mut fates = match course {
            Course::Chance | Course::Noted => Fates::of_chance(dials),
            Course::Planned(plan) => Fates::planned(dials, occasions(plan)),
        };
        let begun = matches!(course, Course::Noted).then(Vec::new);
        if begun.is_some() {
            fates.remember();
        }
        let slow = seed.draw(Purpose::DiskLatency, u64::MAX, 0).place(members);
        let ids: Vec<NodeId> = birth.nodes().map(|(id, _)| id).collect();
        let nodes = ids.iter().enumerate().map(|(seat, &id)| {
            let mut draw = seed.draw(Purpose::Clock, seat as u64, 0);
            let clock = Clock::new(Time(0), fates.at(Place::Node(seat), BEGINNING), &mut draw);
            let slow = options.dials.on(Fault::D15) && seat == slow;
            let slow = fates.strikes(Fault::D15, Place::Node(seat), 0, slow);
            let mut draw = seed.draw(Purpose::DiskLatency, seat as u64, 0);
            Node::formatted(id, clock, Pace::new(slow, &mut draw), limits)
        });
        let nodes: Vec<Node> = nodes.collect();
        // P6: one node thinks slowly, and so takes in much at a time.
        let ponders = Place::Node(members - 1);
        let ponders = fates.strikes(Fault::P6, ponders, 0, options.dials.on(Fault::P6));
        let mut world = Self {
            seed,
            limits,
            now: Time(0),
            queue: Queue::new(),
            trace: Trace::new(),
            network: Network::new(seed, members, &mut fates, options.unit()),
            nodes,
            ponders,
            clients: (0..=options.clients)
                .map(|n| Client::new(n, &options))
                .collect(),
            paths: options.mix.paths(seed),
            checks: Checks::new(
                checks,
                birth.configuration(),
                grain(&options.dials),
                options.config.clone(),
            ),
            fates,
            history: History::new(checks, &options.settings),
            tally: Tally::default(),
            issued: 0,
            watches: 0,
            snapshots: 0,
            installed: 0,
            transfers: BTreeMap::new(),
            parcels: Vec::new(),
            watchdog: Watchdog::new(members),
            marking: Marking::new(members),
            heal: None,
            finished: false,
            script: match course {
                Course::Planned(plan) => Some(Script::new(plan)),
                Course::Chance | Course::Noted => None,
            },
            begun,
            healed: None,
            log,
            scene: Scene::Off,
            birth,
            options,
        };
        if world.options.dials.on(Fault::C4) {
            world.checks.distrust_clocks();
        }
        world.begin();
        world
    }

    /// Runs until the end, or until something does not hold.
    ///
    /// # Errors
    /// What does not hold.
    pub fn run(&mut self, until: Option<u64>) -> Verdict {
        if self.trace.steps() == 0 {
            let births = self.options.births;
            let (founded, verdict) = match births {
                true => crate::birth::found(self.seed, &mut self.marking.marks),
                false => (Founded::default(), Ok(())),
            };
            let events = founded.events;
            (0..founded.returned).for_each(|_| self.fates.count(Fault::P8));
            self.trace.event(self.now, 105, 0, events);
            if self.checks.are_on() {
                verdict?;
            }
        }
        let goes_on = |world: &Self| {
            !world.finished
                && world.scene.goes_on(world.now)
                && until.is_none_or(|until| world.trace.steps() < until)
        };
        while goes_on(self) {
            self.step()?;
        }
        self.judge()
    }

    /// What clients were told must make sense by itself.
    fn judge(&mut self) -> Verdict {
        if self.options.dials.on(Fault::C4) {
            // Nobody knows when anything may expire.
            return Ok(());
        }
        let clocks = Clocks::new(grain(&self.options.dials), &self.checks.ledger);
        let whole = self.options.run.profile == Profile::Whole;
        let changes = self.checks.model.changes();
        judge(&self.history, &clocks, changes, whole, &mut self.tally)
    }

    /// The next event.
    fn step(&mut self) -> Verdict {
        let Some((time, event)) = self.queue.pop() else {
            return Err(Violation::new(
                "V1",
                &[],
                "nothing will ever happen again".to_owned(),
            ));
        };
        if self.trace.steps() > STEPS_MAX {
            let what = format!("{} steps and no end", self.trace.steps());
            return Err(Violation::new("V1", &[], what));
        }
        assert!(time >= self.now, "time goes back");
        if self.heal.is_some() && event.is_of_chaos() {
            return Ok(());
        }
        self.now = time;
        self.fates.now = time;
        // P5: what is meant for a node that stands still waits, in order.
        if let Some(seat) = event.seat()
            && self.nodes[seat].paused_until > time
        {
            let until = self.nodes[seat].paused_until;
            self.queue.push(until, event);
            return Ok(());
        }
        // What strikes in vain does not stand in a plan: what it does otherwise tells of it.
        if !event.is_strike() {
            let (kind, place) = event.place();
            self.trace.event(time, kind, place, event.payload());
        }
        self.scene.begins(time, self.trace.steps(), &event);
        let seat = event.seat();
        let verdict = self.handle(event);
        self.mark_standing(seat);
        self.see();
        verdict
    }

    fn begin(&mut self) {
        for seat in 0..self.nodes.len() {
            self.queue.push(Time(0), Event::Start { seat });
        }
        match self.script.take() {
            None => self.begin_by_chance(),
            Some(script) => self.begin_by_plan(script),
        }
        self.schedule_fork(0);
        self.queue.push(Time(0), Event::Watchdog);
        // Named, so that it is asked for until it is done.
        let configure = Command {
            client: Some(ClientRequest::Opaque("settings".into())),
            operation: Operation::Configure(self.options.settings.clone()),
        };
        self.ask_apart(Asked::Write(configure.into()), 0);
    }

    fn begin_by_chance(&mut self) {
        for client in 0..self.options.clients {
            self.queue.push(Time(0), Event::Begin { client });
        }
        for (number, kind) in kinds().enumerate() {
            if kind.gap > 0 && self.fates.dials.on(kind.fault) {
                self.schedule_strike(number, 0);
            }
        }
        if self.options.run.profile == Profile::LeaderKiller {
            let at = Time(0) + self.options.unit() * 2;
            self.queue.push(at, Event::KillLeader { count: 0 });
        }
    }

    fn begin_by_plan(&mut self, script: Script) {
        for (&client, operations) in &script.operations {
            if let Some(first) = operations.front() {
                self.queue.push(first.at, Event::Begin { client });
            }
        }
        for &(at, number, count) in &script.strikes {
            self.queue.push(at, Event::Strike { number, count });
        }
        for &(at, count) in &script.kills {
            self.queue.push(at, Event::KillLeader { count });
        }
        let (at, end) = match script.end {
            End::Heal(at) => (at, Event::Heal),
            End::Cut(at) => (at, Event::Cut),
        };
        self.queue.push(at, end);
        self.script = Some(script);
    }

    /// A plan of what happened so far.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let end = self.healed.map_or(End::Cut(self.now), End::Heal);
        let faults = self.fates.happened().iter();
        let faults = faults.map(|&(at, fault)| PlannedFault { at, fault });
        let operations = self.begun.clone().unwrap_or_default();
        Plan::new(&self.options, end, faults.collect(), operations)
    }

    fn handle(&mut self, event: Event) -> Verdict {
        match event {
            Event::Deliver {
                to,
                from,
                kind,
                packet,
                sent,
            } => self.deliver(to, from, kind, &packet, sent),
            Event::Alarm { seat, number } => self.alarm(seat, number),
            Event::Turn { seat, incarnation } => self.turn_of(seat, incarnation),
            Event::LogDone {
                seat,
                incarnation,
                job,
            } => self.log_done(seat, incarnation, job),
            Event::LogRetry { seat, incarnation } => {
                if self.is(seat, incarnation) {
                    self.kick_log(seat)
                } else {
                    Ok(())
                }
            }
            Event::CheckpointDone { seat, incarnation } => self.checkpoint_done(seat, incarnation),
            Event::SliceRead {
                seat,
                incarnation,
                slice,
            } => {
                if !self.is(seat, incarnation) {
                    return Ok(());
                }
                let files = SimFiles::new(self.nodes[seat].disk.clone());
                let events = read_slice(&files, slice);
                self.input(seat, Input::HistoryRead { slice, events })
            }
            Event::Piece { transfer } => self.piece(transfer),
            Event::SnapshotStored {
                seat,
                incarnation,
                number,
            } => self.snapshot_stored(seat, incarnation, number),
            Event::SnapshotTold {
                seat,
                incarnation,
                peer,
                last,
                delivered,
            } => self.snapshot_told(seat, incarnation, peer, last, delivered),
            Event::SnapshotAgain { seat, parcel } => self.snapshot_again(seat, parcel),
            Event::Switched { seat, incarnation } => self.switched(seat, incarnation),
            Event::Watchdog => self.watch_over(),
            Event::Cancel {
                seat,
                incarnation,
                request,
            } => self.cancel(seat, incarnation, request),
            Event::Start { seat } => self.start(seat),
            Event::Started { seat, incarnation } => self.started(seat, incarnation),
            Event::FailStart { seat, incarnation } => {
                if self.nodes[seat].incarnation == incarnation {
                    self.crash(seat, Some(Duration::from_millis(1)));
                }
                Ok(())
            }
            Event::Burn { seat, incarnation } => {
                if self.is(seat, incarnation) && self.heal.is_none() {
                    self.fates.count(Fault::P2);
                    self.crash_for_a_while(seat);
                }
                Ok(())
            }
            Event::Stopped { seat, incarnation } => {
                if self.is(seat, incarnation) && self.heal.is_none() {
                    self.crash_for_a_while(seat);
                }
                Ok(())
            }
            Event::GaveUp { seat, peer } => {
                let peer = self.nodes[peer].id;
                self.input(seat, Input::Unreachable { peer })
            }
            Event::Strike { number, count } => self.strike(number, count),
            Event::KillLeader { count } => self.kill_leader(count),
            Event::Unfull { seat } => {
                self.nodes[seat].disk.borrow_mut().set_full(false);
                Ok(())
            }
            Event::Begin { client } => self.client_begins(client),
            Event::Arrive {
                client,
                operation,
                attempt,
            } => self.arrive(client, operation, attempt),
            Event::Answer {
                client,
                operation,
                attempt,
                result,
            } => self.answer(client, operation, attempt, &result),
            Event::Lose {
                client,
                operation,
                attempt,
            } => self.lose(client, operation, attempt, false),
            Event::Timeout {
                client,
                operation,
                attempt,
            } => self.lose(client, operation, attempt, true),
            Event::Open { client, stream } => self.open_stream(client, stream),
            Event::Credit {
                client,
                stream,
                watch,
            } => self.grant(client, stream, watch),
            Event::Fork { count } => self.fork(count),
            Event::Heal => {
                self.healed = Some(self.now);
                self.begin_heal();
                Ok(())
            }
            Event::Cut => {
                self.finished = true;
                Ok(())
            }
            Event::Tick => self.heal_tick(),
        }
    }

    pub(crate) fn is(&self, seat: usize, incarnation: u64) -> bool {
        self.nodes[seat].incarnation == incarnation && self.nodes[seat].process().is_some()
    }

    pub(crate) fn seat_of(&self, id: NodeId) -> Option<usize> {
        self.nodes.iter().position(|node| node.id == id)
    }

    /// Who leads the latest term, of those that run.
    pub(crate) fn leader(&self) -> Option<usize> {
        let leaders = self.nodes.iter().enumerate().filter_map(|(seat, node)| {
            let raft = node.process()?.replica.raft();
            raft.is_leader().then(|| (raft.hard_state().term, seat))
        });
        leaders.max().map(|(_, seat)| seat)
    }
}
