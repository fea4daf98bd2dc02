//! The headers of the v2 API (api/v2.md §5).

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use quorate_core::Revision;
use quorate_core::store::Header;

/// The cluster's id, in lower-case hexadecimal.
pub const CLUSTER_ID: HeaderName = HeaderName::from_static("x-etcd-cluster-id");
/// The store's index.
pub const ETCD_INDEX: HeaderName = HeaderName::from_static("x-etcd-index");
/// The last entry of the log applied.
pub const RAFT_INDEX: HeaderName = HeaderName::from_static("x-raft-index");
/// Its term.
pub const RAFT_TERM: HeaderName = HeaderName::from_static("x-raft-term");
/// The client's own name for a write, with which a retry finds the first answer.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// How old a local answer may be, in milliseconds: so long ago this member last heard from its
/// leader or, as the leader, from a quorum.
pub const AGE_MS: HeaderName = HeaderName::from_static("x-quorate-age-ms");
/// Why a change was refused, where etcd's own words do not say it.
pub const REASON: HeaderName = HeaderName::from_static("x-quorate-reason");

/// Says to which point of store and log a successful answer belongs.
pub fn position(headers: &mut HeaderMap, index: Revision, header: &Header) {
    headers.insert(ETCD_INDEX, HeaderValue::from(index.0));
    headers.insert(RAFT_INDEX, HeaderValue::from(header.index().0));
    headers.insert(RAFT_TERM, HeaderValue::from(header.term.0));
}
