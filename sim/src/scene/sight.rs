//! What may be seen: one type for each kind of thing that a picture shows.

use quorate_core::LogId;

use crate::clock::Time;
use crate::fault::Fault;

/// A message between two nodes, on one of its ways.
#[derive(Clone, Debug)]
pub struct Message {
    /// From whom.
    pub from: usize,
    /// To whom.
    pub to: usize,
    /// When it left.
    pub sent: Time,
    /// When it reached the node, or would have; `None` where it was lost at once.
    pub arrived: Option<Time>,
    /// The step of its end.
    pub step: u64,
    /// Its kind, a place in [`MESSAGE_KINDS`].
    pub kind: u8,
    /// Its term.
    pub term: u64,
    /// What it says.
    pub text: String,
    /// The entries it is about, `(after, through]`.
    pub indexes: (u64, u64),
    /// Why it was lost; empty where it was not.
    pub fate: String,
}

/// What the kinds of messages are called.
pub const MESSAGE_KINDS: [&str; 13] = [
    "pre-vote",
    "pre-vote answer",
    "vote",
    "vote answer",
    "append",
    "append answer",
    "timeout now",
    "propose",
    "propose refused",
    "read index",
    "read index answer",
    "snapshot",
    "heartbeat",
];

/// The kind of an append without entries.
pub const HEARTBEAT: u8 = 12;

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// See [`quorate_core::raft::Role`].
    Follower,
    /// Asks whether a campaign would succeed.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
    /// Its process is gone.
    Down,
    /// It recovers.
    Starting,
}

/// What a node is, in which term, for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What.
    pub part: Part,
    /// Its term; zero where no process runs.
    pub term: u64,
    /// Whom it voted for.
    pub vote: Option<usize>,
    /// Whom it follows.
    pub leader: Option<usize>,
}

impl Standing {
    /// No process runs.
    #[must_use]
    pub const fn without(part: Part) -> Self {
        Self {
            part,
            term: 0,
            vote: None,
            leader: None,
        }
    }
}

/// How far a node has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last entry of its log.
    pub last: LogId,
    /// On its disk.
    pub persisted: u64,
    /// Committed, as far as it knows.
    pub committed: u64,
    /// Applied.
    pub applied: u64,
}

/// Something that changed on a node.
#[derive(Clone, Debug)]
pub struct Change<T> {
    /// Where.
    pub seat: usize,
    /// When.
    pub at: Time,
    /// In which step.
    pub step: u64,
    /// What it is now.
    pub now: T,
    /// Why, or what else there is to say.
    pub why: String,
}

/// What a disk was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Job {
    /// The log.
    Log,
    /// A checkpoint.
    Checkpoint,
    /// A snapshot that was received.
    Store,
    /// A snapshot takes the place of the tables.
    Install,
}

impl Job {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Checkpoint => "checkpoint of",
            Self::Store => "received snapshot of",
            Self::Install => "install snapshot of",
        }
    }
}

/// Something that was handed to a disk.
#[derive(Clone, Debug)]
pub struct Writing {
    /// Whose.
    pub seat: usize,
    /// What for.
    pub job: Job,
    /// When.
    pub from: Time,
    /// When it was durable, or came to nothing.
    pub to: Option<Time>,
    /// In which step it was handed over.
    pub step: u64,
    /// In which step that ended.
    pub ended: u64,
    /// What.
    pub text: String,
    /// The entries in it, `(after, through]`.
    pub indexes: (u64, u64),
    /// Whether it is durable.
    pub durable: bool,
}

/// What lies over a node for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Band {
    /// Over whom.
    pub seat: usize,
    /// The fault's id.
    pub fault: Fault,
    /// Since when.
    pub from: Time,
    /// Until when.
    pub to: Time,
    /// What it means.
    pub text: String,
}

/// Which band it is: of this kind, over this node, of the one that began then.
pub type BandName = (Fault, usize, Time);

/// What a mark on a lane stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// A fault struck.
    Strike,
    /// A snapshot took the place of the tables.
    Installed,
    /// Of all lanes: the faults end.
    Heal,
}

/// A moment on a lane.
#[derive(Clone, Debug)]
pub struct Mark {
    /// What.
    pub sign: Sign,
    /// Where.
    pub seat: Option<usize>,
    /// When.
    pub at: Time,
    /// In which step.
    pub step: u64,
    /// In words.
    pub text: String,
}

/// A snapshot on its way.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// From whom.
    pub from: usize,
    /// To whom.
    pub to: usize,
    /// When it was asked for.
    pub begun: Time,
    /// When it had arrived, or came to nothing.
    pub ended: Option<Time>,
    /// In which step.
    pub step: u64,
    /// Whether it arrived.
    pub arrived: bool,
    /// What it holds.
    pub text: String,
}

/// What came of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its client still waits.
    Open,
    /// Done.
    Done,
    /// Not done, for sure.
    Refused,
    /// Nobody told.
    Unknown,
}

/// One try of an operation.
#[derive(Clone, Debug)]
pub struct Try {
    /// The node asked.
    pub seat: usize,
    /// When the question left.
    pub asked: Time,
    /// When it arrived.
    pub arrived: Option<Time>,
    /// When the answer left.
    pub answered: Option<Time>,
    /// When the try was over.
    pub ended: Option<Time>,
    /// What came of it.
    pub text: String,
}

/// What a client wants.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Which client.
    pub client: usize,
    /// Its number, unique in the run.
    pub number: u64,
    /// When it began.
    pub begun: Time,
    /// When it was over.
    pub over: Option<Time>,
    /// The last step that concerned it.
    pub step: u64,
    /// Whether it changes something.
    pub writes: bool,
    /// What is asked.
    pub asked: String,
    /// Of which key.
    pub key: String,
    /// What came of it.
    pub outcome: Outcome,
    /// A try of it may have been done, and nobody told.
    pub unsure: bool,
    /// The last that its client heard.
    pub answer: String,
    /// The entry that the answer belongs to.
    pub at: Option<LogId>,
    /// How it was tried.
    pub tries: Vec<Try>,
}

/// What a watcher was told.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Who.
    pub client: usize,
    /// By whom.
    pub seat: usize,
    /// When.
    pub at: Time,
    /// In which step.
    pub step: u64,
    /// What.
    pub text: String,
    /// The store's index of the event; zero of what is none.
    pub index: u64,
}
