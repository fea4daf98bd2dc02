//! Who leads without a quorum, or without a disk, does not lead for long: V8.

use std::time::Duration;

use quorate_core::Term;

use super::{Verdict, ensure};
use crate::clock::Time;

/// A leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lead {
    /// Whose.
    pub seat: usize,
    /// In which term.
    pub term: Term,
    /// It was seen to lead, and to be awake, since then.
    pub since: Time,
}

/// `lead` holds at `now`; its member last `heard` from each member at these times, from itself now.
/// `unit` is the longest election timeout, E.
///
/// # Errors
/// V8: it has heard from no quorum for 2 E.
pub fn deposed(now: Time, lead: Lead, heard: &[Time], unit: Duration) -> Verdict {
    let mut newest = heard.to_vec();
    newest.sort_unstable_by(|one, other| other.cmp(one));
    // The majority's slowest.
    let quorum = newest[heard.len() / 2];
    let since = lead.since.max(quorum);
    ensure(now.since(since) <= unit * 2, "V8", &[lead.seat], || {
        format!(
            "n{} leads in term {} at {now} and has heard of no quorum since {quorum}",
            lead.seat, lead.term
        )
    })
}

/// `lead` holds at `now`, though one write `hangs` since then; others were kept from leading until
/// `disturbed`.
///
/// # Errors
/// V8: a disk has hung for an election timeout, and 2 E later nobody else leads.
pub fn stalled(
    now: Time,
    lead: Lead,
    hangs: Option<Time>,
    disturbed: Time,
    unit: Duration,
) -> Verdict {
    let Some(hangs) = hangs else {
        return Ok(());
    };
    let since = hangs.max(lead.since).max(disturbed);
    ensure(now.since(since) <= unit * 3, "V8", &[lead.seat], || {
        format!(
            "n{} leads in term {} at {now}, and its disk hangs since {hangs}",
            lead.seat, lead.term
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::id_of;
    use super::*;

    const UNIT: Duration = Duration::from_nanos(10);

    const fn lead(since: u64) -> Lead {
        Lead {
            seat: 0,
            term: Term(3),
            since: Time(since),
        }
    }

    #[test]
    fn v8_a_leader_that_hears_from_nobody() {
        let at = |heard: &[u64], since| {
            let heard: Vec<Time> = heard.iter().map(|&time| Time(time)).collect();
            deposed(Time(100), lead(since), &heard, UNIT)
        };
        assert_eq!(at(&[100, 80, 0], 5), Ok(()), "it and one other of three");
        assert_eq!(at(&[100, 9, 9], 80), Ok(()), "it has not led for long");
        assert_eq!(id_of(&at(&[100, 79, 0], 5)), "V8");
        assert_eq!(id_of(&at(&[100, 99, 70, 70], 5)), "V8", "two of four");
        assert_eq!(at(&[100], 5), Ok(()), "its own quorum");
    }

    #[test]
    fn v8_a_leader_whose_disk_hangs() {
        let at = |hangs, disturbed| {
            let hangs = Some(Time(hangs));
            stalled(Time(100), lead(5), hangs, Time(disturbed), UNIT)
        };
        assert_eq!(at(70, 0), Ok(()));
        assert_eq!(at(20, 70), Ok(()), "others could not lead");
        assert_eq!(id_of(&at(69, 0)), "V8");
        let lead = lead(5);
        assert_eq!(stalled(Time(100), lead, None, Time(0), UNIT), Ok(()));
    }
}
