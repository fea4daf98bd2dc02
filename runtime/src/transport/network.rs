//! What all tasks of the transport have in common: who the others are, and which connections count.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use quinn::{Connection, Endpoint};
use quorate_core::raft::Message;
use quorate_core::{BirthRecord, Confirmation, DiskId, Founder, NodeId};
use tokio::sync::Semaphore;
use tracing::{debug, info};

use super::hello::{Hello, Versions};
use super::link::{Control, Link, Proved};
use super::options::{Limits, TransportOptions};
use super::peer::{Peer, Places};
use super::refusal::{About, CODE_DUPLICATE, Complaints, Failure, Reason, Refusal};
use super::tls::Credentials;
use super::{Arrival, Receiver};
use crate::identity::{self, Identity};
use crate::metrics::{DropLabel, PeerMetrics, gauge};

/// The middle of the transport.
pub(super) struct Network {
    pub(super) limits: Limits,
    pub(super) identity: Arc<Identity>,
    pub(super) receiver: Arc<dyn Receiver>,
    pub(super) metrics: Arc<PeerMetrics>,
    pub(super) complaints: Complaints,
    pub(super) credentials: Credentials,
    /// Connections nothing is proved of yet.
    pub(super) handshakes: Arc<Semaphore>,
    /// What this member dials from: by IPv4 and by IPv6, where the system has them.
    pub(super) dialing: [Option<Endpoint>; 2],
    token: String,
    me: Founder,
    run: u64,
    peers: Mutex<BTreeMap<String, Arc<Peer>>>,
    born: OnceLock<Born>,
    challenges: AtomicU64,
}

/// What is known once this member is born.
#[derive(Debug)]
struct Born {
    hash: u128,
    /// The others.
    peers: BTreeMap<NodeId, Arc<Peer>>,
    /// All, this member included.
    founders: BTreeMap<DiskId, (NodeId, Founder)>,
}

impl Network {
    pub(super) fn new(
        options: TransportOptions,
        credentials: Credentials,
        dialing: [Option<Endpoint>; 2],
        identity: Arc<Identity>,
        receiver: Arc<dyn Receiver>,
        metrics: Arc<PeerMetrics>,
    ) -> Self {
        let limits = options.limits;
        let mut peers = options.peers;
        peers.remove(&options.me.name);
        let peers = peers.into_iter().map(|(name, urls)| {
            let peer = Peer::new(name.clone(), urls, &limits, &metrics);
            (name, Arc::new(peer))
        });
        Self {
            peers: Mutex::new(peers.collect()),
            handshakes: Arc::new(Semaphore::new(limits.handshakes)),
            limits,
            identity,
            receiver,
            complaints: Complaints::new(Arc::clone(&metrics)),
            metrics,
            credentials,
            dialing,
            token: options.token,
            me: options.me,
            run: identity::seed(),
            born: OnceLock::new(),
            challenges: AtomicU64::new(0),
        }
    }

    /// The number of a challenge about to be made.
    pub(super) fn challenge(&self) -> u64 {
        self.challenges.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn all_peers(&self) -> Vec<Arc<Peer>> {
        self.peers().values().cloned().collect()
    }

    /// What this member says of itself now, to the peer it dials if it does.
    pub(super) fn hello(&self, to: Option<&str>) -> Hello {
        Hello {
            protocol: Versions::PROTOCOL,
            frames: Versions::FRAMES,
            run: self.run,
            token: self.token.clone(),
            cluster: self.born.get().map(|born| born.hash),
            founder: self.me.clone(),
            to: to.map(str::to_owned),
        }
    }

    /// The connection with a member, if there is one.
    pub(super) fn link_to(&self, to: NodeId) -> Option<Arc<Link>> {
        self.born.get()?.peers.get(&to)?.member()
    }

    /// Queues a message for a member.
    pub(super) fn send(&self, to: NodeId, message: Message) {
        let peer = self.born.get().and_then(|born| born.peers.get(&to));
        let Some(peer) = peer else {
            return self.count_drop("send", "unknown");
        };
        match peer.member() {
            Some(link) => link.send(message),
            None => self.count_drop("send", "unconnected"),
        }
    }

    /// Queues a confirmation for whoever has that name.
    pub(super) fn confirm(&self, to: &str, confirmation: &Confirmation) {
        let peer = self.peers().get(to).cloned();
        let Some(peer) = peer else {
            return self.count_drop("control", "unknown");
        };
        for link in peer.places().links() {
            link.control(Control::Confirm(confirmation.clone()));
        }
    }

    /// Knows from now on who is a member. Gives the peers that were not known before.
    pub(super) fn born(&self, record: &BirthRecord) -> Vec<Arc<Peer>> {
        let mut new = Vec::new();
        let mut peers = BTreeMap::new();
        for (node, founder) in record.nodes() {
            if founder.disk == self.me.disk {
                continue;
            }
            let mut all = self.peers();
            let peer = all.entry(founder.name.clone()).or_insert_with(|| {
                let (name, urls) = (founder.name.clone(), founder.peer_urls.clone());
                let peer = Arc::new(Peer::new(name, urls, &self.limits, &self.metrics));
                new.push(Arc::clone(&peer));
                peer
            });
            peers.insert(node, Arc::clone(peer));
        }
        let founders = record
            .nodes()
            .map(|(node, founder)| (founder.disk, (node, founder.clone())));
        let hash = record.hash();
        let born = Born {
            hash,
            peers,
            founders: founders.collect(),
        };
        if self.born.set(born).is_err() {
            return new;
        }
        // Connections made from now on know it; the others are told.
        for peer in self.all_peers() {
            self.sort(&peer);
            for link in peer.places().links() {
                link.control(Control::Born { cluster: hash });
                if let Err(failure) = self.check_cluster(link.cluster.get().copied()) {
                    link.refuse(&failure);
                }
            }
        }
        self.show_connected();
        new
    }

    /// Judges a hello that is proved. What it says of its sender is told to the receiver, even
    /// where the connection is refused for its identity: the receiver may know more to tell.
    pub(super) fn judge(
        &self,
        hello: &Hello,
        challenge: u64,
        dialed: Option<&str>,
    ) -> Result<Arc<Peer>, Failure> {
        let founder = &hello.founder;
        let name = &founder.name;
        if hello.token != self.token {
            let (one, other) = (&hello.token, &self.token);
            let words = format!("--initial-cluster-token is {one:?} at {name}, {other:?} here");
            return Err(Failure::refused(Reason::Token, words));
        }
        if hello.run == self.run {
            let words = "it is this member itself: see --initial-cluster and the peer URLs";
            return Err(Failure::refused(Reason::Identity, words));
        }
        self.check_cluster(hello.cluster)?;
        self.receiver.receive(Arrival::Handshake {
            challenge,
            founder: founder.clone(),
        });
        self.check_identity(hello, dialed)
            .map_err(|words| Failure::refused(Reason::Identity, words))
    }

    fn check_identity(&self, hello: &Hello, dialed: Option<&str>) -> Result<Arc<Peer>, String> {
        let founder = &hello.founder;
        let name = &founder.name;
        let me = &self.me.name;
        if founder.disk == self.me.disk {
            return Err(format!(
                "{name} runs on a copy of the data directory of {me}"
            ));
        }
        if name == me {
            return Err(format!("another member calls itself {me} too: see --name"));
        }
        // Of the two sides the one that was dialed sees it first.
        let wrong = match (&hello.to, dialed) {
            (Some(wanted), _) if wanted != me => Some((me, name, wanted.as_str())),
            (_, Some(wanted)) if wanted != name => Some((name, me, wanted)),
            (Some(_) | None, Some(_) | None) => None,
        };
        if let Some((found, dialer, wanted)) = wrong {
            return Err(format!(
                "{found} answers at the peer URL that {dialer} has for {wanted}: \
                 see --initial-cluster"
            ));
        }
        let known = self.born.get();
        let known = known.and_then(|born| born.founders.get(&founder.disk));
        if let Some((_, known)) = known
            && (known.key != founder.key || known.name != *name)
        {
            let known = &known.name;
            return Err(format!(
                "{name} has the disk of {known}, but not its identity"
            ));
        }
        let peer = self.peers().get(name).cloned();
        peer.ok_or_else(|| format!("{name} is not in the --initial-cluster of {me}"))
    }

    /// Refuses a peer that is born into another cluster than this member.
    pub(super) fn check_cluster(&self, cluster: Option<u128>) -> Result<(), Failure> {
        match (cluster, self.born.get()) {
            (Some(cluster), Some(born)) if cluster != born.hash => Err(Failure::refused(
                Reason::Cluster,
                format!(
                    "one is born into cluster {cluster:032x}, the other into {:032x}",
                    born.hash
                ),
            )),
            (Some(_) | None, Some(_) | None) => Ok(()),
        }
    }

    /// Takes a connection in whose peer has proved who it is, unless there is a better one.
    pub(super) fn register(
        self: &Arc<Self>,
        connection: Connection,
        peer: Arc<Peer>,
        hello: &Hello,
        told: &Hello,
        challenge: u64,
        dialed: bool,
    ) -> Result<Arc<Link>, Failure> {
        let proved = Proved {
            peer: Arc::clone(&peer),
            connection,
            disk: hello.founder.disk,
            key: hello.founder.key,
            run: hello.run,
            dialed,
            challenge,
            cluster: hello.cluster,
        };
        let link = Arc::new(Link::new(Arc::clone(self), proved));
        {
            let mut places = peer.places();
            self.check_cluster(hello.cluster)?;
            let place = if self.may_be_member(&link) {
                &mut places.member
            } else {
                &mut places.stranger
            };
            if let Some(old) = place {
                if !self.is_better(&link, old) {
                    return Err(Failure::Duplicate);
                }
                let words = b"another connection with the same peer is kept";
                old.connection.close(CODE_DUPLICATE, words);
            }
            *place = Some(Arc::clone(&link));
            if let (None, Some(born)) = (told.cluster, self.born.get()) {
                link.control(Control::Born { cluster: born.hash });
            }
        }
        self.show_connected();
        info!(
            peer = %peer.name,
            disk = %link.disk,
            address = %link.connection.remote_address(),
            dialed,
            "connected with a peer"
        );
        Ok(link)
    }

    /// A connection is over. One that was replaced has nothing to tell.
    pub(super) fn unregister(&self, link: &Arc<Link>, failure: &Failure) {
        let peer = &link.peer;
        let is_it = |place: &Option<Arc<Link>>| {
            let place = place.as_ref();
            place.is_some_and(|held| Arc::ptr_eq(held, link))
        };
        let was_member = {
            let mut places = peer.places();
            let was_member = is_it(&places.member);
            if was_member {
                places.member = None;
            } else if is_it(&places.stranger) {
                places.stranger = None;
            } else {
                debug!(peer = %peer.name, "a connection that was replaced is over");
                return;
            }
            was_member
        };
        info!(peer = %peer.name, %failure, "a connection with a peer is over");
        self.show_connected();
        // The better one is on its way.
        if was_member && *failure != Failure::Duplicate {
            self.unreachable(peer);
        }
        peer.lost.notify_one();
    }

    /// Tells that a member cannot be reached, once it is one.
    pub(super) fn unreachable(&self, peer: &Arc<Peer>) {
        let Some(born) = self.born.get() else {
            return;
        };
        let mut members = born.peers.iter();
        if let Some((&node, _)) = members.find(|(_, other)| Arc::ptr_eq(other, peer)) {
            self.receiver.receive(Arrival::Unreachable { peer: node });
        }
    }

    /// Which member is at the other end: both are born into one cluster, and the peer has the disk
    /// and the key of one of its founders.
    pub(super) fn member(&self, link: &Link) -> Option<NodeId> {
        let born = self.born.get()?;
        let (node, founder) = born.founders.get(&link.disk)?;
        let is_member = link.cluster.get() == Some(&born.hash) && founder.key == link.key;
        is_member.then_some(*node)
    }

    /// Lets go of all connections, which hold this in turn.
    pub(super) fn forget(&self) {
        for peer in self.all_peers() {
            *peer.places() = Places::default();
        }
        self.show_connected();
    }

    pub(super) fn count_drop(&self, queue: &'static str, reason: &'static str) {
        let label = DropLabel { queue, reason };
        self.metrics.dropped.get_or_create(&label).inc();
    }

    /// The endpoint to dial an address from.
    pub(super) fn endpoint_for(&self, address: SocketAddr) -> Option<&Endpoint> {
        self.dialing[usize::from(address.is_ipv6())].as_ref()
    }

    /// Whether this may be the member's connection. Before birth it may be anybody's.
    fn may_be_member(&self, link: &Link) -> bool {
        let Some(born) = self.born.get() else {
            return true;
        };
        let founder = born.founders.get(&link.disk);
        founder.is_some_and(|(_, founder)| founder.key == link.key)
    }

    /// Moves a connection that is not the member's, as turns out at birth, out of its place.
    fn sort(&self, peer: &Peer) {
        let mut places = peer.places();
        let strange = places.member.take_if(|link| !self.may_be_member(link));
        if strange.is_some() {
            places.stranger = strange;
        }
    }

    /// Whether a connection replaces another one with the same peer. Both sides must decide alike
    /// where both dialed at once: the one dialed from the lower disk stays. Else the newer one
    /// stays: the peer's process or disk is another, or it gave the old one up.
    fn is_better(&self, new: &Link, old: &Link) -> bool {
        let is_same_peer = new.disk == old.disk && new.run == old.run;
        let is_alive = old.connection.close_reason().is_none();
        if is_same_peer && is_alive && new.dialed != old.dialed {
            return new.dialed == (self.me.disk < new.disk);
        }
        new.challenge > old.challenge || !is_alive
    }

    fn show_connected(&self) {
        let peers = self.all_peers();
        let connected = peers.iter().filter(|peer| peer.member().is_some()).count();
        self.metrics.connected.set(gauge(connected));
    }

    /// A panic elsewhere leaves a map that is whole.
    fn peers(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Peer>>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// Ends the connection from outside its own task.
    fn refuse(&self, failure: &Failure) {
        let refusal: &Refusal = match failure {
            Failure::Refused(refusal) => refusal,
            Failure::RefusedByPeer(_) | Failure::Duplicate | Failure::Lost(_) => return,
        };
        refusal.close(&self.connection);
        let about = About::Peer(self.peer.name.clone());
        self.network.complaints.hear(about, failure);
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Network({})", self.me.name)
    }
}
