//! `wait=true`: long polls and streams (api/v2.md §10).

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::StatusCode;
use quorate_core::store::{Event, Filter, Path};
use quorate_core::{EndReason, RequestError};
use quorate_runtime::{Notice, WatchEnd, WatchError, WatchItem, Watcher};

use super::date::Calendar;
use super::error::{Code, Error};
use super::params::Params;
use super::{headers, json};
use crate::app::App;
use crate::body::{Body, Cut};
use crate::counts::Open;
use crate::reply::{self, Reply};

/// Begins a watch. Its headers go out at once, its events when they come.
///
/// # Errors
/// The plain answer of a watch that cannot begin, such as below the history floor.
pub async fn serve(app: &App, path: Path, params: &Params) -> Result<Reply, Error> {
    let filter = Filter {
        path,
        recursive: params.recursive,
    };
    let since = params.wait_index;
    let begun = if params.stream {
        app.node.watch(filter, since).await
    } else {
        app.node.watch_once(filter, since).await
    };
    let (header, watcher) = begun.map_err(|error| match error {
        WatchError::Refused(error) => Error::from(error),
        WatchError::Ended(end) => ended(&end),
    })?;
    app.calendar.observe(header.now);
    let stream = Stream {
        watching: Some((watcher, app.counts.watcher())),
        calendar: Arc::clone(&app.calendar),
        once: !params.stream,
    };
    let mut reply = Reply::new(Body::Watch(Box::new(stream)));
    *reply.status_mut() = StatusCode::OK;
    let fields = reply.headers_mut();
    fields.insert(http::header::CONTENT_TYPE, reply::JSON);
    headers::position(fields, header.revision, &header);
    Ok(reply)
}

/// The events of one watch on their way to its client, each in its own piece.
///
/// Asked for the next piece only when the connection has room for it, so a client that does not
/// read costs what fits into its connection, and a cursor.
#[derive(Debug)]
pub struct Stream {
    /// Gone once nothing follows.
    watching: Option<(Watcher, Open)>,
    calendar: Arc<Calendar>,
    once: bool,
}

impl Stream {
    /// Whether nothing follows.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.watching.is_none()
    }

    /// The next piece.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        let Some((watcher, _)) = &mut self.watching else {
            return Poll::Ready(None);
        };
        let item = ready!(watcher.poll_next(context));
        Poll::Ready(Some(match item {
            Some(WatchItem::Event(notice)) => {
                if self.once {
                    self.watching = None;
                }
                Ok(self.document(&notice))
            }
            Some(WatchItem::End(end)) => {
                self.watching = None;
                self.farewell(&end)
            }
            None => {
                self.watching = None;
                Err(Cut)
            }
        }))
    }

    /// The document of an event, written once for all who watch it.
    fn document(&self, notice: &Notice) -> Bytes {
        notice.rendered(|event: &Event| {
            let mut document = Vec::with_capacity(256);
            json::event(&mut document, event, &self.calendar);
            Bytes::from(document)
        })
    }

    /// The last words to a client that is cut off: an error document with the index to go on from.
    /// Who waits for one event of a member that stops just asks the next one.
    fn farewell(&self, end: &WatchEnd) -> Result<Bytes, Cut> {
        if self.once && end.reason == EndReason::Stopping {
            return Err(Cut);
        }
        Ok(Bytes::from(ended(end).document()))
    }
}

/// A watch that is over, as an error. Where nothing is lost its index is the one to go on from.
fn ended(end: &WatchEnd) -> Error {
    let again = |why: &str| Error {
        code: Code::WatcherCleared,
        cause: format!("{why}: watch again with waitIndex={}", end.resume).into_bytes(),
        index: end.resume,
    };
    match end.reason {
        EndReason::Cleared { oldest } => Error::cleared(oldest, end.resume, end.header.revision),
        EndReason::HistoryLost => again("history could not be read"),
        EndReason::Stopping => again("the member stops"),
        EndReason::Busy => Error::from(RequestError::Busy),
    }
}
