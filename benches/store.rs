//! What applying costs: puts at 10 thousand and at a million keys, listings, whole directories that
//! go at once, and expiry.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quorate_benches::fixture::{Applier, DIRECTORY_KEYS, directory, key, put, remove};
use quorate_core::rng::Rng;

const VALUE_BYTES: usize = 100;

/// Applied between two checkpoints, which bound what has changed.
const CHECKPOINT_PUTS: u64 = 100_000;

fn sizes(criterion: &mut Criterion) {
    // With --test everything runs once: a million keys would be most of it.
    let is_test = std::env::args().any(|argument| argument == "--test");
    let sizes = [10_000, if is_test { 20_000 } else { 1_000_000 }];
    for keys in sizes {
        let mut applier = Applier::new(keys, VALUE_BYTES);
        let mut rng = Rng::new(1);
        let mut any = move || usize::try_from(rng.below(keys as u64)).expect("below a size");
        let mut group = criterion.benchmark_group(format!("store/{keys} keys"));
        let mut count = 0;
        group.throughput(Throughput::Elements(1));
        group.bench_function("put", |bencher| {
            bencher.iter_custom(|times| {
                let mut spent = Duration::ZERO;
                for _ in 0..times {
                    let command = put(key(any()), VALUE_BYTES, None);
                    let began = Instant::now();
                    applier.apply(&command);
                    spent += began.elapsed();
                    count += 1;
                    if count % CHECKPOINT_PUTS == 0 {
                        applier.checkpoint();
                    }
                }
                spent
            });
        });
        group.bench_function("get", |bencher| {
            bencher.iter(|| applier.store.get(black_box(&key(keys / 2)), false));
        });
        group.throughput(Throughput::Elements(DIRECTORY_KEYS as u64));
        group.bench_function("list a directory of 1000", |bencher| {
            bencher.iter(|| applier.store.get(black_box(&directory(keys / 2)), true));
        });
        group.finish();
    }
}

fn removals(criterion: &mut Criterion) {
    let mut applier = Applier::new(10_000, VALUE_BYTES);
    let mut group = criterion.benchmark_group("store/removal");
    group.sample_size(20);
    group.throughput(Throughput::Elements(DIRECTORY_KEYS as u64));
    group.bench_function("a directory of 1000", |bencher| {
        bencher.iter_custom(|times| {
            let mut spent = Duration::ZERO;
            for _ in 0..times {
                for number in 0..DIRECTORY_KEYS {
                    applier.apply(&put(key(number), VALUE_BYTES, None));
                }
                let command = remove(directory(0));
                let began = Instant::now();
                applier.apply(&command);
                spent += began.elapsed();
                applier.checkpoint();
            }
            spent
        });
    });
    group.throughput(Throughput::Elements(256));
    group.bench_function("256 keys that are due", |bencher| {
        bencher.iter_custom(|times| {
            let mut spent = Duration::ZERO;
            for _ in 0..times {
                let ttl = Some(Duration::from_secs(1));
                for number in 0..256 {
                    applier.apply(&put(key(number), VALUE_BYTES, ttl));
                }
                applier.now = applier.now + Duration::from_secs(1);
                let began = Instant::now();
                let expired = applier.expire(256);
                spent += began.elapsed();
                assert_eq!(expired, 256);
                applier.checkpoint();
            }
            spent
        });
    });
    group.finish();
}

criterion_group!(store, sizes, removals);
criterion_main!(store);
