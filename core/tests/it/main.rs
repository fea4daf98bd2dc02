//! Golden scripts, the paper, the store against its model, damage, and the rules of the project.

mod replica;
mod tidy;
mod wal;
