//! Dialing one peer, again and again, whenever there is no connection with it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::ClientConfig;
use tokio::net::lookup_host;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::endpoint::transport_config;
use super::hello::{self, Role};
use super::link::Link;
use super::network::Network;
use super::peer::Peer;
use super::refusal::{About, CODE_DUPLICATE, Failure, Reason};
use crate::identity;

/// Lives as long as the transport.
pub(super) async fn dial_for_ever(network: Arc<Network>, peer: Arc<Peer>) {
    let (min, max) = (network.limits.dial_pause_min, network.limits.dial_pause_max);
    let mut pause = min;
    loop {
        let mut began = Instant::now();
        peer.vacant().await;
        let mut lasted = began.elapsed();
        if let Some(link) = dial_all(&network, &peer).await {
            began = Instant::now();
            link.run().await;
            lasted = began.elapsed();
        }
        // A connection that breaks at once, again and again, is no success.
        if lasted >= max {
            pause = min;
        }
        sleep(jittered(pause)).await;
        pause = (pause * 2).min(max);
    }
}

/// Tries all addresses of all peer URLs in turn. Nothing where a connection came in meanwhile.
async fn dial_all(network: &Arc<Network>, peer: &Arc<Peer>) -> Option<Arc<Link>> {
    let mut failures = Vec::new();
    for url in &peer.urls {
        let (host, addresses) = match look_up(url, network.limits.dial_timeout).await {
            Ok(found) => found,
            Err(what) => {
                failures.push(format!("{url}: {what}"));
                continue;
            }
        };
        for address in addresses {
            if peer.is_connected() {
                return None;
            }
            match dial(network, peer, host, address).await {
                Ok(link) => return Some(link),
                Err(Failure::Duplicate) => return None,
                Err(failure) => {
                    debug!(peer = %peer.name, %address, %failure, "a dial failed");
                    failures.push(format!("{url} at {address}: {failure}"));
                    let about = About::Peer(peer.name.clone());
                    network.complaints.hear(about, &failure);
                }
            }
        }
    }
    if !peer.is_connected() {
        peer.counts.dials_failed.inc();
        let complaints = &network.complaints;
        complaints.unreachable(&peer.name, &failures.join("; "));
        network.unreachable(peer);
    }
    None
}

/// Dials one address, once.
pub(super) async fn dial(
    network: &Arc<Network>,
    peer: &Arc<Peer>,
    host: &str,
    address: SocketAddr,
) -> Result<Arc<Link>, Failure> {
    let lost = |what: &str| Failure::Lost(what.to_owned());
    let endpoint = network
        .endpoint_for(address)
        .ok_or_else(|| lost("the system has no such network"))?;
    let mut config = ClientConfig::new(network.credentials.sides().client);
    config.transport_config(transport_config(&network.limits));
    let challenge = network.challenge();
    let connecting = endpoint
        .connect_with(config, address, host)
        .map_err(|e| lost(&e.to_string()))?;
    let connection = timeout(network.limits.dial_timeout, connecting).await;
    let connection = connection.map_err(|_| lost("nobody answers"))??;

    let result = async {
        let own = network.hello(Some(&peer.name));
        let hello = hello::exchange(&connection, Role::Dialer, &own, &network.identity);
        let hello = timeout(network.limits.hello_timeout, hello).await;
        let hello =
            hello.map_err(|_| Failure::refused(Reason::HelloTimeout, "no hello came"))??;
        let peer = network.judge(&hello, challenge, Some(&peer.name))?;
        network.register(connection.clone(), peer, &hello, &own, challenge, true)
    };
    let result = result.await;
    if let Err(failure) = &result {
        close(&connection, failure);
    }
    result
}

/// Tells the peer why a connection is not taken.
pub(super) fn close(connection: &quinn::Connection, failure: &Failure) {
    match failure {
        Failure::Refused(refusal) => refusal.close(connection),
        Failure::Duplicate | Failure::RefusedByPeer(_) | Failure::Lost(_) => {
            connection.close(CODE_DUPLICATE, b"there is a better connection");
        }
    }
}

/// The host and the addresses that a peer URL means now.
async fn look_up(url: &str, patience: Duration) -> Result<(&str, Vec<SocketAddr>), String> {
    let (host, port) = host_and_port(url).ok_or("a peer URL must be http(s)://HOST:PORT")?;
    let found = timeout(patience, lookup_host((host, port))).await;
    let found = found.map_err(|_| "the name service does not answer")?;
    let found: Vec<_> = found.map_err(|e| e.to_string())?.collect();
    Ok((host, found))
}

fn host_and_port(url: &str) -> Option<(&str, u16)> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split('/').next()?;
    let (host, port) = authority.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']')?,
        None => host,
    };
    let port = port.parse().ok()?;
    (!host.is_empty()).then_some((host, port))
}

/// Between half of it and all of it: members that lost each other do not dial in step.
fn jittered(pause: Duration) -> Duration {
    let half = pause / 2;
    let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_nanos(identity::seed() % nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_host_and_a_port() {
        for (url, expected) in [
            ("http://localhost:2380", Some(("localhost", 2380))),
            ("https://10.0.0.1:7001/", Some(("10.0.0.1", 7001))),
            ("http://[::1]:2380", Some(("::1", 2380))),
            ("http://localhost", None),
            ("localhost:2380", None),
            ("http://:2380", None),
            ("http://[::1:2380", None),
            ("http://a:99999", None),
            ("", None),
        ] {
            assert_eq!(host_and_port(url), expected, "{url}");
        }
    }

    #[test]
    fn a_pause_is_never_longer_and_never_less_than_half() {
        for millis in [0, 1, 50, 1000] {
            let pause = Duration::from_millis(millis);
            for _ in 0..100 {
                let jittered = jittered(pause);
                assert!(pause / 2 <= jittered && jittered <= pause.max(Duration::from_nanos(1)));
            }
        }
    }
}
