//! Stationary noises without any event, for counting false alarms.

use crate::EPOCH_NS;
use crate::rng::Rng;
use std::f64::consts::PI;

/// What the noise is like; all have a scale near 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noise {
    /// Independent, normal.
    Normal,
    /// Independent, with exponential tails.
    Laplace,
    /// Independent, lognormal with a deviation of 0.5 in the logarithm.
    Lognormal,
    /// Normal, autocorrelated: 0.9 from row to row.
    Ar,
    /// Independent, normal, at random intervals.
    Irregular,
}

impl Noise {
    /// All of them.
    pub const ALL: [Noise; 5] =
        [Noise::Normal, Noise::Laplace, Noise::Lognormal, Noise::Ar, Noise::Irregular];

    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Noise::Normal => "normal",
            Noise::Laplace => "Laplace",
            Noise::Lognormal => "lognormal",
            Noise::Ar => "AR(1) 0.9",
            Noise::Irregular => "irregular",
        }
    }

    /// Times (one a minute in the mean) and values of so many rows; with `daily`, on a sine of amplitude 3 and a day.
    pub fn rows(self, daily: bool, rows: usize, seed: u64) -> (Vec<i64>, Vec<f64>) {
        let mut rng = Rng::stream(seed, &[0x006e_6f69, self as u64, u64::from(daily)]);
        let (mut t, mut state) = (EPOCH_NS, rng.normal());
        let mut row = || {
            let wait = if self == Noise::Irregular { -libm::log(1.0 - rng.unit()) } else { 1.0 };
            t += (wait * STEP_NS as f64) as i64;
            state = match self {
                Noise::Normal | Noise::Irregular => rng.normal(),
                Noise::Laplace => {
                    let side = if rng.unit() < 0.5 { -1.0 } else { 1.0 };
                    side * -libm::log(1.0 - rng.unit())
                }
                Noise::Lognormal => libm::exp(0.5 * rng.normal()),
                Noise::Ar => 0.9 * state + 0.19f64.sqrt() * rng.normal(),
            };
            let of_day = (t % DAY_NS) as f64 / DAY_NS as f64;
            (t, state + if daily { 3.0 * libm::sin(2.0 * PI * of_day) } else { 0.0 })
        };
        (0..rows).map(|_| row()).unzip()
    }
}

const STEP_NS: i64 = 60_000_000_000;
const DAY_NS: i64 = 86_400_000_000_000;
