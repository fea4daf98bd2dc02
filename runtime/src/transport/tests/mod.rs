//! Two or three members in one process, over real sockets of the loopback.

mod refuse;
mod talk;
mod tls;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quorate_core::raft::{Message, MessageBody};
use quorate_core::{BirthRecord, DiskId, Founder, Index, LogId, NodeId, Term};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{sleep, timeout};

use super::options::Limits;
use super::{Arrival, Lane, PeerTls, Receiver, Transport, TransportOptions};
use crate::identity::Identity;
use crate::metrics::{DropLabel, PeerMetrics, RefusalLabel};

const TOKEN: &str = "test";

/// Longer than anything here takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(60);

/// One member, its transport perhaps not started.
struct Member {
    socket: UdpSocket,
    identity: Arc<Identity>,
    options: TransportOptions,
    metrics: Arc<PeerMetrics>,
    transport: Option<Transport>,
    arrived: UnboundedReceiver<Arrival>,
    arrive: UnboundedSender<Arrival>,
}

struct Inbox(UnboundedSender<Arrival>);

impl Receiver for Inbox {
    fn receive(&self, arrival: Arrival) {
        // Nobody looks any more where it fails.
        let _ = self.0.send(arrival);
    }
}

impl Member {
    fn new(name: &str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let identity = Arc::new(Identity::generate());
        let url = format!("http://{}", socket.local_addr().expect("bound"));
        let me = founder(name, &identity, url);
        let (arrive, arrived) = unbounded_channel();
        let mut options = TransportOptions::new(
            Vec::new(),
            PeerTls::SelfMade,
            TOKEN.to_owned(),
            me,
            Default::default(),
        );
        options.limits.dial_pause_max = Duration::from_millis(100);
        Self {
            socket,
            identity,
            options,
            metrics: Arc::default(),
            transport: None,
            arrived,
            arrive,
        }
    }

    /// Which of two is to have the lower disk id is for the test to say.
    fn with_disk(mut self, disk: u128) -> Self {
        let mut identity = (*self.identity).clone();
        identity.disk = DiskId(disk);
        self.identity = Arc::new(identity);
        self.options.me.disk = DiskId(disk);
        self
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("bound")
    }

    fn me(&self) -> Founder {
        self.options.me.clone()
    }

    fn knows(&mut self, peers: &[&Founder]) {
        for peer in peers {
            let (name, urls) = (peer.name.clone(), peer.peer_urls.clone());
            self.options.peers.insert(name, urls);
        }
    }

    /// Knows a peer, but not where it is.
    fn expects(&mut self, peer: &Founder) {
        let name = peer.name.clone();
        self.options.peers.insert(name, Vec::new());
    }

    fn start(&mut self) {
        let socket = self.socket.try_clone().expect("a second handle");
        let started = Transport::start_on(
            vec![socket],
            self.options.clone(),
            Arc::clone(&self.identity),
            Arc::new(Inbox(self.arrive.clone())),
            Arc::clone(&self.metrics),
            Handle::current(),
        );
        self.transport = Some(started.expect("it starts"));
    }

    async fn stop(&mut self) {
        let transport = self.transport.take().expect("started");
        transport.close().await;
    }

    fn transport(&self) -> &Transport {
        self.transport.as_ref().expect("started")
    }

    fn limits(&mut self) -> &mut Limits {
        &mut self.options.limits
    }

    fn send(&self, to: NodeId, number: u64) {
        self.transport().send(to, message(number));
    }

    /// The next arrival that `want` makes something of; others are dropped.
    async fn next<T>(&mut self, mut want: impl FnMut(Arrival) -> Option<T>) -> T {
        let name = self.options.me.name.clone();
        let next = async {
            loop {
                let arrival = self.arrived.recv().await.expect("the sender is here too");
                if let Some(found) = want(arrival) {
                    return found;
                }
            }
        };
        let next = timeout(PATIENCE, next).await;
        next.unwrap_or_else(|_| panic!("nothing came to {name}"))
    }

    /// The next message: from whom, and its number.
    async fn next_message(&mut self) -> (NodeId, u64) {
        self.next(|arrival| match arrival {
            Arrival::Message {
                from,
                message,
                permit,
            } => {
                drop(permit);
                Some((from, message.term.0))
            }
            Arrival::Handshake { .. }
            | Arrival::Confirmation { .. }
            | Arrival::Snapshot { .. }
            | Arrival::Unreachable { .. } => None,
        })
        .await
    }

    async fn next_handshake(&mut self) -> (u64, Founder) {
        self.next(|arrival| match arrival {
            Arrival::Handshake { challenge, founder } => Some((challenge, founder)),
            Arrival::Message { .. }
            | Arrival::Confirmation { .. }
            | Arrival::Snapshot { .. }
            | Arrival::Unreachable { .. } => None,
        })
        .await
    }

    async fn next_unreachable(&mut self) -> NodeId {
        self.next(|arrival| match arrival {
            Arrival::Unreachable { peer } => Some(peer),
            Arrival::Message { .. }
            | Arrival::Confirmation { .. }
            | Arrival::Handshake { .. }
            | Arrival::Snapshot { .. } => None,
        })
        .await
    }

    fn is_connected(&self, name: &str) -> bool {
        let peers = self.transport().network.all_peers();
        let mut peers = peers.into_iter().filter(|peer| peer.name == name);
        peers.any(|peer| peer.member().is_some())
    }

    async fn connected(&self, name: &str) {
        until(|| self.is_connected(name)).await;
    }

    fn refused(&self, reason: &'static str, by: &'static str) -> u64 {
        let label = RefusalLabel { reason, by };
        self.metrics.refused.get_or_create(&label).get()
    }

    async fn has_refused(&self, reason: &'static str) {
        let refused = timeout(PATIENCE, async {
            while self.refused(reason, "this") == 0 {
                sleep(TICK).await;
            }
        });
        if refused.await.is_err() {
            panic!("{reason} is not among {:?}", self.metrics.refused);
        }
    }

    fn dropped(&self, queue: &'static str, reason: &'static str) -> u64 {
        let label = DropLabel { queue, reason };
        self.metrics.dropped.get_or_create(&label).get()
    }
}

const TICK: Duration = Duration::from_millis(2);

/// Returns once it is so.
async fn until(mut is_so: impl FnMut() -> bool) {
    let so = timeout(PATIENCE, async {
        while !is_so() {
            sleep(TICK).await;
        }
    });
    so.await.expect("it comes to be so");
}

fn founder(name: &str, identity: &Identity, url: String) -> Founder {
    Founder {
        name: name.to_owned(),
        peer_urls: vec![url],
        disk: identity.disk,
        key: identity.public_key().expect("a key"),
    }
}

fn message(number: u64) -> Message {
    Message {
        birth: 1,
        from_disk: DiskId(1),
        to_disk: DiskId(2),
        term: Term(number),
        body: MessageBody::PreVote {
            last: LogId {
                term: Term(1),
                index: Index(1),
            },
        },
    }
}

fn record(members: &[&Member]) -> BirthRecord {
    let founders = members.iter().map(|member| member.me()).collect();
    BirthRecord::new(TOKEN.to_owned(), founders)
}

fn id(record: &BirthRecord, member: &Member) -> NodeId {
    record.node_of(member.options.me.disk).expect("a founder")
}

/// Members of these names that know each other, started and born.
fn born<const N: usize>(names: [&str; N]) -> ([Member; N], BirthRecord) {
    let mut members = names.map(Member::new);
    introduce(&mut members);
    let record = record(&members.each_ref());
    for member in &mut members {
        member.start();
        member.transport().born(&record);
    }
    (members, record)
}

fn introduce(members: &mut [Member]) {
    let founders: Vec<_> = members.iter().map(Member::me).collect();
    for member in members {
        let name = member.me().name;
        let others: Vec<_> = founders.iter().filter(|other| other.name != name).collect();
        member.knows(&others);
    }
}

/// Both can still talk to each other. A message may be lost, where both dialed at once.
async fn still_talk(a: &mut Member, b: &mut Member, record: &BirthRecord) {
    says(a, b, record).await;
    says(b, a, record).await;
}

async fn says(from: &Member, to: &mut Member, record: &BirthRecord) {
    let (sender, receiver) = (id(record, from), id(record, to));
    let heard = async {
        let mut number = 1_000_000;
        loop {
            number += 1;
            from.send(receiver, number);
            let again = Duration::from_millis(50);
            let heard = timeout(again, async {
                while to.next_message().await != (sender, number) {}
            });
            if heard.await.is_ok() {
                return;
            }
        }
    };
    timeout(PATIENCE, heard).await.expect("it is heard");
}
