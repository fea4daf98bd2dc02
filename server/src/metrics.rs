//! `/metrics`: what the member's registry holds, and what is counted in front of it.

use std::fmt::Write as _;

use http::StatusCode;
use http::header::HeaderValue;
use quorate_runtime::CONTENT_TYPE;

use crate::app::App;
use crate::reply::{self, Reply};

/// Any method; the text format 0.0.4 of Prometheus.
pub async fn serve(app: &App) -> Reply {
    // The member's registry shows its state as of its last view.
    let view = app.node.view().await.ok();
    let mut text = app.node.metrics().encode();
    let version = env!("CARGO_PKG_VERSION");
    let (reads, reads_failed) = app.counts.reads();
    let _ = write!(
        text,
        "# HELP quorate_build_info The version that runs\n\
         # TYPE quorate_build_info gauge\n\
         quorate_build_info{{version=\"{version}\"}} 1\n\
         # HELP etcd_debugging_store_reads_total Reads of keys and directories\n\
         # TYPE etcd_debugging_store_reads_total counter\n\
         etcd_debugging_store_reads_total{{action=\"get\",result=\"success\"}} {reads}\n\
         etcd_debugging_store_reads_total{{action=\"get\",result=\"fail\"}} {reads_failed}\n\
         # HELP etcd_debugging_store_watch_requests_total Watches begun\n\
         # TYPE etcd_debugging_store_watch_requests_total counter\n\
         etcd_debugging_store_watch_requests_total {watches}\n",
        watches = app.counts.watches(),
    );
    if let Some(view) = view {
        writes(&mut text, &view.stats);
    }
    reply::full(StatusCode::OK, HeaderValue::from_static(CONTENT_TYPE), text)
}

fn writes(text: &mut String, stats: &quorate_core::store::StoreStats) {
    let _ = write!(
        text,
        "# HELP etcd_debugging_store_expires_total Nodes that expired\n\
         # TYPE etcd_debugging_store_expires_total counter\n\
         etcd_debugging_store_expires_total {}\n\
         # HELP etcd_debugging_store_writes_total Writes of keys and directories\n\
         # TYPE etcd_debugging_store_writes_total counter\n",
        stats.expired
    );
    for (action, count) in [
        ("set", stats.sets),
        ("create", stats.creates),
        ("update", stats.updates),
        ("compareAndSwap", stats.swaps),
        ("delete", stats.deletes),
        ("compareAndDelete", stats.compare_deletes),
    ] {
        for (result, number) in [("success", count.success), ("fail", count.fail)] {
            let _ = writeln!(
                text,
                "etcd_debugging_store_writes_total{{action=\"{action}\",result=\"{result}\"}} {number}"
            );
        }
    }
}
