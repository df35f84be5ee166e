//! Rate of change: how fast a tag moves between neighbouring samples.
//!
//! Finds steps, dropouts and drifts faster than the process can be. Blind to a slow drift: use `ewma`.
//! The comparison is with the last *present* sample. The first sample, a sample after a silence longer than `max_gap`, and a
//! sample whose time does not advance are `NotEvaluated`; a second sample of the same time replaces the first.
//! Source: QARTOD rate of change test; unlike common implementations, time is not rounded.

use crate::detect::{Columns, Detector, Plain, Stage, cell, in_cell};
use crate::params::{ParamError, Positive, Span, checked_at_parse};
use crate::sample::{Flag, Samples, Verdicts, score_of};
use bytemuck::{Pod, Zeroable};
use schemars::JsonSchema;
use serde::Deserialize;

/// Checked parameters. Invariant: `suspect_per_s <= fail_per_s`, both positive; infinite when never.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    suspect_per_s: f64,
    fail_per_s: f64,
    max_gap_ns: i64,
}

/// Parameters as the user writes them: `detect.rate = { suspect_per_s = 0.5 }`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct RateRaw {
    /// Faster than this is `Suspect`. Unit of the tag per second. Absent: never.
    #[serde(default)]
    pub suspect_per_s: Option<Positive>,
    /// Faster than this is `Fail`. Unit of the tag per second. Absent: never.
    #[serde(default)]
    pub fail_per_s: Option<Positive>,
    /// A longer silence breaks the comparison: `max_gap = "30s"`. No silence inside the heartbeat of a tag that reports
    /// by exception does.
    #[serde(default = "default_max_gap")]
    pub max_gap: Span,
    /// Columns of the tag catalogue that hold the limits.
    #[serde(default)]
    pub from_tags: Option<RateColumns>,
}
checked_at_parse!(RateRaw);

/// Columns of the tag catalogue that hold limits.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateColumns {
    /// Column of `suspect_per_s`.
    #[serde(default)]
    pub suspect_per_s: Option<String>,
    /// Column of `fail_per_s`.
    #[serde(default)]
    pub fail_per_s: Option<String>,
}

fn default_max_gap() -> Span {
    Span::from_ns(86_400_000_000_000)
}

impl RateRaw {
    /// Checks what concerns more than one field.
    ///
    /// # Errors
    /// When no limit is given, `suspect_per_s` exceeds `fail_per_s`, or `max_gap` is zero.
    pub fn validate(&self) -> Result<(), ParamError> {
        self.max_gap.positive_ns()?;
        let columns = self.from_tags.as_ref();
        let from_tags = columns.is_some_and(|c| c.suspect_per_s.is_some() || c.fail_per_s.is_some());
        if columns.is_some() && !from_tags {
            return Err(ParamError::NoneOf { fields: "`from_tags.suspect_per_s`, `from_tags.fail_per_s`" });
        }
        if !from_tags && self.suspect_per_s.is_none() && self.fail_per_s.is_none() {
            return Err(ParamError::NoneOf { fields: "`suspect_per_s`, `fail_per_s`, `from_tags`" });
        }
        ordered(self.suspect_per_s, self.fail_per_s)
    }
}

/// What is remembered per tag: the last present sample.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct RateState {
    ts: i64,
    value: f64,
    present: u64,
}
impl Plain for RateState {}

impl Detector for Rate {
    const KIND: &'static str = "rate";
    const STAGE: Stage = Stage::Limit;
    type Raw = RateRaw;
    type State = RateState;

    fn bind(raw: &RateRaw, row: &dyn Columns) -> Result<Self, ParamError> {
        raw.validate()?;
        let columns = raw.from_tags.as_ref();
        let suspect = limit(raw.suspect_per_s, columns.and_then(|c| c.suspect_per_s.as_ref()), row)?;
        let fail = limit(raw.fail_per_s, columns.and_then(|c| c.fail_per_s.as_ref()), row)?;
        ordered(suspect, fail).map_err(|e| match columns {
            Some(_) => in_cell(row, "from_tags", e),
            None => e,
        })?;
        let or_never = |limit: Option<Positive>| limit.map_or(f64::INFINITY, Positive::get);
        let (suspect_per_s, fail_per_s) = (or_never(suspect), or_never(fail));
        // Silence inside the heartbeat means "unchanged", and breaks nothing.
        let max_gap_ns = raw.max_gap.to_ns().max(row.heartbeat_ns().unwrap_or(0));
        Ok(Rate { suspect_per_s, fail_per_s, max_gap_ns })
    }

    fn needs_columns(raw: &RateRaw) -> bool {
        raw.from_tags.is_some()
    }

    fn judge(
        &self,
        state: &mut RateState,
        _window: &mut [f64],
        samples: Samples<'_>,
        out: &mut Verdicts<'_>,
    ) {
        samples.assert_shape(out.flags);
        let Rate { suspect_per_s, fail_per_s, max_gap_ns } = *self;
        let RateState { ts: mut last_ts, value: mut last, mut present } = *state;
        let quiet = !out.explains(Flag::Good);
        let mut next = 0;
        while next < samples.len() {
            let end = samples.len().min(next + BLOCK);
            let (ts, value) = (&samples.ts[next..end], &samples.value[next..end]);
            // The usual block is good throughout. What is not known or not a number compares false and goes the long way.
            if quiet && present != 0 {
                let (mut good, mut before) = (true, (last_ts, last));
                for (&ts, &value) in ts.iter().zip(value) {
                    let dt = ts.saturating_sub(before.0);
                    let (moved, seconds) = ((value - before.1).abs() * 1e9, dt as f64);
                    good &= (dt > 0) & (dt <= max_gap_ns);
                    good &= (moved <= fail_per_s * seconds) & (moved <= suspect_per_s * seconds);
                    before = (ts, value);
                }
                if good {
                    out.flags[next..end].fill(Flag::Good);
                    (last_ts, last) = before;
                    next = end;
                    continue;
                }
            }
            let first = next;
            next = end;
            for (i, (&ts, &value)) in ts.iter().zip(value).enumerate() {
                let i = first + i;
                if value.is_nan() {
                    out.flags[i] = Flag::Missing;
                    continue;
                }
                let dt = ts.saturating_sub(last_ts);
                if (present == 0) | (dt <= 0) | (dt > max_gap_ns) {
                    out.flags[i] = Flag::NotEvaluated;
                    if (present == 0) | (dt >= 0) {
                        (last_ts, last, present) = (ts, value, 1);
                    }
                    continue;
                }
                let (moved, seconds) = ((value - last).abs() * 1e9, dt as f64);
                let flag = if moved > fail_per_s * seconds {
                    Flag::Fail
                } else if moved > suspect_per_s * seconds {
                    Flag::Suspect
                } else if moved.is_nan() {
                    // Infinite after infinite: no rate can be told.
                    Flag::NotEvaluated
                } else {
                    Flag::Good
                };
                out.set(i, flag, || {
                    let rate = moved / seconds;
                    let hi = if flag == Flag::Fail { fail_per_s } else { suspect_per_s.min(fail_per_s) };
                    (rate, 0.0, hi, score_of(rate, suspect_per_s.min(fail_per_s)))
                });
                (last_ts, last) = (ts, value);
            }
        }
        *state = RateState { ts: last_ts, value: last, present };
    }
}

/// Samples that are first tried together.
const BLOCK: usize = 16;

fn limit(
    written: Option<Positive>,
    column: Option<&String>,
    row: &dyn Columns,
) -> Result<Option<Positive>, ParamError> {
    let Some(column) = column else { return Ok(written) };
    if written.is_some() && row.number(column).is_none() {
        return Ok(written);
    }
    Positive::try_from(cell(row, column)?).map(Some).map_err(|e| in_cell(row, column, e))
}

fn ordered(suspect: Option<Positive>, fail: Option<Positive>) -> Result<(), ParamError> {
    match (suspect, fail) {
        (Some(low), Some(high)) if low > high => Err(ParamError::Inverted {
            lower: "suspect_per_s",
            low: low.get(),
            upper: "fail_per_s",
            high: high.get(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::tests::{bound, judge_all, seconds};

    /// Given 10 Hz samples rising 9 per second, when the limit is 1 per second,
    /// then every sample after the first is suspect: time is not rounded to whole seconds.
    #[test]
    fn a_fast_ramp_at_10_hz_is_suspect() {
        let (ts, value) = ([0, 100_000_000, 200_000_000], [0.0, 0.9, 1.8]);
        let (flags, evidence) = judge_all(&bound::<Rate>(r#"{"suspect_per_s": 1}"#), &ts, &value);
        assert_eq!(flags, [Flag::NotEvaluated, Flag::Suspect, Flag::Suspect]);
        assert!((evidence[0].statistic - 9.0).abs() < 1e-9);
        assert_eq!(evidence[0].hi, 1.0);
    }

    /// Given a change exactly at the limit, then it is good; the comparison is strict.
    #[test]
    fn the_limit_itself_is_good() {
        let d: Rate = bound(r#"{"suspect_per_s": 1, "fail_per_s": 2}"#);
        let (flags, _) = judge_all(&d, &seconds(4), &[0.0, 1.0, 2.5, 5.0]);
        assert_eq!(flags, [Flag::NotEvaluated, Flag::Good, Flag::Suspect, Flag::Fail]);
    }

    /// Given a missing sample between two present ones, then they are compared with each other over the whole time.
    #[test]
    fn missing_samples_do_not_break_the_comparison() {
        let d: Rate = bound(r#"{"fail_per_s": 1}"#);
        let (flags, _) = judge_all(&d, &seconds(3), &[0.0, f64::NAN, 1.9]);
        assert_eq!(flags, [Flag::NotEvaluated, Flag::Missing, Flag::Good]);
    }

    /// Given a second sample of the same time and a long silence, then neither is evaluated, and both are what follows.
    #[test]
    fn time_that_does_not_advance_or_leaps_is_not_evaluated() {
        let d: Rate = bound(r#"{"fail_per_s": 1, "max_gap": "10s"}"#);
        let s = 1_000_000_000;
        let (flags, _) = judge_all(&d, &[0, 0, s, 20 * s, 21 * s], &[0.0, 50.0, 50.5, 0.0, 0.5]);
        let numbers: Vec<u8> = flags.iter().map(|&f| f as u8).collect();
        assert_eq!(numbers, [2, 2, 1, 2, 1]);
    }

    /// Given swapped limits or none, then the parameters are refused.
    #[test]
    fn swapped_limits_are_refused() {
        for bad in [r#"{"suspect_per_s": 2, "fail_per_s": 1}"#, "{}", r#"{"fail_per_s": 1, "max_gap": "0s"}"#]
        {
            assert!(serde_json::from_str::<RateRaw>(bad).is_err(), "{bad}");
        }
    }
}
