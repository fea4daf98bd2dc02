//! What a checkpoint costs at a million keys: the bytes it writes, and the longest pause it causes.
//!
//! `cargo bench -p quorate-benches --bench checkpoint [-- --keys N]`. First the store alone, where
//! a checkpoint is moving out what changed; then a whole member on the disk of the temporary
//! directory, whose driver tells the longest time one round took.
#![allow(clippy::print_stdout, reason = "a bench prints")]

use std::error::Error;
use std::fs;
use std::time::{Duration, Instant};

use quorate_benches::files::TempDirectory;
use quorate_benches::fixture::{Applier, key, put, short_history};
use quorate_core::rng::Rng;
use quorate_runtime::{Node, Options, start};

const VALUE_BYTES: usize = 100;

/// Keys changed between two checkpoints.
const CHANGED: [usize; 3] = [1, 5_000, 100_000];

/// Proposals in flight while keys are loaded and changed.
const IN_FLIGHT: usize = 256;

/// Checkpoints measured.
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let at = arguments.iter().position(|argument| argument == "--keys");
    let keys = at.and_then(|at| arguments.get(at + 1)?.parse().ok());
    let keys = keys.unwrap_or(1_000_000);
    store_alone(keys);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(member(keys))
}

/// The pause of a driver is what `take_changes` takes; encoding is another thread's work.
fn store_alone(keys: usize) {
    let mut applier = Applier::new(keys, VALUE_BYTES);
    let mut rng = Rng::new(1);
    for changed in CHANGED {
        for number in any_keys(&mut rng, keys, changed) {
            applier.apply(&put(key(number), VALUE_BYTES, None));
        }
        let began = Instant::now();
        let changes = applier.store.take_changes();
        let pause = began.elapsed();
        let began = Instant::now();
        let bytes: usize = changes
            .encode()
            .map(|(key, row)| key.len() + row.map_or(0, |row| row.len()))
            .sum();
        let encoding = began.elapsed();
        println!(
            "store   {keys} keys, {changed:>6} changed: pause {pause:>9.1?}, {:>6} rows, \
             {bytes:>9} bytes, encoded in {encoding:>7.1?}",
            changes.len(),
        );
        applier.store.checkpointed(changes.applied, 1 << 20);
    }
}

/// A member that checkpoints each time so many keys have changed.
async fn member(keys: usize) -> Result<(), Box<dyn Error>> {
    // What core counts of an entry: key, value, and 64 bytes of ids.
    let weight = key(0).len() + VALUE_BYTES + 64;
    for changed in &CHANGED[1..] {
        let directory = TempDirectory::new()?;
        let mut options = Options::new(directory.path().join("data"));
        options.core.checkpoint_bytes = changed * weight;
        let (node, running) = start(options).await?;
        // Alone it leads at once, but not before it has written that down.
        while node.propose(short_history()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        write(&node, (0..keys).collect()).await?;
        settle(&node).await;

        let mut rng = Rng::new(1);
        let mut pauses = Vec::new();
        let (before, took) = (node.metrics().checkpoints(), checkpoint_time(&node));
        let disk = disk_writes();
        for _ in 0..ROUNDS {
            node.metrics().reset_pause();
            write(&node, any_keys(&mut rng, keys, *changed).collect()).await?;
            settle(&node).await;
            pauses.push(node.metrics().longest_pause());
        }
        let after = node.metrics().checkpoints();
        let count = (after.0 - before.0).max(1);
        let took = (checkpoint_time(&node) - took) / u32::try_from(count)?;
        pauses.sort();
        println!(
            "member  {keys} keys, {changed:>6} changed: {} bytes and {took:.1?} a checkpoint, over \
             {count}; {} bytes written to disk a checkpoint, log and compaction included; longest \
             pause {:.1?} (median {:.1?})",
            (after.1 - before.1) / count,
            (disk_writes() - disk) / count,
            pauses[ROUNDS - 1],
            pauses[ROUNDS / 2],
        );
        running.stop().await?;
    }
    Ok(())
}

/// Puts these keys, many at a time.
async fn write(node: &Node, keys: Vec<usize>) -> Result<(), Box<dyn Error>> {
    let mut lanes = tokio::task::JoinSet::new();
    for lane in keys.chunks(keys.len().div_ceil(IN_FLIGHT).max(1)) {
        let (node, lane) = (node.clone(), lane.to_vec());
        lanes.spawn(async move {
            for number in lane {
                node.propose(put(key(number), VALUE_BYTES, None)).await?;
            }
            Ok::<(), quorate_core::RequestError>(())
        });
    }
    while let Some(lane) = lanes.join_next().await {
        lane??;
    }
    Ok(())
}

/// Waits until the number of checkpoints has not changed for half a second.
async fn settle(node: &Node) {
    let mut count = node.metrics().checkpoints();
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = node.metrics().checkpoints();
        if now == count {
            return;
        }
        count = now;
    }
}

fn checkpoint_time(node: &Node) -> Duration {
    node.metrics().checkpoint_time()
}

fn any_keys(rng: &mut Rng, keys: usize, count: usize) -> impl Iterator<Item = usize> + '_ {
    (0..count).map(move |_| usize::try_from(rng.below(keys as u64)).expect("below a size"))
}

/// Bytes this process has had written to disks, by proc(5); zero where that is not told.
fn disk_writes() -> u64 {
    let text = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.trim().parse().ok())
        .unwrap_or(0)
}
