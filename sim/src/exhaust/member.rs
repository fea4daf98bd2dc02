//! One member of a search: the shipped replica, its disk and its clock.

use std::fmt;
use std::time::Duration;

use quorate_core::codec::{decode_message, encode_message};
use quorate_core::raft::{Entry, Message, Role};
use quorate_core::store::Store;
use quorate_core::{
    Config, HardState, Input, Instant, LogId, Opening, Output, Replica, RequestError, RequestId,
    Write, WriteSeq,
};

use super::cluster::Cluster;
use crate::check::linearizability::Asked;
use crate::check::{Checks, Verdict, Violation};
use crate::clock::Time;
use crate::log::describe;

/// Clocks go on by this much, or not at all. It is the least election timeout.
pub(super) const QUANTUM: Duration = Duration::from_secs(1);

/// Nothing is measured against true time in a search.
pub(super) const NOW: Time = Time(0);

/// A member: everything that outlives a step.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) replica: Replica,
    disk: Disk,
    now: Instant,
    /// Counts its processes.
    starts: u64,
}

/// What a crash leaves, and the write that it may or may not leave.
#[derive(Clone, Debug, Default)]
struct Disk {
    hard_state: HardState,
    entries: Vec<Entry>,
    last: WriteSeq,
    writing: Option<Write>,
}

/// What can happen to a member.
#[derive(Clone, Copy, Debug)]
pub(super) enum Happening<'a> {
    /// A message arrives.
    Arrives { from: usize, message: &'a Message },
    /// No message for longer than any election timeout; a leader does not wait that long.
    TimesOut,
    /// No message for the least election timeout: the leader is no longer taken to be at work.
    Lapses,
    /// The write on its way is durable.
    Written,
    /// A client asks.
    Asked { operation: usize },
    /// Its process ends and starts again. The write on its way is `kept`, or it is not.
    Crashes { kept: bool },
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Messages, and to whom.
    pub(super) sent: Vec<(usize, Message)>,
    /// Its disk takes its time for what is written now, instead of being done at once.
    pub(super) slow: bool,
    /// Whether anything was written.
    pub(super) wrote: bool,
    /// Whether anything at all was said.
    pub(super) spoke: bool,
    /// Operations that were answered, one bit for each.
    pub(super) answered: u64,
    /// What it did, in words, where somebody reads them.
    pub(super) lines: Option<Vec<String>>,
}

impl Member {
    /// With an empty disk.
    pub(super) fn new(cluster: &Cluster, seat: usize) -> Self {
        let disk = Disk::default();
        Self {
            replica: open(cluster, seat, &disk, Instant(0), 0),
            disk,
            now: Instant(0),
            starts: 0,
        }
    }

    /// Whether a write is on its way.
    pub(super) const fn is_writing(&self) -> bool {
        self.disk.writing.is_some()
    }

    /// Whether it takes its leader to be at work, and so would not hear of another.
    pub(super) fn is_sticky(&self) -> bool {
        let raft = self.replica.raft();
        let follows = raft.role() == Role::Follower && raft.leader().is_some();
        follows && raft.age(self.now).is_some_and(|age| age < QUANTUM)
    }

    /// Something happens, and all that follows from it at once.
    ///
    /// # Errors
    /// What does not hold.
    pub(super) fn happens(
        &mut self,
        cluster: &Cluster,
        seat: usize,
        happening: Happening<'_>,
        checks: &mut Checks,
        outcome: &mut Outcome,
    ) -> Verdict {
        match happening {
            Happening::Arrives { from, message } => {
                let from = cluster.nodes[from];
                let message = through_codec(seat, message)?;
                let before = checks.before(&self.replica, &message);
                self.step(Input::Receive { from, message });
                checks.after(seat, before, &self.replica)?;
            }
            Happening::TimesOut => {
                let quanta = if self.replica.raft().is_leader() {
                    1
                } else {
                    2
                };
                self.now = self.now + QUANTUM * quanta;
                self.step(Input::Deadline);
            }
            Happening::Lapses => {
                self.now = self.now + QUANTUM;
                self.step(Input::Deadline);
            }
            Happening::Written => self.written(seat, checks),
            Happening::Asked { operation } => self.asked(cluster, operation, checks),
            Happening::Crashes { kept } => self.crashes(cluster, seat, kept, checks)?,
        }
        self.turn(cluster, seat, checks, outcome)
    }

    /// Whether it knows whom to turn to with what it is asked.
    pub(super) fn knows_leader(&self) -> bool {
        self.replica.raft().leader().is_some()
    }

    /// What its disk would be after a power cut now.
    pub(super) fn durable(&self) -> (HardState, &[Entry]) {
        (self.disk.hard_state, &self.disk.entries)
    }

    /// What is on its way is durable.
    fn written(&mut self, seat: usize, checks: &mut Checks) {
        let write = self.disk.writing.take().expect("a write is on its way");
        self.disk.write(&write);
        checks.durable(seat, std::slice::from_ref(&write));
        self.step(Input::Persisted { through: write.seq });
    }

    fn step(&mut self, input: Input) {
        self.replica.step(self.now, input);
    }

    fn asked(&mut self, cluster: &Cluster, operation: usize, checks: &mut Checks) {
        let request = RequestId(operation as u64);
        let asked = &cluster.operations[operation];
        if checks.are_on() {
            checks.witness.asks(request.0, asked.clone());
            if let Asked::Write(command) = asked {
                checks.witness.hands_in(command);
            }
        }
        match asked {
            Asked::Write(command) => {
                let command = (**command).clone();
                self.step(Input::Propose { request, command });
            }
            Asked::Read(query) => {
                let query = query.clone();
                self.step(Input::Read { request, query });
            }
        }
    }

    fn crashes(
        &mut self,
        cluster: &Cluster,
        seat: usize,
        kept: bool,
        checks: &mut Checks,
    ) -> Verdict {
        if let Some(write) = self.disk.writing.take().filter(|_| kept) {
            self.disk.write(&write);
        }
        if cluster.disks_forget {
            self.disk = Disk::default();
        }
        self.starts += 1;
        self.replica = open(cluster, seat, &self.disk, self.now, self.starts);
        let Disk {
            hard_state,
            entries,
            ..
        } = &self.disk;
        let (start, applied) = (LogId::ZERO, LogId::ZERO);
        checks.restarted(NOW, seat, *hard_state, start, entries, applied, None)
    }

    /// Polls until there is nothing left to do.
    fn turn(
        &mut self,
        cluster: &Cluster,
        seat: usize,
        checks: &mut Checks,
        outcome: &mut Outcome,
    ) -> Verdict {
        checks.observe(NOW, seat, &self.replica)?;
        while let Some(output) = self.replica.poll(self.now) {
            checks.observe(NOW, seat, &self.replica)?;
            outcome.spoke = true;
            if let Some(lines) = &mut outcome.lines {
                lines.push(told(cluster, seat, &output));
            }
            self.output(cluster, seat, output, checks, outcome)?;
        }
        checks.observe(NOW, seat, &self.replica)
    }

    fn output(
        &mut self,
        cluster: &Cluster,
        seat: usize,
        output: Output,
        checks: &mut Checks,
        outcome: &mut Outcome,
    ) -> Verdict {
        match output {
            Output::Persist(write) => {
                checks.persists(seat, &write)?;
                assert!(self.disk.writing.is_none(), "two writes on their way");
                self.disk.writing = Some(write);
                outcome.wrote = true;
                if !outcome.slow {
                    self.written(seat, checks);
                }
                Ok(())
            }
            Output::Send { to, message } => {
                checks.sends(seat, to, &self.replica, &message)?;
                outcome.sent.push((cluster.seat_of(to), message));
                Ok(())
            }
            Output::Reply { request, result } if checks.are_on() => {
                let not_done = matches!(
                    result,
                    Err(RequestError::NotLeader { .. }
                        | RequestError::Busy
                        | RequestError::DiskFull
                        | RequestError::Stopping)
                );
                let Checks {
                    witness,
                    ledger,
                    model,
                    ..
                } = checks;
                if let Some(handed) = cluster.handed(request).filter(|_| not_done) {
                    witness.refuses(handed)?;
                }
                witness.answers(request.0, seat, &result, ledger, model)?;
                witness.closes(request.0);
                outcome.answered |= u64::from(result.is_ok()) << request.0;
                Ok(())
            }
            Output::Reply { .. } => Ok(()),
            Output::Fault { peer, fault } => {
                let what = format!("n{seat} accuses n{}: {fault}", cluster.seat_of(peer));
                Err(Violation::new("peer-fault", &[seat], what))
            }
            Output::Checkpoint(_)
            | Output::TrimLog { .. }
            | Output::SendSnapshot { .. }
            | Output::DropSnapshot { .. }
            | Output::ReadHistory { .. }
            | Output::Watching { .. }
            | Output::Notify { .. }
            | Output::WatchEnd { .. } => {
                let what = format!("nothing in a search asks for {}", describe(seat, &output));
                Err(Violation::new("search", &[seat], what))
            }
        }
    }
}

impl Disk {
    /// A write is there whole: the log's frames see to that (`quorate_core::wal`).
    fn write(&mut self, write: &Write) {
        assert!(
            write.install.is_none(),
            "a snapshot, and no log was trimmed"
        );
        self.hard_state = write.hard_state;
        self.last = write.seq;
        if let Some(first) = write.entries.first() {
            self.entries.retain(|entry| entry.id.index < first.id.index);
            self.entries.extend(write.entries.iter().cloned());
        }
    }
}

impl fmt::Display for Happening<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arrives { from, message } => {
                write!(f, "hears n{from} @{} {}", message.term, message.body)
            }
            Self::TimesOut => write!(f, "has heard nothing for an election timeout"),
            Self::Lapses => write!(f, "has heard nothing for the least election timeout"),
            Self::Written => write!(f, "has written"),
            Self::Asked { operation } => write!(f, "is asked operation {operation}"),
            Self::Crashes { kept: false } => write!(f, "crashes, without what it was writing"),
            Self::Crashes { kept: true } => write!(f, "crashes, with what it was writing"),
        }
    }
}

fn open(cluster: &Cluster, seat: usize, disk: &Disk, now: Instant, starts: u64) -> Replica {
    let opening = Opening {
        birth: cluster.birth.clone(),
        node: cluster.nodes[seat],
        hard_state: disk.hard_state,
        store: Store::new(),
        log_start: LogId::ZERO,
        entries: disk.entries.clone(),
        persisted: disk.last,
        held: None,
        seed: (seat as u64) << 32 | starts,
    };
    Replica::new(cluster.config.clone(), opening, now)
}

fn through_codec(seat: usize, message: &Message) -> Result<Message, Violation> {
    decode_message(&encode_message(message)).map_err(|error| {
        let what = format!("a message to n{seat} is refused: {error}");
        Violation::new("codec", &[seat], what)
    })
}

/// Limits and timeouts of a search: nothing happens by itself but elections.
pub(super) fn config(batch: usize) -> Config {
    Config {
        election_timeout: QUANTUM,
        heartbeat_interval: QUANTUM / 10,
        seal_after: Duration::MAX,
        checkpoint_interval: Duration::MAX,
        batch_entries_max: batch,
        ..Config::default()
    }
}

/// What a member says, in one line.
fn told(cluster: &Cluster, seat: usize, output: &Output) -> String {
    match output {
        Output::Send { to, message } => {
            let to = cluster.seat_of(*to);
            format!("tells n{to} @{} {}", message.term, message.body)
        }
        Output::Persist(write) => format!("writes {write}"),
        Output::Reply { request, result } => match result {
            Ok(response) => format!("answers operation {}: {:?}", request.0, response.body),
            Err(error) => format!("refuses operation {}: {error}", request.0),
        },
        Output::Checkpoint(_)
        | Output::TrimLog { .. }
        | Output::SendSnapshot { .. }
        | Output::DropSnapshot { .. }
        | Output::ReadHistory { .. }
        | Output::Watching { .. }
        | Output::Notify { .. }
        | Output::WatchEnd { .. }
        | Output::Fault { .. } => describe(seat, output),
    }
}
