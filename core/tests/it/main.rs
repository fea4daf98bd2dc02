//! Golden scripts, the paper, the store against its model, damage, and the rules of the project.

mod chaos;
mod cluster;
mod codec;
mod model;
mod paper;
mod peers;
mod replica;
mod scripts;
mod store;
mod store_against_model;
mod tidy;
mod wal;
