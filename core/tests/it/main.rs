//! Golden scripts, the paper's sections, and the project's own rules.
#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod codec;
mod wal;
