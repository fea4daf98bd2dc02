//! How the server is looked at.

use std::collections::BTreeSet;

use crate::harness::Served;

#[tokio::test]
async fn metrics_are_described_once_and_count() {
    let server = Served::start(&[]).await;
    server.ask("PUT", "/v2/keys/a", "value=1").await;
    server.ask("GET", "/v2/keys/a", "").await;
    server.ask("GET", "/v2/keys/b", "").await;
    let answer = server.ask("GET", "/metrics", "").await;
    let kind = answer.header("Content-Type");
    assert_eq!(kind, Some("text/plain; version=0.0.4; charset=utf-8"));
    for line in [
        "etcd_server_has_leader 1",
        "etcd_debugging_store_writes_total{action=\"set\"} 1",
        "etcd_debugging_store_reads_total{action=\"get\"} 1",
        "etcd_debugging_store_reads_failed_total{action=\"get\"} 1",
    ] {
        assert!(answer.body.lines().any(|found| found == line), "{line}");
    }
    let described = answer
        .body
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "));
    let mut names = BTreeSet::new();
    for name in described.filter_map(|line| line.split(' ').next()) {
        assert!(names.insert(name), "{name} is described twice");
    }
}

#[tokio::test]
async fn variables_are_json() {
    let server = Served::start(&[]).await;
    let answer = server.ask("GET", "/debug/vars", "").await;
    let variables: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(variables["quorate"]["raft"]["revision"], 0);
    assert!(variables["cmdline"].is_array());
}
