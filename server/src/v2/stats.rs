//! `/v2/stats` (api/v2.md §13).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};
use quorate_core::raft::Role;
use quorate_runtime::Follower;
use serde::Serialize;

use super::date;
use crate::app::App;
use crate::reply::{self, Failure, Reply};

/// This member, as its document shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct This<'a> {
    name: &'a str,
    id: String,
    state: &'static str,
    start_time: &'a str,
    leader_info: Leader<'a>,
    #[serde(rename = "recvAppendRequestCnt")]
    received: u64,
    #[serde(rename = "sendAppendRequestCnt")]
    sent: u64,
}

/// Whom it follows, and since when.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Leader<'a> {
    leader: String,
    uptime: String,
    start_time: &'a str,
}

/// A leader and its followers, by id.
#[derive(Debug, Serialize)]
struct Leading {
    leader: String,
    followers: BTreeMap<String, Sent>,
}

/// What became of the appends sent to a follower.
#[derive(Debug, Serialize)]
struct Sent {
    latency: Latency,
    counts: Counts,
}

/// In milliseconds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Latency {
    current: f64,
    average: f64,
    standard_deviation: f64,
    minimum: f64,
    maximum: f64,
}

#[derive(Debug, Serialize)]
struct Counts {
    fail: u64,
    success: u64,
}

impl Sent {
    fn of(follower: &Follower) -> Self {
        let latency = &follower.latency;
        Self {
            latency: Latency {
                current: latency.current,
                average: latency.average(),
                standard_deviation: latency.deviation(),
                minimum: latency.minimum,
                maximum: latency.maximum,
            },
            counts: Counts {
                fail: follower.failed,
                success: follower.answered,
            },
        }
    }
}

/// `GET /v2/stats/store`: operations since the start, on this member.
pub async fn store(app: &App, method: &Method) -> Reply {
    if *method != Method::GET {
        return reply::not_allowed("GET");
    }
    let Ok(view) = app.node.view().await else {
        return stopped();
    };
    let stats = view.stats;
    let (gets, gets_failed) = app.counts.reads();
    let fields = [
        ("getsSuccess", gets),
        ("getsFail", gets_failed),
        ("setsSuccess", stats.sets.success),
        ("setsFail", stats.sets.fail),
        ("deleteSuccess", stats.deletes.success),
        ("deleteFail", stats.deletes.fail),
        ("updateSuccess", stats.updates.success),
        ("updateFail", stats.updates.fail),
        ("createSuccess", stats.creates.success),
        ("createFail", stats.creates.fail),
        ("compareAndSwapSuccess", stats.swaps.success),
        ("compareAndSwapFail", stats.swaps.fail),
        ("compareAndDeleteSuccess", stats.compare_deletes.success),
        ("compareAndDeleteFail", stats.compare_deletes.fail),
        ("expireCount", stats.expired),
        ("watchers", app.counts.watchers()),
    ];
    let mut document = String::from("{");
    for (name, number) in fields {
        let comma = if document.len() > 1 { "," } else { "" };
        let _ = write!(document, "{comma}\"{name}\":{number}");
    }
    document.push('}');
    reply::json(StatusCode::OK, document)
}

/// `GET /v2/stats/self`: this member and its leader.
pub async fn member(app: &App, method: &Method) -> Reply {
    if *method != Method::GET {
        return reply::not_allowed("GET");
    }
    let Ok(view) = app.node.view().await else {
        return stopped();
    };
    let state = match view.status.role {
        Role::Leader => "StateLeader",
        Role::Follower => "StateFollower",
        Role::PreCandidate => "StatePreCandidate",
        Role::Candidate => "StateCandidate",
    };
    let start = rfc3339(app.started);
    let since = SystemTime::now().checked_sub(view.leader_for);
    let since = rfc3339(since.unwrap_or(app.started));
    let leader = view.status.leader.map(|leader| leader.to_string());
    let name = app
        .node
        .birth()
        .founder(view.status.id)
        .map(|founder| founder.name.as_str());
    let document = This {
        name: name.unwrap_or_default(),
        id: view.status.id.to_string(),
        state,
        start_time: &start,
        leader_info: Leader {
            leader: leader.unwrap_or_default(),
            uptime: go_duration(view.leader_for),
            start_time: &since,
        },
        received: view.traffic.received,
        sent: view.traffic.sent,
    };
    let document = serde_json::to_vec(&document).expect("strings and numbers");
    reply::json(StatusCode::OK, document)
}

/// `GET /v2/stats/leader`: what the leader knows of its followers.
pub async fn leader(app: &App, method: &Method) -> Reply {
    if *method != Method::GET {
        return reply::not_allowed("GET");
    }
    match app.node.view().await {
        Ok(view) if view.status.role == Role::Leader => {
            let followers = view.traffic.followers.iter();
            let followers = followers.map(|(id, follower)| (id.to_string(), Sent::of(follower)));
            let document = Leading {
                leader: view.status.id.to_string(),
                followers: followers.collect(),
            };
            let document = serde_json::to_vec(&document).expect("strings and numbers");
            reply::json(StatusCode::OK, document)
        }
        Ok(_) => Failure::new(StatusCode::FORBIDDEN, "not current leader").reply(),
        Err(_) => stopped(),
    }
}

fn stopped() -> Reply {
    Failure::refused("etcdserver: server stopped").reply()
}

fn rfc3339(time: SystemTime) -> String {
    let mut text = Vec::new();
    date::write_rfc3339(&mut text, u128::from(date::unix_nanos(time)));
    String::from_utf8(text).expect("digits and signs")
}

/// A length of time as Go prints it, such as `1m2.5s`.
fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => decimal(nanos, 3) + "µs",
        1_000_000..1_000_000_000 => decimal(nanos, 6) + "ms",
        _ => {
            let (hours, minutes) = (duration.as_secs() / 3600, duration.as_secs() / 60 % 60);
            let hours_text = if hours > 0 {
                format!("{hours}h")
            } else {
                String::new()
            };
            let minutes_text = if hours + minutes > 0 {
                format!("{minutes}m")
            } else {
                String::new()
            };
            let seconds = decimal(nanos % 60_000_000_000, 9);
            format!("{hours_text}{minutes_text}{seconds}s")
        }
    }
}

/// A number divided by a power of ten, without zeros at its end.
fn decimal(number: u128, digits: u32) -> String {
    let unit = 10_u128.pow(digits);
    let width = digits as usize;
    let text = format!("{}.{:0width$}", number / unit, number % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_printed_as_go_does() {
        for (nanos, expected) in [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5µs"),
            (2_000_000, "2ms"),
            (1_000_000_000, "1s"),
            (62_500_000_000, "1m2.5s"),
            (3_600_000_000_000, "1h0m0s"),
            (3_723_000_000_001, "1h2m3.000000001s"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), expected);
        }
    }
}
