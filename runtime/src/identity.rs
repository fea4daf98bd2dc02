//! Who a member is, and where its randomness comes from.

use std::fmt;

use quorate_core::DiskId;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::{Deserialize, Serialize};

/// Who this member is: made once, with the directory (DESIGN.md §4).
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Names the directory.
    pub(crate) disk: DiskId,
    /// The Ed25519 key pair that proves the member to its peers, as PKCS#8.
    pkcs8: Vec<u8>,
}

impl Identity {
    /// A new one, at random.
    pub(crate) fn generate() -> Self {
        let random = SystemRandom::new();
        let key = Ed25519KeyPair::generate_pkcs8(&random).expect("the system has randomness");
        let mut disk = [0; 16];
        random.fill(&mut disk).expect("the system has randomness");
        Self {
            disk: DiskId(u128::from_le_bytes(disk)),
            pkcs8: key.as_ref().to_vec(),
        }
    }

    /// Signs `message` with the key; `None` where what was stored is no key pair.
    pub(crate) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let pair = Ed25519KeyPair::from_pkcs8(&self.pkcs8).ok()?;
        Some(pair.sign(message).as_ref().to_vec())
    }

    /// The public half of the key; `None` where what was stored is no key pair.
    pub(crate) fn public_key(&self) -> Option<[u8; 32]> {
        let pair = Ed25519KeyPair::from_pkcs8(&self.pkcs8).ok()?;
        pair.public_key().as_ref().try_into().ok()
    }
}

/// Says nothing of the key.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.disk)
    }
}

/// A random seed for core.
pub(crate) fn seed() -> u64 {
    let mut seed = [0; 8];
    let random = SystemRandom::new();
    random.fill(&mut seed).expect("the system has randomness");
    u64::from_le_bytes(seed)
}
