//! One seed in, one verdict out.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::check::Violation;
use crate::check::blackbox::Tally;
use crate::clock::Time;
use crate::fault::Counters;
use crate::ledger::Ledger;
use crate::log::Log;
use crate::mark::Marks;
use crate::options::{Options, Run};
use crate::plan::Plan;
use crate::scene::{Scene, Span};
use crate::world::{Course, World};

/// Lines of the concerned nodes in a failure's report.
const LINES: usize = 40;

/// How a run is looked at. None of it changes what happens.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Whether properties are checked.
    pub checks: bool,
    /// Whether lines are kept.
    pub lines: bool,
    /// Stop after so many steps.
    pub until: Option<u64>,
    /// What is kept for a picture.
    pub scene: Option<Span>,
}

impl Default for Look {
    fn default() -> Self {
        Self {
            checks: true,
            lines: false,
            until: None,
            scene: None,
        }
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// Its name.
    pub run: Run,
    /// The hash of its trace.
    pub hash: u128,
    /// How many events.
    pub steps: u64,
    /// How much true time passed in it.
    pub simulated: Duration,
    /// Client operations.
    pub operations: u64,
    /// Snapshots installed.
    pub snapshots: u64,
    /// Faults.
    pub counters: Counters,
    /// What was judged from outside.
    pub tally: Tally,
    /// Rare situations.
    pub marks: Marks,
    /// What was committed.
    pub ledger: Ledger,
    /// Its lines, where they were kept.
    pub log: Log,
    /// What was seen, where somebody looked.
    pub scene: Scene,
    /// What did not hold.
    pub failure: Option<Failure>,
}

/// What did not hold, and what there is to say about it.
#[derive(Debug)]
pub struct Failure {
    /// What.
    pub violation: Violation,
    /// At which step.
    pub step: u64,
    /// At which true time.
    pub time: Time,
    /// The knobs.
    pub header: String,
    /// The last lines of the nodes concerned, where lines were kept.
    pub lines: Vec<String>,
    /// The run.
    pub run: Run,
    /// The command that runs it again.
    pub replay: String,
}

/// Runs a seed.
#[must_use]
pub fn run(run: Run, look: Look) -> Report {
    run_with(Options::new(run), look)
}

/// Runs a plan.
#[must_use]
pub fn run_plan(plan: &Plan, look: Look) -> Report {
    report(plan.options(), Course::Planned(plan), look).0
}

/// Runs a seed, and spells out what happened until its end, or until something did not hold.
#[must_use]
pub fn planned(run: Run, look: Look) -> (Report, Plan) {
    report(Options::new(run), Course::Noted, look)
}

/// Runs with these knobs.
#[must_use]
pub fn run_with(options: Options, look: Look) -> Report {
    report(options, Course::Chance, look).0
}

fn report(options: Options, course: Course<'_>, look: Look) -> (Report, Plan) {
    let name = options.run;
    let header = options.to_string();
    let log = if look.lines { Log::keep() } else { Log::Off };
    let mut world = World::new(options, course, look.checks, log);
    if let Some(span) = look.scene {
        world.show(span);
    }
    // A failed assertion of core is a finding like any other.
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run(look.until)));
    let violation = match outcome {
        Ok(verdict) => verdict.err(),
        Err(panic) => Some(Violation::new("panic", &[], text_of(&*panic))),
    };
    world.see_end();
    let failure = violation.map(|violation| Failure {
        step: world.trace.steps(),
        time: world.now,
        header,
        lines: world
            .log
            .last(&violation.nodes, LINES)
            .into_iter()
            .map(str::to_owned)
            .collect(),
        run: name,
        replay: replay(name),
        violation,
    });
    let plan = world.plan();
    let report = Report {
        run: name,
        hash: world.trace.hash(),
        steps: world.trace.steps(),
        simulated: world.now.since(Time(0)),
        operations: world.issued,
        snapshots: world.installed,
        counters: world.fates.counters,
        tally: world.tally,
        marks: world.marking.marks,
        ledger: world.checks.ledger,
        log: world.log,
        scene: world.scene,
        failure,
    };
    (report, plan)
}

/// The command that runs it again.
#[must_use]
pub fn replay(run: Run) -> String {
    format!("cargo run --release -p quorate-sim -- run {run}")
}

pub(crate) fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} does not hold in {}", self.violation.id, self.run)?;
        writeln!(f, "  at step {}, true time {}", self.step, self.time)?;
        let nodes: Vec<_> = self
            .violation
            .nodes
            .iter()
            .map(|n| format!("n{n}"))
            .collect();
        writeln!(
            f,
            "  nodes: {}",
            if nodes.is_empty() {
                "-".to_owned()
            } else {
                nodes.join(" ")
            }
        )?;
        writeln!(f, "  {}", self.violation.what)?;
        writeln!(f, "with")?;
        for line in self.header.lines() {
            writeln!(f, "  {line}")?;
        }
        if !self.lines.is_empty() {
            writeln!(f, "last events")?;
            for line in &self.lines {
                writeln!(f, "  {line}")?;
            }
        }
        write!(f, "replay: {}", self.replay)
    }
}
