//! Automatic baseline: how surprising a value is by what its own tag has shown, without a limit to be chosen.
//!
//! Four distances are looked at: to the nearest value ever kept (*novelty*), the mean of the last rows' distances to the usual
//! value of the time of day (*season*), the smaller of the distances to that and to the last rows (*local*), and the
//! *deviation*: from the mean of the last `scale` rows, or from the usual value of the time of day where that is nearer, in
//! standard deviations. The tail of each is learned, so that a distance becomes a surprise: the logarithm of how rarely it is
//! exceeded. What counts depends on what the tag has shown: where deviations have no heavier tail than a normal distribution, a
//! large one is enough for an alarm and novelty without it is not; where they have, it is the other way round. The threshold is
//! steered to `false_alarms` in the long run; true alarms count in it too.
//!
//! A sample at or beyond the threshold is `Suspect`. An alarm is the first of an episode: no sample of the last 0.15 `scale`
//! rows was at the threshold. Only its score, and that of a sample which goes much further, is 0.5 or more. Until `warm_up`
//! samples are learned, samples are `NotEvaluated`; show it normal operation then. Blind to a drift that is slow against `scale`,
//! to values seen before at a wrong time of week, and to a flat line.
//! All counts are in samples, only the time of day is read from the clock, so equal times and gaps need no care. A value that
//! is infinite or beyond 1e140 is at the threshold whatever it is, and is never learned.

use crate::detect::zscore::{FLOOR, HUGE, bounded, min_deviation_allowed};
use crate::detect::{Columns, Detector, Direction, Freeze, Plain, Stage, TagCommand};
use crate::params::{FalseAlarms, ParamError, checked_at_parse};
use crate::sample::{Flag, Samples, Verdicts};
use bytemuck::{Pod, Zeroable};
use schemars::JsonSchema;
use serde::Deserialize;

/// Checked parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Auto {
    warm_up: u64,
    scale: f64,
    false_alarms: FalseAlarms,
    freeze: Freeze,
    direction: Direction,
    min_deviation: f64,
    /// Rows without a sample at the threshold that end an episode.
    rest: u64,
    /// First row that the tails learn from.
    skip: u64,
    /// Largest distances kept of the warm-up.
    tops: usize,
    /// Rows of a block of the recent past.
    block: f64,
    /// −ln(1 − q).
    c: f64,
    /// Where the threshold begins, when the rate is one by rows.
    theta: Option<f64>,
    at: Places,
    constants: Constants,
}

/// Parameters as the user writes them: `detect.auto = {}`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, remote = "Self")]
pub struct AutoRaw {
    /// Alarms that may be raised on normal data: `"1/1000 rows"`, `"1/week"`, or a number of alarms a row.
    pub false_alarms: FalseAlarms,
    /// Samples learned before the first is judged.
    pub warm_up: u32,
    /// Samples that are the recent past; the season's memory is a sixteenth of it, an episode's rest 0.15.
    pub scale: u32,
    /// Which samples are learned. With `own` and `trusted`, flagged ones are learned too after `scale` of them in a row.
    #[serde(default = "default_freeze")]
    pub freeze: Freeze,
    /// Which side counts.
    pub direction: Direction,
    /// Distances up to this much, in the unit of the tag, are no surprise.
    pub min_deviation: f64,
    /// What is no user's business: changed by the benchmark, to show how much hangs on it.
    #[serde(skip)]
    pub constants: Constants,
}
checked_at_parse!(AutoRaw);

impl Default for AutoRaw {
    fn default() -> Self {
        AutoRaw {
            false_alarms: FalseAlarms::PerRow(1e-3),
            warm_up: 200,
            scale: 500,
            freeze: default_freeze(),
            direction: Direction::Both,
            min_deviation: 0.0,
            constants: Constants::default(),
        }
    }
}

fn default_freeze() -> Freeze {
    Freeze::Never
}

/// Numbers that were chosen on data and are the same for every tag.
#[derive(Clone, Debug, PartialEq)]
pub struct Constants {
    /// Values kept.
    pub book: usize,
    /// Bins of the time of day.
    pub bins: usize,
    /// Where a tail begins: the share of distances below it.
    pub q: f64,
    /// Excesses that an exponential tail is worth while few are seen.
    pub prior: f64,
    /// Least weight of a sample in the mean of its bin.
    pub day: f64,
    /// Least weight of a sample in the local mean.
    pub local: f64,
    /// Part of the season in the novelty's surprise.
    pub season: f64,
    /// Part of the local surprise.
    pub spike: f64,
    /// How fast a tail's beginning moves.
    pub rate_u: f64,
    /// Least weight of an excess.
    pub rate_b: f64,
    /// Excesses beyond this many scales are cut.
    pub clip: f64,
    /// Rows that the tails don't learn from.
    pub skip: f64,
    /// How much surprise is taken off for each e-fold of rows.
    pub age: f64,
    /// Rest of an episode as a part of `scale`.
    pub rest: f64,
    /// Threshold at one alarm in a thousand rows.
    pub theta: f64,
    /// Step of the threshold at an alarm.
    pub eta: f64,
    /// Part of the deviation's surprise; 0: deviations don't count.
    pub deviation: f64,
    /// Excesses that a normal tail is worth.
    pub normal_prior: f64,
    /// Excesses of deviations beyond this many scales are cut.
    pub deviation_clip: f64,
    /// Power of a heavy tail in the scale of deviations.
    pub heavy: f64,
    /// Deviation, in standard deviations, below which other surprises count less on a tag without a heavy tail.
    pub gate: f64,
    /// Power of a heavy tail in opening that gate.
    pub gate_heavy: f64,
    /// What is left of a surprise without any deviation.
    pub ajar: f64,
    /// Least weight of a sample in the variance about the usual value of the time of day.
    pub usual: f64,
    /// The time of day counts where its variance is less than this part of that about the recent mean.
    pub by_day: f64,
    /// Part of the surprise in the rank of an alarm, beside its deviation.
    pub rank: f64,
    /// A sample that goes this many times further than its episode is ranked like an alarm.
    pub further: f64,
}

impl Default for Constants {
    fn default() -> Self {
        Constants {
            book: 128,
            bins: 48,
            q: 0.98,
            prior: 2.0,
            day: 0.1,
            local: 0.03,
            season: 0.6,
            spike: 0.33,
            rate_u: 1e-3,
            rate_b: 0.01,
            clip: 10.0,
            skip: 50.0,
            age: 0.25,
            rest: 0.15,
            theta: 4.6,
            eta: 0.2,
            deviation: 0.64,
            normal_prior: 11.0,
            deviation_clip: 2.0,
            heavy: 2.8,
            gate: 4.5,
            gate_heavy: 0.6,
            ajar: 0.2,
            usual: 0.004,
            by_day: 0.6,
            rank: 0.045,
            further: 1.35,
        }
    }
}

impl Constants {
    /// Those of the laboratory's recipe, which knows no deviation.
    #[must_use]
    pub fn recipe() -> Self {
        Constants { season: 0.5, spike: 0.4, deviation: 0.0, ajar: 1.0, ..Constants::default() }
    }

    /// Where the threshold begins for a stated rate, alarms a row; steering corrects it.
    fn theta(&self, far: f64) -> f64 {
        LEAST_THETA.max(self.theta - 1.5 * libm::log(far / 1e-3))
    }
}

impl AutoRaw {
    /// Checks what concerns more than one field.
    ///
    /// # Errors
    /// When a number is out of its range, or more alarms are wanted than episodes fit.
    pub fn validate(&self) -> Result<(), ParamError> {
        min_deviation_allowed(self.min_deviation)?;
        let within = |field, got: u32, least: u32, most: u32| {
            if (least..=most).contains(&got) {
                return Ok(());
            }
            let (least, most, got) = (f64::from(least), f64::from(most), f64::from(got));
            Err(ParamError::OutOfRange { field, least, most, got })
        };
        within("warm_up", self.warm_up, 10, 2000)?;
        within("scale", self.scale, 16, 4000)?;
        if let FalseAlarms::PerRow(got) = self.false_alarms {
            let most = most_alarms(self.rest());
            if !(LEAST_ALARMS..=most).contains(&got) {
                return Err(ParamError::OutOfRange { field: "false_alarms", least: LEAST_ALARMS, most, got });
            }
        }
        Ok(())
    }

    /// Rows without a sample at the threshold that end an episode.
    #[must_use]
    pub fn rest(&self) -> u64 {
        ((self.constants.rest * f64::from(self.scale)) as u64).max(1)
    }
}

/// Most alarms a row: a quarter of the episodes that fit.
fn most_alarms(rest: u64) -> f64 {
    0.25 / rest as f64
}

/// Where things lie in the window: the book, then these.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Places {
    means: usize,
    counts: usize,
    ring: usize,
    blocks: usize,
    tops: usize,
    end: usize,
}

/// What is remembered per tag, beside the window: counts, means, tails and the threshold.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct AutoState {
    /// Samples seen, in warm-up those learned; without those that are beyond what can be learned.
    seen: u64,
    /// `seen` at the last sample at the threshold, plus one; 0: none yet.
    last: u64,
    /// Samples not learned in a row.
    frozen: u64,
    /// Values kept.
    kept: u64,
    first_ts: i64,
    last_ts: i64,
    /// Mean step between samples, nanoseconds.
    step_ns: f64,
    /// Threshold in force.
    threshold: f64,
    local_mean: f64,
    ring_sum: f64,
    /// Mean square of the distances from the usual value of the time of day.
    usual_square: f64,
    /// The furthest of the episode.
    furthest: f64,
    /// Blocks that were filled.
    blocks: u64,
    /// The block that is being filled, and all kept ones together.
    block: Moments,
    recent: Moments,
    tails: [Tail; 4],
}
impl Plain for AutoState {}

/// Number, mean and sum of squares about the mean.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Moments {
    n: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    /// Both together (Chan, Golub, LeVeque 1983).
    #[inline]
    fn with(self, other: Moments) -> Moments {
        let n = self.n + other.n;
        if n == 0.0 {
            return self;
        }
        let (apart, part) = (other.mean - self.mean, other.n / n);
        Moments {
            n,
            mean: self.mean + apart * part,
            squares: self.squares + other.squares + apart * apart * (self.n * part),
        }
    }
}

/// The tail of a distance: where it begins, and how far beyond it goes.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Tail {
    begin: f64,
    mean_excess: f64,
    excesses: f64,
    /// During warm-up the sum of all distances, then the least scale.
    floor: f64,
}

/// The distances of one sample.
struct Seen {
    bin: usize,
    /// Where the value belongs in the book.
    place: usize,
    novelty: f64,
    /// From the usual value of its time of day.
    usual: f64,
    /// From the local mean.
    local: f64,
    /// Whether the deviation is more than the least one.
    deviates: bool,
    /// Those whose tails are learned: novelty, season, local, deviation.
    distances: [f64; 4],
}

/// How surprising a sample is, and its rank among alarms.
#[derive(Clone, Copy)]
struct Surprise {
    value: f64,
    rank: f64,
}

impl Detector for Auto {
    const KIND: &'static str = "auto";
    const STAGE: Stage = Stage::Learning;
    type Raw = AutoRaw;
    type State = AutoState;

    fn bind(raw: &AutoRaw, _row: &dyn Columns) -> Result<Self, ParamError> {
        raw.validate()?;
        let constants = raw.constants.clone();
        let tops = ((1.0 - constants.q) * f64::from(raw.warm_up)) as usize + 3;
        let sixteenth = (raw.scale as usize / 16).max(4);
        let means = constants.book + 1;
        let counts = means + constants.bins;
        let ring = counts + constants.bins.div_ceil(8);
        let blocks = ring + sixteenth;
        let tops_at = blocks + 2 * BLOCKS;
        Ok(Auto {
            warm_up: u64::from(raw.warm_up),
            scale: f64::from(raw.scale),
            false_alarms: raw.false_alarms,
            freeze: raw.freeze,
            direction: raw.direction,
            min_deviation: raw.min_deviation,
            rest: raw.rest(),
            skip: (constants.skip as u64).min(u64::from(raw.warm_up) / 3),
            tops,
            block: sixteenth as f64,
            c: -libm::log(1.0 - constants.q),
            theta: match raw.false_alarms {
                FalseAlarms::PerRow(far) => Some(constants.theta(far)),
                FalseAlarms::PerNs(_) => None,
            },
            at: Places { means, counts, ring, blocks, tops: tops_at, end: tops_at + 4 * tops },
            constants,
        })
    }

    fn window_len(&self) -> usize {
        self.at.end
    }

    fn judge(&self, state: &mut AutoState, window: &mut [f64], samples: Samples<'_>, out: &mut Verdicts<'_>) {
        samples.assert_shape(out.flags);
        assert!(window.len() >= self.at.end, "the window is too short");
        let mut now = *state;
        for i in 0..samples.len() {
            let (ts, x) = (samples.ts[i], samples.value[i]);
            if x.is_nan() {
                out.flags[i] = Flag::Missing;
                continue;
            }
            let warm = now.seen >= self.warm_up;
            if x.abs() > HUGE {
                // It can't be learned, and is at the threshold, whatever that is.
                out.flags[i] = Flag::NotEvaluated;
                if warm {
                    self.compare(&mut now, i, Surprise { value: MOST_SURPRISE, rank: MOST_SURPRISE }, out);
                }
                continue;
            }
            let seen = self.look(&now, window, ts, x);
            let mut flag = Flag::NotEvaluated;
            out.flags[i] = flag;
            if warm {
                let surprise = self.surprise(&now, &seen);
                flag = self.compare(&mut now, i, surprise, out);
            }
            let learns = self.learns(&mut now, flag, samples.trusted[i]);
            if learns {
                self.learn(&mut now, window, x, &seen);
            }
            if learns | warm {
                self.follow_time(&mut now, ts);
                now.seen += 1;
            }
            if !warm && now.seen == self.warm_up {
                self.begin(&mut now, window);
            }
        }
        *state = now;
    }

    fn command(&self, state: &mut AutoState, window: &mut [f64], command: TagCommand) {
        match command {
            TagCommand::Rebaseline => {
                *state = AutoState::zeroed();
                window.fill(0.0);
            }
        }
    }

    fn remaining(&self, state: &AutoState) -> Option<u64> {
        (state.seen < self.warm_up).then(|| self.warm_up - state.seen)
    }
}

impl Auto {
    /// Measures the distances of a sample to what was learned before it.
    #[inline]
    fn look(&self, now: &AutoState, window: &[f64], ts: i64, x: f64) -> Seen {
        let book = &window[..now.kept as usize];
        let place = book.partition_point(|&kept| kept < x);
        let above = book.get(place).map_or(f64::INFINITY, |next| next - x);
        let below = place.checked_sub(1).map_or(f64::INFINITY, |before| x - book[before]);
        let novelty = if book.is_empty() { 0.0 } else { above.min(below) };
        let bins = self.constants.bins as u64;
        let bin = (ts.rem_euclid(DAY_NS) as u64 * bins / DAY_NS as u64) as usize;
        let local = if now.kept == 0 { 0.0 } else { x - now.local_mean };
        let usual =
            if count_of(window, self.at.counts, bin) > 0 { x - window[self.at.means + bin] } else { local };
        let ring = &window[self.at.ring..self.at.blocks];
        let oldest = ring[(now.seen % ring.len() as u64) as usize];
        let season = (now.ring_sum + (usual - oldest)) / ring.len() as f64;
        let part = |deviation: f64| self.direction.part(deviation).max(0.0);
        let (deviation, square) = self.deviation(now, x, usual);
        let least = (x * FLOOR).abs().max(f64::MIN_POSITIVE);
        let z = bounded(part(deviation) / square.sqrt().max(least));
        // Of one side only what lies beyond everything kept is new.
        let counts = match self.direction {
            Direction::Both => true,
            Direction::Above => place == book.len(),
            Direction::Below => place == 0,
        };
        let counted = if counts { novelty } else { 0.0 };
        Seen {
            bin,
            place,
            novelty,
            usual,
            local,
            deviates: part(deviation) > self.min_deviation,
            distances: [
                counted,
                part(season),
                part(usual).min(part(local)),
                if now.seen < 2 { 0.0 } else { z },
            ],
        }
    }

    /// The deviation from what is nearer as a rule, the recent mean or the usual value of the time of day; with its variance.
    #[inline]
    fn deviation(&self, now: &AutoState, x: f64, usual: f64) -> (f64, f64) {
        let recent = now.recent.with(now.block);
        let variance = recent.squares / (recent.n - 1.0).max(1.0);
        if self.constants.by_day * variance > now.usual_square {
            (usual, now.usual_square)
        } else {
            (x - recent.mean, variance)
        }
    }

    /// How surprising the distances are together: about −ln of how rarely they are exceeded.
    #[inline]
    fn surprise(&self, now: &AutoState, seen: &Seen) -> Surprise {
        let one = |k: usize| {
            let counts = seen.distances[k] > self.min_deviation || self.min_deviation == 0.0;
            if counts { self.exceeds(&now.tails[k], seen.distances[k]) } else { 0.0 }
        };
        let lasting = one(0) + self.constants.season * one(1);
        let mut surprise = lasting.max(self.constants.spike * one(2));
        let z = if seen.deviates { seen.distances[DEVIATION] } else { 0.0 };
        let begin = now.tails[DEVIATION].begin.max(NORMAL_BEGIN);
        if surprise > 0.0 || z > begin {
            let Constants { gate, gate_heavy, ajar, heavy, deviation, .. } = self.constants;
            let tail = self.heaviness(&now.tails[DEVIATION]);
            let open = (z / gate * libm::pow(tail, gate_heavy)).min(1.0);
            surprise *= ajar + (1.0 - ajar) * open;
            if z > begin {
                let scale = NORMAL_SCALE * libm::pow(tail, heavy);
                surprise = surprise.max(deviation * (self.c + (z - begin) / scale));
            }
        }
        if surprise > 0.0 {
            let age = ((now.seen as f64 + 1.0) / self.scale).clamp(1.0, MOST_AGE);
            surprise = (surprise - self.constants.age * libm::log(age)).max(0.0);
        }
        let rank = (z - 1.0).max(0.0) / NORMAL_SCALE + self.constants.rank * surprise;
        Surprise { value: surprise, rank }
    }

    /// How much heavier than that of a normal distribution the tail of the deviations is; at least 1.
    #[inline]
    fn heaviness(&self, tail: &Tail) -> f64 {
        let w = self.constants.normal_prior / (self.constants.normal_prior + tail.excesses);
        ((1.0 - w) * tail.mean_excess / NORMAL_SCALE + w).max(1.0)
    }

    /// The surprise of one distance: 0 below the tail, and for no distance at all.
    #[inline]
    fn exceeds(&self, tail: &Tail, distance: f64) -> f64 {
        if distance <= tail.begin.max(0.0) {
            return 0.0;
        }
        self.c + bounded((distance - tail.begin) / self.scale_of(tail))
    }

    /// The scale of a tail; while few excesses are seen, that of an exponential one.
    #[inline]
    fn scale_of(&self, tail: &Tail) -> f64 {
        let w = self.constants.prior / (self.constants.prior + tail.excesses);
        (1.0 - w) * tail.mean_excess + w * tail.begin.max(0.0) / self.c + tail.floor
    }

    /// Sets and gives the flag of sample `i`, and steers the threshold.
    #[inline]
    fn compare(&self, now: &mut AutoState, i: usize, surprise: Surprise, out: &mut Verdicts<'_>) -> Flag {
        let Surprise { value, rank } = surprise;
        let threshold = now.threshold;
        let ranked = rank / (rank + HALF_RANK);
        let (mut flag, mut score, mut hit) = (Flag::Good, FOLLOWS * ranked, 0.0);
        if value >= threshold {
            (flag, score) = (Flag::Suspect, FOLLOWS);
            let begins = now.last == 0 || now.seen + 1 - now.last >= self.rest;
            if begins || rank > self.constants.further * now.furthest {
                score = 0.5 + 0.5 * ranked;
                now.furthest = rank;
            }
            hit = f64::from(u8::from(begins));
            now.last = now.seen + 1;
        }
        let far = self.far(now);
        let theta = self.theta.unwrap_or_else(|| self.constants.theta(far));
        now.threshold = (threshold + self.constants.eta * (hit - far)).clamp(theta - LOWER, theta + HIGHER);
        out.set(i, flag, || (bounded(value), f64::NEG_INFINITY, threshold, score));
        flag
    }

    /// Whether a sample is learned; a new normal is, after `scale` flagged samples in a row.
    #[inline]
    fn learns(&self, now: &mut AutoState, flag: Flag, trusted: bool) -> bool {
        if self.freeze.learns(flag, trusted) {
            now.frozen = 0;
            return true;
        }
        now.frozen += 1;
        now.frozen > self.scale as u64 && (trusted || self.freeze != Freeze::Trusted)
    }

    /// Alarms a row that are allowed.
    #[inline]
    fn far(&self, now: &AutoState) -> f64 {
        match self.false_alarms {
            FalseAlarms::PerRow(far) => far,
            FalseAlarms::PerNs(per_ns) => (per_ns * now.step_ns).clamp(LEAST_ALARMS, most_alarms(self.rest)),
        }
    }

    /// Follows the mean step: the mean of the warm-up, then a slow one from which gaps are cut.
    #[inline]
    fn follow_time(&self, now: &mut AutoState, ts: i64) {
        if now.seen == 0 {
            (now.first_ts, now.last_ts) = (ts, ts);
        }
        let step = ts.saturating_sub(now.last_ts).max(0) as f64;
        if now.seen < self.warm_up {
            let whole = ts.saturating_sub(now.first_ts).max(0) as f64;
            now.step_ns = whole / (now.seen.max(1)) as f64;
        } else {
            let step = step.min(MOST_STEPS * now.step_ns);
            now.step_ns += (step - now.step_ns) / self.scale;
        }
        now.last_ts = ts;
    }

    /// Learns a sample from its distances.
    #[inline]
    fn learn(&self, now: &mut AutoState, window: &mut [f64], x: f64, seen: &Seen) {
        if now.kept == 0 {
            now.local_mean = x;
        }
        if now.kept == 0 || seen.novelty > 0.0 {
            now.kept = keep(&mut window[..self.at.means], now.kept as usize, seen.place, x) as u64;
        }
        let count = (count_of(window, self.at.counts, seen.bin) + 1).min(MOST_COUNT);
        set_count(window, self.at.counts, seen.bin, count);
        let mean = &mut window[self.at.means + seen.bin];
        *mean += self.constants.day.max(1.0 / f64::from(count)) * (x - *mean);
        let of_all = 1.0 / (now.seen as f64 + 1.0);
        now.local_mean += self.constants.local.max(of_all) * seen.local;
        let (weight, square) = (self.constants.usual.max(of_all), seen.usual * seen.usual);
        now.usual_square = (1.0 - weight) * (now.usual_square + weight * square);
        let ring = &mut window[self.at.ring..self.at.blocks];
        let oldest = &mut ring[(now.seen % ring.len() as u64) as usize];
        now.ring_sum += seen.usual - *oldest;
        *oldest = seen.usual;
        self.learn_recent(now, &mut window[self.at.blocks..self.at.tops], x);
        for k in 0..seen.distances.len() {
            let distance = seen.distances[k];
            if now.seen >= self.warm_up {
                let Constants { clip, deviation_clip, .. } = self.constants;
                let clip = if k == DEVIATION { deviation_clip } else { clip };
                self.follow(&mut now.tails[k], distance, clip);
            } else if now.seen >= self.skip {
                let at = self.at.tops + k * self.tops;
                note_top(&mut window[at..at + self.tops], now.tails[k].excesses as usize, distance);
                now.tails[k].excesses += 1.0;
                now.tails[k].floor += distance;
            }
        }
    }

    /// Fills the block of the recent past; a full one replaces the oldest.
    #[inline]
    fn learn_recent(&self, now: &mut AutoState, blocks: &mut [f64], x: f64) {
        now.block = now.block.with(Moments { n: 1.0, mean: x, squares: 0.0 });
        if now.block.n < self.block {
            return;
        }
        let at = (now.blocks % BLOCKS as u64) as usize;
        (blocks[2 * at], blocks[2 * at + 1]) = (now.block.mean, now.block.squares);
        now.blocks += 1;
        (now.block, now.recent) = (Moments::zeroed(), Moments::zeroed());
        for kept in blocks.chunks_exact(2).take(now.blocks.min(BLOCKS as u64) as usize) {
            now.recent = now.recent.with(Moments { n: self.block, mean: kept[0], squares: kept[1] });
        }
    }

    /// Moves a tail's beginning towards its quantile, and its scale towards the excess.
    #[inline]
    fn follow(&self, tail: &mut Tail, distance: f64, clip: f64) {
        let Constants { q, rate_u, rate_b, .. } = self.constants;
        let scale = self.scale_of(tail);
        if distance <= tail.begin {
            tail.begin -= rate_u * scale;
            return;
        }
        tail.begin += rate_u * scale * q / (1.0 - q);
        let excess = distance - tail.begin;
        if excess > 0.0 {
            tail.excesses += 1.0;
            tail.mean_excess +=
                rate_b.max(1.0 / tail.excesses) * (excess.min(clip * scale) - tail.mean_excess);
        }
    }

    /// End of warm-up: the tails from the largest distances, and the first threshold.
    #[cold]
    fn begin(&self, now: &mut AutoState, window: &[f64]) {
        for (k, tail) in now.tails.iter_mut().enumerate() {
            let rows = (tail.excesses as usize).max(1);
            let all = &window[self.at.tops + k * self.tops..][..self.tops];
            let tops = &all[..self.tops.min(rows)];
            let above = rows - 1 - (self.constants.q * (rows - 1) as f64) as usize;
            let at = tops.len().saturating_sub(1 + above);
            let begin = tops[at];
            let excess = |top: &&f64| **top > begin;
            let many = tops[at + 1..].iter().filter(excess).count().max(1) as f64;
            let sum: f64 = tops[at + 1..].iter().filter(excess).map(|top| top - begin).sum();
            // Rounding is no surprise on a tag that never moved.
            let floor = (now.local_mean.abs() * FLOOR).max(f64::MIN_POSITIVE);
            *tail = Tail {
                begin,
                mean_excess: sum / many,
                excesses: many,
                floor: 2e-3 * tail.floor / rows as f64 + floor,
            };
        }
        now.threshold = self.constants.theta(self.far(now));
    }
}

/// Puts a value into its place in the book; of too many, the inner one whose neighbours lie closest goes. Gives how many.
#[inline]
fn keep(book: &mut [f64], kept: usize, place: usize, x: f64) -> usize {
    book.copy_within(place..kept, place + 1);
    book[place] = x;
    let kept = kept + 1;
    if kept < book.len() {
        return kept;
    }
    let least = closest(book);
    book.copy_within(least + 1..kept, least);
    kept - 1
}

/// Position of the first inner value whose neighbours lie closest. Eight at a time: it is most of what a new value costs.
#[inline]
fn closest(book: &[f64]) -> usize {
    let (nexts, last_nexts) = book[2..].as_chunks::<8>();
    let befores = book.as_chunks::<8>().0;
    let mut lanes = [f64::INFINITY; 8];
    for (next, before) in nexts.iter().zip(befores) {
        for lane in 0..8 {
            let gap = next[lane] - before[lane];
            lanes[lane] = if gap < lanes[lane] { gap } else { lanes[lane] };
        }
    }
    let done = nexts.len() * 8;
    let rest = || last_nexts.iter().zip(&book[done..]).map(|(next, before)| next - before);
    let least = rest().chain(lanes).fold(f64::INFINITY, f64::min);
    for (i, (next, before)) in nexts.iter().zip(befores).enumerate() {
        let mut here = false;
        for lane in 0..8 {
            here |= next[lane] - before[lane] == least;
        }
        if here {
            let lane = next.iter().zip(before).position(|(next, before)| next - before == least);
            return 1 + i * 8 + lane.unwrap_or(0);
        }
    }
    1 + done + rest().position(|gap| gap == least).unwrap_or(0)
}

/// Keeps the largest distances, ascending; `seen` of them came before.
#[inline]
fn note_top(tops: &mut [f64], seen: usize, distance: f64) {
    let kept = seen.min(tops.len());
    let place = tops[..kept].partition_point(|&top| top < distance);
    if kept < tops.len() {
        tops.copy_within(place..kept, place + 1);
        tops[place] = distance;
    } else if place > 0 {
        tops.copy_within(1..place, 0);
        tops[place - 1] = distance;
    }
}

/// Eight counts lie in a word.
#[inline]
fn count_of(window: &[f64], counts: usize, bin: usize) -> u8 {
    window[counts + bin / 8].to_bits().to_le_bytes()[bin % 8]
}

#[inline]
fn set_count(window: &mut [f64], counts: usize, bin: usize, count: u8) {
    let word = &mut window[counts + bin / 8];
    let mut bytes = word.to_bits().to_le_bytes();
    bytes[bin % 8] = count;
    *word = f64::from_bits(u64::from_le_bytes(bytes));
}

const DAY_NS: i64 = 86_400_000_000_000;

/// Score of a sample at the threshold that is not the first of its episode.
const FOLLOWS: f64 = 0.25;

/// The threshold begins no lower.
const LEAST_THETA: f64 = 3.95;
/// Steering goes so far below and above where the threshold began.
const LOWER: f64 = 2.5;
const HIGHER: f64 = 6.0;

/// The age of a tag counts up to so many scales.
const MOST_AGE: f64 = 64.0;

/// A longer step is a gap, and counts as this many mean steps.
const MOST_STEPS: f64 = 10.0;

/// Least alarms a row that can be stated.
const LEAST_ALARMS: f64 = 1e-6;

/// Place of the deviation among the distances.
const DEVIATION: usize = 3;

/// Blocks of the recent past.
const BLOCKS: usize = 16;

/// More visits of a bin weigh the same.
const MOST_COUNT: u8 = 250;

/// Where the tail of a normal deviation begins, and a scale that it seldom exceeds.
const NORMAL_BEGIN: f64 = 2.33;
const NORMAL_SCALE: f64 = 0.37;

/// Rank of an alarm halfway between the least and the highest score.
const HALF_RANK: f64 = 10.0;

/// Surprise of what can't be learned.
const MOST_SURPRISE: f64 = 1e9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::tests::{NoColumns, bound, judge_all, seconds};
    use proptest::prelude::*;

    /// Noise without randomness: -1 to 1.
    fn noise(i: usize) -> f64 {
        let mut z = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    fn alarms(d: &Auto, ts: &[i64], value: &[f64]) -> Vec<u32> {
        let (_, evidence) = judge_all(d, ts, value);
        evidence.iter().filter(|e| e.score >= 0.5).map(|e| e.slot).collect()
    }

    /// Given three signals and no deviations, then surprise and threshold are those that the laboratory's code computed.
    #[test]
    fn the_recipe_agrees_with_its_laboratory() {
        let text = include_str!("../../tests/data/auto.csv");
        for signal in ["daily", "heavy", "steps"] {
            let rows: Vec<Vec<f64>> = text
                .lines()
                .filter(|line| line.starts_with(signal))
                .map(|line| line.split(',').skip(1).map(|cell| cell.parse().unwrap()).collect())
                .collect();
            let raw =
                AutoRaw { warm_up: 120, scale: 300, constants: Constants::recipe(), ..AutoRaw::default() };
            let d = Auto::bind(&raw, &NoColumns).unwrap();
            let (mut state, mut window) = (AutoState::zeroed(), vec![0.0; d.window_len()]);
            let (mut flags, mut evidence) = ([Flag::Missing], Vec::new());
            for (i, row) in rows.iter().enumerate() {
                let (ts, value) = ([row[0] as i64 * 1_000_000_000], [row[1]]);
                let mut out =
                    Verdicts { flags: &mut flags, evidence: &mut evidence, explain_from: Flag::Good };
                d.judge(
                    &mut state,
                    &mut window,
                    Samples { ts: &ts, value: &value, trusted: &[true] },
                    &mut out,
                );
                let Some(e) = evidence.pop() else {
                    assert!(i < 120);
                    continue;
                };
                for (got, want) in [(e.statistic, row[2].min(1e9)), (e.hi, row[3])] {
                    assert!((got - want).abs() <= 1e-6 * (1.0 + want.abs()), "{signal} {i}: {got} {want}");
                }
                assert_eq!(flags[0].is_bad(), row[2] >= row[3], "{signal} {i}");
            }
            assert_eq!(rows.len(), 600);
        }
    }

    /// Given noise with a spike and a shift, then each is one alarm, at its first sample.
    #[test]
    fn a_spike_and_a_shift_are_one_alarm_each() {
        let d: Auto = bound("{}");
        let mut value: Vec<f64> = (0..1500).map(noise).collect();
        value[700] = 9.0;
        value[1000..].iter_mut().for_each(|x| *x += 20.0);
        assert_eq!(alarms(&d, &seconds(1500), &value), [700, 1000]);
        let below: Auto = bound(r#"{"direction": "below"}"#);
        let of_below = alarms(&below, &seconds(1500), &value);
        assert!(of_below.iter().all(|i| *i != 700 && !(1000..1100).contains(i)), "{of_below:?}");
        let least: Auto = bound(r#"{"min_deviation": 12}"#);
        assert_eq!(alarms(&least, &seconds(1500), &value), [1000]);
    }

    /// Given a level that never comes back, when what is flagged is not learned, then it is learned after `scale` samples.
    #[test]
    fn a_new_level_is_learned_within_its_bound() {
        let d: Auto = bound(r#"{"freeze": "own", "scale": 300}"#);
        let value: Vec<f64> = (0..2000).map(|i| noise(i) + if i < 1000 { 0.0 } else { 1e3 }).collect();
        let (flags, _) = judge_all(&d, &seconds(2000), &value);
        assert!(flags[1000..1300].iter().all(|flag| flag.is_bad()));
        assert!(flags[1500..].iter().filter(|flag| flag.is_bad()).count() < 20);
    }

    /// Given values that no square can hold, constants and clocks that jump, then statistics are finite.
    #[test]
    fn any_finite_value_is_judged_with_finite_numbers() {
        let odd = [1e300, -1e300, 5e-324, -5e-324, 1e140, -1e140, 0.0, f64::MAX, 1.0];
        let year = 365 * DAY_NS;
        for constant in [0.0, 5e-324, 1e139, -3.0] {
            let d: Auto = bound(r#"{"warm_up": 20, "scale": 40, "false_alarms": "1/week"}"#);
            let value: Vec<f64> = (0..400)
                .map(|i| if i > 50 && i % 11 == 0 { odd[i / 11 % odd.len()] } else { constant })
                .collect();
            let ts: Vec<i64> =
                (0..400).map(|i| i * 1_000_000_000 + i / 100 * 10 * year - (i / 150) * year).collect();
            let (flags, evidence) = judge_all(&d, &ts, &value);
            assert!(flags.iter().all(|flag| *flag != Flag::Missing));
            assert!(evidence.iter().all(|e| e.statistic.is_finite() && e.hi.is_finite()), "{constant}");
        }
        let d: Auto = bound(r#"{"warm_up": 20, "scale": 40}"#);
        let (flags, _) = judge_all(&d, &seconds(400), &[f64::NAN; 400]);
        assert!(flags.iter().all(|flag| *flag == Flag::Missing));
    }

    /// Given a constant level, when it moves by its own rounding, then it is good; by a thousandth, then not.
    #[test]
    fn rounding_of_a_constant_is_no_surprise() {
        let d: Auto = bound("{}");
        let mut value = vec![1e6 + 0.3; 900];
        value[500] += 1e-9;
        value[700] *= 1.001;
        assert_eq!(alarms(&d, &seconds(900), &value), [700]);
    }

    /// Given a rate in time, when the tag has ten times the rows, then a tenth is allowed for each.
    #[test]
    fn a_rate_in_time_follows_the_steps_of_the_tag() {
        let far = |step_ns: i64| {
            let d: Auto = bound(r#"{"false_alarms": "1/day"}"#);
            let (mut state, mut window) = (AutoState::zeroed(), vec![0.0; d.window_len()]);
            let ts: Vec<i64> = (0..300).map(|i| i * step_ns).collect();
            let value: Vec<f64> = (0..300).map(noise).collect();
            let (mut flags, mut evidence) = (vec![Flag::Good; 300], Vec::new());
            let mut out =
                Verdicts { flags: &mut flags, evidence: &mut evidence, explain_from: Flag::Suspect };
            let samples = Samples { ts: &ts, value: &value, trusted: &[true; 300] };
            d.judge(&mut state, &mut window, samples, &mut out);
            d.far(&state)
        };
        let minute = 60_000_000_000;
        assert!((far(minute) * 1440.0 - 1.0).abs() < 1e-9, "{}", far(minute));
        assert!((far(minute / 10) * 14400.0 - 1.0).abs() < 1e-9);
        assert_eq!(far(0), LEAST_ALARMS);
    }

    /// Given wrong sizes and rates, then the parameters are refused.
    #[test]
    fn wrong_parameters_are_refused() {
        for bad in [
            r#"{"warm_up": 9}"#,
            r#"{"scale": 5000}"#,
            r#"{"false_alarms": 0.5}"#,
            r#"{"false_alarms": "1/never"}"#,
            r#"{"min_deviation": -1}"#,
            r#"{"constants": {}}"#,
            r#"{"sensitivity": 3}"#,
        ] {
            assert!(serde_json::from_str::<AutoRaw>(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        /// The place of the closest neighbours is the one that a plain search finds first.
        #[test]
        fn the_closest_is_the_first_closest(mut book in prop::collection::vec(0i32..60, 3..150)) {
            book.sort_unstable();
            let book: Vec<f64> = book.into_iter().map(f64::from).collect();
            let gap = |i: &usize| book[i + 1] - book[i - 1];
            let naive = (1..book.len() - 1).min_by(|a, b| gap(a).total_cmp(&gap(b)));
            prop_assert_eq!(Some(closest(&book)), naive);
        }
    }

    /// Given the default, then a tag costs no more than 2.6 kB.
    #[test]
    fn a_tag_is_small() {
        let d: Auto = bound("{}");
        let bytes = size_of::<AutoState>() + 8 * d.window_len();
        assert!(bytes <= 2600, "{bytes}");
    }
}
