//! Members of a cluster are killed again and again while it is written to: nothing acknowledged is
//! lost, nothing is done twice, and it goes on as soon as it can.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::blocking::{Answer, Lost, ask, ask_as, history};
use crate::cluster::{Cluster, PATIENCE};

const WRITERS: usize = 8;

/// The cluster's flag, of which the longest pause is made.
const ELECTION_TIMEOUT: Duration = Duration::from_millis(300);

/// How often somebody is killed.
const PAUSE: Duration = Duration::from_secs(2);

/// What a writer knows of what it wrote, by value.
#[derive(Debug, Default)]
struct Known {
    /// Key and index, as answered.
    done: BTreeMap<String, (String, u64)>,
    /// Certainly not done.
    refused: BTreeSet<String>,
    /// When something was done.
    times: Vec<Instant>,
}

/// What one writer does, again and again.
#[derive(Clone, Copy, Debug)]
enum Habit {
    /// Puts each value under a key of its own.
    Put,
    /// Appends to a queue that all share.
    Append,
    /// As `Append`, with a name, repeated until it is done.
    AppendNamed,
    /// As `Put`, with a name, repeated until it is done.
    PutNamed,
    /// Counts up what others count up too.
    Count,
}

const HABITS: [Habit; WRITERS] = [
    Habit::Put,
    Habit::Put,
    Habit::Append,
    Habit::Append,
    Habit::AppendNamed,
    Habit::PutNamed,
    Habit::Count,
    Habit::Count,
];

/// What was done to the members, and when.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Killed,
    Serves,
}

/// Eight writers through all members, of which one is killed every two seconds, every third time
/// all. `QUORATE_STORM_SECONDS` makes it longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_kills_loses_nothing_and_doubles_nothing() {
    let seconds = std::env::var("QUORATE_STORM_SECONDS").ok();
    let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(13);
    let mut cluster = Cluster::start(3, &[]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|place| {
            let (stop, addresses) = (Arc::clone(&stop), cluster.addresses());
            thread::spawn(move || Writer::new(place, addresses).write_until(&stop))
        })
        .collect();

    let deeds = rage(&mut cluster, Duration::from_secs(seconds)).await;
    stop.store(true, Ordering::SeqCst);
    let known = tokio::task::spawn_blocking(move || {
        let join = |writer: thread::JoinHandle<Known>| writer.join().expect("no writer panics");
        writers.into_iter().map(join).collect::<Vec<_>>()
    });
    let known = known.await.expect("no panic");
    cluster.agreement().await;
    let done: usize = known.iter().map(|known| known.done.len()).sum();
    let longest = longest_pause(&known, &deeds);
    assert!(done >= 200, "{done} writes: the load was no load");
    assert!(
        longest <= 2 * ELECTION_TIMEOUT + Duration::from_secs(1),
        "nothing was written for {longest:?} though a majority served: {deeds:?}"
    );

    let leader = cluster.leader().await;
    let answer = cluster
        .ask(leader, "PUT", "/v2/keys/end", "value=end")
        .await;
    assert_eq!(answer.status, 201, "{answer:?}");
    cluster.agreement().await;
    let addresses = cluster.addresses();
    let checked = tokio::task::spawn_blocking(move || check(&addresses, &known));
    checked.await.expect("no panic");
}

/// Kills and restarts members for so long: when what was done, in order.
async fn rage(cluster: &mut Cluster, length: Duration) -> Vec<(Instant, Deed)> {
    let end = Instant::now() + length;
    let mut deeds = vec![(Instant::now(), Deed::Serves); 3];
    let mut dice = Dice::new();
    for round in 1.. {
        // The load runs on: this is its length, not a wait.
        tokio::time::sleep(PAUSE).await;
        if Instant::now() >= end {
            break;
        }
        let victims = match round % 3 {
            0 => vec![0, 1, 2],
            _ => vec![dice.below(3)],
        };
        for &place in &victims {
            deeds.push((Instant::now(), Deed::Killed));
            cluster.kill(place);
        }
        for &place in &victims {
            cluster.run(place);
        }
        let cluster = &*cluster;
        let back = victims.iter().map(|&place| async move {
            cluster.serves(place).await;
            (Instant::now(), Deed::Serves)
        });
        deeds.extend(futures(back.collect()).await);
    }
    deeds.sort_by_key(|&(when, _)| when);
    deeds.push((Instant::now(), Deed::Killed));
    deeds
}

/// Waits for all of them at once.
async fn futures<F: Future>(all: Vec<F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.into_iter().map(Box::pin).collect();
    let mut ended: Vec<Option<F::Output>> = all.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, end) in all.iter_mut().zip(&mut ended) {
            if end.is_none()
                && let std::task::Poll::Ready(output) = future.as_mut().poll(context)
            {
                *end = Some(output);
            }
        }
        match ended.iter().all(Option::is_some) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    ended.into_iter().flatten().collect()
}

/// The longest time in which nothing was written though two of three served. Each kill begins a new
/// one: the cluster may need its time after each.
fn longest_pause(known: &[Known], deeds: &[(Instant, Deed)]) -> Duration {
    let mut times: Vec<_> = known
        .iter()
        .flat_map(|known| &known.times)
        .copied()
        .collect();
    times.sort();
    let (mut serving, mut longest) = (0, Duration::ZERO);
    for pair in deeds.windows(2) {
        let ((from, deed), (to, _)) = (pair[0], pair[1]);
        match deed {
            Deed::Killed => serving -= 1,
            Deed::Serves => serving += 1,
        }
        if serving < 2 {
            continue;
        }
        let within = times
            .iter()
            .copied()
            .filter(|&time| from < time && time < to);
        let mut before = from;
        for time in within.chain([to]) {
            longest = longest.max(time.duration_since(before));
            before = time;
        }
    }
    longest
}

/// What every member has done, against what the writers know.
fn check(addresses: &[SocketAddr], known: &[Known]) {
    let all = "/v2/keys/?recursive=true&sorted=true&quorum=false";
    let states = addresses
        .iter()
        .map(|&a| ask(a, "GET", all, "").expect("an answer").body);
    let states: BTreeSet<_> = states.collect();
    assert_eq!(states.len(), 1, "members differ");
    let histories = addresses.iter().map(|&address| history(address, "end"));
    let histories: Vec<_> = histories.collect();
    assert!(
        histories.windows(2).all(|two| two[0] == two[1]),
        "histories differ"
    );
    let events = &histories[0];

    let mut by_value = BTreeMap::new();
    let mut counter = None;
    let mut index = 0;
    for event in events {
        let node = &event["node"];
        let at = node["modifiedIndex"].as_u64().expect("an index");
        assert!(at > index, "{event}: two events have index {index}");
        index = at;
        let value = node["value"].as_str().expect("a value");
        let key = node["key"].as_str().expect("a key");
        let before = by_value.insert(value, (key, at));
        assert_eq!(before, None, "{event}: done twice");
        if event["action"] == "compareAndSwap" {
            check_count(counter, event);
            counter = Some(event);
        }
    }
    for known in known {
        for (value, (key, at)) in &known.done {
            let found = by_value.get(value.as_str());
            assert_eq!(found, Some(&(key.as_str(), *at)), "{value}: lost or moved");
        }
        for value in &known.refused {
            assert_eq!(
                by_value.get(value.as_str()),
                None,
                "{value}: refused, and done"
            );
        }
    }
}

/// Each count follows from the one before.
fn check_count(before: Option<&Value>, event: &Value) {
    let Some(before) = before else { return };
    let value = |event: &Value| event["node"]["value"].as_str().map(str::to_owned);
    let (before, after) = (
        value(before).expect("a value"),
        value(event).expect("a value"),
    );
    assert_eq!(event["prevNode"]["value"], before, "{event}");
    assert_eq!(count(&after), count(&before) + 1, "{event}");
}

/// The number a value of the counter begins with.
fn count(value: &str) -> u64 {
    let number = value.split('-').next().and_then(|text| text.parse().ok());
    number.unwrap_or(0)
}

struct Writer {
    place: usize,
    addresses: Vec<SocketAddr>,
    dice: Dice,
    known: Known,
}

impl Writer {
    fn new(place: usize, addresses: Vec<SocketAddr>) -> Self {
        Self {
            place,
            addresses,
            dice: Dice::new(),
            known: Known::default(),
        }
    }

    fn write_until(mut self, stop: &AtomicBool) -> Known {
        for number in 0_u64.. {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            let value = format!("{}-{number}", self.place);
            let key = format!("/v2/keys/put/{value}");
            let form = format!("value={value}");
            match HABITS[self.place] {
                Habit::Put => self.once("PUT", &key, &form, &value),
                Habit::Append => self.once("POST", "/v2/keys/queue", &form, &value),
                Habit::AppendNamed => self.named("POST", "/v2/keys/queue", &value),
                Habit::PutNamed => self.named("PUT", &key, &value),
                Habit::Count => self.count(&value),
            }
            // Others want to use the machine as well.
            thread::park_timeout(Duration::from_millis(5));
        }
        self.known
    }

    /// One attempt, whatever comes of it.
    fn once(&mut self, method: &str, target: &str, form: &str, value: &str) {
        let result = ask(self.somebody(), method, target, form);
        self.learn(value, result);
    }

    /// As many attempts as it takes, all under one name.
    fn named(&mut self, method: &str, target: &str, value: &str) {
        let name = format!("name-{value}");
        let form = format!("value={value}");
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            match ask_as(self.somebody(), method, target, Some(&name), &form) {
                Ok(answer) if answer.is_done() => return self.learn(value, Ok(answer)),
                Ok(answer) => assert!(answer.status >= 500, "{answer:?}"),
                Err(Lost::NotSent | Lost::Cut) => thread::park_timeout(Duration::from_millis(5)),
            }
        }
        panic!("{value} is not written in time");
    }

    /// One more than there is, if nobody else was faster.
    fn count(&mut self, value: &str) {
        const COUNTER: &str = "/v2/keys/counter";
        let Ok(found) = ask(self.somebody(), "GET", COUNTER, "") else {
            return;
        };
        let next = match found.status {
            200 => {
                let now = found.field("value");
                let form = format!("value={}-{value}&prevValue={now}", count(&now) + 1);
                (format!("{}-{value}", count(&now) + 1), form)
            }
            404 => {
                let form = format!("value=0-{value}&prevExist=false");
                (format!("0-{value}"), form)
            }
            status => return assert!(status >= 500, "{found:?}"),
        };
        self.once("PUT", COUNTER, &next.1, &next.0);
    }

    fn learn(&mut self, value: &str, result: Result<Answer, Lost>) {
        match result {
            Ok(answer) if answer.is_done() => {
                let at = answer.number("modifiedIndex");
                let key = answer.field("key");
                self.known.times.push(Instant::now());
                self.known.done.insert(value.to_owned(), (key, at));
            }
            Ok(answer) if !answer.is_refusal() => {
                assert_eq!(answer.status, 500, "{answer:?}");
                assert_eq!(answer.document()["errorCode"], 300, "{answer:?}");
            }
            Ok(_) | Err(Lost::NotSent) => {
                self.known.refused.insert(value.to_owned());
            }
            Err(Lost::Cut) => {}
        }
    }

    fn somebody(&mut self) -> SocketAddr {
        let place = self.dice.below(self.addresses.len());
        self.addresses[place]
    }
}

/// Numbers nobody foresees.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        use std::hash::{BuildHasher as _, RandomState};
        Self(RandomState::new().hash_one(0) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).expect("below a usize")
    }
}
