//! Text format 0.0.4 of Prometheus, which etcd's users scrape; the registry writes `OpenMetrics`.

/// The content type of [`Metrics::encode`](super::Metrics::encode).
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `OpenMetrics` text to text format 0.0.4: a counter is described under the name it is sampled by,
/// and there is neither a unit nor an end mark.
pub(super) fn classic(open_metrics: &str) -> String {
    let mut classic = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        if line.starts_with("# HELP ") {
            // The kind follows on the next line and decides the name here.
            help = Some(line);
        } else if let Some(described) = line.strip_prefix("# TYPE ") {
            let suffix = if described.ends_with(" counter") {
                "_total"
            } else {
                ""
            };
            let (name, kind) = described.split_once(' ').expect("a name and a kind");
            if let Some(text) = help.take().and_then(|help| help.splitn(4, ' ').nth(3)) {
                classic.push_str(&format!("# HELP {name}{suffix} {text}\n"));
            }
            classic.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with("# ") {
            classic.push_str(line);
            classic.push('\n');
        }
    }
    classic
}
