//! What an append costs on its way: 64 entries of 256 bytes to bytes, and back.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quorate_benches::fixture::{key, put};
use quorate_core::codec::{decode_message, decode_write, encode_message, encode_write};
use quorate_core::raft::{Entries, Entry, Message, MessageBody, Payload};
use quorate_core::{ClusterTime, DiskId, HardState, Index, LogId, NodeId, Term, Write, WriteSeq};

fn frames(criterion: &mut Criterion) {
    let message = Message {
        birth: 1 << 100,
        from_disk: DiskId(1 << 99),
        to_disk: DiskId(1 << 98),
        term: Term(7),
        body: MessageBody::Append {
            previous: at(1_000_000),
            entries: entries(),
            committed: Index(999_990),
            round: 0,
        },
    };
    let bytes = encode_message(&message);
    let mut group = criterion.benchmark_group("codec/append of 64 x 256 B");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("encode", |bencher| {
        bencher.iter(|| encode_message(black_box(&message)));
    });
    group.bench_function("decode", |bencher| {
        bencher.iter(|| decode_message(black_box(&bytes)));
    });
    group.finish();

    let write = Write {
        seq: WriteSeq(12),
        hard_state: HardState {
            term: Term(7),
            vote: Some(NodeId(1 << 60)),
        },
        entries: entries(),
        install: None,
    };
    let bytes = encode_write(&write);
    let mut group = criterion.benchmark_group("codec/write of 64 x 256 B");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("encode", |bencher| {
        bencher.iter(|| encode_write(black_box(&write)));
    });
    group.bench_function("decode", |bencher| {
        bencher.iter(|| decode_write(black_box(&bytes)));
    });
    group.finish();
}

fn entries() -> Entries {
    let entry = |number: usize| Entry {
        id: at(1_000_001 + number as u64),
        stamp: ClusterTime(1 << 50),
        payload: Payload::Command(put(key(number), 256, None).into()),
    };
    (0..64).map(entry).collect()
}

fn at(index: u64) -> LogId {
    LogId {
        term: Term(7),
        index: Index(index),
    }
}

criterion_group!(codec, frames);
criterion_main!(codec);
