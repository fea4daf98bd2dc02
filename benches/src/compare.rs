//! What a load showed, of one system and of the ratio between two.

use std::fmt;
use std::time::Duration;

use crate::load::Report;

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
#[derive(Debug)]
pub struct Ratio<'a> {
    /// This one.
    pub ours: &'a Measured,
    /// The other.
    pub theirs: &'a Measured,
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
///
/// # Panics
/// Where there is none.
#[must_use]
pub fn median(mut all: Vec<Measured>) -> Measured {
    all.sort_by(|a, b| a.report.rate().total_cmp(&b.report.rate()));
    let middle = all.len() / 2;
    all.swap_remove(middle)
}

/// Prints the medians of both under `title`, and their ratio.
#[expect(clippy::print_stdout, reason = "a bench prints")]
pub fn print(title: &str, ours: &Measured, theirs: Option<&Measured>) {
    println!("{title:<30} quorate {ours}");
    if let Some(theirs) = theirs {
        println!("{title:<30} etcd    {theirs}");
        println!("{title:<30} ratio   {}", Ratio { ours, theirs });
    }
}

/// The number after the argument `name`, if it was given.
#[must_use]
pub fn number(arguments: &[String], name: &str) -> Option<usize> {
    let at = arguments.iter().position(|argument| argument == name)?;
    arguments.get(at + 1)?.parse().ok()
}
