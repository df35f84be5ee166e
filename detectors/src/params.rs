//! Checked parameter types: a wrong value cannot be expressed once a configuration is loaded.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why parameters were refused. Every variant names fields as the user wrote them.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ParamError {
    /// A rate, width or duration that must be greater than zero and finite.
    #[error("must be a positive number, got {got}")]
    NotPositive {
        /// What was written.
        got: f64,
    },
    /// A number that must be finite.
    #[error("must be a finite number, got {got}")]
    NotFinite {
        /// What was written.
        got: f64,
    },
    /// A limit that is not a number.
    #[error("limits must be two numbers `[lo, hi]`, got [{lo}, {hi}]")]
    NotLimits {
        /// Lower limit as written.
        lo: f64,
        /// Upper limit as written.
        hi: f64,
    },
    /// Not a lower and an upper one.
    #[error("must be two, `[lo, hi]`, got {got}")]
    NotTwo {
        /// How many were written.
        got: usize,
    },
    /// Two ordered limits the wrong way round.
    #[error("`{lower}` = {low} must not exceed `{upper}` = {high}")]
    Inverted {
        /// Name of the one that must be lower.
        lower: &'static str,
        /// Its value.
        low: f64,
        /// Name of the one that must be higher.
        upper: &'static str,
        /// Its value.
        high: f64,
    },
    /// A band that must lie within another.
    #[error("`{inner}` = [{inner_lo}, {inner_hi}] must lie inside `{outer}` = [{outer_lo}, {outer_hi}]")]
    NotInside {
        /// Name of the inner band.
        inner: &'static str,
        /// Its lower limit.
        inner_lo: f64,
        /// Its upper limit.
        inner_hi: f64,
        /// Name of the outer band.
        outer: &'static str,
        /// Its lower limit.
        outer_lo: f64,
        /// Its upper limit.
        outer_hi: f64,
    },
    /// None of several fields of which at least one is needed.
    #[error("at least one of {fields} is needed")]
    NoneOf {
        /// The fields.
        fields: &'static str,
    },
    /// Several fields that exclude each other.
    #[error("exactly one of {fields} is needed")]
    NotOneOf {
        /// The fields.
        fields: &'static str,
    },
    /// A number outside its allowed range.
    #[error("`{field}` must be from {least} to {most}, got {got}")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// Smallest allowed value.
        least: f64,
        /// Largest allowed value.
        most: f64,
        /// What was written.
        got: f64,
    },
    /// Text that is not a duration.
    #[error("expected a duration such as \"250ms\", \"5s\", \"2m\", \"1h\", \"1d\" or \"1w\", got \"{got}\"")]
    NotSpan {
        /// What was written.
        got: String,
    },
    /// Text that is not a rate of alarms.
    #[error("expected a rate such as \"1/1000 rows\", \"1/week\" or \"2/12h\", got \"{got}\"")]
    NotFalseAlarms {
        /// What was written.
        got: String,
    },
    /// A catalogue cell that is needed and is absent, empty or not a number.
    #[error("tag \"{tag}\" has no number in column \"{column}\"")]
    NoCell {
        /// The tag.
        tag: String,
        /// The column of the catalogue.
        column: String,
    },
    /// A catalogue cell whose number breaks the rule for its field.
    #[error("tag \"{tag}\", column \"{column}\": {source}")]
    BadCell {
        /// The tag.
        tag: String,
        /// The column (or columns) of the catalogue.
        column: String,
        /// What is wrong with it.
        source: Box<ParamError>,
    },
}

/// A number greater than zero and finite.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Positive(f64);

impl Positive {
    /// The number.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Positive {
    type Error = ParamError;
    fn try_from(got: f64) -> Result<Self, ParamError> {
        if got > 0.0 && got.is_finite() { Ok(Self(got)) } else { Err(ParamError::NotPositive { got }) }
    }
}

impl From<Positive> for f64 {
    fn from(value: Positive) -> f64 {
        value.0
    }
}

impl JsonSchema for Positive {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Positive".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "exclusiveMinimum": 0 })
    }
}

/// A finite number.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Finite(f64);

impl Finite {
    /// The number.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Finite {
    type Error = ParamError;
    fn try_from(got: f64) -> Result<Self, ParamError> {
        if got.is_finite() { Ok(Self(got)) } else { Err(ParamError::NotFinite { got }) }
    }
}

impl From<Finite> for f64 {
    fn from(value: Finite) -> f64 {
        value.0
    }
}

impl JsonSchema for Finite {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Finite".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number" })
    }
}

/// Lower and upper limit, written `[lo, hi]`. Invariant: `lo <= hi`, neither is NaN; either may be infinite.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<f64>", into = "[f64; 2]")]
pub struct Limits {
    lo: f64,
    hi: f64,
}

impl Limits {
    /// No limit on either side.
    pub const NONE: Limits = Limits { lo: f64::NEG_INFINITY, hi: f64::INFINITY };

    /// Limits from `lo` to `hi`.
    ///
    /// # Errors
    /// When one is NaN, or `lo` exceeds `hi`.
    pub fn new(lo: f64, hi: f64) -> Result<Self, ParamError> {
        if lo.is_nan() || hi.is_nan() {
            return Err(ParamError::NotLimits { lo, hi });
        }
        if lo > hi {
            return Err(ParamError::Inverted { lower: "lo", low: lo, upper: "hi", high: hi });
        }
        Ok(Self { lo, hi })
    }

    /// Lower limit.
    #[must_use]
    pub const fn lo(self) -> f64 {
        self.lo
    }

    /// Upper limit.
    #[must_use]
    pub const fn hi(self) -> f64 {
        self.hi
    }

    /// Whether these limits lie inside `outer`; equal bounds are inside.
    #[must_use]
    pub fn inside(self, outer: Limits) -> bool {
        self.lo >= outer.lo && self.hi <= outer.hi
    }
}

impl TryFrom<Vec<f64>> for Limits {
    type Error = ParamError;
    fn try_from(written: Vec<f64>) -> Result<Self, ParamError> {
        match written[..] {
            [lo, hi] => Self::new(lo, hi),
            _ => Err(ParamError::NotTwo { got: written.len() }),
        }
    }
}

/// Two of something, exactly: a third would be forgotten without a word.
pub(crate) fn two<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<[T; 2]>, D::Error> {
    let Some(written) = Option::<Vec<T>>::deserialize(from)? else { return Ok(None) };
    let got = written.len();
    written.try_into().map(Some).map_err(|_| de::Error::custom(ParamError::NotTwo { got }))
}

impl From<Limits> for [f64; 2] {
    fn from(limits: Limits) -> [f64; 2] {
        [limits.lo, limits.hi]
    }
}

impl JsonSchema for Limits {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Limits".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": { "type": "number" }, "minItems": 2, "maxItems": 2 })
    }
}

/// A duration, written as a number and a unit: `"250ms"`, `"5s"`, `"2m"`, `"1h"`, `"1d"`, `"1w"`. Never negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(i64);

impl Span {
    /// A duration of `ns` nanoseconds; a negative one becomes zero.
    #[must_use]
    pub const fn from_ns(ns: i64) -> Self {
        Self(if ns < 0 { 0 } else { ns })
    }

    /// The duration in nanoseconds.
    #[must_use]
    pub const fn to_ns(self) -> i64 {
        self.0
    }

    /// The duration in nanoseconds, when it is longer than zero.
    ///
    /// # Errors
    /// When it is zero.
    pub const fn positive_ns(self) -> Result<i64, ParamError> {
        if self.0 > 0 { Ok(self.0) } else { Err(ParamError::NotPositive { got: 0.0 }) }
    }
}

/// Units of a [`Span`] and their length, longest first.
const UNITS: [(&str, i64); 8] = [
    ("w", 604_800_000_000_000),
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

impl FromStr for Span {
    type Err = ParamError;

    /// Exact for whole numbers and for decimals that are a whole number of nanoseconds; a finer one is refused.
    fn from_str(text: &str) -> Result<Self, ParamError> {
        parse_span(text.trim()).map(Self).ok_or_else(|| ParamError::NotSpan { got: text.to_owned() })
    }
}

fn parse_span(text: &str) -> Option<i64> {
    let split = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = (text[..split].trim_end(), &text[split..]);
    let unit_ns = i128::from(UNITS.iter().find(|(name, _)| *name == unit)?.1);
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || whole.len() > 19 || decimals.len() > 15 || !digits(whole) || !digits(decimals) {
        return None;
    }
    if number.ends_with('.') {
        return None;
    }
    let mut ns = whole.parse::<i128>().ok()? * unit_ns;
    if !decimals.is_empty() {
        let scale = 10i128.pow(decimals.len() as u32);
        let part = decimals.parse::<i128>().ok()? * unit_ns;
        if part % scale != 0 {
            return None;
        }
        ns += part / scale;
    }
    i64::try_from(ns).ok()
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        // `ns` divides everything, so the search always finds a unit.
        let (unit, length) = UNITS.into_iter().find(|(_, length)| self.0 % length == 0).unwrap_or(("ns", 1));
        write!(f, "{}{unit}", self.0 / length)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Span {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[0-9]+(\\.[0-9]+)? *(ns|us|ms|s|m|h|d|w)$",
            "examples": ["250ms", "5s", "2m", "1h", "1d"],
        })
    }
}

/// Alarms that may be raised on normal data, a row or in time: `"1/1000 rows"`, `"1/week"`, `"2/3d"`, or a number a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FalseAlarms {
    /// Alarms a row.
    PerRow(f64),
    /// Alarms a nanosecond; the rows in it follow from the steps of the tag.
    PerNs(f64),
}

impl FromStr for FalseAlarms {
    type Err = ParamError;
    fn from_str(text: &str) -> Result<Self, ParamError> {
        parse_false_alarms(text).ok_or_else(|| ParamError::NotFalseAlarms { got: text.to_owned() })
    }
}

fn parse_false_alarms(text: &str) -> Option<FalseAlarms> {
    let (alarms, per) = text.split_once('/')?;
    let alarms: u32 = alarms.trim().parse().ok().filter(|n| *n > 0)?;
    let per = per.trim();
    if let Some(rows) = per.strip_suffix("rows").or_else(|| per.strip_suffix("row")) {
        let rows = if rows.trim().is_empty() { 1 } else { rows.trim().parse::<u32>().ok()? };
        return (rows > 0).then(|| FalseAlarms::PerRow(f64::from(alarms) / f64::from(rows)));
    }
    let named =
        [("minute", "1m"), ("hour", "1h"), ("day", "1d"), ("week", "1w"), ("month", "30d"), ("year", "365d")];
    let span = named.iter().find(|(name, _)| *name == per).map_or(per, |(_, span)| span);
    let ns = parse_span(span).filter(|ns| *ns > 0)?;
    Some(FalseAlarms::PerNs(f64::from(alarms) / ns as f64))
}

impl<'de> Deserialize<'de> for FalseAlarms {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "expected a number of alarms a row, or a rate such as \"1/1000 rows\" or \"1/week\""
        )]
        enum Written {
            PerRow(f64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::PerRow(far) => {
                Positive::try_from(far).map(|far| FalseAlarms::PerRow(far.get())).map_err(de::Error::custom)
            }
            Written::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

impl JsonSchema for FalseAlarms {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "FalseAlarms".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "number", "exclusiveMinimum": 0 },
                { "type": "string", "examples": ["1/1000 rows", "1/week", "2/12h"] },
            ]
        })
    }
}

/// Gives a raw parameter type that derives with `#[serde(remote = "Self")]` a `Deserialize` that also calls `validate`.
macro_rules! checked_at_parse {
    ($raw:ty) => {
        impl<'de> serde::Deserialize<'de> for $raw {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let raw = <$raw>::deserialize(deserializer)?;
                raw.validate().map_err(serde::de::Error::custom)?;
                Ok(raw)
            }
        }
    };
}
pub(crate) use checked_at_parse;

#[cfg(test)]
mod tests {
    use super::*;

    /// Given durations in every unit, then each is its exact number of nanoseconds.
    #[test]
    fn durations_are_exact() {
        let ns = |text: &str| text.parse::<Span>().map(Span::to_ns).ok();
        assert_eq!(ns("250ms"), Some(250_000_000));
        assert_eq!(ns("1.5s"), Some(1_500_000_000));
        assert_eq!(ns("0.1 s"), Some(100_000_000));
        assert_eq!(ns("2m"), Some(120_000_000_000));
        assert_eq!(ns("1w"), Some(604_800_000_000_000));
        assert_eq!(ns("7ns"), Some(7));
        for bad in ["", "5", "s", "-1s", "1.s", ".5s", "1 hour", "1e3s", "0.5ns", "99999999999w"] {
            assert_eq!(ns(bad), None, "{bad}");
        }
    }

    /// Given any of the shown forms, when it is written and read again, then it is the same.
    #[test]
    fn durations_survive_writing() {
        for text in ["250ms", "90s", "2m", "1h", "1d", "1w", "0s", "1ns"] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.to_string(), text);
            let json = serde_json::to_string(&span).unwrap();
            assert_eq!(serde_json::from_str::<Span>(&json).unwrap(), span);
        }
        let error = serde_json::from_str::<Span>("\"5 parsecs\"").unwrap_err().to_string();
        assert!(error.contains("expected a duration such as"), "{error}");
    }

    /// Given rates of alarms by rows and by time, then each is its number; a rate of nothing is refused.
    #[test]
    fn rates_of_alarms_are_read() {
        let read = |json: &str| serde_json::from_str::<FalseAlarms>(json).ok();
        assert_eq!(read("0.001"), Some(FalseAlarms::PerRow(0.001)));
        assert_eq!(read("\"1/1000 rows\""), Some(FalseAlarms::PerRow(0.001)));
        assert_eq!(read("\"2/ 1000rows\""), Some(FalseAlarms::PerRow(0.002)));
        assert_eq!(read("\"1/week\""), Some(FalseAlarms::PerNs(1.0 / 604_800e9)));
        assert_eq!(read("\"3/12h\""), Some(FalseAlarms::PerNs(3.0 / 43_200e9)));
        for bad in [
            "0",
            "-1",
            "\"0/week\"",
            "\"1/fortnight\"",
            "\"1/0 rows\"",
            "\"1/0s\"",
            "\"week\"",
            "\"1.5/day\"",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    /// Given swapped or NaN limits, then they are refused, never sorted.
    #[test]
    fn swapped_limits_are_refused() {
        assert!(serde_json::from_str::<Limits>("[2, 1]").is_err());
        assert!(Limits::new(f64::NAN, 1.0).is_err());
        assert!(Limits::new(f64::NEG_INFINITY, 1.0).is_ok());
        assert!(serde_json::from_str::<Positive>("0").is_err());
        assert!(Finite::try_from(f64::INFINITY).is_err());
    }
}
