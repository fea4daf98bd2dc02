//! What was acknowledged survives `kill -9`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::blocking::{Answer, ask};
use crate::harness::Scratch;
use crate::process::Process;

/// What a writer knows of one of its keys.
#[derive(Clone, Debug, Default)]
struct Known {
    /// The value and index of the last write that was answered.
    acknowledged: Option<(String, u64)>,
    /// Values written since, whose answers never came.
    unknown: Vec<String>,
}

/// Eight writers, the server killed again and again: afterwards every acknowledged write is there
/// with its value and index, unless a later one of the same writer took its place; indexes never go
/// back. `QUORATE_CRASH_SECONDS` makes it longer.
#[test]
fn acknowledged_writes_survive_sigkill() {
    let seconds = std::env::var("QUORATE_CRASH_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let length = Duration::from_secs(seconds.unwrap_or(4));
    let pause = if seconds.is_some() {
        Duration::from_secs(2)
    } else {
        Duration::from_millis(700)
    };
    let scratch = Scratch::new();
    let data = scratch.join("data");
    let mut server = Process::start(&data, &[]);
    let client = Client {
        address: Arc::new(Mutex::new(server.address)),
    };
    let stop = Arc::new(AtomicBool::new(false));
    let highest = Arc::new(Mutex::new(0));
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (client, stop, highest) = (client.clone(), stop.clone(), highest.clone());
            std::thread::spawn(move || write_until(&stop, &client, writer, &highest))
        })
        .collect();

    let end = Instant::now() + length;
    let mut kills = 0;
    while Instant::now() < end {
        std::thread::park_timeout(pause); // the load runs on; this is its length, not a wait
        server.end("-KILL");
        server = Process::start(&data, &[]);
        *client.address.lock().expect("nobody panics with it") = server.address;
        kills += 1;
    }
    stop.store(true, Ordering::SeqCst);
    let known: Vec<_> = writers
        .into_iter()
        .map(|writer| writer.join().expect("a writer panicked"))
        .collect();
    server.end("-KILL");
    let server = Process::start(&data, &[]);
    *client.address.lock().expect("nobody panics with it") = server.address;

    let mut checked = 0;
    for (writer, keys) in known.iter().enumerate() {
        for (key, known) in keys {
            checked += usize::from(known.acknowledged.is_some());
            check(
                &client.request("GET", &format!("/v2/keys/w{writer}/{key}"), ""),
                known,
            );
        }
    }
    assert!(
        kills >= 3 && checked >= 100,
        "{kills} kills, {checked} keys: the load was no load"
    );
    let last = client.request("PUT", "/v2/keys/after", "value=1");
    assert!(
        last.index() > *highest.lock().expect("no writer panicked"),
        "indexes went back"
    );
}

fn write_until(
    stop: &AtomicBool,
    client: &Client,
    writer: usize,
    highest: &Mutex<u64>,
) -> BTreeMap<usize, Known> {
    let mut known: BTreeMap<usize, Known> = BTreeMap::new();
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        number += 1;
        let key = number % 97;
        let value = format!("{writer}-{number}");
        let entry = known.entry(key).or_default();
        let path = format!("/v2/keys/w{writer}/{key}");
        match client.try_request("PUT", &path, &format!("value={value}")) {
            Some(answer) if answer.status < 300 => {
                let index = answer.index();
                if let Some((_, before)) = &entry.acknowledged {
                    assert!(index > *before, "index {index} after {before}");
                }
                *entry = Known {
                    acknowledged: Some((value, index)),
                    unknown: Vec::new(),
                };
                let mut highest = highest.lock().expect("no writer panicked");
                *highest = index.max(*highest);
            }
            Some(answer) => assert!(answer.status >= 500, "{answer:?}"),
            None => entry.unknown.push(value),
        }
    }
    known
}

fn check(found: &Answer, known: &Known) {
    let Some((value, index)) = &known.acknowledged else {
        return;
    };
    assert_eq!(found.status, 200, "{found:?}: lost {known:?}");
    let (now, modified) = (found.field("value"), found.number("modifiedIndex"));
    if &now == value {
        assert_eq!(
            modified, *index,
            "{found:?}: another index than was answered"
        );
    } else {
        assert!(known.unknown.contains(&now), "{found:?}: lost {known:?}");
        assert!(modified > *index, "{found:?}: an index from before {index}");
    }
}

/// Makes each request on a connection of its own, to wherever the server is now.
#[derive(Clone, Debug)]
struct Client {
    address: Arc<Mutex<SocketAddr>>,
}

impl Client {
    /// A request that must get an answer.
    fn request(&self, method: &str, target: &str, form: &str) -> Answer {
        self.try_request(method, target, form).expect("an answer")
    }

    /// A request that may get none, or half of one.
    fn try_request(&self, method: &str, target: &str, form: &str) -> Option<Answer> {
        let address = *self.address.lock().expect("nobody panics with it");
        ask(address, method, target, form).ok()
    }
}
