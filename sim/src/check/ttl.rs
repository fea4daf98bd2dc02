//! Nothing expires early, nothing stays for ever: T1 to T5, T8, T9. What one event shows of T6, T7
//! and T10 is with the [events](super::events).

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_core::store::{Lease as Shown, Path, Tree};
use quorate_core::{ClusterTime, Index};

use super::{Verdict, ensure};
use crate::clock::{RATE_ERROR_PPM, Time};
use crate::ledger::{Committed, Ledger};
use crate::model::{Found, Lease, Model};

/// The stamps of two neighbours in the ledger. No clock has steps longer than `grain` (C6), and
/// none can measure what is shorter. During `outages` nobody ran, and so nobody measured.
///
/// # Errors
/// T9: cluster time fell, or ran ahead of true time. T5: it went on while nobody ran, which cuts
/// what remains of a time to live.
pub fn stamps(
    before: Option<&Committed>,
    entry: &Committed,
    grain: Duration,
    outages: &Outages,
) -> Verdict {
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
    })?;
    let outage = outages.within(stamped, entry.stamped);
    ensure(shown + outage <= passed + grain, "T5", &[], || {
        format!(
            "cluster time went on by {shown:?} before {}; of {passed:?} of true time nobody ran \
             for {outage:?}",
            entry.id
        )
    })
}

/// The stamps of two neighbours in the ledger that one leader gave, while the clock of every
/// machine ran on, in steps of at most `grain`.
///
/// # Errors
/// T2: cluster time stood still, and so nothing would ever go.
pub fn runs(before: &Committed, entry: &Committed, grain: Duration) -> Verdict {
    let (shown, passed) = (
        entry.stamp.since(before.stamp),
        entry.stamped.since(before.stamped),
    );
    // Each of the two was rounded down.
    let rounding = Duration::from_nanos(2);
    ensure(
        shown + grain + rounding >= least_shown(passed),
        "T2",
        &[],
        || {
            format!(
                "cluster time went on by {shown:?} before {}, true time by {passed:?}",
                entry.id
            )
        },
    )
}

/// When no member ran at all.
#[derive(Clone, Debug)]
pub struct Outages {
    /// Who runs.
    up: Vec<bool>,
    over: Vec<(Time, Time)>,
    since: Time,
}

impl Outages {
    /// Nobody of `seats` runs yet.
    #[must_use]
    pub fn new(seats: usize) -> Self {
        Self {
            up: vec![false; seats],
            over: Vec::new(),
            since: Time(0),
        }
    }

    /// `seat` runs from `now` on.
    pub fn starts(&mut self, now: Time, seat: usize) {
        if !self.up.contains(&true) {
            self.over.push((self.since, now));
        }
        self.up[seat] = true;
    }

    /// `seat` no longer runs.
    pub fn stops(&mut self, now: Time, seat: usize) {
        let was_up = std::mem::replace(&mut self.up[seat], false);
        if was_up && !self.up.contains(&true) {
            self.since = now;
        }
    }

    /// For how long nobody ran between these times; at `to` somebody did.
    #[must_use]
    pub fn within(&self, from: Time, to: Time) -> Duration {
        let recent = self.over.iter().rev().take_while(|(_, end)| *end > from);
        recent
            .map(|&(begin, end)| end.min(to).since(begin.max(from)))
            .sum()
    }
}

/// What a member holds when it was just loaded from its own disk, at one place, and what the model
/// holds there.
///
/// # Errors
/// T5: what remains of a time to live is no longer what it was.
pub fn kept(seat: usize, tree: &Tree, found: &Found) -> Verdict {
    let (node, expected) = (&tree.node, &found.node);
    let is_same = tree.path == found.path && node.modified.index().0 == expected.modified;
    let deadline = node.lease.map(|lease| lease.deadline);
    let due = expected.lease.map(|lease| lease.deadline);
    ensure(!is_same || deadline == due, "T5", &[seat], || {
        let path = &tree.path;
        format!("n{seat} starts, and {path} is due at {deadline:?} instead of {due:?}")
    })?;
    let children = tree.children.iter().zip(&found.children);
    children.into_iter().try_for_each(|(t, f)| kept(seat, t, f))
}

/// A new leader's first entry, after `last`, granted anew what had these leases `before`, and has
/// now. What was stamped within `window` before the end of the log may not have been committed by
/// the leader before, and only that begins anew.
///
/// # Errors
/// T5: what was granted long before is reset to all it was granted.
pub fn renewed(
    last: ClusterTime,
    before: &BTreeMap<Path, Lease>,
    after: &BTreeMap<Path, Lease>,
    window: Duration,
) -> Verdict {
    for (path, lease) in before {
        let granted_at = lease.deadline - lease.granted;
        let is_old = granted_at + window < last;
        let is_kept = after.get(path).map(|now| now.deadline) == Some(lease.deadline);
        ensure(!is_old || is_kept, "T5", &[], || {
            let now = after.get(path);
            format!("{path} had {lease:?} when the log ended at {last}, and begins anew: {now:?}")
        })?;
    }
    Ok(())
}

/// What one process of a member has said of times to live.
#[derive(Clone, Debug, Default)]
pub struct Reported(BTreeMap<Path, (ClusterTime, Duration)>);

impl Reported {
    /// `seat` shows a node with this lease and says that it is `now`. What is left then is what a
    /// client is told, in seconds; of nothing it is told nothing.
    ///
    /// # Errors
    /// T8: more is left than was granted, or than it said before of the same deadline.
    pub fn shows(&mut self, seat: usize, path: &Path, lease: Shown, now: ClusterTime) -> Verdict {
        let left = lease.deadline.since(now);
        ensure(left <= lease.granted, "T8", &[seat], || {
            let granted = lease.granted;
            format!("n{seat} shows {path} with {left:?} left of {granted:?}")
        })?;
        let before = self.0.insert(path.clone(), (lease.deadline, left));
        let before = before.filter(|before| before.0 == lease.deadline);
        ensure(
            before.is_none_or(|before| left <= before.1),
            "T8",
            &[seat],
            || {
                let before = before.map(|before| before.1);
                format!("n{seat} shows {path} with {left:?} left, and showed {before:?} before")
            },
        )
    }
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
    use quorate_core::store::{Command, Content, NodeState, Operation, Put, When};
    use quorate_core::{ChangeId, LeaseId, LogId, Revision, Term};

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
        let none = Outages::new(1);
        let after = |stamp| stamps(Some(&first), &committed(2, stamp, 110, 0), grain, &none);
        assert_eq!(after(62), Ok(()));
        assert_eq!(id_of(&after(49)), "T9");
        assert_eq!(id_of(&after(63)), "T9");
        let ahead = stamps(None, &committed(1, 61, 60, 0), Duration::ZERO, &none);
        assert_eq!(id_of(&ahead), "T9");
    }

    #[test]
    fn t2_cluster_time_that_stands_still() {
        let first = committed(1, 50, 100, 0);
        let after = |stamp| {
            runs(
                &first,
                &committed(2, stamp, 1_100, 0),
                Duration::from_nanos(3),
            )
        };
        assert_eq!(after(1_043), Ok(()));
        assert_eq!(id_of(&after(1_042)), "T2");
    }

    #[test]
    fn t5_cluster_time_that_goes_on_while_nobody_runs() {
        let mut outages = Outages::new(2);
        outages.starts(Time(10), 0);
        outages.starts(Time(20), 1);
        outages.stops(Time(100), 0);
        outages.stops(Time(105), 1);
        outages.starts(Time(150), 1);
        assert_eq!(
            outages.within(Time(0), Time(160)),
            Duration::from_nanos(10 + 45)
        );
        assert_eq!(
            outages.within(Time(110), Time(150)),
            Duration::from_nanos(40)
        );
        assert_eq!(outages.within(Time(20), Time(105)), Duration::ZERO);
        let first = committed(1, 50, 95, 0);
        let after = |stamp| {
            let entry = committed(2, stamp, 160, 0);
            stamps(Some(&first), &entry, Duration::ZERO, &outages)
        };
        assert_eq!(after(50 + 10 + 10), Ok(()));
        assert_eq!(id_of(&after(50 + 10 + 11)), "T5");
    }

    #[test]
    fn t5_a_restart_that_resets_or_cuts_a_deadline() {
        let found = |ttl| leased(ttl).get(Index(1), &Path::root(), true).expect("it");
        let tree = |deadline| {
            let lease = Shown {
                id: LeaseId::PRIVATE,
                granted: Duration::from_nanos(50),
                deadline: ClusterTime(deadline),
            };
            let node = |index, lease| NodeState {
                value: None,
                created: ChangeId::ZERO,
                modified: ChangeId {
                    revision: Revision(index),
                    sub: 0,
                },
                lease,
            };
            Tree {
                path: Path::root(),
                node: node(0, None),
                children: vec![Tree {
                    path: Path::root().child(b"a"),
                    node: node(1, Some(lease)),
                    children: Vec::new(),
                }],
            }
        };
        assert_eq!(kept(0, &tree(50), &found(50)), Ok(()));
        assert_eq!(id_of(&kept(0, &tree(49), &found(50))), "T5");
        assert_eq!(id_of(&kept(0, &tree(51), &found(50))), "T5");
    }

    #[test]
    fn t5_what_a_new_leader_may_grant_anew() {
        let path = Path::root().child(b"a");
        let leases = |deadline| {
            let deadline = ClusterTime(deadline);
            BTreeMap::from([(
                path.clone(),
                Lease {
                    deadline,
                    ..lease(50)
                },
            )])
        };
        // Granted at 100.
        let before = leases(150);
        let window = Duration::from_nanos(20);
        let anew = |last, after| renewed(ClusterTime(last), &before, &leases(after), window);
        assert_eq!(anew(120, 190), Ok(()));
        assert_eq!(anew(500, 150), Ok(()), "it was left alone");
        assert_eq!(id_of(&anew(121, 190)), "T5");
    }

    #[test]
    fn t8_more_left_than_granted_or_than_before() {
        let path = Path::root().child(b"a");
        let lease = |deadline| Shown {
            id: LeaseId::PRIVATE,
            granted: Duration::from_nanos(50),
            deadline: ClusterTime(deadline),
        };
        let mut reported = Reported::default();
        let mut at = |now, deadline| reported.shows(0, &path, lease(deadline), ClusterTime(now));
        assert_eq!(at(100, 150), Ok(()));
        assert_eq!(at(120, 150), Ok(()));
        assert_eq!(id_of(&at(119, 150)), "T8", "it rises");
        assert_eq!(at(119, 160), Ok(()), "it was written");
        assert_eq!(id_of(&at(109, 160)), "T8", "more than granted");
        assert_eq!(at(200, 160), Ok(()), "over, and not gone yet");
    }
}
