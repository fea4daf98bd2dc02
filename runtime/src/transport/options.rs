//! What the caller decides about the transport.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use quorate_core::Founder;

/// How members prove to each other that a network may be theirs. Which member speaks is proved by
/// its identity key in any case (DESIGN.md §7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerTls {
    /// A certificate made at start, which nobody checks: for `http` peer URLs and
    /// `--peer-auto-tls`.
    SelfMade,
    /// Certificates from files, which are read again when they change.
    Files {
        /// `--peer-cert-file`: this member's certificate and what leads from it to the CA, in PEM.
        cert: PathBuf,
        /// `--peer-key-file`: its private key, in PEM.
        key: PathBuf,
        /// `--peer-trusted-ca-file`: who may sign the certificates of peers, in PEM. Without it,
        /// those whom this system trusts.
        trusted_ca: Option<PathBuf>,
        /// `--peer-client-cert-auth`: whoever connects must show a certificate. A `trusted_ca` or
        /// an `allowed_cn` demands it too.
        client_cert_auth: bool,
        /// `--peer-cert-allowed-cn`: the common name that the certificate of every peer must have.
        allowed_cn: Option<String>,
    },
}

/// Everything the transport needs to know.
#[derive(Clone, Debug)]
pub(crate) struct TransportOptions {
    /// Where peers reach this member, UDP. Port 0 is any free one. A loopback address that the
    /// system does not have is left out, as long as there is another.
    pub(crate) listen: Vec<SocketAddr>,
    /// How the network is proved.
    pub(crate) tls: PeerTls,
    /// `--initial-cluster-token`.
    pub(crate) token: String,
    /// Who this member is. Disk and key are those of its identity.
    pub(crate) me: Founder,
    /// The other members by name, with their peer URLs. Host names are looked up at each dial.
    pub(crate) peers: BTreeMap<String, Vec<String>>,
    /// Sizes and times.
    pub(crate) limits: Limits,
}

impl TransportOptions {
    /// Options with the default limits.
    pub(crate) fn new(
        listen: Vec<SocketAddr>,
        tls: PeerTls,
        token: String,
        me: Founder,
        peers: BTreeMap<String, Vec<String>>,
    ) -> Self {
        Self {
            listen,
            tls,
            token,
            me,
            peers,
            limits: Limits::default(),
        }
    }
}

/// How much may wait, and how long.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Messages that wait for one peer and one lane. Reached: the newest is dropped.
    pub(crate) queue_messages: usize,
    /// Bytes of messages, about, that wait for one peer and one lane. Reached: the newest is
    /// dropped, unless nothing else waits.
    pub(crate) queue_bytes: usize,
    /// Bytes of messages of one peer that wait for the driver. Reached: nothing more is read from
    /// that peer, and its sender fills up.
    pub(crate) waiting_bytes: usize,
    /// Connections of strangers, of whom nothing is proved yet. From half of it on they must prove
    /// their address first; reached: refused.
    pub(crate) handshakes: usize,
    /// From the first packet of a connection to the proof of who it is. Reached: closed.
    pub(crate) hello_timeout: Duration,
    /// How long one address may take to answer a dial. Reached: the next one is tried.
    pub(crate) dial_timeout: Duration,
    /// The pause after the first failed dial; it doubles with each further one.
    pub(crate) dial_pause_min: Duration,
    /// The longest pause between dials, and how long a connection must have lasted for the next
    /// pause to be short again.
    pub(crate) dial_pause_max: Duration,
    /// A connection that is silent for so long is probed.
    pub(crate) keep_alive: Duration,
    /// A connection that is silent for so long is dead.
    pub(crate) idle_max: Duration,
    /// How often the TLS files are looked at.
    pub(crate) files_poll: Duration,
    /// Whether the system may cut datagrams (GSO): twice the bulk speed, but some drivers and
    /// filters lose them.
    pub(crate) segmentation_offload: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue_messages: 4096,
            queue_bytes: 32 << 20,
            waiting_bytes: 32 << 20,
            handshakes: 128,
            hello_timeout: Duration::from_secs(5),
            dial_timeout: Duration::from_secs(2),
            dial_pause_min: Duration::from_millis(50),
            dial_pause_max: Duration::from_secs(1),
            keep_alive: Duration::from_secs(1),
            idle_max: Duration::from_secs(5),
            files_poll: Duration::from_secs(1),
            segmentation_offload: true,
        }
    }
}
