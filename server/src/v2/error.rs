//! The error documents of the keys API (api/v2.md §6).

use http::StatusCode;
use quorate_core::store::{Path, Refusal, StoreError};
use quorate_core::{RequestError, Revision};

use super::json;
use crate::body::IntakeError;

/// An etcd error code. The number is the contract with clients; the message and the status hang on
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// 100.
    KeyNotFound,
    /// 101.
    CompareFailed,
    /// 102.
    NotAFile,
    /// 104.
    NotADirectory,
    /// 105.
    KeyExists,
    /// 107.
    RootIsReadOnly,
    /// 108.
    NotEmpty,
    /// 201.
    PrevValueRequired,
    /// 202.
    TtlIsNoNumber,
    /// 203.
    IndexIsNoNumber,
    /// 209.
    InvalidField,
    /// 210.
    InvalidForm,
    /// 211.
    RefreshValue,
    /// 212.
    RefreshTtlRequired,
    /// 300.
    RaftInternal,
    /// 300, with a status of its own: the client may try again.
    Busy,
    /// 400.
    WatcherCleared,
    /// 401.
    EventIndexCleared,
}

impl Code {
    /// The number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.entry().0
    }

    /// The message.
    #[must_use]
    pub const fn message(self) -> &'static str {
        self.entry().2
    }

    /// The HTTP status of a document with this code.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        self.entry().1
    }

    const fn entry(self) -> (u64, StatusCode, &'static str) {
        const BAD: StatusCode = StatusCode::BAD_REQUEST;
        match self {
            Self::KeyNotFound => (100, StatusCode::NOT_FOUND, "Key not found"),
            Self::CompareFailed => (101, StatusCode::PRECONDITION_FAILED, "Compare failed"),
            Self::NotAFile => (102, StatusCode::FORBIDDEN, "Not a file"),
            Self::NotADirectory => (104, BAD, "Not a directory"),
            Self::KeyExists => (105, StatusCode::PRECONDITION_FAILED, "Key already exists"),
            Self::RootIsReadOnly => (107, BAD, "Root is read only"),
            Self::NotEmpty => (108, StatusCode::FORBIDDEN, "Directory not empty"),
            Self::PrevValueRequired => (201, BAD, "PrevValue is Required in POST form"),
            Self::TtlIsNoNumber => (202, BAD, "The given TTL in POST form is not a number"),
            Self::IndexIsNoNumber => (203, BAD, "The given index in POST form is not a number"),
            Self::InvalidField => (209, BAD, "Invalid field"),
            Self::InvalidForm => (210, BAD, "Invalid POST form"),
            Self::RefreshValue => (211, BAD, "Value provided on refresh"),
            Self::RefreshTtlRequired => (212, BAD, "A TTL must be provided on refresh"),
            Self::RaftInternal => (
                300,
                StatusCode::INTERNAL_SERVER_ERROR,
                "Raft Internal Error",
            ),
            Self::Busy => (300, StatusCode::SERVICE_UNAVAILABLE, "Raft Internal Error"),
            Self::WatcherCleared => (400, BAD, "watcher is cleared due to etcd recovery"),
            Self::EventIndexCleared => (
                401,
                BAD,
                "The event in requested index is outdated and cleared",
            ),
        }
    }
}

/// An error of the keys API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What kind.
    pub code: Code,
    /// The details, as bytes since values go in raw; left out of the document when empty.
    pub cause: Vec<u8>,
    /// The store's index; zero where the store was not asked.
    pub index: Revision,
}

fn path_too_long() -> String {
    format!(
        "a path has at most {} names and {} bytes",
        Path::NAMES_MAX,
        Path::BYTES_MAX
    )
}

impl Error {
    /// An error found before the store was asked.
    #[must_use]
    pub fn new(code: Code, cause: impl Into<Vec<u8>>) -> Self {
        Self {
            code,
            cause: cause.into(),
            index: Revision::ZERO,
        }
    }

    /// A path deeper or longer than any key.
    #[must_use]
    pub fn path_too_long() -> Self {
        Self::new(Code::InvalidField, path_too_long())
    }

    /// What the store answered.
    #[must_use]
    pub fn refused(error: &StoreError) -> Self {
        let (code, cause) = match &error.reason {
            Refusal::NotFound(path) => (Code::KeyNotFound, path.to_vec()),
            Refusal::CompareFailed { value, modified } => {
                let value = value.as_ref().map(|(given, actual)| (&**given, &**actual));
                (Code::CompareFailed, mismatch(value, *modified))
            }
            Refusal::NotAKey(path) => (
                Code::NotAFile,
                path.as_ref().map(|path| path.to_vec()).unwrap_or_default(),
            ),
            Refusal::NotADirectory(path) => (Code::NotADirectory, path.to_vec()),
            Refusal::Exists(path) => (Code::KeyExists, path.to_vec()),
            Refusal::RootIsReadOnly => (Code::RootIsReadOnly, b"/".to_vec()),
            Refusal::NotEmpty(path) => (Code::NotEmpty, path.to_vec()),
            Refusal::Expired => (Code::RaftInternal, format!("quorate: {error}").into_bytes()),
            Refusal::TooLong(_) => (Code::InvalidField, path_too_long().into_bytes()),
        };
        Self {
            code,
            cause,
            index: error.revision,
        }
    }

    /// A watch that asks for events no longer kept.
    #[must_use]
    pub fn cleared(oldest: Revision, asked: Revision, index: Revision) -> Self {
        Self {
            code: Code::EventIndexCleared,
            cause: format!("the requested history has been cleared [{oldest}/{asked}]").into(),
            index,
        }
    }

    /// The document, ended by a line feed.
    #[must_use]
    pub fn document(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 + self.cause.len());
        json::error(
            &mut out,
            self.code.number(),
            self.code.message(),
            &self.cause,
            self.index,
        );
        out
    }
}

impl From<RequestError> for Error {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Store { error, .. } => Self::refused(&error),
            RequestError::Busy => Self::new(Code::Busy, "quorate: too busy"),
            RequestError::DiskFull => Self::new(
                Code::Busy,
                "quorate: the disk is full: writes are refused until there is room, reads go on",
            ),
            RequestError::NotLeader { .. } | RequestError::Dropped => {
                Self::new(Code::RaftInternal, "etcdserver: request timed out")
            }
            RequestError::Stopping => Self::new(Code::RaftInternal, "etcdserver: server stopped"),
        }
    }
}

impl From<IntakeError> for Error {
    fn from(error: IntakeError) -> Self {
        let code = match error {
            IntakeError::TooLarge | IntakeError::Slow | IntakeError::Broken => Code::InvalidForm,
            IntakeError::Busy => Code::Busy,
        };
        Self::new(code, error.to_string())
    }
}

/// api/v2.md §7.4: what differs, the value first, values inserted raw.
fn mismatch(value: Option<(&[u8], &[u8])>, modified: Option<(Revision, Revision)>) -> Vec<u8> {
    let mut cause = Vec::new();
    if let Some((given, actual)) = value {
        cause.push(b'[');
        cause.extend_from_slice(given);
        cause.extend_from_slice(b" != ");
        cause.extend_from_slice(actual);
        cause.push(b']');
    }
    if let Some((given, actual)) = modified {
        if !cause.is_empty() {
            cause.push(b' ');
        }
        cause.extend_from_slice(format!("[{given} != {actual}]").as_bytes());
    }
    cause
}

#[cfg(test)]
mod tests {
    use quorate_core::store::{Path, Value};

    use super::*;

    fn check(reason: Refusal, status: u16, document: &str) {
        let error = Error::refused(&StoreError {
            reason,
            revision: Revision(7),
        });
        assert_eq!(error.code.status(), status);
        assert_eq!(
            String::from_utf8(error.document()).unwrap(),
            format!("{document}\n")
        );
    }

    #[test]
    fn refusals_have_etcds_codes_messages_and_causes() {
        let path = || Path::new(b"/a/x").unwrap();
        check(
            Refusal::NotFound(path()),
            404,
            r#"{"errorCode":100,"message":"Key not found","cause":"/a/x","index":7}"#,
        );
        check(
            Refusal::NotAKey(None),
            403,
            r#"{"errorCode":102,"message":"Not a file","index":7}"#,
        );
        check(
            Refusal::RootIsReadOnly,
            400,
            r#"{"errorCode":107,"message":"Root is read only","cause":"/","index":7}"#,
        );
        check(
            Refusal::CompareFailed {
                value: Some((Value::from("zz"), Value::from("<1>"))),
                modified: Some((Revision(3), Revision(4))),
            },
            412,
            concat!(
                r#"{"errorCode":101,"message":"Compare failed","#,
                r#""cause":"[zz != \u003c1\u003e] [3 != 4]","index":7}"#
            ),
        );
    }

    #[test]
    fn a_cleared_watch_says_what_is_oldest_and_what_was_asked() {
        let error = Error::cleared(Revision(12), Revision(3), Revision(1011));
        assert_eq!(
            String::from_utf8(error.document()).unwrap(),
            concat!(
                r#"{"errorCode":401,"message":"The event in requested index is outdated and "#,
                r#"cleared","cause":"the requested history has been cleared [12/3]","index":1011}"#,
                "\n"
            )
        );
    }
}
