//! The log on disk, and the other files that are ours.
//!
//! A small synchronous machine over [`Files`], so that the simulator runs it by the sector.
//!
//! | file | holds |
//! |---|---|
//! | `wal.0000000007` | a segment: an opening record, one record for each sync, a closing record |
//! | `wal.segments` | which segments are the log, in order, and how things stood at its beginning |
//! | `wal.seals` | how far the log had come when it last rested |
//! | `slice.<revision>.<sub>` | a slice of history, see [`slice`](mod@slice) |
//! | others | small ones of the member, replaced whole, see [`small`] |
//!
//! - Everything is in frames: a length, a checksum over the content **and its place** (file or
//!   generation of the segment, and offset). Segments are used again without being cleared; what
//!   they said before never counts.
//! - What is made durable by one sync is one record. So a record that is not whole, with nothing
//!   whole after it, was never acknowledged; with a later one it was, and is damage.
//! - Every record repeats term, vote, write number, the last entry and a chain hash over all
//!   batches before it, so that any survivor tells how far the log had come.
//! - A segment is in the list before it is written to, and it is closed before the next one is: a
//!   segment that is gone or cut is missed.
//! - Reading changes nothing. [`Wal::resume`] accepts what was read.

mod disk;
mod error;
mod files;
mod frame;
mod list;
mod memory;
mod pool;
mod record;
mod recover;
mod seals;
mod segment;
pub mod slice;
pub mod small;
mod writer;

pub use error::WalError;
pub use files::{FileError, Files};
pub use memory::MemoryFiles;
pub use recover::{Damage, Recovered, Torn};
pub use writer::{Wal, WalLimits};
