//! Hold: the last good value, with an interval that widens as values have moved in the past.
//!
//! Needs no model, so it is the last rung: right for a tag that moves little, wide for one that does.

use crate::forecast::interval::Intervals;
use crate::forecast::{Forecast, HUGE, common_allowed, ticks_between};
use crate::params::{ParamError, Span, checked_at_parse};
use crate::vote::Estimate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Parameters and state. Invariant: no number in it is NaN or infinite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    period_ns: i64,
    max_horizon_ns: i64,
    min_training: u64,
    /// Last learned tick; meaningless while `learned` is 0.
    t_ns: i64,
    value: f64,
    learned: u64,
    /// Origins whose horizons have not matured, oldest first: one list for each horizon.
    pending: Vec<Origins>,
    intervals: Intervals,
}

/// Origins of one horizon: (time, value), oldest first, thinned so that the list stays short.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Origins {
    waiting: Vec<(i64, f64)>,
}

/// Parameters as the user writes them: `hold = { max_horizon = "10m" }`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, remote = "Self")]
pub struct HoldRaw {
    /// Longest horizon that is served.
    pub max_horizon: Span,
    /// Share of true values that the interval is to hold.
    pub coverage: f64,
    /// Ticks to learn before anything is served.
    pub min_training: u32,
}
checked_at_parse!(HoldRaw);

impl Default for HoldRaw {
    fn default() -> Self {
        Self { max_horizon: Span::from_ns(600_000_000_000), coverage: 0.95, min_training: 60 }
    }
}

impl HoldRaw {
    /// Checks each field.
    ///
    /// # Errors
    /// When a number is out of its range.
    pub fn validate(&self) -> Result<(), ParamError> {
        common_allowed(self.max_horizon, self.coverage, self.min_training, 1)
    }
}

impl Hold {
    /// A forecast that has learned nothing, for ticks of `period_ns`.
    ///
    /// # Errors
    /// When a field is wrong, or the period is not positive.
    pub fn new(raw: &HoldRaw, period_ns: i64) -> Result<Self, ParamError> {
        raw.validate()?;
        let period_ns = Span::from_ns(period_ns).positive_ns()?;
        let max_horizon_ns = raw.max_horizon.to_ns();
        let intervals = Intervals::new(raw.coverage, (max_horizon_ns / period_ns).max(1) as u64);
        Ok(Self {
            period_ns,
            max_horizon_ns,
            min_training: u64::from(raw.min_training),
            t_ns: 0,
            value: 0.0,
            learned: 0,
            pending: vec![Origins::default(); intervals.horizons().len()],
            intervals,
        })
    }
}

impl Forecast for Hold {
    fn learn(&mut self, t_ns: i64, value: f64) {
        if value.is_nan() || value.abs() > HUGE || (self.learned > 0 && t_ns <= self.t_ns) {
            return;
        }
        for (k, &h) in self.intervals.horizons().iter().enumerate() {
            let horizon_ns = self.period_ns.saturating_mul(h as i64);
            let matured = self.pending[k].mature(t_ns, horizon_ns, self.period_ns);
            if let Some(held) = matured {
                self.intervals.miss(k, value - held);
            }
            self.pending[k].wait(t_ns, value, horizon_ns);
        }
        (self.t_ns, self.value) = (t_ns, value);
        self.learned = self.learned.saturating_add(1);
    }

    fn predict(&self, t_ns: i64) -> Option<Estimate> {
        let horizon_ns = t_ns.checked_sub(self.t_ns)?;
        if !self.ready() || horizon_ns > self.max_horizon_ns {
            return None;
        }
        let ticks = ticks_between(self.t_ns, t_ns, self.period_ns)?;
        let half = self.intervals.half_width(ticks)?;
        let value = self.value;
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

impl Origins {
    /// Most origins that wait for one horizon.
    const MOST: i64 = 16;

    /// Adds an origin, unless the last is too near for the list to stay short.
    pub(crate) fn wait(&mut self, t_ns: i64, value: f64, horizon_ns: i64) {
        let near = |&(last, _): &(i64, f64)| t_ns.saturating_sub(last) < horizon_ns / Self::MOST;
        if !self.waiting.last().is_some_and(near) {
            self.waiting.push((t_ns, value));
        }
    }

    /// Removes what has matured at `t_ns`, and gives the origin that matured at this very tick, to half a period.
    pub(crate) fn mature(&mut self, t_ns: i64, horizon_ns: i64, period_ns: i64) -> Option<f64> {
        let target = t_ns.saturating_sub(horizon_ns);
        let due =
            self.waiting.iter().take_while(|&&(t, _)| t <= target.saturating_add(period_ns / 2)).count();
        let last = self.waiting.drain(..due).next_back();
        last.filter(|&(t, _)| target.saturating_sub(t) <= period_ns / 2).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::tests::{Noise, coverage};

    fn hold(json: &str) -> Hold {
        Hold::new(&serde_json::from_str(json).unwrap(), 1).unwrap()
    }

    /// Given a random walk, then 95 % intervals hold about 95 % at each horizon, and they widen.
    #[test]
    fn intervals_hold_what_they_say() {
        let mut noise = Noise(7);
        let mut level = 0.0;
        let walk: Vec<f64> = (0..20_000)
            .map(|_| {
                level += noise.next();
                level
            })
            .collect();
        for h in [1, 5, 15] {
            let share = coverage(hold(r#"{"max_horizon": "50ns"}"#), &walk, h);
            assert!((0.92..0.98).contains(&share), "{h}: {share}");
        }
    }

    /// Given values until a tick, then it is held up to the longest horizon and no farther.
    #[test]
    fn the_last_value_is_held_up_to_the_horizon() {
        let mut model = hold(r#"{"max_horizon": "10ns", "min_training": 60}"#);
        for t in 0..100 {
            model.learn(t, (t % 5) as f64);
        }
        model.learn(100, f64::NAN);
        model.learn(101, f64::INFINITY);
        model.learn(50, 1.0);
        model.start(100);
        let near = model.predict(100).unwrap();
        assert_eq!((near.value, near.horizon_ns), (4.0, 1));
        let far = model.predict(109).unwrap();
        assert!(far.hi - far.lo >= near.hi - near.lo);
        assert_eq!(model.predict(110), None);
        assert_eq!(model.predict(99), None);
        let json = serde_json::to_string(&model).unwrap();
        assert_eq!(serde_json::from_str::<Hold>(&json).unwrap(), model);
    }
}
