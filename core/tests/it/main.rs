//! Golden scripts, the paper, the store against its model, damage, and the rules of the project.

#![allow(
    clippy::unwrap_used,
    reason = "a panic in a test is the report of its failure"
)]

mod birth;
mod chaos;
mod cluster;
mod codec;
mod forwarding;
mod hostile;
mod model;
mod paper;
mod peers;
mod replica;
mod scripts;
mod snapshots;
mod store;
mod store_against_model;
mod tidy;
mod wal;
