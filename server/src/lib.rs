//! The etcd v2 API over HTTP.
#![forbid(unsafe_code)]

pub mod app;
pub mod args;
pub mod body;
pub mod counts;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod probes;
pub mod reply;
pub mod server;
pub mod v2;
