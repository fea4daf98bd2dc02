//! Tests of the server as clients see it: over real connections, on a real data directory.

mod better;
mod client;
mod cluster;
mod crash;
mod harness;
mod limits;
mod probes;
mod process;
mod transcripts;
mod watches;
