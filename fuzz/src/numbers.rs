//! Arbitrary numbers and commands brought to where something happens: most of 64 random bits are
//! beyond every limit, and would only show that limits hold.

use std::time::Duration;

use quorate_core::Revision;
use quorate_core::store::{
    Append, ClientRequest, Command, Compare, Delete, Operation, Put, Scope, Settings, When,
};

/// A number of any size: the six highest bits say how many of the others count.
pub(crate) const fn sized(raw: u64) -> u64 {
    let bits = raw >> 58;
    raw & ((1 << bits) - 1)
}

/// A small number, or in one of 16 cases a large one.
pub(crate) const fn small(raw: u64) -> u64 {
    if raw >> 60 == 0xf { raw } else { raw % 48 }
}

/// A span of a few seconds, or any.
pub(crate) fn span(raw: Duration) -> Duration {
    if raw.as_secs() >> 60 == 0xf {
        raw
    } else {
        Duration::from_millis(raw.as_secs() % 4096)
    }
}

/// The command with its numbers near those that a short test sees.
pub(crate) fn near(command: &mut Command) {
    match &mut command.client {
        Some(ClientRequest::Numbered {
            client,
            sequence,
            acked,
        }) => {
            *client %= 4;
            *sequence = small(*sequence);
            *acked = small(*acked);
        }
        Some(ClientRequest::Opaque(_)) | None => {}
    }
    match &mut command.operation {
        Operation::Put(Put { when, ttl, .. }) => {
            *ttl = ttl.map(span);
            match when {
                When::Matches(compare) => near_compare(compare),
                When::Always | When::Missing | When::Exists => {}
            }
        }
        Operation::Append(Append { ttl, .. }) => *ttl = ttl.map(span),
        Operation::Delete(Delete { scope, .. }) => match scope {
            Scope::Matches(compare) => near_compare(compare),
            Scope::Key | Scope::EmptyDirectory | Scope::Tree => {}
        },
        Operation::Configure(settings) => near_settings(settings),
        Operation::Publish(publish) => publish.member.0 %= 4,
    }
}

fn near_compare(compare: &mut Compare) {
    compare.modified = compare.modified.map(|index| Revision(small(index.0)));
}

fn near_settings(settings: &mut Settings) {
    settings.history_age = span(settings.history_age);
    settings.request_age = span(settings.request_age);
    for number in [
        &mut settings.history_bytes,
        &mut settings.history_events,
        &mut settings.slice_bytes,
        &mut settings.requests_max,
        &mut settings.request_bytes_max,
    ] {
        *number = sized(*number);
    }
}
