//! Why the store says no: deterministic answers, the same on all replicas.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::bytes::Value;
use super::path::Path;
use crate::ids::Revision;

/// A refusal, with the store's counter at the moment of refusing: an error is a read, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreError {
    /// What was wrong.
    pub reason: Refusal,
    /// The store's counter then.
    pub revision: Revision,
}

/// What was wrong with a request. Variants are only ever appended: they are in the table of
/// answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// Nothing is there: the first part of the path that does not exist (v2 code 100).
    NotFound(Path),
    /// The comparison does not hold (v2 code 101).
    CompareFailed {
        /// The value asked for and the one found, if they differ.
        value: Option<(Value, Value)>,
        /// The index asked for and the one found, if they differ.
        modified: Option<(Revision, Revision)>,
    },
    /// A key is needed and a directory is there (v2 code 102). `None` where etcd gives no cause.
    NotAKey(Option<Path>),
    /// A directory is needed and this key is in the way (v2 code 104).
    NotADirectory(Path),
    /// It is there already (v2 code 105).
    Exists(Path),
    /// The root cannot be changed (v2 code 107).
    RootIsReadOnly,
    /// The directory has children (v2 code 108).
    NotEmpty(Path),
    /// A numbered request below what was acknowledged or forgotten: its answer is gone, and it will
    /// not be done again.
    Expired,
    /// A child of this directory would have too long a path.
    TooLong(Path),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(path) => write!(f, "key not found: {path}"),
            Self::CompareFailed { value, modified } => {
                write!(f, "compare failed:")?;
                if let Some((asked, found)) = value {
                    write!(f, " [{asked} != {found}]")?;
                }
                if let Some((asked, found)) = modified {
                    write!(f, " [{asked} != {found}]")?;
                }
                Ok(())
            }
            Self::NotAKey(Some(path)) => write!(f, "not a key: {path}"),
            Self::NotAKey(None) => write!(f, "not a key"),
            Self::NotADirectory(path) => write!(f, "not a directory: {path}"),
            Self::Exists(path) => write!(f, "exists already: {path}"),
            Self::RootIsReadOnly => write!(f, "the root is read-only"),
            Self::NotEmpty(path) => write!(f, "directory not empty: {path}"),
            Self::Expired => write!(f, "the answer to this request is no longer kept"),
            Self::TooLong(_) => write!(f, "too long a path"),
        }
    }
}

impl core::error::Error for StoreError {}
