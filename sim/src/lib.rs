//! A whole cluster in one thread, from one seed.
#![forbid(unsafe_code)]

pub mod check;
pub mod clock;
pub mod disk;
pub mod fault;
pub mod ledger;
pub mod model;
pub mod network;
pub mod options;
pub mod process;
pub mod queue;
pub mod rng;
pub mod trace;
pub mod workload;
