//! From requests to endpoints: what all of them share, and which one is meant.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, Request, StatusCode, Version};
use quorate_runtime::Node;

use crate::args::LocalReads;
use crate::body::Intake;
use crate::counts::Counts;
use crate::logging::LogLevel;
use crate::reply::{self, Reply};
use crate::v2::date::Calendar;
use crate::v2::{auth, keys, members, path, stats};
use crate::{metrics, probes};

/// The largest body read, in bytes. An event may have two values of that size, and peers and
/// snapshots take frames large enough for it.
pub const BODY_BYTES_MAX: usize = 10 << 20;

/// Bytes of bodies in pieces that are read at one time.
const BODIES_BYTES_MAX: usize = 256 << 20;

/// What the endpoints of one server share.
#[derive(Debug)]
pub struct App {
    /// The member that is served.
    pub node: Node,
    /// The cluster's id, as a header.
    pub cluster_id: HeaderValue,
    /// When `quorum=false` is heeded.
    pub local_reads: LocalReads,
    /// The largest value written, in bytes.
    pub value_bytes_max: usize,
    /// Reads bodies.
    pub intake: Intake,
    /// Turns cluster time into dates.
    pub calendar: Arc<Calendar>,
    /// What is counted here.
    pub counts: Counts,
    /// When the server started.
    pub started: SystemTime,
    /// Sets how much is logged.
    pub log_level: LogLevel,
}

impl App {
    /// Serves `node`.
    #[must_use]
    pub fn new(
        node: Node,
        local_reads: LocalReads,
        value_bytes_max: usize,
        log_level: LogLevel,
    ) -> Self {
        let cluster_id = format!("{:x}", node.cluster_id());
        Self {
            cluster_id: HeaderValue::try_from(cluster_id).expect("hexadecimal digits"),
            node,
            local_reads,
            value_bytes_max,
            intake: Intake::new(BODY_BYTES_MAX, BODIES_BYTES_MAX),
            calendar: Arc::default(),
            counts: Counts::default(),
            started: SystemTime::now(),
            log_level,
        }
    }

    /// Answers a request, whichever version of HTTP it came by.
    pub async fn respond<B>(&self, request: Request<B>) -> Reply
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let (head, body) = request.into_parts();
        let mut reply = self.route(&head, body).await;
        let fields = reply.headers_mut();
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
            (
                header::ACCESS_CONTROL_ALLOW_METHODS,
                "POST, GET, OPTIONS, PUT, DELETE",
            ),
            (
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                "accept, content-type, authorization",
            ),
            (
                header::SERVER,
                concat!("quorate/", env!("CARGO_PKG_VERSION")),
            ),
        ] {
            fields.insert(name, HeaderValue::from_static(value));
        }
        reply
    }

    async fn route<B>(&self, head: &Parts, body: B) -> Reply
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        if head.version == Version::HTTP_11 && !head.headers.contains_key(header::HOST) {
            return reply::bad_request(": missing required Host header");
        }
        let Ok(path) = path::decode(head.uri.path().as_bytes()) else {
            return reply::bad_request("");
        };
        if head.method == Method::OPTIONS {
            return reply::empty(StatusCode::OK);
        }
        if let Some(clean) = path::cleaned(&path) {
            return redirect(head, &clean);
        }
        if let Some(key) = below(&path, b"/v2/keys") {
            return keys::serve(self, head, key, body).await;
        }
        if let Some(rest) = below(&path, b"/v2/members") {
            return members::serve(self, head, rest, body).await;
        }
        if let Some(rest) = below(&path, b"/v2/auth") {
            return auth::serve(self, head, rest, body).await;
        }
        match &*path {
            b"/v2/machines" => members::machines(self, &head.method).await,
            b"/v2/stats/self" => stats::member(self, &head.method).await,
            b"/v2/stats/store" => stats::store(self, &head.method).await,
            b"/v2/stats/leader" => stats::leader(self, &head.method).await,
            b"/version" => probes::version(&head.method),
            b"/health" => probes::health(self, &head.method).await,
            b"/metrics" => metrics::serve(self).await,
            b"/debug/vars" => probes::variables(self, &head.method).await,
            b"/config/local/log" => probes::log_level(self, head, body).await,
            _ => reply::not_found(),
        }
    }
}

/// What follows `prefix` in `path`: nothing, or a slash and more.
fn below<'a>(path: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let rest = path.strip_prefix(prefix)?;
    (rest.is_empty() || rest[0] == b'/').then_some(rest)
}

fn redirect(head: &Parts, clean: &[u8]) -> Reply {
    let mut location = Vec::with_capacity(clean.len() + 64);
    path::encode(clean, &mut location);
    if let Some(query) = head.uri.query() {
        location.push(b'?');
        for &byte in query.as_bytes() {
            match byte {
                b'!'..=b'~' => location.push(byte),
                _ => location.extend_from_slice(format!("%{byte:02x}").as_bytes()),
            }
        }
    }
    let location = String::from_utf8(location).expect("everything but ASCII is escaped");
    reply::redirect(&head.method, &location)
}
