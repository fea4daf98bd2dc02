//! The log on disk against a model of it, on a disk with bad habits (SIMULATION.md §3, D1–D14).

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;
use std::{env, fs};

use quorate_core::raft::{Entry, Payload};
use quorate_core::rng::Rng;
use quorate_core::store::{Command, Content, Operation, Path, Put, Value, When};
use quorate_core::wal::{Files, MemoryFiles, Recovered, Wal, WalError, WalLimits};
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
        recovered.hard_state == self.hard_state
            && recovered.persisted == self.seq
            && self.after(recovered.start) == Some(&recovered.entries)
    }

    /// Whether the log in `recovered` is the beginning of this one.
    fn begins_with(&self, recovered: &Recovered) -> bool {
        let after = self.after(recovered.start);
        after.is_some_and(|entries| entries.starts_with(&recovered.entries))
    }

    /// The entries after `id`, if the log has it.
    fn after(&self, id: LogId) -> Option<&[Entry]> {
        let skipped = id.index.0.checked_sub(self.start.index.0)?;
        let (before, after) = self
            .entries
            .split_at_checked(usize::try_from(skipped).ok()?)?;
        (before.last().map_or(self.start, |entry| entry.id) == id).then_some(after)
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
            install: None,
        }
    }

    fn seal(&self) -> Write {
        Write {
            seq: self.seq.next(),
            hard_state: self.hard_state,
            entries: [].into(),
            install: None,
        }
    }
}

impl From<Recovered> for Model {
    fn from(recovered: Recovered) -> Self {
        Self {
            start: recovered.start,
            entries: recovered.entries,
            hard_state: recovered.hard_state,
            seq: recovered.persisted,
        }
    }
}

fn entry(id: LogId, rng: &mut Rng) -> Entry {
    let payload = match rng.below(3) {
        0 => Payload::Empty,
        1 => Payload::Expire {
            limit: 7,
            until: ClusterTime(5),
        },
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

/// A log of `count` batches, and what it said after each write, from none.
fn written(seed: u64, count: u64, trim: bool) -> (Wal<MemoryFiles>, Vec<Model>) {
    let mut rng = Rng::new(seed);
    let mut wal = create();
    let mut states = vec![Model::default()];
    for _ in 0..count {
        let mut writes = Vec::new();
        for _ in 0..=rng.below(2) {
            let mut model = states.last().unwrap().clone();
            writes.push(model.next_write(&mut rng));
            model.apply(writes.last().unwrap());
            states.push(model);
        }
        wal.append_all(&writes).unwrap();
    }
    if trim {
        wal.trim(Index(states.last().unwrap().last().index.0 / 2))
            .unwrap();
    }
    (wal, states)
}

/// As [`written`], come to rest.
fn sealed(seed: u64, count: u64, trim: bool) -> (MemoryFiles, Vec<Model>) {
    let (mut wal, mut states) = written(seed, count, trim);
    let mut model = states.last().unwrap().clone();
    let seal = model.seal();
    model.apply(&seal);
    states.push(model);
    wal.append(&seal).unwrap();
    (wal.into_files(), states)
}

/// What became of a log that was tampered with.
#[derive(Debug, PartialEq)]
enum Verdict {
    Whole,
    Damaged,
    Refused,
    Lost,
}

/// Recovers the log in `files`, which should say `states`, and goes on with it: never wrong.
fn check(files: &MemoryFiles, states: &[Model], context: &str) -> Verdict {
    let last = states.last().unwrap();
    let (mut wal, recovered) = match Wal::recover(files.clone(), TINY) {
        Err(
            WalError::Missing { file }
            | WalError::Damaged { file, .. }
            | WalError::File { file, .. },
        ) => {
            assert!(!file.is_empty());
            return Verdict::Refused;
        }
        Err(error) => panic!("{context}: {error}"),
        Ok(found) => found,
    };
    assert_eq!(
        wal.files().list(),
        files.list(),
        "{context}: recovery is read-only"
    );
    let Some(damage) = &recovered.damage else {
        assert_eq!(recovered.held, None, "{context}");
        let state = states.iter().find(|state| state.matches(&recovered));
        let state = state.unwrap_or_else(|| panic!("{context}: wrong\n{recovered:#?}"));
        go_on(wal, state.clone(), context);
        return if state == last {
            Verdict::Whole
        } else {
            Verdict::Lost
        };
    };

    // Of term, vote and the count of writes nothing is lost.
    assert_eq!(recovered.hard_state, last.hard_state, "{context}");
    assert_eq!(recovered.persisted, last.seq, "{context}");
    assert_eq!(damage.held, last.last().index, "{context}");
    assert!(
        states.iter().any(|state| state.begins_with(&recovered)),
        "{context}"
    );
    let end = recovered
        .entries
        .last()
        .map_or(recovered.start, |entry| entry.id);
    assert_eq!(wal.last(), end, "{context}");
    if recovered.held.is_none() {
        let whole = last.after(recovered.start) == Some(&recovered.entries);
        assert!(whole, "{context}: said to be whole, {recovered:#?}");
        wal.resume().unwrap();
    } else {
        assert_eq!(recovered.held, Some(last.last().index), "{context}");
        assert!(end.index < last.last().index, "{context}");
        wal.resume().unwrap();
        let (_, once_more) = Wal::recover(wal.files().clone(), TINY).unwrap();
        assert_eq!(
            once_more.held, recovered.held,
            "{context}: the debt outlives a restart"
        );
        assert_eq!(once_more.entries, recovered.entries, "{context}");
        repair(&mut wal, &recovered, last, context);
    }
    let (wal, repaired) = reopen(wal);
    assert_eq!(
        (&repaired.damage, repaired.held),
        (&None, None),
        "{context}"
    );
    go_on(wal, Model::from(repaired), context);
    Verdict::Damaged
}

/// As a leader does: everything from where the logs agree.
fn repair(wal: &mut Wal<MemoryFiles>, recovered: &Recovered, whole: &Model, context: &str) {
    let mut ids = recovered.entries.iter().rev().map(|entry| entry.id);
    let agreed = ids.find(|&id| whole.after(id).is_some());
    let Some(rest) = whole.after(agreed.unwrap_or(recovered.start)) else {
        return wal.reset(whole.last()).unwrap();
    };
    assert!(!rest.is_empty(), "{context}");
    for entry in rest {
        let write = Write {
            seq: wal.persisted().next(),
            hard_state: wal.hard_state(),
            entries: [entry.clone()].into(),
            install: None,
        };
        wal.append(&write).unwrap();
    }
}

/// What was recovered can be written on to, and nothing that was given up comes back.
fn go_on(mut wal: Wal<MemoryFiles>, mut model: Model, context: &str) {
    let mut rng = Rng::new(1);
    for round in 0..3 {
        let write = model.next_write(&mut rng);
        model.apply(&write);
        wal.append(&write)
            .unwrap_or_else(|e| panic!("{context}: {e}"));
        let (again, recovered) = reopen(wal);
        assert_eq!(recovered.damage, None, "{context}, round {round}");
        assert!(
            model.matches(&recovered),
            "{context}, round {round}\n{model:#?}\n{recovered:#?}"
        );
        wal = again;
    }
}

#[test]
fn what_was_written_is_read() {
    for seed in 0..100 {
        let mut rng = Rng::new(seed);
        let mut wal = create();
        let mut model = Model::default();
        let mut trimmed = Index(1);
        for _ in 0..60 {
            let mut writes = Vec::new();
            for _ in 0..=rng.below(4) {
                let write = model.next_write(&mut rng);
                model.apply(&write);
                writes.push(write);
            }
            wal.append_all(&writes).unwrap();
            if rng.below(5) == 0 {
                let below = Index(rng.below(model.last().index.0 + 2));
                wal.trim(below).unwrap();
                trimmed = trimmed.max(below);
            }
            if rng.below(20) == 0 {
                model.start = LogId {
                    index: Index(model.last().index.0 + 3),
                    ..model.last()
                };
                model.entries.clear();
                wal.reset(model.start).unwrap();
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
                let kept = recovered.start == model.start || recovered.start.index < trimmed;
                assert!(kept, "seed {seed}: {} of {trimmed}", recovered.start);
                wal = again;
            }
        }
    }
}

/// All of them, but few of the zeros around the seals.
fn offsets(files: &MemoryFiles, name: &str) -> Vec<usize> {
    let all = 0..files.bytes(name).len();
    let dense = |offset: &usize| name != "wal.seals" || offset % 4096 < 80 || offset % 256 < 2;
    all.filter(dense).collect()
}

/// D6: one byte, anywhere. Of a log at rest nothing is ever lost without a word.
#[test]
fn every_flipped_byte_is_harmless_or_seen() {
    for (seed, trim) in [(1, false), (2, true), (3, false)] {
        let (files, states) = sealed(seed, 8, trim);
        let mut verdicts = [0; 3];
        for name in files.list().unwrap() {
            for offset in offsets(&files, &name) {
                for mask in [0x01, 0x80] {
                    let mut files = files.clone();
                    files.flip(&name, offset, mask);
                    let context = format!("seed {seed}, {name} at {offset} by {mask}");
                    match check(&files, &states, &context) {
                        Verdict::Whole => verdicts[0] += 1,
                        Verdict::Damaged => verdicts[1] += 1,
                        Verdict::Refused => verdicts[2] += 1,
                        Verdict::Lost => panic!("{context}: a batch is lost"),
                    }
                }
            }
        }
        assert!(verdicts.iter().all(|&count| count > 0), "{verdicts:?}");
    }
}

/// D6 before the seal: the last batch may look like the torn tail, and nothing before it.
#[test]
fn a_flipped_byte_before_the_seal_costs_at_most_the_last_batch() {
    let (wal, states) = written(4, 8, false);
    let files = wal.into_files();
    let mut lost = 0;
    for name in files.list().unwrap() {
        for offset in offsets(&files, &name) {
            let mut files = files.clone();
            files.flip(&name, offset, 0x10);
            let context = format!("{name} at {offset}");
            if check_unsealed(&files, &states, &context) == Verdict::Lost {
                lost += 1;
            }
        }
    }
    assert!(lost > 0, "nothing was lost: the test is blind");
}

/// As [`check`], where the last batch, which is at most two writes, may be gone.
fn check_unsealed(files: &MemoryFiles, states: &[Model], context: &str) -> Verdict {
    let verdict = check(files, states, context);
    if verdict == Verdict::Lost {
        let (wal, _) = Wal::recover(files.clone(), TINY).unwrap();
        let last = states.last().unwrap().seq.0;
        assert!(
            wal.persisted().0 + 2 >= last,
            "{context}: {}",
            wal.persisted()
        );
    }
    verdict
}

/// D7, D10: runs of sectors zeroed or unreadable, also the last ones.
#[test]
fn zeroed_and_unreadable_sectors_are_harmless_or_seen() {
    for seed in 10..14 {
        let (files, states) = sealed(seed, 10, seed % 2 == 0);
        for name in files.list().unwrap() {
            let bytes = files.bytes(&name).len();
            for begin in (0..bytes).step_by(512) {
                for end in [begin + 512, begin + 1024, bytes] {
                    let end = end.min(bytes);
                    let context = format!("seed {seed}, {name} from {begin} to {end}");
                    let mut zeroed = files.clone();
                    zeroed.zero(&name, begin..end);
                    let verdict = check(&zeroed, &states, &context);
                    assert_ne!(verdict, Verdict::Lost, "{context}");

                    let mut unreadable = files.clone();
                    unreadable.set_unreadable(&name, begin as u64..end as u64);
                    let verdict = check(&unreadable, &states, &context);
                    assert_ne!(verdict, Verdict::Lost, "{context}");
                }
            }
        }
    }
}

/// D10 before the seal: what cannot be read is not taken for what was never written.
#[test]
fn an_unreadable_sector_is_no_torn_tail() {
    for seed in 14..18 {
        let (wal, states) = written(seed, 8, false);
        let files = wal.into_files();
        let mut refused = 0;
        for name in files.list().unwrap() {
            for begin in (0..files.bytes(&name).len() as u64).step_by(512) {
                let context = format!("seed {seed}, {name} from {begin}");
                let mut files = files.clone();
                files.set_unreadable(&name, begin..begin + 512);
                let verdict = check(&files, &states, &context);
                assert_ne!(verdict, Verdict::Lost, "{context}");
                refused += usize::from(name != "wal.segments" && verdict == Verdict::Refused);
            }
        }
        assert!(
            refused > 0,
            "the last batch was never hit: the test is blind"
        );
    }
}

/// D10: a file with a place that cannot be read is not used again, or a log that happened to end
/// there could not be told from one that is lost. Not even by a start after one that was cut short
/// when it had given the damage up.
#[test]
fn what_was_damaged_is_not_used_again() {
    let mut damaged = 0;
    for (seed, count) in (30..38).flat_map(|seed| (1..6).map(move |count| (seed, count))) {
        let (wal, states) = written(seed, count, false);
        let mut files = wal.into_files();
        files.set_unreadable("wal.0000000001", 128..256);
        // The last batch was there, or something follows.
        let Ok((mut wal, _)) = Wal::recover(files, TINY) else {
            continue;
        };
        damaged += 1;
        wal.resume().unwrap();
        let files = wal.into_files();
        let last = states.last().unwrap().last();
        for changes in 0.. {
            let mut files = files.clone();
            files.fail_after(Some(changes));
            let (mut wal, _) = Wal::recover(files, TINY).unwrap();
            let whole = wal.resume().and_then(|()| wal.reset(last)).is_ok();
            let mut files = wal.into_files();
            files.crash(|| false);
            let (mut wal, _) = Wal::recover(files, TINY).unwrap();
            wal.resume().unwrap();
            wal.reset(last).unwrap();
            wal.reset(last).unwrap();
            let files = wal.into_files();
            for name in files.list().unwrap() {
                let mut bytes = vec![0; files.bytes(&name).len()];
                let read = files.read_at(&name, 0, &mut bytes);
                let context = format!("seed {seed}, {count} batches, {changes} changes, {name}");
                assert_eq!(read, Ok(()), "{context}");
            }
            if whole {
                break;
            }
        }
    }
    assert!(damaged > 0, "the last batch was hit each time");
}

#[test]
fn a_file_that_is_cut_or_gone_is_harmless_or_missed() {
    for seed in 20..26 {
        let (files, states) = if seed < 24 {
            sealed(seed, 10, seed % 2 == 0)
        } else {
            let (wal, states) = written(seed, 10, false);
            (wal.into_files(), states)
        };
        for name in files.list().unwrap() {
            for bytes in offsets(&files, &name) {
                let context = format!("seed {seed}, {name} cut to {bytes}");
                let mut files = files.clone();
                files.cut(&name, bytes);
                assert_ne!(check(&files, &states, &context), Verdict::Lost, "{context}");
            }
            let context = format!("seed {seed}, {name} is gone");
            let mut files = files.clone();
            files.lose(&name);
            assert_ne!(check(&files, &states, &context), Verdict::Lost, "{context}");
            if name == "wal.segments" {
                let created = Wal::create(files, TINY);
                assert_eq!(created.err(), Some(WalError::Exists), "never start empty");
            }
        }
    }
}

/// D8: a whole file, or a piece of one, in another's place.
#[test]
fn what_is_in_the_wrong_place_does_not_count() {
    let (files, states) = sealed(30, 12, false);
    let names = files.list().unwrap();
    for from in &names {
        for to in names.iter().filter(|&to| to != from) {
            let source = files.bytes(from);
            let bytes = source.len().min(files.bytes(to).len());
            for (begin, at) in [(0, 0), (0, 512), (72, 72), (512, 0)] {
                let mut files = files.clone();
                for (&byte, offset) in source[begin.min(bytes)..bytes].iter().zip(at..bytes) {
                    let mask = files.bytes(to)[offset] ^ byte;
                    files.flip(to, offset, mask);
                }
                let context = format!("{from} at {begin} over {to} at {at}");
                assert_ne!(check(&files, &states, &context), Verdict::Lost, "{context}");
            }
        }
    }
}

/// D9: a write that was acknowledged and never came to the disk, whichever it was. At the end of a
/// log that does not rest it cannot be seen.
#[test]
fn a_lost_write_is_seen_where_anything_follows() {
    for seed in 40..60 {
        let mut rng = Rng::new(seed);
        let mut wal = create();
        let mut states = vec![Model::default()];
        let mut images = vec![wal.files().clone()];
        for _ in 0..12 {
            let mut model = states.last().unwrap().clone();
            let write = model.next_write(&mut rng);
            model.apply(&write);
            states.push(model);
            wal.append(&write).unwrap();
            images.push(wal.files().clone());
        }
        let files = images.last().unwrap();
        for (number, pair) in images.windows(2).enumerate() {
            let mut files = files.clone();
            let mut names = files.list().unwrap();
            names.retain(|name| name.starts_with("wal.0") && pair[0].len(name).is_ok());
            for name in names {
                let (old, new) = (pair[0].bytes(&name), pair[1].bytes(&name));
                for offset in (0..old.len()).filter(|&offset| old[offset] != new[offset]) {
                    let mask = files.bytes(&name)[offset] ^ old[offset];
                    files.flip(&name, offset, mask);
                }
            }
            let context = format!("seed {seed}, write {}", number + 1);
            let verdict = check(&files, &states, &context);
            assert!(verdict != Verdict::Lost || number == 11, "{context}");
        }
    }
}

/// D3–D5, D11, D13: power cuts at any call, with any part of what was not synced kept.
#[test]
fn a_crash_costs_nothing_that_was_acknowledged() {
    let mut crashes = [0; 2];
    for seed in 0..600 {
        let mut rng = Rng::new(seed);
        let mut files = MemoryFiles::new();
        let mut model = Model::default();
        let mut is_made = false;
        for round in 0..12 {
            files.fail_after(Some(rng.below(90)));
            let mut allowed = vec![model.clone()];
            let made = work(&mut files, &mut rng, &mut model, &mut allowed, is_made);
            is_made |= made;
            let context = format!("seed {seed}, round {round}");
            if is_made && rng.below(3) == 0 {
                // Only the process is gone, and the next one sees what was never synced.
                files.fail_after(None);
                let (mut wal, _) = Wal::recover(&mut files, TINY).unwrap();
                wal.resume().unwrap();
                let (_, recovered) = Wal::recover(wal.into_files().clone(), TINY).unwrap();
                allowed.retain(|state| state.matches(&recovered));
            }
            let keep = rng.below(5);
            files.crash(|| rng.below(4) < keep);
            match Wal::recover(&mut files, TINY) {
                Err(WalError::Missing { .. }) if !is_made => continue,
                Err(error) => panic!("{context}: {error}"),
                Ok((_, recovered)) => {
                    is_made = true;
                    assert_eq!(
                        (&recovered.damage, recovered.held),
                        (&None, None),
                        "{context}"
                    );
                    crashes[usize::from(recovered.torn.is_some())] += 1;
                    let found = allowed.iter().find(|state| state.matches(&recovered));
                    let found = found.unwrap_or_else(|| {
                        panic!("{context}: wrong\n{allowed:#?}\n{recovered:#?}")
                    });
                    model = found.clone();
                }
            }
        }
    }
    assert!(crashes.iter().all(|&count| count > 20), "{crashes:?}");
}

/// Works until the disk is gone. `model` is what was acknowledged; `allowed` is what may be found:
/// that, and what was under way. Returns whether there is a log for certain.
fn work(
    files: &mut MemoryFiles,
    rng: &mut Rng,
    model: &mut Model,
    allowed: &mut Vec<Model>,
    is_made: bool,
) -> bool {
    let wal = if is_made || files.len("wal.segments").is_ok() {
        Wal::recover(files, TINY).map(|(wal, _)| wal)
    } else {
        Wal::create(files, TINY)
    };
    let Ok(mut wal) = wal else { return is_made };
    loop {
        let mut state = model.clone();
        let done = match rng.below(8) {
            0 => wal.trim(Index(rng.below(model.last().index.0 + 2))),
            1 => wal.prepare(),
            2 if rng.below(4) == 0 => {
                let after = model.last().index.0 + rng.below(3);
                state.start = LogId {
                    index: Index(after),
                    ..model.last()
                };
                state.entries.clear();
                allowed.push(state.clone());
                wal.reset(state.start)
            }
            _ => {
                let mut writes = Vec::new();
                for _ in 0..=rng.below(4) {
                    let write = state.next_write(rng);
                    state.apply(&write);
                    allowed.push(state.clone());
                    writes.push(write);
                }
                wal.append_all(&writes)
            }
        };
        match done {
            Ok(()) => {
                *model = state;
                *allowed = vec![model.clone()];
            }
            Err(WalError::File { .. }) => {
                // D11: it must not be tried again.
                assert_eq!(wal.append(&model.seal()), Err(WalError::Failed));
                return true;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// D12: no room is said before anything of the write is on disk, and heals.
#[test]
fn a_full_disk_loses_nothing_and_heals() {
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let mut wal = create();
        wal.files_mut().set_capacity(Some(8192 + 8 * 1024));
        let mut model = Model::default();
        let mut was_full = 0;
        for round in 0..100 {
            let write = model.next_write(&mut rng);
            let mut result = wal.append(&write);
            if result == Err(WalError::Full) {
                was_full += 1;
                assert_eq!(wal.persisted(), model.seq);
                if rng.below(2) == 0 {
                    let (again, recovered) = reopen(wal);
                    assert!(model.matches(&recovered), "seed {seed}, round {round}");
                    wal = again;
                }
                wal.files_mut().set_capacity(None);
                wal.trim(model.last().index).unwrap();
                wal.files_mut().set_capacity(Some(8192 + 8 * 1024));
                result = wal.append(&write);
            }
            if result == Err(WalError::Full) {
                wal.files_mut().set_capacity(None);
                result = wal.append(&write);
            }
            assert_eq!(result, Ok(()), "seed {seed}, round {round}");
            model.apply(&write);
        }
        assert!(was_full > 0, "seed {seed} never was full");
        let (_, recovered) = reopen(wal);
        assert!(model.matches(&recovered), "seed {seed}");
    }
}

/// Room for a new list is made from segments kept to be used again.
#[test]
fn trimming_works_on_a_full_disk() {
    let (mut wal, states) = written(5, 40, false);
    let last = states.last().unwrap().last().index;
    wal.trim(Index(last.0 / 2)).unwrap();
    let before = wal.disk_bytes();
    let used = wal.files().used();
    wal.files_mut().set_capacity(Some(used));
    wal.trim(last).unwrap();
    assert!(wal.disk_bytes() < before);
    let (_, recovered) = reopen(wal);
    assert!(states.last().unwrap().matches(&recovered));
}

/// One batch, one sync: what is appended together, and what has a segment of its own.
#[test]
fn an_append_costs_one_sync() {
    let mut wal = Wal::create(MemoryFiles::new(), WalLimits::default()).unwrap();
    let mut model = Model::default();
    let mut rng = Rng::new(9);
    for count in [1, 2, 50] {
        let mut writes = Vec::new();
        while writes.len() < count {
            let write = model.next_write(&mut rng);
            if !write.entries.is_empty() {
                model.apply(&write);
                writes.push(write);
            }
        }
        let before = wal.files().syncs();
        wal.append_all(&writes).unwrap();
        assert_eq!(wal.files().syncs(), before + 1);
    }
}

#[test]
fn a_batch_larger_than_a_segment_gets_one_of_its_own() {
    let mut wal = create();
    let mut model = Model::default();
    let mut rng = Rng::new(6);
    for count in [1, 40, 1, 3, 80, 80, 1] {
        let mut after = model.last();
        let mut entries = Vec::new();
        for _ in 0..count {
            after = LogId {
                term: Term(1),
                index: after.index.next(),
            };
            entries.push(entry(after, &mut rng));
        }
        let write = Write {
            seq: model.seq.next(),
            hard_state: HardState {
                term: Term(1),
                vote: None,
            },
            entries: entries.into(),
            install: None,
        };
        wal.append(&write).unwrap();
        model.apply(&write);
        let (again, recovered) = reopen(wal);
        assert!(model.matches(&recovered));
        wal = again;
    }
    wal.trim(Index(model.last().index.0 + 1)).unwrap();
    wal.prepare().unwrap();
    assert!(
        wal.disk_bytes() <= 4 * TINY.segment_bytes,
        "{}",
        wal.disk_bytes()
    );
}

/// These bytes are on disks. A difference here is a new version of the format, or a mistake.
#[test]
fn the_format_stays_what_it_is() {
    let mut wal = create();
    let hard_state = HardState {
        term: Term(1),
        vote: Some(NodeId(7)),
    };
    let entries = [1, 2].map(|index| Entry {
        id: LogId {
            term: Term(1),
            index: Index(index),
        },
        stamp: ClusterTime(1000 * index),
        payload: Payload::Empty,
    });
    for (seq, entries) in [(1, entries.to_vec()), (2, vec![])] {
        let write = Write {
            seq: WriteSeq(seq),
            hard_state,
            entries: entries.into(),
            install: None,
        };
        wal.append(&write).unwrap();
    }
    let mut text = String::new();
    for name in wal.files().list().unwrap() {
        for (number, line) in wal.files().bytes(&name).chunks(32).enumerate() {
            if line.iter().any(|&byte| byte != 0) {
                let hex: String = line.iter().map(|byte| format!("{byte:02x}")).collect();
                writeln!(text, "{name} {:04x}: {hex}", 32 * number).unwrap();
            }
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/wal.txt");
    if env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(path, &text).unwrap();
    }
    assert_eq!(text, fs::read_to_string(path).unwrap());
}

/// What closes a segment is durable before the next one is used: without it a power cut could hide
/// that the next one is gone.
#[test]
fn a_used_segment_is_missed_after_a_power_cut_too() {
    for seed in 50..70 {
        let (wal, states) = written(seed, 10, false);
        let mut files = wal.into_files();
        files.crash(|| false);
        for name in files.list().unwrap() {
            let mut files = files.clone();
            files.lose(&name);
            let context = format!("seed {seed}, {name} is gone");
            assert_ne!(check(&files, &states, &context), Verdict::Lost, "{context}");
        }
    }
}

/// Entries of `term` at `indices`, in a write of their own.
fn append(wal: &mut Wal<MemoryFiles>, states: &mut Vec<Model>, term: u64, indices: Range<u64>) {
    let mut rng = Rng::new(term);
    let mut model = states.last().unwrap().clone();
    let mut write = model.seal();
    write.hard_state.term = Term(term);
    let id = |index| LogId {
        term: Term(term),
        index: Index(index),
    };
    let entries = indices.map(|index| entry(id(index), &mut rng));
    write.entries = entries.collect();
    model.apply(&write);
    wal.append(&write).unwrap();
    states.push(model);
}

/// The log may begin after an entry that a later one superseded, and that one be lost: the newest
/// write names it, and nothing that is here came after it.
#[test]
fn a_lost_write_below_the_start_takes_all_entries_with_it() {
    // What is below 5 is in the tables. They may be ahead of the log, which then ends at 3.
    for last in [3, 4] {
        let (mut wal, mut states) = (create(), vec![Model::default()]);
        append(&mut wal, &mut states, 1, 1..5);
        let name = "wal.0000000002";
        while wal.files().bytes(name)[0] == 0 {
            append(&mut wal, &mut states, 1, 0..0);
        }
        append(&mut wal, &mut states, 1, 5..7);
        append(&mut wal, &mut states, 2, last..last + 1);
        append(&mut wal, &mut states, 2, 0..0);
        wal.trim(Index(5)).unwrap();
        let (wal, recovered) = reopen(wal);
        assert_eq!(recovered.start, states.last().unwrap().last());

        let files = wal.into_files();
        let mut damaged = 0;
        for at in offsets(&files, name) {
            let mut files = files.clone();
            files.flip(name, at, 0x10);
            let context = format!("last {last}, at {at}");
            let verdict = check(&files, &states, &context);
            damaged += usize::from(verdict == Verdict::Damaged);
        }
        assert!(damaged > 0, "last {last}");
    }
}

/// What is to be repaired stays so where there is more damage, before the place that was given up,
/// and not where it was repaired.
#[test]
fn a_debt_outlives_more_damage() {
    let (mut wal, mut states) = (create(), vec![Model::default()]);
    // Longer once than it was when damage struck.
    append(&mut wal, &mut states, 1, 1..4);
    append(&mut wal, &mut states, 2, 0..0);
    append(&mut wal, &mut states, 3, 2..3);
    append(&mut wal, &mut states, 4, 0..0);
    let files = wal.into_files();
    let name = "wal.0000000001";
    let places: Vec<usize> = offsets(&files, name).into_iter().step_by(8).collect();
    let again = |files: &MemoryFiles, place| {
        let mut files = files.clone();
        files.flip(name, place, 0x20);
        Wal::recover(files, TINY).unwrap().1
    };
    let mut damaged = 0;
    for &first in &places {
        let mut files = files.clone();
        files.flip(name, first, 0x10);
        let (mut wal, before) = Wal::recover(files, TINY).unwrap();
        if before.held.is_none() {
            continue;
        }
        append(&mut wal, &mut states.clone(), 5, 0..0);
        for &second in &places {
            let context = format!("at {first}, then at {second}");
            let after = again(wal.files(), second);
            assert_eq!(after.held, before.held, "{context}");
            assert_eq!(after.hard_state.term, Term(5), "{context}");
            damaged += usize::from(after.damage.is_some());
        }
        // The leader has what was there before it was superseded.
        let whole = &states[1];
        repair(&mut wal, &before, whole, "whole");
        for &second in &places {
            let context = format!("at {first}, repaired, then at {second}");
            let after = again(wal.files(), second);
            match after.held {
                Some(held) => assert_eq!(held, whole.last().index, "{context}"),
                None => assert_eq!(after.entries, whole.entries, "{context}"),
            }
        }
    }
    assert!(damaged > 0, "no damage was added");
}

/// D6 twice: a log that goes on after damage and comes to rest is damaged again. Nothing that was
/// written since is lost without a word, and what is to be repaired stays so.
#[test]
fn damage_after_damage_is_harmless_or_seen() {
    let mut owed = 0;
    for seed in 120..136 {
        let (files, states) = sealed(seed, 6, seed % 2 == 0);
        for (number, first) in places(&files).iter().enumerate() {
            let mut files = files.clone();
            files.flip(&first.0, first.1, 0x10);
            let Ok((mut wal, before)) = Wal::recover(files, TINY) else {
                continue;
            };
            let mut debt = before.held;
            let mut states = states.clone();
            let mut model = Model::from(before);
            let mut rng = Rng::new(number as u64);
            for _ in 0..3 {
                let write = model.next_write(&mut rng);
                model.apply(&write);
                wal.append(&write).unwrap();
                debt = debt.filter(|&held| model.last().index < held);
                states.push(model.clone());
            }
            let seal = model.seal();
            model.apply(&seal);
            wal.append(&seal).unwrap();
            for second in places(wal.files()) {
                let context = format!("seed {seed}, at {first:?}, then at {second:?}");
                let mut files = wal.files().clone();
                files.flip(&second.0, second.1, 0x20);
                let Ok((_, after)) = Wal::recover(files, TINY) else {
                    continue;
                };
                assert_eq!(after.hard_state, model.hard_state, "{context}");
                assert_eq!(after.persisted, model.seq, "{context}");
                let is_true = states.iter().any(|state| state.begins_with(&after));
                assert!(is_true, "{context}: wrong\n{after:#?}");
                assert!(after.held >= debt, "{context}: {debt:?} is forgotten");
                let end = after.entries.last().map_or(after.start, |entry| entry.id);
                match after.held {
                    Some(held) => assert!(end.index < held, "{context}"),
                    None => assert!(model.matches(&after), "{context}: said to be whole"),
                }
                owed += usize::from(debt.is_some() && after.damage.is_some());
            }
        }
    }
    assert!(owed > 0, "no damage met a debt: the test is blind");
}

/// Some of the places where there is something in the files of a log.
fn places(files: &MemoryFiles) -> Vec<(String, usize)> {
    const PLACE_BYTES: usize = 24;
    let mut places = Vec::new();
    for name in files.list().unwrap() {
        let bytes = files.bytes(&name);
        let step = if name == "wal.seals" {
            4096
        } else {
            PLACE_BYTES
        };
        let used = (0..bytes.len())
            .step_by(step)
            .filter(|&at| bytes[at..].iter().take(PLACE_BYTES).any(|&byte| byte != 0));
        places.extend(used.map(|at| (name.clone(), at)));
    }
    places
}

/// Until damage is given up for good its evidence stays: a crash on the way hides nothing.
#[test]
fn a_crash_while_damage_is_given_up_hides_nothing() {
    let mut resumed = 0;
    for seed in 70..78 {
        // Not at rest: all that shows the damage is in the segments that will be given up.
        let (wal, states) = written(seed, 10, false);
        for changes in 0..24 {
            let mut files = wal.files().clone();
            files.zero("wal.0000000001", 72..1024);
            let (mut wal, before) = Wal::recover(&mut files, TINY).unwrap();
            assert!(before.damage.is_some(), "seed {seed}");
            wal.files_mut().fail_after(Some(changes));
            resumed += u32::from(wal.resume().is_ok());
            let mut rng = Rng::new(seed * 100 + changes);
            files.crash(|| rng.below(2) == 0);
            let (_, after) = Wal::recover(files, TINY).unwrap();
            assert_eq!(after.held, before.held, "seed {seed}, {changes} changes");
            assert_eq!(after.hard_state, states.last().unwrap().hard_state);
            assert_eq!(after.entries, before.entries);
        }
    }
    assert!(resumed > 0, "it never came to an end");
}

/// What was begun and given up is gone from the disk before anything new is written.
#[test]
fn a_torn_tail_is_cleared() {
    let (wal, _) = written(80, 10, false);
    let mut files = wal.into_files();
    let names = files.list().unwrap();
    let used = |name: &&String| name.starts_with("wal.0") && files.bytes(name)[0] != 0;
    let name = names.iter().rfind(used).unwrap().clone();
    let end = files
        .bytes(&name)
        .iter()
        .rposition(|&byte| byte != 0)
        .unwrap();
    files.flip(&name, end, 0xff);
    let (mut wal, recovered) = Wal::recover(files, TINY).unwrap();
    let torn = recovered.torn.unwrap();
    assert_eq!(torn.file, name);
    let from = usize::try_from(torn.offset).unwrap();
    assert!(from < end);
    assert!(
        wal.files().bytes(&name)[from..]
            .iter()
            .any(|&byte| byte != 0),
        "read-only"
    );
    wal.resume().unwrap();
    assert!(
        wal.files().bytes(&name)[from..]
            .iter()
            .all(|&byte| byte == 0)
    );
}

/// The seal before the last one stays: a seal that is torn takes none with it.
#[test]
fn seals_are_written_in_turn() {
    let (files, states) = sealed(90, 3, false);
    let mut wal = Wal::recover(files, TINY).unwrap().0;
    let mut model = states.last().unwrap().clone();
    let mut last = None;
    for _ in 0..3 {
        let before = wal.files().bytes("wal.seals").to_vec();
        let seal = model.seal();
        model.apply(&seal);
        wal.append(&seal).unwrap();
        let after = wal.files().bytes("wal.seals");
        let changed = [0..4096, 4096..8192].map(|slot| before[slot.clone()] != after[slot]);
        assert!(changed[0] != changed[1], "{changed:?}");
        assert_ne!(last, Some(changed), "the same one again");
        last = Some(changed);
    }
}

/// Only a single write may be larger than a segment: many small ones are split.
#[test]
fn many_writes_are_split_at_segments() {
    let mut wal = create();
    let mut model = Model::default();
    let mut rng = Rng::new(12);
    let mut writes = Vec::new();
    for _ in 0..100 {
        let write = model.next_write(&mut rng);
        if write.entries.len() <= 1 {
            model.apply(&write);
            writes.push(write);
        }
    }
    wal.append_all(&writes).unwrap();
    for name in wal.files().list().unwrap() {
        assert!(
            name == "wal.seals" || wal.files().len(&name).unwrap() <= 1024,
            "{name}"
        );
    }
    let (_, recovered) = reopen(wal);
    assert!(model.matches(&recovered));
}

/// Wherever exactly the room ends: nothing is lost, and it goes on when there is more.
#[test]
fn full_at_any_byte_heals() {
    for slack in (0..1400).step_by(24) {
        let mut wal = create();
        let mut model = Model::default();
        let mut rng = Rng::new(slack);
        let capacity = wal.files().used() + slack;
        wal.files_mut().set_capacity(Some(capacity));
        let write = loop {
            let write = model.next_write(&mut rng);
            match wal.append(&write) {
                Ok(()) => model.apply(&write),
                Err(error) => {
                    assert_eq!(error, WalError::Full, "slack {slack}");
                    break write;
                }
            }
        };
        assert_eq!(wal.prepare(), Err(WalError::Full), "slack {slack}");
        wal.files_mut().set_capacity(None);
        wal.append(&write).unwrap();
        model.apply(&write);
        let (_, recovered) = reopen(wal);
        assert!(model.matches(&recovered), "slack {slack}");
    }
}

/// What opens and closes a segment says nothing that is not elsewhere too.
#[test]
fn a_damaged_opening_or_closing_costs_nothing() {
    for seed in 100..110 {
        let (files, states) = sealed(seed, 10, false);
        let name = "wal.0000000001";
        let closing = files
            .bytes(name)
            .iter()
            .rposition(|&byte| byte != 0)
            .unwrap();
        for at in [0, 20, closing] {
            let mut files = files.clone();
            files.flip(name, at, 0x08);
            let context = format!("seed {seed}, at {at}");
            assert_eq!(
                check(&files, &states, &context),
                Verdict::Whole,
                "{context}"
            );
        }
    }
}
