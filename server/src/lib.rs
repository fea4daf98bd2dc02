//! The server: the etcd v2 API over HTTP, in front of one member. It translates and decides
//! nothing; what is decided is decided in `quorate-core`, and simulated there.
//!
//! ```text
//!   connection ─ http.rs ─ app.rs ─ v2/keys.rs ── Command, Query ──▶ Node ─▶ the member
//!        ▲                            │ params.rs, path.rs              │
//!        └──── body.rs ◀── json.rs ◀──┴──────────── Response, events ◀──┘
//! ```
//!
//! | file | what |
//! |---|---|
//! | `main.rs`, `server.rs` | the process; a member and its listeners from start to orderly end |
//! | `args/` | etcd's flags and quorate's, from command line and environment |
//! | `http.rs` | listening; HTTP/1.1 or 2; every limit on connections and heads |
//! | `app.rs`, `reply.rs`, `body.rs` | which endpoint is meant; answers; bodies, both bounded |
//! | `v2/keys.rs`, `v2/watch.rs` | the keys API: what a request asks for; long polls, streams |
//! | `v2/params.rs`, `v2/path.rs`, `v2/mime.rs` | what a request says, read as etcd's Go reads it |
//! | `v2/{json,error,headers,date}.rs` | what an answer says, byte for byte |
//! | `v2/members.rs`, `v2/stats.rs`, `v2/auth.rs` | the endpoints beside the keys |
//! | `probes.rs`, `metrics.rs`, `counts.rs`, `logging.rs` | how the server is looked at |
//!
//! Invariants:
//! - etcd's quirks live here and nowhere else: what leaves for the member is a core command with
//!   explicit options, and `v2/keys.rs` alone says which parameters make which.
//! - A parameter error is found before the member is asked; its index is 0.
//! - What a client can make the server hold is bounded: connections, the head and the body of a
//!   request, all bodies together, and the events of a watch that are not yet taken. Not bounded
//!   yet: a listing is written whole, and held until its client has taken it.
//! - An event is written as JSON once and shared by all who watch it. A watch asks for the next
//!   event only when its connection has room.
//! - The wall clock is read to print dates, for nothing else.
//!
//! Absent on purpose: retries, forwarding, watch resumption. Those are decisions.
#![forbid(unsafe_code)]

pub mod app;
pub mod args;
pub mod body;
pub mod counts;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod probes;
pub mod reply;
pub mod server;
pub mod v2;
