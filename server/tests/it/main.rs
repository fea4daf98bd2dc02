//! Tests of the server as clients see it: over real connections, on a real data directory.

mod better;
mod blocking;
mod client;
mod cluster;
mod crash;
mod harness;
mod leases;
mod limits;
mod outages;
mod probes;
mod process;
mod storm;
mod transcripts;
mod watches;
