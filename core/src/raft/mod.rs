//! Raft, as in the paper and Ongaro's thesis.

mod entry;
mod membership;
mod message;
mod status;

pub use entry::{Entries, Entry, Payload};
pub use membership::Configuration;
pub use message::{AppendOutcome, Message, MessageBody};
pub use status::{Role, Status};
