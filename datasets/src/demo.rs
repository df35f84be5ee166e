//! A small boiler house for a first look: twenty tags, one sample a second each, a repeating script of faults.
//!
//! The script lasts ten minutes and shows one thing at a time (times from the start of each round):
//!
//! | from | to | what | where |
//! |---|---|---|---|
//! | 0:30 | 1:10 | flow leaves its range slowly | `pump1.flow` |
//! | 1:40 | 2:00 | speed jumps faster than it can, inside its range | `turbine1.speed` |
//! | 2:30 | 4:00 | one of three channels is stuck; its twins out-vote it | `boiler1.pressure.b` |
//! | 6:00 | 7:00 | quorum is lost: one channel turns bad, another falls silent; both recover | `boiler1.level.a`, `.c` |
//! | 9:00 | 9:30 | silence | `tank1.level` |
//!
//! Everything else stays inside the limits of [`DEMO_TAGS`], which hold for the default period of one second.

use std::f64::consts::PI;

use crate::EPOCH_NS;
use crate::rng::Rng;

/// One sample of the demo plant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// Event time.
    pub ts_ns: i64,
    /// The tag's name.
    pub tag: &'static str,
    /// The value; NaN when the quality is bad.
    pub value: f64,
    /// OPC UA status code: Good `0x0` or Bad_SensorFailure `0x808C0000`.
    pub quality: u32,
}

/// What is known about a tag of the demo plant: enough to write its catalogue row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DemoTag {
    /// Name.
    pub name: &'static str,
    /// Engineering unit.
    pub unit: &'static str,
    /// Usual value.
    pub base: f64,
    /// Values outside are suspect.
    pub suspect: [f64; 2],
    /// Values outside are failures.
    pub fail: [f64; 2],
    /// A faster change is suspect; unit of the tag per second.
    pub suspect_per_s: f64,
    /// Noise sigma.
    sigma: f64,
    /// Effect of the plant's load, which lies within about -1 and 1.
    load_effect: f64,
    /// The physical quantity; redundant channels share it.
    quantity: u64,
}

/// What the script does to a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DemoFault {
    /// The value leaves its fail limits, slowly.
    Range,
    /// The value moves faster than it may, inside its limits.
    Ramp,
    /// The value repeats exactly.
    Stuck,
    /// Samples arrive without a value and with a bad quality.
    Bad,
    /// No samples arrive while the twin is bad: too few are left to vote.
    Dropout,
    /// No samples arrive.
    Gap,
}

impl DemoFault {
    /// The fault's name in labels and reports.
    pub fn name(self) -> &'static str {
        match self {
            DemoFault::Range => "range",
            DemoFault::Ramp => "ramp",
            DemoFault::Stuck => "stuck",
            DemoFault::Bad => "bad",
            DemoFault::Dropout => "dropout",
            DemoFault::Gap => "gap",
        }
    }
}

/// The truth about one fault of one round of the script.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DemoLabel {
    /// What is wrong.
    pub fault: DemoFault,
    /// The tag touched.
    pub tag: &'static str,
    /// Time of the first tick touched.
    pub start_ns: i64,
    /// Time of the last tick touched.
    pub end_ns: i64,
}

/// The demo plant: an endless iterator of rows, in time order, the tags of one tick in the order of [`DEMO_TAGS`].
#[derive(Debug, Clone)]
pub struct DemoPlant {
    seed: u64,
    start_ns: i64,
    period_ns: i64,
    tick: u64,
    next_tag: usize,
    now: Instant,
    stuck: Option<f64>,
}

/// A demo plant with one sample a second and tag, starting at [`EPOCH_NS`].
///
/// ```
/// let rows: Vec<_> = datasets::demo_plant(1).take(20).collect();
/// assert_eq!(rows[0].tag, "boiler1.pressure.a");
/// ```
pub fn demo_plant(seed: u64) -> DemoPlant {
    let now = Instant::at(seed, 0, 0.0);
    DemoPlant { seed, start_ns: EPOCH_NS, period_ns: 1_000_000_000, tick: 0, next_tag: 0, now, stuck: None }
}

impl DemoPlant {
    /// The same plant with its first tick at `start_ns`.
    pub fn with_start(mut self, start_ns: i64) -> DemoPlant {
        self.start_ns = start_ns;
        self
    }

    /// The same plant with another time between ticks: the values are those of the one-second plant, only closer
    /// together or further apart.
    ///
    /// - Panics: on a period that is not positive, a bug of the caller.
    pub fn with_period(mut self, period_ns: i64) -> DemoPlant {
        assert!(period_ns > 0, "the period must be positive, got {period_ns} ns");
        self.period_ns = period_ns;
        self
    }

    /// The truth about the first `rounds` rounds of the script, by time.
    pub fn labels(&self, rounds: u64) -> Vec<DemoLabel> {
        let of_round = |round: u64| {
            SCRIPT.iter().map(move |part| DemoLabel {
                fault: part.fault,
                tag: part.tag,
                start_ns: self.time_ns(round * DEMO_SCRIPT_TICKS + part.from),
                end_ns: self.time_ns(round * DEMO_SCRIPT_TICKS + part.to - 1),
            })
        };
        (0..rounds).flat_map(of_round).collect()
    }

    fn time_ns(&self, tick: u64) -> i64 {
        let offset_ns = i64::try_from(tick).unwrap_or(i64::MAX).saturating_mul(self.period_ns);
        self.start_ns.saturating_add(offset_ns)
    }

    /// The row of one tag at this tick, or none while it is silent.
    fn row(&mut self, place: usize, tag: &DemoTag) -> Option<Row> {
        let mut row = Row {
            ts_ns: self.time_ns(self.tick),
            tag: tag.name,
            value: self.now.clean(self.seed, place, tag),
            quality: GOOD,
        };
        let round_tick = self.tick % DEMO_SCRIPT_TICKS;
        let Some(part) =
            SCRIPT.iter().find(|part| part.tag == tag.name && (part.from..part.to).contains(&round_tick))
        else {
            return Some(row);
        };
        let (elapsed, left) = ((round_tick - part.from) as f64, (part.to - round_tick) as f64);
        match part.fault {
            DemoFault::Range | DemoFault::Ramp => {
                let rise = part.rise_per_tick * elapsed;
                row.value = rounded(row.value + rise.min(part.height).min(part.fall_per_tick * left));
            }
            DemoFault::Stuck => {
                if round_tick == part.from {
                    self.stuck = None;
                }
                row.value = *self.stuck.get_or_insert(row.value);
            }
            DemoFault::Bad => (row.value, row.quality) = (f64::NAN, BAD_SENSOR_FAILURE),
            DemoFault::Dropout | DemoFault::Gap => return None,
        }
        Some(row)
    }
}

impl Iterator for DemoPlant {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        loop {
            if self.next_tag == DEMO_TAGS.len() {
                self.tick += 1;
                self.next_tag = 0;
                self.now = Instant::at(self.seed, self.tick, self.now.wander);
            }
            let place = self.next_tag;
            self.next_tag += 1;
            if let Some(row) = self.row(place, &DEMO_TAGS[place]) {
                return Some(row);
            }
        }
    }
}

/// The state of the process at one tick.
#[derive(Debug, Clone, Copy)]
struct Instant {
    tick: u64,
    wander: f64,
    load: f64,
}

impl Instant {
    fn at(seed: u64, tick: u64, wander: f64) -> Instant {
        let wander = 0.99 * wander + 0.01 * Rng::stream(seed, &[WANDER, tick]).normal();
        let swing = libm::sin(2.0 * PI * (tick % SWING_TICKS) as f64 / SWING_TICKS as f64);
        Instant { tick, wander, load: 0.8 * swing + wander.clamp(-0.2, 0.2) }
    }

    /// What the tag would report if nothing were wrong.
    fn clean(&self, seed: u64, place: usize, tag: &DemoTag) -> f64 {
        let mut rng = Rng::stream(seed, &[NOISE, place as u64, self.tick]);
        let lag = 2.0 * PI * tag.quantity as f64 / 24.0;
        let slow =
            libm::sin(2.0 * PI * (self.tick % DEMO_SCRIPT_TICKS) as f64 / DEMO_SCRIPT_TICKS as f64 + lag);
        let own = 0.15 * tag.load_effect * slow;
        // Clamped: a fault that nobody scripted would be a false label.
        let noise = rng.normal().clamp(-4.0, 4.0) * tag.sigma;
        rounded(tag.base + tag.load_effect * self.load + own + noise)
    }
}

/// Four decimals, as an historian would store it.
fn rounded(value: f64) -> f64 {
    libm::floor(value * 1e4 + 0.5) / 1e4
}

/// One part of the script: `height` and the slopes are in the unit of the tag, the slopes per tick.
struct Part {
    fault: DemoFault,
    tag: &'static str,
    from: u64,
    to: u64,
    height: f64,
    rise_per_tick: f64,
    fall_per_tick: f64,
}

const fn part(fault: DemoFault, tag: &'static str, from: u64, to: u64) -> Part {
    Part { fault, tag, from, to, height: 0.0, rise_per_tick: 0.0, fall_per_tick: 0.0 }
}

const SCRIPT: [Part; 6] = [
    Part {
        height: 45.0,
        rise_per_tick: 2.5,
        fall_per_tick: 2.5,
        ..part(DemoFault::Range, "pump1.flow", 30, 70)
    },
    Part {
        height: 80.0,
        rise_per_tick: 40.0,
        fall_per_tick: 8.0,
        ..part(DemoFault::Ramp, "turbine1.speed", 100, 120)
    },
    part(DemoFault::Stuck, "boiler1.pressure.b", 150, 240),
    part(DemoFault::Bad, "boiler1.level.a", 360, 420),
    part(DemoFault::Dropout, "boiler1.level.c", 370, 410),
    part(DemoFault::Gap, "tank1.level", 540, 570),
];

/// Ticks in one round of the script.
pub const DEMO_SCRIPT_TICKS: u64 = 600;

const fn tag(
    name: &'static str,
    unit: &'static str,
    quantity: u64,
    base: f64,
    sigma: f64,
    load_effect: f64,
) -> DemoTag {
    let usual = 1.15 * if load_effect < 0.0 { -load_effect } else { load_effect };
    let (near, far) = (1.5 * usual + 8.0 * sigma, 2.5 * usual + 16.0 * sigma);
    DemoTag {
        name,
        unit,
        base,
        suspect: [base - near, base + near],
        fail: [base - far, base + far],
        suspect_per_s: 0.08 * usual + 10.0 * sigma,
        sigma,
        load_effect,
        quantity,
    }
}

/// The tags of the demo plant. Three channels each measure `boiler1.pressure` and `boiler1.level`.
pub const DEMO_TAGS: [DemoTag; 20] = [
    tag("boiler1.pressure.a", "bar", 0, 12.0, 0.02, 0.8),
    tag("boiler1.pressure.b", "bar", 0, 12.0, 0.02, 0.8),
    tag("boiler1.pressure.c", "bar", 0, 12.0, 0.02, 0.8),
    tag("boiler1.level.a", "mm", 1, 450.0, 0.8, -30.0),
    tag("boiler1.level.b", "mm", 1, 450.0, 0.8, -30.0),
    tag("boiler1.level.c", "mm", 1, 450.0, 0.8, -30.0),
    tag("boiler1.temperature", "degC", 2, 190.0, 0.1, 4.0),
    tag("boiler1.steam_flow", "t/h", 3, 24.0, 0.1, 5.0),
    tag("boiler1.feed_flow", "t/h", 4, 24.5, 0.15, 5.0),
    tag("boiler1.flue_temperature", "degC", 5, 240.0, 0.4, 12.0),
    tag("boiler1.oxygen", "%", 6, 4.2, 0.03, -0.6),
    tag("pump1.flow", "m3/h", 7, 120.0, 0.6, 10.0),
    tag("pump1.discharge_pressure", "bar", 8, 18.0, 0.03, -0.7),
    tag("pump1.current", "A", 9, 42.0, 0.2, 5.0),
    tag("pump1.vibration", "mm/s", 10, 2.4, 0.06, 0.2),
    tag("turbine1.speed", "rpm", 11, 3000.0, 1.5, 70.0),
    tag("turbine1.power", "MW", 12, 6.5, 0.02, 1.4),
    tag("turbine1.bearing_temperature", "degC", 13, 68.0, 0.1, 3.0),
    tag("tank1.level", "%", 14, 55.0, 0.1, -8.0),
    tag("ambient.temperature", "degC", 15, 18.0, 0.05, 0.5),
];

/// Ticks of one swing of the load; divides the script, so every round shows the same.
const SWING_TICKS: u64 = 200;
const GOOD: u32 = 0;
const BAD_SENSOR_FAILURE: u32 = 0x808C_0000;
const WANDER: u64 = 1;
const NOISE: u64 = 2;
