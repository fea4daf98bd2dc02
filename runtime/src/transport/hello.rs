//! The first words on a connection: each side proves who it is.
//!
//! ```text
//! stream kind: u8 | length of the hello: u32 | hello: postcard | signature: 64 bytes
//! ```
//!
//! The signature is over the bytes of the hello, the role of its sender and the TLS exporter, which
//! no other connection has: it can neither be replayed, nor reflected, nor carried over by somebody
//! who holds two connections.

use quinn::{Connection, RecvStream, SendStream};
use quorate_core::{Founder, codec};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use super::link::Kind;
use super::refusal::{Failure, Reason};
use crate::identity::Identity;

/// The version of what travels between members, streams and hello included.
const PROTOCOL: u8 = 1;

/// The longest hello that is read: names, URLs and the token of an honest peer take far less.
const HELLO_BYTES_MAX: usize = 64 << 10;

const SIGNATURE_BYTES: usize = 64;
const DOMAIN: &[u8] = b"quorate/1 hello\0";
const EXPORTER_LABEL: &[u8] = b"EXPORTER-quorate-hello";
const EXPORTER_BYTES: usize = 32;

/// What a member says of itself. Fields are only ever appended; another version may have them
/// otherwise from the third on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// The versions of the protocol it speaks. In postcard its numbers are the first two bytes.
    pub(super) protocol: Versions,
    /// The versions of frames it reads.
    pub(super) frames: Versions,
    /// A number of its process: a restarted peer has another one.
    pub(super) run: u64,
    /// `--initial-cluster-token`.
    pub(super) token: String,
    /// The hash of the record it is born with.
    pub(super) cluster: Option<u128>,
    /// Who it is.
    pub(super) founder: Founder,
    /// Whom the dialer means: a wrong URL must not cost the right connection.
    pub(super) to: Option<String>,
}

/// A range of versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Versions {
    lowest: u8,
    highest: u8,
}

impl Versions {
    /// What this program speaks.
    pub(super) const PROTOCOL: Self = Self::only(PROTOCOL);
    /// What this program reads.
    pub(super) const FRAMES: Self = Self::only(codec::VERSION);

    const fn only(version: u8) -> Self {
        Self {
            lowest: version,
            highest: version,
        }
    }

    fn check(self, what: &str, own: Self) -> Result<(), Failure> {
        if self.lowest <= own.highest && own.lowest <= self.highest {
            return Ok(());
        }
        Err(Failure::refused(
            Reason::Version,
            format!(
                "{what} {} to {} meets {what} {} to {}: upgrade the older member",
                self.lowest, self.highest, own.lowest, own.highest
            ),
        ))
    }
}

/// Which side of a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Dialer,
    Acceptor,
}

impl Role {
    const fn byte(self) -> u8 {
        match self {
            Self::Dialer => b'd',
            Self::Acceptor => b'a',
        }
    }

    pub(super) const fn other(self) -> Self {
        match self {
            Self::Dialer => Self::Acceptor,
            Self::Acceptor => Self::Dialer,
        }
    }
}

/// Says hello and hears the peer's, which is verified but not yet judged. The dialer speaks first.
pub(super) async fn exchange(
    connection: &Connection,
    role: Role,
    own: &Hello,
    identity: &Identity,
) -> Result<Hello, Failure> {
    let own = seal(connection, role, own, identity)?;
    match role {
        Role::Dialer => {
            let (mut send, mut receive) = connection.open_bi().await?;
            say(&mut send, &own).await?;
            hear(connection, role.other(), &mut receive).await
        }
        Role::Acceptor => {
            let (mut send, mut receive) = connection.accept_bi().await?;
            let peer = hear(connection, role.other(), &mut receive).await?;
            say(&mut send, &own).await?;
            Ok(peer)
        }
    }
}

/// The bytes of a hello with its signature.
pub(super) fn seal(
    connection: &Connection,
    role: Role,
    hello: &Hello,
    identity: &Identity,
) -> Result<Vec<u8>, Failure> {
    let hello = postcard::to_allocvec(hello).map_err(|e| Failure::Lost(e.to_string()))?;
    let signed = signed(connection, role, &hello)?;
    let signature = identity.sign(&signed);
    let signature = signature.ok_or_else(|| Failure::Lost("no identity key".to_owned()))?;
    let length = u32::try_from(hello.len()).unwrap_or(u32::MAX);
    let mut bytes = vec![Kind::Hello.byte()];
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&hello);
    bytes.extend_from_slice(&signature);
    Ok(bytes)
}

/// What the signature is over.
fn signed(connection: &Connection, role: Role, hello: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut exporter = [0; EXPORTER_BYTES];
    connection
        .export_keying_material(&mut exporter, EXPORTER_LABEL, &[])
        .map_err(|_| Failure::Lost("TLS gives no exporter".to_owned()))?;
    Ok([DOMAIN, &[role.byte()], &exporter, hello].concat())
}

async fn say(stream: &mut SendStream, bytes: &[u8]) -> Result<(), Failure> {
    stream.write_all(bytes).await?;
    // It fails only where it was finished before.
    let _ = stream.finish();
    Ok(())
}

async fn hear(
    connection: &Connection,
    role: Role,
    stream: &mut RecvStream,
) -> Result<Hello, Failure> {
    let mut header = [0; 5];
    stream.read_exact(&mut header).await?;
    let [kind, length @ ..] = header;
    if kind != Kind::Hello.byte() {
        return Err(Failure::malformed("something else than a hello"));
    }
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > HELLO_BYTES_MAX {
        return Err(Failure::malformed(format!("a hello of {length} bytes")));
    }
    let mut bytes = vec![0; length + SIGNATURE_BYTES];
    stream.read_exact(&mut bytes).await?;
    let (bytes, signature) = bytes.split_at(length);
    let hello = parse(bytes)?;
    let signed = signed(connection, role, bytes)?;
    let key = UnparsedPublicKey::new(&ED25519, hello.founder.key);
    if key.verify(&signed, signature).is_err() {
        let words = "the hello is not signed, for this connection, with the key it names";
        return Err(Failure::refused(Reason::Signature, words));
    }
    Ok(hello)
}

/// Reads a hello of a version that is understood.
fn parse(bytes: &[u8]) -> Result<Hello, Failure> {
    let [lowest, highest, ..] = *bytes else {
        return Err(Failure::malformed("a hello without versions"));
    };
    Versions { lowest, highest }.check("protocol", Versions::PROTOCOL)?;
    let hello: Hello = postcard::from_bytes(bytes)
        .map_err(|_| Failure::malformed("a hello that means nothing here"))?;
    hello.frames.check("format", Versions::FRAMES)?;
    Ok(hello)
}

#[cfg(test)]
mod tests {
    use quorate_core::DiskId;

    use super::*;

    fn hello() -> Hello {
        Hello {
            protocol: Versions::PROTOCOL,
            frames: Versions::FRAMES,
            run: 7,
            token: "token".to_owned(),
            cluster: Some(9),
            founder: Founder {
                name: "a".to_owned(),
                peer_urls: vec!["http://localhost:2380".to_owned()],
                disk: DiskId(1),
                key: [2; 32],
            },
            to: Some("b".to_owned()),
        }
    }

    fn reason(bytes: &[u8]) -> Option<Reason> {
        match parse(bytes) {
            Err(Failure::Refused(refusal)) => Some(refusal.reason),
            Ok(_) | Err(Failure::RefusedByPeer(_) | Failure::Duplicate | Failure::Lost(_)) => None,
        }
    }

    #[test]
    fn versions_come_first_and_decide_first() {
        let bytes = postcard::to_allocvec(&hello()).expect("it encodes");
        assert_eq!(parse(&bytes), Ok(hello()));
        assert_eq!(bytes[..2], [PROTOCOL, PROTOCOL]);
        // A later version may have changed all that follows.
        assert_eq!(reason(&[PROTOCOL + 1, PROTOCOL + 2]), Some(Reason::Version));
        assert_eq!(reason(&[PROTOCOL, PROTOCOL + 2]), Some(Reason::Malformed));
        let mut other = hello();
        other.frames = Versions::only(codec::VERSION + 1);
        let bytes = postcard::to_allocvec(&other).expect("it encodes");
        assert_eq!(reason(&bytes), Some(Reason::Version));
        assert_eq!(reason(&[]), Some(Reason::Malformed));
    }

    #[test]
    fn cut_bytes_are_malformed() {
        let bytes = postcard::to_allocvec(&hello()).expect("it encodes");
        for length in 2..bytes.len() {
            assert_eq!(
                reason(&bytes[..length]),
                Some(Reason::Malformed),
                "{length}"
            );
        }
    }
}
