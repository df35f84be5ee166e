//! Reading of times: numbers with a unit, or text in a fixed or configured format, to nanoseconds.

use jiff::{
    Timestamp,
    civil::{Date, DateTime},
    fmt::strtime,
    tz::TimeZone,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a time is written.
///
/// As the user writes it: `auto`, `s`, `ms`, `us`, `ns`, `rfc3339`, or a pattern with `%` like
/// `%Y-%m-%d %H:%M:%S`. Text without a zone is UTC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum TimeUnit {
    /// By the type of the column; text is RFC 3339 or `YYYY-MM-DD HH:MM:SS[.fff]`. Plain numbers
    /// are refused: their unit is never guessed.
    #[default]
    Auto,
    /// Seconds since 1970 UTC, with or without decimals.
    Seconds,
    /// Milliseconds since 1970 UTC.
    Millis,
    /// Microseconds since 1970 UTC.
    Micros,
    /// Nanoseconds since 1970 UTC.
    Nanos,
    /// RFC 3339 text with a zone.
    Rfc3339,
    /// Text in a `strptime` pattern.
    Pattern(String),
}

/// A time unit that is not one of the known words and no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown time unit `{got}`: want auto, s, ms, us, ns, rfc3339 or a pattern like `%Y-%m-%d %H:%M:%S`")]
pub struct UnknownTimeUnit {
    /// What was written.
    pub got: String,
}

impl TryFrom<String> for TimeUnit {
    type Error = UnknownTimeUnit;

    fn try_from(text: String) -> Result<Self, UnknownTimeUnit> {
        Ok(match text.as_str() {
            "auto" => TimeUnit::Auto,
            "s" => TimeUnit::Seconds,
            "ms" => TimeUnit::Millis,
            "us" => TimeUnit::Micros,
            "ns" => TimeUnit::Nanos,
            "rfc3339" => TimeUnit::Rfc3339,
            _ if text.contains('%') => TimeUnit::Pattern(text),
            _ => return Err(UnknownTimeUnit { got: text }),
        })
    }
}

impl From<TimeUnit> for String {
    fn from(unit: TimeUnit) -> String {
        match unit {
            TimeUnit::Auto => "auto".to_owned(),
            TimeUnit::Seconds => "s".to_owned(),
            TimeUnit::Millis => "ms".to_owned(),
            TimeUnit::Micros => "us".to_owned(),
            TimeUnit::Nanos => "ns".to_owned(),
            TimeUnit::Rfc3339 => "rfc3339".to_owned(),
            TimeUnit::Pattern(pattern) => pattern,
        }
    }
}

impl TimeUnit {
    /// Nanoseconds in one unit, when times are plain numbers.
    #[must_use]
    pub fn scale_ns(&self) -> Option<i64> {
        match self {
            TimeUnit::Seconds => Some(1_000_000_000),
            TimeUnit::Millis => Some(1_000_000),
            TimeUnit::Micros => Some(1_000),
            TimeUnit::Nanos => Some(1),
            TimeUnit::Auto | TimeUnit::Rfc3339 | TimeUnit::Pattern(_) => None,
        }
    }

    /// Reads a time written as text; `None` when it is not one or does not fit 64-bit nanoseconds.
    #[must_use]
    pub fn parse(&self, text: &[u8]) -> Option<i64> {
        let text = text.trim_ascii();
        if let Some(scale_ns) = self.scale_ns() {
            return parse_decimal(text, scale_ns);
        }
        match self {
            TimeUnit::Auto => parse_plain(text).or_else(|| parse_free(text)),
            TimeUnit::Rfc3339 => parse_rfc3339(text),
            TimeUnit::Pattern(pattern) if pattern == "%Y-%m-%d %H:%M:%S" => {
                if text.len() == 19 {
                    parse_plain(text)
                } else {
                    None
                }
            }
            TimeUnit::Pattern(pattern) => parse_pattern(pattern, text),
            TimeUnit::Seconds | TimeUnit::Millis | TimeUnit::Micros | TimeUnit::Nanos => None,
        }
    }

    /// Reads a time given as a binary float.
    #[must_use]
    pub fn parse_float(&self, number: f64) -> Option<i64> {
        let scaled = (number * self.scale_ns()? as f64).round();
        // 2^63 is exact in binary; everything below it fits.
        (scaled.abs() < 9_223_372_036_854_775_808.0).then_some(scaled as i64)
    }
}

/// `YYYY-MM-DD HH:MM:SS[.fraction][Z]` with a blank or a `T` in the middle, read as UTC.
///
/// The commonest form of exports, read by hand because a general parser costs ten times as much.
fn parse_plain(text: &[u8]) -> Option<i64> {
    if text.len() < 19 {
        return None;
    }
    let (head, tail) = text.split_at(19);
    let fixed = head[4] == b'-'
        && head[7] == b'-'
        && (head[10] == b' ' || head[10] == b'T')
        && head[13] == b':'
        && head[16] == b':';
    if !fixed {
        return None;
    }
    let year = digits(&head[0..4])?;
    let (month, day) = (digits(&head[5..7])?, digits(&head[8..10])?);
    let (hour, minute, second) = (digits(&head[11..13])?, digits(&head[14..16])?, digits(&head[17..19])?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_from_civil(year, month, day)?;
    let tail = tail.strip_suffix(b"Z").unwrap_or(tail);
    let fraction_ns = match tail.split_first() {
        None => 0,
        Some((b'.', fraction)) => fraction_ns(fraction)?,
        Some(_) => return None,
    };
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second;
    seconds.checked_mul(1_000_000_000)?.checked_add(fraction_ns)
}

/// The value of up to eighteen ASCII digits.
fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |sum: i64, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

/// Nanoseconds of the digits after a decimal point of seconds; finer digits are cut.
fn fraction_ns(text: &[u8]) -> Option<i64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let kept = &text[..text.len().min(9)];
    Some(digits(kept)? * 10_i64.pow(9 - kept.len() as u32))
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar; `None` when there is none.
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    if day < 1 || day > last {
        return None;
    }
    // Years begin in March, so that the leap day is the last of a year.
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// RFC 3339, or a date and time without zone (UTC), by the general parser.
fn parse_free(text: &[u8]) -> Option<i64> {
    parse_rfc3339(text).or_else(|| {
        let civil: DateTime = std::str::from_utf8(text).ok()?.parse().ok()?;
        nanoseconds(TimeZone::UTC.to_timestamp(civil).ok()?)
    })
}

fn parse_rfc3339(text: &[u8]) -> Option<i64> {
    nanoseconds(std::str::from_utf8(text).ok()?.parse().ok()?)
}

fn parse_pattern(pattern: &str, text: &[u8]) -> Option<i64> {
    let broken = strtime::parse(pattern, text).ok()?;
    if let Ok(timestamp) = broken.to_timestamp() {
        return nanoseconds(timestamp);
    }
    let civil = broken.to_datetime().or_else(|_| broken.to_date().map(Date::into)).ok()?;
    nanoseconds(TimeZone::UTC.to_timestamp(civil).ok()?)
}

fn nanoseconds(timestamp: Timestamp) -> Option<i64> {
    i64::try_from(timestamp.as_nanosecond()).ok()
}

/// A whole or decimal number of units, exactly; digits finer than a nanosecond are cut.
fn parse_decimal(text: &[u8], scale_ns: i64) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(whole) = text.parse::<i64>() {
        return whole.checked_mul(scale_ns);
    }
    let (whole, fraction) = text.split_once('.')?;
    let negative = whole.starts_with('-');
    let whole_ns = whole.parse::<i64>().ok()?.checked_mul(scale_ns)?;
    let part_ns = fraction_ns(fraction.as_bytes()).or_else(|| fraction.is_empty().then_some(0))?;
    let part_ns = part_ns / (1_000_000_000 / scale_ns);
    if negative { whole_ns.checked_sub(part_ns) } else { whole_ns.checked_add(part_ns) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unit(text: &str) -> TimeUnit {
        TimeUnit::try_from(text.to_owned()).unwrap()
    }

    /// Given the forms that exports use, when read without a configured unit, then they agree.
    #[test]
    fn text_forms_of_one_instant_agree() {
        for text in ["2020-03-09 10:14:33", "2020-03-09T10:14:33Z", "2020-03-09T11:14:33+01:00"] {
            assert_eq!(TimeUnit::Auto.parse(text.as_bytes()), Some(1_583_748_873_000_000_000), "{text}");
        }
        assert_eq!(TimeUnit::Auto.parse(b"1970-01-01 00:00:00.25"), Some(250_000_000));
        let day_first = unit("%d.%m.%Y %H:%M:%S");
        assert_eq!(day_first.parse(b"09.03.2020 10:14:33"), Some(1_583_748_873_000_000_000));
        assert_eq!(unit("%Y-%m-%d").parse(b"1970-01-02"), Some(86_400_000_000_000));
    }

    /// Given numbers with a configured unit, when read, then no digit down to a nanosecond is lost.
    #[test]
    fn numbers_are_scaled_exactly() {
        assert_eq!(unit("s").parse(b"1583748873.123456789"), Some(1_583_748_873_123_456_789));
        assert_eq!(unit("s").parse(b"-0.5"), Some(-500_000_000));
        assert_eq!(unit("ms").parse(b"1583748873001.5"), Some(1_583_748_873_001_500_000));
        assert_eq!(unit("s").parse(b"99999999999"), None);
        assert_eq!(unit("ns").parse_float(1e30), None);
        assert_eq!(unit("s").parse_float(f64::NAN), None);
    }

    /// Given dates that do not exist and numbers without a unit, when read, then they are refused.
    #[test]
    fn impossible_times_are_refused() {
        for text in ["2021-02-29 00:00:00", "2021-13-01 00:00:00", "2021-01-01 24:00:00", "12", "", "x"] {
            assert_eq!(TimeUnit::Auto.parse(text.as_bytes()), None, "{text}");
        }
        assert!(TimeUnit::try_from("hours".to_owned()).is_err());
    }

    proptest! {
        /// However a second of the years 1700 to 2200 is written, the fast reader and jiff agree.
        #[test]
        fn the_fast_reader_agrees_with_the_general_one(second in -8_520_336_000_i64..7_258_118_400) {
            let timestamp = Timestamp::from_second(second).unwrap();
            let text = timestamp.strftime("%Y-%m-%d %H:%M:%S").to_string();
            prop_assert_eq!(parse_plain(text.as_bytes()), second.checked_mul(1_000_000_000));
        }
    }
}
