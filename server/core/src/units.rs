//! Sizes, durations and days as people write them.

use std::time::Duration;

/// Reads "512MiB", "4 GiB", "100MB", "65536" or "0" as bytes.
///
/// # Errors
/// A text for the operator.
pub fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => {
            return Err(format!(
                "\"{text}\" is not a size; write it like \"512MiB\""
            ));
        }
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("\"{text}\" is not a size; write it like \"512MiB\""))?;
    number
        .checked_mul(factor)
        .ok_or_else(|| format!("\"{text}\" is too large"))
}

/// Reads "90d", "12h", "5m", "30s" or "250ms" as a duration.
///
/// # Errors
/// A text for the operator.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("\"{text}\" is not a duration; write it like \"90d\", \"12h\" or \"30s\"");
    let (number, unit) = split(text);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let factor_ms: u64 = match unit.to_ascii_lowercase().as_str() {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 604_800_000,
        "" if number == 0 => 0,
        _ => return Err(wrong()),
    };
    let ms = number
        .checked_mul(factor_ms)
        .ok_or_else(|| format!("\"{text}\" is too long"))?;
    Ok(Duration::from_millis(ms))
}

/// Writes a number of bytes the way [`bytes`] reads it, rounded down to three digits or so.
#[must_use]
pub fn show_bytes(bytes: u64) -> String {
    match bytes {
        b if b >= 10 << 30 => format!("{} GiB", b >> 30),
        b if b >= 10 << 20 => format!("{} MiB", b >> 20),
        b if b >= 10 << 10 => format!("{} KiB", b >> 10),
        b => format!("{b} bytes"),
    }
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim())
}

/// The day of a time in ms since the epoch, as YYYY-MM-DD, in UTC.
#[must_use]
pub fn day(ms: u64) -> String {
    // Howard Hinnant's way from days to a date in the Gregorian calendar, with years from March.
    let days = ms / 86_400_000 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year_of_era + next)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(bytes("512MiB").unwrap(), 512 << 20);
        assert_eq!(bytes("4 GiB").unwrap(), 4 << 30);
        assert_eq!(bytes("100MB").unwrap(), 100_000_000);
        assert_eq!(bytes("0").unwrap(), 0);
        assert!(bytes("many").is_err());
        assert!(bytes("-1").is_err());
        assert!(bytes("99999999999TiB").is_err());
    }

    #[test]
    fn durations() {
        assert_eq!(duration("90d").unwrap().as_secs(), 90 * 86_400);
        assert_eq!(duration("250ms").unwrap().as_millis(), 250);
        assert_eq!(duration("0").unwrap(), Duration::ZERO);
        assert!(duration("90").is_err());
        assert!(duration("soon").is_err());
    }

    #[test]
    fn days() {
        assert_eq!(day(0), "1970-01-01");
        assert_eq!(day(951_782_400_000), "2000-02-29");
        assert_eq!(day(1_795_219_200_000), "2026-11-21");
        assert_eq!(day(1_735_689_599_999), "2024-12-31");
    }
}
