//! Nothing expires early, nothing stays for ever: T1, T2, T4, T9.

use std::time::Duration;

use quorate_core::store::Path;
use quorate_core::{ClusterTime, Index};

use super::{Verdict, ensure};
use crate::clock::{RATE_ERROR_PPM, Time};
use crate::ledger::{Committed, Ledger};
use crate::model::{Lease, Model};

/// The stamps of two neighbours in the ledger. No clock has steps longer than `grain` (C6), and
/// none can measure what is shorter.
///
/// # Errors
/// T9: cluster time fell, or ran ahead of true time.
pub fn stamps(before: Option<&Committed>, entry: &Committed, grain: Duration) -> Verdict {
    let (stamp, stamped) = before.map_or((ClusterTime::ZERO, Time(0)), |b| (b.stamp, b.stamped));
    ensure(entry.stamp >= stamp, "T9", &[], || {
        format!("{} is stamped {}, after {stamp}", entry.id, entry.stamp)
    })?;
    let (shown, passed) = (entry.stamp.since(stamp), entry.stamped.since(stamped));
    ensure(shown <= passed + grain, "T9", &[], || {
        format!(
            "cluster time went on by {shown:?} before {}, true time by {passed:?}",
            entry.id
        )
    })
}

/// `expiry` removed what had been granted `lease`. Each leader in between may have measured wrongly
/// by a `grain`. What was committed by a later leader than the one that stamped it counts from that
/// leader's first entry, where it was stamped within `window` of the end of the log then: nobody
/// was told of it before.
///
/// Its client counts from the answer, which is later. The leader that gives it knows by how much
/// and holds the node back for as long, up to `window`; another does for half of that.
///
/// # Errors
/// T1: too early, in true time.
pub fn expired(
    path: &Path,
    lease: Lease,
    ledger: &Ledger,
    expiry: &Committed,
    grain: Duration,
    window: Duration,
) -> Verdict {
    let granting = ledger.get(lease.by).expect("granted by a committed entry");
    let committing = committing(granting, ledger, window);
    // A time to live that is shorter than a failover may be over before that: then its end stands
    // in the log before the next leader's first entry.
    let begun = if committing.id.index < expiry.id.index {
        committing
    } else {
        granting
    };
    let lived = expiry.committed.since(begun.stamped);
    let is_same = begun.id.term == expiry.id.term;
    let late = granting.committed.since(begun.stamped);
    let late = if is_same {
        least_shown(late.min(window))
    } else {
        late.min(window / 2)
    };
    let leaders = expiry.id.term.0 - granting.id.term.0 + 1;
    let error = grain * u32::try_from(leaders).unwrap_or(u32::MAX);
    ensure(lived + error >= lease.granted + late, "T1", &[], || {
        format!(
            "{path} was granted {:?} by {}, committed {late:?} later, and expired by {} after \
             {lived:?} of true time",
            lease.granted, granting.id, expiry.id
        )
    })
}

/// The entry that committed `granting`: itself, or the first one of a later leader.
fn committing<'a>(granting: &'a Committed, ledger: &'a Ledger, window: Duration) -> &'a Committed {
    if granting.committed_in == granting.id.term {
        return granting;
    }
    let mut index = granting.id.index;
    let mut last = granting;
    while let Some(entry) = ledger.get(index.next()) {
        if entry.id.term == granting.committed_in {
            let is_recent = granting.stamp + window >= last.stamp;
            return if is_recent { entry } else { granting };
        }
        (index, last) = (entry.id.index, entry);
    }
    granting
}

/// When a working majority has been at work since a moment at which cluster time was `clock`.
#[derive(Clone, Copy, Debug)]
pub struct Working {
    /// Since then.
    pub since: Time,
    /// Cluster time then.
    pub clock: ClusterTime,
    /// What expiry may take on top of the time to live: 2 h + 2 E + one commit (T2).
    pub slack: Duration,
}

/// All that is still there at `now`, while a majority has been at work.
///
/// # Errors
/// T2: something should have gone.
pub fn overdue(model: &Model, now: Time, working: Working) -> Verdict {
    for (path, _, lease) in model.leased() {
        let left = lease.deadline.since(working.clock);
        let due = working.since + slowest(left) + working.slack;
        ensure(now <= due, "T2", &[], || {
            format!(
                "{path} was due at {} and is still there at {now}; it should have gone by {due}",
                lease.deadline
            )
        })?;
    }
    Ok(())
}

/// All that is still there at `now`, though leaders were killed every 2 E: what was granted at
/// least `least` must go within three times its time to live.
///
/// # Errors
/// T4.
pub fn churned(model: &Model, ledger: &Ledger, now: Time, least: Duration) -> Verdict {
    for (path, _, lease) in model.leased() {
        let granting = ledger.get(lease.by).expect("granted by a committed entry");
        let lived = now.since(granting.stamped);
        ensure(lived <= 3 * lease.granted.max(least), "T4", &[], || {
            format!(
                "{path} was granted {:?} and is still there after {lived:?}",
                lease.granted
            )
        })?;
    }
    Ok(())
}

/// With wall clock jumps and without, the ledger was the same through its end.
///
/// # Errors
/// T3.
pub fn immune(with_jumps: (Index, u128), without: (Index, u128)) -> Verdict {
    ensure(with_jumps == without, "T3", &[], || {
        format!("the ledger is {with_jumps:x?} with wall clock jumps and {without:x?} without")
    })
}

const SLOWEST_PPM: u128 = 1_000_000 - RATE_ERROR_PPM as u128;
const FASTEST_PPM: u128 = 1_000_000 + RATE_ERROR_PPM as u128;

/// The longest true time in which `span` of cluster time passes under one leader: its clock may be
/// slow by ρ, and cluster time allows for one that is fast by ρ.
fn slowest(span: Duration) -> Duration {
    scale(span, FASTEST_PPM, SLOWEST_PPM)
}

/// The least cluster time that passes under one leader in `span` of true time.
fn least_shown(span: Duration) -> Duration {
    scale(span, SLOWEST_PPM, FASTEST_PPM)
}

fn scale(span: Duration, times: u128, by: u128) -> Duration {
    let nanos = span.as_nanos() * times / by;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use quorate_core::raft::Payload;
    use quorate_core::store::{Command, Content, Operation, Put, When};
    use quorate_core::{LogId, Term};

    use super::super::id_of;
    use super::*;

    fn committed(index: u64, stamp: u64, stamped: u64, at: u64) -> Committed {
        let id = LogId {
            term: Term(1),
            index: Index(index),
        };
        Committed {
            id,
            chain: 0,
            stamp: ClusterTime(stamp),
            payload: Payload::Empty,
            stamped: Time(stamped),
            committed_in: Term(1),
            committed: Time(at),
        }
    }

    fn lease(granted: u64) -> Lease {
        Lease {
            granted: Duration::from_nanos(granted),
            deadline: ClusterTime(granted),
            by: Index(1),
        }
    }

    fn leased(ttl: u64) -> Model {
        let mut model = Model::new();
        let operation = Operation::Put(Put {
            path: Path::root().child(b"a"),
            content: Content::Value("v".into()),
            when: When::Always,
            ttl: Some(Duration::from_nanos(ttl)),
        });
        let command = Command {
            client: None,
            operation,
        };
        model.apply(ClusterTime::ZERO, &Payload::Command(command.into()));
        model
    }

    #[test]
    fn t1_expired_early() {
        let mut ledger = Ledger::default();
        ledger.push(committed(1, 0, 100, 120));
        let path = Path::root().child(b"a");
        let at = |time, grain| {
            let expiry = committed(2, 0, 0, time);
            let (grain, window) = (Duration::from_nanos(grain), Duration::ZERO);
            expired(&path, lease(50), &ledger, &expiry, grain, window)
        };
        assert_eq!(at(150, 0), Ok(()));
        assert_eq!(
            at(149, 1),
            Ok(()),
            "no clock measures what is finer than its steps"
        );
        assert_eq!(id_of(&at(149, 0)), "T1");
    }

    #[test]
    fn t1_early_for_who_was_told_by_the_next_leader() {
        let of_term = |index, term, stamp, time| {
            let mut entry = committed(index, stamp, time, time + 20);
            entry.id.term = Term(term);
            entry
        };
        let path = Path::root().child(b"a");
        let at = |time: u64, window: u64| {
            let mut ledger = Ledger::default();
            let mut granting = of_term(1, 1, 10, 100);
            granting.committed_in = Term(2);
            ledger.push(granting);
            ledger.push(of_term(2, 1, 15, 105));
            ledger.push(of_term(3, 2, 70, 160));
            let expiry = of_term(4, 2, 0, time - 20);
            let window = Duration::from_nanos(window);
            expired(&path, lease(50), &ledger, &expiry, Duration::ZERO, window)
        };
        assert_eq!(at(210, 5), Ok(()));
        assert_eq!(id_of(&at(209, 5)), "T1");
        assert_eq!(at(152, 4), Ok(()), "long before the end of the log");
        assert_eq!(id_of(&at(151, 4)), "T1", "it was answered later than that");
    }

    #[test]
    fn t2_t4_still_there() {
        let working = Working {
            since: Time(1_000),
            clock: ClusterTime(100),
            slack: Duration::from_nanos(10),
        };
        assert_eq!(overdue(&leased(200), Time(1_110), working), Ok(()));
        assert_eq!(id_of(&overdue(&leased(200), Time(1_112), working)), "T2");
        let mut ledger = Ledger::default();
        ledger.push(committed(1, 0, 0, 0));
        assert_eq!(
            churned(&leased(200), &ledger, Time(600), Duration::ZERO),
            Ok(())
        );
        assert_eq!(
            id_of(&churned(&leased(200), &ledger, Time(601), Duration::ZERO)),
            "T4"
        );
    }

    #[test]
    fn t3_a_ledger_that_depends_on_the_wall_clock() {
        assert_eq!(immune((Index(3), 7), (Index(3), 7)), Ok(()));
        assert_eq!(id_of(&immune((Index(3), 7), (Index(3), 8))), "T3");
    }

    #[test]
    fn t9_cluster_time_back_or_ahead() {
        let first = committed(1, 50, 100, 0);
        let grain = Duration::from_nanos(2);
        let after = |stamp| stamps(Some(&first), &committed(2, stamp, 110, 0), grain);
        assert_eq!(after(62), Ok(()));
        assert_eq!(id_of(&after(49)), "T9");
        assert_eq!(id_of(&after(63)), "T9");
        assert_eq!(
            id_of(&stamps(None, &committed(1, 61, 60, 0), Duration::ZERO)),
            "T9"
        );
    }
}
