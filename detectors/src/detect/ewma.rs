//! Exponentially weighted baseline: how far a value lies from a mean that forgets, in standard deviations that forget too.
//!
//! Finds spikes, steps and drifts faster than the memory. With `half_life` the memory is in time, so irregular sampling is
//! the normal case; with `alpha` it is in samples. While a tag is abnormal nothing is learned (`freeze`); with `relearn`, a
//! new level that has been steady for that long becomes the baseline. Until `warm_up` samples are learned, samples are
//! `NotEvaluated`; those first samples weigh alike. A value that is infinite or beyond 1e140 gets the most severe flag
//! configured and is never learned.
//! Source: West's update of a weighted mean and variance.

use crate::detect::zscore::{FLOOR, HUGE, bounded, limits_ordered, min_deviation_allowed};
use crate::detect::{Columns, Detector, Direction, Freeze, Plain, Stage, TagCommand};
use crate::params::{ParamError, Positive, Span, checked_at_parse};
use crate::sample::{Flag, Samples, Verdicts, score_of};
use bytemuck::{Pod, Zeroable};
use schemars::JsonSchema;
use serde::Deserialize;

/// Checked parameters. Invariant: `suspect <= fail`, `warm_up >= 2`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ewma {
    memory: Memory,
    suspect: f64,
    fail: f64,
    warm_up: u64,
    freeze: Freeze,
    direction: Direction,
    min_deviation: f64,
    relearn_ns: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Memory {
    /// Weight of each sample.
    Alpha(f64),
    /// ln 2 / half-life, per nanosecond.
    Decay(f64),
}

/// Parameters as the user writes them: `detect.ewma = { half_life = "10m", suspect = 5.0 }`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct EwmaRaw {
    /// Time after which a sample weighs half.
    #[serde(default)]
    pub half_life: Option<Span>,
    /// Weight of each sample, instead of `half_life`.
    #[serde(default)]
    pub alpha: Option<Positive>,
    /// Farther than this many standard deviations is `Suspect`. Absent: never.
    #[serde(default)]
    pub suspect: Option<Positive>,
    /// Farther than this many standard deviations is `Fail`. Absent: never.
    #[serde(default)]
    pub fail: Option<Positive>,
    /// Samples learned before anything is judged.
    #[serde(default = "default_warm_up")]
    pub warm_up: u32,
    /// Which samples are learned.
    #[serde(default)]
    pub freeze: Freeze,
    /// Which side counts.
    #[serde(default)]
    pub direction: Direction,
    /// Deviations up to this much, in the unit of the tag, are good whatever the standard deviation.
    #[serde(default)]
    pub min_deviation: f64,
    /// After this time of nothing but abnormal samples at a steady level, that level is the baseline. Absent: never.
    #[serde(default)]
    pub relearn: Option<Span>,
}
checked_at_parse!(EwmaRaw);

fn default_warm_up() -> u32 {
    60
}

impl EwmaRaw {
    /// Checks what concerns more than one field.
    ///
    /// # Errors
    /// When not exactly one of `half_life` and `alpha` is given, no limit is given, limits are swapped, or a number is out
    /// of its range.
    pub fn validate(&self) -> Result<(), ParamError> {
        match (self.half_life, self.alpha) {
            (Some(half_life), None) => half_life.positive_ns().map(|_| ())?,
            (None, Some(alpha)) if alpha.get() <= 1.0 => {}
            (None, Some(alpha)) => {
                let (least, most, got) = (0.0, 1.0, alpha.get());
                return Err(ParamError::OutOfRange { field: "alpha", least, most, got });
            }
            _ => return Err(ParamError::NotOneOf { fields: "`half_life`, `alpha`" }),
        }
        limits_ordered(self.suspect, self.fail)?;
        min_deviation_allowed(self.min_deviation)?;
        if let Some(relearn) = self.relearn {
            relearn.positive_ns()?;
        }
        if self.warm_up < 2 {
            let (most, got) = (f64::from(u32::MAX), f64::from(self.warm_up));
            return Err(ParamError::OutOfRange { field: "warm_up", least: 2.0, most, got });
        }
        Ok(())
    }
}

/// What is remembered per tag: the baseline, and the spell of abnormal samples under way.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct EwmaState {
    mean: f64,
    variance: f64,
    /// Time of the last learned sample.
    learned_ts: i64,
    /// Samples learned, up to `warm_up`.
    count: u64,
    /// Time of the first sample of the spell.
    spell_ts: i64,
    spell_count: u64,
    spell_mean: f64,
    /// Sum of squares about the mean of the spell.
    spell_squares: f64,
}
impl Plain for EwmaState {}

impl Detector for Ewma {
    const KIND: &'static str = "ewma";
    const STAGE: Stage = Stage::Learning;
    type Raw = EwmaRaw;
    type State = EwmaState;

    fn bind(raw: &EwmaRaw, _row: &dyn Columns) -> Result<Self, ParamError> {
        raw.validate()?;
        let memory = match (raw.half_life, raw.alpha) {
            (Some(half_life), _) => Memory::Decay(std::f64::consts::LN_2 / half_life.to_ns() as f64),
            (None, alpha) => Memory::Alpha(alpha.map_or(1.0, Positive::get)),
        };
        let or_never = |limit: Option<Positive>| limit.map_or(f64::INFINITY, Positive::get);
        Ok(Ewma {
            memory,
            suspect: or_never(raw.suspect.or(raw.fail)),
            fail: or_never(raw.fail),
            warm_up: u64::from(raw.warm_up),
            freeze: raw.freeze,
            direction: raw.direction,
            min_deviation: raw.min_deviation,
            relearn_ns: raw.relearn.map(Span::to_ns),
        })
    }

    fn judge(
        &self,
        state: &mut EwmaState,
        _window: &mut [f64],
        samples: Samples<'_>,
        out: &mut Verdicts<'_>,
    ) {
        samples.assert_shape(out.flags);
        let mut now = *state;
        let mut weight = Weight::new(self.memory);
        for i in 0..samples.len() {
            let (ts, x) = (samples.ts[i], samples.value[i]);
            if x.is_nan() {
                out.flags[i] = Flag::Missing;
                continue;
            }
            let flag = self.compare(&now, i, x, out);
            if x.abs() > HUGE {
                continue;
            }
            if self.freeze.learns(flag, samples.trusted[i]) {
                learn(&mut now, ts, x, &mut weight, self.warm_up);
            }
            if let Some(relearn_ns) = self.relearn_ns {
                self.follow_spell(&mut now, ts, x, flag, relearn_ns);
            }
        }
        *state = now;
    }

    fn command(&self, state: &mut EwmaState, _window: &mut [f64], command: TagCommand) {
        match command {
            TagCommand::Rebaseline => *state = EwmaState::zeroed(),
        }
    }

    fn remaining(&self, state: &EwmaState) -> Option<u64> {
        (state.count < self.warm_up).then(|| self.warm_up - state.count)
    }
}

impl Ewma {
    /// Sets and gives the flag of sample `i`.
    #[inline]
    fn compare(&self, now: &EwmaState, i: usize, x: f64, out: &mut Verdicts<'_>) -> Flag {
        if now.count < self.warm_up {
            out.flags[i] = Flag::NotEvaluated;
            return Flag::NotEvaluated;
        }
        let variance = now.variance.max(floor(now.mean));
        let deviation = if x.abs() > HUGE { x * f64::INFINITY } else { x - now.mean };
        let part = self.direction.part(deviation);
        let least = self.min_deviation * self.min_deviation;
        let beyond = |k: f64| (part > 0.0) & (part * part > (k * k * variance).max(least));
        let flag = if !beyond(self.suspect) {
            Flag::Good
        } else if (self.fail.is_finite() & part.is_infinite()) | beyond(self.fail) {
            Flag::Fail
        } else {
            Flag::Suspect
        };
        out.set(i, flag, || {
            let z = bounded(deviation / variance.max(f64::MIN_POSITIVE).sqrt());
            let (lo, hi) = self.direction.band(if flag == Flag::Fail { self.fail } else { self.suspect });
            (z, lo, hi, score_of(self.direction.part(z), self.suspect))
        });
        flag
    }

    /// Counts a spell of abnormal samples; a steady one that has lasted long enough becomes the baseline.
    fn follow_spell(&self, now: &mut EwmaState, ts: i64, x: f64, flag: Flag, relearn_ns: i64) {
        if !flag.is_bad() {
            now.spell_count = 0;
            return;
        }
        if now.spell_count == 0 {
            (now.spell_ts, now.spell_mean, now.spell_squares) = (ts, 0.0, 0.0);
        }
        now.spell_count += 1;
        let from_mean = x - now.spell_mean;
        now.spell_mean += from_mean / now.spell_count as f64;
        now.spell_squares += from_mean * (x - now.spell_mean);
        if ts.saturating_sub(now.spell_ts) < relearn_ns || now.spell_count < self.warm_up {
            return;
        }
        let variance = now.spell_squares / (now.spell_count as f64 - 1.0);
        let usual = now.variance.max(floor(now.mean)).max(floor(now.spell_mean));
        let steady =
            variance <= usual * STEADY_VARIANCE || variance <= self.min_deviation * self.min_deviation;
        if steady {
            (now.mean, now.variance, now.learned_ts) = (now.spell_mean, variance, ts);
        }
        // Not steady: the next spell is measured afresh, so the wait is bounded once the level settles.
        now.spell_count = 0;
    }
}

/// Smallest variance at a level.
#[inline]
fn floor(level: f64) -> f64 {
    level * level * (FLOOR * FLOOR)
}

#[inline]
fn learn(now: &mut EwmaState, ts: i64, x: f64, weight: &mut Weight, warm_up: u64) {
    let dt = if now.count == 0 { 0 } else { ts.saturating_sub(now.learned_ts).max(0) };
    let mut alpha = weight.after(dt);
    if now.count < warm_up {
        now.count += 1;
        alpha = alpha.max(1.0 / now.count as f64);
    }
    let deviation = x - now.mean;
    let step = alpha * deviation;
    now.mean += step;
    now.variance = (1.0 - alpha) * (now.variance + deviation * step);
    now.learned_ts = ts;
}

/// Weight of a sample by the time since the one before; the last answer is kept, for steady sampling repeats it.
struct Weight {
    memory: Memory,
    dt: i64,
    alpha: f64,
}

impl Weight {
    fn new(memory: Memory) -> Self {
        let alpha = match memory {
            Memory::Alpha(alpha) => alpha,
            Memory::Decay(_) => 0.0,
        };
        Self { memory, dt: 0, alpha }
    }

    #[inline]
    fn after(&mut self, dt: i64) -> f64 {
        if let Memory::Decay(per_ns) = self.memory
            && dt != self.dt
        {
            (self.dt, self.alpha) = (dt, -libm::expm1(-(dt as f64) * per_ns));
        }
        self.alpha
    }
}

/// A spell is steady when its variance is at most this many times the usual one: three times the deviation.
const STEADY_VARIANCE: f64 = 9.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::tests::{bound, judge_all, seconds};

    /// Noise without randomness: -1 to 1.
    fn noise(i: usize) -> f64 {
        ((i * 7919 % 1000) as f64) / 500.0 - 1.0
    }

    /// Given warm-up and noise, then nothing is flagged until a spike, and the spike is not learned.
    #[test]
    fn a_spike_is_found_and_not_learned() {
        let d: Ewma = bound(r#"{"half_life": "10m", "suspect": 5, "fail": 20}"#);
        let mut value: Vec<f64> = (0..500).map(noise).collect();
        (value[300], value[400], value[450]) = (6.0, 60.0, f64::NEG_INFINITY);
        let (flags, evidence) = judge_all(&d, &seconds(500), &value);
        assert!(flags[..60].iter().all(|&f| f == Flag::NotEvaluated));
        let bad: Vec<(u32, Flag)> = evidence.iter().map(|e| (e.slot, e.flag)).collect();
        assert_eq!(bad, [(300, Flag::Suspect), (400, Flag::Fail), (450, Flag::Fail)]);
        assert!(evidence.iter().all(|e| (0.75..=1.0).contains(&e.score) && e.statistic.is_finite()));
    }

    /// Given a lasting step, then it is flagged for `relearn` and is the baseline after; without `relearn` it stays flagged.
    #[test]
    fn a_steady_new_level_is_relearned_within_its_bound() {
        let value: Vec<f64> = (0..1000).map(|i| noise(i) + if i < 300 { 0.0 } else { 50.0 }).collect();
        let bad = |json: &str| {
            let (flags, _) = judge_all(&bound::<Ewma>(json), &seconds(1000), &value);
            flags.iter().filter(|f| f.is_bad()).count()
        };
        assert_eq!(bad(r#"{"alpha": 0.01, "suspect": 6}"#), 700);
        assert_eq!(bad(r#"{"alpha": 0.01, "suspect": 6, "relearn": "2m"}"#), 121);
    }

    /// Given the same signal sampled twice as often, then the memory in time is the same.
    #[test]
    fn the_half_life_does_not_depend_on_the_sampling() {
        let mean = |step_ns: i64| {
            let d: Ewma = bound(r#"{"half_life": "10s", "suspect": 9, "freeze": "never", "warm_up": 2}"#);
            let n = 100_000_000_000 / step_ns;
            let (mut state, mut weight) = (EwmaState::zeroed(), Weight::new(d.memory));
            for i in 0..=n {
                let ts = i * step_ns;
                learn(&mut state, ts, if ts <= 90_000_000_000 { 0.0 } else { 1.0 }, &mut weight, 2);
            }
            state.mean
        };
        assert!((mean(1_000_000_000) - 0.5).abs() < 1e-9);
        assert!((mean(500_000_000) - 0.5).abs() < 1e-9);
    }

    /// Given both memories or none, then the parameters are refused.
    #[test]
    fn exactly_one_memory_is_needed() {
        for bad in [
            r#"{"suspect": 4}"#,
            r#"{"suspect": 4, "alpha": 0.1, "half_life": "1m"}"#,
            r#"{"suspect": 4, "alpha": 1.5}"#,
            r#"{"alpha": 0.5}"#,
            r#"{"suspect": 4, "alpha": 0.1, "warm_up": 1}"#,
        ] {
            assert!(serde_json::from_str::<EwmaRaw>(bad).is_err(), "{bad}");
        }
    }
}
