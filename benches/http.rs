//! Throughput and latency over HTTP, beside a real etcd where there is one: rounds alternate
//! between the two, and medians are compared, since the machine is noisy.
//!
//! `cargo bench -p quorate-benches --bench http [-- --rounds N --requests N]`. Exits non-zero when
//! one connection gets fewer than 1,000 writes a second.
#![allow(clippy::print_stdout, reason = "a bench prints")]

use std::io;
use std::process::ExitCode;

use quorate_benches::compare::{self, Measured, median, number};
use quorate_benches::load::{self, Kind, Load};
use quorate_benches::server::Server;

/// Below this many writes a second at one connection the disk is not doing its work once a write.
const WRITES_AT_ONE_MIN: f64 = 1000.0;

struct Scenario {
    name: &'static str,
    kind: Kind,
    connections: usize,
    /// Of the requests asked for: one connection is slow.
    share: usize,
}

const SCENARIOS: [Scenario; 6] = [
    Scenario {
        name: "put 256 B",
        kind: Kind::Put(256),
        connections: 1,
        share: 8,
    },
    Scenario {
        name: "put 256 B",
        kind: Kind::Put(256),
        connections: 64,
        share: 1,
    },
    Scenario {
        name: "put 256 B",
        kind: Kind::Put(256),
        connections: 256,
        share: 1,
    },
    Scenario {
        name: "get",
        kind: Kind::Get(""),
        connections: 64,
        share: 1,
    },
    Scenario {
        name: "get quorum",
        kind: Kind::Get("?quorum=true"),
        connections: 64,
        share: 1,
    },
    Scenario {
        name: "get local",
        kind: Kind::Get("?quorum=false"),
        connections: 64,
        share: 1,
    },
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
    let quorate = Server::quorate("quorate", &[])?;
    let etcd = Server::etcd("etcd")?;
    if etcd.is_none() {
        println!("no etcd on this machine: quorate alone");
    }
    let mut fast_enough = true;
    for scenario in &SCENARIOS {
        let load = Load {
            kind: scenario.kind,
            connections: scenario.connections,
            requests: requests / scenario.share,
            keys: 10_000,
            first_key: 0,
        };
        let title = format!("{}, {} connections", scenario.name, scenario.connections);
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
        compare::print(&title, &ours, theirs.as_ref());
        let slow = ours.report.rate() < WRITES_AT_ONE_MIN;
        if matches!(scenario.kind, Kind::Put(_)) && scenario.connections == 1 && slow {
            println!("{title}: below {WRITES_AT_ONE_MIN} writes a second");
            fast_enough = false;
        }
        fast_enough &= ours.report.refused == 0 || !matches!(scenario.kind, Kind::Put(_));
    }
    Ok(fast_enough)
}

fn measure(server: &Server, load: Load) -> io::Result<Measured> {
    let before = server.processor_time()?;
    let report = load::run(&[server.address], load)?;
    Ok(Measured::new(report, before, server.processor_time()?))
}
