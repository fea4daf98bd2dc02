//! Dates for people: `expiration` is the only wall-clock time quorate shows, and nothing depends on
//! it (DESIGN.md §3).

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use quorate_core::ClusterTime;

/// How far the wall clock and cluster time may drift apart before dates are set anew.
///
/// Cluster time runs up to a thousandth slower than true time (SIMULATION.md §6), and a date must
/// not flicker between two looks at one key.
const DRIFT_MAX: u64 = 100_000_000;

/// What the wall clock says at a moment in cluster time.
#[derive(Debug, Default)]
pub struct Calendar {
    /// Nanoseconds from the Unix epoch to cluster time zero; zero before the first observation.
    origin: AtomicU64,
}

impl Calendar {
    /// Learns that it is `now` in cluster time at this moment.
    pub fn observe(&self, now: ClusterTime) {
        self.observe_at(now, unix_nanos(SystemTime::now()));
    }

    /// Learns that it is `now` in cluster time when the wall clock shows `unix` nanoseconds.
    pub fn observe_at(&self, now: ClusterTime, unix: u64) {
        let origin = unix.saturating_sub(now.0);
        // A race between two observers only decides which of two good values stays.
        if self.origin.load(Ordering::Relaxed).abs_diff(origin) > DRIFT_MAX {
            self.origin.store(origin, Ordering::Relaxed);
        }
    }

    /// Writes the date of `moment`.
    pub fn write(&self, out: &mut Vec<u8>, moment: ClusterTime) {
        let origin = self.origin.load(Ordering::Relaxed);
        write_rfc3339(out, u128::from(origin) + u128::from(moment.0));
    }
}

/// Nanoseconds since the Unix epoch; zero before it.
#[must_use]
pub fn unix_nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Writes a moment as RFC 3339 in UTC, with up to nine digits of fraction and no zeros at its end.
pub fn write_rfc3339(out: &mut Vec<u8>, unix_nanos: u128) {
    const NANOS: u128 = 1_000_000_000;
    const DAY: u128 = 86_400;
    let seconds = unix_nanos / NANOS;
    let (year, month, day) = civil(u64::try_from(seconds / DAY).unwrap_or(u64::MAX));
    let second = seconds % DAY;
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let _ = write!(
        out,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}",
        second % 60
    );
    let fraction = unix_nanos % NANOS;
    if fraction != 0 {
        let _ = write!(out, ".{fraction:09}");
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    out.push(b'Z');
}

/// The date of a day counted from the Unix epoch, by the Gregorian calendar.
const fn civil(days: u64) -> (u64, u64, u64) {
    // Years that begin in March have their leap day at the end; 719468 days from 0000-03-01.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(unix_nanos: u128, expected: &str) {
        let mut out = Vec::new();
        write_rfc3339(&mut out, unix_nanos);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn dates_are_rfc_3339_with_a_trimmed_fraction() {
        check(0, "1970-01-01T00:00:00Z");
        check(951_782_399_500_000_000, "2000-02-28T23:59:59.5Z");
        check(951_825_600_000_000_001, "2000-02-29T12:00:00.000000001Z");
        check(1_709_164_800_120_000_000, "2024-02-29T00:00:00.12Z");
        check(4_107_542_400_000_000_000, "2100-03-01T00:00:00Z");
        check(u128::from(u64::MAX), "2554-07-21T23:34:33.709551615Z");
    }

    #[test]
    fn dates_follow_the_wall_clock_but_do_not_flicker() {
        const SECOND: u64 = 1_000_000_000;
        let calendar = Calendar::default();
        let shown = || {
            let mut out = Vec::new();
            calendar.write(&mut out, ClusterTime(30 * SECOND));
            String::from_utf8(out).unwrap()
        };
        calendar.observe_at(ClusterTime(10 * SECOND), 1000 * SECOND);
        assert_eq!(shown(), "1970-01-01T00:17:00Z");
        calendar.observe_at(ClusterTime(11 * SECOND), 1001 * SECOND + SECOND / 20);
        assert_eq!(shown(), "1970-01-01T00:17:00Z", "50 ms of drift");
        calendar.observe_at(ClusterTime(12 * SECOND), 5002 * SECOND);
        assert_eq!(shown(), "1970-01-01T01:23:40Z", "the wall clock jumped");
    }
}
