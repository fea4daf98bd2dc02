//! The etcd v2 API over HTTP.
#![forbid(unsafe_code)]

pub mod args;
pub mod v2;
