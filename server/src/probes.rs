//! The endpoints by which a server is looked at: version, health, variables, the log's level.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode};
use quorate_core::RequestError;
use quorate_core::store::{Consistency, Path, Query};
use serde::Deserialize;
use serde_json::json;

use crate::app::App;
use crate::reply::{self, Failure, Reply};

/// What clients that ask for etcd's version are told (api/v2.md §18).
const VERSION: &str = r#"{"etcdserver":"3.4.23","etcdcluster":"3.4.0"}"#;

/// How long a healthy member takes for a read.
const HEALTHY: Duration = Duration::from_secs(1);

/// `GET /version`.
pub fn version(method: &Method) -> Reply {
    if *method != Method::GET {
        return reply::not_allowed("GET");
    }
    reply::json(StatusCode::OK, VERSION)
}

/// `GET /health`: whether a linearizable read is answered in time. JSON that calls itself text, as
/// etcd's.
pub async fn health(app: &App, method: &Method) -> Reply {
    if *method != Method::GET {
        return reply::not_allowed("GET");
    }
    let query = Query {
        path: Path::root().child(b"_health"),
        recursive: false,
        consistency: Consistency::Linearizable,
    };
    let answer = tokio::time::timeout(HEALTHY, app.node.read(query)).await;
    match answer {
        // That nothing is there is an answer as good as any.
        Ok(Ok(_) | Err(RequestError::Store { .. })) => {
            reply::full(StatusCode::OK, reply::TEXT, r#"{"health":"true"}"#)
        }
        Ok(Err(_)) | Err(_) => {
            let document = "{\"health\":\"false\"}\n";
            reply::full(StatusCode::SERVICE_UNAVAILABLE, reply::TEXT, document)
        }
    }
}

/// `GET /debug/vars`: what the process is and does, for people.
pub async fn variables(app: &App, method: &Method) -> Reply {
    if *method != Method::GET {
        return reply::not_allowed("GET");
    }
    let arguments: Vec<_> = std::env::args_os()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let uptime = SystemTime::now().duration_since(app.started);
    let raft = app.node.view().await.ok().map(|view| {
        let status = view.status;
        json!({
            "id": status.id.to_string(),
            "term": status.term.0,
            "leader": status.leader.map(|leader| leader.to_string()),
            "last": status.last.index.0,
            "persisted": status.persisted.0,
            "committed": status.committed.0,
            "applied": status.applied.index.0,
            "checkpointed": status.checkpointed.index.0,
            "first": status.first.0,
            "revision": status.revision.0,
            "stateHash": format!("{:032x}", status.state_hash),
        })
    });
    let variables = json!({
        "cmdline": arguments,
        "quorate": {
            "version": env!("CARGO_PKG_VERSION"),
            "uptimeSeconds": uptime.unwrap_or_default().as_secs(),
            "raft": raft,
        },
    });
    let mut document = serde_json::to_vec_pretty(&variables).expect("strings and numbers");
    document.push(b'\n');
    let kind = HeaderValue::from_static("application/json; charset=utf-8");
    reply::full(StatusCode::OK, kind, document)
}

/// `PUT /config/local/log`: how much is logged from now on.
pub async fn log_level<B>(app: &App, head: &Parts, body: B) -> Reply
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    #[derive(Deserialize)]
    struct Wanted {
        #[serde(rename = "Level", alias = "level")]
        level: String,
    }

    if head.method != Method::PUT {
        return reply::not_allowed("PUT");
    }
    let waits = head.headers.contains_key(header::EXPECT);
    let body = match app.intake.read(body, waits).await {
        Ok(body) => body,
        Err(error) => return Failure::bad(error.to_string()).reply(),
    };
    let wanted = match serde_json::from_slice::<Wanted>(&body) {
        Ok(wanted) => wanted.level,
        Err(error) => {
            return Failure::bad(format!("Invalid json body: {error}")).reply();
        }
    };
    if app.log_level.set(&wanted) {
        reply::empty(StatusCode::NO_CONTENT)
    } else {
        Failure::bad(format!("Invalid log level {wanted}")).reply()
    }
}
