//! Three members under load, beside three of a real etcd where there is one: rounds alternate
//! between the two, connections are spread over all members, and medians are compared.
//!
//! `cargo bench -p quorate-benches --bench cluster [-- --rounds N --requests N]`. Exits non-zero
//! when 50,000 writes of 256 bytes at 64 connections take 20 seconds, or a write is refused.
#![allow(clippy::print_stdout, reason = "a bench prints")]

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use quorate_benches::cluster::Cluster;
use quorate_benches::compare::{self, Measured, median, number};
use quorate_benches::load::{self, Kind, Load};

/// The writes that must not take longer than [`WRITES_MAX`].
const WRITES: usize = 50_000;

/// See [`WRITES`].
const WRITES_MAX: Duration = Duration::from_secs(20);

const PUT: Kind = Kind::Put(256);

/// Name, requests, connections, and the share of the requests asked for: one connection is slow.
const SCENARIOS: [(&str, Kind, usize, usize); 7] = [
    ("put 256 B", PUT, 1, 16),
    ("put 256 B", PUT, 64, 1),
    ("put 256 B", PUT, 256, 1),
    ("get", Kind::Get(""), 64, 1),
    ("get quorum", Kind::Get("?quorum=true"), 64, 1),
    ("get local", Kind::Get("?quorum=false"), 64, 1),
    ("mixed 90/10", Kind::Mixed(256), 64, 1),
];

fn main() -> ExitCode {
    // `cargo bench` passes `--bench`; `cargo test --benches` passes nothing and wants no load.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let rounds = number(&arguments, "--rounds").unwrap_or(5);
    let requests = number(&arguments, "--requests").unwrap_or(40_000);
    match run(rounds, requests) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("the bench failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(rounds: usize, requests: usize) -> io::Result<bool> {
    let quorate = Cluster::quorate(&[])?;
    let etcd = Cluster::etcd()?;
    if etcd.is_none() {
        println!("no etcd on this machine: quorate alone");
    }
    let mut passed = is_fast_enough(&quorate)?;
    for (name, kind, connections, share) in SCENARIOS {
        let load = Load {
            kind,
            connections,
            requests: requests / share,
            keys: 10_000,
            first_key: 0,
        };
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        for _ in 0..rounds {
            ours.push(measure(&quorate, load)?);
            if let Some(etcd) = &etcd {
                theirs.push(measure(etcd, load)?);
            }
        }
        let ours = median(ours);
        let theirs = (!theirs.is_empty()).then(|| median(theirs));
        let title = format!("{name}, {connections} connections");
        compare::print(&title, &ours, theirs.as_ref());
        passed &= ours.report.refused == 0;
    }
    Ok(passed)
}

/// Writes what must not take too long. It also makes the keys that are read later.
fn is_fast_enough(quorate: &Cluster) -> io::Result<bool> {
    let load = Load {
        kind: PUT,
        connections: 64,
        requests: WRITES,
        keys: 10_000,
        first_key: 0,
    };
    let report = load::run(&quorate.addresses(), load)?;
    let took = report.elapsed;
    println!("{WRITES} writes of 256 B at 64 connections: {took:.1?} (less than {WRITES_MAX:?})");
    Ok(took < WRITES_MAX && report.refused == 0)
}

fn measure(cluster: &Cluster, load: Load) -> io::Result<Measured> {
    let before = cluster.processor_time()?;
    let report = load::run(&cluster.addresses(), load)?;
    Ok(Measured::new(report, before, cluster.processor_time()?))
}
