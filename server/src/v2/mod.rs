//! The etcd v2 API (api/v2.md) over the node's commands, questions and watches.

pub mod auth;
pub mod date;
pub mod error;
pub mod headers;
pub mod json;
pub mod keys;
pub mod members;
pub mod mime;
pub mod params;
pub mod path;
pub mod stats;
pub mod watch;
