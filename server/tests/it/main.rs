//! Tests of the server as clients see it: over real connections, on a real data directory.

mod better;
mod blocking;
mod client;
mod cluster;
mod crash;
mod harness;
mod laggards;
mod leases;
mod limits;
mod outages;
mod peer_tls;
mod probes;
mod process;
mod storm;
mod strangers;
mod transcripts;
mod watches;
