//! The promises of the demo plant: repeatable, clean outside its labels, and visibly wrong inside them.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::BTreeMap;

use datasets::{DEMO_SCRIPT_TICKS, DEMO_TAGS, DemoFault, DemoLabel, EPOCH_NS, Row, demo_plant};

const SECOND_NS: i64 = 1_000_000_000;

/// Given the seed, then the bytes of two rounds are the committed ones, on every machine.
#[test]
fn the_same_seed_gives_the_same_bytes() {
    let digest = digest(&rounds(1, 2));
    assert_eq!(digest, 0xc6d1_6a1c_3fe9_53d4, "got {digest:#018x}");
    assert_ne!(digest, self::digest(&rounds(2, 2)));
}

/// Given twenty seeds, when a sample carries no label, then it is present, good, within the suspect limits of its
/// tag and no faster than its limit: a default configuration raises nothing but the scripted faults.
#[test]
fn nothing_is_wrong_outside_the_labels() {
    for seed in 0..20 {
        let labels = demo_plant(seed).labels(2);
        for (tag, rows) in by_tag(&rounds(seed, 2)) {
            let limits = DEMO_TAGS.iter().find(|known| known.name == tag).unwrap();
            for pair in rows.windows(2) {
                let (before, row) = (pair[0], pair[1]);
                if label_at(&labels, tag, row.ts_ns).is_some() {
                    continue;
                }
                assert_eq!(row.quality, 0);
                assert!((limits.suspect[0]..=limits.suspect[1]).contains(&row.value), "seed {seed} {row:?}");
                if label_at(&labels, tag, before.ts_ns).is_none() {
                    assert_eq!(
                        row.ts_ns - before.ts_ns,
                        SECOND_NS * (1 + missing_between(&labels, before, row))
                    );
                    let elapsed_s = (row.ts_ns - before.ts_ns) as f64 / 1e9;
                    let per_s = (row.value - before.value).abs() / elapsed_s;
                    assert!(per_s < limits.suspect_per_s, "seed {seed} {row:?}");
                }
            }
        }
    }
}

/// Given twenty seeds, then each scripted fault shows what it says and only that.
#[test]
fn every_scripted_fault_is_visible() {
    for seed in 0..20 {
        let rows = by_tag(&rounds(seed, 2));
        let labels = demo_plant(seed).labels(2);
        assert_eq!(labels.len(), 12);
        for label in &labels {
            let limits = DEMO_TAGS.iter().find(|known| known.name == label.tag).unwrap();
            let near =
                |row: &&Row| (label.start_ns - SECOND_NS..=label.end_ns + SECOND_NS).contains(&row.ts_ns);
            let inside: Vec<Row> = rows[label.tag].iter().filter(near).copied().collect();
            let middle = &inside[1..inside.len() - 1];
            let fastest = inside.windows(2).map(|w| (w[1].value - w[0].value).abs()).fold(0.0, f64::max);
            match label.fault {
                DemoFault::Range => {
                    assert!(middle.iter().any(|row| row.value > limits.fail[1]));
                    assert!(fastest < limits.suspect_per_s, "the excursion is also a ramp: {fastest}");
                }
                DemoFault::Ramp => {
                    assert!(fastest > limits.suspect_per_s);
                    assert!(middle.iter().all(|row| row.value < limits.suspect[1]));
                }
                DemoFault::Stuck => {
                    assert!(middle.iter().all(|row| row.value == middle[0].value) && middle.len() == 90);
                    let twin = &rows["boiler1.pressure.a"];
                    let apart = |row: &&Row| near(row) && (row.value - middle[0].value).abs() > 0.5;
                    assert!(twin.iter().filter(apart).count() >= 20, "the twins do not move away");
                }
                DemoFault::Bad => assert!(middle.iter().all(|row| row.quality != 0 && row.value.is_nan())),
                DemoFault::Dropout | DemoFault::Gap => assert!(middle.is_empty()),
            }
        }
    }
}

/// Given another period and start, then only the times change.
#[test]
fn period_and_start_change_only_the_times() {
    let plain = rounds(5, 1);
    let fast: Vec<Row> = demo_plant(5).with_start(1000).with_period(1_000_000).take(plain.len()).collect();
    for (plain, fast) in plain.iter().zip(&fast) {
        assert_eq!((plain.tag, plain.value.to_bits()), (fast.tag, fast.value.to_bits()));
        assert_eq!((plain.ts_ns - EPOCH_NS) / SECOND_NS, (fast.ts_ns - 1000) / 1_000_000);
    }
}

fn rounds(seed: u64, rounds: i64) -> Vec<Row> {
    let end_ns = EPOCH_NS + rounds * DEMO_SCRIPT_TICKS as i64 * SECOND_NS;
    demo_plant(seed).take_while(|row| row.ts_ns < end_ns).collect()
}

fn by_tag(rows: &[Row]) -> BTreeMap<&'static str, Vec<Row>> {
    let mut by_tag: BTreeMap<&'static str, Vec<Row>> = BTreeMap::new();
    rows.iter().for_each(|row| by_tag.entry(row.tag).or_default().push(*row));
    by_tag
}

fn label_at<'a>(labels: &'a [DemoLabel], tag: &str, ts_ns: i64) -> Option<&'a DemoLabel> {
    labels.iter().find(|label| label.tag == tag && (label.start_ns..=label.end_ns).contains(&ts_ns))
}

/// Ticks between two rows of a tag at which the script keeps it silent.
fn missing_between(labels: &[DemoLabel], before: Row, row: Row) -> i64 {
    let (first, last) = (before.ts_ns / SECOND_NS + 1, row.ts_ns / SECOND_NS);
    (first..last).filter(|second| label_at(labels, row.tag, second * SECOND_NS).is_some()).count() as i64
}

fn digest(rows: &[Row]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for row in rows {
        let numbers = [row.ts_ns as u64, row.value.to_bits(), u64::from(row.quality)];
        for byte in row.tag.bytes().chain(numbers.into_iter().flat_map(u64::to_le_bytes)) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}
