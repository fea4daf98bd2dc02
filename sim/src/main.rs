//! The command line: `quorate-sim run <profile>:<seed>`, `quorate-sim sweep`.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use quorate_sim::check::determinism;
use quorate_sim::options::{Options, Profile, Run};
use quorate_sim::run::{Look, Report, run};
use quorate_sim::sweep::{Totals, explained, sweep};

/// A whole quorate cluster in one thread, from one seed.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs one seed, twice, and says what came of it.
    Run {
        /// `<profile>:<seed>`; a number alone is a seed of the swarm.
        run: Run,
        /// Print the hash of the trace, alone on the last line.
        #[arg(long)]
        hash: bool,
        /// Print what happened, line by line.
        #[arg(long)]
        trace: bool,
        /// Only lines of this node.
        #[arg(long)]
        node: Option<usize>,
        /// Stop after so many steps.
        #[arg(long)]
        until: Option<u64>,
    },
    /// Runs many seeds on all processors.
    Sweep {
        /// How many.
        #[arg(long, default_value_t = 1_000)]
        seeds: u64,
        /// The first.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Stop at the first failure.
        #[arg(long)]
        fail_fast: bool,
        /// Only this profile.
        #[arg(long)]
        profile: Option<Profile>,
    },
}

fn main() -> ExitCode {
    let mut out = io::stdout().lock();
    let done = match Arguments::parse().command {
        Command::Run {
            run,
            hash,
            trace,
            node,
            until,
        } => {
            let look = Look {
                checks: true,
                lines: trace,
                until,
            };
            run_one(&mut out, run, look, hash, node)
        }
        Command::Sweep {
            seeds,
            from,
            profile,
            fail_fast,
        } => {
            drop(out);
            out = io::stdout().lock();
            run_many(&mut out, profile, from, seeds, fail_fast)
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "cannot write: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_one(
    out: &mut impl Write,
    name: Run,
    look: Look,
    hash: bool,
    node: Option<usize>,
) -> io::Result<bool> {
    writeln!(out, "{}", Options::new(name))?;
    let begun = Instant::now();
    let report = run(name, look);
    let real = begun.elapsed();
    if look.lines {
        let nodes: Vec<usize> = node.into_iter().collect();
        for line in report.log.last(&nodes, usize::MAX) {
            writeln!(out, "{line}")?;
        }
    }
    figures(out, &report, real)?;
    let mut passed = report.failure.is_none();
    if let Some(failure) = &report.failure {
        writeln!(
            out,
            "{}",
            if look.until.is_none() {
                explained(failure)
            } else {
                again(name, look)
            }
        )?;
    } else if look.until.is_none() {
        let second = run(name, Look::default());
        if let Err(violation) = determinism::equal(report.hash, second.hash) {
            writeln!(out, "{violation}")?;
            passed = false;
        }
    }
    if hash {
        writeln!(out, "{:032x}", report.hash)?;
    }
    Ok(passed)
}

fn again(name: Run, look: Look) -> quorate_sim::run::Failure {
    run(
        name,
        Look {
            lines: true,
            ..look
        },
    )
    .failure
    .expect("it failed a moment ago")
}

fn figures(out: &mut impl Write, report: &Report, real: Duration) -> io::Result<()> {
    let mut totals = Totals::default();
    totals.add(report, real);
    writeln!(out, "faults injected: {}", report.counters)?;
    writeln!(out, "{}", totals.tally)?;
    speed(out, &totals)
}

fn speed(out: &mut impl Write, totals: &Totals) -> io::Result<()> {
    writeln!(
        out,
        "{} steps, {} entries, {} operations, {} snapshots, {} faults in {:.1?} simulated, {:.2?} \
         real: {} times real time, {} operations/s a core",
        totals.steps,
        totals.entries,
        totals.operations,
        totals.snapshots,
        totals.counters.total(),
        totals.simulated,
        totals.real,
        totals.speed(),
        totals.rate(),
    )
}

fn run_many(
    out: &mut impl Write,
    profile: Option<Profile>,
    from: u64,
    seeds: u64,
    fail_fast: bool,
) -> io::Result<bool> {
    let totals = sweep(profile, from, seeds, fail_fast, |failure| {
        let _ = writeln!(io::stderr(), "{failure}\n");
    });
    writeln!(out, "faults injected: {}", totals.counters)?;
    writeln!(out, "{}", totals.tally)?;
    speed(out, &totals)?;
    writeln!(
        out,
        "{} seeds passed, {} failed",
        totals.passed, totals.failed
    )?;
    Ok(totals.failed == 0 && totals.tally.is_decided())
}
