//! Range: whether a value lies within fixed limits.
//!
//! Finds what is impossible (`fail`) or unusual (`suspect`). Blind to a wrong value inside the limits: use `rate`, `zscore`
//! or a vote. A value equal to a bound is good; `fail` is tested before `suspect`; an infinite value is judged like any
//! other. Limits may come from columns of the tag catalogue; a limit written beside stands in for an empty cell.
//! Source: QARTOD gross range test; unlike common implementations, swapped limits are refused, not sorted.

use crate::detect::{Columns, Detector, Plain, Stage, cell, in_cell};
use crate::params::{Limits, ParamError, checked_at_parse, two};
use crate::sample::{Flag, Samples, Verdicts};
use bytemuck::{Pod, Zeroable};
use schemars::JsonSchema;
use serde::Deserialize;

/// Checked parameters. Invariant: `suspect` lies inside `fail`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    fail: Limits,
    suspect: Limits,
}

/// Parameters as the user writes them: `detect.range = { fail = [0.0, 16.0], suspect = [1.0, 12.0] }`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct RangeRaw {
    /// Outside is `Fail`. Absent: never.
    #[serde(default)]
    pub fail: Option<Limits>,
    /// Outside is `Suspect`. Absent: never.
    #[serde(default)]
    pub suspect: Option<Limits>,
    /// Columns of the tag catalogue that hold the limits.
    #[serde(default)]
    pub from_tags: Option<RangeColumns>,
}
checked_at_parse!(RangeRaw);

/// Columns of the tag catalogue that hold limits, each `[lo, hi]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RangeColumns {
    /// Columns of the `fail` limits.
    #[serde(default, deserialize_with = "two")]
    pub fail: Option<[String; 2]>,
    /// Columns of the `suspect` limits.
    #[serde(default, deserialize_with = "two")]
    pub suspect: Option<[String; 2]>,
}

impl RangeRaw {
    /// Checks what concerns more than one field.
    ///
    /// # Errors
    /// When no limit is given, or `suspect` reaches beyond `fail`.
    pub fn validate(&self) -> Result<(), ParamError> {
        let columns = self.from_tags.as_ref();
        let from_tags = columns.is_some_and(|c| c.fail.is_some() || c.suspect.is_some());
        if columns.is_some() && !from_tags {
            return Err(ParamError::NoneOf { fields: "`from_tags.fail`, `from_tags.suspect`" });
        }
        if !from_tags && self.fail.is_none() && self.suspect.is_none() {
            return Err(ParamError::NoneOf { fields: "`fail`, `suspect`, `from_tags`" });
        }
        nested(self.fail.unwrap_or(Limits::NONE), self.suspect)
    }
}

/// Nothing is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct RangeState {}
impl Plain for RangeState {}

impl Detector for Range {
    const KIND: &'static str = "range";
    const STAGE: Stage = Stage::Limit;
    type Raw = RangeRaw;
    type State = RangeState;

    fn bind(raw: &RangeRaw, row: &dyn Columns) -> Result<Self, ParamError> {
        raw.validate()?;
        let columns = raw.from_tags.as_ref();
        let fail = limits(raw.fail, columns.and_then(|c| c.fail.as_ref()), row)?;
        let suspect = limits(raw.suspect, columns.and_then(|c| c.suspect.as_ref()), row)?;
        let fail = fail.unwrap_or(Limits::NONE);
        nested(fail, suspect).map_err(|e| match columns {
            Some(_) => in_cell(row, "from_tags", e),
            None => e,
        })?;
        Ok(Range { fail, suspect: suspect.unwrap_or(fail) })
    }

    fn needs_columns(raw: &RangeRaw) -> bool {
        raw.from_tags.is_some()
    }

    fn judge(
        &self,
        _state: &mut RangeState,
        _window: &mut [f64],
        samples: Samples<'_>,
        out: &mut Verdicts<'_>,
    ) {
        samples.assert_shape(out.flags);
        let bad = flag_range(samples.value, self, out.flags);
        if !bad && out.explain_from != Flag::Good {
            return;
        }
        for (i, &x) in samples.value.iter().enumerate() {
            let flag = out.flags[i];
            out.set(i, flag, || match flag {
                Flag::Fail => (x, self.fail.lo(), self.fail.hi(), 1.0),
                Flag::Suspect => (x, self.suspect.lo(), self.suspect.hi(), 0.75),
                _ => (x, self.suspect.lo(), self.suspect.hi(), 0.0),
            });
        }
    }
}

/// Flags each sample of one tag against its limits; true when any is suspect or fails.
///
/// - Shapes: `value` and `flags` have the same length.
/// - Bounds: a value equal to a bound is inside. `fail` is tested before `suspect`.
/// - Missing: NaN.
/// - Panics: on unequal lengths, a bug of the caller.
pub fn flag_range(value: &[f64], limits: &Range, flags: &mut [Flag]) -> bool {
    assert_eq!(value.len(), flags.len(), "value and flags differ in length");
    let Range { fail, suspect } = *limits;
    let (fail_lo, fail_hi) = (fail.lo(), fail.hi());
    let (suspect_lo, suspect_hi) = (suspect.lo(), suspect.hi());
    let mut any = false;
    for (flags, value) in flags.chunks_mut(BLOCK).zip(value.chunks(BLOCK)) {
        // The usual block is good throughout; two comparisons a sample tell. NaN compares false and goes the long way.
        if value.iter().fold(true, |good, &x| good & (x >= suspect_lo) & (x <= suspect_hi)) {
            flags.fill(Flag::Good);
            continue;
        }
        for (flag, &x) in flags.iter_mut().zip(value) {
            let failed = (x < fail_lo) | (x > fail_hi);
            let suspected = (x < suspect_lo) | (x > suspect_hi);
            let judged = select(failed, Flag::Fail, select(suspected, Flag::Suspect, Flag::Good));
            *flag = select(x.is_nan(), Flag::Missing, judged);
            any |= failed | suspected;
        }
    }
    any
}

/// Samples that are first tried together.
const BLOCK: usize = 32;

#[inline]
fn select(condition: bool, yes: Flag, no: Flag) -> Flag {
    if condition { yes } else { no }
}

fn limits(
    written: Option<Limits>,
    columns: Option<&[String; 2]>,
    row: &dyn Columns,
) -> Result<Option<Limits>, ParamError> {
    let Some([lo, hi]) = columns else { return Ok(written) };
    if written.is_some() && row.number(lo).is_none() && row.number(hi).is_none() {
        return Ok(written);
    }
    let limits = Limits::new(cell(row, lo)?, cell(row, hi)?)
        .map_err(|e| in_cell(row, &format!("{lo}\", \"{hi}"), e))?;
    Ok(Some(limits))
}

fn nested(fail: Limits, suspect: Option<Limits>) -> Result<(), ParamError> {
    match suspect {
        Some(suspect) if !suspect.inside(fail) => Err(ParamError::NotInside {
            inner: "suspect",
            inner_lo: suspect.lo(),
            inner_hi: suspect.hi(),
            outer: "fail",
            outer_lo: fail.lo(),
            outer_hi: fail.hi(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::tests::{bound, judge_all, seconds};

    /// Given values at, inside and outside each bound, then bounds are good, fail goes before suspect, NaN is missing.
    #[test]
    fn bounds_are_good() {
        let d: Range = bound(r#"{"fail": [0, 16], "suspect": [1, 12]}"#);
        let value = [0.0, -0.1, 1.0, 0.9, 12.0, 12.1, 16.0, 16.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        let (flags, evidence) = judge_all(&d, &seconds(value.len()), &value);
        let numbers: Vec<u8> = flags.iter().map(|&f| f as u8).collect();
        assert_eq!(numbers, [3, 4, 1, 3, 1, 3, 3, 4, 9, 4, 4]);
        assert_eq!(
            (evidence[0].slot, evidence[0].lo, evidence[0].hi, evidence[0].score),
            (0, 1.0, 12.0, 0.75)
        );
        assert_eq!((evidence[1].slot, evidence[1].statistic, evidence[1].score), (1, -0.1, 1.0));
    }

    /// Given a suspect band wider than the fail band, or no limit at all, then the parameters are refused at parse.
    #[test]
    fn a_wider_suspect_band_is_refused() {
        for bad in [
            r#"{"fail": [0, 1], "suspect": [0, 2]}"#,
            "{}",
            r#"{"fail": [1, 0]}"#,
            r#"{"from_tags": {}}"#,
            r#"{"fail": [0, 1], "fial": [0, 1]}"#,
        ] {
            assert!(serde_json::from_str::<RangeRaw>(bad).is_err(), "{bad}");
        }
    }

    struct Row(Option<f64>, Option<f64>);
    impl Columns for Row {
        fn number(&self, column: &str) -> Option<f64> {
            match column {
                "lo" => self.0,
                "hi" => self.1,
                _ => None,
            }
        }
        fn tag(&self) -> &str {
            "pump.1"
        }
    }

    /// Given limits in catalogue columns, then each tag has its own; an empty or swapped cell is refused by name.
    #[test]
    fn limits_come_from_the_catalogue() {
        let raw: RangeRaw = serde_json::from_str(r#"{"from_tags": {"fail": ["lo", "hi"]}}"#).unwrap();
        assert!(Range::needs_columns(&raw));
        let d = Range::bind(&raw, &Row(Some(0.0), Some(5.0))).unwrap();
        assert_eq!(judge_all(&d, &seconds(2), &[5.0, 5.1]).0, [Flag::Good, Flag::Fail]);
        let error = Range::bind(&raw, &Row(Some(0.0), None)).unwrap_err().to_string();
        assert_eq!(error, "tag \"pump.1\" has no number in column \"hi\"");
        assert!(Range::bind(&raw, &Row(Some(5.0), Some(0.0))).is_err());
    }
}
