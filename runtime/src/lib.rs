//! The part of quorate that touches the world.

mod clock;
mod config;
mod error;
mod inbox;
mod metrics;
mod tables;
#[cfg(test)]
mod testing;

pub use config::Options;
pub use error::{Damage, Fatal, StartError};
pub use metrics::{CONTENT_TYPE, Metrics};
