//! A seed is a run: X1.

use super::{Verdict, ensure};

/// Two runs of one seed had these hashes.
///
/// # Errors
/// X1.
pub fn equal(first: u128, second: u128) -> Verdict {
    ensure(first == second, "X1", &[], || {
        format!("two runs of one seed have the hashes {first:032x} and {second:032x}")
    })
}

#[cfg(test)]
mod tests {
    use super::super::id_of;
    use super::*;

    #[test]
    fn x1_two_runs_that_differ() {
        assert_eq!(equal(3, 3), Ok(()));
        assert_eq!(id_of(&equal(3, 4)), "X1");
    }
}
