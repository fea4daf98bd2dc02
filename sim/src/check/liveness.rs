//! What a healed core must get done (SIMULATION.md §7): V1 to V6, V9.
//!
//! Everything takes what the cluster shows at one moment; when it is asked is decided in
//! [`heal`](crate::heal). What an election timeout is for the model, is `unit` here: the longest
//! one, E.

use std::time::Duration;

use quorate_core::{Index, Term, WatchId};

use super::{Verdict, Violation, ensure};

/// Who leads, and in which term.
pub type Leader = (Term, usize);

/// A member outside of the core: its seat, its incarnation, its term.
pub type Apart = (usize, u64, Term);

/// Recovery, and whatever a disk was busy with, come on top of the time that V1 gives.
const RECOVERY: Duration = Duration::from_secs(35);

/// The core has `waited` for a leader.
///
/// # Errors
/// V1: for longer than 10 E, after one for those that were cut off to notice, and one to be seen.
pub fn elected(
    core: &[usize],
    leader: Option<Leader>,
    waited: Duration,
    unit: Duration,
    states: impl FnOnce() -> String,
) -> Verdict {
    let is_late = waited > unit * 12 + RECOVERY;
    ensure(leader.is_some() || !is_late, "V1", core, || {
        format!(
            "after {waited:?} there is no leader in the core: {}",
            states()
        )
    })
}

/// The core had the leader `led`; now it has `leads`, or nobody that all of them follow.
///
/// # Errors
/// V2: another leader or another term, though nothing fails any more.
pub fn steady(core: &[usize], led: Option<Leader>, leads: Option<Leader>) -> Verdict {
    let (Some(led), Some(leads)) = (led, leads) else {
        return Ok(());
    };
    ensure(led == leads, "V2", core, || {
        let ((term, leader), (now_term, now_leader)) = (led, leads);
        format!("n{leader} led in term {term}; without a fault n{now_leader} leads in {now_term}")
    })
}

/// 20 E are over, and this is who leads.
///
/// # Errors
/// V2: nobody.
pub fn still_led(core: &[usize], leads: Option<Leader>) -> Verdict {
    ensure(leads.is_some(), "V2", core, || {
        "the core has no leader any more".to_owned()
    })
}

/// Those outside of the core that ran when it had a leader in term `led`, and those that run now.
/// Who cannot hear or cannot be heard asks in vain, and so stays in its term (thesis §9.6): else it
/// would depose the leader when it is back.
///
/// # Errors
/// V2: one went on by more than the one campaign that what was on its way to it may have allowed.
pub fn stays_apart(before: &[Apart], now: &[Apart], led: Term) -> Verdict {
    for &(seat, incarnation, term) in now {
        let before = before
            .iter()
            .find(|was| (was.0, was.1) == (seat, incarnation));
        let Some(&(_, _, before)) = before else {
            continue;
        };
        ensure(term <= before.max(led).next(), "V2", &[seat], || {
            format!("n{seat}, cut off, went from term {before} to {term}")
        })?;
    }
    Ok(())
}

/// A probe has `waited` for its answer in a core that had work of `backlog` to do.
///
/// # Errors
/// V3: for longer than 2 E, and one for its first turn.
pub fn served(
    core: &[usize],
    waited: Duration,
    unit: Duration,
    backlog: Duration,
    states: impl FnOnce() -> String,
) -> Verdict {
    ensure(waited <= unit * 3 + backlog, "V3", core, || {
        format!("after {waited:?} {}", states())
    })
}

/// Whether all show the same, and something at all.
#[must_use]
pub fn are_equal<T: PartialEq>(shown: &[Option<T>]) -> bool {
    let is_there = shown.first().is_some_and(Option::is_some);
    is_there && shown.iter().all(|other| *other == shown[0])
}

/// 20 E are over: whether `nodes` were seen to be equal meanwhile.
///
/// # Errors
/// V4, or V9 where they are all members: they were not.
pub fn converged(
    id: &'static str,
    nodes: &[usize],
    seen: bool,
    states: impl FnOnce() -> String,
) -> Verdict {
    ensure(seen, id, nodes, || {
        format!("they are not equal after 20 E: {}", states())
    })
}

/// After damage `seat` still `owes` its log through there; the log ends at `last`. What it held
/// beyond the end of all logs was committed by nobody: it is whole when the log has grown.
///
/// # Errors
/// V9: it was not repaired.
pub fn repaired(seat: usize, owes: Option<Index>, last: Index) -> Verdict {
    ensure(owes.is_none_or(|owes| owes > last), "V9", &[seat], || {
        format!("n{seat} still owes its log through {owes:?}, which ends at {last}")
    })
}

/// Who still waits for an answer, at which member.
///
/// # Errors
/// V5: somebody.
pub fn answered(waiting: Option<(usize, String)>) -> Verdict {
    let seat: Vec<usize> = waiting.iter().map(|(seat, _)| *seat).collect();
    ensure(waiting.is_none(), "V5", &seat, || {
        let what = waiting.map(|(_, what)| what).unwrap_or_default();
        format!("it was never answered: {what}")
    })
}

/// Which watch, at which member, has not been given everything.
///
/// # Errors
/// V6: one.
pub fn told(behind: Option<(WatchId, usize)>) -> Verdict {
    let seat: Vec<usize> = behind.iter().map(|&(_, seat)| seat).collect();
    ensure(behind.is_none(), "V6", &seat, || {
        format!("{behind:?} has not been given everything")
    })
}

/// A leader was `asked`, in a term, to hand over to a member that lacks nothing; `waited` later it
/// is known who leads. Whether that is done.
///
/// # Errors
/// M8: it took longer than 3 E, or another one leads, or in a later term than the next.
pub fn handed_over(
    nodes: &[usize],
    asked: Leader,
    leads: Option<Leader>,
    waited: Duration,
    unit: Duration,
) -> Result<bool, Violation> {
    let (term, to) = asked;
    if leads == Some((term.next(), to)) {
        return Ok(true);
    }
    let is_open = leads.is_none_or(|(now, _)| now == term) && waited <= unit * 3;
    ensure(is_open, "M8", nodes, || {
        format!("in term {term} the lead was to go to n{to}; after {waited:?} it is {leads:?}")
    })?;
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::super::id_of;
    use super::*;

    const UNIT: Duration = Duration::from_secs(1);
    const CORE: [usize; 2] = [0, 2];

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn nothing() -> String {
        String::new()
    }

    #[test]
    fn v1_no_leader_in_time() {
        let at = |leader, waited| elected(&CORE, leader, seconds(waited), UNIT, nothing);
        assert_eq!(at(None, 47), Ok(()));
        assert_eq!(id_of(&at(None, 48)), "V1");
        assert_eq!(at(Some((Term(3), 0)), 48), Ok(()));
    }

    #[test]
    fn v2_another_leader_or_none() {
        let led = Some((Term(3), 0));
        assert_eq!(steady(&CORE, led, led), Ok(()));
        assert_eq!(steady(&CORE, led, None), Ok(()), "one has not heard yet");
        assert_eq!(id_of(&steady(&CORE, led, Some((Term(4), 2)))), "V2");
        assert_eq!(id_of(&steady(&CORE, led, Some((Term(4), 0)))), "V2");
        assert_eq!(still_led(&CORE, led), Ok(()));
        assert_eq!(id_of(&still_led(&CORE, None)), "V2");
    }

    #[test]
    fn v2_an_outsider_that_campaigns() {
        let apart = |incarnation, term| [(1, incarnation, Term(term))];
        let went = |now: [Apart; 1], led| stays_apart(&apart(7, 3), &now, Term(led));
        assert_eq!(went(apart(7, 4), 3), Ok(()));
        assert_eq!(id_of(&went(apart(7, 5), 3)), "V2");
        assert_eq!(went(apart(7, 6), 5), Ok(()), "it learned of the leader's");
        assert_eq!(went(apart(8, 9), 3), Ok(()), "another process");
    }

    #[test]
    fn v3_a_write_that_is_not_answered() {
        let at = |waited| served(&CORE, seconds(waited), UNIT, seconds(2), nothing);
        assert_eq!(at(5), Ok(()));
        assert_eq!(id_of(&at(6)), "V3");
    }

    #[test]
    fn v4_v9_members_that_differ() {
        assert!(are_equal(&[Some(1), Some(1)]));
        assert!(!are_equal(&[Some(1), Some(2)]));
        assert!(!are_equal(&[Some(1), None]) && !are_equal::<u8>(&[None, None]));
        assert_eq!(converged("V4", &CORE, true, nothing), Ok(()));
        assert_eq!(id_of(&converged("V4", &CORE, false, nothing)), "V4");
        assert_eq!(id_of(&converged("V9", &CORE, false, nothing)), "V9");
    }

    #[test]
    fn v5_somebody_still_waits() {
        assert_eq!(answered(None), Ok(()));
        assert_eq!(id_of(&answered(Some((1, nothing())))), "V5");
    }

    #[test]
    fn v6_a_watch_that_is_behind() {
        assert_eq!(told(None), Ok(()));
        assert_eq!(id_of(&told(Some((WatchId(4), 1)))), "V6");
    }

    #[test]
    fn m8_a_lead_that_is_not_handed_over() {
        let asked = (Term(3), 2);
        let at = |leads, waited| handed_over(&CORE, asked, leads, seconds(waited), UNIT);
        assert_eq!(at(Some((Term(4), 2)), 4), Ok(true));
        assert_eq!(at(Some((Term(3), 0)), 3), Ok(false));
        assert_eq!(at(None, 3), Ok(false));
        let id = |leads, waited| at(leads, waited).map_err(|violation| id_of(&Err(violation)));
        assert_eq!(id(Some((Term(3), 0)), 4), Err("M8"));
        assert_eq!(id(None, 4), Err("M8"));
        assert_eq!(id(Some((Term(4), 0)), 1), Err("M8"), "another");
        assert_eq!(id(Some((Term(5), 2)), 1), Err("M8"), "not at once");
    }

    #[test]
    fn v9_a_log_that_is_not_repaired() {
        assert_eq!(repaired(1, None, Index(5)), Ok(()));
        assert_eq!(repaired(1, Some(Index(6)), Index(5)), Ok(()));
        assert_eq!(id_of(&repaired(1, Some(Index(5)), Index(5))), "V9");
    }
}
