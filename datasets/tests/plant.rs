//! The promises of the hard plant: repeatable, finite, and faults that stay where they are put.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use datasets::{DAY_TICKS, EPOCH_NS, Fault, FaultKind, PEERS, Plant, TICK_NS, Tick};

/// Given the seed, then the bytes of two days are the committed ones, on every machine.
///
/// A change here changes every figure measured on the plant: say so in the changelog.
#[test]
fn the_same_seed_gives_the_same_bytes() {
    let plant = || Plant::new(1, 3).with_faults(one_of_each(3));
    let digest = digest(plant().take(2 * DAY_TICKS as usize));
    assert_eq!(digest, digest_of_another_run(plant()), "two runs of one seed differ");
    assert_eq!(digest, 0xc6cc_cd47_a150_cb51, "got {digest:#018x}");
    assert_ne!(digest, digest_of_another_run(Plant::new(2, 3).with_faults(one_of_each(3))));
}

/// Given one fault of each kind on each channel, then nothing outside its channels and interval differs from the
/// clean plant of the same seed, truth and peers differ nowhere, and something differs inside.
#[test]
fn a_fault_changes_only_its_channels_and_interval() {
    for kind in FaultKind::ALL {
        for channel in 0..4 {
            let fault = Fault { kind, channel, start_tick: 100, end_tick: 260, size: -8.0 };
            let touched = fault.channels(4);
            let pairs = Plant::new(3, 4).zip(Plant::new(3, 4).with_faults(vec![fault]));
            let mut changed = 0;
            for (tick, (clean, faulty)) in pairs.take(400).enumerate() {
                assert_eq!((clean.truth, &clean.peers), (faulty.truth, &faulty.peers));
                for i in 0..4 {
                    let inside = (100..260).contains(&tick) && touched.contains(&i);
                    assert!(
                        inside || clean.readings[i] == faulty.readings[i],
                        "{kind:?} leaks at tick {tick}"
                    );
                    changed += usize::from(clean.readings[i] != faulty.readings[i]);
                }
            }
            assert!(changed >= touched.len() * 20, "{kind:?} changed only {changed} readings");
        }
    }
}

/// Given many seeds and a fault of each kind, then every value is finite and time advances by one tick.
#[test]
fn every_value_is_finite_and_time_is_regular() {
    for seed in 0..40 {
        let mut expected_ns = EPOCH_NS;
        for tick in Plant::new(seed, 3).with_faults(one_of_each(3)).take(3000) {
            assert_eq!(tick.t_ns, expected_ns);
            expected_ns += TICK_NS;
            assert_eq!((tick.readings.len(), tick.peers.len()), (3, PEERS));
            let values = tick.readings.iter().flatten().chain(&tick.peers).chain([&tick.truth]);
            assert!(values.copied().all(f64::is_finite), "seed {seed}");
        }
    }
}

/// Given a plant of three and one of five channels with one seed, then the first three channels are equal.
#[test]
fn a_channel_does_not_depend_on_how_many_others_there_are() {
    for (three, five) in Plant::new(9, 3).zip(Plant::new(9, 5)).take(500) {
        assert_eq!(three.readings, five.readings[..3]);
        assert_eq!(three.peers, five.peers);
    }
}

/// Given a stuck channel, then it repeats its last reading exactly; given a dropout, then it reports nothing.
#[test]
fn stuck_repeats_and_dropout_is_silent() {
    let fault = |kind, channel| Fault { kind, channel, start_tick: 50, end_tick: 90, size: 0.0 };
    let faults = vec![fault(FaultKind::Stuck, 0), fault(FaultKind::Dropout, 1)];
    let ticks: Vec<Tick> = Plant::new(4, 3).with_faults(faults).take(90).collect();
    let last = ticks[..50].iter().rev().find_map(|tick| tick.readings[0]).unwrap();
    assert!(ticks[50..].iter().all(|tick| tick.readings[0] == Some(last) && tick.readings[1].is_none()));
}

/// Given a bias of ten sigmas, then the paired readings differ by it, up to the resolution of the channel.
#[test]
fn a_bias_has_the_size_it_says() {
    let fault = Fault { kind: FaultKind::Bias, channel: 2, start_tick: 0, end_tick: 300, size: 10.0 };
    let plant = Plant::new(6, 3).with_faults(vec![fault]);
    let size = 10.0 * plant.sigmas().iter().sum::<f64>() / 3.0;
    for (clean, faulty) in Plant::new(6, 3).zip(plant).take(300) {
        if let (Some(clean), Some(faulty)) = (clean.readings[2], faulty.readings[2]) {
            assert!((faulty - clean - size).abs() <= 3.0, "{faulty} - {clean} against {size}");
        }
    }
}

/// Given drawn faults, then lengths and sizes are those documented and the labels repeat them.
#[test]
fn drawn_faults_keep_to_their_bounds() {
    for seed in 0..200 {
        for kind in FaultKind::ALL {
            let fault = Fault::draw(kind, seed, 3, 5000);
            let length = fault.end_tick - fault.start_tick;
            let bounds = if kind == FaultKind::Spike { 30..=240 } else { 120..=1440 };
            assert!(bounds.contains(&length) && fault.start_tick >= 5000 && fault.channel < 3);
            assert!((4.0..60.0).contains(&fault.size.abs()));
            let labels = Plant::new(seed, 3).with_faults(vec![fault]).labels();
            assert_eq!((labels[0].kind, labels[0].size), (kind, fault.size));
            assert_eq!(labels[0].start_ns, EPOCH_NS + fault.start_tick as i64 * TICK_NS);
            assert_eq!(labels[0].end_ns - labels[0].start_ns, (length as i64 - 1) * TICK_NS);
        }
    }
}

/// Given the names, then they are distinct.
#[test]
fn kinds_have_distinct_names() {
    let mut names: Vec<&str> = FaultKind::ALL.iter().map(|kind| kind.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), FaultKind::ALL.len());
}

fn one_of_each(channels: usize) -> Vec<Fault> {
    let fault = |(i, kind)| {
        let start_tick = 60 + 180 * i as u64;
        Fault { kind, channel: i % channels, start_tick, end_tick: start_tick + 150, size: 6.0 }
    };
    FaultKind::ALL.into_iter().enumerate().map(fault).collect()
}

fn digest_of_another_run(plant: Plant) -> u64 {
    digest(plant.take(2 * DAY_TICKS as usize))
}

/// FNV-1a over every bit of every tick.
fn digest(ticks: impl Iterator<Item = Tick>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bits: u64| {
        for byte in bits.to_le_bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for tick in ticks {
        add(tick.t_ns as u64);
        add(tick.truth.to_bits());
        tick.readings.iter().for_each(|reading| add(reading.map_or(u64::MAX, f64::to_bits)));
        tick.peers.iter().for_each(|peer| add(peer.to_bits()));
    }
    hash
}
