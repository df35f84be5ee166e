//! The promises of the labelled families and of the noises: repeatable, clean where nothing is labelled, changed where something is.

use datasets::{CLEAN_ROWS, Family, Noise, SIGNAL_ROWS, signal};

/// A digest of values and times.
fn digest(ts: &[i64], value: &[f64]) -> u64 {
    let words = ts.iter().map(|t| *t as u64).chain(value.iter().map(|x| x.to_bits()));
    words.fold(0xcbf2_9ce4_8422_2325, |hash, word| {
        (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17)
    })
}

/// Given the seed, then the bytes of every family and noise are the committed ones, on every machine.
#[test]
fn the_same_seed_gives_the_same_bytes() {
    let of_family = |family: &Family| {
        let signal = signal(*family, 1);
        digest(&signal.ts, &signal.value)
    };
    let families = Family::ALL.iter().map(of_family).fold(0, |all: u64, one| all.rotate_left(7) ^ one);
    let of_noise = |noise: &Noise| {
        let (ts, value) = noise.rows(true, 1000, 1);
        digest(&ts, &value)
    };
    let noises = Noise::ALL.iter().map(of_noise).fold(0, |all: u64, one| all.rotate_left(7) ^ one);
    assert_eq!(
        (families, noises),
        (0x291f_9b3f_2772_22ca, 0xc6de_2bd6_9e84_f168),
        "got {families:#018x} {noises:#018x}"
    );
    assert_ne!(signal(Family::Spikes, 1), signal(Family::Spikes, 2));
}

/// Given every family, then its events are apart, in order, after the clean rows and before the end, and times rise.
#[test]
fn events_are_apart_and_inside() {
    for family in Family::ALL {
        for seed in 0..10 {
            let signal = signal(family, seed);
            assert_eq!((signal.ts.len(), signal.value.len()), (SIGNAL_ROWS, SIGNAL_ROWS));
            assert!(signal.ts.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(signal.events.len() >= 3, "{} {seed}", family.name());
            let mut free = CLEAN_ROWS;
            for &(from, to) in &signal.events {
                assert!(free <= from && from <= to && to < SIGNAL_ROWS, "{} {seed}", family.name());
                free = to + 300;
            }
            let missing = signal.value.iter().any(|x| x.is_nan());
            assert_eq!(missing, family == Family::Seasonal);
        }
    }
}

/// Given a signal of shifts, then the mean after an event differs from that before by more than noise can.
#[test]
fn a_shift_is_there() {
    let mean = |rows: &[f64]| rows.iter().sum::<f64>() / rows.len() as f64;
    for seed in 0..10 {
        let signal = signal(Family::Shifts, seed);
        let clean = &signal.value[..CLEAN_ROWS];
        let level = mean(clean);
        let sigma = (clean.iter().map(|x| (x - level) * (x - level)).sum::<f64>() / 600.0).sqrt();
        let (at, _) = signal.events[0];
        let step = mean(&signal.value[at..at + 200]) - mean(&signal.value[at - 200..at]);
        assert!(step.abs() > sigma, "{seed}: {step} {sigma}");
    }
}
