//! What watches cost the one who applies: many on one key, many more that wait for other keys, and
//! one that reads old history meanwhile.

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quorate_benches::fixture::{Applier, key, put};
use quorate_core::store::{Filter, WatchOutput, Watches};
use quorate_core::{Revision, WatchId};

const VALUE_BYTES: usize = 100;

/// Watches allowed, and events looked at in one go, as by default.
const WATCHES_MAX: usize = 262_144;
const SCAN_MAX: usize = 1024;

/// Puts between two checkpoints.
const CHECKPOINT_PUTS: u64 = 10_000;

fn live(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("watch/put");
    for (name, on_key, on_others) in [
        ("nobody watches", 0, 0),
        ("1000 watch the key", 1000, 0),
        ("10,000 watch others", 0, 10_000),
    ] {
        let mut applier = Applier::new(20_000, VALUE_BYTES);
        let mut watches = Watches::new(WATCHES_MAX, SCAN_MAX, &applier.store);
        for number in 0..on_key + on_others {
            let path = key(if number < on_key { 0 } else { number + 1 });
            open(&mut watches, &applier, number as u64, filter(path), None);
        }
        while watches.poll(&applier.store).is_some() {}
        group.throughput(Throughput::Elements(1));
        let mut count = 0;
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                let mut spent = Duration::ZERO;
                for _ in 0..times {
                    let command = put(key(0), VALUE_BYTES, None);
                    let began = Instant::now();
                    applier.apply(&command);
                    watches.applied(&applier.store);
                    let told = tell(&mut watches, &applier);
                    spent += began.elapsed();
                    assert_eq!(told, on_key, "each once");
                    count += 1;
                    if count % CHECKPOINT_PUTS == 0 {
                        applier.checkpoint();
                    }
                }
                spent
            });
        });
    }
    group.finish();
}

/// A watch from the first index that is kept, for which there is nothing.
fn laggard(criterion: &mut Criterion) {
    let mut applier = Applier::new(1, VALUE_BYTES);
    let first = applier.store.revision().next();
    for number in 0..5000 {
        applier.apply(&put(key(number), VALUE_BYTES, None));
    }
    let mut group = criterion.benchmark_group("watch/laggard");
    group.throughput(Throughput::Elements(5000));
    group.bench_function("scans 5000 events", |bencher| {
        bencher.iter(|| {
            let mut watches = Watches::new(WATCHES_MAX, SCAN_MAX, &applier.store);
            let nothing = filter(key(1_000_000));
            open(&mut watches, &applier, 1, nothing, Some(first));
            while watches.has_work() {
                assert_eq!(tell(&mut watches, &applier), 0);
            }
        });
    });
    group.finish();
}

fn filter(path: quorate_core::store::Path) -> Filter {
    Filter {
        path,
        recursive: false,
    }
}

fn open(
    watches: &mut Watches,
    applier: &Applier,
    number: u64,
    filter: Filter,
    since: Option<Revision>,
) {
    watches.open(&applier.store, WatchId(number), filter, since, u32::MAX);
}

/// Polls until there is nothing to say; how many watches were told of an event.
fn tell(watches: &mut Watches, applier: &Applier) -> usize {
    let mut told = 0;
    while let Some(output) = watches.poll(&applier.store) {
        match output {
            WatchOutput::Notify { watches, .. } => told += watches.len(),
            WatchOutput::Watching { .. } => {}
            WatchOutput::End { reason, .. } => panic!("ended: {reason:?}"),
            WatchOutput::ReadHistory { slice } => panic!("{slice} has left memory"),
        }
    }
    told
}

criterion_group!(watch, live, laggard);
criterion_main!(watch);
