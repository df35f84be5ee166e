//! Z-score: how far a value lies from the mean of the samples before it, in standard deviations.
//!
//! Finds spikes, steps and bursts against a sliding window of `window` samples or of a length of time. Blind to a drift
//! slower than the window, and after a lasting step (with `freeze = "own"`) to everything but the step: rebaseline.
//! A sample is never part of the window it is judged against. Until `min_samples` are in the window it is `NotEvaluated`.
//! A constant window has a deviation of 1e-9 of its level, so that rounding is not a finding and any true change is.
//! A value that is infinite or beyond 1e140 gets the most severe flag configured and is never learned.

use crate::detect::{Columns, Detector, Direction, Freeze, Plain, Stage, TagCommand};
use crate::params::{ParamError, Positive, Span, checked_at_parse};
use crate::sample::{Flag, Samples, Verdicts, score_of};
use bytemuck::{Pod, Zeroable};
use schemars::JsonSchema;
use serde::Deserialize;

/// Checked parameters. Invariant: `suspect <= fail`, `2 <= min_samples <= capacity`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ZScore {
    capacity: usize,
    /// Length of the window when it is a length of time.
    window_ns: Option<i64>,
    suspect: f64,
    fail: f64,
    min_samples: u64,
    freeze: Freeze,
    direction: Direction,
    min_deviation: f64,
}

/// Parameters as the user writes them: `detect.zscore = { window = 600, suspect = 4.0 }`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct ZScoreRaw {
    /// Samples before the judged one: a number of samples (`600`) or a length of time (`"10m"`).
    pub window: Window,
    /// Farther than this many standard deviations is `Suspect`. Absent: never.
    #[serde(default)]
    pub suspect: Option<Positive>,
    /// Farther than this many standard deviations is `Fail`. Absent: never.
    #[serde(default)]
    pub fail: Option<Positive>,
    /// Samples the window must hold before anything is judged.
    #[serde(default = "default_min_samples")]
    pub min_samples: u32,
    /// Which samples enter the window.
    #[serde(default)]
    pub freeze: Freeze,
    /// Which side counts.
    #[serde(default)]
    pub direction: Direction,
    /// Deviations up to this much, in the unit of the tag, are good whatever the standard deviation.
    #[serde(default)]
    pub min_deviation: f64,
    /// Most samples kept when `window` is a length of time; the oldest go first.
    #[serde(default = "default_max_samples")]
    pub max_samples: u32,
}
checked_at_parse!(ZScoreRaw);

/// A number of samples, or a length of time.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a number of samples such as 600, or a duration such as \"10m\"")]
pub enum Window {
    /// A number of samples.
    Samples(u32),
    /// A length of time.
    Time(Span),
}

fn default_min_samples() -> u32 {
    30
}

fn default_max_samples() -> u32 {
    4096
}

impl ZScoreRaw {
    /// Checks what concerns more than one field.
    ///
    /// # Errors
    /// When no limit is given, limits are swapped, or a size is out of its range.
    pub fn validate(&self) -> Result<(), ParamError> {
        limits_ordered(self.suspect, self.fail)?;
        min_deviation_allowed(self.min_deviation)?;
        let size = |field, got: u32, least: u32| {
            if (least..=MAX_WINDOW).contains(&got) {
                return Ok(());
            }
            let (least, most, got) = (f64::from(least), f64::from(MAX_WINDOW), f64::from(got));
            Err(ParamError::OutOfRange { field, least, most, got })
        };
        size("max_samples", self.max_samples, 2)?;
        let capacity = match self.window {
            Window::Samples(n) => size("window", n, 2).map(|()| n)?,
            Window::Time(span) => span.positive_ns().map(|_| self.max_samples)?,
        };
        if !(2..=capacity).contains(&self.min_samples) {
            let (most, got) = (f64::from(capacity), f64::from(self.min_samples));
            return Err(ParamError::OutOfRange { field: "min_samples", least: 2.0, most, got });
        }
        Ok(())
    }
}

/// At least one limit, and `suspect <= fail`.
pub(crate) fn limits_ordered(suspect: Option<Positive>, fail: Option<Positive>) -> Result<(), ParamError> {
    match (suspect, fail) {
        (None, None) => Err(ParamError::NoneOf { fields: "`suspect`, `fail`" }),
        (Some(low), Some(high)) if low > high => {
            Err(ParamError::Inverted { lower: "suspect", low: low.get(), upper: "fail", high: high.get() })
        }
        _ => Ok(()),
    }
}

/// Not negative, not NaN, not beyond what is judged.
pub(crate) fn min_deviation_allowed(got: f64) -> Result<(), ParamError> {
    if (0.0..=HUGE).contains(&got) {
        return Ok(());
    }
    Err(ParamError::OutOfRange { field: "min_deviation", least: 0.0, most: HUGE, got })
}

/// What is remembered per tag, beside the window: running sums of the window about a centre.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct ZScoreState {
    /// Samples in the window.
    count: u64,
    /// Where the next sample goes.
    head: u64,
    /// What is subtracted before summing, so that sums keep their digits.
    centre: f64,
    /// Sum of (x − centre).
    sum: f64,
    /// Sum of (x − centre)².
    sum_squares: f64,
    /// Samples added since the sums were last made afresh.
    added: u64,
}
impl Plain for ZScoreState {}

impl Detector for ZScore {
    const KIND: &'static str = "zscore";
    const STAGE: Stage = Stage::Learning;
    type Raw = ZScoreRaw;
    type State = ZScoreState;

    fn bind(raw: &ZScoreRaw, _row: &dyn Columns) -> Result<Self, ParamError> {
        raw.validate()?;
        let (capacity, window_ns) = match raw.window {
            Window::Samples(n) => (n as usize, None),
            Window::Time(span) => (raw.max_samples as usize, Some(span.to_ns())),
        };
        let or_never = |limit: Option<Positive>| limit.map_or(f64::INFINITY, Positive::get);
        Ok(ZScore {
            capacity,
            window_ns,
            suspect: or_never(raw.suspect.or(raw.fail)),
            fail: or_never(raw.fail),
            min_samples: u64::from(raw.min_samples),
            freeze: raw.freeze,
            direction: raw.direction,
            min_deviation: raw.min_deviation,
        })
    }

    fn window_len(&self) -> usize {
        if self.window_ns.is_some() { 2 * self.capacity } else { self.capacity }
    }

    fn window_needed(&self, state: &ZScoreState, samples: usize) -> usize {
        // A window of samples fills from the front and stays full.
        match self.window_ns {
            None => self.capacity.min(state.count as usize + samples),
            Some(_) => self.window_len(),
        }
    }

    fn next_in_window(&self, state: &ZScoreState) -> usize {
        state.head as usize
    }

    fn judge(
        &self,
        state: &mut ZScoreState,
        window: &mut [f64],
        samples: Samples<'_>,
        out: &mut Verdicts<'_>,
    ) {
        samples.assert_shape(out.flags);
        assert!(window.len() >= self.window_needed(state, samples.len()), "the window is too short");
        let (values, times) = window.split_at_mut(self.capacity.min(window.len()));
        let sums = Sums { state: *state, values, times };
        *state = match self.window_ns {
            None => self.judge_in::<false>(0, sums, samples, out),
            Some(window_ns) => self.judge_in::<true>(window_ns, sums, samples, out),
        };
    }

    fn command(&self, state: &mut ZScoreState, window: &mut [f64], command: TagCommand) {
        match command {
            TagCommand::Rebaseline => {
                *state = ZScoreState::zeroed();
                window.fill(0.0);
            }
        }
    }

    fn remaining(&self, state: &ZScoreState) -> Option<u64> {
        (state.count < self.min_samples).then(|| self.min_samples - state.count)
    }
}

impl ZScore {
    #[inline]
    fn judge_in<const BY_TIME: bool>(
        &self,
        window_ns: i64,
        mut sums: Sums<'_>,
        samples: Samples<'_>,
        out: &mut Verdicts<'_>,
    ) -> ZScoreState {
        let suspect_squared = self.suspect * self.suspect;
        let least_squared = self.min_deviation * self.min_deviation;
        let full = (1.0 / self.capacity as f64, 1.0 / (self.capacity as f64 - 1.0));
        let capacity = self.capacity as u64;
        let mut i = 0;
        while i < samples.len() {
            if !BY_TIME && sums.state.count == capacity && !out.explains(Flag::Good) {
                let quiet = self.judge_quiet(full, &mut sums, &samples, i);
                out.flags[i..i + quiet].fill(Flag::Good);
                i += quiet;
                if i == samples.len() {
                    break;
                }
            }
            let at = i;
            i += 1;
            let (i, ts, x) = (at, samples.ts[at], samples.value[at]);
            if x.is_nan() {
                out.flags[i] = Flag::Missing;
                continue;
            }
            if BY_TIME {
                sums.expire(ts, window_ns);
            }
            if x.abs() > HUGE {
                self.judge_huge(i, x, sums.state.count, out);
                continue;
            }
            let mut flag = Flag::NotEvaluated;
            let count = sums.state.count;
            if count >= self.min_samples {
                let (per_n, per_freedom) =
                    if count == capacity { full } else { (1.0 / count as f64, 1.0 / (count as f64 - 1.0)) };
                let ZScoreState { centre, sum, sum_squares, .. } = sums.state;
                let offset = sum * per_n;
                let level = centre + offset;
                let floor = (level * level + offset * offset) * (FLOOR * FLOOR);
                let variance = ((sum_squares - sum * offset) * per_freedom).max(floor);
                let deviation = (x - centre) - offset;
                let part = self.direction.part(deviation);
                let allowed = (suspect_squared * variance).max(least_squared);
                flag = Flag::Good;
                if (part > 0.0) & (part * part > allowed) {
                    let fails = part * part > (self.fail * self.fail * variance).max(least_squared);
                    flag = if fails { Flag::Fail } else { Flag::Suspect };
                }
                out.set(i, flag, || {
                    let z = bounded(deviation / variance.max(f64::MIN_POSITIVE).sqrt());
                    let k = if flag == Flag::Fail { self.fail } else { self.suspect };
                    let (lo, hi) = self.direction.band(k);
                    (z, lo, hi, score_of(self.direction.part(z), self.suspect))
                });
            } else {
                out.flags[i] = flag;
            }
            if self.freeze.learns(flag, samples.trusted[i]) {
                sums.push::<BY_TIME>(ts, x, capacity);
            }
        }
        sums.state
    }

    /// Judges and learns samples from `from` on against a full window, as long as each is good, is learned and calls for
    /// nothing else; gives how many. What it computes is what [`judge_in`](Self::judge_in) computes, in the same order.
    #[inline]
    fn judge_quiet(
        &self,
        (per_n, per_freedom): (f64, f64),
        sums: &mut Sums<'_>,
        samples: &Samples<'_>,
        from: usize,
    ) -> usize {
        let suspect_squared = self.suspect * self.suspect;
        let least_squared = self.min_deviation * self.min_deviation;
        let ZScoreState { count, head, centre, mut sum, mut sum_squares, added } = sums.state;
        let (n, head) = (count as f64, head as usize);
        let least_old = centre.abs() * (FLOOR * 0.1);
        let before_sums = count.max(LEAST_BETWEEN_SUMS).saturating_sub(added + 1) as usize;
        let many = (samples.len() - from).min(sums.values.len() - head).min(before_sums);
        let (value, trusted) = (&samples.value[from..from + many], &samples.trusted[from..from + many]);
        let (turned, kept) = self.direction.masks();
        let learns_any = self.freeze.learns(Flag::Good, false);
        let mut done = 0;
        for ((&x, &trusted), slot) in value.iter().zip(trusted).zip(&mut sums.values[head..head + many]) {
            let offset = sum * per_n;
            let level = centre + offset;
            let floor = (level * level + offset * offset) * (FLOOR * FLOOR);
            let variance = at_least((sum_squares - sum * offset) * per_freedom, floor);
            let deviation = (x - centre) - offset;
            let part = f64::from_bits((deviation.to_bits() ^ turned) & kept);
            let allowed = at_least(suspect_squared * variance, least_squared);
            let flagged = (part > 0.0) & (part * part > allowed);
            let (u, old) = (x - centre, *slot - centre);
            let new_sum = sum + (u - old);
            let new_squares = sum_squares + (u * u - old * old);
            let lost = (n * new_squares - new_sum * new_sum < n * (old * old) * DIGITS_LOST)
                & (old.abs() > least_old);
            let within = x.abs() <= HUGE;
            if flagged | lost | !within | !(learns_any | trusted) {
                break;
            }
            (sum, sum_squares) = (new_sum, new_squares);
            *slot = x;
            done += 1;
        }
        let next = head + done;
        let head = if next == sums.values.len() { 0 } else { next as u64 };
        sums.state = ZScoreState { count, head, centre, sum, sum_squares, added: added + done as u64 };
        done
    }

    #[cold]
    fn judge_huge(&self, i: usize, x: f64, count: u64, out: &mut Verdicts<'_>) {
        if count < self.min_samples {
            out.flags[i] = Flag::NotEvaluated;
            return;
        }
        let part = self.direction.part(x);
        let bad = if self.fail.is_finite() { Flag::Fail } else { Flag::Suspect };
        let flag = if part > 0.0 { bad } else { Flag::Good };
        let (lo, hi) = self.direction.band(if bad == Flag::Fail { self.fail } else { self.suspect });
        let score = if part > 0.0 { 1.0 } else { 0.0 };
        out.set(i, flag, || (bounded(x), lo, hi, score));
    }
}

/// The larger one, and `least` instead of NaN: one instruction, where `f64::max` takes five.
#[inline]
fn at_least(x: f64, least: f64) -> f64 {
    if x > least { x } else { least }
}

/// The window and its sums, while a run is judged.
struct Sums<'a> {
    state: ZScoreState,
    values: &'a mut [f64],
    /// Time of each value, as the bits of an `i64`; empty when the window is a number of samples.
    times: &'a mut [f64],
}

impl Sums<'_> {
    #[inline]
    fn push<const BY_TIME: bool>(&mut self, ts: i64, x: f64, capacity: u64) {
        if self.state.count == 0 {
            // The state starts afresh; the window needs no clearing, nothing of it is read before it is written.
            self.state = ZScoreState { centre: x, ..ZScoreState::zeroed() };
        }
        let head = self.state.head as usize;
        let u = x - self.state.centre;
        let mut lost = false;
        if self.state.count == capacity {
            let old = self.values[head] - self.state.centre;
            self.state.sum += u - old;
            self.state.sum_squares += u * u - old * old;
            lost = self.lost_digits(old);
        } else {
            self.state.sum += u;
            self.state.sum_squares += u * u;
            self.state.count += 1;
        }
        self.values[head] = x;
        if BY_TIME {
            self.times[head] = f64::from_bits(ts as u64);
        }
        self.state.head = if head + 1 == capacity as usize { 0 } else { head as u64 + 1 };
        self.state.added += 1;
        if (self.state.added >= self.state.count.max(LEAST_BETWEEN_SUMS)) | lost {
            self.state = sum_afresh(self.state, self.values);
        }
    }

    /// Removes what is older than the window at `ts`.
    #[inline]
    fn expire(&mut self, ts: i64, window_ns: i64) {
        let mut lost = false;
        while self.state.count > 0 {
            let tail = tail_of(&self.state, self.values.len());
            if ts.saturating_sub(self.times[tail].to_bits() as i64) <= window_ns {
                break;
            }
            let old = self.values[tail] - self.state.centre;
            self.state.sum -= old;
            self.state.sum_squares -= old * old;
            self.state.count -= 1;
            lost |= self.lost_digits(old);
        }
        if lost {
            self.state = sum_afresh(self.state, self.values);
        }
    }

    /// Whether removing `old` (a distance from the centre) left sums that are mostly rounding.
    #[inline]
    fn lost_digits(&self, old: f64) -> bool {
        let ZScoreState { count, centre, sum, sum_squares, .. } = self.state;
        let n = count as f64;
        (n * sum_squares - sum * sum < n * (old * old) * DIGITS_LOST)
            & (old.abs() > centre.abs() * (FLOOR * 0.1))
    }
}

/// Sums the window exactly as it is, about its mean, oldest sample first.
#[cold]
#[inline(never)]
fn sum_afresh(state: ZScoreState, values: &[f64]) -> ZScoreState {
    let (count, tail) = (state.count as usize, tail_of(&state, values.len()));
    if count == 0 {
        return ZScoreState::zeroed();
    }
    let first = (tail + count).min(values.len());
    let parts = [&values[tail..first], &values[..count - (first - tail)]];
    let centre = state.centre + sums_about(state.centre, parts).0 / count as f64;
    let (sum, sum_squares) = sums_about(centre, parts);
    ZScoreState { centre, sum, sum_squares, added: 0, ..state }
}

/// Sum and sum of squares of the distances from `centre`, in four lanes and a fixed order.
fn sums_about(centre: f64, parts: [&[f64]; 2]) -> (f64, f64) {
    let (mut sum, mut squares) = ([0.0; 4], [0.0; 4]);
    for part in parts {
        let (fours, rest) = part.as_chunks::<4>();
        for four in fours {
            for lane in 0..4 {
                let u = four[lane] - centre;
                sum[lane] += u;
                squares[lane] += u * u;
            }
        }
        for &x in rest {
            let u = x - centre;
            sum[0] += u;
            squares[0] += u * u;
        }
    }
    let total = |[a, b, c, d]: [f64; 4]| (a + b) + (c + d);
    (total(sum), total(squares))
}

/// Where the oldest sample of the window lies.
#[inline]
fn tail_of(state: &ZScoreState, capacity: usize) -> usize {
    let (head, count) = (state.head as usize, state.count as usize);
    if head >= count { head - count } else { head + capacity - count }
}

/// A statistic that outputs can always hold.
pub(crate) fn bounded(z: f64) -> f64 {
    z.clamp(-1e9, 1e9)
}

/// Most samples of a window.
const MAX_WINDOW: u32 = 1 << 20;

/// Values beyond this are judged as infinite, so that no square or sum of squares overflows.
pub(crate) const HUGE: f64 = 1e140;

/// Smallest standard deviation, relative to the level.
pub(crate) const FLOOR: f64 = 1e-9;

/// When what stays is this small a part of a removed square, the sums have lost too many digits.
const DIGITS_LOST: f64 = 1e-6;

/// Sums are made afresh no more often than this, unless digits are lost.
const LEAST_BETWEEN_SUMS: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::tests::{bound, judge_all, seconds};
    use proptest::prelude::*;

    fn numbers(flags: &[Flag]) -> Vec<u8> {
        flags.iter().map(|&f| f as u8).collect()
    }

    /// Given a window with a known mean and deviation, then a value just beyond k deviations is flagged, one just within not.
    #[test]
    fn the_comparison_is_with_the_samples_before() {
        let d: ZScore = bound(r#"{"window": 4, "suspect": 2, "fail": 4, "min_samples": 4}"#);
        // mean 1, variance (ddof 1) 4/3: two deviations are 2.309, four are 4.619.
        let before = [0.0, 2.0, 0.0, 2.0];
        for (x, expected) in [(3.309, 1), (3.310, 3), (5.618, 3), (5.620, 4), (-1.310, 3)] {
            let (flags, _) = judge_all(&d, &seconds(5), &[&before[..], &[x]].concat());
            assert_eq!(numbers(&flags), [2, 2, 2, 2, expected], "{x}");
        }
    }

    /// Given a constant window, then the same value is good, one that differs is flagged, and infinity gets the worst flag.
    #[test]
    fn a_constant_window_flags_any_true_change() {
        let d: ZScore = bound(r#"{"window": 8, "suspect": 4, "min_samples": 4}"#);
        let mut value = vec![0.1; 40];
        value[20] = 0.1000001;
        value[30] = f64::INFINITY;
        value[31] = f64::NAN;
        let (flags, evidence) = judge_all(&d, &seconds(40), &value);
        for (i, flag) in flags.iter().enumerate() {
            let expected = match i {
                0..4 => Flag::NotEvaluated,
                20 | 30 => Flag::Suspect,
                31 => Flag::Missing,
                _ => Flag::Good,
            };
            assert_eq!(*flag, expected, "{i}");
        }
        assert!(evidence.iter().all(|e| e.statistic.is_finite() && e.score <= 1.0));
    }

    /// Given a spike of 1e9 that has left a window of small values, then a small spike is found at once.
    #[test]
    fn a_spike_that_left_the_window_leaves_no_rounding() {
        let d: ZScore = bound(r#"{"window": 100, "suspect": 5, "min_samples": 30, "freeze": "never"}"#);
        let mut value: Vec<f64> = (0..400).map(|i| f64::from(i % 7) * 1e-3).collect();
        value[150] = 1e9;
        value[251] = 0.05;
        let (flags, _) = judge_all(&d, &seconds(400), &value);
        let bad: Vec<usize> = (0..400).filter(|&i| flags[i].is_bad()).collect();
        assert_eq!(bad, [150, 251]);
    }

    /// Given a window of ten seconds, when a silence is longer, then the window is empty and nothing is judged.
    #[test]
    fn a_time_window_empties_over_a_silence() {
        let d: ZScore = bound(r#"{"window": "10s", "suspect": 4, "min_samples": 3}"#);
        let s = 1_000_000_000;
        let ts = [0, s, 2 * s, 3 * s, 60 * s, 61 * s, 62 * s, 63 * s];
        let (flags, _) = judge_all(&d, &ts, &[1.0, 2.0, 1.0, 90.0, 90.0, 91.0, 90.0, 1.0]);
        assert_eq!(numbers(&flags), [2, 2, 2, 3, 2, 2, 2, 3]);
    }

    /// Given a lasting step, then with `own` it stays flagged, with `never` it is learned; a rebaseline starts afresh.
    #[test]
    fn freeze_decides_what_is_learned() {
        let value: Vec<f64> =
            (0..200).map(|i| f64::from(i % 3) + if i < 100 { 0.0 } else { 100.0 }).collect();
        let last = |freeze: &str| {
            let d: ZScore = bound(&format!(
                r#"{{"window": 50, "suspect": 6, "freeze": "{freeze}", "direction": "above"}}"#
            ));
            judge_all(&d, &seconds(200), &value).0[199]
        };
        assert_eq!(last("own"), Flag::Suspect);
        assert_eq!(last("never"), Flag::Good);

        let d: ZScore = bound(r#"{"window": 50, "suspect": 6}"#);
        let (mut state, mut window) = (ZScoreState::zeroed(), vec![1.0; 50]);
        state.count = 50;
        d.command(&mut state, &mut window, TagCommand::Rebaseline);
        assert_eq!((d.remaining(&state), window), (Some(30), vec![0.0; 50]));
    }

    /// Given wrong sizes or limits, then the parameters are refused.
    #[test]
    fn wrong_sizes_are_refused() {
        for bad in [
            r#"{"window": 600}"#,
            r#"{"window": 20, "suspect": 4}"#,
            r#"{"window": 1, "suspect": 4, "min_samples": 1}"#,
            r#"{"window": "0s", "suspect": 4}"#,
            r#"{"window": 600, "suspect": 4, "fail": 3}"#,
            r#"{"window": 600, "suspect": 4, "min_deviation": -1}"#,
        ] {
            assert!(serde_json::from_str::<ZScoreRaw>(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        /// Running sums agree with sums made anew for each sample.
        #[test]
        fn flags_equal_those_of_a_naive_twin(
            value in prop::collection::vec(prop_oneof![8 => -3.0..3.0f64, 1 => 50.0..90.0f64], 1..300),
            n in 8usize..40,
        ) {
            let d: ZScore = bound(&format!(
                r#"{{"window": {n}, "suspect": 3.5, "min_samples": 8, "freeze": "never"}}"#
            ));
            let (flags, _) = judge_all(&d, &seconds(value.len()), &value);
            for i in 0..value.len() {
                let before = &value[i.saturating_sub(n)..i];
                if before.len() < 8 {
                    prop_assert_eq!(flags[i], Flag::NotEvaluated);
                    continue;
                }
                let m = before.len() as f64;
                let mean = before.iter().sum::<f64>() / m;
                let s = (before.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / (m - 1.0)).sqrt();
                let margin = (value[i] - mean).abs() - 3.5 * s;
                if margin.abs() > 1e-9 {
                    prop_assert_eq!(flags[i].is_bad(), margin > 0.0, "sample {}", i);
                }
            }
        }
    }
}
