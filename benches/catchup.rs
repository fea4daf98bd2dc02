//! A follower that was away while a million keys were written gets a snapshot, and writes go on:
//! what that costs the clients of its leader, and both in memory.
//!
//! `cargo bench -p quorate-benches --bench catchup [-- --keys N --rate N]`. Exits non-zero where a
//! write is refused, or the 99th percentile more than doubles.
#![allow(clippy::print_stdout, reason = "a bench prints")]

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use quorate_benches::cluster::Cluster;
use quorate_benches::compare::number;
use quorate_benches::load::{self, Kind, Load, Report};
use quorate_benches::server::memory;

const VALUE_BYTES: usize = 100;
const CONNECTIONS: usize = 64;

/// How long each measurement takes.
const SECONDS: f64 = 10.0;

/// The most that the 99th percentile may grow.
const GROWTH_MAX: f64 = 2.0;

/// A follower has caught up when it is so near its leader.
const NEAR: u64 = 2000;

/// After this the bench gives up.
const CATCHUP_MAX: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let keys = number(&arguments, "--keys").unwrap_or(1_000_000);
    match run(keys, number(&arguments, "--rate")) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("the bench failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(keys: usize, rate: Option<usize>) -> io::Result<bool> {
    let mut cluster = Cluster::quorate(&[])?;
    let leader = leader(&cluster)?;
    let laggard = (leader + 1) % cluster.members.len();
    cluster.members[laggard].kill()?;
    let at = [cluster.members[leader].address];
    let fill = Load {
        kind: Kind::Put(VALUE_BYTES),
        connections: 128,
        requests: keys,
        keys,
        first_key: 0,
    };
    println!("load   {}", load::run(&at, fill)?);
    let rate = match rate {
        Some(rate) => f64::from(u32::try_from(rate).map_err(io::Error::other)?),
        None => load::run(&at, puts(20_000, keys))?.rate() / 2.0,
    };
    println!("rate   {rate:.0}/s at {CONNECTIONS} connections");
    let before = measure(at, keys, rate)?;
    show("before", &before);
    let resident = cluster.members[leader].resident()?;

    let peak = Peak::watch(cluster.members[leader].process());
    let began = Instant::now();
    cluster.members[laggard].revive()?;
    let is_there = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&is_there);
    let loading = thread::spawn(move || -> io::Result<Vec<Report>> {
        let mut reports = Vec::new();
        while !told.load(Ordering::Relaxed) {
            reports.push(measure_for(at, keys, rate, 2.0)?);
        }
        Ok(reports)
    });
    let took = caught_up(&cluster, leader, laggard, began);
    is_there.store(true, Ordering::Relaxed);
    let reports = loading.join().map_err(|_| io::Error::other("panicked"))??;
    let took = took?;
    let during = together(reports)?;
    show("during", &during);
    let peak = peak.end();
    let after = measure(at, keys, rate)?;
    show("after", &after);
    let mib = |bytes: u64| bytes >> 20;
    println!("caught up after {took:.1?}");
    println!(
        "leader resident: {} MiB before, {} at most during, {} after",
        mib(resident),
        mib(peak),
        mib(cluster.members[leader].resident()?)
    );
    println!(
        "follower resident: {} MiB at most, {} after",
        mib(cluster.members[laggard].peak()?),
        mib(cluster.members[laggard].resident()?)
    );
    let growth = during.quantile(0.99).as_secs_f64() / before.quantile(0.99).as_secs_f64();
    println!("the 99th percentile grew {growth:.2} times");
    Ok(growth <= GROWTH_MAX && before.refused + during.refused + after.refused == 0)
}

fn leader(cluster: &Cluster) -> io::Result<usize> {
    for (place, member) in cluster.members.iter().enumerate() {
        if member.leads()? {
            return Ok(place);
        }
    }
    Err(io::Error::other("nobody leads"))
}

fn puts(requests: usize, keys: usize) -> Load {
    Load {
        kind: Kind::Put(VALUE_BYTES),
        connections: CONNECTIONS,
        requests,
        keys,
        first_key: 0,
    }
}

fn measure(at: [SocketAddr; 1], keys: usize, rate: f64) -> io::Result<Report> {
    measure_for(at, keys, rate, SECONDS)
}

fn measure_for(at: [SocketAddr; 1], keys: usize, rate: f64, seconds: f64) -> io::Result<Report> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "some ten thousands"
    )]
    let requests = (rate * seconds) as usize;
    load::run_at(&at, puts(requests, keys), rate)
}

fn together(reports: Vec<Report>) -> io::Result<Report> {
    let mut all = reports.into_iter();
    let mut sum = all.next().ok_or_else(|| io::Error::other("no load"))?;
    for report in all {
        sum.latency.add(report.latency).map_err(io::Error::other)?;
        sum.elapsed += report.elapsed;
        sum.refused += report.refused;
    }
    Ok(sum)
}

fn show(when: &str, report: &Report) {
    println!("{when:<6} {report}");
}

fn caught_up(
    cluster: &Cluster,
    leader: usize,
    laggard: usize,
    began: Instant,
) -> io::Result<Duration> {
    while began.elapsed() < CATCHUP_MAX {
        let reached = cluster.members[laggard].applied().unwrap_or(0);
        if reached + NEAR >= cluster.members[leader].applied()? {
            return Ok(began.elapsed());
        }
        thread::sleep(Duration::from_millis(100));
    }
    Err(io::Error::other("it does not catch up"))
}

/// The most resident memory of a process while this is watched.
struct Peak {
    most: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Peak {
    fn watch(process: u32) -> Self {
        let (most, over) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (told, until) = (Arc::clone(&most), Arc::clone(&over));
        thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                told.fetch_max(memory(process, "VmRSS:").unwrap_or(0), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(50));
            }
        });
        Self { most, over }
    }

    fn end(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.most.load(Ordering::Relaxed)
    }
}
