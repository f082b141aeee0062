//! Times, spans and sizes as people read them. Pure: the present is passed in.

use crate::time::EpochMs;

/// An age in at most five cells, with the same precision down a column: `41s`, `3m`, `2h40`, `9d`.
pub fn age(span_ms: i64) -> String {
    let seconds = (span_ms / 1000).max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m"),
        3600..36_000 => format!("{hours}h{:02}", minutes % 60),
        36_000..172_800 => format!("{hours}h"),
        _ if days < 10_000 => format!("{days}d"),
        _ => format!("{}y", days / 365),
    }
}

/// The age of a moment at `now`.
pub fn age_of(moment: EpochMs, now: EpochMs) -> String {
    age(now.since(moment))
}

/// A span for sentences and flags, as humantime writes it: `1d 2h`, `30m`, `90s`.
pub fn span(span_ms: i64) -> String {
    let seconds = u64::try_from(span_ms / 1000).unwrap_or_default();
    humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string()
}

/// `14:03:07` of a moment in this machine's zone, or UTC.
pub fn clock(moment: EpochMs, utc: bool) -> String {
    zoned(moment, utc).map_or_else(|| "-".to_owned(), |at| at.strftime("%H:%M:%S").to_string())
}

/// `2026-11-24 14:03:07` of a moment in this machine's zone, or UTC.
pub fn date_time(moment: EpochMs, utc: bool) -> String {
    zoned(moment, utc).map_or_else(
        || "-".to_owned(),
        |at| at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
    )
}

/// `11-24 14:03` of a moment in this machine's zone, or UTC: when the day is not obvious.
pub fn day_time(moment: EpochMs, utc: bool) -> String {
    zoned(moment, utc).map_or_else(
        || "-".to_owned(),
        |at| at.strftime("%m-%d %H:%M").to_string(),
    )
}

/// Reads a span: `90s`, `30m`, `2h`, `1d2h`, and `2h40` as [`age`] writes it. Milliseconds.
pub fn parse_span(words: &str) -> Option<i64> {
    let words = words.trim();
    let parse = |words: &str| humantime::parse_duration(words).ok();
    let span = match parse(words) {
        Some(span) => span,
        None if words.contains('h') && words.ends_with(|c: char| c.is_ascii_digit()) => {
            parse(&format!("{words}m"))?
        }
        None => return None,
    };
    i64::try_from(span.as_millis()).ok()
}

fn zoned(moment: EpochMs, utc: bool) -> Option<jiff::ZonedDateTime> {
    let zone = if utc {
        jiff::tz::TimeZone::UTC
    } else {
        jiff::tz::TimeZone::system()
    };
    jiff::Timestamp::from_millisecond(moment.0)
        .ok()
        .map(|at| at.to_zoned_datetime(zone))
}

/// `1 job`, `3 jobs`, `2 replicas`.
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_fit_five_cells() {
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3599, "59m"),
            (3600, "1h00"),
            (9600, "2h40"),
            (36_000, "10h"),
            (172_800, "2d"),
            (864_000, "10d"),
        ] {
            assert_eq!(age(seconds * 1000), expected);
            assert!(age(seconds * 1000).len() <= 5);
        }
        assert_eq!(age(-5000), "0s");
    }

    #[test]
    fn spans_read_as_they_are_written() {
        assert_eq!(parse_span("90s"), Some(90_000));
        assert_eq!(parse_span("1d2h"), Some(26 * 3_600_000));
        assert_eq!(parse_span("2h40"), Some(160 * 60_000));
        assert_eq!(parse_span("banana"), None);
        assert_eq!(parse_span("5"), None);
    }
}
