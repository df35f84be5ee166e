//! `truegauge bench series`: event recall at equal numbers of false alarms, beside two plain detectors.

use super::drive::Series;
use super::events::{Scored, curve};
use super::labels;
use crate::cmd::CommandError;
use connectors::source::file::FilesConfig;
use datasets::{Family, SIGNAL_ROWS};
use detectors::DetectRaw;
use serde::Serialize;
use std::fmt::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Arguments of `bench series`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A directory of CSV files of one tag each: a time column, then a value column.
    #[arg(long, requires = "labels", required_unless_present = "generated")]
    data: Option<PathBuf>,
    /// The events: CSV with columns `file`, `start`, `end`, or NAB's JSON. Files without an event are taken too.
    #[arg(long)]
    labels: Option<PathBuf>,
    /// Generated families of signals instead of files.
    #[arg(long, conflicts_with = "data")]
    generated: bool,
    /// Take the seeds of the families that no constant was chosen on.
    #[arg(long, requires = "generated")]
    unseen: bool,
    /// Rows at the beginning of each file that are not looked at.
    #[arg(long, default_value_t = 500)]
    skip: usize,
    /// Rows below the threshold that end an episode.
    #[arg(long, default_value_t = 75)]
    rest: usize,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Allowed false alarms a row outside events.
const FALSE_PER_ROW: [f64; 3] = [1e-4, 5e-4, 1e-3];

/// Seeds on which constants were chosen, and those kept for the end.
const SEEN: Range<u64> = 0..40;
const UNSEEN: Range<u64> = 1000..1040;

/// The detectors, as a user writes them.
const DETECTORS: [(&str, &str); 3] = [
    ("EWMA z-score", r#"{"ewma": {"alpha": 0.01, "suspect": 3, "warm_up": 200, "freeze": "never"}}"#),
    (
        "windowed Gaussian",
        r#"{"zscore": {"window": 500, "suspect": 3, "min_samples": 200, "freeze": "never"}}"#,
    ),
    ("auto", r#"{"auto": {}}"#),
];

/// A set of signals and what each detector finds in it.
#[derive(Debug, Serialize)]
struct Set {
    name: String,
    signals: usize,
    rows: usize,
    events: usize,
    /// Event recall at 0.1, 0.5 and 1 false alarm in 1,000 rows, by detector.
    recall: Vec<(&'static str, [f64; 3])>,
    /// That of `auto` by that of the better of the others; nothing where they find nothing.
    ratio: [Option<f64>; 3],
}

/// Measures and prints.
///
/// # Errors
/// When data or labels can't be used.
pub(super) fn run(args: &Args) -> Result<(), CommandError> {
    let sets = match (&args.data, &args.labels) {
        (Some(data), Some(labels)) => vec![from_files(args, data, labels)?],
        _ => {
            let seeds = if args.unseen { UNSEEN } else { SEEN };
            Family::ALL
                .iter()
                .map(|&family| generated(args, family, seeds.clone()))
                .collect::<Result<_, _>>()?
        }
    };
    if args.json {
        println!("{}", serde_json::to_string(&sets)?);
    } else {
        print!("{}", table(&sets));
    }
    Ok(())
}

fn generated(args: &Args, family: Family, seeds: Range<u64>) -> Result<Set, CommandError> {
    let mut signals = Vec::new();
    for seed in seeds {
        let signal = datasets::signal(family, seed);
        signals.push((Series::of("signal", signal.ts, signal.value)?, signal.events));
    }
    debug_assert!(args.skip < SIGNAL_ROWS);
    measure(args, family.name(), &signals)
}

fn from_files(args: &Args, data: &Path, labels: &Path) -> Result<Set, CommandError> {
    let labels = labels::read(labels)?;
    let mut signals = Vec::new();
    for path in csv_files(data)? {
        let name = path.strip_prefix(data).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        let series = Series::read(&path, &name, &columns(&path)?)?;
        let own = labels.iter().filter(|(file, _)| **file == name || name.ends_with(&format!("/{file}")));
        let events = own.flat_map(|(_, spans)| labels::rows(&series.ts, spans)).collect();
        signals.push((series, disjoint(events)));
    }
    if signals.iter().all(|(_, events)| events.is_empty()) {
        let message = format!("no label names a file under {} and a time in it", data.display());
        return Err(CommandError::Usage(message));
    }
    measure(args, &data.display().to_string(), &signals)
}

/// Files that end in `.csv`, by name, those of directories too.
fn csv_files(dir: &Path) -> Result<Vec<PathBuf>, CommandError> {
    let io = |source| CommandError::Io { path: dir.into(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.is_dir() {
            files.extend(csv_files(&path)?);
        } else if path.extension().is_some_and(|ending| ending == "csv") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The first column is the time, the second the value, whatever they are called.
fn columns(path: &Path) -> Result<FilesConfig, CommandError> {
    let text = std::fs::read(path).map_err(|source| CommandError::Io { path: path.into(), source })?;
    let head = text.split(|&b| b == b'\n').next().unwrap_or_default();
    let head = String::from_utf8_lossy(head).trim_end().to_owned();
    let names: Vec<&str> = head.split(',').map(|name| name.trim_matches('"')).collect();
    let [ts, value, rest @ ..] = names.as_slice() else {
        let message = format!("{}: wanted are a time and a value column, got `{head}`", path.display());
        return Err(CommandError::Usage(message));
    };
    let ignore = rest.iter().map(|name| (*name).to_owned()).collect();
    Ok(FilesConfig { ts: (*ts).to_owned(), value: (*value).to_owned(), ignore, ..FilesConfig::default() })
}

/// Events that overlap are one.
fn disjoint(mut events: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
    events.sort_unstable();
    let mut apart: Vec<(usize, usize)> = Vec::new();
    for event in events {
        match apart.last_mut() {
            Some(last) if event.0 <= last.1 => last.1 = last.1.max(event.1),
            _ => apart.push(event),
        }
    }
    apart
}

fn measure(args: &Args, name: &str, signals: &[(Series, Vec<(usize, usize)>)]) -> Result<Set, CommandError> {
    let mut recall = Vec::new();
    for (detector, written) in DETECTORS {
        let detect: DetectRaw = serde_json::from_str(written)?;
        let mut scored = Vec::new();
        for (series, events) in signals {
            let from = args.skip.min(series.ts.len());
            scored.push(Scored { score: series.judge(&detect)?.score, events: events.clone(), from });
        }
        let curve = curve(&scored, args.rest);
        let at = |most: f64| {
            let allowed = curve.iter().filter(|found| found.false_per_row <= most);
            allowed.fold(0.0, |best: f64, found| best.max(found.recall))
        };
        recall.push((detector, FALSE_PER_ROW.map(at)));
    }
    let ratio = [0, 1, 2].map(|k| {
        let plain = recall[0].1[k].max(recall[1].1[k]);
        (plain > 0.0).then(|| recall[2].1[k] / plain)
    });
    Ok(Set {
        name: name.to_owned(),
        signals: signals.len(),
        rows: signals.iter().map(|(series, _)| series.ts.len()).sum(),
        events: signals.iter().map(|(_, events)| events.len()).sum(),
        recall,
        ratio,
    })
}

fn table(sets: &[Set]) -> String {
    let mut text = String::from(
        "Event recall at 0.1 / 0.5 / 1 false alarm in 1,000 rows; last: auto by the better of the other two.\n\n",
    );
    text.push_str("| signals | events | EWMA z-score | windowed Gaussian | auto | ratio |\n");
    text.push_str("| --- | --- | --- | --- | --- | --- |\n");
    for set in sets {
        let _ = write!(text, "| {} ({}) | {} |", set.name, set.signals, set.events);
        for (_, [a, b, c]) in &set.recall {
            let _ = write!(text, " {a:.2} / {b:.2} / {c:.2} |");
        }
        let ratio = set.ratio.map(|r| r.map_or("-".to_owned(), |r| format!("{r:.2}")));
        let _ = writeln!(text, " {} |", ratio.join(" / "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(generated: bool) -> Args {
        Args { data: None, labels: None, generated, unseen: false, skip: 500, rest: 75, json: false }
    }

    /// Given a folder of files with columns of any name, when a file has a labelled burst, then every detector finds it.
    #[test]
    fn a_labelled_folder_is_measured() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("a")).expect("made");
        let mut text = String::from("time,flow,note\n");
        let (ts, mut value) = datasets::Noise::Normal.rows(false, 1500, 3);
        value[1200..1205].iter_mut().for_each(|x| *x += 30.0);
        for (t, x) in ts.iter().zip(&value) {
            let minute = (t - datasets::EPOCH_NS) / 60_000_000_000;
            let _ = writeln!(
                text,
                "2026-01-{:02} {:02}:{:02}:00,{x},",
                1 + minute / 1440,
                minute / 60 % 24,
                minute % 60
            );
        }
        std::fs::write(dir.path().join("a/flow.csv"), text).expect("written");
        let labels = dir.path().join("labels.txt");
        // Row i is minute i + 1: 1,201 is 20:01.
        std::fs::write(&labels, "file,start,end\na/flow.csv,2026-01-01 20:00:30,2026-01-01 20:05:00\n")
            .expect("written");
        let set = from_files(&args(false), dir.path(), &labels).expect("measured");
        assert_eq!((set.signals, set.rows, set.events), (1, 1500, 1));
        assert!(set.recall.iter().all(|(_, recall)| *recall == [1.0; 3]), "{set:?}");
        std::fs::write(&labels, "file,start,end\nb.csv,2026-01-01,2026-01-02\n").expect("written");
        assert!(from_files(&args(false), dir.path(), &labels).is_err());
    }

    /// Given events that overlap, then they are one.
    #[test]
    fn overlapping_events_are_one() {
        assert_eq!(disjoint(vec![(5, 9), (1, 3), (8, 12), (12, 13)]), [(1, 3), (5, 13)]);
    }
}
