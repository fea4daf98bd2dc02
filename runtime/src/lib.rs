//! The part of quorate that touches the world: threads, files, clocks. It carries bytes and decides
//! nothing; what decides is `quorate-core`, and is simulated.
//!
//! ```text
//!   Node ── mail ──▶ inbox ──▶ driver thread, which owns the Replica
//!    ▲                ▲            │ Persist, TrimLog   │ Checkpoint        │ ReadHistory
//!    │ oneshot,       │            ▼                    ▼                   ▼
//!    └ channels       └──────── log thread ───── checkpoint thread ── history thread
//!                                  │ wal/               │ tables.N/ history/  │ history/
//! ```
//!
//! Start with [`start`]; talk through [`Node`]; end with [`Running`].
//!
//! Invariants:
//! - One thread owns the replica; nothing else sees it. Everything that happens is an item in its
//!   inbox; clients' items are bounded ([`Options::inbox_max`]), answers of the disk are not
//!   refused.
//! - Nothing is said to a client that core has not said; core says it only after `Persisted`.
//! - A failed write or sync of the log is never tried again: the member stops ([`Fatal`]).
//! - A failed checkpoint costs nothing but log: the changes go back to core, the store is reopened.
//! - The table store opens only after each of its files has been compared with the sums it keeps
//!   (`tables/verify.rs`), and what it gives is believed only once the set hash matches.
//! - Nothing runs before the member is born: the replica is made from the birth record. A member
//!   that is alone is born without a word, and opens no UDP socket: nobody may talk to it yet.
//! - Nothing in a data directory is changed before everything in it has been verified; a refusal
//!   ([`StartError`]) names the file and says what to do. A member never starts empty by accident.
//!
//! | file | what |
//! |---|---|
//! | `node.rs`, `watcher.rs`, `view.rs` | the handle: propose, read, watch, look |
//! | `driver.rs`, `callers.rs`, `streams.rs` | the loop, who waits for answers, open watches |
//! | `inbox.rs`, `clock.rs` | the queue between threads, the monotonic clock |
//! | `wal.rs`, `reserve.rs` | the log thread, room for a full disk |
//! | `checkpoint.rs`, `tables/` | the checkpoint thread, the table store and its verification |
//! | `history.rs` | closed slices of history: written, verified, read back |
//! | `snapshot/` | the last checkpoint on its way to another member, and one that arrives |
//! | `directory.rs`, `identity.rs` | the data directory, its lock and version; disk id and key |
//! | `files.rs` | real files under core's log, slices and small files |
//! | `recover.rs` | from a directory to the state a replica opens with |
//! | `birth.rs` | a member among its peers: born with them, telling those who still ask |
//! | `traffic.rs` | appends between members, counted |
//! | `shutdown.rs` | starting the threads and ending them in order |
//! | `transport/` | what members say to each other, over QUIC |
//! | `metrics/`, `config.rs`, `error.rs` | counters, options, errors by whose turn it is |
#![forbid(unsafe_code)]

mod background;
mod birth;
mod callers;
mod checkpoint;
mod clock;
mod config;
mod directory;
mod driver;
mod error;
mod files;
mod history;
mod identity;
mod inbox;
mod metrics;
mod node;
mod recover;
mod reserve;
mod shutdown;
mod snapshot;
mod streams;
mod tables;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod traffic;
mod transport;
mod view;
mod wal;
mod watcher;

pub use config::Options;
pub use directory::is_born;
pub use error::{Damage, Fatal, StartError};
pub use metrics::{CONTENT_TYPE, Metrics};
pub use node::{Node, WatchError};
pub use shutdown::{Running, start};
pub use traffic::{Follower, Latency, Traffic};
pub use transport::PeerTls;
pub use view::View;
pub use watcher::{Notice, WatchEnd, WatchItem, Watcher};
