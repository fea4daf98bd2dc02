//! What clients ask in a search.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use quorate_core::store::{
    Command, Consistency, Content, Operation, Path, Put, Query, Value, When,
};

use crate::check::linearizability::Asked;

/// Writes and linearizable reads of one key, in the order in which they are asked. As text, a
/// letter for each: `wr` is a write and a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operations(String);

impl Operations {
    /// How many.
    #[must_use]
    pub fn len(&self) -> u8 {
        u8::try_from(self.0.len()).expect("no more than were taken in")
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them. No two writes are equal.
    pub(super) fn asked(&self) -> Vec<Asked> {
        let numbered = self.0.bytes().zip(0_u8..);
        numbered
            .map(|(letter, number)| {
                if letter == b'r' {
                    read()
                } else {
                    write(number)
                }
            })
            .collect()
    }
}

impl FromStr for Operations {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_known = text.bytes().all(|letter| matches!(letter, b'w' | b'r'));
        if is_known && text.len() <= usize::from(u8::MAX) {
            Ok(Self(text.to_owned()))
        } else {
            Err("a letter for each: w for a write, r for a read".to_owned())
        }
    }
}

impl fmt::Display for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn path() -> Path {
    Path::new(b"/a").expect("a clean path")
}

fn read() -> Asked {
    Asked::Read(Query {
        path: path(),
        recursive: false,
        consistency: Consistency::Linearizable,
    })
}

fn write(number: u8) -> Asked {
    let put = Put {
        path: path(),
        content: Content::Value(Value::from(number.to_string().as_str())),
        when: When::Always,
        ttl: None,
    };
    Asked::Write(Arc::new(Command {
        client: None,
        operation: Operation::Put(put),
    }))
}
