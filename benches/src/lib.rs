//! Fixtures of the benches: a load over HTTP, and the servers it is put on.
#![forbid(unsafe_code)]

pub mod load;
pub mod server;
