//! How values are written on a command line that comes from Go.

use std::time::Duration;

/// Go's booleans.
///
/// # Errors
/// Anything else.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

/// A length of time as Go writes it: `72h`, `1h30m`, `1.5s`, `100ms`; plain digits are seconds.
///
/// # Errors
/// Anything else.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a length of time like 72h, 90s or 100ms".to_owned();
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut total = 0.0_f64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c != '.' && !c.is_ascii_digit());
        let (number, after) = rest.split_at(digits.ok_or_else(wrong)?);
        let unit = after.find(|c: char| c == '.' || c.is_ascii_digit());
        let (unit, after) = after.split_at(unit.unwrap_or(after.len()));
        let scale = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(wrong()),
        };
        total += number.parse::<f64>().map_err(|_| wrong())? * scale;
        rest = after;
    }
    match Duration::try_from_secs_f64(total) {
        Ok(duration) if !text.is_empty() => Ok(duration),
        _ => Err(wrong()),
    }
}

/// A number of bytes: digits, then nothing or a unit of 1000 (`MB`) or of 1024 (`MiB`).
///
/// # Errors
/// Anything else, or more than fits.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || "expected a number of bytes like 1572864, 512MiB or 1GB".to_owned();
    let unit = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(unit.unwrap_or(text.len()));
    let scale: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "T" | "TiB" => 1 << 40,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(scale).ok_or_else(wrong)
}

/// A plain number.
///
/// # Errors
/// Anything else, or more than fits.
pub(super) fn count(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "expected a number".to_owned())
}

/// Milliseconds, in etcd's flags a plain number; quorate takes Go's lengths of time too.
///
/// # Errors
/// Anything else.
pub(super) fn millis(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(millis) => Ok(Duration::from_millis(millis)),
        Err(_) => duration(text).map_err(|_| "expected a number of milliseconds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        let good = [
            ("72h", 259_200_000),
            ("1h30m", 5_400_000),
            ("1.5s", 1500),
            ("100ms", 100),
            ("90", 90_000),
            ("0", 0),
        ];
        for (text, millis) in good {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "h", "1", "1x", "-1s", "1h-", "1..2s"] {
            assert_eq!(duration(text).is_err(), text != "1", "{text}");
        }
        assert_eq!(millis("100"), Ok(Duration::from_millis(100)));
        assert_eq!(millis("1s"), Ok(Duration::from_secs(1)));
    }

    #[test]
    fn bytes_have_units() {
        assert_eq!(bytes("1572864"), Ok(1_572_864));
        assert_eq!(bytes("512MiB"), Ok(512 << 20));
        assert_eq!(bytes("1 GB"), Ok(1_000_000_000));
        for text in ["", "MiB", "1.5MiB", "-1", "1XB", "18446744073709551615K"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
