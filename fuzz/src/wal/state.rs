//! What a log must say: the obvious way.

use arbitrary::Arbitrary;
use quorate_core::raft::{Entry, Payload};
use quorate_core::store::{Command, Content, Operation, Path, Put, When};
use quorate_core::wal::Recovered;
use quorate_core::{ClusterTime, HardState, Index, LogId, NodeId, Write, WriteSeq};

/// A log in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    start: LogId,
    entries: Vec<Entry>,
    hard_state: HardState,
    pub(super) seq: WriteSeq,
    /// After damage: what it must hold again to be whole.
    pub(super) held: Option<Index>,
}

/// How a write goes on from a log.
#[derive(Clone, Debug, Arbitrary)]
pub(super) struct WriteKind {
    /// Terms that pass before it.
    terms: u8,
    vote: Option<u8>,
    /// So many of the last entries are overwritten.
    overwrites: u8,
    /// The value bytes of each entry.
    entries: [Option<u8>; 3],
}

impl WriteKind {
    /// One that is longer than many segments.
    pub(super) const fn long() -> Self {
        Self {
            terms: 0,
            vote: None,
            overwrites: 0,
            entries: [Some(255); 3],
        }
    }
}

impl State {
    pub(super) fn last(&self) -> LogId {
        self.entries.last().map_or(self.start, |entry| entry.id)
    }

    /// Goes on by a write, and returns that.
    pub(super) fn write(&mut self, kind: &WriteKind) -> Write {
        let mut hard_state = self.hard_state;
        let first = u64::from(hard_state.term.0 == 0);
        let overwrites = usize::from(kind.overwrites % 4).min(self.entries.len());
        // Entries are overwritten by another term's only.
        let terms = u64::from(kind.terms % 3) + first + u64::from(overwrites > 0);
        if terms > 0 {
            hard_state.term.0 += terms;
            hard_state.vote = kind.vote.map(|vote| NodeId(vote.into()));
        }
        let lengths: Vec<u8> = kind.entries.iter().flatten().copied().collect();
        if !lengths.is_empty() {
            self.entries.truncate(self.entries.len() - overwrites);
        }
        let mut entries = Vec::new();
        for length in lengths {
            let before = entries.last().map_or(self.last(), |entry: &Entry| entry.id);
            let id = LogId {
                term: hard_state.term,
                index: before.index.next(),
            };
            entries.push(entry(id, length));
        }
        self.entries.extend_from_slice(&entries);
        self.hard_state = hard_state;
        let end = self.last().index;
        self.held = self.held.filter(|&held| end < held);
        self.written(entries)
    }

    /// Goes on by a write that says nothing new.
    pub(super) fn seal(&mut self) -> Write {
        self.written(Vec::new())
    }

    fn written(&mut self, entries: Vec<Entry>) -> Write {
        self.seq = self.seq.next();
        Write {
            seq: self.seq,
            hard_state: self.hard_state,
            entries: entries.into(),
            install: None,
        }
    }

    /// The same after all entries gave way to a snapshot.
    pub(super) fn restarted(&self, start: LogId) -> Self {
        Self {
            start,
            entries: Vec::new(),
            ..self.clone()
        }
    }

    /// Whether `recovered` is this, but for entries that may have been trimmed.
    pub(super) fn is_in(&self, recovered: &Recovered) -> bool {
        self.is_at(recovered) && self.after(recovered.start) == Some(&recovered.entries)
    }

    /// Whether `recovered` knows of the same last write.
    pub(super) fn is_at(&self, recovered: &Recovered) -> bool {
        recovered.hard_state == self.hard_state && recovered.persisted == self.seq
    }

    /// Whether the log in `recovered` is a beginning of this one.
    pub(super) fn begins_with(&self, recovered: &Recovered) -> bool {
        let after = self.after(recovered.start);
        after.is_some_and(|entries| entries.starts_with(&recovered.entries))
    }

    /// The entries after `id`, if the log has that.
    pub(super) fn after(&self, id: LogId) -> Option<&[Entry]> {
        if id == self.start {
            return Some(&self.entries);
        }
        let place = self.entries.iter().position(|entry| entry.id == id)?;
        Some(&self.entries[place + 1..])
    }
}

impl From<Recovered> for State {
    fn from(recovered: Recovered) -> Self {
        Self {
            start: recovered.start,
            entries: recovered.entries,
            hard_state: recovered.hard_state,
            seq: recovered.persisted,
            held: recovered.held,
        }
    }
}

fn entry(id: LogId, length: u8) -> Entry {
    let payload = match length {
        0 => Payload::Empty,
        1 => Payload::Expire {
            limit: 1,
            until: ClusterTime(9),
        },
        _ => {
            let put = Put {
                path: Path::root().child(b"key"),
                content: Content::Value(vec![length; length.into()].into()),
                when: When::Always,
                ttl: None,
            };
            let command = Command {
                client: None,
                operation: Operation::Put(put),
            };
            Payload::Command(command.into())
        }
    };
    Entry {
        id,
        stamp: ClusterTime(id.index.0),
        payload,
    }
}
