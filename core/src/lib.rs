//! The part of quorate that decides.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
// Tests and the generator of fuzz inputs need the standard library; core itself does not.
#[cfg(any(test, feature = "arbitrary"))]
extern crate std;

mod birth;
mod config;
mod ids;
mod input;
mod output;
pub mod raft;
pub mod rng;
pub mod store;
pub mod time;

pub use birth::{
    Birth, BirthError, BirthInput, BirthOutput, BirthRecord, BirthState, Confirmation, Founder,
};
pub use config::Config;
pub use ids::{
    ChangeId, DiskId, Index, LeaseId, LogId, NodeId, RequestId, Revision, Term, WatchId, WriteSeq,
};
pub use input::Input;
pub use output::{EndReason, HardState, Output, PeerFault, RequestError, Write};
pub use time::{ClusterTime, Duration, Instant};
