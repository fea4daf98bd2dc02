//! `/metrics`: what the member's registry holds, and the reads counted in front of it.

use std::fmt::Write as _;

use http::StatusCode;
use http::header::HeaderValue;
use quorate_runtime::CONTENT_TYPE;

use crate::app::App;
use crate::reply::{self, Reply};

/// Any method; the text format 0.0.4 of Prometheus.
pub async fn serve(app: &App) -> Reply {
    // The registry shows the member as of its last view; one that is dead has no newer one.
    let _ = app.node.view().await;
    let mut text = app.node.metrics().encode();
    let (reads, failed) = app.counts.reads();
    let _ = write!(
        text,
        "# HELP quorate_build_info The version that runs.\n\
         # TYPE quorate_build_info gauge\n\
         quorate_build_info{{version=\"{version}\"}} 1\n\
         # HELP etcd_debugging_store_reads_total Reads of keys and directories.\n\
         # TYPE etcd_debugging_store_reads_total counter\n\
         etcd_debugging_store_reads_total{{action=\"get\"}} {reads}\n\
         # HELP etcd_debugging_store_reads_failed_total Reads of what was not there.\n\
         # TYPE etcd_debugging_store_reads_failed_total counter\n\
         etcd_debugging_store_reads_failed_total{{action=\"get\"}} {failed}\n",
        version = env!("CARGO_PKG_VERSION"),
    );
    reply::full(StatusCode::OK, HeaderValue::from_static(CONTENT_TYPE), text)
}
