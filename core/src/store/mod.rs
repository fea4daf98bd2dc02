//! The store: one deterministic `apply` over the tables of DESIGN.md §5.

mod bytes;
mod changes;
mod command;
mod error;
mod event;
mod history;
mod path;
mod query;
mod watch;

pub use bytes::Value;
pub use changes::Changes;
pub use command::{
    Append, ClientRequest, Command, Compare, Content, Delete, Operation, Publish, Put, Scope,
    Settings, When,
};
pub use error::{Refusal, StoreError};
pub use event::{Action, Audience, Event, Lease, NodeState};
pub use history::{HistoryLost, SliceEvents, SliceId};
pub use path::{Path, hidden};
pub use query::{Body, Consistency, Header, Query, Response, Tree};
pub use watch::Filter;
