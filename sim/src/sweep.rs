//! Many seeds on all processors.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::check::blackbox::Tally;
use crate::fault::{Counters, kinds};
use crate::mark::{Marks, Reach, SEEDS};
use crate::options::{Profile, Run};
use crate::run::{Failure, Look, Report, run};

/// What came of a sweep.
#[derive(Debug, Default)]
pub struct Totals {
    /// Seeds that held.
    pub passed: u64,
    /// Seeds that did not.
    pub failed: u64,
    /// Events.
    pub steps: u64,
    /// True time in all of them.
    pub simulated: Duration,
    /// Real time on all threads.
    pub real: Duration,
    /// Client operations.
    pub operations: u64,
    /// Entries committed.
    pub entries: u64,
    /// Snapshots installed.
    pub snapshots: u64,
    /// What was judged from outside.
    pub tally: Tally,
    /// Faults.
    pub counters: Counters,
    /// Rare situations.
    pub marks: Marks,
}

impl Totals {
    /// Adds a run that took `real`.
    pub fn add(&mut self, report: &Report, real: Duration) {
        match report.failure {
            None => self.passed += 1,
            Some(_) => self.failed += 1,
        }
        self.steps += report.steps;
        self.simulated += report.simulated;
        self.real += real;
        self.operations += report.operations;
        self.entries += report.ledger.last().0;
        self.snapshots += report.snapshots;
        self.tally.add(report.tally);
        self.counters.add(&report.counters);
        self.marks.merge(&report.marks);
    }

    /// What so many seeds of the default mix must have reached, and did not: marks and faults, by
    /// name. Nothing where there were too few.
    #[must_use]
    pub fn lacking(&self) -> Vec<String> {
        if self.passed + self.failed < SEEDS {
            return Vec::new();
        }
        let marks = self.marks.missing(Reach::Due).into_iter();
        let faults = kinds().filter(|kind| self.counters.of(kind.fault) == 0);
        let faults = faults.map(|kind| kind.fault.to_string());
        marks.map(str::to_owned).chain(faults).collect()
    }

    /// True time over real time, on one thread.
    #[must_use]
    pub const fn speed(&self) -> u128 {
        let real = self.real.as_micros();
        self.simulated.as_micros() / if real == 0 { 1 } else { real }
    }

    /// Client operations in a second of real time, on one thread.
    #[must_use]
    pub fn rate(&self) -> u128 {
        u128::from(self.operations) * 1_000_000 / self.real.as_micros().max(1)
    }
}

/// Runs the seeds `from..from + seeds` of `profile` on all processors; of all profiles in turn,
/// four fifths of them of the swarm, where none is named. `failed` is told of each failure, with
/// lines; the first one ends it, where `fail_fast` says so. `told` hears of each seed that is done.
pub fn sweep(
    profile: Option<Profile>,
    from: u64,
    seeds: u64,
    fail_fast: bool,
    failed: impl Fn(&Failure) + Sync,
    told: impl Fn(&Totals) + Sync,
) -> Totals {
    let next = AtomicU64::new(from);
    let totals = Mutex::new(Totals::default());
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds {
                        return;
                    }
                    let profile = profile.unwrap_or_else(|| usual(seed));
                    let begun = Instant::now();
                    let report = run(Run { profile, seed }, Look::default());
                    let real = begun.elapsed();
                    if let Some(failure) = &report.failure {
                        if fail_fast {
                            next.store(from + seeds, Ordering::Relaxed);
                        }
                        failed(&explained(failure));
                    }
                    let mut totals = totals.lock().expect("no thread panics with it");
                    totals.add(&report, real);
                    told(&totals);
                }
            });
        }
    });
    totals.into_inner().expect("no thread panics with it")
}

/// Runs a failed seed once more, with lines.
#[must_use]
pub fn explained(failure: &Failure) -> Failure {
    let look = Look {
        lines: true,
        ..Look::default()
    };
    let again = run(failure.run, look).failure;
    again.unwrap_or_else(|| Failure {
        violation: crate::check::Violation::new(
            "X1",
            &[],
            format!("it failed once and not again: {}", failure.violation),
        ),
        step: failure.step,
        time: failure.time,
        header: failure.header.clone(),
        lines: Vec::new(),
        replay: failure.replay.clone(),
        run: failure.run,
    })
}

/// The profile of a seed where none is named.
#[must_use]
pub fn usual(seed: u64) -> Profile {
    let directed = &Profile::ALL[1..];
    match (seed % 5, usize::try_from(seed / 5)) {
        (4, Ok(turn)) => directed[turn % directed.len()],
        (_, _) => Profile::Swarm,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;
    use crate::mark::{Mark, TABLE};

    #[test]
    fn a_sweep_of_enough_seeds_must_have_seen_every_mark_and_fault() {
        let mut totals = Totals {
            passed: SEEDS - 1,
            ..Totals::default()
        };
        for row in TABLE.iter().filter(|row| row.mark != Mark::TwoLeaders) {
            totals.marks.add_if(row.reach == Reach::Due, row.mark);
        }
        for kind in kinds().filter(|kind| kind.fault != Fault::D10) {
            totals.counters.count(kind.fault);
        }
        assert_eq!(totals.lacking(), [] as [&str; 0], "too few to tell");
        totals.failed = 1;
        assert_eq!(totals.lacking(), ["two-leaders", "D10"]);
    }
}
