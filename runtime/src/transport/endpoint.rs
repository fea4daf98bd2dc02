//! The sockets, their settings, and whoever comes in by them.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    Connecting, Endpoint, EndpointConfig, IdleTimeout, Incoming, ServerConfig, TokioRuntime,
    TransportConfig, VarInt,
};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::debug;

use super::dial::close;
use super::hello::{self, Role};
use super::link::{
    Link, RECEIVE_BYTES, SEND_BYTES, STREAM_BYTES, STREAMS_BOTH_WAYS, STREAMS_ONE_WAY,
};
use super::network::Network;
use super::options::Limits;
use super::refusal::{About, Failure, Reason};
use crate::error::StartError;

/// Unread bytes that a connection may hold of which nothing is proved: a hello fits.
const UNPROVED_BYTES: u32 = 128 << 10;
/// Connections that may wait for the accepting task. It never waits itself.
const INCOMING_MAX: usize = 1024;
/// What one of them may have sent ahead, and all of them.
const INCOMING_BYTES: u64 = 16 << 10;
const INCOMING_BYTES_ALL: u64 = 4 << 20;
/// A round trip inside a site. The default, 333 ms, waits long for the first packet lost.
const INITIAL_ROUND_TRIP_MILLIS: u64 = 20;
/// The only version of QUIC spoken: RFC 9000.
const QUIC_VERSION: u32 = 1;

const _: () = assert!(UNPROVED_BYTES < RECEIVE_BYTES);

/// What connections are like, whoever dials.
pub(super) fn transport_config(limits: &Limits) -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    let idle = IdleTimeout::try_from(limits.idle_max).ok();
    config
        .max_concurrent_uni_streams(VarInt::from_u32(STREAMS_ONE_WAY))
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_BOTH_WAYS))
        .stream_receive_window(VarInt::from_u32(STREAM_BYTES))
        .receive_window(VarInt::from_u32(UNPROVED_BYTES))
        .send_window(SEND_BYTES)
        .max_idle_timeout(idle)
        .keep_alive_interval(Some(limits.keep_alive))
        .initial_rtt(std::time::Duration::from_millis(INITIAL_ROUND_TRIP_MILLIS))
        .datagram_receive_buffer_size(None)
        .congestion_controller_factory(Arc::new(CubicConfig::default()))
        .enable_segmentation_offload(limits.segmentation_offload);
    Arc::new(config)
}

fn server_config(tls: Arc<QuicServerConfig>, limits: &Limits) -> ServerConfig {
    let mut config = ServerConfig::with_crypto(tls);
    config
        .transport_config(transport_config(limits))
        .migration(false)
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(INCOMING_BYTES_ALL);
    config
}

fn endpoint(socket: UdpSocket, server: Option<ServerConfig>) -> io::Result<Endpoint> {
    let mut config = EndpointConfig::default();
    config.supported_versions(vec![QUIC_VERSION]);
    Endpoint::new(config, server, socket, Arc::new(TokioRuntime))
}

/// Sockets to dial from, apart from those that listen: one bound to a loopback address would reach
/// no other machine. `None` where the system lacks the family.
pub(super) fn dialing() -> [Option<Endpoint>; 2] {
    let any = [
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    ];
    any.map(|address| {
        let socket = UdpSocket::bind(address).ok()?;
        endpoint(socket, None).ok()
    })
}

/// Opens the sockets that listen. A loopback address that does not exist is left out, as long as
/// there is another: `localhost` means both families.
pub(super) fn bind(addresses: &[SocketAddr]) -> Result<Vec<UdpSocket>, StartError> {
    let mut sockets = Vec::new();
    let mut left_out = None;
    for &address in addresses {
        match UdpSocket::bind(address) {
            Ok(socket) => sockets.push(socket),
            Err(source) => {
                let is_missing = matches!(
                    source.kind(),
                    io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported
                );
                let error = StartError::Listen { address, source };
                if !(is_missing && address.ip().is_loopback()) {
                    return Err(error);
                }
                debug!(%address, "there is no such loopback address");
                left_out = Some(error);
            }
        }
    }
    match left_out {
        Some(error) if sockets.is_empty() => Err(error),
        Some(_) | None => Ok(sockets),
    }
}

/// Hears peers on `sockets`.
pub(super) fn listening(
    sockets: Vec<UdpSocket>,
    tls: &Arc<QuicServerConfig>,
    limits: &Limits,
) -> Result<Vec<Endpoint>, StartError> {
    let listen = |socket: UdpSocket| {
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let address = socket.local_addr().unwrap_or(nowhere);
        endpoint(socket, Some(server_config(Arc::clone(tls), limits)))
            .map_err(|source| StartError::Listen { address, source })
    };
    sockets.into_iter().map(listen).collect()
}

/// Takes in whoever dials. Lives as long as the transport.
pub(super) async fn accept_for_ever(network: Arc<Network>, endpoint: Endpoint) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else {
                    return;
                };
                if let Some((incoming, permit)) = admit(&network, incoming) {
                    tasks.spawn(serve(Arc::clone(&network), incoming, permit));
                }
            }
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// Lets in only so many of whom nothing is proved; once half of them are in, only who proves its
/// address.
fn admit(network: &Network, incoming: Incoming) -> Option<(Incoming, OwnedSemaphorePermit)> {
    let room = &network.handshakes;
    let is_crowded = room.available_permits() * 2 < network.limits.handshakes;
    if is_crowded && incoming.may_retry() {
        // It fails only where it may not be asked for.
        let _ = incoming.retry();
        return None;
    }
    match Arc::clone(room).try_acquire_owned() {
        Ok(permit) => Some((incoming, permit)),
        Err(_) => {
            network.count_drop("handshake", "full");
            incoming.refuse();
            None
        }
    }
}

async fn serve(network: Arc<Network>, incoming: Incoming, permit: OwnedSemaphorePermit) {
    let about = About::Address(incoming.remote_address().ip());
    let challenge = network.challenge();
    let patience = network.limits.hello_timeout;
    let result = match incoming.accept() {
        Ok(connecting) => {
            let greeting = timeout(patience, greet(&network, connecting, challenge));
            let in_time = greeting.await;
            in_time.unwrap_or_else(|_| {
                let words = "no handshake and no hello in time";
                Err(Failure::refused(Reason::HelloTimeout, words))
            })
        }
        Err(error) => Err(error.into()),
    };
    drop(permit);
    match result {
        Ok(link) => link.run().await,
        Err(failure) => {
            debug!(%about, %failure, "a connection came to nothing");
            network.complaints.hear(about, &failure);
        }
    }
}

async fn greet(
    network: &Arc<Network>,
    connecting: Connecting,
    challenge: u64,
) -> Result<Arc<Link>, Failure> {
    let connection = connecting.await?;
    let mut guard = Unheard(Some(connection.clone()));
    let result = async {
        let own = network.hello(None);
        let hello = hello::exchange(&connection, Role::Acceptor, &own, &network.identity).await?;
        let peer = network.judge(&hello, challenge, None)?;
        network.register(connection.clone(), peer, &hello, &own, challenge, false)
    };
    let result = result.await;
    guard.0 = None;
    if let Err(failure) = &result {
        close(&connection, failure);
    }
    result
}

/// A connection whose hello does not come in time is dropped by its task: the peer is told why.
struct Unheard(Option<quinn::Connection>);

impl Drop for Unheard {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            let words = "no hello came in time";
            close(&connection, &Failure::refused(Reason::HelloTimeout, words));
        }
    }
}

/// Looks at the TLS files again and again. Lives as long as the transport.
pub(super) async fn refresh_for_ever(network: Arc<Network>, endpoints: Vec<Endpoint>) {
    let mut ticks = interval(network.limits.files_poll);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let reading = Arc::clone(&network);
        let refreshed = spawn_blocking(move || reading.credentials.refresh()).await;
        let Ok(Some(sides)) = refreshed else {
            continue;
        };
        for endpoint in &endpoints {
            let config = server_config(Arc::clone(&sides.server), &network.limits);
            endpoint.set_server_config(Some(config));
        }
    }
}
