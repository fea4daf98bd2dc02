//! What a checkpoint must write, and loading it back.

/// Everything that changed since the last checkpoint.
#[derive(Clone, Debug)]
pub struct Changes;
