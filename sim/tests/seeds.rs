//! Seeds of the simulator as tests: nothing fails, and a seed is a run.

use std::fs;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use quorate_sim::check::{determinism, ttl};
use quorate_sim::fault::Fault;
use quorate_sim::options::{Options, Profile, Run};
use quorate_sim::plan::Plan;
use quorate_sim::run::{Look, Report, run, run_plan, run_with};
use quorate_sim::scene::Span;
use quorate_sim::sweep::explained;

/// Does `check` for all of `runs`, on all processors, and fails with all that it says.
fn each(runs: &[Run], check: impl Fn(Run) -> Result<(), String> + Sync) {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(&run) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(failure) = check(run) {
                        failures.lock().expect("no panic").push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no panic");
    assert!(
        failures.is_empty(),
        "{} failed:\n{}",
        failures.len(),
        failures.join("\n\n")
    );
}

fn held(report: &Report) -> Result<(), String> {
    match &report.failure {
        None => Ok(()),
        Some(failure) => Err(explained(failure).to_string()),
    }
}

/// X1, and X5 with it: the second time nothing is checked, which is sooner done.
fn twice(run_of: Run) -> Result<(), String> {
    let first = run(run_of, Look::default());
    held(&first)?;
    let blind = Look {
        checks: false,
        ..Look::default()
    };
    let second = run(run_of, blind);
    determinism::equal(first.hash, second.hash)
        .map_err(|violation| format!("{run_of}: {violation}"))
}

fn swarm(seeds: std::ops::Range<u64>) -> Vec<Run> {
    let profile = Profile::Swarm;
    seeds.map(|seed| Run { profile, seed }).collect()
}

#[test]
fn three_hundred_seeds_of_the_swarm_hold_and_run_alike_twice() {
    each(&swarm(0..300), twice);
}

#[test]
fn every_profile_holds() {
    let directed = Profile::ALL
        .into_iter()
        .filter(|&profile| profile != Profile::Swarm);
    let runs: Vec<Run> = directed
        .flat_map(|profile| (0..3).map(move |seed| Run { profile, seed }))
        .collect();
    each(&runs, |name| held(&run(name, Look::default())));
}

#[test]
fn seeds_that_once_failed_hold() {
    let kept = include_str!("../testdata/seeds.txt");
    let runs: Vec<Run> = kept
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_whitespace().next())
        .map(|name| name.parse().expect("a name of a run"))
        .collect();
    each(&runs, twice);
}

/// What once failed, made small.
#[test]
fn kept_plans_hold() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/plans");
    let files = fs::read_dir(folder).expect("a folder of plans");
    let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        let text = fs::read_to_string(&path).expect("a plan");
        let plan = Plan::parse(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let report = run_plan(&plan, Look::default());
        held(&report).unwrap_or_else(|failure| panic!("{path:?}: {failure}"));
    }
}

/// X3: neither the process nor the directory nor the environment make a difference.
#[test]
fn another_process_runs_alike() {
    for name in swarm(210..214) {
        let mut program = Command::new(env!("CARGO_BIN_EXE_quorate-sim"));
        program.args(["run", &name.to_string(), "--hash"]);
        program.env_clear().env("LC_ALL", "tr_TR.UTF-8");
        let said = program.current_dir("/").output().expect("it runs");
        assert!(said.status.success(), "{said:?}");
        let said = String::from_utf8(said.stdout).expect("text");
        let here = run(name, Look::default()).hash;
        assert_eq!(
            said.lines().last(),
            Some(format!("{here:032x}").as_str()),
            "{name}"
        );
    }
}

/// X5.
#[test]
fn looking_changes_nothing() {
    each(&swarm(200..206), |name| {
        let seen = run(name, Look::default()).hash;
        let look = |checks, lines, scene| {
            run(
                name,
                Look {
                    checks,
                    lines,
                    until: None,
                    scene,
                },
            )
            .hash
        };
        let all = Some(Span::default());
        if seen == look(false, false, None) && seen == look(true, true, all) {
            return Ok(());
        }
        Err(format!(
            "X5: {name} runs otherwise when it is not looked at"
        ))
    });
}

/// T3.
#[test]
fn wall_clocks_may_jump() {
    each(&swarm(300..306), |name| {
        let ledger = |intensity| {
            let mut options = Options::new(name);
            options.dials.set(Fault::C1, intensity);
            options.dials.set(Fault::C2, intensity);
            let report = run_with(options, Look::default());
            held(&report)?;
            let last = report.ledger.last();
            Ok::<_, String>((last, report.ledger.chain(last).unwrap_or_default()))
        };
        ttl::immune(ledger(100)?, ledger(0)?).map_err(|violation| format!("{name}: {violation}"))
    });
}
