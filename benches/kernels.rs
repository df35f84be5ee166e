//! Nanoseconds a sample of each detector's kernel, in runs as a batch of 65,536 rows of 1,000 tags has them, and of the
//! mid-value vote; beside them a plain sum over the same slice, the memory's own pace.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use detectors::detect::{Columns, DetectRaw, Detector, Visitor, visit};
use detectors::sample::{Flag, Samples, Verdicts};
use detectors::vote::{MemberSample, Panel, Voter};
use std::hint::black_box;

const RUN: usize = 65;
const RUNS: usize = 256;

struct NoColumns;
impl Columns for NoColumns {
    fn number(&self, _column: &str) -> Option<f64> {
        None
    }
    fn tag(&self) -> &str {
        "bench"
    }
}

/// A quiet signal: nearly every sample is good.
fn signal() -> (Vec<i64>, Vec<f64>) {
    let mut noise = 7u64;
    let value = (0..RUN * RUNS).map(|_| {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        20.0 + (noise >> 40) as f64 / (1u64 << 24) as f64
    });
    ((0..(RUN * RUNS) as i64).map(|i| i * 1_000_000_000).collect(), value.collect())
}

struct Bench<'a>(&'a mut Criterion);
impl Visitor for Bench<'_> {
    type Out = ();
    fn visit<D: Detector>(self, raw: &D::Raw) {
        let detector = D::bind(raw, &NoColumns).expect("the parameters are right");
        let (ts, value) = signal();
        let trusted = vec![true; value.len()];
        let (mut flags, mut evidence) = (vec![Flag::Good; RUN], Vec::new());
        let mut state: D::State = bytemuck::Zeroable::zeroed();
        let mut window = vec![0.0; detector.window_len()];
        let mut group = self.0.benchmark_group("judge");
        group.throughput(Throughput::Elements(value.len() as u64));
        group.bench_function(D::KIND, |b| {
            b.iter(|| {
                for run in 0..RUNS {
                    let at = run * RUN..(run + 1) * RUN;
                    let samples =
                        Samples { ts: &ts[at.clone()], value: &value[at.clone()], trusted: &trusted[at] };
                    evidence.clear();
                    let mut out =
                        Verdicts { flags: &mut flags, evidence: &mut evidence, explain_from: Flag::Suspect };
                    detector.judge(&mut state, &mut window, samples, &mut out);
                    black_box(&flags);
                }
            });
        });
        group.finish();
    }
}

fn detectors(c: &mut Criterion) {
    #[derive(serde::Deserialize)]
    struct One {
        detect: DetectRaw,
    }
    let texts = [
        "detect.range = { fail = [0.0, 50.0], suspect = [5.0, 45.0] }",
        "detect.rate = { suspect_per_s = 5.0 }",
        "detect.gap = { max = \"30s\" }",
        "detect.ewma = { alpha = 0.01, suspect = 6.0 }",
        "detect.zscore = { window = 600, suspect = 6.0 }",
        "detect.auto = {}",
    ];
    for text in texts {
        let one: One = toml::from_str(text).expect("the parameters are right");
        visit(&one.detect, Bench(c));
    }
    let (_, value) = signal();
    let mut group = c.benchmark_group("memory");
    group.throughput(Throughput::Elements(value.len() as u64));
    group.bench_function("sum", |b| b.iter(|| black_box(&value).iter().sum::<f64>()));
    group.finish();
}

fn vote(c: &mut Criterion) {
    #[derive(serde::Deserialize)]
    struct One {
        vote: detectors::vote::VoteRaw,
    }
    let one: One =
        toml::from_str("vote.mid_value = { tolerance = { abs = 0.5 } }").expect("the parameters are right");
    let voter = one.vote.build().expect("the parameters are right");
    let member = |value| MemberSample { value, age_ns: 0, present: true, eligible: true };
    let members = [member(1.0), member(1.2), member(0.9)];
    c.bench_function("vote/mid_value of three", |b| {
        b.iter(|| voter.vote(black_box(&Panel { t_ns: 0, members: &members, model: None })));
    });
}

criterion_group!(kernels, detectors, vote);
criterion_main!(kernels);
