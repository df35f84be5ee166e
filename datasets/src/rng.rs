//! Counter-based random numbers: draw n of a stream is a hash of (key, n), so streams never disturb each other.
//!
//! The hash is SplitMix64's finaliser (Steele, Lea, Flood 2014). Not for cryptography.

/// One stream of random numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rng {
    key: u64,
    counter: u64,
}

impl Rng {
    /// The stream named by a seed and a path, for example `[CHANNEL, 2]`. Different paths give unrelated streams.
    pub fn stream(seed: u64, path: &[u64]) -> Rng {
        let mut key = mix(seed ^ 0x7261_6e64_6f6d_2121);
        for &step in path {
            key = mix(key.wrapping_add(GOLDEN) ^ mix(step.wrapping_add(GOLDEN)));
        }
        Rng { key, counter: 0 }
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        mix(self.key.wrapping_add(self.counter.wrapping_mul(GOLDEN)))
    }

    /// Uniform in [0, 1), a multiple of 2^-53.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// Uniform in [lo, hi).
    pub fn uniform(&mut self, lo: f64, hi: f64) -> f64 {
        lo + (hi - lo) * self.unit()
    }

    /// Log-uniform in [lo, hi); both positive.
    pub fn log_uniform(&mut self, lo: f64, hi: f64) -> f64 {
        libm::exp(self.uniform(libm::log(lo), libm::log(hi)))
    }

    /// Standard normal (Box-Muller, the cosine half only: one call is always two draws).
    pub fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.unit()));
        radius * libm::cos(2.0 * std::f64::consts::PI * self.unit())
    }

    /// One of the options, equally likely.
    ///
    /// - Panics: when there are none, a bug of the caller.
    pub fn choice(&mut self, options: &[f64]) -> f64 {
        assert!(!options.is_empty(), "a choice needs at least one option");
        options[self.below(options.len() as u64) as usize]
    }

    /// Uniform integer in [0, n). The bias of the multiply method is below n / 2^64.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    /// Given 200,000 normal draws, then mean, variance and the share beyond 1.96 are those of a normal.
    #[test]
    fn normal_draws_have_the_moments_of_a_normal() {
        let mut rng = Rng::stream(1, &[2]);
        let n = 200_000;
        let draws: Vec<f64> = (0..n).map(|_| rng.normal()).collect();
        let mean = draws.iter().sum::<f64>() / f64::from(n);
        let variance = draws.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / f64::from(n);
        let outside = draws.iter().filter(|x| x.abs() > 1.959_964).count() as f64 / f64::from(n);
        assert!(mean.abs() < 0.01, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.02, "variance {variance}");
        assert!((outside - 0.05).abs() < 0.003, "outside {outside}");
    }

    /// Given two paths that differ in one step, then no draw of one appears in the other.
    #[test]
    fn streams_are_unrelated() {
        let (mut a, mut b) = (Rng::stream(1, &[0, 1]), Rng::stream(1, &[1, 0]));
        let first: Vec<u64> = (0..1000).map(|_| a.bits()).collect();
        assert!((0..1000).all(|_| !first.contains(&b.bits())));
    }
}
