//! The numbers that name things. Each is its own type, so that a term never stands in for an index.

use core::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $format:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(Serialize, Deserialize)]
        #[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
        pub struct $name(pub u64);

        impl $name {
            /// Before the first one.
            pub const ZERO: Self = Self(0);

            /// The one after this.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }
    };
}

number! {
    /// A member of the cluster. Derived from the birth record, or drawn when a member is added
    /// (DESIGN.md §4); never chosen on a command line. Shown in lower-case hexadecimal.
    NodeId, "{:x}"
}
number! {
    /// A term of Raft (Raft §5.1). Zero is before the first election.
    Term, "{}"
}
number! {
    /// A place in the log, from 1. Zero is the place before the first entry. Ranges of indexes are
    /// written `(after, through]`.
    Index, "{}"
}
number! {
    /// Names a [`Write`](crate::Write). Dense, from 1: one `Persisted` covers all earlier writes.
    WriteSeq, "w{}"
}
number! {
    /// The store's counter: the v2 index, and the revision of the v3 API to come. It moves by one
    /// for each v2-visible event (DESIGN.md §5). The first change is 1.
    Revision, "{}"
}
number! {
    /// Pairs an answer with its question inside one process. Not the client's own request id, which
    /// is inside [`Command`](crate::store::Command).
    RequestId, "r{}"
}
number! {
    /// A watch of one process.
    WatchId, "h{}"
}
number! {
    /// A lease. Those from [`LeaseId::PRIVATE`] on belong to a single v2 node with a TTL.
    LeaseId, "{:x}"
}

impl Revision {
    /// The revision `by` further on.
    #[must_use]
    pub const fn plus(self, by: u64) -> Self {
        Self(self.0 + by)
    }
}

impl LeaseId {
    /// The first id of the range reserved for the TTLs of v2 nodes: a client never names one.
    pub const PRIVATE: Self = Self(1 << 63);
}

/// An entry of the log: its term and its index. Two logs that agree on one agree on all before it
/// (Raft §5.3).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct LogId {
    /// The term it was proposed in. First, so that the derived order is «up to date» (Raft §5.4.1).
    pub term: Term,
    /// Its place.
    pub index: Index,
}

impl LogId {
    /// Before the first entry.
    pub const ZERO: Self = Self {
        term: Term::ZERO,
        index: Index::ZERO,
    };
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

/// One change of the store: the revision of the command that made it, and its number within it.
///
/// The first subs of a command are its v2 events, so `revision + sub` is their v2 index; the
/// records of what went away with a directory follow, and are no v2 events (DESIGN.md §5).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct ChangeId {
    /// The revision of the command.
    pub revision: Revision,
    /// The number within the command, from 0.
    pub sub: u32,
}

impl ChangeId {
    /// Before the first change.
    pub const ZERO: Self = Self {
        revision: Revision::ZERO,
        sub: 0,
    };

    /// The v2 index of a v2-visible change.
    #[must_use]
    pub const fn index(self) -> Revision {
        Revision(self.revision.0 + self.sub as u64)
    }
}

impl fmt::Display for ChangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.revision, self.sub)
    }
}

/// A formatted data directory, drawn at random when it is made. A wiped disk is another member,
/// whatever its flags say (DESIGN.md §4).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct DiskId(pub u128);

impl fmt::Display for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
