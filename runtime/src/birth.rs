//! A member among its peers: how it is born with them (DESIGN.md §4), and what it tells those that
//! are not born yet. Everything decided is decided by core's [`Birth`].

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_core::raft::Message;
use quorate_core::{
    Birth, BirthError, BirthInput, BirthOutput, BirthRecord, BirthState, Confirmation, DiskId,
    Duration, Founder, Instant, NodeId,
};
use tokio::runtime::Handle;
use tracing::{error, info};

use crate::clock::Clock;
use crate::config::Options;
use crate::directory::Home;
use crate::driver::Mail;
use crate::error::StartError;
use crate::identity::Identity;
use crate::inbox::Inbox;
use crate::metrics::Metrics;
use crate::transport::{Arrival, Receiver, SnapshotStreams, Transport, TransportOptions};

/// How often a member asks for confirmations that did not come.
const RESEND_INTERVAL: Duration = Duration::from_millis(250);

/// How often it says whom it waits for.
const TELL_INTERVAL: Duration = Duration::from_secs(5);

/// What a member needs of its process to meet its peers.
pub(crate) struct Surroundings<'a> {
    pub(crate) home: &'a Home,
    pub(crate) options: &'a Options,
    pub(crate) identity: Arc<Identity>,
    pub(crate) inbox: &'a Arc<Inbox<Mail>>,
    pub(crate) metrics: &'a Metrics,
    pub(crate) runtime: &'a Handle,
    pub(crate) clock: Clock,
}

/// This member among the others, from before its birth to its end: whoever is not born yet asks,
/// and whoever was wiped is reported.
#[derive(Debug)]
pub(crate) struct Peers {
    birth: Birth,
    /// A member that is alone has none: there is nobody to talk to, so it opens no socket.
    transport: Option<Transport>,
}

impl Receiver for Inbox<Mail> {
    fn receive(&self, arrival: Arrival) {
        // Bounded by their permits, and by the streams, handshakes and dials under way.
        let _ = self.send(Mail::Arrival(arrival));
    }
}

impl Peers {
    /// As the command line has it, until this member is born; as the record has it, afterwards.
    ///
    /// # Errors
    /// The member is not listed, or cannot be reached where it should.
    pub(crate) fn start(world: &Surroundings<'_>, state: BirthState) -> Result<Self, StartError> {
        let disk = world.identity.disk;
        let founding = match &state.record {
            Some(record) if state.born => Founding::of_record(record, disk),
            Some(_) | None => Founding::of_options(world)?,
        };
        let Founding { token, me, listed } = founding;
        let names = listed.keys().cloned().collect();
        let mut others = listed;
        others.remove(&me.name);
        let transport = if others.is_empty() {
            None
        } else {
            Some(listen(world, token.clone(), me.clone(), others)?)
        };
        if let (Some(transport), Some(record), true) = (&transport, &state.record, state.born) {
            transport.born(record);
        }
        let now = world.clock.now();
        Ok(Self {
            birth: Birth::new(token, me, names, state, RESEND_INTERVAL, now),
            transport,
        })
    }

    /// Drives this member to its birth; `None` where it is asked to stop before.
    ///
    /// # Errors
    /// The directory cannot be written to, or the others are born without this disk.
    pub(crate) fn be_born(
        &mut self,
        world: &Surroundings<'_>,
    ) -> Result<Option<BirthRecord>, StartError> {
        let mut batch = Vec::new();
        let mut tell_at = world.clock.now();
        loop {
            let now = world.clock.now();
            if let Some(record) = self.advance(now, world.home)? {
                info!(
                    members = record.founders.len(),
                    cluster = format_args!("{:x}", record.cluster_id()),
                    "born: all members have confirmed who founds the cluster"
                );
                if let Some(transport) = &self.transport {
                    transport.born(&record);
                }
                return Ok(Some(record));
            }
            if tell_at <= now {
                tell_at = now + TELL_INTERVAL;
                info!(
                    "a new cluster begins when all its members have met: waiting for {}",
                    self.birth.waiting_for().join(", ")
                );
            }
            let until = self.birth.deadline().map_or(tell_at, |at| at.min(tell_at));
            world.inbox.receive(&mut batch, world.clock.moment(until));
            for mail in batch.drain(..) {
                match mail {
                    Mail::Arrival(arrival) => self.take(arrival),
                    Mail::Shutdown => return Ok(None),
                    // There is no member yet that anybody could ask.
                    Mail::Propose { .. }
                    | Mail::Read { .. }
                    | Mail::Watch { .. }
                    | Mail::Credit { .. }
                    | Mail::Unwatch { .. }
                    | Mail::View { .. }
                    | Mail::Held { .. }
                    | Mail::Transfer { .. }
                    | Mail::Input(_)
                    | Mail::Fatal(_) => {}
                }
            }
            self.birth.step(BirthInput::Deadline);
        }
    }

    /// Takes in what speaks of births. Messages are for those who are born.
    pub(crate) fn take(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Handshake { challenge, founder } => {
                self.birth
                    .step(BirthInput::Handshake { challenge, founder });
            }
            Arrival::Confirmation {
                from,
                disk,
                confirmation,
                permit,
            } => {
                self.birth.step(BirthInput::Confirm {
                    from,
                    disk,
                    confirmation,
                });
                drop(permit);
            }
            Arrival::Message { .. } | Arrival::Snapshot { .. } | Arrival::Unreachable { .. } => {}
        }
    }

    /// Answers those who still ask, after this member's birth.
    pub(crate) fn answer(&mut self, now: Instant) {
        while let Some(output) = self.birth.poll(now) {
            match output {
                BirthOutput::Send { to, confirmation } => self.confirm(to, confirmation),
                BirthOutput::Error(error) => error!("{error}"),
                // It is, and has been told.
                BirthOutput::Born(_) => {}
                BirthOutput::Persist(_) => unreachable!("a record never changes after birth"),
            }
        }
    }

    /// Sends a message; it may be lost.
    pub(crate) fn send(&self, to: NodeId, message: Message) {
        if let Some(transport) = &self.transport {
            transport.send(to, message);
        }
    }

    /// The way on which a snapshot goes to a member, if there is one.
    pub(crate) fn snapshot_streams(&self, to: NodeId) -> Option<SnapshotStreams> {
        let transport = self.transport.as_ref();
        transport.map(|transport| transport.snapshot_streams(to))
    }

    /// The way to the others, to be closed.
    pub(crate) fn into_transport(self) -> Option<Transport> {
        self.transport
    }

    /// Does what the birth asks for, until it is done or there is nothing left.
    fn advance(&mut self, now: Instant, home: &Home) -> Result<Option<BirthRecord>, StartError> {
        while let Some(output) = self.birth.poll(now) {
            match output {
                BirthOutput::Persist(state) => {
                    home.set_birth(&state)?;
                    self.birth.step(BirthInput::Persisted);
                }
                BirthOutput::Send { to, confirmation } => self.confirm(to, confirmation),
                BirthOutput::Born(record) => return Ok(Some(record)),
                BirthOutput::Error(BirthError::NotFounded { member }) => {
                    return Err(StartError::NotFounded { member });
                }
                BirthOutput::Error(error) => error!("{error}"),
            }
        }
        Ok(None)
    }

    fn confirm(&self, to: String, confirmation: Confirmation) {
        if let Some(transport) = &self.transport {
            transport.confirm(to, confirmation);
        }
    }
}

/// Who founds the cluster, as far as that is known.
struct Founding {
    token: String,
    me: Founder,
    /// All of them, this member included.
    listed: BTreeMap<String, Vec<String>>,
}

impl Founding {
    fn of_record(record: &BirthRecord, disk: DiskId) -> Self {
        let mut founders = record.founders.iter();
        let me = founders.find(|founder| founder.disk == disk);
        let listed = record.founders.iter();
        let listed = listed.map(|founder| (founder.name.clone(), founder.peer_urls.clone()));
        Self {
            token: record.token.clone(),
            me: me
                .expect("the identity was checked against the record")
                .clone(),
            listed: listed.collect(),
        }
    }

    fn of_options(world: &Surroundings<'_>) -> Result<Self, StartError> {
        let options = world.options;
        let name = options.name.clone();
        let Some(peer_urls) = options.cluster.get(&name) else {
            return Err(StartError::NotListed { member: name });
        };
        let key = world.identity.public_key();
        Ok(Self {
            token: options.token.clone(),
            me: Founder {
                name,
                peer_urls: peer_urls.clone(),
                disk: world.identity.disk,
                key: key.expect("checked when it was read"),
            },
            listed: options.cluster.clone(),
        })
    }
}

fn listen(
    world: &Surroundings<'_>,
    token: String,
    me: Founder,
    others: BTreeMap<String, Vec<String>>,
) -> Result<Transport, StartError> {
    let options = world.options;
    let listen = options.peer_listen.clone();
    let tls = options.peer_tls.clone();
    let receiver: Arc<dyn Receiver> = Arc::<Inbox<Mail>>::clone(world.inbox);
    let transport = Transport::start(
        TransportOptions::new(listen, tls, token, me, others),
        Arc::clone(&world.identity),
        receiver,
        Arc::clone(&world.metrics.peers),
        world.runtime.clone(),
    )?;
    for address in transport.local_addresses() {
        info!(peers = %address, "hearing peers (UDP)");
    }
    Ok(transport)
}
