//! What can be wrong with a channel, and the labels that say so.

use crate::plant::{TICK_NS, tick_ns};
use crate::rng::Rng;

/// The kind of a fault. `size` of a [`Fault`] is in mean channel sigmas unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultKind {
    /// Isolated outliers of either sign, one to two sizes high, in 30 to 70 % of the ticks.
    Spike,
    /// The last reading is repeated exactly. `size` is not used.
    Stuck,
    /// The process part is frozen but the noise goes on. `size` is not used.
    StuckNoisy,
    /// A ramp that reaches `size` after 70 % of the interval and stays.
    Drift,
    /// A constant offset.
    Bias,
    /// A wrong factor; `size` is its effect at 350 units.
    Gain,
    /// Additional normal noise of this deviation.
    Noise,
    /// No reading at all. `size` is not used.
    Dropout,
    /// The process as it was 5 to 60 ticks ago. `size` is not used.
    Delay,
    /// A smooth S-curve without a kink, as an intruder would inject it.
    FalseData,
    /// The same offset on every channel.
    CommonStep,
    /// The same ramp on every channel.
    CommonDrift,
    /// The same offset on the channel and its next neighbour.
    ColludeStep,
    /// The same ramp on the channel and its next neighbour.
    ColludeDrift,
}

impl FaultKind {
    /// Every kind, in the order of declaration.
    pub const ALL: [FaultKind; 14] = [
        FaultKind::Spike,
        FaultKind::Stuck,
        FaultKind::StuckNoisy,
        FaultKind::Drift,
        FaultKind::Bias,
        FaultKind::Gain,
        FaultKind::Noise,
        FaultKind::Dropout,
        FaultKind::Delay,
        FaultKind::FalseData,
        FaultKind::CommonStep,
        FaultKind::CommonDrift,
        FaultKind::ColludeStep,
        FaultKind::ColludeDrift,
    ];

    /// The kind's name in labels and reports.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::Spike => "spike",
            FaultKind::Stuck => "stuck",
            FaultKind::StuckNoisy => "stuck_noisy",
            FaultKind::Drift => "drift",
            FaultKind::Bias => "bias",
            FaultKind::Gain => "gain",
            FaultKind::Noise => "noise",
            FaultKind::Dropout => "dropout",
            FaultKind::Delay => "delay",
            FaultKind::FalseData => "false_data",
            FaultKind::CommonStep => "common_step",
            FaultKind::CommonDrift => "common_drift",
            FaultKind::ColludeStep => "collude_step",
            FaultKind::ColludeDrift => "collude_drift",
        }
    }

    /// How many of `channels` the kind touches.
    fn reach(self, channels: usize) -> usize {
        match self {
            FaultKind::CommonStep | FaultKind::CommonDrift => channels,
            FaultKind::ColludeStep | FaultKind::ColludeDrift => channels.min(2),
            _ => 1,
        }
    }
}

/// One fault of a [`crate::Plant`], over the ticks `start_tick..end_tick`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// The channel (the first of two for `Collude…`; any valid one for `Common…`).
    pub channel: usize,
    /// First tick touched.
    pub start_tick: u64,
    /// First tick no longer touched.
    pub end_tick: u64,
    /// Signed size, in mean channel sigmas.
    pub size: f64,
}

impl Fault {
    /// A random fault that starts at or after `from_tick`: 4 to 60 sigmas (log-uniform) of either sign, 120 to 1,440
    /// ticks long (spikes 30 to 240). Small ones are included on purpose: some cannot be found by anyone.
    ///
    /// - Panics: when there are no channels, a bug of the caller.
    pub fn draw(kind: FaultKind, seed: u64, channels: usize, from_tick: u64) -> Fault {
        assert!(channels > 0, "a fault needs a channel");
        let mut rng = Rng::stream(seed, &[DRAW, kind as u64]);
        let (shortest, longest) = if kind == FaultKind::Spike { (30, 240) } else { (120, 1440) };
        let channel = rng.below(channels as u64) as usize;
        let start_tick = from_tick + rng.below(1440);
        let end_tick = start_tick + shortest + rng.below(longest - shortest + 1);
        let sign = rng.choice(&[-1.0, 1.0]);
        Fault { kind, channel, start_tick, end_tick, size: sign * rng.log_uniform(4.0, 60.0) }
    }

    /// The channels touched, in a plant of `channels` channels, in ascending order.
    pub fn channels(&self, channels: usize) -> Vec<usize> {
        let reach = self.kind.reach(channels);
        let mut touched: Vec<usize> = (0..reach).map(|i| (self.channel + i) % channels).collect();
        touched.sort_unstable();
        touched
    }

    /// What the fault is called in the truth file of a plant of `channels` channels that starts at `start_ns`.
    pub(crate) fn label(&self, channels: usize, start_ns: i64) -> Label {
        Label {
            kind: self.kind,
            channels: self.channels(channels),
            start_ns: tick_ns(start_ns, self.start_tick),
            end_ns: tick_ns(start_ns, self.end_tick) - TICK_NS,
            start_tick: self.start_tick,
            end_tick: self.end_tick,
            size: self.size,
        }
    }

    pub(crate) fn touches(&self, channel: usize, channels: usize, tick: u64) -> bool {
        let distance = (channel + channels - self.channel % channels) % channels;
        (self.start_tick..self.end_tick).contains(&tick) && distance < self.kind.reach(channels)
    }
}

/// The truth about one fault.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// What is wrong.
    pub kind: FaultKind,
    /// The channels touched, ascending.
    pub channels: Vec<usize>,
    /// Time of the first tick touched.
    pub start_ns: i64,
    /// Time of the last tick touched.
    pub end_ns: i64,
    /// First tick touched.
    pub start_tick: u64,
    /// First tick no longer touched.
    pub end_tick: u64,
    /// Signed size, in mean channel sigmas.
    pub size: f64,
}

const DRAW: u64 = 0x6472_6177;
