//! One redundant quantity of a hard plant: a wandering process, imperfect channels, four peers, injected faults.
//!
//! Units: one unit is the nominal noise sigma of a channel. A tick is a minute, a day 1,440 ticks. The process has a
//! daily and a shift cycle, load steps, weather, an unmeasured disturbance and its own lag; the channels differ in
//! noise, tails, bias (which wanders over a week), gain, temperature effect, lag, jitter, resolution and losses.
//! A plant that is gentler than this one proves nothing about false exclusions.

use std::f64::consts::PI;

use crate::EPOCH_NS;
use crate::fault::{Fault, FaultKind, Label};
use crate::rng::Rng;

/// Ticks in a day.
pub const DAY_TICKS: u64 = 1440;
/// Nanoseconds in a tick: one minute.
pub const TICK_NS: i64 = 60_000_000_000;
/// Number of peers in every tick: load, downstream, ambient, and a spurious one that shares only the daily cycle.
pub const PEERS: usize = 4;

/// One instant of a plant.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// Event time.
    pub t_ns: i64,
    /// The quantity itself, which no channel reads exactly.
    pub truth: f64,
    /// What each channel reports; `None` when it reports nothing.
    pub readings: Vec<Option<f64>>,
    /// The peers: load, downstream, ambient, spurious.
    pub peers: Vec<f64>,
}

/// A seeded plant: an endless iterator of [`Tick`]s.
///
/// ```
/// use datasets::{Fault, FaultKind, Plant};
/// let stuck = Fault { kind: FaultKind::Stuck, channel: 1, start_tick: 100, end_tick: 200, size: 0.0 };
/// let mut plant = Plant::new(7, 3).with_faults(vec![stuck]);
/// assert_eq!(plant.labels()[0].channels, [1]);
/// assert_eq!(plant.next().map(|tick| tick.readings.len()), Some(3));
/// ```
#[derive(Debug, Clone)]
pub struct Plant {
    seed: u64,
    start_ns: i64,
    tick: u64,
    process: Process,
    channels: Vec<Channel>,
    peers: Peers,
    faults: Vec<Injected>,
}

impl Plant {
    /// A clean plant with `channels` channels. A channel's readings do not depend on how many others there are.
    ///
    /// - Panics: without channels, a bug of the caller.
    pub fn new(seed: u64, channels: usize) -> Plant {
        assert!(channels > 0, "a plant needs at least one channel");
        let params = Params::draw(&mut Rng::stream(seed, &[PARAMS]));
        let process = Process::new(params, Rng::stream(seed, &[PROCESS]));
        let peers = Peers::new(&process, Rng::stream(seed, &[PEER]));
        let channels =
            (0..channels).map(|i| Channel::new(&process, Rng::stream(seed, &[CHANNEL, i as u64]))).collect();
        Plant { seed, start_ns: EPOCH_NS, tick: 0, process, channels, peers, faults: Vec::new() }
    }

    /// The same plant with these faults, applied in this order where they overlap.
    ///
    /// - Panics: on a channel that does not exist, an empty interval or a size that is not finite.
    pub fn with_faults(mut self, faults: Vec<Fault>) -> Plant {
        for fault in &faults {
            assert!(fault.channel < self.channels.len(), "fault on a channel that does not exist: {fault:?}");
            assert!(fault.start_tick < fault.end_tick, "fault over no tick: {fault:?}");
            assert!(fault.size.is_finite(), "fault without a finite size: {fault:?}");
        }
        let seed = self.seed;
        let inject = |(i, fault)| Injected::new(fault, seed, i as u64, self.channels.len());
        self.faults = faults.into_iter().enumerate().map(inject).collect();
        self
    }

    /// The same plant with its first tick at `start_ns`; the day of the plant starts there too.
    pub fn with_start(mut self, start_ns: i64) -> Plant {
        self.start_ns = start_ns;
        self
    }

    /// The truth about the injected faults, in the order given.
    pub fn labels(&self) -> Vec<Label> {
        self.faults.iter().map(|injected| injected.fault.label(self.channels.len(), self.start_ns)).collect()
    }

    /// Noise sigma of each channel: the unit of fault sizes is their mean.
    pub fn sigmas(&self) -> Vec<f64> {
        self.channels.iter().map(|channel| channel.sigma).collect()
    }
}

impl Iterator for Plant {
    type Item = Tick;

    fn next(&mut self) -> Option<Tick> {
        let tick = self.tick;
        let drive = self.process.step(tick);
        let count = self.channels.len();
        let mean_sigma = self.channels.iter().map(|channel| channel.sigma).sum::<f64>() / count as f64;
        let mut readings = Vec::with_capacity(count);
        for (i, channel) in self.channels.iter_mut().enumerate() {
            let mut raw = channel.read(&self.process, tick);
            for injected in &mut self.faults {
                if injected.fault.touches(i, count, tick) {
                    injected.apply(&mut raw, channel, i, tick, mean_sigma);
                }
            }
            readings.push(channel.report(raw, self.process.params.resolution));
        }
        let peers = self.peers.step(&self.process, tick, &drive);
        self.tick += 1;
        Some(Tick { t_ns: tick_ns(self.start_ns, tick), truth: self.process.x, readings, peers })
    }
}

/// Time of a tick. A tick beyond the range of `i64` nanoseconds (the year 2262) stays at its end.
pub(crate) fn tick_ns(start_ns: i64, tick: u64) -> i64 {
    let offset_ns = i64::try_from(tick).unwrap_or(i64::MAX).saturating_mul(TICK_NS);
    start_ns.saturating_add(offset_ns)
}

/// What a plant is like; drawn once from the seed. Amplitudes in sigmas, times in ticks.
#[derive(Debug, Clone)]
struct Params {
    time_constant: f64,
    daily: f64,
    shift: f64,
    load: f64,
    loads_per_day: f64,
    process_noise: f64,
    weather: f64,
    weather_time: f64,
    disturbance: f64,
    disturbance_time: f64,
    noise_ar: f64,
    tail: f64,
    resolution: f64,
    jitter: f64,
    lag: f64,
    bias: f64,
    wander: f64,
    gain: f64,
    temperature_effect: f64,
    base: f64,
    weekend: f64,
    peer_noise: [f64; 3],
    downstream_time: f64,
    loss: f64,
}

impl Params {
    fn draw(rng: &mut Rng) -> Params {
        Params {
            time_constant: rng.log_uniform(1.5, 120.0),
            daily: rng.log_uniform(10.0, 60.0),
            shift: rng.log_uniform(5.0, 30.0),
            load: rng.log_uniform(5.0, 40.0),
            loads_per_day: rng.log_uniform(1.0, 8.0),
            process_noise: rng.log_uniform(0.3, 6.0),
            weather: rng.log_uniform(3.0, 15.0),
            weather_time: rng.log_uniform(1440.0, 4320.0),
            disturbance: rng.log_uniform(1.0, 6.0),
            disturbance_time: rng.log_uniform(60.0, 360.0),
            noise_ar: rng.choice(&[0.0, 0.7, 0.9]),
            tail: rng.choice(&[0.01, 0.03]),
            resolution: rng.choice(&[0.0, 0.3, 1.0, 2.0, 3.0]),
            jitter: rng.uniform(0.1, 0.5),
            lag: rng.log_uniform(0.05, 1.5),
            bias: 3.0,
            wander: 2.0,
            gain: 0.012,
            temperature_effect: rng.uniform(0.0, 2.0),
            base: rng.uniform(200.0, 500.0),
            weekend: rng.uniform(0.2, 1.0),
            peer_noise: [rng.log_uniform(0.05, 0.3), rng.log_uniform(0.05, 0.3), rng.log_uniform(0.1, 0.5)],
            downstream_time: rng.log_uniform(3.0, 60.0),
            loss: rng.choice(&[0.0005, 0.005, 0.02]),
        }
    }
}

/// What drives the process in one tick, as the peers see it.
struct Drive {
    daily: f64,
    load: f64,
}

/// The quantity itself, four sub-steps a tick, with its recent past for channels that lag.
#[derive(Debug, Clone)]
struct Process {
    params: Params,
    rng: Rng,
    x: f64,
    recent: [f64; RECENT],
    newest: usize,
    phase: f64,
    daily_scale: f64,
    shift_level: [f64; 3],
    shift_jitter: [f64; 3],
    load: f64,
    weather: f64,
    disturbance: f64,
}

impl Process {
    fn new(params: Params, mut rng: Rng) -> Process {
        let shift_level = [(); 3].map(|()| rng.normal() * params.shift);
        let phase = rng.uniform(0.0, 2.0 * PI);
        let load = rng.normal() * params.load;
        let weather = rng.normal() * params.weather;
        Process {
            x: params.base,
            recent: [params.base; RECENT],
            newest: 0,
            phase,
            daily_scale: 1.0,
            shift_level,
            shift_jitter: [0.0; 3],
            load,
            weather,
            disturbance: 0.0,
            params,
            rng,
        }
    }

    fn step(&mut self, tick: u64) -> Drive {
        let p = &self.params;
        let (minute, day) = (tick % DAY_TICKS, tick / DAY_TICKS);
        if minute == 0 {
            self.daily_scale = 1.0 + 0.7 * (self.daily_scale - 1.0) + 0.12 * self.rng.normal();
            self.shift_jitter = [(); 3].map(|()| self.rng.normal() * 8.0);
        }
        let workday = if day % 7 >= 5 { p.weekend } else { 1.0 };
        if self.rng.unit() < p.loads_per_day / DAY_TICKS as f64 {
            self.load = self.rng.normal() * p.load;
        }
        self.weather = wandering(self.weather, p.weather, p.weather_time, &mut self.rng);
        self.disturbance = wandering(self.disturbance, p.disturbance, p.disturbance_time, &mut self.rng);
        let angle = day_angle(minute);
        let daily = p.daily
            * self.daily_scale
            * (libm::sin(angle + self.phase) + 0.3 * libm::sin(2.0 * angle + self.phase));
        let load = (shift_now(minute as f64, &self.shift_level, &self.shift_jitter) + self.load) * workday;
        let target = p.base + daily + load + self.weather + self.disturbance;
        let (follow, kick) = (
            1.0 - libm::exp(-1.0 / (SUB_STEPS * p.time_constant)),
            p.process_noise * libm::sqrt(1.0 / (SUB_STEPS * p.time_constant)),
        );
        for _ in 0..SUB_STEPS as usize {
            self.x += follow * (target - self.x) + kick * self.rng.normal();
            self.newest = (self.newest + 1) % RECENT;
            self.recent[self.newest] = self.x;
        }
        Drive { daily, load }
    }

    /// The process `age` sub-steps ago, linear between sub-steps.
    fn past(&self, age: f64) -> f64 {
        let whole = libm::floor(age);
        let (back, part) = ((whole as usize).min(RECENT - 2), age - whole);
        let at = |steps: usize| self.recent[(self.newest + RECENT - steps) % RECENT];
        at(back) * (1.0 - part) + at(back + 1) * part
    }
}

/// Level of the shift that is on at this minute of the day.
fn shift_now(minute: f64, level: &[f64; 3], jitter: &[f64; 3]) -> f64 {
    if minute < 360.0 + jitter[0] || minute >= 1320.0 + jitter[2] {
        level[2]
    } else if minute < 840.0 + jitter[1] {
        level[0]
    } else {
        level[1]
    }
}

/// One step of a stationary first-order wander with this deviation and correlation time.
fn wandering(x: f64, deviation: f64, time: f64, rng: &mut Rng) -> f64 {
    let keep = libm::exp(-1.0 / time);
    keep * x + libm::sqrt(1.0 - keep * keep) * deviation * rng.normal()
}

fn day_angle(minute: u64) -> f64 {
    2.0 * PI * minute as f64 / DAY_TICKS as f64
}

/// One sensor channel and its weaknesses.
#[derive(Debug, Clone)]
struct Channel {
    rng: Rng,
    sigma: f64,
    bias: f64,
    gain: f64,
    lag: f64,
    temperature_effect: f64,
    noise: f64,
    wander: f64,
    /// Process part of the last `HISTORY` readings, by tick.
    history: [f64; HISTORY],
    reported: Option<f64>,
}

/// A reading before resolution: the process part, what the channel adds, and whether it is lost or overridden.
struct RawReading {
    process: f64,
    added: f64,
    lost: bool,
    held: Option<f64>,
}

impl Channel {
    fn new(process: &Process, mut rng: Rng) -> Channel {
        let p = &process.params;
        let sigma = rng.log_uniform(0.6, 1.6);
        let bias = rng.normal() * p.bias;
        let gain = rng.normal() * p.gain;
        let lag = rng.uniform(0.0, p.lag);
        let temperature_effect = rng.uniform(-1.0, 1.0) * p.temperature_effect;
        let history = [p.base; HISTORY];
        Channel {
            rng,
            sigma,
            bias,
            gain,
            lag,
            temperature_effect,
            noise: 0.0,
            wander: 0.0,
            history,
            reported: None,
        }
    }

    /// The clean reading of a tick. Draws the same number of random values whatever happens.
    fn read(&mut self, process: &Process, tick: u64) -> RawReading {
        let p = &process.params;
        let seen = process.past((self.lag + self.rng.unit() * p.jitter) * SUB_STEPS);
        let mut e = self.rng.normal();
        if self.rng.unit() < p.tail {
            e *= 4.0;
        }
        let own = self.rng.normal();
        if p.noise_ar > 0.0 {
            self.noise = p.noise_ar * self.noise + libm::sqrt(1.0 - p.noise_ar * p.noise_ar) * own;
            e = std::f64::consts::FRAC_1_SQRT_2 * (e + self.noise);
        }
        self.wander = wandering(self.wander, p.wander, (7 * DAY_TICKS) as f64, &mut self.rng);
        let temperature = self.temperature_effect * libm::sin(day_angle(tick % DAY_TICKS));
        let added = self.bias + self.wander + self.gain * (seen - p.base) + temperature + self.sigma * e;
        self.history[(tick % HISTORY as u64) as usize] = seen;
        RawReading { process: seen, added, lost: self.rng.unit() < p.loss, held: None }
    }

    /// What goes out for a reading.
    fn report(&mut self, raw: RawReading, resolution: f64) -> Option<f64> {
        let value = raw.process + raw.added;
        let rounded =
            if resolution > 0.0 { libm::floor(value / resolution + 0.5) * resolution } else { value };
        let reading = raw.held.or((!raw.lost).then_some(rounded));
        self.reported = reading.or(self.reported);
        reading
    }

    /// Process part `ticks` before `tick`; the oldest known when the plant is younger.
    fn process_before(&self, tick: u64, ticks: u64) -> f64 {
        self.history[(tick.saturating_sub(ticks) % HISTORY as u64) as usize]
    }
}

/// The related tags.
#[derive(Debug, Clone)]
struct Peers {
    rng: Rng,
    load: f64,
    downstream: f64,
    error: [f64; PEERS],
    scale: f64,
}

impl Peers {
    fn new(process: &Process, rng: Rng) -> Peers {
        let p = &process.params;
        let daily = p.daily * p.daily / 2.0;
        let scale = libm::sqrt(daily + p.shift * p.shift + p.load * p.load + p.weather * p.weather);
        Peers { rng, load: 0.0, downstream: p.base, error: [0.0; PEERS], scale }
    }

    fn step(&mut self, process: &Process, tick: u64, drive: &Drive) -> Vec<f64> {
        let (p, rng) = (&process.params, &mut self.rng);
        let [noise_0, noise_1, noise_2] = p.peer_noise;
        let load_scale = libm::sqrt(p.shift * p.shift + p.load * p.load);
        self.load += 0.2 * (drive.load - self.load);
        let [load, downstream, ambient, spurious] = &mut self.error;
        *load = 0.99 * *load + 0.141 * noise_0 * load_scale * rng.normal();
        *downstream = 0.997 * *downstream + 0.0774 * noise_1 * self.scale * rng.normal();
        *ambient = 0.998 * *ambient + 0.0632 * noise_2 * p.daily * rng.normal();
        *spurious = 0.999 * *spurious + 0.0447 * 20.0 * rng.normal();
        let follow = 1.0 - libm::exp(-1.0 / p.downstream_time);
        self.downstream += follow * (0.8 * process.x + *downstream - self.downstream);
        vec![
            self.load + *load + rng.normal(),
            self.downstream + rng.normal(),
            drive.daily + 0.7 * process.weather + *ambient + rng.normal(),
            10.0 * libm::sin(day_angle(tick % DAY_TICKS) + process.phase + 1.0) + *spurious,
        ]
    }
}

/// A fault in place, with what it drew and what it holds for each channel.
#[derive(Debug, Clone)]
struct Injected {
    fault: Fault,
    seed: u64,
    index: u64,
    share: f64,
    delay_ticks: u64,
    held: Vec<Option<f64>>,
}

impl Injected {
    fn new(fault: Fault, seed: u64, index: u64, channels: usize) -> Injected {
        let mut rng = Rng::stream(seed, &[FAULT, index]);
        let (share, delay_ticks) = (rng.uniform(0.3, 0.7), 5 + rng.below(56));
        Injected { fault, seed, index, share, delay_ticks, held: vec![None; channels] }
    }

    fn apply(&mut self, raw: &mut RawReading, channel: &Channel, i: usize, tick: u64, mean_sigma: f64) {
        let size = self.fault.size * mean_sigma;
        let length = (self.fault.end_tick - self.fault.start_tick) as f64;
        let elapsed = (tick - self.fault.start_tick) as f64;
        let mut rng = Rng::stream(self.seed, &[FAULT, self.index, i as u64, tick]);
        match self.fault.kind {
            FaultKind::Spike => {
                let (hit, sign, height) =
                    (rng.unit() < self.share, rng.choice(&[-1.0, 1.0]), rng.uniform(1.0, 2.0));
                if hit {
                    raw.added += sign * height * libm::fabs(size);
                }
            }
            FaultKind::Stuck => {
                let clean = raw.process + raw.added;
                let held = *self.held[i].get_or_insert(channel.reported.unwrap_or(clean));
                raw.held = Some(held);
            }
            FaultKind::StuckNoisy => {
                raw.process = *self.held[i].get_or_insert(channel.process_before(tick, 1));
            }
            FaultKind::Drift | FaultKind::CommonDrift | FaultKind::ColludeDrift => {
                raw.added += size * (elapsed / (length * 0.7)).min(1.0);
            }
            FaultKind::Bias | FaultKind::CommonStep | FaultKind::ColludeStep => raw.added += size,
            FaultKind::Gain => raw.process *= 1.0 + size / GAIN_REFERENCE,
            FaultKind::Noise => raw.added += rng.normal() * libm::fabs(size),
            FaultKind::Dropout => raw.lost = true,
            FaultKind::Delay => raw.process = channel.process_before(tick, self.delay_ticks),
            FaultKind::FalseData => {
                raw.added += size * 0.5 * (1.0 - libm::cos(PI * (elapsed / (length * 0.5)).min(1.0)));
            }
        }
    }
}

/// Value at which a gain fault has the effect that its size says.
const GAIN_REFERENCE: f64 = 350.0;
/// Steps of the process in a tick.
const SUB_STEPS: f64 = 4.0;
/// Sub-steps of the process that lagging channels can look back to.
const RECENT: usize = 64;
/// Ticks of a channel's process part that a delay can look back to; more than the longest delay.
const HISTORY: usize = 64;
const PARAMS: u64 = 1;
const PROCESS: u64 = 2;
const CHANNEL: u64 = 3;
const PEER: u64 = 4;
const FAULT: u64 = 5;
