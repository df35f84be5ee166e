//! Autoregression: the next value from the last few, learned as it goes, and stepped forward to the horizon.
//!
//! Good for short horizons of a tag with momentum; over long ones it falls back to the mean it has learned. The weights are
//! learned by recursive least squares with forgetting, on values scaled by a slow mean and deviation. A tick that was left
//! out breaks the chain: weights are learned again once `order` ticks have followed each other.
//! Source: recursive least squares with exponential forgetting, e.g. Ljung, System Identification.

use crate::forecast::hold::Origins;
use crate::forecast::interval::Intervals;
use crate::forecast::{Forecast, HUGE, common_allowed, ticks_between};
use crate::params::{ParamError, Span, checked_at_parse};
use crate::vote::Estimate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Parameters and state. Invariant: no number in it is NaN or infinite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ar {
    order: u32,
    period_ns: i64,
    max_horizon_ns: i64,
    min_training: u64,
    /// Last learned tick; meaningless while `learned` is 0.
    t_ns: i64,
    learned: u64,
    mean: f64,
    variance: f64,
    /// Last values, newest first; at most `order`, all one tick apart.
    recent: Vec<f64>,
    /// Weights of the scaled recent values.
    weights: Vec<f64>,
    /// Inverse covariance of recursive least squares, row by row.
    spread: Vec<f64>,
    /// Lowest and highest learned value, which slowly close in: predictions stay near them.
    lowest: f64,
    highest: f64,
    /// Predictions that have not matured, for each horizon.
    pending: Vec<Origins>,
    intervals: Intervals,
}

/// Parameters as the user writes them: `ar = { order = 3, max_horizon = "1h" }`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, remote = "Self")]
pub struct ArRaw {
    /// Number of past values the next one depends on.
    pub order: u32,
    /// Longest horizon that is served.
    pub max_horizon: Span,
    /// Share of true values that the interval is to hold.
    pub coverage: f64,
    /// Ticks to learn before anything is served.
    pub min_training: u32,
}
checked_at_parse!(ArRaw);

impl Default for ArRaw {
    fn default() -> Self {
        let max_horizon = Span::from_ns(3_600_000_000_000);
        Self { order: 3, max_horizon, coverage: 0.95, min_training: 200 }
    }
}

impl ArRaw {
    /// Checks each field.
    ///
    /// # Errors
    /// When a number is out of its range.
    pub fn validate(&self) -> Result<(), ParamError> {
        if !(1..=MAX_ORDER as u32).contains(&self.order) {
            let (most, got) = (MAX_ORDER as f64, f64::from(self.order));
            return Err(ParamError::OutOfRange { field: "order", least: 1.0, most, got });
        }
        common_allowed(self.max_horizon, self.coverage, self.min_training, 2 * self.order)
    }
}

impl Ar {
    /// A forecast that has learned nothing, for ticks of `period_ns`.
    ///
    /// # Errors
    /// When a field is wrong, or the period is not positive.
    pub fn new(raw: &ArRaw, period_ns: i64) -> Result<Self, ParamError> {
        raw.validate()?;
        let period_ns = Span::from_ns(period_ns).positive_ns()?;
        let max_horizon_ns = raw.max_horizon.to_ns();
        let intervals = Intervals::new(raw.coverage, (max_horizon_ns / period_ns).max(1) as u64);
        let order = raw.order as usize;
        // Before anything is learned it is persistence.
        let weights = (0..order).map(|i| if i == 0 { 1.0 } else { 0.0 }).collect();
        Ok(Self {
            order: raw.order,
            period_ns,
            max_horizon_ns,
            min_training: u64::from(raw.min_training),
            t_ns: 0,
            learned: 0,
            mean: 0.0,
            variance: 0.0,
            recent: Vec::with_capacity(order),
            weights,
            spread: fresh_spread(order),
            lowest: 0.0,
            highest: 0.0,
            pending: vec![Origins::default(); intervals.horizons().len()],
            intervals,
        })
    }

    /// The deviation that scales values; positive.
    fn scale(&self) -> f64 {
        let floor = (self.mean.abs() * 1e-9).max(1e-150);
        self.variance.sqrt().max(floor)
    }

    /// Recursive least squares: one step with the scaled recent values and the scaled new one.
    fn update_weights(&mut self, value: f64) {
        let n = self.order as usize;
        let (mean, scale) = (self.mean, self.scale());
        let scaled = |x: f64| ((x - mean) / scale).clamp(-CLIP, CLIP);
        let mut input = [0.0; MAX_ORDER];
        for (u, &x) in input.iter_mut().zip(&self.recent) {
            *u = scaled(x);
        }
        let dot = |a: &[f64]| a.iter().zip(&input).map(|(a, b)| a * b).sum::<f64>();
        let mut gain = [0.0; MAX_ORDER];
        for (i, g) in gain[..n].iter_mut().enumerate() {
            *g = dot(&self.spread[i * n..(i + 1) * n]);
        }
        let divisor = FORGETTING + dot(&gain[..n]);
        let miss = scaled(value) - dot(&self.weights);
        for i in 0..n {
            self.weights[i] += gain[i] / divisor * miss;
            for j in 0..n {
                let p = &mut self.spread[i * n + j];
                *p = (*p - gain[i] * gain[j] / divisor) / FORGETTING;
            }
        }
        let sound = self.weights.iter().all(|w| w.abs() <= 1e3)
            && self.spread.iter().all(|p| p.abs() <= MOST_SPREAD)
            && (0..n).all(|i| self.spread[i * n + i] > 0.0);
        if !sound {
            // Wound up by a value that does not move, or by rounding: keep sane weights, forget the confidence.
            self.spread = fresh_spread(n);
            if !self.weights.iter().all(|w| w.abs() <= 1e3) {
                self.weights = (0..n).map(|i| if i == 0 { 1.0 } else { 0.0 }).collect();
            }
        }
    }

    /// Calls `at` with each number of ticks ahead and the value expected there, from the current origin.
    fn step_forward(&self, ticks: u64, mut at: impl FnMut(u64, f64)) {
        let n = self.recent.len();
        let (mean, scale) = (self.mean, self.scale());
        let reach = self.highest - self.lowest;
        let (lo, hi) = (self.lowest - reach, self.highest + reach);
        let mut last = [0.0; MAX_ORDER];
        for (u, &x) in last.iter_mut().zip(&self.recent) {
            *u = (x - mean) / scale;
        }
        // After a break there are fewer values than weights: the oldest stands for those before it.
        let oldest = last[n.max(1) - 1];
        last[n.max(1)..].fill(oldest);
        for tick in 1..=ticks {
            let next: f64 = self.weights.iter().zip(&last).map(|(w, u)| w * u).sum();
            let value = (mean + scale * next).clamp(lo, hi);
            last.copy_within(..MAX_ORDER - 1, 1);
            last[0] = (value - mean) / scale;
            at(tick, value);
        }
    }

    fn longest_ticks(&self) -> u64 {
        ((self.max_horizon_ns / self.period_ns).max(1) as u64).min(MAX_STEPS)
    }

    fn learn_level(&mut self, value: f64) {
        let weight = (1.0 / (self.learned as f64 + 1.0)).max(LEVEL_WEIGHT);
        let deviation = value - self.mean;
        let step = weight * deviation;
        self.mean += step;
        self.variance = (1.0 - weight) * (self.variance + deviation * step);
        if self.learned == 0 {
            (self.lowest, self.highest) = (value, value);
        }
        let inward = (self.highest - self.lowest) * (LEVEL_WEIGHT * 0.1);
        self.lowest = (self.lowest + inward).min(value);
        self.highest = (self.highest - inward).max(value);
    }

    /// Notes what the model expects from here, one prediction for each horizon whose list has room.
    fn note_predictions(&mut self) {
        let horizons = self.intervals.horizons();
        let mut expected = [0.0; crate::forecast::interval::GRID.len()];
        let most = horizons.last().copied().unwrap_or(0).min(MAX_STEPS);
        self.step_forward(most, |tick, value| {
            if let Ok(k) = horizons.binary_search(&tick) {
                expected[k] = value;
            }
        });
        for (k, &h) in horizons.iter().enumerate() {
            let horizon_ns = self.period_ns.saturating_mul(h as i64);
            self.pending[k].wait(self.t_ns, expected[k], horizon_ns);
        }
    }
}

impl Forecast for Ar {
    fn learn(&mut self, t_ns: i64, value: f64) {
        if value.is_nan() || value.abs() > HUGE || (self.learned > 0 && t_ns <= self.t_ns) {
            return;
        }
        for (k, &h) in self.intervals.horizons().iter().enumerate() {
            let horizon_ns = self.period_ns.saturating_mul(h as i64);
            if let Some(expected) = self.pending[k].mature(t_ns, horizon_ns, self.period_ns) {
                self.intervals.miss(k, value - expected);
            }
        }
        if self.learned > 0 && ticks_between(self.t_ns, t_ns, self.period_ns) != Some(1) {
            self.recent.clear();
        }
        if self.recent.len() == self.order as usize && self.learned >= u64::from(2 * self.order) {
            self.update_weights(value);
        }
        self.learn_level(value);
        self.recent.truncate(self.order as usize - 1);
        self.recent.insert(0, value);
        self.t_ns = t_ns;
        self.learned = self.learned.saturating_add(1);
        if self.learned >= self.min_training / 2 && self.learned.is_multiple_of(NOTE_EVERY) {
            self.note_predictions();
        }
    }

    fn predict(&self, t_ns: i64) -> Option<Estimate> {
        let horizon_ns = t_ns.checked_sub(self.t_ns)?;
        if !self.ready() || horizon_ns > self.max_horizon_ns {
            return None;
        }
        let ticks = ticks_between(self.t_ns, t_ns, self.period_ns)?;
        let half = self.intervals.half_width(ticks)?;
        let mut value = self.mean;
        self.step_forward(ticks.min(self.longest_ticks()), |_, expected| value = expected);
        Some(Estimate { value, lo: value - half, hi: value + half, horizon_ns })
    }

    fn ready(&self) -> bool {
        self.learned >= self.min_training && self.intervals.ready()
    }

    fn max_horizon_ns(&self) -> i64 {
        self.max_horizon_ns
    }

    /// The origin is the last learned value: nothing to do.
    fn start(&mut self, _t_ns: i64) {}
}

fn fresh_spread(n: usize) -> Vec<f64> {
    (0..n * n).map(|i| if i % (n + 1) == 0 { 10.0 } else { 0.0 }).collect()
}

/// Most past values.
const MAX_ORDER: usize = 16;
/// Weight that older ticks keep at each new one: a memory of 2,000 ticks.
const FORGETTING: f64 = 1.0 - 1.0 / 2000.0;
/// Least weight of a new value in the mean and deviation that scale.
const LEVEL_WEIGHT: f64 = 1.0 / 2000.0;
/// Scaled values beyond this are learned as this.
const CLIP: f64 = 10.0;
/// Beyond this the inverse covariance is wound up.
const MOST_SPREAD: f64 = 1e4;
/// Most steps of one prediction; beyond, the expected value no longer changes.
const MAX_STEPS: u64 = 2048;
/// Predictions are noted for calibration once in this many learned ticks.
const NOTE_EVERY: u64 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::tests::{Noise, coverage};

    fn ar(json: &str) -> Ar {
        Ar::new(&serde_json::from_str(json).unwrap(), 1).unwrap()
    }

    fn oscillation(n: usize) -> Vec<f64> {
        let (mut noise, mut a, mut b) = (Noise(3), 0.0, 0.0);
        (0..n)
            .map(|_| {
                (a, b) = (1.6 * a - 0.8 * b + noise.next(), a);
                20.0 + a
            })
            .collect()
    }

    /// Given an oscillation with noise, then the weights are found, and the next value is told better than by holding.
    #[test]
    fn weights_are_found() {
        let (mut model, value) = (ar(r#"{"order": 2, "max_horizon": "20ns"}"#), oscillation(5000));
        let (mut told, mut held) = (0.0, 0.0);
        for (t, &x) in value.iter().enumerate() {
            if t > 1000 {
                told += (model.predict(t as i64).unwrap().value - x).abs();
                held += (value[t - 1] - x).abs();
            }
            model.learn(t as i64, x);
        }
        assert!(
            (model.weights[0] - 1.6).abs() < 0.1 && (model.weights[1] + 0.8).abs() < 0.1,
            "{:?}",
            model.weights
        );
        assert!(told < 0.7 * held, "{told} {held}");
    }

    /// Given an oscillation with noise, then 95 % intervals hold about 95 % at each horizon.
    #[test]
    fn intervals_hold_what_they_say() {
        let value = oscillation(20_000);
        for h in [1, 5, 20] {
            let share = coverage(ar(r#"{"max_horizon": "20ns"}"#), &value, h);
            assert!((0.92..0.98).contains(&share), "{h}: {share}");
        }
    }

    /// Given a constant, wild values and lost ticks, then nothing in the state ever stops being a number.
    #[test]
    fn the_state_stays_finite() {
        let (mut model, mut noise) = (ar(r#"{"max_horizon": "100ns", "min_training": 20}"#), Noise(1));
        for t in 0..6000i64 {
            let x = match t {
                0..2000 => 5.0,
                2000..2100 => 1e139 * noise.next(),
                3000 => f64::NAN,
                3001 => f64::INFINITY,
                _ => noise.next(),
            };
            if t % 97 != 0 {
                model.learn(t, x);
            }
            if let Some(e) = model.predict(t + 50) {
                assert!(e.value.is_finite() && e.lo <= e.value && e.value <= e.hi);
            }
        }
        let json = serde_json::to_string(&model).unwrap();
        assert!(!json.contains("null"));
        assert!(serde_json::from_str::<Ar>(&json).is_ok());
    }
}
