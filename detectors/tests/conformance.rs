//! Laws that every listed detector, voter and forecast obeys.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use detectors::detect::{Columns, DetectRaw, Detector, KINDS, Visitor, visit};
use detectors::forecast::{Ar, ArRaw, Forecast, Hold, HoldRaw};
use detectors::vote::{MemberSample, MidValue, Panel, Voter};
use detectors::{Evidence, Flag, Samples, Verdicts};
use proptest::collection::vec;
use proptest::prelude::*;

/// Parameters that put every listed detector, and each of its modes, before the laws.
const WRITTEN: &[&str] = &[
    r#"{"range": {"fail": [-50, 50], "suspect": [-3, 3]}}"#,
    r#"{"rate": {"suspect_per_s": 1, "fail_per_s": 20, "max_gap": "30s"}}"#,
    r#"{"gap": {"max": "5s"}}"#,
    r#"{"ewma": {"half_life": "20s", "suspect": 3, "fail": 8, "warm_up": 5}}"#,
    r#"{"ewma": {"alpha": 0.1, "suspect": 3, "warm_up": 5, "freeze": "trusted", "relearn": "4s", "direction": "above"}}"#,
    r#"{"zscore": {"window": 12, "suspect": 3, "fail": 6, "min_samples": 5}}"#,
    r#"{"zscore": {"window": 8, "fail": 2, "min_samples": 2, "freeze": "never", "min_deviation": 0.5}}"#,
    r#"{"zscore": {"window": "10s", "suspect": 3, "min_samples": 5, "freeze": "trusted", "max_samples": 9, "direction": "below"}}"#,
    r#"{"auto": {"warm_up": 10, "scale": 16, "false_alarms": "1/10 rows"}}"#,
    r#"{"auto": {"warm_up": 12, "scale": 40, "false_alarms": "1/minute", "freeze": "own", "direction": "above", "min_deviation": 0.5}}"#,
    r#"{"auto": {"warm_up": 30, "scale": 20, "freeze": "trusted", "direction": "below"}}"#,
];

struct NoColumns;
impl Columns for NoColumns {
    fn number(&self, _column: &str) -> Option<f64> {
        None
    }
    fn tag(&self) -> &str {
        "t"
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Judged {
    flags: Vec<Flag>,
    /// Evidence, by sample of the whole run; bits, so that equal means the same bytes.
    evidence: Vec<(usize, Flag, [u64; 4])>,
    /// State and window after the run, as bytes.
    state: Vec<u8>,
    window: Vec<u64>,
    deadline: Option<i64>,
}

/// Judges a run cut at `cuts`. With `restore`, state and window pass through bytes at each cut.
struct InCuts<'a> {
    samples: &'a Run,
    cuts: &'a [usize],
    restore: bool,
}

impl Visitor for InCuts<'_> {
    type Out = Judged;
    fn visit<D: Detector>(self, raw: &D::Raw) -> Judged {
        let detector = D::bind(raw, &NoColumns).unwrap();
        let mut state: D::State = bytemuck::Zeroable::zeroed();
        let mut window = vec![0.0; detector.window_len()];
        let n = self.samples.value.len();
        let (mut flags, mut evidence) = (vec![Flag::Missing; n], Vec::new());
        let mut bounds: Vec<usize> = self.cuts.iter().map(|&c| c.min(n)).chain([0, n]).collect();
        bounds.sort_unstable();
        for cut in bounds.windows(2) {
            let (from, to) = (cut[0], cut[1]);
            let mut own: Vec<Evidence> = Vec::new();
            let mut out =
                Verdicts { flags: &mut flags[from..to], evidence: &mut own, explain_from: Flag::Good };
            let samples = Samples {
                ts: &self.samples.ts[from..to],
                value: &self.samples.value[from..to],
                trusted: &self.samples.trusted[from..to],
            };
            detector.judge(&mut state, &mut window, samples, &mut out);
            for e in own {
                assert!((0.0..=1.0).contains(&e.score), "{}: {e:?}", D::KIND);
                assert!(!e.statistic.is_nan() && e.lo <= e.hi, "{}: {e:?}", D::KIND);
                let bits = [e.statistic, e.lo, e.hi, e.score].map(f64::to_bits);
                evidence.push((from + e.slot as usize, e.flag, bits));
            }
            if self.restore {
                let bytes = bytemuck::bytes_of(&state).to_vec();
                state = bytemuck::pod_read_unaligned(&bytes);
                let words: Vec<u64> = window.iter().map(|w| w.to_bits()).collect();
                window = words.into_iter().map(f64::from_bits).collect();
            }
        }
        Judged {
            flags,
            evidence,
            state: bytemuck::bytes_of(&state).to_vec(),
            window: window.iter().map(|w| w.to_bits()).collect(),
            deadline: detector.deadline(&state),
        }
    }
}

#[derive(Clone, Debug)]
struct Run {
    ts: Vec<i64>,
    value: Vec<f64>,
    trusted: Vec<bool>,
}

fn run() -> impl Strategy<Value = Run> {
    let value = prop_oneof![
        20 => -2.0..2.0f64,
        3 => Just(1.0),
        2 => -100.0..100.0f64,
        2 => Just(f64::NAN),
        1 => prop_oneof![
            Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(f64::MAX), Just(f64::MIN),
            Just(1e140), Just(-1e139), Just(5e-324), Just(-0.0),
        ],
    ];
    let step = prop_oneof![8 => Just(1_000_000_000i64), 4 => 0..3_000_000_000i64, 1 => 0..60_000_000_000i64, 1 => Just(0)];
    vec((value, step, any::<bool>()), 0..90).prop_map(|rows| {
        let mut t = 1_700_000_000_000_000_000i64;
        let ts = rows.iter().map(|row| {
            t += row.1;
            t
        });
        Run {
            ts: ts.collect(),
            value: rows.iter().map(|row| row.0).collect(),
            trusted: rows.iter().map(|row| row.2).collect(),
        }
    })
}

fn written() -> Vec<DetectRaw> {
    WRITTEN.iter().map(|json| serde_json::from_str(json).unwrap()).collect()
}

fn judge(raw: &DetectRaw, samples: &Run, cuts: &[usize], restore: bool) -> Judged {
    visit(raw, InCuts { samples, cuts, restore })
}

/// Given the list of detectors, then each of them faces the laws below.
#[test]
fn every_listed_detector_faces_the_laws() {
    let written = written();
    for kind in KINDS {
        assert!(written.iter().any(|raw| raw.kind() == *kind), "{kind} has no parameters here");
    }
}

/// Given the shape of a state, then it is a whole number of words.
#[test]
fn states_are_whole_words() {
    struct Size;
    impl Visitor for Size {
        type Out = (usize, usize);
        fn visit<D: Detector>(self, _raw: &D::Raw) -> (usize, usize) {
            (size_of::<D::State>(), align_of::<D::State>())
        }
    }
    for raw in written() {
        let (size, align) = visit(&raw, Size);
        assert!(size % 8 == 0 && align <= 8, "{}", raw.kind());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// However a run is cut into batches, and wherever it is saved and restored, flags, evidence and state are the same.
    #[test]
    fn cuts_and_restores_change_nothing(samples in run(), cuts in vec(0usize..90, 0..6)) {
        for raw in written() {
            let whole = judge(&raw, &samples, &[], false);
            prop_assert_eq!(&judge(&raw, &samples, &cuts, false), &whole, "{:?}", raw);
            prop_assert_eq!(&judge(&raw, &samples, &cuts, true), &whole, "{:?}", raw);
            let each: Vec<usize> = (0..samples.value.len()).collect();
            prop_assert_eq!(&judge(&raw, &samples, &each, true), &whole, "{:?}", raw);
        }
    }

    /// What comes later changes no flag before it.
    #[test]
    fn verdicts_are_causal(samples in run(), at in 0usize..90) {
        let at = at.min(samples.value.len());
        let head = Run {
            ts: samples.ts[..at].to_vec(),
            value: samples.value[..at].to_vec(),
            trusted: samples.trusted[..at].to_vec(),
        };
        for raw in written() {
            let whole = judge(&raw, &samples, &[], false);
            prop_assert_eq!(&judge(&raw, &head, &[], false).flags[..], &whole.flags[..at], "{:?}", raw);
        }
    }

    /// NaN is missing and nothing else is; a missing sample changes no other verdict.
    #[test]
    fn missing_samples_change_nothing_else(samples in run()) {
        let present: Vec<usize> = (0..samples.value.len()).filter(|&i| !samples.value[i].is_nan()).collect();
        let dense = Run {
            ts: present.iter().map(|&i| samples.ts[i]).collect(),
            value: present.iter().map(|&i| samples.value[i]).collect(),
            trusted: present.iter().map(|&i| samples.trusted[i]).collect(),
        };
        for raw in written() {
            let flags = judge(&raw, &samples, &[], false).flags;
            for (i, flag) in flags.iter().enumerate() {
                prop_assert_eq!(samples.value[i].is_nan(), *flag == Flag::Missing, "{:?}", raw);
            }
            let kept: Vec<Flag> = present.iter().map(|&i| flags[i]).collect();
            prop_assert_eq!(judge(&raw, &dense, &[], false).flags, kept, "{:?}", raw);
        }
    }

    /// The order of members changes only the places of bits.
    #[test]
    fn a_vote_does_not_depend_on_the_order(
        members in vec((prop_oneof![9 => -10.0..10.0f64, 1 => Just(f64::NAN)], any::<bool>(), 0u32..1000), 0..12),
        to_voted in any::<bool>(),
        even in prop_oneof![Just("mean"), Just("low"), Just("high")],
    ) {
        let rule = if to_voted { "to_voted" } else { "pair" };
        let json = format!(
            r#"{{"tolerance": {{"abs": 1, "rel": 0.1}}, "even": "{even}", "miscompare": "{rule}"}}"#
        );
        let voter = MidValue::new(&serde_json::from_str(&json).unwrap()).unwrap();
        let mut order: Vec<usize> = (0..members.len()).collect();
        order.sort_by_key(|&i| members[i].2);
        let sample = |i: usize| MemberSample {
            value: members[i].0, age_ns: 0, present: !members[i].0.is_nan(), eligible: members[i].1,
        };
        let straight: Vec<MemberSample> = (0..members.len()).map(sample).collect();
        let shuffled: Vec<MemberSample> = order.iter().map(|&i| sample(i)).collect();
        let a = voter.vote(&Panel { t_ns: 0, members: &straight, model: None });
        let b = voter.vote(&Panel { t_ns: 0, members: &shuffled, model: None });
        let back = |mask: u32| order.iter().enumerate().fold(0, |m, (j, &i)| m | ((mask >> j & 1) << i));
        prop_assert_eq!(a.value.to_bits(), b.value.to_bits());
        prop_assert_eq!((a.spread.to_bits(), a.outcome), (b.spread.to_bits(), b.outcome));
        prop_assert_eq!((a.voted, a.miscompare), (back(b.voted), back(b.miscompare)));
        prop_assert_eq!(a.miscompare & !a.voted, 0);
    }

    /// Three members go a way of their own: a fourth that does not vote changes nothing, to the bit.
    #[test]
    fn a_vote_of_three_is_a_vote_of_any(
        values in vec(prop_oneof![6 => -3.0..3.0f64, 3 => (-1..2i8).prop_map(f64::from), 1 => Just(-0.0)], 3),
        min in 1u32..5,
    ) {
        let json = format!(r#"{{"tolerance": {{"abs": 1, "rel": 0.1}}, "min": {min}}}"#);
        let voter = MidValue::new(&serde_json::from_str(&json).unwrap()).unwrap();
        let votes = |value| MemberSample { value, age_ns: 0, present: true, eligible: true };
        let mut members: Vec<MemberSample> = values.into_iter().map(votes).collect();
        let three = voter.vote(&Panel { t_ns: 0, members: &members, model: None });
        members.push(MemberSample { value: 1.0, age_ns: 0, present: true, eligible: false });
        let four = voter.vote(&Panel { t_ns: 0, members: &members, model: None });
        prop_assert_eq!(three.value.to_bits(), four.value.to_bits());
        prop_assert_eq!(three.spread.to_bits(), four.spread.to_bits());
        prop_assert_eq!(three.tolerance.to_bits(), four.tolerance.to_bits());
        prop_assert_eq!((three.outcome, three.voted, three.miscompare), (four.outcome, four.voted, four.miscompare));
    }

    /// An interval never narrows with the horizon, holds its value, and is finite, whatever was learned.
    #[test]
    fn intervals_never_narrow(
        rows in vec((prop_oneof![20 => -5.0..5.0f64, 1 => Just(f64::NAN), 1 => -1e6..1e6f64], 1i64..3), 80..200),
    ) {
        let hold: HoldRaw = serde_json::from_str(r#"{"max_horizon": "900ns", "min_training": 40}"#).unwrap();
        let ar: ArRaw = serde_json::from_str(r#"{"max_horizon": "900ns", "min_training": 40, "coverage": 0.8}"#).unwrap();
        let (mut hold, mut ar) = (Hold::new(&hold, 1).unwrap(), Ar::new(&ar, 1).unwrap());
        let mut t = 0;
        for (i, &(value, step)) in rows.iter().enumerate() {
            t += step;
            hold.learn(t, value);
            ar.learn(t, value);
            if i == 60 {
                // A copy that passed through text goes on alike.
                let text = serde_json::to_string(&hold).unwrap();
                hold = serde_json::from_str(&text).unwrap();
            }
        }
        for model in [&hold as &dyn Forecast, &ar] {
            prop_assert!(model.predict(t - 5000).is_none() && model.predict(t + 1000).is_none());
            let mut before = 0.0;
            for h in 1..900 {
                let Some(e) = model.predict(t + h) else { continue };
                prop_assert!(e.lo <= e.value && e.value <= e.hi && e.lo.is_finite() && e.hi.is_finite());
                let width = e.hi - e.lo;
                prop_assert!(width >= before * (1.0 - 1e-9) - 1e-9, "{h}: {width} < {before}");
                before = width;
            }
        }
    }
}
