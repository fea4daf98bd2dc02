//! The birth of a static cluster (DESIGN.md §4): every listed disk must confirm the same record
//! before any of them campaigns, votes or serves.
//!
//! A majority would not be enough: two majorities of different records may share a name whose disk
//! was wiped in between, and each would serve its own cluster.

mod machine;
mod record;

pub use machine::{Birth, BirthError, BirthInput, BirthOutput, BirthState, Confirmation};
pub use record::{BirthRecord, Founder};
