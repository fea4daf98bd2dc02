//! Coverage marks (SIMULATION.md §10): rare situations that a sweep must reach, or it shows little.
//!
//! What the simulator can see of them, it sees in `world/marking`; nothing that happens depends on
//! whether anyone counts.

use std::fmt;

/// Whether a sweep can be asked for a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// A sweep of [`SEEDS`] must reach it.
    Due,
    /// Nothing leads there yet.
    NotYet,
}

/// So many seeds of the default mix must reach all marks that are due, and all faults.
pub const SEEDS: u64 = 1_000;

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its mark.
    pub mark: Mark,
    /// How it is called.
    pub name: &'static str,
    /// The situation.
    pub what: &'static str,
    /// Whether it is asked for.
    pub reach: Reach,
}

macro_rules! marks {
    ($($mark:ident $reach:ident $name:literal $what:literal,)*) => {
        /// A rare situation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mark {
            $(#[doc = $what] $mark,)*
        }

        /// All marks.
        pub const TABLE: &[Row] = &[
            $(Row { mark: Mark::$mark, name: $name, what: $what, reach: Reach::$reach },)*
        ];
    };
}

marks! {
    // Elections.
    TwoLeaders Due "two-leaders" "two live leaders of different terms",
    TwoCandidates Due "two-candidates" "two live candidates of one term",
    PreVoteLost Due "pre-vote-lost" "a pre-candidate is refused and follows again",
    VoteLost Due "vote-lost" "a candidate is refused and follows again",
    VoteRefusedByLog Due "vote-refused-by-log" "no vote for one whose log is behind",
    VoteRefusedByVote Due "vote-refused-by-vote" "no vote for a second one in a term",
    VoteRefusedByLease Due "vote-refused-by-lease" "no vote while a leader is heard",
    VoteReplayed Due "vote-replayed" "a vote of an older term comes again (N4)",
    QuorumLost Due "quorum-lost" "a leader hears no quorum and steps down in its own term",
    HandedOver Due "handed-over" "a leader is elected since the one before asked for it",
    // Logs.
    OlderTermCommitted Due "older-term-committed" "a later leader commits an older term's entry",
    TwoTruncated Due "two-truncated" "a member overwrites two entries or more",
    LeaderTruncated Due "leader-truncated" "a member overwrites what it put there as leader",
    ConfigurationTruncated NotYet "configuration-truncated" "a change of members is overwritten",
    TwoConfigurationsTruncated NotYet "two-configurations-truncated"
        "two changes of members are overwritten at once",
    // Requests.
    ReadDropped Due "read-dropped" "a leader steps down with questions open",
    RepeatedInLog Due "repeated-in-log" "a request is committed twice, and done once",
    RetryAfterSnapshot Due "retry-after-snapshot" "a retry is answered from a snapshot's table",
    AnswerForgotten Due "answer-forgotten" "a retry comes after its answer was forgotten",
    ForwardOutlivesLeader Due "forward-outlives-leader"
        "a write that was passed on is answered in a later term",
    ForwardRefused Due "forward-refused" "a write that was passed on is refused there",
    WritesFull Due "writes-full" "a write is refused as busy",
    ReadsFull Due "reads-full" "a question is refused as busy",
    WatchesFull Due "watches-full" "a watch is refused as busy",
    DiskFullRefused Due "disk-full-refused" "a write is refused since the disk is full",
    StoppingRefused Due "stopping-refused" "a request is refused since its member stops",
    OutcomeUnknown Due "outcome-unknown" "a write is answered: nobody knows",
    // Snapshots.
    InstalledUnderWatches Due "installed-under-watches" "a snapshot comes under open watches",
    InstalledTwice Due "installed-twice" "two snapshots are installed and nothing in between",
    InstalledInConfiguration NotYet "installed-in-configuration"
        "a snapshot is installed during a change of members",
    SnapshotResumed Due "snapshot-resumed" "a snapshot goes on where its stream broke off",
    SnapshotDropped Due "snapshot-dropped" "a snapshot that came is of no use",
    // Disks.
    TornRecovered Due "torn-recovered" "a member starts from torn sectors",
    ReorderedRecovered Due "reordered-recovered" "a member starts from sectors out of order",
    DamageRecovered Due "damage-recovered" "a log with a bad synced record is whole again",
    SyncErrorRecovered Due "sync-error-recovered" "a member starts after a sync failed",
    FullRecovered Due "full-recovered" "a disk was full, and the log goes on",
    AcknowledgedInFlight Due "acknowledged-in-flight"
        "a power cut takes what was acknowledged from a disk that had not synced it",
    // Crashes at named points.
    CrashBetweenEffects Due "crash-between-effects" "a crash between two effects",
    CrashInLogWrite Due "crash-in-log-write" "a crash in the midst of a write to the log",
    CrashInRecovery Due "crash-in-recovery" "a crash in recovery",
    CrashInSwitch Due "crash-in-switch" "a crash while a snapshot takes the place of the tables",
    CrashInInstall Due "crash-in-install" "a crash when the tables are new and the log is old",
    CrashInCheckpoint Due "crash-in-checkpoint" "a crash during a checkpoint",
    CrashWhileStoring Due "crash-while-storing" "a crash while a snapshot is stored",
    CrashWhileSending Due "crash-while-sending" "a crash while a snapshot is sent",
    CrashWhileImpaired Due "crash-while-impaired" "a crash before a damaged log is whole again",
    // Times to live.
    RefreshWithExpiry Due "refresh-with-expiry" "a refresh and an expiry in one batch",
    EqualDeadlines Due "equal-deadlines" "one entry expires two nodes with one deadline",
    ExpiryAfterElection Due "expiry-after-election" "what a new leader does first is to expire",
    // Watches and history.
    WatchFromCleared Due "watch-from-cleared" "a watch from an index that is no longer kept",
    WatchFromFuture Due "watch-from-future" "a watch from an index that is still to come",
    WatchAcrossSnapshot Due "watch-across-snapshot" "a watch goes on over a snapshot",
    SlowWatcherEnded Due "slow-watcher-ended" "a watch is ended since it was too slow",
    HistoryMoved Due "history-moved" "the oldest event kept is another one",
    HistoryRead Due "history-read" "history is read back from disk",
    // Members.
    LeaderRemovedItself NotYet "leader-removed-itself" "a leader leaves",
    LearnerPromoted NotYet "learner-promoted" "a learner is promoted under a partition",
    EmptyRefused Due "empty-refused" "a member comes back with a wiped disk, and is refused",
    OneWayHealed Due "one-way-healed" "one that only heard, or only was heard, is back",
}

/// How many there are.
const COUNT: usize = TABLE.len();

/// Whether each was reached in a run; in how many of them, in a sweep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks([u64; COUNT]);

impl Default for Marks {
    fn default() -> Self {
        Self([0; COUNT])
    }
}

impl Marks {
    /// It is reached.
    pub const fn add(&mut self, mark: Mark) {
        self.add_if(true, mark);
    }

    /// It is reached, where `is_so`.
    pub const fn add_if(&mut self, is_so: bool, mark: Mark) {
        self.0[mark as usize] |= is_so as u64;
    }

    /// In how many runs it was.
    #[must_use]
    pub const fn of(&self, mark: Mark) -> u64 {
        self.0[mark as usize]
    }

    /// Whether it was.
    #[must_use]
    pub const fn contains(&self, mark: Mark) -> bool {
        self.of(mark) > 0
    }

    /// Adds other runs.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine += theirs;
        }
    }

    /// How many were reached at least once.
    #[must_use]
    pub fn reached(&self) -> usize {
        self.0.iter().filter(|&&times| times > 0).count()
    }

    /// Those that were not, of this reach, by name.
    #[must_use]
    pub fn missing(&self, reach: Reach) -> Vec<&'static str> {
        let missing = TABLE.iter().filter(|row| !self.contains(row.mark));
        let missing = missing.filter(|row| row.reach == reach);
        missing.map(|row| row.name).collect()
    }
}

/// In how many runs each was reached, and a line for each kind of those that were not.
impl fmt::Display for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "marks reached: {} of {COUNT}", self.reached())?;
        let mut mark = ":";
        for row in TABLE.iter().filter(|row| self.contains(row.mark)) {
            write!(f, "{mark} {}={}", row.name, self.of(row.mark))?;
            mark = "";
        }
        for (reach, title) in [
            (Reach::Due, "not reached"),
            (Reach::NotYet, "cannot be reached yet"),
        ] {
            let missing = self.missing(reach);
            if !missing.is_empty() {
                write!(f, "\n  {title}: {}", missing.join(" "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_mark_has_a_place_and_a_name_of_its_own() {
        let names: BTreeSet<_> = TABLE.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), COUNT);
        for (place, row) in TABLE.iter().enumerate() {
            assert_eq!(row.mark as usize, place);
            let is_kebab = |c: char| c.is_ascii_lowercase() || c == '-';
            assert!(row.name.chars().all(is_kebab), "{}", row.name);
            assert!(!row.what.is_empty());
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut marks = Marks::default();
        for row in TABLE.iter().filter(|row| row.mark != Mark::VoteLost) {
            marks.add_if(row.reach == Reach::Due, row.mark);
        }
        assert_eq!(marks.missing(Reach::Due), ["vote-lost"]);
        assert!(marks.to_string().contains("not reached: vote-lost"));
        let mut other = Marks::default();
        other.add(Mark::VoteLost);
        marks.merge(&other);
        assert!(marks.contains(Mark::VoteLost));
        assert_eq!(marks.missing(Reach::Due), [] as [&str; 0]);
        assert!(!marks.contains(Mark::LearnerPromoted));
        assert!(marks.to_string().contains("cannot be reached yet: conf"));
    }
}
