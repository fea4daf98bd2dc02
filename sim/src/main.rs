//! The command line: `quorate-sim run <profile>:<seed>`, and `sweep`, `plan`, `shrink`, `show`,
//! `exhaust`.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use quorate_sim::check::determinism;
use quorate_sim::clock::Time;
use quorate_sim::exhaust::{Budget, Operations, search};
use quorate_sim::fault::NOT_YET;
use quorate_sim::options::{Options, Profile, Run};
use quorate_sim::picture;
use quorate_sim::plan::Plan;
use quorate_sim::run::{Failure, Look, Report, planned, replay, run_plan, run_with};
use quorate_sim::scene::Span;
use quorate_sim::shrink::Shrink;
use quorate_sim::sweep::{Totals, sweep};

/// A whole quorate cluster in one thread, from one seed.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// What to run.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// `<profile>:<seed>`; a number alone is a seed of the swarm.
    run: Option<Run>,
    /// A plan that was written before.
    #[arg(long)]
    plan: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs one seed, or a plan, twice, and says what came of it.
    Run {
        #[command(flatten)]
        what: What,
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
    /// Spells out what happens in a run, until something does not hold: knobs, faults, operations.
    Plan {
        /// `<profile>:<seed>`; a number alone is a seed of the swarm.
        run: Run,
        /// Where to write it; to the standard output, where no file is named.
        #[arg(short, long)]
        output: Option<PathBuf>,
    },
    /// Makes a failing run as small as it gets, and writes its plan.
    Shrink {
        #[command(flatten)]
        what: What,
        /// Where to write it; to the standard output, where no file is named.
        #[arg(short, long)]
        output: Option<PathBuf>,
        /// How long it may take.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Draws a picture of a run: a page with all that happened, opened where it failed.
    Show {
        #[command(flatten)]
        what: What,
        /// The page [default: `<profile>-<seed>.html`, or the plan's name].
        #[arg(short, long)]
        output: Option<PathBuf>,
        /// Stop after so many steps.
        #[arg(long)]
        until: Option<u64>,
        /// Leave out what happened before, in seconds of true time.
        #[arg(long, value_parser = moment)]
        from: Option<Time>,
        /// Stop at that time, in seconds of true time.
        #[arg(long, value_parser = moment)]
        to: Option<Time>,
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
    /// Searches all orders of a little: three members, and so much that may happen to them.
    Exhaust {
        /// Election timeouts that pass.
        #[arg(long, default_value_t = 2)]
        elections: u8,
        /// Times that a follower loses sight of its leader, and does not campaign.
        #[arg(long, default_value_t = 1)]
        lapses: u8,
        /// Crashes.
        #[arg(long, default_value_t = 1)]
        crashes: u8,
        /// Writes that are not durable at once.
        #[arg(long, default_value_t = 1)]
        slow: u8,
        /// No message is ever forgotten, whatever came of it.
        #[arg(long)]
        late: bool,
        /// Client operations in their order, a letter for each: w for a write, r for a read.
        #[arg(long, default_value = "wr")]
        operations: Operations,
        /// Entries in one append and in one write.
        #[arg(long, default_value_t = 1)]
        batch: usize,
        /// Give up after so many states, of somewhat less than a kilobyte each.
        #[arg(long, default_value_t = 10_000_000)]
        states: usize,
    },
}

fn main() -> ExitCode {
    let mut out = io::stdout().lock();
    match command(&mut out, Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Does what is asked. Whether all held.
fn command(out: &mut impl Write, command: Command) -> io::Result<bool> {
    match command {
        Command::Run {
            what,
            hash,
            trace,
            node,
            until,
        } => {
            let look = Look {
                checks: true,
                lines: trace,
                until,
                scene: None,
            };
            run_one(out, &what.read()?, look, hash, node)
        }
        Command::Plan { run, output } => {
            let (report, plan) = planned(run, Look::default());
            write_plan(out, &plan, output.as_deref())?;
            Ok(report.failure.is_none())
        }
        Command::Shrink {
            what,
            output,
            seconds,
        } => {
            let limit = Duration::from_secs(seconds);
            shrink(out, &what.read()?, output.as_deref(), limit)
        }
        Command::Show {
            what,
            output,
            until,
            from,
            to,
        } => {
            let all = Span::default();
            let span = Span {
                from: from.unwrap_or(all.from),
                to: to.unwrap_or(all.to),
            };
            let look = Look {
                until,
                scene: Some(span),
                ..Look::default()
            };
            show(out, &what.read()?, look, output)
        }
        Command::Sweep {
            seeds,
            from,
            profile,
            fail_fast,
        } => run_many(out, profile, from, seeds, fail_fast),
        Command::Exhaust {
            elections,
            lapses,
            crashes,
            slow,
            late,
            operations,
            batch,
            states,
        } => {
            let budget = Budget {
                elections,
                lapses,
                crashes,
                slow,
                late,
                operations,
                batch,
                states,
            };
            exhaust(out, budget)
        }
    }
}

/// What was asked for.
#[derive(Debug)]
enum Subject {
    Seed(Run),
    Plan(PathBuf, Box<Plan>),
}

impl What {
    fn read(&self) -> io::Result<Subject> {
        match (&self.plan, self.run) {
            (Some(path), _) => Ok(Subject::Plan(path.clone(), Box::new(read_plan(path)?))),
            (None, Some(run)) => Ok(Subject::Seed(run)),
            (None, None) => Err(io::Error::other("neither a seed nor a plan is named")),
        }
    }
}

impl Subject {
    fn options(&self) -> Options {
        match self {
            Self::Seed(run) => Options::new(*run),
            Self::Plan(_, plan) => plan.options(),
        }
    }

    fn run(&self, look: Look) -> Report {
        let mut report = match self {
            Self::Seed(run) => run_with(Options::new(*run), look),
            Self::Plan(_, plan) => run_plan(plan, look),
        };
        if let Some(failure) = &mut report.failure {
            failure.replay = self.replay();
        }
        report
    }

    /// Spelled out.
    fn plan(&self) -> Plan {
        match self {
            Self::Seed(run) => planned(*run, Look::default()).1,
            Self::Plan(_, plan) => (**plan).clone(),
        }
    }

    /// The command that runs it again.
    fn replay(&self) -> String {
        match self {
            Self::Seed(run) => replay(*run),
            Self::Plan(path, _) => {
                format!(
                    "cargo run --release -p quorate-sim -- run --plan {}",
                    path.display()
                )
            }
        }
    }

    /// The page of its picture.
    fn page(&self) -> PathBuf {
        match self {
            Self::Seed(run) => PathBuf::from(format!("{}-{}.html", run.profile, run.seed)),
            Self::Plan(path, _) => path.with_extension("html"),
        }
    }
}

fn write_plan(out: &mut impl Write, plan: &Plan, output: Option<&Path>) -> io::Result<()> {
    match output {
        None => write!(out, "{plan}"),
        Some(path) => fs::write(path, plan.to_string()),
    }
}

fn read_plan(path: &Path) -> io::Result<Plan> {
    let named = |error: String| io::Error::other(format!("{}: {error}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
    Plan::parse(&text).map_err(named)
}

/// Makes a failing run small. Whether it held, and there was nothing to do.
fn shrink(
    out: &mut impl Write,
    subject: &Subject,
    output: Option<&Path>,
    limit: Duration,
) -> io::Result<bool> {
    let Some(mut shrink) = Shrink::new(subject.plan(), limit) else {
        writeln!(io::stderr(), "it holds: there is nothing to shrink")?;
        return Ok(true);
    };
    let told = |shrink: &Shrink| {
        let Plan {
            knobs,
            operations,
            faults,
            ..
        } = &shrink.plan;
        let (nodes, operations, faults) = (knobs.members, operations.len(), faults.len());
        let _ = writeln!(
            io::stderr(),
            "{nodes} nodes, {operations} operations, {faults} faults after {} tries",
            shrink.tries
        );
    };
    told(&shrink);
    shrink.run(told);
    write_plan(out, &shrink.plan, output)?;
    let lines = Look {
        lines: true,
        ..Look::default()
    };
    if let Some(failure) = run_plan(&shrink.plan, lines).failure {
        writeln!(io::stderr(), "{failure}")?;
    }
    Ok(false)
}

fn run_one(
    out: &mut impl Write,
    subject: &Subject,
    look: Look,
    hash: bool,
    node: Option<usize>,
) -> io::Result<bool> {
    writeln!(out, "{}", subject.options())?;
    let begun = Instant::now();
    let report = subject.run(look);
    let real = begun.elapsed();
    if look.lines {
        let nodes: Vec<usize> = node.into_iter().collect();
        for line in report.log.last(&nodes, usize::MAX) {
            writeln!(out, "{line}")?;
        }
    }
    figures(out, &report, real)?;
    let second = subject.run(Look {
        lines: report.failure.is_some(),
        ..look
    });
    let same = determinism::equal(report.hash, second.hash);
    if let Some(failure) = &second.failure {
        writeln!(out, "{failure}")?;
    }
    if let Err(violation) = &same {
        writeln!(out, "{violation}")?;
    }
    if hash {
        writeln!(out, "{:032x}", report.hash)?;
    }
    Ok(report.failure.is_none() && same.is_ok())
}

/// Writes the page of a run, whether it fails or not.
fn show(
    out: &mut impl Write,
    subject: &Subject,
    look: Look,
    output: Option<PathBuf>,
) -> io::Result<bool> {
    let report = subject.run(look);
    let path = output.unwrap_or_else(|| subject.page());
    fs::write(
        &path,
        picture::page(&subject.options(), &report, &subject.replay()),
    )?;
    match &report.failure {
        None => writeln!(out, "{} shows no failure", report.run)?,
        Some(failure) => writeln!(
            out,
            "{} at step {}, true time {}",
            failure.violation, failure.step, failure.time
        )?,
    }
    writeln!(out, "{}", path.display())?;
    Ok(true)
}

fn moment(text: &str) -> Result<Time, String> {
    let seconds = text.parse().map_err(|_| format!("`{text}` is no number"))?;
    let since = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    Ok(Time(0) + since)
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

/// How far a sweep is, in one line on a terminal.
#[derive(Debug)]
struct Progress {
    seeds: u64,
    begun: Instant,
    /// When the line was last written; `None` where nobody would see it.
    written: Option<Mutex<Instant>>,
}

impl Progress {
    /// So often the line is written anew.
    const EVERY: Duration = Duration::from_millis(200);

    fn new(seeds: u64) -> Self {
        let begun = Instant::now();
        Self {
            seeds,
            begun,
            written: io::stderr().is_terminal().then(|| Mutex::new(begun)),
        }
    }

    fn told(&self, totals: &Totals) {
        let Some(written) = &self.written else {
            return;
        };
        let mut written = written.lock().expect("no thread panics with it");
        if written.elapsed() < Self::EVERY {
            return;
        }
        *written = Instant::now();
        let done = totals.passed + totals.failed;
        let (seeds, failed) = (self.seeds, totals.failed);
        let rate = u128::from(done) * 1_000 / self.begun.elapsed().as_millis().max(1);
        let filled = usize::try_from(done * 30 / seeds.max(1)).unwrap_or(30);
        let bar = "#".repeat(filled.min(30));
        let _ = write!(
            io::stderr(),
            "\r[{bar:<30}] {done} of {seeds} seeds, {rate}/s, {failed} failed "
        );
    }

    fn clear(&self) {
        if self.written.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn run_many(
    out: &mut impl Write,
    profile: Option<Profile>,
    from: u64,
    seeds: u64,
    fail_fast: bool,
) -> io::Result<bool> {
    let progress = Progress::new(seeds);
    let failed = |failure: &Failure| {
        progress.clear();
        let _ = writeln!(io::stderr(), "{failure}\n");
    };
    let totals = sweep(profile, from, seeds, fail_fast, failed, |totals| {
        progress.told(totals);
    });
    progress.clear();
    writeln!(out, "faults injected: {}", totals.counters)?;
    writeln!(out, "{}", totals.tally)?;
    speed(out, &totals)?;
    writeln!(
        out,
        "{} seeds passed, {} failed",
        totals.passed, totals.failed
    )?;
    writeln!(out, "{}", totals.marks)?;
    writeln!(out, "faults that cannot happen yet: {}", NOT_YET.join(" "))?;
    let lacking = match profile {
        None => totals.lacking(),
        Some(_) => Vec::new(),
    };
    if !lacking.is_empty() {
        writeln!(out, "so many seeds must have seen: {}", lacking.join(" "))?;
    }
    Ok(totals.failed == 0 && totals.tally.is_decided() && lacking.is_empty())
}

fn exhaust(out: &mut impl Write, budget: Budget) -> io::Result<bool> {
    writeln!(out, "{budget}")?;
    let begun = Instant::now();
    let report = search(budget.clone());
    writeln!(out, "{report}; {:.1?}", begun.elapsed())?;
    if let Some(failure) = &report.failure {
        writeln!(out, "{failure}")?;
    } else if !report.complete {
        writeln!(out, "given up: there is more than {} states", budget.states)?;
    }
    Ok(report.failure.is_none() && report.complete)
}
