//! A failing plan made small (SIMULATION.md §9): less of everything, as long as the same property
//! fails.
//!
//! Whole kinds of faults go first, then nodes, clients, single faults, single operations, and at
//! last what knobs are turned to. A change that is kept ends the run where it fails now, which may
//! make room for the next one; so it goes round until nothing can go or the time is over.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use quorate_core::Config;
use quorate_core::store::Settings;

use crate::clock::Time;
use crate::fault::{Dials, Fault};
use crate::options::longest_election;
use crate::plan::{End, Knobs, Plan};
use crate::run::{Failure, Look, run_plan};

/// A plan that is being made smaller.
#[derive(Debug)]
pub struct Shrink {
    /// The smallest plan so far that fails.
    pub plan: Plan,
    /// How it fails.
    pub failure: Failure,
    /// How many plans were tried.
    pub tries: u64,
    end: Instant,
}

/// What may be tried: a smaller plan, or nothing.
type Candidates = Vec<Plan>;

impl Shrink {
    /// About to make `plan` smaller, within `limit`; `None` where it holds.
    #[must_use]
    pub fn new(plan: Plan, limit: Duration) -> Option<Self> {
        let failure = run_plan(&plan, Look::default()).failure?;
        let mut shrink = Self {
            plan,
            failure,
            tries: 1,
            end: Instant::now() + limit,
        };
        shrink.plan = shrink.cut(shrink.plan.clone(), &shrink.failure);
        shrink.watched();
        Some(shrink)
    }

    /// With disks looked at all the time, where it is seen now and then: otherwise whatever is left
    /// out moves what breaks away from the looks.
    fn watched(&mut self) {
        if self.failure.violation.id == "R11" {
            let mut plan = self.plan.clone();
            plan.knobs.fork_every = 0;
            self.take(vec![plan]);
        }
    }

    /// Makes it as small as it gets. `told` hears of each round.
    pub fn run(&mut self, told: impl Fn(&Self)) {
        loop {
            let before = size(&self.plan);
            self.without_kinds();
            self.without_nodes();
            self.without_clients();
            self.without_faults();
            self.without_operations();
            self.with_plain_knobs();
            self.sooner();
            told(self);
            if size(&self.plan) == before || self.is_over() {
                return;
            }
        }
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    /// Ends it at its failure; what comes later goes.
    fn cut(&self, mut plan: Plan, failure: &Failure) -> Plan {
        let last = match plan.end {
            End::Cut(_) => failure.time,
            End::Heal(at) if failure.time < at => failure.time,
            End::Heal(at) => {
                plan.operations.retain(|operation| operation.at <= at);
                return plan;
            }
        };
        plan.end = End::Cut(last);
        plan.operations.retain(|operation| operation.at <= last);
        plan.faults.retain(|planned| planned.at <= last);
        plan
    }

    /// Takes the first of `candidates` that fails as the plan did. Whether there was one.
    fn take(&mut self, candidates: Candidates) -> Option<usize> {
        let found = Mutex::new(None::<(usize, Failure)>);
        let (next, tries) = (AtomicUsize::new(0), AtomicU64::new(0));
        let is_found = AtomicBool::new(false);
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let id = self.failure.violation.id;
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let place = next.fetch_add(1, Ordering::Relaxed);
                        let done = is_found.load(Ordering::Relaxed) || self.is_over();
                        let Some(plan) = candidates.get(place).filter(|_| !done) else {
                            return;
                        };
                        tries.fetch_add(1, Ordering::Relaxed);
                        let failure = run_plan(plan, Look::default()).failure;
                        let Some(failure) = failure.filter(|f| f.violation.id == id) else {
                            continue;
                        };
                        is_found.store(true, Ordering::Relaxed);
                        let mut found = found.lock().expect("no thread panics with it");
                        if found.as_ref().is_none_or(|(first, _)| place < *first) {
                            *found = Some((place, failure));
                        }
                    }
                });
            }
        });
        self.tries += tries.into_inner();
        let (place, failure) = found.into_inner().expect("no thread panics with it")?;
        self.plan = self.cut(candidates[place].clone(), &failure);
        self.failure = failure;
        Some(place)
    }

    /// Without any fault, or without one kind of them.
    fn without_kinds(&mut self) {
        let mut none = self.plan.clone();
        none.faults.clear();
        none.knobs.dials = Dials::off();
        if self.take(vec![none]).is_some() {
            return;
        }
        loop {
            let kinds: BTreeSet<Fault> = self.plan.faults.iter().map(|f| f.fault.fault).collect();
            let candidates = kinds.iter().map(|&kind| {
                let mut plan = self.plan.clone();
                plan.faults.retain(|planned| planned.fault.fault != kind);
                plan.knobs.dials.set(kind, 0);
                plan
            });
            let candidates: Candidates = candidates.collect();
            if self.take(candidates).is_none() {
                return;
            }
        }
    }

    fn without_nodes(&mut self) {
        while self.plan.knobs.members > 1 {
            let seats = 0..self.plan.knobs.members;
            let candidates = seats.rev().map(|seat| without_node(&self.plan, seat));
            let candidates: Candidates = candidates.collect();
            if self.take(candidates).is_none() {
                return;
            }
        }
    }

    fn without_clients(&mut self) {
        loop {
            let clients: BTreeSet<usize> = self.plan.operations.iter().map(|o| o.client).collect();
            let candidates = clients.iter().map(|&client| {
                let mut plan = self.plan.clone();
                plan.operations
                    .retain(|operation| operation.client != client);
                plan
            });
            let candidates: Candidates = candidates.collect();
            if self.take(candidates).is_none() {
                return;
            }
        }
    }

    fn without_faults(&mut self) {
        self.without(
            |plan| plan.faults.len(),
            |plan, range| drop(plan.faults.drain(range)),
        );
    }

    fn without_operations(&mut self) {
        self.without(
            |plan| plan.operations.len(),
            |plan, range| drop(plan.operations.drain(range)),
        );
    }

    /// Delta debugging: without pieces of a list, large ones first.
    fn without(&mut self, len: fn(&Plan) -> usize, drain: fn(&mut Plan, std::ops::Range<usize>)) {
        let mut piece = len(&self.plan).div_ceil(2);
        while piece > 0 {
            // From the end: what comes last matters least to what comes before.
            let mut end = len(&self.plan);
            while end > 0 && !self.is_over() {
                let starts: Vec<usize> = (0..4)
                    .map_while(|n| {
                        (end > n * piece).then(|| (end - n * piece).saturating_sub(piece))
                    })
                    .collect();
                let candidates = starts.iter().enumerate().map(|(n, &start)| {
                    let mut plan = self.plan.clone();
                    drain(&mut plan, start..end - n * piece);
                    plan
                });
                let candidates: Candidates = candidates.collect();
                end = match self.take(candidates) {
                    Some(place) => starts[place].min(len(&self.plan)),
                    None => starts.last().copied().unwrap_or(0),
                };
            }
            piece = if piece == 1 { 0 } else { piece.div_ceil(2) };
        }
    }

    /// All of it earlier, by what passes before anything happens.
    fn sooner(&mut self) {
        loop {
            let faults = self.plan.faults.iter().map(|planned| planned.at);
            let operations = self.plan.operations.iter().map(|operation| operation.at);
            let first = faults.chain(operations).filter(|at| at.0 > 0).min();
            let waits = first.map_or(0, |first| first.0);
            let candidates = [waits, waits / 2, waits / 4].into_iter();
            let candidates = candidates.filter(|&by| by > 10_000_000);
            let candidates: Candidates = candidates.map(|by| shifted(&self.plan, by)).collect();
            if self.take(candidates).is_none() {
                return;
            }
        }
    }

    /// As they ship, one by one; and healed earlier.
    fn with_plain_knobs(&mut self) {
        for plain in PLAIN {
            let mut plan = self.plan.clone();
            plain(&mut plan.knobs);
            if plan != self.plan {
                self.take(vec![plan]);
            }
        }
        while let End::Heal(at) = self.plan.end {
            let mut plan = self.plan.clone();
            plan.end = End::Heal(Time(at.0 / 2));
            if at.0 < 1_000_000 || self.take(vec![plan]).is_none() {
                return;
            }
        }
    }
}

/// Knobs turned back.
const PLAIN: [fn(&mut Knobs); 16] = [
    |knobs| knobs.births = false,
    |knobs| knobs.turn = Duration::ZERO,
    |knobs| knobs.waits = 1,
    |knobs| knobs.segment_bytes = 65_536,
    |knobs| knobs.settings = Settings::default(),
    |knobs| knobs.patience = longest_election(&knobs.config),
    |knobs| knobs.config.batch_bytes_max = Config::default().batch_bytes_max,
    |knobs| knobs.config.batch_entries_max = Config::default().batch_entries_max,
    |knobs| knobs.config.uncommitted_bytes_max = Config::default().uncommitted_bytes_max,
    |knobs| knobs.config.proposals_max = Config::default().proposals_max,
    |knobs| knobs.config.reads_max = Config::default().reads_max,
    |knobs| knobs.config.watches_max = Config::default().watches_max,
    |knobs| knobs.config.watch_scan_max = Config::default().watch_scan_max,
    |knobs| knobs.config.history_hot_bytes = Config::default().history_hot_bytes,
    |knobs| knobs.config.expiry_batch_max = Config::default().expiry_batch_max,
    |knobs| {
        knobs.config.checkpoint_bytes = Config::default().checkpoint_bytes;
        knobs.config.log_bytes_max = Config::default().log_bytes_max;
    },
];

/// `plan`, all of it by so many nanoseconds earlier. What is there from the beginning stays there.
fn shifted(plan: &Plan, by: u64) -> Plan {
    let mut plan = plan.clone();
    let sooner = |at: Time| Time(at.0.saturating_sub(by));
    plan.faults
        .iter_mut()
        .for_each(|planned| planned.at = sooner(planned.at));
    let operations = plan.operations.iter_mut();
    operations.for_each(|operation| operation.at = sooner(operation.at));
    plan.end = match plan.end {
        End::Heal(at) => End::Heal(sooner(at)),
        End::Cut(at) => End::Cut(at),
    };
    plan
}

/// `plan` for a cluster that lacks one node.
fn without_node(plan: &Plan, gone: usize) -> Plan {
    let mut plan = plan.clone();
    plan.knobs.members -= 1;
    plan.faults = plan
        .faults
        .into_iter()
        .filter_map(|mut planned| {
            planned.fault.place = planned.fault.place.without(gone)?;
            Some(planned)
        })
        .collect();
    for operation in &mut plan.operations {
        let seat = operation.wanted.seat;
        operation.wanted.seat = match seat {
            seat if seat == gone => 0,
            seat => seat - usize::from(seat > gone),
        };
    }
    plan
}

/// What is to become less.
fn size(plan: &Plan) -> (usize, usize, usize, End) {
    let Plan {
        knobs,
        faults,
        operations,
        end,
        ..
    } = plan;
    (knobs.members, faults.len(), operations.len(), *end)
}
