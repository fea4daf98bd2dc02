//! What the transport counts.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Between this member and the others.
#[derive(Debug, Default)]
pub(crate) struct PeerMetrics {
    pub(crate) connected: Gauge,
    pub(crate) sent: Family<PeerLabel, Counter>,
    pub(crate) sent_bytes: Family<PeerLabel, Counter>,
    pub(crate) received: Family<PeerLabel, Counter>,
    pub(crate) received_bytes: Family<PeerLabel, Counter>,
    pub(crate) dropped: Family<DropLabel, Counter>,
    pub(crate) refused: Family<RefusalLabel, Counter>,
    pub(crate) dials_failed: Family<PeerLabel, Counter>,
    pub(crate) round_trip: Family<PeerLabel, Gauge<f64, AtomicU64>>,
}

/// Which peer. Only names that an operator listed, or that the birth record has, become labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PeerLabel {
    pub(crate) peer: String,
}

/// What was dropped, and why.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct DropLabel {
    pub(crate) queue: &'static str,
    pub(crate) reason: &'static str,
}

/// Why a connection was refused, and by whom: `this` member or the `peer`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RefusalLabel {
    pub(crate) reason: &'static str,
    pub(crate) by: &'static str,
}

impl PeerMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let all = Self::default();
        registry.register(
            "quorate_peers_connected",
            "Members this one has a connection with",
            all.connected.clone(),
        );
        let families = [
            (
                "quorate_peer_messages_sent",
                "Messages handed to the connection",
                &all.sent,
            ),
            (
                "quorate_peer_sent_bytes",
                "Bytes of messages handed to the connection",
                &all.sent_bytes,
            ),
            (
                "quorate_peer_messages_received",
                "Messages handed to the driver",
                &all.received,
            ),
            (
                "quorate_peer_received_bytes",
                "Bytes of messages received",
                &all.received_bytes,
            ),
            (
                "quorate_peer_dials_failed",
                "Dials that no connection came of",
                &all.dials_failed,
            ),
        ];
        for (name, help, family) in families {
            registry.register(name, help, family.clone());
        }
        registry.register(
            "quorate_peer_messages_dropped",
            "Messages dropped, by queue and reason",
            all.dropped.clone(),
        );
        registry.register(
            "quorate_peer_refused",
            "Connections refused, by reason and by whom",
            all.refused.clone(),
        );
        registry.register(
            "quorate_peer_round_trip_seconds",
            "The round trip time, smoothed, as the connection measures it",
            all.round_trip.clone(),
        );
        all
    }
}
