//! Why a connection is refused: in words for whoever must act, and in numbers.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use quinn::{ConnectionError, ReadError, ReadExactError, TransportErrorCode, VarInt, WriteError};
use tracing::warn;

use crate::metrics::{PeerMetrics, RefusalLabel};

/// The code of a connection closed since its member ends.
pub(super) const CODE_BYE: VarInt = VarInt::from_u32(0);
/// The code of a connection closed since there is a better one with the same peer.
pub(super) const CODE_DUPLICATE: VarInt = VarInt::from_u32(1);
/// The code of a stream that is not wanted.
pub(super) const CODE_UNWANTED: VarInt = VarInt::from_u32(2);

/// Refusals of this transport are closed with this and the place in [`Reason::ALL`].
const CODE_REFUSED: u32 = 0x100;

/// A complaint about one peer for one reason is repeated after this.
const REPEAT: Duration = Duration::from_secs(60);

/// Complaints that are remembered. Beyond it, those about further peers are only counted.
const COMPLAINTS_MAX: usize = 1024;

/// Why a connection is refused. The order is part of the protocol: only append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    HelloTimeout,
    Malformed,
    Version,
    Signature,
    Token,
    Cluster,
    Identity,
    // The rest is told by TLS, never by a code of this transport.
    Alpn,
    NoCertificate,
    UnknownCa,
    Expired,
    WrongHost,
    WrongName,
    Tls,
}

impl Reason {
    const ALL: [Self; 14] = [
        Self::HelloTimeout,
        Self::Malformed,
        Self::Version,
        Self::Signature,
        Self::Token,
        Self::Cluster,
        Self::Identity,
        Self::Alpn,
        Self::NoCertificate,
        Self::UnknownCa,
        Self::Expired,
        Self::WrongHost,
        Self::WrongName,
        Self::Tls,
    ];

    /// How metrics call it.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::HelloTimeout => "hello_timeout",
            Self::Malformed => "malformed",
            Self::Version => "version",
            Self::Signature => "signature",
            Self::Token => "token",
            Self::Cluster => "cluster",
            Self::Identity => "identity",
            Self::Alpn => "alpn",
            Self::NoCertificate => "tls_no_certificate",
            Self::UnknownCa => "tls_unknown_ca",
            Self::Expired => "tls_expired",
            Self::WrongHost => "tls_wrong_host",
            Self::WrongName => "tls_cn",
            Self::Tls => "tls",
        }
    }

    fn code(self) -> VarInt {
        let place = Self::ALL.iter().position(|reason| *reason == self);
        let place = place.and_then(|place| u32::try_from(place).ok());
        VarInt::from_u32(CODE_REFUSED + place.unwrap_or_default())
    }

    fn of_code(code: VarInt) -> Option<Self> {
        let place = code.into_inner().checked_sub(u64::from(CODE_REFUSED))?;
        Self::ALL.get(usize::try_from(place).ok()?).copied()
    }

    /// What a TLS alert says. The numbers are those of RFC 8446 §6, as rustls chooses them.
    fn of_alert(code: TransportErrorCode) -> Option<Self> {
        const CRYPTO: u64 = 0x100;
        match u64::from(code).checked_sub(CRYPTO)? {
            42 => Some(Self::WrongHost),
            45 => Some(Self::Expired),
            // Only the check of the common name answers so.
            46 => Some(Self::WrongName),
            48 => Some(Self::UnknownCa),
            116 => Some(Self::NoCertificate),
            120 => Some(Self::Alpn),
            0..=0xff => Some(Self::Tls),
            0x100.. => None,
        }
    }

    /// What is wrong with `whose` side of TLS.
    fn tls_words(self, whose: &str, what: &str) -> String {
        let words = match self {
            Self::NoCertificate => {
                format!("{whose} certificate is missing: none was shown, and one is required")
            }
            Self::UnknownCa => format!(
                "{whose} certificate is signed by a CA that --peer-trusted-ca-file does not hold"
            ),
            Self::Expired => format!("{whose} certificate is expired or not yet valid"),
            Self::WrongHost => format!("{whose} certificate is not for the host of the peer URL"),
            Self::WrongName => {
                format!("{whose} certificate has a common name that is not allowed")
            }
            Self::Alpn => "the other side speaks another protocol (ALPN)".to_owned(),
            Self::HelloTimeout
            | Self::Malformed
            | Self::Version
            | Self::Signature
            | Self::Token
            | Self::Cluster
            | Self::Identity
            | Self::Tls => format!("{whose} TLS handshake failed"),
        };
        if what.is_empty() {
            words
        } else {
            format!("{words} ({what})")
        }
    }
}

/// A refusal of one side, to be told to both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: Reason,
    pub(super) words: String,
}

impl Refusal {
    pub(super) fn new(reason: Reason, words: impl Into<String>) -> Self {
        Self {
            reason,
            words: words.into(),
        }
    }

    /// Tells the peer, and ends the connection.
    pub(super) fn close(&self, connection: &quinn::Connection) {
        connection.close(self.reason.code(), self.words.as_bytes());
    }
}

/// Why there is no connection, or no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// This member refuses.
    Refused(Refusal),
    /// The peer refuses.
    RefusedByPeer(Refusal),
    /// There is a better connection with the same peer.
    Duplicate,
    /// It broke, nobody answered, or one side ends.
    Lost(String),
}

impl Failure {
    pub(super) fn refused(reason: Reason, words: impl Into<String>) -> Self {
        Self::Refused(Refusal::new(reason, words))
    }

    pub(super) fn malformed(words: impl Into<String>) -> Self {
        Self::refused(Reason::Malformed, words)
    }
}

impl From<ConnectionError> for Failure {
    fn from(error: ConnectionError) -> Self {
        match &error {
            ConnectionError::TransportError(told) => match Reason::of_alert(told.code) {
                Some(reason) => Self::refused(reason, reason.tls_words("the peer's", &told.reason)),
                None => Self::Lost(error.to_string()),
            },
            ConnectionError::ConnectionClosed(told) => match Reason::of_alert(told.error_code) {
                Some(reason) => {
                    let what = String::from_utf8_lossy(&told.reason);
                    let words = reason.tls_words("this member's", &what);
                    Self::RefusedByPeer(Refusal::new(reason, words))
                }
                None => Self::Lost(error.to_string()),
            },
            ConnectionError::ApplicationClosed(told) => {
                let words = String::from_utf8_lossy(&told.reason);
                match Reason::of_code(told.error_code) {
                    Some(reason) => Self::RefusedByPeer(Refusal::new(reason, words)),
                    None if told.error_code == CODE_DUPLICATE => Self::Duplicate,
                    None => Self::Lost(format!("the peer closed it: {words}")),
                }
            }
            ConnectionError::VersionMismatch
            | ConnectionError::Reset
            | ConnectionError::TimedOut
            | ConnectionError::LocallyClosed
            | ConnectionError::CidsExhausted => Self::Lost(error.to_string()),
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::ConnectionLost(error) => error.into(),
            ReadError::Reset(_)
            | ReadError::ClosedStream
            | ReadError::IllegalOrderedRead
            | ReadError::ZeroRttRejected => Self::Lost(format!("a stream: {error}")),
        }
    }
}

impl From<ReadExactError> for Failure {
    fn from(error: ReadExactError) -> Self {
        match error {
            ReadExactError::FinishedEarly(_) => Self::malformed("a stream that ends too early"),
            ReadExactError::ReadError(error) => error.into(),
        }
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::ConnectionLost(error) => error.into(),
            WriteError::Stopped(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => {
                Self::Lost(format!("a stream: {error}"))
            }
        }
    }
}

/// Whom a complaint is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum About {
    /// A peer of this name.
    Peer(String),
    /// Somebody unproved at this address.
    Address(IpAddr),
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(name) => f.write_str(name),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

/// What is told once a minute: about whom, by whom, why.
type Subject = (About, &'static str, &'static str);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => write!(f, "refused: {}", refusal.words),
            Self::RefusedByPeer(refusal) => write!(f, "the peer refused: {}", refusal.words),
            Self::Duplicate => f.write_str("there is a better connection"),
            Self::Lost(words) => f.write_str(words),
        }
    }
}

/// Counts refusals, and tells each once a minute.
#[derive(Debug)]
pub(super) struct Complaints {
    metrics: Arc<PeerMetrics>,
    told: Mutex<BTreeMap<Subject, Instant>>,
}

impl Complaints {
    pub(super) fn new(metrics: Arc<PeerMetrics>) -> Self {
        Self {
            metrics,
            told: Mutex::new(BTreeMap::new()),
        }
    }

    /// What became of a connection; only refusals are news.
    pub(super) fn hear(&self, about: About, failure: &Failure) {
        let (by, refusal) = match failure {
            Failure::Refused(refusal) => ("this", refusal),
            Failure::RefusedByPeer(refusal) => ("peer", refusal),
            Failure::Duplicate | Failure::Lost(_) => return,
        };
        let reason = refusal.reason.label();
        let label = RefusalLabel { reason, by };
        self.metrics.refused.get_or_create(&label).inc();
        if !self.is_news((about.clone(), by, reason)) {
            return;
        }
        let peer = about;
        let words = &refusal.words;
        if by == "this" {
            warn!(%peer, reason, "refused a connection with a peer: {words}");
        } else {
            warn!(%peer, reason, "a peer refused the connection: {words}");
        }
    }

    /// A peer cannot be reached, for all that was tried.
    pub(super) fn unreachable(&self, peer: &str, words: &str) {
        let about = About::Peer(peer.to_owned());
        if self.is_news((about, "dial", "unreachable")) {
            warn!(peer, "cannot reach a peer: {words}");
        }
    }

    fn is_news(&self, complaint: Subject) -> bool {
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= COMPLAINTS_MAX {
            told.retain(|_, at| now.duration_since(*at) < REPEAT);
        }
        let is_news = match told.get(&complaint) {
            Some(at) => now.duration_since(*at) >= REPEAT,
            None => told.len() < COMPLAINTS_MAX,
        };
        if is_news {
            told.insert(complaint, now);
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_means_the_same_on_both_sides() {
        for reason in Reason::ALL {
            assert_eq!(Reason::of_code(reason.code()), Some(reason));
        }
        for other in [CODE_BYE, CODE_DUPLICATE, CODE_UNWANTED, VarInt::MAX] {
            assert_eq!(Reason::of_code(other), None);
        }
    }

    #[test]
    fn a_complaint_is_told_once_and_others_are_not_lost_in_it() {
        let complaints = Complaints::new(Arc::default());
        let about = |name: &str| (About::Peer(name.to_owned()), "this", "token");
        assert!(complaints.is_news(about("a")));
        assert!(!complaints.is_news(about("a")));
        assert!(complaints.is_news(about("b")));
        for n in 0..COMPLAINTS_MAX {
            complaints.is_news(about(&format!("peer{n}")));
        }
        assert!(!complaints.is_news(about("one more")));
        let told = complaints.told.lock().expect("no panic");
        assert_eq!(told.len(), COMPLAINTS_MAX);
    }
}
