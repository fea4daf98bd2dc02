//! Listening, and one task for each connection: HTTP/1.1, or HTTP/2 where the client begins with
//! its preface.
//!
//! Everything a client can make the server hold is bounded: how many connections there are, how
//! long a request may take to arrive, how large its head and body are, and what waits to be
//! written. A client that is slow only keeps itself waiting.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tracing::{debug, warn};

use crate::app::App;
use crate::args::Listen;
use crate::body::{Body, Cut};

/// How long a connection may stay without a whole request head: the first one, the next one, or
/// one that never ends.
const HEAD_PATIENCE: Duration = Duration::from_secs(75);

/// The longest request line and headers, and what HTTP/1 buffers of a body or an answer. A larger
/// head gets 431, a longer request line 414.
const BUFFER_BYTES: usize = 128 << 10;

/// The longest headers of HTTP/2, in its own count.
const HEADER_LIST_BYTES: u32 = 64 << 10;

/// Requests and watches in flight on one connection of HTTP/2.
const STREAMS_MAX: u32 = 1024;

/// What HTTP/2 holds of one answer that its client does not take.
const SEND_BYTES: usize = 64 << 10;

/// What begins HTTP/2 (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// As much of it as begins no request of HTTP/1 that is answered.
const PREFACE_TELLS: usize = 6;

/// When the server stops: how long a connection that has said nothing yet may take to begin. What
/// is on its way then is answered, not cut off.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Connections the system takes in before the server does. Beyond it a client's first packet is
/// dropped, and it tries again a second later.
const BACKLOG: u32 = 4096;

/// How long accepting rests when the process has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where clients are served.
#[derive(Debug)]
pub struct Listeners(Vec<TcpListener>);

impl Listeners {
    /// Begins to listen. Of a URL that stands for several addresses, those of a family that the
    /// machine does not have are left out.
    ///
    /// # Errors
    /// An address that cannot be listened on, in one line.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn bind(urls: &[Listen]) -> Result<Self, BindError> {
        let mut listeners = Vec::new();
        for url in urls {
            let mut first = None;
            let before = listeners.len();
            for &address in &url.addresses {
                match listen(address) {
                    Ok(listener) => listeners.push(listener),
                    Err(error) if is_absent(&error) => {
                        first.get_or_insert(BindError { address, error });
                    }
                    Err(error) => return Err(BindError { address, error }),
                }
            }
            if let Some(error) = first
                && listeners.len() == before
            {
                return Err(error);
            }
        }
        Ok(Self(listeners))
    }

    /// The addresses listened on.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.0.iter().map(TcpListener::local_addr).collect()
    }

    /// Serves until `stop` turns true, then lets every connection finish what it has begun.
    /// Returns when the last one is gone or `grace` is over.
    pub async fn serve(
        self,
        app: Arc<App>,
        connections_max: usize,
        stop: watch::Receiver<bool>,
        grace: Duration,
    ) {
        let most = connections_max.min(Semaphore::MAX_PERMITS);
        let places = Arc::new(Semaphore::new(most));
        let mut tasks = Vec::new();
        for listener in self.0 {
            let (app, places, stop) = (Arc::clone(&app), Arc::clone(&places), stop.clone());
            tasks.push(tokio::spawn(accept(listener, app, places, stop)));
        }
        for task in tasks {
            // A panic was reported where it happened.
            let _ = task.await;
        }
        let all = u32::try_from(most).unwrap_or(u32::MAX);
        if tokio::time::timeout(grace, places.acquire_many(all))
            .await
            .is_err()
        {
            warn!("clients that did not finish in time are cut off");
        }
    }
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve clients on {address}: {}", explain(.error))]
pub struct BindError {
    address: SocketAddr,
    error: io::Error,
}

fn explain(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::AddrInUse {
        "another process listens there".to_owned()
    } else {
        error.to_string()
    }
}

/// Whether the machine has no such address at all.
fn is_absent(error: &io::Error) -> bool {
    let no_family = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(no_family)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Connections of a server that just ended do not keep its successor from its port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(
    listener: TcpListener,
    app: Arc<App>,
    places: Arc<Semaphore>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            let place = place.expect("the semaphore is never closed");
            listener.accept().await.map(|(stream, _)| (stream, place))
        };
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            _ = stop.wait_for(|&stop| stop) => break,
        };
        match accepted {
            Ok((stream, place)) => {
                tokio::spawn(connection(stream, Arc::clone(&app), place, stop.clone()));
            }
            Err(error) => {
                // A connection that was reset while it waited, or no file descriptors left.
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Those the system has taken in already may have sent all of a request.
    while let Ok(Ok((stream, _))) = tokio::time::timeout(Duration::ZERO, listener.accept()).await
        && let Ok(place) = Arc::clone(&places).try_acquire_owned()
    {
        tokio::spawn(connection(stream, Arc::clone(&app), place, stop.clone()));
    }
}

async fn connection(
    stream: TcpStream,
    app: Arc<App>,
    place: OwnedSemaphorePermit,
    mut stop: watch::Receiver<bool>,
) {
    // Nagle's algorithm would hold events of a stream back.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "no nodelay");
    }
    let last_words = async {
        let _ = stop.wait_for(|&stop| stop).await;
        tokio::time::sleep(LAST_WORDS).await;
    };
    let version = tokio::select! {
        version = tokio::time::timeout(HEAD_PATIENCE, version(&stream)) => version,
        () = last_words => return,
    };
    let served = match version {
        Ok(Ok(Version::One)) => one(stream, app, stop).await,
        Ok(Ok(Version::Two)) => two(stream, app, stop).await,
        Ok(Err(_)) | Err(_) => return,
    };
    if let Err(error) = served {
        debug!(%error, "a connection broke");
    }
    drop(place);
}

enum Version {
    One,
    Two,
}

/// Looks at the first bytes without taking them. Costs an idle connection no buffer.
async fn version(stream: &TcpStream) -> io::Result<Version> {
    let mut first = [0; PREFACE.len()];
    loop {
        let seen = stream.peek(&mut first).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let same = first[..seen] == PREFACE[..seen];
        if !same && first[..seen.min(PREFACE_TELLS)] != PREFACE[..seen.min(PREFACE_TELLS)] {
            return Ok(Version::One);
        }
        // All of it, since who serves it would wait for the rest of it without end.
        if !same || seen == PREFACE.len() {
            return Ok(Version::Two);
        }
        // What was seen stays there, so the stream would be ready at once, again and again.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn one(
    stream: TcpStream,
    app: Arc<App>,
    mut stop: watch::Receiver<bool>,
) -> hyper::Result<()> {
    let service = service_fn(move |request| {
        let app = Arc::clone(&app);
        async move { Ok::<_, Infallible>(app.respond(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(BUFFER_BYTES)
        // Scripts look for X-Etcd-Index as etcd spells it.
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        served = connection.as_mut() => return served,
        _ = stop.wait_for(|&stop| stop) => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

async fn two(
    stream: TcpStream,
    app: Arc<App>,
    mut stop: watch::Receiver<bool>,
) -> hyper::Result<()> {
    let requests = Requests::default();
    let begun = requests.clone();
    let service = service_fn(move |request| {
        let app = Arc::clone(&app);
        let open = begun.begin();
        async move {
            let reply = app.respond(request).await;
            Ok::<_, Infallible>(reply.map(|body| Held { body, _open: open }))
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(HEAD_PATIENCE)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_LIST_BYTES)
        .max_send_buf_size(SEND_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        served = connection.as_mut() => return served,
        _ = stop.wait_for(|&stop| stop) => {}
        () = requests.idle() => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

/// The requests of one connection of HTTP/2: how many there were, and how many are not yet over.
#[derive(Clone, Debug, Default)]
struct Requests {
    begun: Arc<AtomicU64>,
    open: Arc<AtomicU64>,
}

/// A request that is not yet over; counted as over when dropped.
struct Open(Arc<AtomicU64>);

impl Requests {
    fn begin(&self) -> Open {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(&self.open))
    }

    /// Waits until there was none for about as long as a connection of HTTP/1 may be idle.
    async fn idle(&self) {
        let mut before = None;
        loop {
            let begun = self.begun.load(Ordering::Relaxed);
            let open = self.open.load(Ordering::Relaxed);
            if open == 0 && before == Some(begun) {
                return;
            }
            before = (open == 0).then_some(begun);
            tokio::time::sleep(HEAD_PATIENCE).await;
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer, and the request that is over with it.
struct Held {
    body: Body,
    _open: Open,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
