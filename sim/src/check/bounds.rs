//! What is limited: B1 to B6. The limits are those of [`Config`], of [`Settings`] and of the log's
//! files.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use quorate_core::raft::Entry;
use quorate_core::store::Settings;
use quorate_core::{Config, Index, NodeId, Queues, Term, Write};

use super::{Verdict, ensure};
use crate::clock::{RATE_ERROR_PPM, Time};

/// Messages that may wait for a disk, for each peer. No limit names them, but they are all
/// different: a pre-vote, a vote, two answers to each, and two to appends, proposals and questions.
const HELD_MAX: usize = 12;

/// What a record of the log takes besides what its entries weigh: its frame and header, what each
/// batch repeats, and filling.
const RECORD_BYTES: u64 = 160;

/// The list of segments, seals, and either of them while it is replaced.
const SMALL_FILES_BYTES: u64 = 16 << 10;

/// Messages about one entry between a leader and a peer: the entry, that it is there, that it is
/// committed, and the answer to that.
const MESSAGES_AN_ENTRY: u64 = 4;

/// What waits in a member; it `led_with` so much that was not committed when it became leader, and
/// its last entry weighs `last`. `peers` others are members.
///
/// # Errors
/// B1: too many writes wait, too much is not committed, too many messages wait for the disk. B4:
/// too many questions, too many watches.
pub fn queues(
    seat: usize,
    queues: Queues,
    (led_with, last): (usize, usize),
    peers: usize,
    config: &Config,
) -> Verdict {
    // What came from older terms cannot be refused any more, and an entry of any size goes alone.
    let uncommitted_max = config.uncommitted_bytes_max.max(led_with).max(last);
    let limits = [
        ("B1", "writes", queues.writes, config.proposals_max),
        (
            "B1",
            "uncommitted bytes",
            queues.uncommitted_bytes,
            uncommitted_max,
        ),
        ("B1", "held messages", queues.held, HELD_MAX * peers),
        ("B4", "questions", queues.reads, config.reads_max),
        ("B4", "watches", queues.watches, config.watches_max),
    ];
    for (id, what, many, most) in limits {
        ensure(many <= most, id, &[seat], || {
            format!("n{seat} has {many} {what}; the limit is {most}")
        })?;
    }
    Ok(())
}

/// A member keeps so many answers for retries. It has `applied` the log so far, and learned at
/// `configured` how many it may keep: what is over goes a bounded number at a time.
///
/// # Errors
/// B4: too many.
pub fn answers(
    seat: usize,
    kept: usize,
    configured: Index,
    applied: Index,
    settings: &Settings,
) -> Verdict {
    let entries = applied.0.saturating_sub(configured.0);
    let gone = entries.saturating_mul(Settings::FORGOTTEN_PER_ENTRY_MAX as u64);
    // One more with each entry before that, at most.
    let most = settings.requests_max.max(configured.0.saturating_sub(gone));
    ensure(kept as u64 <= most, "B4", &[seat], || {
        format!("n{seat} keeps {kept} answers, {entries} entries after it was told: {settings:?}")
    })
}

/// A member says that it is too busy for a question, or for a watch: `open` others are.
///
/// # Errors
/// B4: they are fewer than the limit.
pub fn refused(seat: usize, what: &str, open: usize, most: usize) -> Verdict {
    ensure(open >= most, "B4", &[seat], || {
        format!("n{seat} is too busy for one more of {what}, with {open} of {most}")
    })
}

/// A member has forgotten what it needs no longer: of its log, which starts after `start`, nothing
/// below `own` is needed by itself. `bytes` is what the log weighs.
///
/// # Errors
/// B2: it keeps more for its peers than it may.
pub fn retained(seat: usize, start: Index, own: Index, bytes: usize, most: usize) -> Verdict {
    ensure(start.next() >= own || bytes <= most, "B2", &[seat], || {
        format!(
            "n{seat} needs its log from {own} on, and keeps {bytes} bytes from {} on; for its \
             peers it may keep {most}",
            start.next()
        )
    })
}

/// The log of one member on disk, as far as its writes tell.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// Of each write since the first that is needed: the last entry in it, and its bytes.
    writes: VecDeque<(Index, u64)>,
    /// The sum of these bytes, and the longest of these writes.
    bytes: u64,
    longest: u64,
    /// A full disk kept segments from being given up, until that is tried again.
    is_behind: bool,
}

impl Written {
    /// A log that was found on disk: the last entry, its bytes, and those of the longest write that
    /// may be in it. Such a write has a segment of its own.
    #[must_use]
    pub fn found(last: Index, bytes: u64, longest: u64) -> Self {
        Self {
            writes: VecDeque::from([(last, bytes)]),
            bytes,
            longest,
            is_behind: false,
        }
    }

    /// This is on disk from now on.
    pub fn adds(&mut self, write: &Write) {
        if write.install.is_some() {
            (self.bytes, self.writes) = (0, VecDeque::new());
        }
        let bytes = weight(write);
        let last = write
            .entries
            .last()
            .map_or(Index::ZERO, |last| last.id.index);
        self.writes.push_back((last, bytes));
        self.bytes += bytes;
        self.longest = self.longest.max(bytes);
    }

    /// Nothing below `below` is needed any more; on a `full` disk it stays for the time being.
    pub fn trims(&mut self, below: Index, full: bool) {
        self.is_behind = full;
        while let Some(&(last, bytes)) = self.writes.front()
            && last < below
        {
            self.writes.pop_front();
            self.bytes -= bytes;
        }
    }

    /// `seat` has so many bytes of log on disk, in segments of `segment` bytes.
    ///
    /// # Errors
    /// B2: more than what was written since the first entry that is needed, twice, since the end of
    /// a segment may stay empty; and the one before it, the one that stands ready, and the one
    /// being written.
    pub fn holds(&self, seat: usize, bytes: u64, segment: u64) -> Verdict {
        let most = 2 * self.bytes + 4 * segment.max(self.longest);
        ensure(bytes <= most || self.is_behind, "B2", &[seat], || {
            let written = self.bytes;
            format!("n{seat} has {bytes} bytes of log on disk; it needs what was {written} bytes")
        })
    }
}

/// The bytes of a write in the log, at most.
pub fn weight(write: &Write) -> u64 {
    let entries: usize = write.entries.iter().map(Entry::weight).sum();
    RECORD_BYTES + entries as u64
}

/// The files of a member, but for slices of history, are so long; its log is `log` bytes of that.
///
/// # Errors
/// B3: there is more than segments to be used again, the list of segments, and seals.
pub fn disk(seat: usize, bytes: u64, log: u64, spare: u64) -> Verdict {
    let most = log + spare + SMALL_FILES_BYTES;
    ensure(bytes <= most, "B3", &[seat], || {
        format!("n{seat} has {bytes} bytes on disk, of which {log} are its log")
    })
}

/// The slices of history of a member, on disk, and those that something lists.
///
/// # Errors
/// B3: one that nothing lists.
pub fn slices<T: Ord + std::fmt::Debug>(
    seat: usize,
    there: &BTreeSet<T>,
    listed: &BTreeSet<T>,
) -> Verdict {
    let stray = there.difference(listed).next();
    ensure(stray.is_none(), "B3", &[seat], || {
        format!("n{seat} has a slice on disk that nothing lists: {stray:?}")
    })
}

/// Batches on their way to peers: by sender and receiver, the term of one that is not answered.
#[derive(Clone, Debug, Default)]
pub struct Windows(BTreeMap<(usize, NodeId), Term>);

impl Windows {
    /// `seat` sends `entries` to a peer.
    ///
    /// # Errors
    /// B5: the batch is too large, or another is on its way and nothing was heard since.
    pub fn sends(
        &mut self,
        seat: usize,
        to: NodeId,
        term: Term,
        entries: &[Entry],
        config: &Config,
    ) -> Verdict {
        if entries.is_empty() {
            return Ok(());
        }
        let bytes: usize = entries.iter().map(Entry::weight).sum();
        let fits = entries.len() == 1
            || entries.len() <= config.batch_entries_max && bytes <= config.batch_bytes_max;
        ensure(fits, "B5", &[seat], || {
            let many = entries.len();
            format!("n{seat} sends n{to} {many} entries of {bytes} bytes at once")
        })?;
        let before = self.0.insert((seat, to), term);
        ensure(before != Some(term), "B5", &[seat], || {
            format!(
                "n{seat} sends n{to} a second batch in term {term} before the first is answered"
            )
        })
    }

    /// `seat` hears from a peer, or is told that it is gone or sent a snapshot.
    pub fn hears(&mut self, seat: usize, from: NodeId) {
        self.0.remove(&(seat, from));
    }

    /// `seat` starts anew.
    pub fn restarts(&mut self, seat: usize) {
        self.0.retain(|(sender, _), _| *sender != seat);
    }
}

/// How much had been said when there was nothing left to ask (B6).
#[derive(Clone, Debug)]
pub struct Quiet {
    /// When.
    pub since: Time,
    /// Messages that members of the core had sent.
    pub messages: u64,
    /// The last entry committed.
    pub committed: Index,
    /// Messages of before that had come.
    pub late: u64,
}

/// How much was said in a time without requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// How long it was.
    pub span: Duration,
    /// Messages that members of the core sent.
    pub messages: u64,
    /// Entries committed: what fell due.
    pub entries: u64,
    /// Messages of before that came only now.
    pub late: u64,
}

/// The `core`, so many of `members`, was connected and had nothing to do but what fell due.
///
/// # Errors
/// B6: it said more than heartbeats, their answers, what each entry takes, answers to those outside
/// that ask for votes, and to what came late.
pub fn quiet(core: &[usize], members: usize, traffic: Traffic, config: &Config) -> Verdict {
    let Traffic {
        span,
        messages,
        entries,
        late,
    } = traffic;
    let times = |interval: Duration| {
        // The fastest clock, and one that was due at either end.
        let span = span.as_nanos() * (1_000_000 + u128::from(RATE_ERROR_PPM)) / 1_000_000;
        u64::try_from(span / interval.as_nanos()).unwrap_or(u64::MAX) + 2
    };
    let (peers, core_peers) = (members as u64 - 1, core.len() as u64 - 1);
    let outside = (members - core.len()) as u64;
    let beats = times(config.heartbeat_interval) * (peers + core_peers);
    let votes = times(config.election_timeout) * outside * core.len() as u64;
    // What comes late may be news: that is asked about, and answered.
    let most = beats + votes + entries * MESSAGES_AN_ENTRY * peers + 2 * late;
    ensure(messages <= most, "B6", core, || {
        format!("{messages} messages in {span:?} for {entries} entries; {most} would do")
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use quorate_core::raft::Payload;
    use quorate_core::{ClusterTime, HardState, LogId, WriteSeq};

    use super::super::id_of;
    use super::*;

    fn config() -> Config {
        Config {
            proposals_max: 3,
            reads_max: 4,
            watches_max: 5,
            uncommitted_bytes_max: 1_000,
            batch_entries_max: 2,
            ..Config::default()
        }
    }

    fn entries(indexes: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
        let entry = |index| Entry {
            id: LogId {
                term: Term(1),
                index: Index(index),
            },
            stamp: ClusterTime::ZERO,
            payload: Payload::Empty,
        };
        indexes.map(entry).collect()
    }

    fn write(entries: Vec<Entry>) -> Write {
        Write {
            seq: WriteSeq(1),
            hard_state: HardState::default(),
            entries: Arc::from(entries),
            install: None,
        }
    }

    #[test]
    fn b1_b4_queues_over_their_limits() {
        let full = Queues {
            writes: 3,
            reads: 4,
            watches: 5,
            uncommitted_bytes: 1_000,
            held: 2 * HELD_MAX,
        };
        let seen = |of: Queues| queues(0, of, (0, 64), 2, &config());
        assert_eq!(seen(full), Ok(()));
        assert_eq!(id_of(&seen(Queues { writes: 4, ..full })), "B1");
        assert_eq!(id_of(&seen(Queues { reads: 5, ..full })), "B4");
        assert_eq!(id_of(&seen(Queues { watches: 6, ..full })), "B4");
        let held = 2 * HELD_MAX + 1;
        assert_eq!(id_of(&seen(Queues { held, ..full })), "B1");
        let heavy = Queues {
            uncommitted_bytes: 1_001,
            ..full
        };
        assert_eq!(id_of(&seen(heavy)), "B1");
        let with = |led_with, last| queues(0, heavy, (led_with, last), 2, &config());
        assert_eq!(with(1_001, 64), Ok(()), "it came to lead with as much");
        assert_eq!(with(0, 1_001), Ok(()), "it is one entry");
    }

    #[test]
    fn b2_a_log_that_is_kept_too_long() {
        let kept = |start, bytes| retained(0, Index(start), Index(10), bytes, 500);
        assert_eq!(kept(9, 900), Ok(()), "it needs all of it");
        assert_eq!(kept(3, 500), Ok(()));
        assert_eq!(id_of(&kept(3, 501)), "B2");
    }

    #[test]
    fn b2_segments_that_are_not_given_up() {
        let mut written = Written::found(Index(5), 8_000, 0);
        for index in 6..=9 {
            written.adds(&write(entries(index..=index)));
        }
        let (one, segment) = (RECORD_BYTES + 64, 1_000);
        let holds = |written: &Written, bytes| written.holds(0, bytes, segment);
        let most = 2 * (8_000 + 4 * one) + 4 * segment;
        assert_eq!(holds(&written, most), Ok(()));
        assert_eq!(id_of(&holds(&written, most + 1)), "B2");
        written.trims(Index(8), false);
        let most = 2 * 2 * one + 4 * segment;
        assert_eq!(holds(&written, most), Ok(()));
        assert_eq!(id_of(&holds(&written, most + 1)), "B2");
        let large = Written::found(Index(5), 0, 3_000);
        assert_eq!(holds(&large, 4 * 3_000), Ok(()), "what crashed was large");
        assert_eq!(id_of(&holds(&large, 4 * 3_000 + 1)), "B2");
        written.trims(Index(9), true);
        assert_eq!(holds(&written, most), Ok(()), "the disk is full");
        let install = Some(LogId::ZERO);
        let installs = Write {
            install,
            ..write(Vec::new())
        };
        written.trims(Index(9), false);
        written.adds(&installs);
        assert_eq!(id_of(&holds(&written, 2 * one + 4 * segment)), "B2");
    }

    #[test]
    fn b3_files_beyond_the_log() {
        assert_eq!(disk(0, 5_000 + SMALL_FILES_BYTES, 4_000, 1_000), Ok(()));
        let more = disk(0, 5_001 + SMALL_FILES_BYTES, 4_000, 1_000);
        assert_eq!(id_of(&more), "B3");
        let listed = BTreeSet::from([1, 2, 3]);
        assert_eq!(slices(0, &BTreeSet::from([1, 3]), &listed), Ok(()));
        assert_eq!(id_of(&slices(0, &BTreeSet::from([1, 4]), &listed)), "B3");
    }

    #[test]
    fn b4_answers_that_are_not_forgotten_and_refusals_without_need() {
        let settings = Settings {
            requests_max: 10,
            ..Settings::default()
        };
        let kept = |kept, applied| answers(0, kept, Index(300), Index(applied), &settings);
        assert_eq!(kept(10, 900), Ok(()));
        assert_eq!(id_of(&kept(11, 900)), "B4");
        assert_eq!(kept(44, 301), Ok(()), "256 with each entry");
        assert_eq!(id_of(&kept(45, 301)), "B4");
        assert_eq!(refused(0, "watches", 4, 4), Ok(()));
        assert_eq!(id_of(&refused(0, "watches", 3, 4)), "B4");
    }

    #[test]
    fn b5_two_batches_at_a_time() {
        let mut windows = Windows::default();
        let peer = NodeId(7);
        let sends = |windows: &mut Windows, term, entries: &[Entry]| {
            windows.sends(0, peer, Term(term), entries, &config())
        };
        let two = entries(1..=2);
        assert_eq!(sends(&mut windows, 1, &two), Ok(()));
        assert_eq!(sends(&mut windows, 1, &[]), Ok(()), "a heartbeat");
        assert_eq!(id_of(&sends(&mut windows, 1, &two)), "B5");
        windows.hears(0, peer);
        assert_eq!(sends(&mut windows, 1, &two), Ok(()));
        assert_eq!(sends(&mut windows, 2, &two), Ok(()), "it leads anew");
        windows.restarts(0);
        assert_eq!(sends(&mut windows, 2, &two), Ok(()));
        windows.hears(0, peer);
        let three = entries(1..=3);
        assert_eq!(id_of(&sends(&mut windows, 2, &three)), "B5");
    }

    #[test]
    fn b6_a_cluster_that_chatters() {
        let config = Config::default();
        let said_late = |core: &[usize], messages, entries, late| {
            let span = Duration::from_secs(10);
            let traffic = Traffic {
                span,
                messages,
                entries,
                late,
            };
            quiet(core, 3, traffic, &config)
        };
        let said = |core: &[usize], messages, entries| said_late(core, messages, entries, 0);
        // A heartbeat each 100 ms to two peers, and their answers.
        let idle = 102 * 4;
        assert_eq!(said(&[0, 1, 2], idle, 0), Ok(()));
        assert_eq!(id_of(&said(&[0, 1, 2], idle + 1, 0)), "B6");
        assert_eq!(said(&[0, 1, 2], idle + 5 * 8, 5), Ok(()));
        assert_eq!(id_of(&said(&[0, 1, 2], idle + 5 * 8 + 1, 5)), "B6");
        assert_eq!(said_late(&[0, 1, 2], idle + 6, 0, 3), Ok(()));
        assert_eq!(id_of(&said_late(&[0, 1, 2], idle + 7, 0, 3)), "B6");
        // One of them is outside, and asks each second.
        let fewer = 102 * 3 + 12 * 2;
        assert_eq!(said(&[0, 1], fewer, 0), Ok(()));
        assert_eq!(id_of(&said(&[0, 1], fewer + 1, 0)), "B6");
    }
}
