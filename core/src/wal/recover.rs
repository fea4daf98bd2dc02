//! From files to the log they hold: read-only, and believing nothing.
//!
//! Records are taken in order as long as each is whole and chains to the one before it. Where that
//! ends, everything after is searched: a whole record of a later write proves that what is missing
//! was durable once, so it is *damage*; without one it is the torn tail of a write that nobody was
//! told of (DESIGN.md §6).

use alloc::string::String;
use alloc::vec::Vec;

use super::error::WalError;
use super::files::Files;
use super::list::{LIST, List};
use super::record::{EMPTY_BYTES, Kind, Position, Record};
use super::seals::Seals;
use super::segment::{Cut, Image, Listed, Live};
use crate::ids::{Index, LogId, WriteSeq};
use crate::output::HardState;
use crate::raft::Entry;

/// What the log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The entry just before `entries`; zero where they begin at the beginning.
    pub start: LogId,
    /// The entries, contiguous.
    pub entries: Vec<Entry>,
    /// Term and vote after the last write that is known of: also after damage, the newest.
    pub hard_state: HardState,
    /// The last write that is known of.
    pub persisted: WriteSeq,
    /// After damage, now or before an earlier start: the log must be repaired through here before
    /// this member votes, campaigns or acknowledges (DESIGN.md §6). `entries` end below it.
    pub held: Option<Index>,
    /// What was durable and is not what it was.
    pub damage: Option<Damage>,
    /// Where a write was cut short that nobody was told of.
    pub torn: Option<Torn>,
}

impl Recovered {
    /// Whether the log goes on from `id`: holds it, or begins just after it.
    #[must_use]
    pub fn contains(&self, id: LogId) -> bool {
        let mut ids = self.entries.iter().map(|entry| entry.id);
        self.start == id || ids.any(|entry| entry == id)
    }
}

/// A place in the log that was durable and is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// In which file.
    pub file: String,
    /// Where in it, in bytes.
    pub offset: u64,
    /// The last index of the log by the newest write that can still be read.
    pub held: Index,
    /// What is wrong there.
    pub what: &'static str,
}

/// Where the log ends in a write that was cut short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// In which file.
    pub file: String,
    /// Where in it, in bytes.
    pub offset: u64,
}

/// The log, and where writing it goes on.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) recovered: Recovered,
    /// The segments the log is in; never none.
    pub(super) live: Vec<Live>,
    /// Those that stand ready.
    pub(super) ready: Vec<Listed>,
    /// Where the log ends in the last of `live`.
    pub(super) offset: u64,
    /// Where in it the write begins that may not be durable though it can be read: the last one.
    pub(super) unsure: u64,
    /// How things stand there; after damage, by the newest write that is known of.
    pub(super) position: Position,
    pub(super) seals: Seals,
    /// Whether the list names segments that are not there.
    pub(super) stale: bool,
}

/// Reads the log.
pub(super) fn replay<F: Files>(files: &F) -> Result<Replayed, WalError> {
    let list = List::load(files)?;
    let seals = Seals::load(files);
    let mut log = Log::new(&list);
    let (image, at) = read_segments(files, &list, &mut log)?;

    let passed = log.live.len();
    let in_segment = newest_record(&image, at, log.position, None)?;
    let mut newest = in_segment;
    let mut ready = Vec::new();
    let mut stale = false;
    for listed in &list.segments[passed..] {
        let image = Image::read(files, listed)?;
        newest = newest_record(&image, 0, log.position, newest)?;
        if image.missing || image.short {
            stale = true;
        } else {
            ready.push(*listed);
        }
    }
    let cuts = list.segments[passed - 1..].iter().filter_map(|s| s.cut);
    for cut in cuts {
        newest = newer(newest, cut.then);
        // That the log was long enough once, before it was cut there, repaired nothing.
        log.held = list.held;
    }
    // What this segment lost at its end nobody knows, unless the log is seen to have left it.
    if (image.missing || image.short) && newest == in_segment {
        return Err(if image.missing {
            WalError::Missing { file: image.name }
        } else {
            image.damaged(image.bytes.len(), "it was cut here")
        });
    }
    if let Some(seal) = seals.newest
        && seal.seq > log.position.seq
    {
        newest = newer(newest, seal);
    }

    // Where the last batch may have been, "nothing" is not to be believed: it was not read.
    if newest.is_none()
        && let Some(unread) = image.unread_at(at)
    {
        return Err(image.damaged(unread, "it cannot be read here"));
    }

    let damage = newest.map(|newest| Damage {
        file: image.name.clone(),
        offset: at as u64,
        held: newest.last.index,
        what: if image.missing {
            "it is missing"
        } else {
            "a record that was durable is lost"
        },
    });
    let torn = (damage.is_none() && image.is_torn(at)).then(|| Torn {
        file: image.name.clone(),
        offset: at as u64,
    });
    if let Some(newest) = newest {
        log.give_up(newest);
        ready.clear();
    }
    Ok(log.end(at, ready, seals, stale, damage, torn))
}

/// Reads segments until the log does not go on; returns the one it ends in, and where.
fn read_segments<F: Files>(
    files: &F,
    list: &List,
    log: &mut Log,
) -> Result<(Image, usize), WalError> {
    for (number, listed) in list.segments.iter().enumerate() {
        log.enter(listed);
        let image = Image::read(files, listed)?;
        if let Some(at) = log.read(&image, listed.cut, list.held)? {
            let next = list.segments.get(number + 1);
            if listed.cut.is_some() || !log.goes_on(files, next)? {
                return Ok((image, at));
            }
        }
    }
    let what = "the log goes on in a segment that is not listed";
    Err(WalError::damaged(LIST, 0, what))
}

/// The newer of `newest` and the newest record from `from` on, where it is later than `position`.
fn newest_record(
    image: &Image,
    from: usize,
    position: Position,
    mut newest: Option<Position>,
) -> Result<Option<Position>, WalError> {
    for record in image.records(from) {
        let after = record?.after;
        if after.seq > position.seq {
            newest = newer(newest, after);
        }
    }
    Ok(newest)
}

fn newer(newest: Option<Position>, other: Position) -> Option<Position> {
    Some(newest.map_or(other, |newest| {
        if newest.seq < other.seq {
            other
        } else {
            newest
        }
    }))
}

/// The log as far as it has been read.
///
/// Invariant: `entries` are contiguous from the one after `start`, and the last of them, or
/// `start`, is `position.last`.
struct Log {
    start: LogId,
    entries: Vec<Entry>,
    position: Position,
    live: Vec<Live>,
    /// Where the last write begins in the last of `live`; the first one begins with the segment.
    last_write: usize,
    /// What must be repaired, as an earlier start left it.
    held: Option<Index>,
}

impl Log {
    fn new(list: &List) -> Self {
        let mut log = Self {
            start: list.start.last,
            entries: Vec::new(),
            position: list.start,
            live: Vec::new(),
            last_write: 0,
            held: list.held,
        };
        log.heal();
        log
    }

    fn enter(&mut self, listed: &Listed) {
        self.live.push(Live {
            listed: *listed,
            start: self.position,
            last: Index::ZERO,
        });
        self.last_write = 0;
    }

    /// Takes in what the segment holds of the log. Returns where it breaks off, or `None` where the
    /// log goes on in the next one.
    fn read(
        &mut self,
        image: &Image,
        cut: Option<Cut>,
        held: Option<Index>,
    ) -> Result<Option<usize>, WalError> {
        let mut at = 0;
        let mut opened = false;
        loop {
            if let Some(cut) = cut
                && cut.at == at as u64
            {
                self.jump(cut.then, held)?;
                return Ok(None);
            }
            let Some((record, end)) = image.record(at)? else {
                // An opening says nothing that is not known here: without it the log is whole.
                let skip = cut.is_some_and(|cut| cut.at == EMPTY_BYTES as u64);
                if at == 0 && (skip || image.record(EMPTY_BYTES)?.is_some()) {
                    at = EMPTY_BYTES;
                    continue;
                }
                return Ok(Some(at));
            };
            if record.before != self.position.chain {
                return Ok(Some(at));
            }
            match record.kind {
                Kind::Open => opened = true,
                Kind::Batch => {
                    self.absorb(&record)
                        .map_err(|what| image.damaged(at, what))?;
                    // The first one was written together with the opening before it.
                    self.last_write = if opened { 0 } else { at };
                    opened = false;
                }
                Kind::Close => return Ok(None),
                Kind::Seal => return Err(image.damaged(at, "a seal in a segment")),
            }
            at = end;
        }
    }

    /// Whether the log goes on from here in `next`, so that no more than the closing of this
    /// segment is damaged.
    fn goes_on<F: Files>(&self, files: &F, next: Option<&Listed>) -> Result<bool, WalError> {
        let Some(next) = next else { return Ok(false) };
        let image = Image::read(files, next)?;
        let first = match image.record(0)? {
            Some(opening) => Some(opening),
            None => image.record(EMPTY_BYTES)?,
        };
        Ok(first.is_some_and(|(record, _)| {
            record.before == self.position.chain && record.after.seq >= self.position.seq
        }))
    }

    /// # Errors
    /// What cannot follow what was read so far, though checksum and chain are right.
    fn absorb(&mut self, record: &Record<'_>) -> Result<(), &'static str> {
        if record.after.seq <= self.position.seq {
            return Err("a write that was there before");
        }
        if record.after.hard_state.term < self.position.hard_state.term {
            return Err("a term that falls");
        }
        for entry in record.entries()? {
            self.push(entry)?;
        }
        if record.after.last != self.last() {
            return Err("entries that are not those it names");
        }
        self.position = record.after;
        self.heal();
        Ok(())
    }

    fn push(&mut self, entry: Entry) -> Result<(), &'static str> {
        let index = entry.id.index;
        let live = self.live.last_mut().expect("a segment was entered");
        live.last = live.last.max(index);
        if index <= self.start.index {
            // It supersedes what is no longer kept, and so need not be kept itself.
            self.entries.clear();
            self.start = entry.id;
            return Ok(());
        }
        if index.0 - 1 > self.last().index.0 {
            return Err("a gap between entries");
        }
        self.truncate(Index(index.0 - 1));
        if entry.id.term < self.last().term {
            return Err("an entry of a term that is over");
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Drops the entries after `last`, but nothing at or before `start`.
    fn truncate(&mut self, last: Index) {
        let keep = last.0.saturating_sub(self.start.index.0);
        self.entries
            .truncate(usize::try_from(keep).unwrap_or(usize::MAX));
    }

    /// Passes over damage that an earlier start gave up.
    fn jump(&mut self, then: Position, held: Option<Index>) -> Result<(), WalError> {
        if then.last.index <= self.start.index {
            // What it cut back to is no longer kept.
            self.entries.clear();
            self.start = then.last;
        }
        self.truncate(then.last.index);
        if self.last() != then.last {
            return Err(WalError::damaged(
                LIST,
                0,
                "a cut that does not fit the log",
            ));
        }
        self.position = then;
        self.held = held;
        self.heal();
        Ok(())
    }

    /// Gives up what cannot be read between here and `newest`.
    fn give_up(&mut self, newest: Position) {
        if newest.last.index <= self.start.index {
            // What is lost superseded all that is here, and is no longer kept: nothing is missed.
            self.entries.clear();
            self.start = newest.last;
        } else if newest.last != self.position.last {
            self.held = self.held.max(Some(newest.last.index));
            // Entries here may have been superseded by what is lost. As long as the log is shorter
            // than it was, only a leader can bring it there again, and so checks all before.
            self.truncate(Index(newest.last.index.0 - 1));
        }
        self.position = Position {
            last: self.last(),
            ..newest
        };
        self.heal();
    }

    /// Once the log is as long as it was, it is whole: later truncations are Raft's own.
    fn heal(&mut self) {
        self.held = self.held.filter(|&held| self.position.last.index < held);
    }

    fn last(&self) -> LogId {
        self.entries.last().map_or(self.start, |entry| entry.id)
    }

    fn end(
        self,
        at: usize,
        ready: Vec<Listed>,
        seals: Seals,
        stale: bool,
        damage: Option<Damage>,
        torn: Option<Torn>,
    ) -> Replayed {
        assert_eq!(self.position.last, self.last(), "the log lost its end");
        Replayed {
            recovered: Recovered {
                start: self.start,
                entries: self.entries,
                hard_state: self.position.hard_state,
                persisted: self.position.seq,
                held: self.held,
                damage,
                torn,
            },
            live: self.live,
            ready,
            offset: at as u64,
            unsure: self.last_write as u64,
            position: self.position,
            seals,
            stale,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::ids::Term;
    use crate::raft::Payload;
    use crate::rng::Rng;
    use crate::time::ClusterTime;
    use crate::wal::segment::segment_name;
    use crate::wal::{MemoryFiles, Wal, WalLimits, frame, record};

    const LIMITS: WalLimits = WalLimits {
        segment_bytes: 1024,
        ready_segments: 1,
        spare_segments: 0,
    };

    fn id(term: u64, index: u64) -> LogId {
        LogId {
            term: Term(term),
            index: Index(index),
        }
    }

    fn position(seq: u64, term: u64, last: LogId, chain: u64) -> Position {
        Position {
            seq: WriteSeq(seq),
            hard_state: HardState {
                term: Term(term),
                vote: None,
            },
            last,
            chain,
        }
    }

    /// An empty log into whose segment `fill` writes bodies of frames, whole ones with right
    /// checksums.
    fn recover(bodies: &[Vec<u8>]) -> Result<Recovered, WalError> {
        let wal = Wal::create(MemoryFiles::new(), LIMITS).expect("there is room");
        let mut files = wal.into_files();
        let mut segment = vec![0; EMPTY_BYTES];
        for body in bodies {
            frame::append(&mut segment, 1, body);
        }
        files
            .write_at(&segment_name(1), 0, &segment)
            .expect("it is there");
        Wal::recover(files, LIMITS).map(|(_, recovered)| recovered)
    }

    fn body(kind: Kind, after: &Position, entries: &[LogId]) -> (Vec<u8>, u64) {
        let mut bytes = Vec::new();
        record::begin(&mut bytes);
        for &id in entries {
            let entry = Entry {
                id,
                stamp: ClusterTime::ZERO,
                payload: Payload::Empty,
            };
            record::put_entry(&mut bytes, &entry);
        }
        let count = u32::try_from(entries.len()).expect("a few");
        let length = bytes.len();
        let chain = record::finish(&mut bytes, 0, kind, after, count);
        (bytes[frame::HEADER_BYTES..length].to_vec(), chain)
    }

    /// Two batches, of which the second is as given.
    fn second(after: fn(u64) -> Position, entries: &[LogId]) -> Result<Recovered, WalError> {
        let (first, chain) = body(
            Kind::Batch,
            &position(1, 2, id(2, 2), 0),
            &[id(1, 1), id(2, 2)],
        );
        let (second, _) = body(Kind::Batch, &after(chain), entries);
        recover(&[first, second])
    }

    fn what(result: Result<Recovered, WalError>) -> &'static str {
        match result {
            Err(WalError::Damaged { file, what, .. }) => {
                assert_eq!(file, segment_name(1));
                what
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_later_batch_wins() {
        let found = second(|chain| position(2, 3, id(3, 2), chain), &[id(3, 2)]);
        let ids: Vec<_> = found
            .expect("it is whole")
            .entries
            .iter()
            .map(|entry| entry.id)
            .collect();
        assert_eq!(ids, [id(1, 1), id(3, 2)]);
    }

    #[test]
    fn what_cannot_follow_is_refused() {
        let gap = second(|chain| position(2, 3, id(3, 4), chain), &[id(3, 4)]);
        assert_eq!(what(gap), "a gap between entries");
        let last = second(|chain| position(2, 3, id(3, 4), chain), &[id(3, 3)]);
        assert_eq!(what(last), "entries that are not those it names");
        let term = second(|chain| position(2, 3, id(1, 3), chain), &[id(1, 3)]);
        assert_eq!(what(term), "an entry of a term that is over");
        let falls = second(|chain| position(2, 1, id(2, 2), chain), &[]);
        assert_eq!(what(falls), "a term that falls");
        let again = second(|chain| position(1, 2, id(2, 2), chain), &[]);
        assert_eq!(what(again), "a write that was there before");
        let far = second(
            |chain| position(2, 2, id(2, u64::MAX), chain),
            &[id(2, u64::MAX)],
        );
        assert_eq!(what(far), "a gap between entries");
    }

    #[test]
    fn a_batch_that_does_not_chain_is_damage() {
        let found = second(|chain| position(2, 3, id(3, 2), chain ^ 1), &[id(3, 2)]);
        let found = found.expect("what was before it can be read");
        assert_eq!(found.damage.map(|damage| damage.held), Some(Index(2)));
        assert_eq!(found.held, Some(Index(2)));
        assert_eq!(
            (found.persisted, found.hard_state.term),
            (WriteSeq(2), Term(3))
        );
        // Entry 2 may be one that was superseded.
        assert_eq!(found.entries.len(), 1);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let (good, _) = body(Kind::Batch, &position(1, 1, id(1, 1), 0), &[id(1, 1)]);
        let broken = |at: usize, value: u8| {
            let mut body = good.clone();
            body[at] = value;
            what(recover(&[body]))
        };
        assert_eq!(broken(0, 9), "record of an unknown kind");
        assert_eq!(broken(2, 2), "record of an unknown version");
        assert_eq!(broken(4, 0), "record with more in it than its entries");
        assert_eq!(broken(7, 255), "entry that is malformed");
        assert_eq!(broken(good.len() - 1, 77), "entry that is malformed");
        assert_eq!(what(recover(&[vec![1; 20]])), "short record");
        let (seal, _) = body(Kind::Seal, &position(0, 0, LogId::ZERO, 0), &[]);
        assert_eq!(what(recover(&[seal])), "a seal in a segment");
    }

    #[test]
    fn arbitrary_records_never_panic() {
        for seed in 0..3000 {
            let mut rng = Rng::new(seed);
            let (mut good, _) = body(Kind::Batch, &position(1, 1, id(1, 1), 0), &[id(1, 1)]);
            for _ in 0..=rng.below(3) {
                let at = usize::try_from(rng.below(good.len() as u64)).expect("it is small");
                good[at] = rng.next_u64().to_le_bytes()[0] >> rng.below(8);
            }
            drop(recover(&[good.clone(), good]));
        }
    }
}
