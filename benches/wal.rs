//! What it costs to append a batch to the log: in memory, where only the format counts, and on the
//! disk of the temporary directory, with its fdatasync.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use quorate_benches::files::{MemoryDirectory, TempDirectory};
use quorate_benches::fixture::{key, put};
use quorate_core::raft::{Entry, Payload};
use quorate_core::wal::{Files, Wal, WalLimits};
use quorate_core::{ClusterTime, HardState, LogId, Term, Write, WriteSeq};

const VALUE_BYTES: usize = 256;

/// Entries after which the log is trimmed, as after a checkpoint.
const KEPT: u64 = 50_000;

fn appends(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wal/memory");
    for batch in [1, 64, 1024] {
        append(&mut group, MemoryDirectory::default(), batch);
    }
    group.finish();

    let mut group = criterion.benchmark_group("wal/disk");
    group.sample_size(20);
    for batch in [1, 64, 1024] {
        let directory = TempDirectory::new().expect("a temporary directory");
        append(&mut group, directory, batch);
    }
    group.finish();
}

fn append<F: Files>(group: &mut BenchmarkGroup<'_, WallTime>, files: F, batch: usize) {
    let mut wal = Wal::create(files, WalLimits::default()).expect("an empty directory");
    let mut log = Log::default();
    group.throughput(Throughput::Elements(batch as u64));
    group.bench_function(format!("{batch} x {VALUE_BYTES} B"), |bencher| {
        bencher.iter_custom(|times| {
            let mut spent = std::time::Duration::ZERO;
            for _ in 0..times {
                let write = log.next(batch);
                let began = std::time::Instant::now();
                wal.append(&write).expect("a disk with room");
                spent += began.elapsed();
                if log.trim_due() {
                    wal.trim(log.last.index).expect("a disk with room");
                }
                // As the log thread does between appends.
                wal.prepare().expect("a disk with room");
            }
            spent
        });
    });
}

/// The writes of a leader.
#[derive(Default)]
struct Log {
    last: LogId,
    seq: WriteSeq,
    trimmed: u64,
}

impl Log {
    fn next(&mut self, batch: usize) -> Write {
        let entries = (0..batch).map(|_| {
            self.last = LogId {
                term: Term(1),
                index: self.last.index.next(),
            };
            let path = key(usize::try_from(self.last.index.0).expect("few") % 10_000);
            Entry {
                id: self.last,
                stamp: ClusterTime(self.last.index.0),
                payload: Payload::Command(put(path, VALUE_BYTES, None).into()),
            }
        });
        let entries = entries.collect();
        self.seq = self.seq.next();
        let hard_state = HardState {
            term: Term(1),
            vote: None,
        };
        Write {
            seq: self.seq,
            hard_state,
            entries,
            install: None,
        }
    }

    fn trim_due(&mut self) -> bool {
        let due = self.last.index.0 > self.trimmed + KEPT;
        if due {
            self.trimmed = self.last.index.0;
        }
        due
    }
}

criterion_group!(wal, appends);
criterion_main!(wal);
