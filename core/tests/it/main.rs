//! Golden scripts, the paper, the store against its model, damage, and the rules of the project.

mod codec;
mod model;
mod replica;
mod store;
mod store_against_model;
mod tidy;
mod wal;
