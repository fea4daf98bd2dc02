//! Tests of the server as clients see it: over real connections, on a real data directory.

mod better;
mod client;
mod cluster;
mod crash;
mod harness;
mod laggards;
mod limits;
mod peer_tls;
mod probes;
mod process;
mod strangers;
mod transcripts;
mod watches;
