//! The etcd v2 API (api/v2.md) over the node's commands, questions and watches.

pub mod date;
pub mod error;
pub mod json;
pub mod mime;
pub mod params;
pub mod path;
