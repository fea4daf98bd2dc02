//! Loads on this project and on another in turn: what each showed, and the ratio between the two.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use std::{fmt, io};

use crate::cluster::Cluster;
use crate::load::{self, Kind, Load, Report};
use crate::server::Server;

/// What a load goes to: a server, or a cluster of them.
pub trait Target {
    /// Where clients reach it.
    fn addresses(&self) -> Vec<SocketAddr>;

    /// Processor time that it has used so far, user and system.
    ///
    /// # Errors
    /// If a process of it is gone.
    fn processor_time(&self) -> io::Result<Duration>;
}

impl Target for Server {
    fn addresses(&self) -> Vec<SocketAddr> {
        vec![self.address]
    }

    fn processor_time(&self) -> io::Result<Duration> {
        Self::processor_time(self)
    }
}

impl Target for Cluster {
    fn addresses(&self) -> Vec<SocketAddr> {
        Self::addresses(self)
    }

    fn processor_time(&self) -> io::Result<Duration> {
        Self::processor_time(self)
    }
}

/// A load that both get.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What is asked, in words.
    pub name: &'static str,
    /// What is asked.
    pub kind: Kind,
    /// By how many at a time.
    pub connections: usize,
    /// The share of the requests of a round: one connection is slow.
    pub share: usize,
}

impl Scenario {
    /// See the fields.
    #[must_use]
    pub const fn new(name: &'static str, kind: Kind, connections: usize, share: usize) -> Self {
        Self {
            name,
            kind,
            connections,
            share,
        }
    }
}

/// What to measure, against what, and for how long.
#[derive(Clone, Debug)]
pub struct Rounds {
    /// How often each gets a load.
    count: usize,
    /// Requests of a whole load.
    requests: usize,
    /// Only scenarios with that in their title.
    only: Option<String>,
    /// Another build of this project, instead of etcd.
    against: Option<PathBuf>,
}

/// Whom this project is compared with.
#[derive(Debug)]
pub struct Rival<T> {
    name: &'static str,
    target: T,
}

impl Rounds {
    /// `--rounds N`, `--requests N`, `--only TEXT`, `--against PROGRAM`.
    fn of(arguments: &[String]) -> Self {
        Self {
            count: number(arguments, "--rounds").unwrap_or(5),
            requests: number(arguments, "--requests").unwrap_or(40_000),
            only: text(arguments, "--only").map(str::to_owned),
            against: text(arguments, "--against").map(PathBuf::from),
        }
    }

    /// Starts the other build of this project that was asked for, or the etcd of this machine, if
    /// there is one.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn rival<T>(
        &self,
        build: impl FnOnce(&Path) -> io::Result<T>,
        etcd: impl FnOnce() -> io::Result<Option<T>>,
    ) -> io::Result<Option<Rival<T>>> {
        let (name, target) = match &self.against {
            Some(program) => ("before", Some(build(program)?)),
            None => ("etcd", etcd()?),
        };
        Ok(target.map(|target| Rival { name, target }))
    }
}

/// Runs a bench with the [`Rounds`] that its arguments ask for.
#[expect(clippy::print_stdout, reason = "a bench prints")]
pub fn main(run: impl FnOnce(&Rounds) -> io::Result<bool>) -> ExitCode {
    // `cargo bench` passes `--bench`; `cargo test --benches` passes nothing and wants no load.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    match run(&Rounds::of(&arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("the bench failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Gives both the load in turn; prints the medians and their ratio. What this project showed;
/// `None` where the scenario was not asked for.
///
/// # Errors
/// If one of them is gone.
pub fn side_by_side<T: Target>(
    ours: &T,
    rival: Option<&Rival<T>>,
    scenario: Scenario,
    rounds: &Rounds,
) -> io::Result<Option<Measured>> {
    let title = format!("{}, {} connections", scenario.name, scenario.connections);
    if rounds
        .only
        .as_ref()
        .is_some_and(|only| !title.contains(only))
    {
        return Ok(None);
    }
    let load = Load {
        kind: scenario.kind,
        connections: scenario.connections,
        requests: rounds.requests / scenario.share,
        keys: 10_000,
        first_key: 0,
    };
    let (mut of_ours, mut of_rival) = (Vec::new(), Vec::new());
    for _ in 0..rounds.count {
        of_ours.push(measure(ours, load)?);
        if let Some(rival) = rival {
            of_rival.push(measure(&rival.target, load)?);
        }
    }
    let ours = median(of_ours);
    print(&title, "quorate", &ours);
    if let Some(rival) = rival {
        let theirs = median(of_rival);
        print(&title, rival.name, &theirs);
        print(
            &title,
            "ratio",
            &Ratio {
                ours: &ours,
                theirs: &theirs,
            },
        );
    }
    Ok(Some(ours))
}

fn measure(target: &impl Target, load: Load) -> io::Result<Measured> {
    let before = target.processor_time()?;
    let report = load::run(&target.addresses(), load)?;
    Ok(Measured::new(report, before, target.processor_time()?))
}

/// A report with what it cost the servers.
#[derive(Debug)]
pub struct Measured {
    /// What the clients saw.
    pub report: Report,
    /// Processor time of the servers for each request.
    pub cpu_per_request: Duration,
}

impl Measured {
    /// What `report` cost: processor time before and after it.
    #[must_use]
    pub fn new(report: Report, before: Duration, after: Duration) -> Self {
        let requests = u32::try_from(report.latency.len()).unwrap_or(u32::MAX);
        Self {
            report,
            cpu_per_request: (after - before) / requests.max(1),
        }
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}  server CPU {:>6.1?}",
            self.report, self.cpu_per_request
        )
    }
}

/// This project beside another.
struct Ratio<'a> {
    ours: &'a Measured,
    theirs: &'a Measured,
}

impl fmt::Display for Ratio<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |quantile| {
            let ours = self.ours.report.quantile(quantile).as_secs_f64();
            ours / self.theirs.report.quantile(quantile).as_secs_f64()
        };
        write!(
            f,
            "throughput {:.2}, p50 time {:.2}, p99 time {:.2}, CPU {:.2}",
            self.ours.report.rate() / self.theirs.report.rate(),
            time(0.5),
            time(0.99),
            self.ours.cpu_per_request.as_secs_f64() / self.theirs.cpu_per_request.as_secs_f64(),
        )
    }
}

/// The one with the median rate, of at least one.
fn median(mut all: Vec<Measured>) -> Measured {
    all.sort_by(|a, b| a.report.rate().total_cmp(&b.report.rate()));
    let middle = all.len() / 2;
    all.swap_remove(middle)
}

#[expect(clippy::print_stdout, reason = "a bench prints")]
fn print(title: &str, whose: &str, what: &impl fmt::Display) {
    println!("{title:<30} {whose:<7} {what}");
}

/// The number after the argument `name`, if it was given.
#[must_use]
pub fn number(arguments: &[String], name: &str) -> Option<usize> {
    text(arguments, name)?.parse().ok()
}

fn text<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let at = arguments.iter().position(|argument| argument == name)?;
    arguments.get(at + 1).map(String::as_str)
}
