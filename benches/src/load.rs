//! A closed loop of HTTP clients: each connection sends its next request when it has its answer.
//!
//! Requests are written by hand on plain sockets, so that the generator costs as little as possible
//! of the two cores it shares with the server.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What each request does.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `PUT` of a value of this many bytes.
    Put(usize),
    /// `GET` with this query: `""` is linearizable on quorate and local on etcd.
    Get(&'static str),
    /// Nine of ten are a `GET` without a query, one a `PUT` of a value of this many bytes.
    Mixed(usize),
}

/// A load: what, how parallel, how much, over which keys.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// What each request does.
    pub kind: Kind,
    /// Connections, each with one request in flight.
    pub connections: usize,
    /// Requests in all.
    pub requests: usize,
    /// Keys `/bench/0` … are used in turn.
    pub keys: usize,
    /// The number of the first key.
    pub first_key: usize,
}

/// What was seen.
#[derive(Debug)]
pub struct Report {
    /// Nanoseconds from the first byte sent to the last byte received, of each request.
    pub latency: Histogram<u64>,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Answers with a status other than 2xx.
    pub refused: u64,
}

impl Report {
    /// Requests answered in a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let answered = u32::try_from(self.latency.len()).unwrap_or(u32::MAX);
        f64::from(answered) / self.elapsed.as_secs_f64()
    }

    /// A latency quantile.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.latency.value_at_quantile(quantile))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>8.0}/s  p50 {:>8.1?}  p90 {:>8.1?}  p99 {:>8.1?}  p99.9 {:>8.1?}  max {:>8.1?}",
            self.rate(),
            self.quantile(0.5),
            self.quantile(0.9),
            self.quantile(0.99),
            self.quantile(0.999),
            Duration::from_nanos(self.latency.max()),
        )?;
        if self.refused > 0 {
            write!(f, "  REFUSED {}", self.refused)?;
        }
        Ok(())
    }
}

/// Runs `load` on one thread of its own, its connections spread evenly over `addresses`.
///
/// # Errors
/// Any failure of a socket, or an answer that is no HTTP/1.1: a benchmark with errors measures
/// nothing.
pub fn run(addresses: &[SocketAddr], load: Load) -> io::Result<Report> {
    run_paced(addresses, load, None)
}

/// As [`run`], with so many requests a second in all, and latency counted from when each was due: a
/// server that stops for a while is charged for all that waited.
///
/// # Errors
/// As [`run`].
pub fn run_at(addresses: &[SocketAddr], load: Load, rate: f64) -> io::Result<Report> {
    run_paced(addresses, load, Some(Duration::from_secs_f64(1.0 / rate)))
}

fn run_paced(addresses: &[SocketAddr], load: Load, apart: Option<Duration>) -> io::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async move {
        let mut streams = Vec::with_capacity(load.connections);
        for address in addresses.iter().cycle().take(load.connections) {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            streams.push(stream);
        }
        let began = Instant::now();
        let clients: Vec<_> = streams
            .into_iter()
            .enumerate()
            .map(|(lane, stream)| tokio::task::spawn_local(client(stream, load, lane, apart)))
            .collect();
        let mut latency = Histogram::new(3).expect("three digits are allowed");
        let mut refused = 0;
        for client in clients {
            let (seen, bad) = client.await.map_err(io::Error::other)??;
            latency.add(seen).map_err(io::Error::other)?;
            refused += bad;
        }
        Ok(Report {
            latency,
            elapsed: began.elapsed(),
            refused,
        })
    })
}

/// One connection: requests `lane`, `lane + connections`, … of the load, each when it is due.
async fn client(
    mut stream: TcpStream,
    load: Load,
    lane: usize,
    apart: Option<Duration>,
) -> io::Result<(Histogram<u64>, u64)> {
    let began = Instant::now();
    let mut latency = Histogram::new(3).expect("three digits are allowed");
    let mut refused = 0;
    let mut request = Vec::new();
    let mut buffer = Vec::with_capacity(16 << 10);
    for number in (lane..load.requests).step_by(load.connections) {
        let kind = match load.kind {
            Kind::Mixed(bytes) if number % 10 == 0 => Kind::Put(bytes),
            Kind::Mixed(_) => Kind::Get(""),
            kind @ (Kind::Put(_) | Kind::Get(_)) => kind,
        };
        write_request(&mut request, kind, load.first_key + number % load.keys);
        let sent = match apart {
            None => Instant::now(),
            Some(apart) => {
                let due = began + apart * u32::try_from(number).unwrap_or(u32::MAX);
                tokio::time::sleep_until(due.into()).await;
                due
            }
        };
        stream.write_all(&request).await?;
        let status = read_answer(&mut stream, &mut buffer).await?;
        let nanos = u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX);
        latency.record(nanos).map_err(io::Error::other)?;
        refused += u64::from(!(200..300).contains(&status));
    }
    Ok((latency, refused))
}

fn write_request(request: &mut Vec<u8>, kind: Kind, key: usize) {
    use std::io::Write as _;
    request.clear();
    match kind {
        Kind::Put(bytes) => {
            let length = "value=".len() + bytes;
            write!(
                request,
                "PUT /v2/keys/bench/{key} HTTP/1.1\r\nHost: bench\r\n\
                 Content-Type: application/x-www-form-urlencoded\r\n\
                 Content-Length: {length}\r\n\r\nvalue="
            )
            .expect("a vector takes all");
            request.resize(request.len() + bytes, b'x');
        }
        Kind::Get(query) => {
            write!(
                request,
                "GET /v2/keys/bench/{key}{query} HTTP/1.1\r\nHost: bench\r\n\r\n"
            )
            .expect("a vector takes all");
        }
        Kind::Mixed(_) => unreachable!("each request is one or the other"),
    }
}

/// Reads one whole answer; its status.
async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<u16> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    buffer.clear();
    loop {
        if let Some(end) = find(buffer, b"\r\n\r\n") {
            let head = std::str::from_utf8(&buffer[..end]).map_err(|_| bad("no text"))?;
            let status = head.get(9..12).and_then(|digits| digits.parse().ok());
            let status = status.ok_or_else(|| bad("no status"))?;
            let body_begins = end + 4;
            match content_length(head) {
                Some(length) if buffer.len() >= body_begins + length => return Ok(status),
                Some(_) => {}
                None if buffer.ends_with(b"0\r\n\r\n") => return Ok(status),
                None => {}
            }
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(bad("the server closed the connection"));
        }
    }
}

fn content_length(head: &str) -> Option<usize> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    })
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}
