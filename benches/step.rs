//! What a put costs the deciding part: proposed, on disk, answered. Disks and messages take no
//! time.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use quorate_benches::fixture::{Cluster, key, put};

const VALUE_BYTES: usize = 256;

/// Keys written in turn.
const KEYS: usize = 10_000;

fn puts(criterion: &mut Criterion) {
    for (name, members) in [("one member", 1), ("three members", 3)] {
        let mut group = criterion.benchmark_group(format!("step/{name}"));
        for batch in [1_usize, 64] {
            let mut cluster = Cluster::new(members);
            let mut next = 0;
            group.throughput(Throughput::Elements(batch as u64));
            group.bench_function(format!("{batch} puts"), |bencher| {
                let setup = || {
                    let keys = (next..next + batch).map(|number| key(number % KEYS));
                    next += batch;
                    keys.map(|path| put(path, VALUE_BYTES, None)).collect()
                };
                let run = |commands| cluster.run(commands);
                bencher.iter_batched(setup, run, BatchSize::SmallInput);
            });
            let status = cluster.status();
            assert_eq!(status.applied.index, status.committed, "left behind");
        }
        group.finish();
    }
}

criterion_group!(step, puts);
criterion_main!(step);
