//! Searches of all orders as tests: each comes to an end, nothing fails, and it gets somewhere.
//!
//! How many states there are follows from core and from the budget. The least that is asked for
//! here is somewhat below that: far fewer mean that a search no longer sees what it should.

use quorate_core::{Index, LogId, Term};
use quorate_sim::exhaust::{Budget, Report, search};

fn budget(elections: u8, operations: &str) -> Budget {
    Budget {
        elections,
        lapses: 0,
        crashes: 0,
        slow: 0,
        late: false,
        operations: operations.parse().expect("letters of operations"),
        batch: 1,
        states: 10_000_000,
    }
}

/// Searches everything within a budget.
fn searched(budget: Budget, least: usize) -> Report {
    let named = budget.to_string();
    let report = search(budget);
    if let Some(failure) = &report.failure {
        panic!("{named}\n{failure}");
    }
    assert!(report.complete, "{named}: {report}");
    assert!(
        report.states >= least,
        "{named}: fewer than {least}: {report}"
    );
    report
}

fn id(term: u64, index: u64) -> LogId {
    LogId {
        term: Term(term),
        index: Index(index),
    }
}

/// A write, a crash and a disk that takes its time, each at any point.
#[test]
fn one_election_with_a_crash_and_a_slow_write() {
    let report = searched(
        Budget {
            crashes: 1,
            slow: 1,
            ..budget(1, "w")
        },
        20_000,
    );
    assert_eq!((report.answered, report.committed), (1, id(1, 2)));
}

/// Two candidates, or two leaders, and what the first of them left.
#[test]
fn two_elections_and_a_write() {
    let report = searched(budget(2, "w"), 30_000);
    // The first entry of each leader, the write, and the write once more: it was passed on twice.
    assert_eq!((report.answered, report.committed), (1, id(2, 4)));
}

/// Linearizable reads, at any member.
#[test]
fn one_election_with_a_write_and_a_read() {
    let report = searched(budget(1, "wr"), 30_000);
    assert_eq!((report.answered, report.committed), (2, id(1, 2)));
}

/// Votes, which a crash must not take back.
#[test]
fn elections_with_a_crash() {
    let report = searched(
        Budget {
            crashes: 1,
            ..budget(2, "")
        },
        15_000,
    );
    assert_eq!(report.committed.term, Term(2));
}
