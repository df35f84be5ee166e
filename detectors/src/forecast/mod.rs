//! Forecasts: models that stand in for a value that cannot be had, with an interval.
//!
//! A forecast learns one value a tick while the value is good. When it is no longer, [`Forecast::start`] freezes the origin,
//! and [`Forecast::predict`] gives the value and its interval for later ticks, up to a longest horizon. Intervals are
//! calibrated for each horizon by the model's own past misses (split conformal) and never narrow with the horizon.
//! To add one: a file with its parameters, its state and an `impl Forecast`, its `pub mod`, and one entry in [`ForecastRaw`]
//! and [`AnyForecast`].

use crate::params::{ParamError, Span};
use crate::vote::Estimate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub mod ar;
pub mod hold;
pub mod interval;

pub use ar::{Ar, ArRaw};
pub use hold::{Hold, HoldRaw};
pub use interval::Intervals;

/// A model of one value over time.
pub trait Forecast {
    /// Learns the value of one tick and makes it the origin. Called at most once a tick, times rising; ticks may be left
    /// out. A value that is not finite, or a time that does not advance, is ignored.
    fn learn(&mut self, t_ns: i64, value: f64);
    /// The value expected at `t_ns`. `None`: not ready, at or before the origin, or beyond the longest horizon.
    fn predict(&self, t_ns: i64) -> Option<Estimate>;
    /// Whether enough has been learned.
    fn ready(&self) -> bool;
    /// The longest horizon.
    fn max_horizon_ns(&self) -> i64;
    /// Freezes the origin: the fallback begins at `t_ns`, the last tick whose value was good or the first whose was not.
    fn start(&mut self, t_ns: i64);
}

/// Parameters of one forecast as written: `hold = { … }` or `ar = { … }`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ForecastRaw {
    /// The last good value.
    Hold(HoldRaw),
    /// An autoregression on the last good values.
    Ar(ArRaw),
}

impl ForecastRaw {
    /// The forecast with checked parameters and nothing learned, for ticks of `period_ns`.
    ///
    /// # Errors
    /// When a field is wrong, or the period is not positive.
    pub fn build(&self, period_ns: i64) -> Result<AnyForecast, ParamError> {
        match self {
            ForecastRaw::Hold(raw) => Hold::new(raw, period_ns).map(AnyForecast::Hold),
            ForecastRaw::Ar(raw) => Ar::new(raw, period_ns).map(AnyForecast::Ar),
        }
    }

    /// Share of values the intervals are to cover.
    #[must_use]
    pub fn coverage(&self) -> f64 {
        match self {
            ForecastRaw::Hold(raw) => raw.coverage,
            ForecastRaw::Ar(raw) => raw.coverage,
        }
    }

    /// Key of the forecast in the configuration.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            ForecastRaw::Hold(_) => "hold",
            ForecastRaw::Ar(_) => "ar",
        }
    }
}

/// Whichever forecast a configuration names, with its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AnyForecast {
    /// The last good value.
    Hold(Hold),
    /// An autoregression on the last good values.
    Ar(Ar),
}

impl AnyForecast {
    /// The forecast behind the name.
    #[must_use]
    pub fn as_dyn(&self) -> &dyn Forecast {
        match self {
            AnyForecast::Hold(forecast) => forecast,
            AnyForecast::Ar(forecast) => forecast,
        }
    }

    /// The forecast behind the name, to learn.
    pub fn as_dyn_mut(&mut self) -> &mut dyn Forecast {
        match self {
            AnyForecast::Hold(forecast) => forecast,
            AnyForecast::Ar(forecast) => forecast,
        }
    }
}

impl Forecast for AnyForecast {
    fn learn(&mut self, t_ns: i64, value: f64) {
        self.as_dyn_mut().learn(t_ns, value);
    }
    fn predict(&self, t_ns: i64) -> Option<Estimate> {
        self.as_dyn().predict(t_ns)
    }
    fn ready(&self) -> bool {
        self.as_dyn().ready()
    }
    fn max_horizon_ns(&self) -> i64 {
        self.as_dyn().max_horizon_ns()
    }
    fn start(&mut self, t_ns: i64) {
        self.as_dyn_mut().start(t_ns);
    }
}

/// Checks what all forecasts share.
pub(crate) fn common_allowed(
    max_horizon: Span,
    coverage: f64,
    min_training: u32,
    least_training: u32,
) -> Result<(), ParamError> {
    max_horizon.positive_ns()?;
    if !(0.5..=0.999).contains(&coverage) {
        return Err(ParamError::OutOfRange { field: "coverage", least: 0.5, most: 0.999, got: coverage });
    }
    if min_training < least_training {
        let (least, most, got) = (f64::from(least_training), f64::from(u32::MAX), f64::from(min_training));
        return Err(ParamError::OutOfRange { field: "min_training", least, most, got });
    }
    Ok(())
}

/// Whole ticks from `from_ns` to `t_ns`, to the nearest; `None` unless at least one.
pub(crate) fn ticks_between(from_ns: i64, t_ns: i64, period_ns: i64) -> Option<u64> {
    let dt = t_ns.checked_sub(from_ns)?;
    if dt <= 0 {
        return None;
    }
    Some((dt as u64).saturating_add(period_ns as u64 / 2) / period_ns as u64).filter(|&ticks| ticks > 0)
}

/// Values beyond this are not learned, so that no square overflows.
pub(crate) const HUGE: f64 = 1e140;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Noise with the same bits everywhere: uniform, -1 to 1.
    pub(crate) struct Noise(pub(crate) u64);
    impl Noise {
        pub(crate) fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        }
    }

    /// Share of later values inside the interval, over origins every 7 ticks.
    pub(crate) fn coverage(mut model: impl Forecast + Clone, value: &[f64], h: usize) -> f64 {
        let (mut inside, mut all) = (0, 0);
        for (t, &x) in value.iter().enumerate() {
            model.learn(t as i64, x);
            if t >= 1500 && t % 7 == 0 && t + h < value.len() {
                let e = model.predict((t + h) as i64).unwrap();
                inside += i32::from(e.lo <= value[t + h] && value[t + h] <= e.hi);
                all += 1;
            }
        }
        f64::from(inside) / f64::from(all)
    }

    /// Given each key, then it builds its forecast; unknown keys, fields and wrong numbers are refused.
    #[test]
    fn keys_build_their_forecast() {
        for (json, kind) in [(r#"{"hold": {}}"#, "hold"), (r#"{"ar": {"order": 2}}"#, "ar")] {
            let raw: ForecastRaw = serde_json::from_str(json).unwrap();
            assert_eq!(raw.kind(), kind);
            let model = raw.build(1_000_000_000).unwrap();
            assert!(!model.ready() && model.predict(5).is_none());
            assert!(raw.build(0).is_err());
        }
        for bad in [
            r#"{"hold": {"coverage": 1}}"#,
            r#"{"ar": {"order": 0}}"#,
            r#"{"ar": {"x": 0}}"#,
            r#"{"arma": {}}"#,
        ] {
            assert!(serde_json::from_str::<ForecastRaw>(bad).is_err(), "{bad}");
        }
    }
}
