//! Intervals for forecasts at several horizons, calibrated by the model's own misses (split conformal).
//!
//! For each horizon of a grid there is a ring of the sizes of past misses. Half the width of the interval is the miss with
//! rank ⌈(n + 1)·coverage⌉; over the grid it is the largest so far, and linear between grid horizons, so it never narrows.
//! A ring with too few misses for its rank borrows: the last calibrated width grows with the square root of the horizon.

use serde::{Deserialize, Serialize};

/// Horizons that are calibrated, in ticks.
pub const GRID: [u64; 10] = [1, 2, 5, 10, 20, 40, 80, 160, 320, 640];

/// Most misses kept for each horizon.
pub const RING: usize = 256;

/// Rings of misses, one for each horizon of the grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intervals {
    coverage: f64,
    rings: Vec<Ring>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Ring {
    misses: Vec<f64>,
    next: u32,
}

impl Intervals {
    /// No miss yet; horizons up to the first of the grid that reaches `max_ticks`.
    #[must_use]
    pub fn new(coverage: f64, max_ticks: u64) -> Self {
        let horizons = GRID.iter().position(|&h| h >= max_ticks).map_or(GRID.len(), |last| last + 1);
        Self { coverage, rings: vec![Ring::default(); horizons] }
    }

    /// Horizons in use, in ticks.
    #[must_use]
    pub fn horizons(&self) -> &'static [u64] {
        &GRID[..self.rings.len()]
    }

    /// Takes a miss of the horizon with this index; what is not finite is ignored.
    pub fn miss(&mut self, horizon: usize, miss: f64) {
        if !miss.is_finite() {
            return;
        }
        let ring = &mut self.rings[horizon];
        if ring.misses.len() < RING {
            ring.misses.push(miss.abs());
        } else {
            ring.misses[ring.next as usize] = miss.abs();
        }
        ring.next = (ring.next + 1) % RING as u32;
    }

    /// Whether the first horizon is calibrated.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.rings.first().is_some_and(|ring| ring.half_width(self.coverage).is_some())
    }

    /// Half the width of the interval `ticks` ahead; `None` until the first horizon is calibrated.
    #[must_use]
    pub fn half_width(&self, ticks: u64) -> Option<f64> {
        let (mut before_h, mut before) = (0.0, 0.0);
        let mut known: Option<(f64, f64)> = None;
        let at = ticks as f64;
        for (&h, ring) in GRID.iter().zip(&self.rings) {
            let Some(own) = ring.half_width(self.coverage) else { break };
            let (h, width) = (h as f64, own.max(before));
            if at <= h {
                // Before the first grid horizon there is nothing to lean on: its width holds from the start.
                let from = if before_h == 0.0 { width } else { before };
                return Some(from + (width - from) * (at - before_h) / (h - before_h));
            }
            (before_h, before) = (h, width);
            known = Some((h, width));
        }
        let (h, width) = known?;
        Some(bounded(width * (at / h).sqrt()))
    }
}

impl Ring {
    /// The miss with rank ⌈(n + 1)·coverage⌉; `None` when there are too few for that rank.
    fn half_width(&self, coverage: f64) -> Option<f64> {
        let n = self.misses.len();
        let rank = ((n as f64 + 1.0) * coverage).ceil() as usize;
        if rank == 0 || rank > n {
            return None;
        }
        let mut sorted = [0.0; RING];
        let sorted = &mut sorted[..n];
        sorted.copy_from_slice(&self.misses);
        let (_, miss, _) = sorted.select_nth_unstable_by(rank - 1, f64::total_cmp);
        Some(*miss)
    }
}

fn bounded(width: f64) -> f64 {
    width.min(f64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Given 99 misses of 1 to 99, then the 95 % width is the 95th; with 10 there is none yet.
    #[test]
    fn the_width_is_the_ranked_miss() {
        let mut intervals = Intervals::new(0.95, 1);
        assert_eq!(intervals.horizons(), [1]);
        for i in 1..=10 {
            intervals.miss(0, f64::from(i));
        }
        assert_eq!((intervals.ready(), intervals.half_width(1)), (false, None));
        for i in 11..=99 {
            intervals.miss(0, -f64::from(i));
        }
        intervals.miss(0, f64::NAN);
        assert_eq!(intervals.half_width(1), Some(95.0));
        assert_eq!(intervals.half_width(4), Some(190.0));
    }

    /// Given misses that shrink with the horizon, then the width does not.
    #[test]
    fn the_width_never_narrows() {
        let mut intervals = Intervals::new(0.9, 640);
        for horizon in 0..GRID.len() {
            for i in 0..300 {
                intervals.miss(
                    horizon,
                    f64::from(i % 50) / (horizon as f64 + 1.0) * if horizon == 4 { 9.0 } else { 1.0 },
                );
            }
        }
        let widths: Vec<f64> = (1..2000).map(|h| intervals.half_width(h).unwrap()).collect();
        assert!(widths.is_sorted());
    }
}
