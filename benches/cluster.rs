//! Three members under load, beside three of a real etcd where there is one: rounds alternate
//! between the two, connections are spread over all members, and medians are compared.
//!
//! `cargo bench -p quorate-benches --bench cluster [-- --rounds N --requests N --only TEXT
//! --against PROGRAM]`, which is another build of this server. Exits non-zero
//! when 50,000 writes of 256 bytes at 64 connections take 20 seconds, or a write is refused.
#![allow(clippy::print_stdout, reason = "a bench prints")]

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use quorate_benches::cluster::Cluster;
use quorate_benches::compare::{self, Rounds, Scenario, side_by_side};
use quorate_benches::load::{self, Kind, Load};

/// The writes that must not take longer than [`WRITES_MAX`].
const WRITES: usize = 50_000;

/// See [`WRITES`].
const WRITES_MAX: Duration = Duration::from_secs(20);

const PUT: Kind = Kind::Put(256);

const SCENARIOS: [Scenario; 7] = [
    Scenario::new("put 256 B", PUT, 1, 16),
    Scenario::new("put 256 B", PUT, 64, 1),
    Scenario::new("put 256 B", PUT, 256, 1),
    Scenario::new("get", Kind::Get(""), 64, 1),
    Scenario::new("get quorum", Kind::Get("?quorum=true"), 64, 1),
    Scenario::new("get local", Kind::Get("?quorum=false"), 64, 1),
    Scenario::new("mixed 90/10", Kind::Mixed(256), 64, 1),
];

fn main() -> ExitCode {
    compare::main(run)
}

fn run(rounds: &Rounds) -> io::Result<bool> {
    let quorate = Cluster::quorate(&[])?;
    let rival = rounds.rival(|program| Cluster::build(program, "before"), Cluster::etcd)?;
    if rival.is_none() {
        println!("no etcd on this machine: quorate alone");
    }
    let mut passed = is_fast_enough(&quorate)?;
    for scenario in SCENARIOS {
        let ours = side_by_side(&quorate, rival.as_ref(), scenario, rounds)?;
        passed &= ours.is_none_or(|ours| ours.report.refused == 0);
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
