//! What a million keys cost: memory, checkpoints, restart, and puts at growing sizes.
//!
//! `cargo bench -p quorate-benches --bench scale [-- --keys N]`. Exits non-zero where the median
//! put at the full size is more than 1.3 times that at 10,000 keys.
#![allow(clippy::print_stdout, reason = "a bench prints")]

use std::io;
use std::process::ExitCode;

use quorate_benches::load::{self, Kind, Load};
use quorate_benches::server::Server;

/// The most a put may grow from 10,000 keys to the full size.
const GROWTH_MAX: f64 = 1.3;

const VALUE_BYTES: usize = 100;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let at = arguments.iter().position(|argument| argument == "--keys");
    let keys = at
        .and_then(|at| arguments.get(at + 1)?.parse().ok())
        .unwrap_or(1_000_000);
    match curve(keys) {
        Ok(growth) if growth <= GROWTH_MAX => ExitCode::SUCCESS,
        Ok(growth) => {
            println!("a put grew {growth:.2} times: more than {GROWTH_MAX}");
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("the bench failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Loads ever more keys, and measures puts at each size; how much the median put grew.
fn curve(keys: usize) -> io::Result<f64> {
    let mut server = Server::quorate("scale", &[])?;
    let sizes = [10_000, 30_000, 100_000, 300_000, 1_000_000];
    let mut medians = Vec::new();
    let mut loaded = 0;
    for size in sizes.into_iter().filter(|&size| size < keys).chain([keys]) {
        fill(&server, loaded, size)?;
        loaded = size;
        let load = Load {
            kind: Kind::Put(VALUE_BYTES),
            connections: 1,
            requests: 5000,
            keys: size,
            first_key: 0,
        };
        let report = load::run(&[server.address], load)?;
        medians.push(report.quantile(0.5).as_secs_f64());
        println!(
            "{size:>8} keys: put {report}, resident {} MiB",
            server.resident()? >> 20
        );
    }
    for name in [
        "quorate_checkpoints_total",
        "quorate_checkpoint_bytes_total",
        "quorate_checkpoint_seconds_max",
        "quorate_driver_pause_seconds_max",
    ] {
        println!("{name} {}", server.metric(name)?);
    }
    println!("restart after SIGKILL: {:.2?}", server.restart()?);
    println!("resident after restart: {} MiB", server.resident()? >> 20);
    Ok(medians[medians.len() - 1] / medians[0])
}

fn fill(server: &Server, from: usize, to: usize) -> io::Result<()> {
    let load = Load {
        kind: Kind::Put(VALUE_BYTES),
        connections: 128,
        requests: to - from,
        keys: to - from,
        first_key: from,
    };
    let report = load::run(&[server.address], load)?;
    println!("{to:>8} keys: load {report}");
    Ok(())
}
