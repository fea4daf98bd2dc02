//! The log on disk against a model of it, on a disk with bad habits (SIMULATION.md §3, D1–D14).

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use quorate_core::raft::{Entry, Payload};
use quorate_core::rng::Rng;
use quorate_core::store::{Command, Content, Operation, Path, Put, Value, When};
use quorate_core::wal::{FileError, Files, MemoryFiles, Recovered, Wal, WalError, WalLimits};
use quorate_core::{ClusterTime, HardState, Index, LogId, NodeId, Term, Write, WriteSeq};

const TINY: WalLimits = WalLimits {
    segment_bytes: 1024,
    ready_segments: 1,
    spare_segments: 1,
};

/// What the log must say: the obvious way.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    start: LogId,
    entries: Vec<Entry>,
    hard_state: HardState,
    seq: WriteSeq,
}

impl Model {
    fn last(&self) -> LogId {
        self.entries.last().map_or(self.start, |entry| entry.id)
    }

    fn apply(&mut self, write: &Write) {
        self.seq = write.seq;
        self.hard_state = write.hard_state;
        for entry in &*write.entries {
            let keep = entry.id.index.0 - self.start.index.0 - 1;
            self.entries.truncate(usize::try_from(keep).unwrap());
            self.entries.push(entry.clone());
        }
    }

    /// Whether `recovered` is this, but for entries that may be trimmed away.
    fn matches(&self, recovered: &Recovered) -> bool {
        let skipped = recovered.start.index.0.checked_sub(self.start.index.0);
        let Some(skipped) = skipped.and_then(|n| usize::try_from(n).ok()) else {
            return false;
        };
        let ids = [self.start]
            .into_iter()
            .chain(self.entries.iter().map(|e| e.id));
        recovered.hard_state == self.hard_state
            && recovered.persisted == self.seq
            && ids.skip(skipped).next() == Some(recovered.start)
            && self.entries[skipped..] == recovered.entries
    }

    /// The next write, at random: entries, sometimes over older ones; a vote; a seal.
    fn next_write(&self, rng: &mut Rng) -> Write {
        let mut hard_state = self.hard_state;
        let mut entries = Vec::new();
        match rng.below(8) {
            0 => {}
            1 => {
                hard_state.term = hard_state.term.next();
                hard_state.vote = (rng.below(3) > 0).then(|| NodeId(rng.below(3)));
            }
            kind => {
                let mut after = self.last();
                if kind == 2 && !self.entries.is_empty() {
                    hard_state = HardState {
                        term: hard_state.term.next(),
                        vote: None,
                    };
                    let keep = rng.below(self.entries.len() as u64);
                    after = match keep.checked_sub(1) {
                        None => self.start,
                        Some(at) => self.entries[usize::try_from(at).unwrap()].id,
                    };
                }
                for _ in 0..=rng.below(3) {
                    after = LogId {
                        term: hard_state.term.max(after.term),
                        index: after.index.next(),
                    };
                    entries.push(entry(after, rng));
                }
            }
        }
        Write {
            seq: self.seq.next(),
            hard_state,
            entries: entries.into(),
        }
    }

    fn seal(&self) -> Write {
        Write {
            seq: self.seq.next(),
            hard_state: self.hard_state,
            entries: [].into(),
        }
    }
}

fn entry(id: LogId, rng: &mut Rng) -> Entry {
    let payload = match rng.below(3) {
        0 => Payload::Empty,
        1 => Payload::Expire { limit: 7 },
        _ => Payload::Command(Arc::new(Command {
            client: None,
            operation: Operation::Put(Put {
                path: Path::root().child(b"key"),
                content: Content::Value(Value::from(vec![
                    b'v';
                    usize::try_from(rng.below(300)).unwrap()
                ])),
                when: When::Always,
                ttl: None,
            }),
        })),
    };
    Entry {
        id,
        stamp: ClusterTime(id.index.0 * 1000),
        payload,
    }
}

fn create() -> Wal<MemoryFiles> {
    Wal::create(MemoryFiles::new(), TINY).unwrap()
}

fn reopen(wal: Wal<MemoryFiles>) -> (Wal<MemoryFiles>, Recovered) {
    Wal::recover(wal.into_files(), TINY).unwrap()
}

#[test]
fn what_was_written_is_read() {
    for seed in 0..50 {
        let mut rng = Rng::new(seed);
        let mut wal = create();
        let mut model = Model::default();
        for _ in 0..60 {
            let mut writes = Vec::new();
            for _ in 0..=rng.below(4) {
                let write = model.next_write(&mut rng);
                model.apply(&write);
                writes.push(write);
            }
            wal.append_all(&writes).unwrap();
            if rng.below(5) == 0 {
                wal.trim(Index(rng.below(model.last().index.0 + 2)))
                    .unwrap();
            }
            if rng.below(5) == 0 {
                let (again, recovered) = reopen(wal);
                assert_eq!(
                    (&recovered.damage, recovered.held),
                    (&None, None),
                    "seed {seed}"
                );
                assert!(
                    model.matches(&recovered),
                    "seed {seed}\n{model:#?}\n{recovered:#?}"
                );
                wal = again;
            }
        }
    }
}
