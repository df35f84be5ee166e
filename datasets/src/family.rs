//! Families of labelled signals of one tag each, for judging detectors beyond the public benchmarks.
//!
//! Every signal has its own noise, level and events, drawn from the seed; it begins with [`CLEAN_ROWS`] rows without an event.
//! Magnitudes are in units of the noise's own scale, down to what is hard to see.

use crate::EPOCH_NS;
use crate::rng::Rng;
use std::f64::consts::PI;

/// What a family's events are, and what they hide in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// One to five samples off in normal noise.
    Spikes,
    /// Lasting steps in autocorrelated noise.
    Shifts,
    /// Slow ramps to a new level.
    Drift,
    /// Stretches of stronger noise, and of a slow swing.
    Regimes,
    /// A daily cycle with missing samples and uneven steps; offsets, spikes and flattened cycles.
    Seasonal,
    /// Heavy-tailed noise; larger spikes and steps.
    HeavyTailed,
}

impl Family {
    /// All of them.
    pub const ALL: [Family; 6] = [
        Family::Spikes,
        Family::Shifts,
        Family::Drift,
        Family::Regimes,
        Family::Seasonal,
        Family::HeavyTailed,
    ];

    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Family::Spikes => "spikes",
            Family::Shifts => "shifts",
            Family::Drift => "drift",
            Family::Regimes => "regimes",
            Family::Seasonal => "seasonal",
            Family::HeavyTailed => "heavy-tailed",
        }
    }
}

/// One signal and the truth about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// Time of each row, nanoseconds since 1970 UTC, rising.
    pub ts: Vec<i64>,
    /// Value of each row; NaN is missing.
    pub value: Vec<f64>,
    /// First and last row of each event, in order, disjoint.
    pub events: Vec<(usize, usize)>,
}

/// Rows at the beginning of a signal without an event.
pub const CLEAN_ROWS: usize = 600;

/// Rows of a signal: two weeks of five minutes.
pub const SIGNAL_ROWS: usize = 4032;

const STEP_NS: i64 = 300_000_000_000;
const DAY_NS: i64 = 86_400_000_000_000;

/// Rows without an event between two events.
const APART: u64 = 320;

/// The signal of a family and seed: equal seeds give equal bytes on every machine.
///
/// ```
/// let signal = datasets::signal(datasets::Family::Shifts, 1);
/// assert_eq!(signal.ts.len(), datasets::SIGNAL_ROWS);
/// assert!(!signal.events.is_empty());
/// ```
pub fn signal(family: Family, seed: u64) -> Signal {
    let mut rng = Rng::stream(seed, &[0x0066_616d, family as u64]);
    let ts = times(family, &mut rng);
    let mut value = noise(family, &ts, &mut rng);
    let mut events = Vec::new();
    let mut at = CLEAN_ROWS + rng.below(APART) as usize;
    while at + 480 < SIGNAL_ROWS {
        let end = happen(family, &mut value, at, &mut rng);
        events.push((at, end));
        at = end + APART as usize + rng.below(APART) as usize;
    }
    let scale = rng.log_uniform(0.05, 50.0);
    let level = rng.uniform(-5.0, 20.0) * scale;
    let missing = if family == Family::Seasonal { rng.log_uniform(0.005, 0.05) } else { 0.0 };
    let mut silent = 0;
    for x in &mut value {
        *x = level + scale * *x;
        if silent == 0 && rng.unit() < missing {
            silent = 1 + rng.below(4);
        }
        if silent > 0 {
            (*x, silent) = (f64::NAN, silent - 1);
        }
    }
    Signal { ts, value, events }
}

fn times(family: Family, rng: &mut Rng) -> Vec<i64> {
    let uneven = if family == Family::Seasonal { 0.3 } else { 0.0 };
    let time = |row: usize| {
        let off = uneven * rng.uniform(-1.0, 1.0) * STEP_NS as f64;
        EPOCH_NS + row as i64 * STEP_NS + off as i64
    };
    (0..SIGNAL_ROWS).map(time).collect()
}

/// What is there without events, in units of the noise.
fn noise(family: Family, ts: &[i64], rng: &mut Rng) -> Vec<f64> {
    let phi = match family {
        Family::Shifts | Family::Drift => rng.choice(&[0.0, 0.5, 0.8]),
        Family::Seasonal => rng.choice(&[0.0, 0.5]),
        _ => 0.0,
    };
    let cycle = if family == Family::Seasonal { rng.log_uniform(2.0, 10.0) } else { 0.0 };
    let phase = rng.uniform(0.0, 2.0 * PI);
    let heavy = rng.below(2);
    let mut state = rng.normal();
    let sample = |&t: &i64| {
        let draw = match (family, heavy) {
            (Family::HeavyTailed, 0) => student_3(rng),
            // Centred, with a quartile range near that of a normal.
            (Family::HeavyTailed, _) => libm::exp(0.7 * rng.normal()) - 1.0,
            _ => rng.normal(),
        };
        state = phi * state + (1.0 - phi * phi).sqrt() * draw;
        let of_day = (t % DAY_NS) as f64 / DAY_NS as f64;
        state + cycle * (libm::sin(2.0 * PI * of_day + phase) + 0.3 * libm::sin(4.0 * PI * of_day))
    };
    ts.iter().map(sample).collect()
}

/// Student's t with three degrees of freedom.
fn student_3(rng: &mut Rng) -> f64 {
    let squares = (0..3).map(|_| rng.normal()).fold(0.0, |sum, x| sum + x * x);
    rng.normal() / (squares / 3.0).sqrt()
}

/// Changes the values of an event that begins at `at`; gives its last row.
fn happen(family: Family, value: &mut [f64], at: usize, rng: &mut Rng) -> usize {
    let sign = if rng.unit() < 0.5 { -1.0 } else { 1.0 };
    let few = 1 + rng.below(5) as usize;
    match family {
        Family::Spikes => add(value, at, few, sign * rng.log_uniform(3.5, 10.0)),
        Family::Shifts => {
            let size = sign * rng.log_uniform(1.5, 6.0);
            value[at..].iter_mut().for_each(|x| *x += size);
            at + 100
        }
        Family::Drift => {
            let (rows, size) = (100 + rng.below(300) as usize, sign * rng.log_uniform(3.0, 8.0));
            for (i, x) in value[at..].iter_mut().enumerate() {
                *x += size * (i as f64 / rows as f64).min(1.0);
            }
            at + rows
        }
        Family::Regimes => {
            let rows = 60 + rng.below(140) as usize;
            let (factor, period) = (rng.log_uniform(1.8, 4.0), rng.uniform(10.0, 40.0));
            let swings = rng.unit() < 0.4;
            for (i, x) in value[at..at + rows].iter_mut().enumerate() {
                if swings {
                    *x += factor * libm::sin(2.0 * PI * i as f64 / period);
                } else {
                    *x *= factor;
                }
            }
            at + rows - 1
        }
        Family::Seasonal => match rng.below(3) {
            0 => add(value, at, few, sign * rng.log_uniform(4.0, 12.0)),
            1 => add(value, at, 24 + rng.below(100) as usize, sign * rng.log_uniform(3.0, 8.0)),
            _ => {
                // The cycle stands still for some hours.
                let rows = 72 + rng.below(72) as usize;
                let still = value[at];
                value[at..at + rows].iter_mut().for_each(|x| *x = still + 0.3 * rng.normal());
                at + rows - 1
            }
        },
        Family::HeavyTailed => {
            if rng.unit() < 0.6 {
                add(value, at, few, sign * rng.log_uniform(8.0, 30.0))
            } else {
                let size = sign * rng.log_uniform(3.0, 10.0);
                value[at..].iter_mut().for_each(|x| *x += size);
                at + 100
            }
        }
    }
}

fn add(value: &mut [f64], at: usize, rows: usize, size: f64) -> usize {
    value[at..at + rows].iter_mut().for_each(|x| *x += size);
    at + rows - 1
}
