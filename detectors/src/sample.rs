//! Samples of one run, the flags that judge them, and the evidence for a flag.

use serde::{Deserialize, Serialize};

/// Verdict on one sample, with the numbers of QARTOD.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Flag {
    /// Judged, and nothing is wrong.
    Good = 1,
    /// Could not be judged: nothing to compare with yet.
    NotEvaluated = 2,
    /// Of doubtful quality.
    Suspect = 3,
    /// Of bad quality.
    Fail = 4,
    /// There is no value.
    Missing = 9,
}

impl Flag {
    /// Every flag, in the order of their numbers.
    pub const ALL: [Flag; 5] = [Flag::Good, Flag::NotEvaluated, Flag::Suspect, Flag::Fail, Flag::Missing];

    /// Name as it is written in outputs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Flag::Good => "good",
            Flag::NotEvaluated => "not_evaluated",
            Flag::Suspect => "suspect",
            Flag::Fail => "fail",
            Flag::Missing => "missing",
        }
    }

    /// Whether the flag is [`Flag::Suspect`] or [`Flag::Fail`].
    #[must_use]
    #[inline]
    pub const fn is_bad(self) -> bool {
        matches!(self, Flag::Suspect | Flag::Fail)
    }

    /// The flag with this number, if there is one.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Flag> {
        match number {
            1 => Some(Flag::Good),
            2 => Some(Flag::NotEvaluated),
            3 => Some(Flag::Suspect),
            4 => Some(Flag::Fail),
            9 => Some(Flag::Missing),
            _ => None,
        }
    }
}

#[expect(unsafe_code, reason = "a fieldless enum of one byte; the derive would do the same")]
mod plain {
    // SAFETY: `Flag` is `repr(u8)` without fields: every byte of it is initialised, it has no padding, and it is
    // `Copy + 'static`.
    unsafe impl bytemuck::NoUninit for super::Flag {}
}

/// View of one run: samples of one tag, in time order (equal times possible).
///
/// - Shapes: the three slices have the same length.
/// - Units: `ts` in nanoseconds since 1970 UTC, `value` in the unit of the tag.
/// - Missing: NaN in `value`.
#[derive(Clone, Copy, Debug)]
pub struct Samples<'a> {
    /// Time of each sample, nanoseconds since 1970 UTC, never falling.
    pub ts: &'a [i64],
    /// Value of each sample; NaN is missing (bad quality, sentinel, null).
    pub value: &'a [f64],
    /// Whether a learning detector may trust the sample: valid, of good quality, and no limit flags it.
    pub trusted: &'a [bool],
}

impl Samples<'_> {
    /// Number of samples.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.value.len()
    }

    /// Whether the run has no sample.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.value.is_empty()
    }

    /// Panics when the slices or the flags differ in length, a bug of the caller.
    #[inline]
    pub(crate) fn assert_shape(&self, flags: &[Flag]) {
        assert_eq!(self.ts.len(), self.value.len(), "ts and value differ in length");
        assert_eq!(self.trusted.len(), self.value.len(), "trusted and value differ in length");
        assert_eq!(flags.len(), self.value.len(), "flags and value differ in length");
    }
}

/// One judged sample worth explaining.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// Index of the sample in its run.
    pub slot: u32,
    /// The verdict.
    pub flag: Flag,
    /// What was compared with the band: the value for `range`, |dx/dt| for `rate`, z for `zscore` and `ewma`.
    pub statistic: f64,
    /// Lower bound of the accepted band, in the unit of `statistic`; infinite when there is none.
    pub lo: f64,
    /// Upper bound of the accepted band, in the unit of `statistic`; infinite when there is none.
    pub hi: f64,
    /// How abnormal, 0 to 1; monotone in the distance from normal.
    pub score: f64,
}

/// Where a detector writes its verdicts; owned by the caller.
#[derive(Debug)]
pub struct Verdicts<'a> {
    /// One flag per sample of the run.
    pub flags: &'a mut [Flag],
    /// Evidence is appended here, in sample order.
    pub evidence: &'a mut Vec<Evidence>,
    /// The lowest flag to explain: `Suspect` and `Fail` from here up, and `Good` too when this is `Good`.
    pub explain_from: Flag,
}

impl Verdicts<'_> {
    /// Sets the flag of sample `i`; `evidence` gives (statistic, lo, hi, score) and is called only when asked for.
    #[inline]
    pub fn set(&mut self, i: usize, flag: Flag, evidence: impl FnOnce() -> (f64, f64, f64, f64)) {
        self.flags[i] = flag;
        if self.explains(flag) {
            self.explain(i, flag, evidence());
        }
    }

    /// Whether evidence is asked for a sample with this flag.
    #[must_use]
    #[inline]
    pub fn explains(&self, flag: Flag) -> bool {
        (flag.is_bad() && flag >= self.explain_from)
            || (flag == Flag::Good && self.explain_from == Flag::Good)
    }

    #[cold]
    fn explain(&mut self, i: usize, flag: Flag, (statistic, lo, hi, score): (f64, f64, f64, f64)) {
        self.evidence.push(Evidence { slot: i as u32, flag, statistic, lo, hi, score });
    }
}

/// Score of a statistic against its limit: 0 at 0, 0.75 at the limit, towards 1 beyond; strictly rising.
#[inline]
pub(crate) fn score_of(statistic: f64, limit: f64) -> f64 {
    if statistic.is_infinite() || limit == 0.0 {
        return 1.0;
    }
    if limit.is_infinite() || statistic <= 0.0 {
        return 0.0;
    }
    let ratio = statistic / limit;
    if ratio.is_infinite() { 1.0 } else { ratio / (ratio + 1.0 / 3.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Given each flag, then its number and name are those of QARTOD and of the outputs.
    #[test]
    fn flags_have_the_numbers_of_qartod() {
        let numbers: Vec<u8> = Flag::ALL.iter().map(|&f| f as u8).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 9]);
        for flag in Flag::ALL {
            assert_eq!(Flag::from_number(flag as u8), Some(flag));
            assert_eq!(serde_json::to_string(&flag).unwrap(), format!("\"{}\"", flag.name()));
        }
        assert_eq!(Flag::from_number(5), None);
    }

    /// Given flags of all kinds, when evidence is asked from each level up, then only good and bad ones are explained.
    #[test]
    fn evidence_follows_explain_from() {
        let counts = |explain_from| {
            let (mut flags, mut evidence) = ([Flag::Good; 5], Vec::new());
            let mut out = Verdicts { flags: &mut flags, evidence: &mut evidence, explain_from };
            for (i, flag) in Flag::ALL.into_iter().enumerate() {
                out.set(i, flag, || (0.0, 0.0, 0.0, 0.0));
            }
            evidence.len()
        };
        assert_eq!(Flag::ALL.map(counts), [3, 2, 2, 1, 0]);
    }

    /// Given a statistic at its limit, then its score is three quarters, and it never leaves 0 to 1.
    #[test]
    fn the_score_at_the_limit_is_three_quarters() {
        assert_eq!(score_of(4.0, 4.0), 0.75);
        assert_eq!(score_of(0.0, 4.0), 0.0);
        assert_eq!(score_of(f64::INFINITY, 4.0), 1.0);
        assert_eq!(score_of(1e300, 1e-300), 1.0);
    }
}
