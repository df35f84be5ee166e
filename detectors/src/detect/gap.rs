//! Gap: no present sample for too long.
//!
//! Finds a silent tag without waiting for its next sample: a present sample arms a deadline, and when event time passes it
//! the tag fails. The next present sample is good and arms anew. A missing sample neither resolves nor re-arms. Blind to a
//! tag that has never spoken.

use crate::detect::{Columns, Detector, Plain, Stage};
use crate::params::{ParamError, Span, checked_at_parse};
use crate::sample::{Flag, Samples, Verdicts};
use bytemuck::{Pod, Zeroable};
use schemars::JsonSchema;
use serde::Deserialize;

/// Checked parameters. Invariant: `max_ns > 0`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gap {
    max_ns: i64,
}

/// Parameters as the user writes them: `detect.gap = { max = "30s" }`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct GapRaw {
    /// Longest silence that is good.
    pub max: Span,
}
checked_at_parse!(GapRaw);

impl GapRaw {
    /// Checks the duration.
    ///
    /// # Errors
    /// When `max` is zero.
    pub fn validate(&self) -> Result<(), ParamError> {
        self.max.positive_ns().map(|_| ())
    }
}

/// What is remembered per tag: the armed deadline.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct GapState {
    deadline: i64,
    armed: u64,
}
impl Plain for GapState {}

impl Detector for Gap {
    const KIND: &'static str = "gap";
    const STAGE: Stage = Stage::Limit;
    type Raw = GapRaw;
    type State = GapState;

    fn bind(raw: &GapRaw, _row: &dyn Columns) -> Result<Self, ParamError> {
        Ok(Gap { max_ns: raw.max.positive_ns()? })
    }

    fn judge(&self, state: &mut GapState, _window: &mut [f64], samples: Samples<'_>, out: &mut Verdicts<'_>) {
        samples.assert_shape(out.flags);
        for (i, (&ts, &value)) in samples.ts.iter().zip(samples.value).enumerate() {
            if value.is_nan() {
                out.flags[i] = Flag::Missing;
                continue;
            }
            *state = GapState { deadline: ts.saturating_add(self.max_ns), armed: 1 };
            out.set(i, Flag::Good, || (0.0, 0.0, self.max_ns as f64 * 1e-9, 0.0));
        }
    }

    fn longest_step_ns(&self) -> Option<i64> {
        Some(self.max_ns)
    }

    fn deadline(&self, state: &GapState) -> Option<i64> {
        (state.armed != 0).then_some(state.deadline)
    }

    fn on_deadline(&self, state: &mut GapState) -> Flag {
        *state = GapState::zeroed();
        Flag::Fail
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::tests::bound;

    /// Given a present sample, when its deadline is due, then the tag fails once; missing samples change nothing.
    #[test]
    fn a_silence_fails_once() {
        let d: Gap = bound(r#"{"max": "30s"}"#);
        let mut state = GapState::zeroed();
        let judge = |state: &mut GapState, ts: i64, value: f64| {
            let (mut flags, mut evidence) = ([Flag::Fail], Vec::new());
            let mut out =
                Verdicts { flags: &mut flags, evidence: &mut evidence, explain_from: Flag::Suspect };
            d.judge(state, &mut [], Samples { ts: &[ts], value: &[value], trusted: &[true] }, &mut out);
            flags[0]
        };
        assert_eq!(d.deadline(&state), None);
        assert_eq!(judge(&mut state, 5, 1.0), Flag::Good);
        assert_eq!(d.deadline(&state), Some(30_000_000_005));
        assert_eq!(judge(&mut state, 10, f64::NAN), Flag::Missing);
        assert_eq!(d.deadline(&state), Some(30_000_000_005));
        assert_eq!(d.on_deadline(&mut state), Flag::Fail);
        assert_eq!(d.deadline(&state), None);
        assert_eq!(judge(&mut state, 40_000_000_000, f64::NAN), Flag::Missing);
        assert_eq!(d.deadline(&state), None);
        assert_eq!(judge(&mut state, 50_000_000_000, 1.0), Flag::Good);
        assert_eq!(d.deadline(&state), Some(80_000_000_000));
        assert!(serde_json::from_str::<GapRaw>(r#"{"max": "0s"}"#).is_err());
    }
}
