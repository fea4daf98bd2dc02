//! A whole cluster in one thread, from one seed: its disks, clocks, network and clients, run much
//! faster than real time, with every promise of the product checked while it runs.
//!
//! | what | where |
//! |---|---|
//! | the loop | [`world`]: virtual time, one heap of events; [`event`], [`queue`]; [`heal`] |
//! | an event | `world/`: `members`, disk `jobs`, `lifecycle`, `strikes`, `requests`,
//! `streams`, `snapshots`, `watchdog` |
//! | what is real | [`node`]: the shipped replica, log, codec on a simulated machine; [`recover`] |
//! | apart from it | [`birth`]: how clusters are founded, before the run itself |
//! | what is not | [`network`], [`disk`], [`clock`], [`process`], with their faults |
//! | what lies on a disk besides the log | [`tables`], [`snapshot`] |
//! | load | [`workload`], [`client`] |
//! | what must hold | [`check`], over [`ledger`] and [`model`]; from outside: [`check::blackbox`] |
//! | what must have been seen | [`mark`]: rare situations, told by `world/marking` |
//! | a run | [`options`]: all knobs; [`rng`]; [`trace`]: its hash; [`run`], [`sweep`] |
//! | what happens to it | [`fates`], [`fault`]: by chance, or by a [`plan`], which [`shrink`]s |
//! | no run | [`exhaust`]: all orders of a little, instead of one of much |
//! | a run as a picture | [`scene`]: what is seen, told by `world/seen`; [`picture`]: a page of it;
//! [`words`] |
//!
//! Invariants: one thread a run; every choice comes from the seed, by [`rng::Seed::draw`]; nothing
//! walks a hash map; whether a run is checked or watched does not change what happens in it.
#![forbid(unsafe_code)]

pub mod birth;
pub mod check;
pub mod client;
pub mod clock;
pub mod disk;
pub mod event;
pub mod exhaust;
pub mod fates;
pub mod fault;
pub mod heal;
pub mod ledger;
pub mod log;
pub mod mark;
pub mod model;
pub mod network;
pub mod node;
pub mod options;
pub mod picture;
pub mod plan;
pub mod process;
pub mod queue;
pub mod recover;
pub mod rng;
pub mod run;
pub mod scene;
pub mod shrink;
pub mod snapshot;
pub mod sweep;
pub mod tables;
pub mod trace;
pub mod words;
pub mod workload;
pub mod world;
