//! The part of quorate that decides: Raft, the store, watches, and the formats of log and messages.
//!
//! There is no clock here, no socket, no thread, no file and no random source; time and seeds are
//! arguments, and everything else goes in as an [`Input`] and comes out as an [`Output`]. So the
//! simulator runs the very code that serves in production.
//!
//! # Map
//!
//! | where | what |
//! |---|---|
//! | [`Replica`] | a whole member, behind `step`, `poll` and `deadline` |
//! | [`raft`] | consensus on the log: elections, replication, reads, what is durable |
//! | [`store`] | what the log does: keys, leases, history, watches, answers to retries |
//! | [`wal`] | the log on disk, over a small trait of files; what recovery makes of damage |
//! | [`codec`] | messages, writes and snapshots as bytes |
//! | [`snapshot`] | the order of a snapshot's pieces, and where to go on after a break |
//! | [`BirthRecord`] | who founded the cluster |
//!
//! # Invariants
//!
//! * Equal inputs at equal times give equal outputs, on every machine.
//! * `step` emits nothing, `poll` computes on demand, and they may interleave in any order.
//! * What has to be on disk before it is said is held back until [`Input::Persisted`].
//! * All state of the product is a function of the log: expiry, floors and request ids included.
//! * No message of a peer and no byte of a disk can make it panic; its own invariants are asserted.
//!
//! # The driver
//!
//! Every driver, the real one and the simulated one, is this loop:
//!
//! ```
//! use quorate_core::store::{Command, Content, Operation, Path, Put, Store, When};
//! use quorate_core::*;
//!
//! let founder = Founder {
//!     name: "solo".into(),
//!     peer_urls: vec!["http://127.0.0.1:2380".into()],
//!     disk: DiskId(7),
//!     key: [0; 32],
//! };
//! let birth = BirthRecord::new("token".into(), vec![founder]);
//! let opening = Opening {
//!     node: birth.node_of(DiskId(7)).expect("a founder"),
//!     birth,
//!     hard_state: HardState::default(),
//!     store: Store::new(),
//!     log_start: LogId::ZERO,
//!     entries: vec![],
//!     persisted: WriteSeq::ZERO,
//!     held: None,
//!     seed: 1,
//! };
//! let now = Instant(0);
//! let mut replica = Replica::new(Config::default(), opening, now);
//!
//! let put = Put {
//!     path: Path::new(b"/greeting").expect("a clean path"),
//!     content: Content::Value("hello".into()),
//!     when: When::Always,
//!     ttl: None,
//! };
//! let command = Command { client: None, operation: Operation::Put(put) };
//! let mut inbox = vec![];
//! let mut proposal = Some(Input::Propose { request: RequestId(1), command });
//! let answer = 'answer: loop {
//!     for input in inbox.drain(..) {
//!         replica.step(now, input);
//!     }
//!     while let Some(output) = replica.poll(now) {
//!         match output {
//!             // A real driver writes and syncs first.
//!             Output::Persist(write) => inbox.push(Input::Persisted { through: write.seq }),
//!             Output::Reply { result, .. } => break 'answer result,
//!             _ => {}
//!         }
//!     }
//!     if replica.status().leader.is_some() {
//!         inbox.extend(proposal.take());
//!     }
//! };
//! assert_eq!(answer.expect("it was written").header.revision, Revision(1));
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
// Tests and the generator of fuzz inputs need the standard library; core itself does not.
#[cfg(any(test, feature = "arbitrary"))]
extern crate std;

mod birth;
pub mod codec;
mod config;
mod ids;
mod input;
mod output;
pub mod raft;
mod replica;
pub mod rng;
pub mod snapshot;
pub mod store;
pub mod time;
pub mod wal;

pub use birth::{
    Birth, BirthError, BirthInput, BirthOutput, BirthRecord, BirthState, Confirmation, Founder,
};
pub use config::Config;
pub use ids::{
    ChangeId, DiskId, Index, LeaseId, LogId, NodeId, RequestId, Revision, Term, WatchId, WriteSeq,
};
pub use input::Input;
pub use output::{EndReason, HardState, Output, PeerFault, RequestError, Write};
pub use replica::{Opening, Queues, Replica};
pub use time::{ClusterTime, Duration, Instant};
