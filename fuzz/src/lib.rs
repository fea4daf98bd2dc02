//! Bodies of the fuzz targets, as plain functions: libFuzzer calls them with what it invents, and
//! `cargo test` with what it once found.
//!
//! | target | input | must hold |
//! |---|---|---|
//! | [`codec()`] | frames, whole and broken | nothing panics; decoding undoes encoding |
//! | [`wal()`] | writes, crashes, a damaged disk | what was synced, or damage, or a refusal |
//! | [`raft()`] | inputs to replicas, in any order | one leader a term; nothing said too early |
//! | [`store()`] | commands, checkpoints | the hash is that of all rows, also loaded back |
//! | [`v2()`] | query, form, path | nothing panics; decoding undoes encoding |
//!
//! A body never fails but by panicking. What its bytes mean may change with it: a corpus is worth
//! what it covers, and is made anew where that fades (`cargo fuzz run <target>`).
#![forbid(unsafe_code)]

mod codec;
mod numbers;
mod raft;
mod store;
mod v2;
mod wal;

pub use codec::codec;
pub use raft::raft;
pub use store::store;
pub use v2::v2;
pub use wal::wal;

/// A target: its name, which is that of its corpus, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 5] = [
    ("codec", codec),
    ("wal", wal),
    ("raft", raft),
    ("store", store),
    ("v2", v2),
];
