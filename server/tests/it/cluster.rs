//! Clusters of real processes on loopback, each member with ports and a directory of its own.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::future::Future;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::client::{Answer, Client};
use crate::harness::Scratch;
use crate::process::command;

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Processes that form a cluster. They are killed when it is dropped.
pub(crate) struct Cluster {
    members: Vec<Member>,
    flags: Vec<String>,
    /// Of the peer URLs.
    scheme: &'static str,
    scratch: Scratch,
}

/// A member, whether it runs or not.
struct Member {
    name: String,
    clients: SocketAddr,
    peers: SocketAddr,
    data_dir: PathBuf,
    log: PathBuf,
    /// Beside those of the cluster.
    flags: Vec<String>,
    process: Option<Child>,
}

impl Cluster {
    /// A cluster of `size` members of which none runs, each to be started with `flags` as well.
    pub(crate) fn new(size: usize, flags: &[&str]) -> Self {
        let scratch = Scratch::new();
        let member = |place: usize| {
            let name = format!("m{place}");
            Member {
                clients: free_port(),
                peers: free_port(),
                data_dir: scratch.join(&name),
                log: scratch.join(&format!("{name}.log")),
                flags: Vec::new(),
                process: None,
                name,
            }
        };
        Self {
            members: (0..size).map(member).collect(),
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            scheme: "http",
            scratch,
        }
    }

    /// Has the members speak TLS to each other, with what their flags say.
    pub(crate) fn secured(mut self) -> Self {
        self.scheme = "https";
        self
    }

    /// Gives one member flags of its own, which count from its next start on.
    pub(crate) fn set_flags(&mut self, place: usize, flags: Vec<String>) {
        self.members[place].flags = flags;
    }

    /// A path of this test's own.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// Where a member keeps its data.
    pub(crate) fn data_dir(&self, place: usize) -> &Path {
        &self.members[place].data_dir
    }

    /// Where a member hears its peers.
    pub(crate) fn peers(&self, place: usize) -> SocketAddr {
        self.members[place].peers
    }

    /// As [`Cluster::new`], started, and with a leader.
    pub(crate) async fn start(size: usize, flags: &[&str]) -> Self {
        let mut cluster = Self::new(size, flags);
        for place in 0..size {
            cluster.run(place);
        }
        cluster.leader().await;
        cluster
    }

    /// Starts a member that does not run. It serves once it is born.
    pub(crate) fn run(&mut self, place: usize) {
        let all = self.members.iter();
        let scheme = self.scheme;
        let all = all.map(|member| format!("{}={scheme}://{}", member.name, member.peers));
        let all = all.collect::<Vec<_>>().join(",");
        let member = &mut self.members[place];
        assert!(member.process.is_none(), "{} runs", member.name);
        let log = File::options().create(true).append(true).open(&member.log);
        let mut command = command(&member.data_dir, &[]);
        command
            .args(["--heartbeat-interval=50", "--election-timeout=300"])
            .arg(format!("--name={}", member.name))
            .arg(format!("--listen-client-urls=http://{}", member.clients))
            .arg(format!("--advertise-client-urls=http://{}", member.clients))
            .arg(format!("--listen-peer-urls={scheme}://{}", member.peers))
            .arg(format!(
                "--initial-advertise-peer-urls={scheme}://{}",
                member.peers
            ))
            .arg(format!("--initial-cluster={all}"))
            .args(&self.flags)
            .args(&member.flags)
            .stderr(Stdio::from(log.expect("a log")));
        member.process = Some(command.spawn().expect("the program runs"));
    }

    /// Kills a member with SIGKILL, and waits until it is dead.
    pub(crate) fn kill(&mut self, place: usize) {
        let mut process = self.members[place].process.take().expect("it runs");
        process.kill().expect("killed");
        process.wait().expect("dead");
    }

    /// Asks a member to end and waits until it has: its exit status.
    pub(crate) async fn stop(&mut self, place: usize) -> Option<i32> {
        let process = self.members[place].process.as_ref().expect("it runs");
        let id = process.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status();
        assert!(sent.expect("kill").success());
        self.ended(place).await
    }

    /// Waits until a member has ended by itself: its exit status.
    pub(crate) async fn ended(&mut self, place: usize) -> Option<i32> {
        let mut process = self.members[place].process.take().expect("it runs");
        let ended = || {
            let ended = process.try_wait().expect("a child");
            async move { ended }
        };
        self.until("a member ends", ended).await.code()
    }

    /// Stops a member in its tracks, until it is woken.
    pub(crate) async fn put_to_sleep(&self, place: usize) {
        let id = self.signal(place, "-STOP");
        // The others run on until one of its threads has heard of the signal.
        let sleeps = || async { is_stopped(id).then_some(()) };
        self.until("a member sleeps", sleeps).await;
    }

    /// Lets a member go on that was put to sleep.
    pub(crate) fn wake(&self, place: usize) {
        self.signal(place, "-CONT");
    }

    fn signal(&self, place: usize, signal: &str) -> u32 {
        let process = self.members[place].process.as_ref().expect("it runs");
        let id = process.id();
        let sent = Command::new("kill")
            .args([signal, &id.to_string()])
            .status();
        assert!(sent.expect("kill").success());
        id
    }

    /// Where each member serves clients.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.clients).collect()
    }

    /// Waits until a member answers from its own state.
    pub(crate) async fn serves(&self, place: usize) {
        let address = self.members[place].clients;
        let question = || async move {
            let mut client = Client::try_connect(address).await?;
            client.try_ask("GET", "/v2/keys/?quorum=false").await
        };
        self.until("a member serves", question).await;
    }

    /// Waits until all members have applied the same entry and hold the same: both numbers.
    pub(crate) async fn agreement(&self) -> (u64, u64) {
        let question = || async {
            let mut states = BTreeSet::new();
            for place in 0..self.members.len() {
                let metrics = self.ask(place, "GET", "/metrics", "").await.body;
                let number = |name: &str| {
                    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
                    let number = line.and_then(|rest| rest.trim().parse::<u64>().ok());
                    number.expect("a gauge")
                };
                states.insert((
                    number("etcd_server_proposals_applied_total "),
                    number("quorate_state_hash "),
                ));
            }
            states.first().copied().filter(|_| states.len() == 1)
        };
        self.until("all agree", question).await
    }

    /// What a member has logged so far.
    pub(crate) fn log(&self, place: usize) -> String {
        fs::read_to_string(&self.members[place].log).expect("a log")
    }

    /// A connection to a member, as soon as it listens.
    pub(crate) async fn client(&self, place: usize) -> Client {
        let address = self.members[place].clients;
        self.until("a connection", || Client::try_connect(address))
            .await
    }

    /// One request to a member, on a connection of its own.
    pub(crate) async fn ask(&self, place: usize, method: &str, target: &str, form: &str) -> Answer {
        self.client(place).await.ask(method, target, form).await
    }

    /// What a member shows of its replica: a number or a word.
    pub(crate) async fn raft(&self, place: usize, name: &str) -> serde_json::Value {
        let answer = self.ask(place, "GET", "/debug/vars", "").await;
        let vars: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
        vars["quorate"]["raft"][name].clone()
    }

    /// Whether a member counts something in its metrics under exactly this name and these labels.
    pub(crate) async fn counts(&self, place: usize, name: &str) -> bool {
        let answer = self.ask(place, "GET", "/metrics", "").await;
        let value = answer.body.lines().find_map(|line| line.strip_prefix(name));
        value.is_some_and(|value| value.trim() != "0")
    }

    /// Waits until a member has logged these words, at the latest after what `since` had.
    pub(crate) async fn logs(&self, place: usize, since: usize, words: &str) {
        let says = || {
            let log = self.log(place);
            async move { log[since..].contains(words).then_some(()) }
        };
        self.until(words, says).await;
    }

    /// Waits until all members that run know the same leader, which runs: its place.
    pub(crate) async fn leader(&self) -> usize {
        self.until("a leader", || self.known_leader()).await
    }

    /// Asks `question` again and again until it has an answer.
    ///
    /// # Panics
    /// After [`PATIENCE`], with what the members have logged.
    pub(crate) async fn until<T, F>(&self, what: &str, mut question: impl FnMut() -> F) -> T
    where
        F: Future<Output = Option<T>>,
    {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = question().await {
                return answer;
            }
            if Instant::now() >= end {
                let logs = (0..self.members.len()).map(|place| self.log(place));
                panic!("not in time: {what}\n{}", logs.collect::<String>());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn known_leader(&self) -> Option<usize> {
        let (mut known, mut leads) = (BTreeSet::new(), None);
        for (place, member) in self.members.iter().enumerate() {
            if member.process.is_none() {
                continue;
            }
            let answer = self.ask(place, "GET", "/v2/stats/self", "").await;
            let this: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
            let leader = this["leaderInfo"]["leader"].as_str().unwrap_or_default();
            known.insert(leader.to_owned());
            if !leader.is_empty() && this["id"] == *leader {
                leads = Some(place);
            }
        }
        leads.filter(|_| known.len() == 1)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in self.members.iter_mut().filter_map(|m| m.process.as_mut()) {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A port of 127.0.0.1 that nobody has, for TCP and UDP, and that no other test was given.
fn free_port() -> SocketAddr {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let is_free = UdpSocket::bind(address).is_ok();
        let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
        if is_free && given.insert(address.port()) {
            return address;
        }
    }
}

/// Waits until a member answers from its own state with this value, and says how old that may be.
pub(crate) async fn has(cluster: &Cluster, place: usize, value: &str) -> u64 {
    let expected = format!("\"value\":\"{value}\"");
    let question = || async {
        let target = "/v2/keys/k?quorum=false";
        let answer = cluster.ask(place, "GET", target, "").await;
        let age = answer.header("X-Quorate-Age-Ms")?.parse().ok()?;
        answer.body.contains(&expected).then_some(age)
    };
    cluster.until(value, question).await
}

/// Whether all threads of a process are stopped.
fn is_stopped(process: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    threads.into_iter().all(|thread| {
        let status = thread.expect("a thread").path().join("status");
        // One that has just ended does nothing more.
        fs::read_to_string(status).is_ok_and(|status| status.contains("State:\tT"))
    })
}

/// Writes through the leader.
pub(crate) async fn write(cluster: &Cluster, value: &str) {
    let question = || async { put(cluster, cluster.leader().await, value).await };
    cluster.until(value, question).await;
}

/// Writes through any member.
pub(crate) async fn write_through(cluster: &Cluster, place: usize, value: &str) {
    cluster.until(value, || put(cluster, place, value)).await;
}

async fn put(cluster: &Cluster, place: usize, value: &str) -> Option<()> {
    let form = format!("value={value}");
    let answer = cluster.ask(place, "PUT", "/v2/keys/k", &form).await;
    matches!(answer.status, 200 | 201).then_some(())
}

#[tokio::test]
async fn three_processes_are_one_cluster() {
    let mut cluster = Cluster::start(3, &[]).await;
    write(&cluster, "one").await;
    for place in 0..3 {
        let age = has(&cluster, place, "one").await;
        assert!(u128::from(age) < PATIENCE.as_millis());
        let answer = cluster.ask(place, "GET", "/v2/members", "").await;
        let found: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
        let found = found["members"].as_array().expect("members");
        let urls: BTreeSet<_> = found.iter().map(|m| m["peerURLs"][0].as_str()).collect();
        let peers = cluster
            .members
            .iter()
            .map(|m| format!("http://{}", m.peers));
        let peers: Vec<_> = peers.collect();
        assert_eq!(urls, peers.iter().map(|url| Some(url.as_str())).collect());
    }
    let leader = cluster.leader().await;
    let answer = cluster.ask(leader, "GET", "/v2/stats/leader", "").await;
    let stats: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(stats["followers"].as_object().expect("followers").len(), 2);

    // A follower is killed and comes back; then the leader.
    let follower = (leader + 1) % 3;
    cluster.kill(follower);
    write(&cluster, "two").await;
    cluster.run(follower);
    has(&cluster, follower, "two").await;
    let leader = cluster.leader().await;
    cluster.kill(leader);
    write(&cluster, "three").await;
    cluster.run(leader);
    has(&cluster, leader, "three").await;
    for place in 0..3 {
        assert_eq!(cluster.stop(place).await, Some(0), "{}", cluster.log(place));
    }
}

#[tokio::test]
async fn a_member_that_waits_for_its_birth_says_for_whom_and_ends_when_asked() {
    let mut cluster = Cluster::new(3, &["--log-format=json"]);
    cluster.run(1);
    let waits = || {
        let log = cluster.log(1);
        async move { log.contains("waiting for m0, m2").then_some(()) }
    };
    cluster.until("whom it waits for", waits).await;
    let asked = Instant::now();
    assert_eq!(cluster.stop(1).await, Some(0), "{}", cluster.log(1));
    assert!(asked.elapsed() < Duration::from_secs(2), "at once");
}
