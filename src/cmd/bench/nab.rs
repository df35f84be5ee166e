//! `truegauge bench nab`: `auto` on the Numenta Anomaly Benchmark, through the engine.

use super::drive::Series;
use super::labels;
use super::nab_score::{PROFILES, Point, Score, points, probation, score, score_by_others};
use crate::cmd::CommandError;
use connectors::source::file::FilesConfig;
use datasets::Rng;
use detectors::DetectRaw;
use detectors::detect::auto::AutoRaw;
use detectors::params::FalseAlarms;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Arguments of `bench nab`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A copy of NAB: the directory with `data` and `labels`.
    #[arg(long)]
    data: PathBuf,
    /// Write a result for each row: `CATEGORY/truegauge_FILE.csv`, as NAB's scorers read them.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Warm up for NAB's probation, which depends on a file's length, instead of the default number of rows.
    #[arg(long)]
    probation: bool,
    /// Also score each category at the threshold that is best for the others.
    #[arg(long)]
    loco: bool,
    /// Also run so many times with every constant moved by up to a fifth, and give mean, least and most.
    #[arg(long, default_value_t = 0)]
    jitter: u32,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    files: usize,
    windows: usize,
    rows: usize,
    profiles: BTreeMap<&'static str, Profiled>,
}

#[derive(Debug, Serialize)]
struct Profiled {
    #[serde(flatten)]
    score: Score,
    #[serde(skip_serializing_if = "Option::is_none")]
    by_others: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter: Option<Spread>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Spread {
    runs: usize,
    mean: f64,
    least: f64,
    most: f64,
}

/// The corpus, as the engine reads it.
struct Corpus {
    series: Vec<Series>,
    /// First and last row of each window, by file.
    spans: Vec<Vec<(usize, usize)>>,
    windows: usize,
}

/// Scores and prints.
///
/// # Errors
/// When the corpus can't be read or results can't be written.
pub(super) fn run(args: &Args) -> Result<(), CommandError> {
    let corpus = Corpus::read(&args.data)?;
    let raw = AutoRaw::default();
    let scores = corpus.judge(|rows| tuned(&raw, args.probation, rows))?;
    if let Some(out) = &args.out {
        corpus.write(&args.data, out, &scores)?;
    }
    let points = corpus.points(&scores);
    let mut runs = Vec::new();
    let mut rng = Rng::stream(JITTER_SEED, &[]);
    for _ in 0..args.jitter {
        let mut factor = || libm::exp(rng.uniform(-1.0, 1.0) * libm::log(1.0 + JITTER));
        let moved = jittered(&raw, args.probation, &mut factor);
        let scores = corpus.judge(|rows| tuned(&moved, args.probation, rows))?;
        let points = corpus.points(&scores);
        runs.push([0, 1, 2].map(|k| score(&points, corpus.windows, &PROFILES[k]).score));
    }
    let mut profiles = BTreeMap::new();
    for (k, profile) in PROFILES.iter().enumerate() {
        let scores: Vec<f64> = runs.iter().map(|run| run[k]).collect();
        let profiled = Profiled {
            score: score(&points, corpus.windows, profile),
            by_others: args.loco.then(|| score_by_others(&points, corpus.windows, profile)),
            jitter: Spread::of(&scores),
        };
        profiles.insert(profile.name, profiled);
    }
    let rows = corpus.series.iter().map(|series| series.ts.len()).sum();
    let report = Report { files: corpus.series.len(), windows: corpus.windows, rows, profiles };
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{}", report.text(args.probation));
    }
    Ok(())
}

/// Parameters for a file of so many rows.
fn tuned(raw: &AutoRaw, by_probation: bool, rows: usize) -> AutoRaw {
    let rows = probation(rows) as u32;
    if by_probation { AutoRaw { warm_up: rows, scale: rows, ..raw.clone() } } else { raw.clone() }
}

/// The same with every constant moved by a factor of its own; the threshold by what a fifth of the rate is worth.
fn jittered(raw: &AutoRaw, by_probation: bool, factor: &mut dyn FnMut() -> f64) -> AutoRaw {
    let mut moved = raw.clone();
    let c = &mut moved.constants;
    for count in [&mut c.book, &mut c.bins] {
        *count = (*count as f64 * factor()).round() as usize;
    }
    c.q = 1.0 - (1.0 - c.q) * factor();
    let every = [
        &mut c.prior,
        &mut c.day,
        &mut c.local,
        &mut c.season,
        &mut c.spike,
        &mut c.rate_u,
        &mut c.rate_b,
        &mut c.clip,
        &mut c.skip,
        &mut c.age,
        &mut c.rest,
        &mut c.eta,
        &mut c.deviation,
        &mut c.normal_prior,
        &mut c.deviation_clip,
        &mut c.heavy,
        &mut c.gate,
        &mut c.gate_heavy,
        &mut c.ajar,
        &mut c.usual,
        &mut c.by_day,
        &mut c.rank,
        &mut c.further,
    ];
    for constant in every {
        *constant *= factor();
    }
    c.theta += 0.3 * libm::log(factor()) / libm::log(1.0 + JITTER);
    if let FalseAlarms::PerRow(far) = &mut moved.false_alarms {
        *far *= factor();
    }
    if !by_probation {
        moved.warm_up = (f64::from(moved.warm_up) * factor()) as u32;
        moved.scale = (f64::from(moved.scale) * factor()) as u32;
    }
    moved
}

impl Corpus {
    fn read(data: &Path) -> Result<Corpus, CommandError> {
        let labels = labels::read(&data.join("labels").join("combined_windows.json"))?;
        let files = FilesConfig { ts: "timestamp".into(), ..FilesConfig::default() };
        let mut corpus = Corpus { series: Vec::new(), spans: Vec::new(), windows: 0 };
        for (name, windows) in &labels {
            let series = Series::read(&data.join("data").join(name), name, &files)?;
            let spans = labels::rows(&series.ts, windows);
            if spans.len() < windows.len() {
                return Err(CommandError::Usage(format!("{name}: a window holds no row")));
            }
            corpus.windows += spans.len();
            corpus.spans.push(spans);
            corpus.series.push(series);
        }
        Ok(corpus)
    }

    fn judge(&self, tuned: impl Fn(usize) -> AutoRaw) -> Result<Vec<Vec<f64>>, CommandError> {
        let judge = |series: &Series| {
            let raw = tuned(series.ts.len());
            Ok(series.judge(&DetectRaw::Auto(raw))?.score)
        };
        self.series.iter().map(judge).collect()
    }

    fn points(&self, scores: &[Vec<f64>]) -> Vec<Point> {
        let (mut all, mut first) = (Vec::new(), 0);
        let mut categories: Vec<&str> = Vec::new();
        for ((series, spans), scores) in self.series.iter().zip(&self.spans).zip(scores) {
            let category = series.name.split('/').next().unwrap_or_default();
            if categories.last() != Some(&category) {
                categories.push(category);
            }
            all.extend(points(scores, spans, first, categories.len() - 1));
            first += spans.len();
        }
        all
    }

    /// The rows of the data with a score each, in their order.
    fn write(&self, data: &Path, out: &Path, scores: &[Vec<f64>]) -> Result<(), CommandError> {
        let io = |path: &Path, source| CommandError::Io { path: path.into(), source };
        for (series, scores) in self.series.iter().zip(scores) {
            let from = data.join("data").join(&series.name);
            let rows = std::fs::read_to_string(&from).map_err(|source| io(&from, source))?;
            let mut text = String::from("timestamp,value,anomaly_score,label\n");
            for (row, score) in rows.lines().skip(1).zip(scores) {
                let _ = writeln!(text, "{},{score},0", row.trim_end());
            }
            let (category, file) = series.name.rsplit_once('/').unwrap_or(("", &series.name));
            let dir = out.join(category);
            std::fs::create_dir_all(&dir).map_err(|source| io(&dir, source))?;
            let path = dir.join(format!("truegauge_{file}"));
            std::fs::write(&path, text).map_err(|source| io(&path, source))?;
        }
        Ok(())
    }
}

impl Spread {
    fn of(scores: &[f64]) -> Option<Spread> {
        let runs = scores.len();
        let fold = |worse: fn(f64, f64) -> f64| scores.iter().copied().reduce(worse);
        let mean = scores.iter().sum::<f64>() / runs as f64;
        Some(Spread { runs, mean, least: fold(f64::min)?, most: fold(f64::max)? })
    }
}

impl Report {
    fn text(&self, by_probation: bool) -> String {
        let warm_up = if by_probation { "NAB's probation" } else { "the default" };
        let mut text = format!(
            "{} files, {} rows, {} windows; warm-up: {warm_up}\n",
            self.files, self.rows, self.windows
        );
        for name in PROFILES.iter().map(|profile| profile.name) {
            let Some(Profiled { score, by_others, jitter }) = self.profiles.get(name) else { continue };
            let Score { score, threshold, windows_hit, fp_rows } = score;
            let _ = write!(
                text,
                "{name:9} {score:6.2}   threshold {threshold:.4}  windows {windows_hit}  false rows {fp_rows}"
            );
            if let Some(by_others) = by_others {
                let _ = write!(text, "   by the others' threshold {by_others:.2}");
            }
            if let Some(Spread { runs, mean, least, most }) = jitter {
                let _ = write!(text, "   {runs} moved: mean {mean:.2}, {least:.2} to {most:.2}");
            }
            text.push('\n');
        }
        text
    }
}

/// How far constants are moved.
const JITTER: f64 = 0.2;
const JITTER_SEED: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    /// Given a corpus whose clock steps back once, then there is a result for every row in its order, the rows that came late
    /// have score 0, and the labelled burst is found.
    #[test]
    fn every_row_of_a_corpus_has_a_result() {
        let dir = tempfile::tempdir().expect("a directory");
        let data = dir.path().join("data/real");
        std::fs::create_dir_all(&data).expect("made");
        std::fs::create_dir_all(dir.path().join("labels")).expect("made");
        let (_, mut value) = datasets::Noise::Normal.rows(false, 1000, 5);
        value[700] = 40.0;
        let minute = |i: usize| if i < 850 { i } else { i - 60 };
        let time = |m: usize| format!("2026-01-01 {:02}:{:02}:00", m / 60, m % 60);
        let mut text = String::from("timestamp,value\n");
        for (i, x) in value.iter().enumerate() {
            let _ = writeln!(text, "{},{x}", time(minute(i)));
        }
        std::fs::write(data.join("one.csv"), &text).expect("written");
        let labels = format!(r#"{{"real/one.csv": [["{}.000000", "{}"]]}}"#, time(690), time(720));
        std::fs::write(dir.path().join("labels/combined_windows.json"), labels).expect("written");

        let corpus = Corpus::read(dir.path()).expect("read");
        assert_eq!((corpus.windows, &corpus.spans[0]), (1, &vec![(690, 720)]));
        let scores = corpus.judge(|rows| tuned(&AutoRaw::default(), true, rows)).expect("judged");
        assert!(scores[0][850..910].iter().all(|score| *score == 0.0));
        assert!(scores[0][911..].iter().any(|score| *score > 0.0));
        assert!(score(&corpus.points(&scores), 1, &PROFILES[0]).score > 80.0);
        let out = dir.path().join("out");
        corpus.write(dir.path(), &out, &scores).expect("written");
        let written = std::fs::read_to_string(out.join("real/truegauge_one.csv")).expect("read");
        assert_eq!(written.lines().count(), 1001);
        for ((row, line), score) in text.lines().zip(written.lines()).skip(1).zip(&scores[0]) {
            assert_eq!(line, format!("{row},{score},0"));
        }
    }

    /// Given constants that are moved, then each moves by its factor, and a factor of one moves none.
    #[test]
    fn constants_are_moved_by_factors() {
        let raw = AutoRaw::default();
        assert_eq!(jittered(&raw, false, &mut || 1.0), raw);
        let moved = jittered(&raw, false, &mut || 1.2);
        let (was, is) = (&raw.constants, &moved.constants);
        assert_eq!((is.book, moved.warm_up, moved.scale), (154, 240, 600));
        assert!((is.q - 0.976).abs() < 1e-9 && (is.theta - was.theta - 0.3).abs() < 1e-9);
        assert!((is.gate / was.gate - 1.2).abs() < 1e-9 && (is.deviation / was.deviation - 1.2).abs() < 1e-9);
    }
}
