//! Throughput and latency over HTTP, beside a real etcd where there is one: rounds alternate
//! between the two, and medians are compared, since the machine is noisy.
//!
//! `cargo bench -p quorate-benches --bench http [-- --rounds N --requests N --only TEXT
//! --against PROGRAM]`, which is another build of this server. Exits non-zero when
//! one connection gets fewer than 1,000 writes a second.
#![allow(clippy::print_stdout, reason = "a bench prints")]

use std::io;
use std::process::ExitCode;

use quorate_benches::compare::{self, Rounds, Scenario, side_by_side};
use quorate_benches::load::Kind;
use quorate_benches::server::Server;

/// Below this many writes a second at one connection the disk is not doing its work once a write.
const WRITES_AT_ONE_MIN: f64 = 1000.0;

const PUT: Kind = Kind::Put(256);

const SCENARIOS: [Scenario; 6] = [
    Scenario::new("put 256 B", PUT, 1, 8),
    Scenario::new("put 256 B", PUT, 64, 1),
    Scenario::new("put 256 B", PUT, 256, 1),
    Scenario::new("get", Kind::Get(""), 64, 1),
    Scenario::new("get quorum", Kind::Get("?quorum=true"), 64, 1),
    Scenario::new("get local", Kind::Get("?quorum=false"), 64, 1),
];

fn main() -> ExitCode {
    compare::main(run)
}

fn run(rounds: &Rounds) -> io::Result<bool> {
    let quorate = Server::quorate("quorate", &[])?;
    let rival = rounds.rival(
        |program| Server::build(program, "before"),
        || Server::etcd("etcd"),
    )?;
    if rival.is_none() {
        println!("no etcd on this machine: quorate alone");
    }
    let mut passed = true;
    for scenario in SCENARIOS {
        let Some(ours) = side_by_side(&quorate, rival.as_ref(), scenario, rounds)? else {
            continue;
        };
        let is_put = matches!(scenario.kind, Kind::Put(_));
        let is_slow = ours.report.rate() < WRITES_AT_ONE_MIN;
        if is_put && scenario.connections == 1 && is_slow {
            println!("one connection: below {WRITES_AT_ONE_MIN} writes a second");
            passed = false;
        }
        passed &= ours.report.refused == 0 || !is_put;
    }
    Ok(passed)
}
