//! Fixtures of the benches: commands, stores, replicas and files, a load over HTTP, and the servers
//! it is put on.
#![forbid(unsafe_code)]

pub mod cluster;
pub mod compare;
pub mod files;
pub mod fixture;
pub mod load;
pub mod server;
