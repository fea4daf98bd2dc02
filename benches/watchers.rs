//! Many streams on one key, beside a real etcd where there is one: events a second that reach all
//! of them, how late, and what a client costs that stops reading.
//!
//! `cargo bench -p quorate-benches --bench watchers [-- --rounds N --watchers N --idle N
//! --events N --stall SECONDS --stalled N]`. Fails where an event is missing, doubled or out of
//! order.
#![allow(clippy::print_stdout, reason = "a bench prints")]

use std::cell::{Cell, RefCell};
use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use quorate_benches::server::Server;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local};

/// Events on their way at one time: etcd drops a watcher that is 100 behind.
const WINDOW: usize = 20;

/// While one client does not read: how many do, how often there is an event, and its bytes.
const READERS: usize = 20;
const WRITERS: usize = 32;
const EVENTS_PER_SECOND: f64 = 5000.0;
const STALL_BYTES: usize = 256;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let number = |name: &str, usual: usize| {
        let at = arguments.iter().position(|argument| argument == name);
        let given = at.and_then(|at| arguments.get(at + 1)?.parse().ok());
        given.unwrap_or(usual)
    };
    let fan = Fan {
        watchers: number("--watchers", 1000),
        idle: number("--idle", 0),
        events: number("--events", 500),
    };
    let stall = Duration::from_secs(number("--stall", 0) as u64);
    let stalled = number("--stalled", 1);
    match compare(number("--rounds", 5), fan, stall, stalled) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("the bench failed: {error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Clone, Copy)]
struct Fan {
    watchers: usize,
    idle: usize,
    events: usize,
}

fn compare(rounds: usize, fan: Fan, stall: Duration, slow: usize) -> io::Result<()> {
    let quorate = Server::quorate("quorate", &[])?;
    if !stall.is_zero() {
        return local(stalled(&quorate, stall, slow));
    }
    let etcd = Server::etcd("etcd")?;
    let mut rates = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        for (server, rates) in [Some(&quorate), etcd.as_ref()].into_iter().zip(&mut rates) {
            let Some(server) = server else { continue };
            let (before, memory) = (server.processor_time()?, server.resident()?);
            let began = Instant::now();
            let seen = local(fan_out(server, fan, round))?;
            let all = (fan.watchers * fan.events) as f64;
            let rate = all / seen.elapsed.as_secs_f64();
            println!(
                "{:<8} {rate:>9.0} events/s  p50 {:?}  p99 {:?}  last {:?}  CPU/event {:.2} us  \
                 opened in {:.1?}  {:.1} KiB a connection",
                if std::ptr::eq(server, &quorate) {
                    "quorate"
                } else {
                    "etcd"
                },
                nanos(seen.latency.value_at_quantile(0.5)),
                nanos(seen.latency.value_at_quantile(0.99)),
                nanos(seen.latency.max()),
                (server.processor_time()? - before).as_secs_f64() * 1e6 / all,
                seen.began.duration_since(began),
                seen.resident.saturating_sub(memory) as f64
                    / 1024.0
                    / (fan.watchers + fan.idle) as f64,
            );
            rates.push(rate);
        }
    }
    let [ours, theirs] = rates.map(median);
    if theirs > 0.0 {
        println!("ratio    {:.2}", ours / theirs);
    }
    Ok(())
}

fn nanos(nanos: u64) -> Duration {
    Duration::from_micros(nanos / 1000)
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or(0.0)
}

fn local<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, work)
}

struct Seen {
    latency: Histogram<u64>,
    began: Instant,
    elapsed: Duration,
    resident: u64,
}

/// What all watchers of a run have seen together.
struct Tally {
    /// When each event was sent.
    sent: RefCell<Vec<Instant>>,
    /// How many got it.
    got: RefCell<Vec<usize>>,
    latency: RefCell<Histogram<u64>>,
    watchers: usize,
    /// Events that all have got.
    done: Cell<usize>,
    more: Notify,
    failure: RefCell<Option<String>>,
}

impl Tally {
    fn new(watchers: usize) -> Rc<Self> {
        Rc::new(Self {
            sent: RefCell::default(),
            got: RefCell::default(),
            latency: RefCell::new(Histogram::new(3).expect("three digits are allowed")),
            watchers,
            done: Cell::new(0),
            more: Notify::new(),
            failure: RefCell::default(),
        })
    }

    fn send(&self) -> usize {
        self.sent.borrow_mut().push(Instant::now());
        self.got.borrow_mut().push(0);
        self.got.borrow().len() - 1
    }

    fn receive(&self, event: usize, now: Instant) {
        let late = now.duration_since(self.sent.borrow()[event]);
        let late = u64::try_from(late.as_nanos()).unwrap_or(u64::MAX);
        let _ = self.latency.borrow_mut().record(late);
        let got = &mut self.got.borrow_mut()[event];
        *got += 1;
        if *got == self.watchers {
            self.done.set(self.done.get() + 1);
            self.more.notify_one();
        }
    }

    fn fail(&self, what: String) {
        self.failure.borrow_mut().get_or_insert(what);
        self.more.notify_one();
    }

    async fn until(&self, done: usize) -> io::Result<()> {
        while self.done.get() < done {
            let woken = tokio::time::timeout(Duration::from_secs(30), self.more.notified()).await;
            if let Some(what) = self.failure.borrow().as_ref() {
                return Err(io::Error::other(what.clone()));
            }
            if woken.is_err() {
                let what = format!("only {} of {done} events reached all", self.done.get());
                return Err(io::Error::other(what));
            }
        }
        Ok(())
    }
}

async fn fan_out(server: &Server, fan: Fan, round: usize) -> io::Result<Seen> {
    let address = server.address;
    let tally = Tally::new(fan.watchers);
    let mut waiting = Vec::with_capacity(fan.idle);
    for number in 0..fan.idle {
        let stream = if number % 2 == 0 { "" } else { "&stream=true" };
        let target = format!("/v2/keys/idle/{number}?wait=true{stream}");
        waiting.push(open(TcpStream::connect(address).await?, &target).await?);
    }
    for _ in 0..fan.watchers {
        let target = format!("/v2/keys/fan{round}?wait=true&stream=true");
        let (stream, rest) = open(TcpStream::connect(address).await?, &target).await?;
        spawn_local(watch(stream, rest, Rc::clone(&tally)));
    }
    let resident = server.resident()?;
    let mut writer = TcpStream::connect(address).await?;
    writer.set_nodelay(true)?;
    let began = Instant::now();
    for event in 0..fan.events {
        tally.until((event + 1).saturating_sub(WINDOW)).await?;
        let number = tally.send();
        put(&mut writer, &format!("fan{round}"), &format!("{number:08}")).await?;
    }
    tally.until(fan.events).await?;
    let elapsed = began.elapsed();
    drop(waiting);
    let latency = tally.latency.borrow().clone();
    Ok(Seen {
        latency,
        began,
        elapsed,
        resident,
    })
}

/// Reads a stream to its end: every event once, in order. Nobody writes but to the key watched, so
/// their indexes leave no gap.
async fn watch(mut stream: TcpStream, mut buffer: Vec<u8>, tally: Rc<Tally>) {
    let mut next = None;
    loop {
        let mut begin = 0;
        let now = Instant::now();
        while let Some(end) = find(&buffer[begin..], b"\n") {
            if let Some((number, index)) = event(&buffer[begin..begin + end]) {
                if next.is_some_and(|next| next != index) {
                    return tally.fail(format!("event {index} instead of {next:?}"));
                }
                next = Some(index + 1);
                tally.receive(number, now);
            }
            begin += end + 1;
        }
        buffer.drain(..begin);
        match stream.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// The number in the value of the event on this line, and its index; if it is one.
fn event(line: &[u8]) -> Option<(usize, u64)> {
    let after = |name: &[u8]| Some(&line[find(line, name)? + name.len()..]);
    let number = after(b"\"value\":\"")?.get(..8)?;
    let index = after(b"\"modifiedIndex\":")?;
    let digits = index.iter().take_while(|byte| byte.is_ascii_digit());
    let index = &index[..digits.count()];
    let number = std::str::from_utf8(number).ok()?.parse().ok()?;
    let index = std::str::from_utf8(index).ok()?.parse().ok()?;
    Some((number, index))
}

/// One client does not read while the others do; then it reads on.
async fn stalled(server: &Server, span: Duration, slow: usize) -> io::Result<()> {
    let address = server.address;
    let target = "/v2/keys/stall?wait=true&stream=true";
    for slow in [0, slow] {
        let tally = Tally::new(READERS);
        for _ in 0..READERS {
            let (stream, rest) = open(TcpStream::connect(address).await?, target).await?;
            spawn_local(watch(stream, rest, Rc::clone(&tally)));
        }
        let mut stalled = Vec::new();
        for _ in 0..slow {
            let socket = TcpSocket::new_v4()?;
            socket.set_recv_buffer_size(16 << 10)?;
            stalled.push(open(socket.connect(address).await?, target).await?);
        }
        let (began, before) = (Instant::now(), server.resident()?);
        let mut writers = Vec::new();
        for _ in 0..WRITERS {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let tally = Rc::clone(&tally);
            writers.push(spawn_local(async move {
                while began.elapsed() < span {
                    let due = began.elapsed().as_secs_f64() * EVENTS_PER_SECOND;
                    if tally.sent.borrow().len() as f64 >= due {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        continue;
                    }
                    let number = tally.send();
                    let value = format!("{number:08}{:x<STALL_BYTES$}", "");
                    put(&mut stream, "stall", &value).await?;
                }
                Ok::<_, io::Error>(())
            }));
        }
        for writer in writers {
            writer.await.map_err(io::Error::other)??;
        }
        let events = tally.sent.borrow().len();
        tally.until(events).await?;
        let grown = server.resident()?.saturating_sub(before) / 1024;
        let latency = tally.latency.borrow().clone();
        println!(
            "{slow} stalled: {events} events in {:.1?}, p50 {:?}, p99 {:?}, p99.9 {:?}, max {:?}, \
             RSS +{grown} KiB",
            began.elapsed(),
            nanos(latency.value_at_quantile(0.5)),
            nanos(latency.value_at_quantile(0.99)),
            nanos(latency.value_at_quantile(0.999)),
            nanos(latency.max()),
        );
        for (stream, rest) in stalled.into_iter().take(1) {
            let alone = Tally::new(1);
            for _ in 0..events {
                alone.send();
            }
            let began = Instant::now();
            spawn_local(watch(stream, rest, Rc::clone(&alone)));
            alone.until(events).await?;
            println!(
                "one resumes: all {events} events in {:.1?}, none missing",
                began.elapsed()
            );
        }
    }
    Ok(())
}

/// Asks, and reads the head of the answer; the stream, and what came after it.
async fn open(mut stream: TcpStream, target: &str) -> io::Result<(TcpStream, Vec<u8>)> {
    let request = format!("GET {target} HTTP/1.1\r\nHost: bench\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut buffer = Vec::with_capacity(1024);
    loop {
        if let Some(end) = find(&buffer, b"\r\n\r\n") {
            buffer.drain(..end + 4);
            return Ok((stream, buffer));
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn put(stream: &mut TcpStream, key: &str, value: &str) -> io::Result<()> {
    let request = format!(
        "PUT /v2/keys/{key} HTTP/1.1\r\nHost: bench\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\nvalue={value}",
        value.len() + 6
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(1024);
    // The document ends the answer, and holds no other line.
    while !answer.ends_with(b"}\n") {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    if answer.starts_with(b"HTTP/1.1 20") {
        Ok(())
    } else {
        Err(io::Error::other(
            String::from_utf8_lossy(&answer).into_owned(),
        ))
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}
