//! The run directory: what a run leaves behind, in a canonical order, so that two runs compare.

use crate::cmd::CommandError;
use crate::wiring::DeadCodes;
use arrow_array::builder::{
    Float64Builder, StringDictionaryBuilder, TimestampNanosecondBuilder, UInt8Builder, UInt32Builder,
};
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use connectors::sink::jsonl::JsonlWriter;
use connectors::sink::parquet::ParquetTable;
use engine::{Counters, Event, FlagCounts, Pipeline, ServedValue, Transition, VerdictRow, What};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

/// Everything that a run leaves behind. The summary stands first: it goes first, and comes last.
const FILES: [&str; 7] = [
    "summary.json",
    "alerts.jsonl",
    "late.jsonl",
    "dlq.jsonl",
    "journal.jsonl",
    "verdicts.parquet",
    "signals.parquet",
];

/// Makes `dir` an empty place for a run; true when an earlier run was there, whose files are gone now.
///
/// A directory is an earlier run's when its `summary.json` is a run's, or when nothing but files of a run are in it
/// (one that did not come to its end). Files beside them stay.
///
/// # Errors
/// When something else is in the directory, when one of `inputs` is in it, or when the system refuses.
pub fn claim(dir: &Path, inputs: &[&Path]) -> Result<bool, CommandError> {
    let refused = |path: &Path| {
        let path = path.to_owned();
        move |source| CommandError::Io { path, source }
    };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            std::fs::create_dir_all(dir).map_err(refused(dir))?;
            return Ok(false);
        }
        Err(error) => return Err(refused(dir)(error)),
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        names.insert(entry.map_err(refused(dir))?.file_name().to_string_lossy().into_owned());
    }
    if names.is_empty() {
        return Ok(false);
    }
    let strange = names.iter().find(|name| !FILES.contains(&name.trim_end_matches(".partial")));
    if let Some(strange) = strange.filter(|_| !is_summary(&dir.join(FILES[0]))) {
        return Err(CommandError::Usage(format!(
            "{} is not empty and not a run directory (`{strange}` is in it): name another one",
            dir.display()
        )));
    }
    let own = dir.canonicalize().map_err(refused(dir))?;
    if let Some(input) = inputs.iter().find(|i| i.canonicalize().is_ok_and(|i| i.starts_with(&own))) {
        return Err(CommandError::Usage(format!(
            "{} lies in {}, an earlier run that would be replaced: name another directory for this one",
            input.display(),
            dir.display()
        )));
    }
    let old = FILES.iter().flat_map(|name| [(*name).to_owned(), format!("{name}.partial")]);
    for path in old.filter(|name| names.contains(name)).map(|name| dir.join(name)) {
        std::fs::remove_file(&path).map_err(refused(&path))?;
    }
    Ok(true)
}

/// Whether it is a run's summary.
fn is_summary(path: &Path) -> bool {
    let value =
        std::fs::read(path).ok().and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
    value.is_some_and(|v| v["rows_in"].is_u64() && v["config_digest"].is_string())
}

/// The summary of a run; the same keys in `summary.json` and after `--json`.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Rows that came in.
    pub rows_in: u64,
    /// Rows judged.
    pub processed: u64,
    /// Rows older than the last released row of their tag.
    pub late: u64,
    /// Rows refused.
    pub dead_letters: u64,
    /// Rows refused, by code; those of a stream since it was started.
    pub dead_letter_codes: DeadCodes,
    /// Rows that were there already.
    pub duplicates: u64,
    /// Rows dropped on overload.
    pub shed: u64,
    /// Rows still waiting.
    pub held: u64,
    /// Rows that came after their group's tick had closed.
    pub missed_tick: u64,
    /// Rows from the future, a part of `processed`.
    pub future: u64,
    /// Tags seen or declared.
    pub tags: u64,
    /// Partitions.
    pub partitions: u64,
    /// Alerts that fired.
    pub alerts_fired: u64,
    /// Alerts that ended.
    pub alerts_resolved: u64,
    /// Switches of a signal to a fallback.
    pub switches_to_fallback: u64,
    /// Signals that came back.
    pub recoveries: u64,
    /// Rules to which no row came, in any partition.
    pub rules_ran_0_times: BTreeSet<String>,
    /// Verdicts by rule and flag; a group counts as a rule.
    pub flags: BTreeMap<String, FlagCounts>,
    /// Whether it was stopped before the end of the input.
    pub interrupted: bool,
    /// Wall time.
    pub elapsed_s: f64,
    /// Digest of everything that judges.
    pub config_digest: String,
    /// Version of the program.
    pub version: &'static str,
}

/// Alerts that fired and ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Alerts {
    /// How many fired.
    pub fired: u64,
    /// How many ended.
    pub resolved: u64,
}

impl Alerts {
    /// Counts those among the events.
    pub fn add(&mut self, events: &[Event]) {
        for event in events {
            match event.what {
                What::Alert { transition: Transition::Firing, .. } => self.fired += 1,
                What::Alert { transition: Transition::Resolved, .. } => self.resolved += 1,
                _ => {}
            }
        }
    }
}

impl Summary {
    /// From the partitions, summed; a tag that two of them know counts once.
    pub fn new<'a>(
        pipelines: impl IntoIterator<Item = &'a Pipeline>,
        alerts: Alerts,
        digest: &str,
        elapsed_s: f64,
    ) -> Self {
        let mut s = Summary {
            rows_in: 0,
            processed: 0,
            late: 0,
            dead_letters: 0,
            dead_letter_codes: DeadCodes::default(),
            duplicates: 0,
            shed: 0,
            held: 0,
            missed_tick: 0,
            future: 0,
            tags: 0,
            partitions: 0,
            alerts_fired: alerts.fired,
            alerts_resolved: alerts.resolved,
            switches_to_fallback: 0,
            recoveries: 0,
            rules_ran_0_times: BTreeSet::new(),
            flags: BTreeMap::new(),
            interrupted: false,
            elapsed_s,
            config_digest: digest.into(),
            version: env!("CARGO_PKG_VERSION"),
        };
        let mut tags = BTreeSet::new();
        for pipeline in pipelines {
            let c: Counters = pipeline.counters();
            s.rows_in += c.rows_in;
            s.processed += c.processed;
            s.late += c.late;
            s.dead_letters += c.dead_letters;
            s.duplicates += c.duplicates;
            s.shed += c.shed;
            s.held += c.held;
            s.missed_tick += c.missed_tick;
            s.future += c.future;
            let idle: BTreeSet<String> = pipeline.idle_rules().map(str::to_owned).collect();
            match s.partitions {
                0 => s.rules_ran_0_times = idle,
                _ => s.rules_ran_0_times.retain(|rule| idle.contains(rule)),
            }
            s.partitions += 1;
            let (switches, recoveries) = pipeline.switches();
            s.switches_to_fallback += switches;
            s.recoveries += recoveries;
            tags.extend((0..pipeline.tag_count() as u32).map(|t| pipeline.tag_name(t)));
            for (rule, flags) in pipeline.flags() {
                s.flags.entry(rule).or_default().merge(&flags);
            }
        }
        s.tags = tags.len() as u64;
        s
    }
}

/// Rules and groups that are told one by one.
const RULES_SHOWN: usize = 40;

/// For a reader.
impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let s = self;
        let rate = s.rows_in as f64 / s.elapsed_s.max(1e-9);
        let (rows, tags) = (counted(s.rows_in, "row", "rows"), counted(s.tags, "tag", "tags"));
        writeln!(f, "{rows} of {tags} in {:.2} s ({rate:.0} rows/s)", s.elapsed_s)?;
        writeln!(
            f,
            "  processed {}  late {}  dead letters {}  duplicates {}  shed {}  held {}",
            s.processed, s.late, s.dead_letters, s.duplicates, s.shed, s.held
        )?;
        write!(f, "{}", s.dead_letter_codes)?;
        writeln!(
            f,
            "  alerts: {} fired, {} resolved; signals: {} to a fallback, {}",
            s.alerts_fired,
            s.alerts_resolved,
            counted(s.switches_to_fallback, "switch", "switches"),
            counted(s.recoveries, "recovery", "recoveries")
        )?;
        for rule in &s.rules_ran_0_times {
            writeln!(f, "  {rule}: ran 0 times, no row of its tags came")?;
        }
        for (rule, c) in s.flags.iter().take(RULES_SHOWN) {
            writeln!(
                f,
                "  {rule}: {} suspect, {} fail, {} good, {} not evaluated, {} missing",
                c.suspect, c.fail, c.good, c.not_evaluated, c.missing
            )?;
        }
        Ok(())
    }
}

/// A number and what it counts: `1 rule`, `2 rules`.
pub fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Writes one JSON value a line and finishes the file.
///
/// # Errors
/// When it can't be written.
pub fn write_lines<T: Serialize>(path: &Path, rows: &[T]) -> Result<(), CommandError> {
    let mut writer = JsonlWriter::create(path)?;
    for row in rows {
        writer.write(row)?;
    }
    writer.finish()?;
    Ok(())
}

/// Rows in a batch of a table.
const BATCH: usize = 65_536;

fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

fn word() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

fn schema(fields: &[(&str, DataType, bool)]) -> SchemaRef {
    Arc::new(Schema::new(
        fields.iter().map(|(n, t, null)| Field::new(*n, t.clone(), *null)).collect::<Vec<_>>(),
    ))
}

/// The place of each name among all of them in their order; equal names share one.
fn ranks<S: AsRef<str>>(names: &[S]) -> Vec<u32> {
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_unstable_by_key(|i| names[*i].as_ref());
    let (mut ranks, mut rank) = (vec![0; names.len()], 0);
    for pair in order.windows(2) {
        rank += u32::from(names[pair[0]].as_ref() != names[pair[1]].as_ref());
        ranks[pair[1]] = rank;
    }
    ranks
}

/// Writes `verdicts.parquet`, sorted by time, tag and rule. `tags` are names by number, `rules` the ids of
/// rules, then groups.
///
/// # Errors
/// When it can't be written.
pub fn write_verdicts(
    path: &Path,
    tags: &[String],
    rules: &[&str],
    rows: &mut [VerdictRow],
) -> Result<(), CommandError> {
    let (tag_at, rule_at) = (ranks(tags), ranks(rules));
    rows.sort_unstable_by(|a, b| {
        let key = |v: &VerdictRow| (v.ts, tag_at[v.tag as usize], rule_at[v.rule as usize], v.flag);
        let value = |v: &VerdictRow| v.value.unwrap_or(f64::NAN);
        key(a).cmp(&key(b)).then(a.score.total_cmp(&b.score)).then(value(a).total_cmp(&value(b)))
    });
    let schema = schema(&[
        ("ts", time(), false),
        ("tag", word(), false),
        ("rule", word(), false),
        ("flag", DataType::UInt8, false),
        ("score", DataType::Float64, false),
        ("value", DataType::Float64, true),
    ]);
    let mut table = ParquetTable::create(path, schema.clone())?;
    for chunk in rows.chunks(BATCH) {
        let mut ts = TimestampNanosecondBuilder::new().with_timezone("UTC");
        let (mut tag, mut rule) =
            (StringDictionaryBuilder::<Int32Type>::new(), StringDictionaryBuilder::<Int32Type>::new());
        let (mut flag, mut score) = (UInt8Builder::new(), Float64Builder::new());
        let mut value = Float64Builder::new();
        for v in chunk {
            ts.append_value(v.ts);
            tag.append_value(&tags[v.tag as usize]);
            rule.append_value(rules[v.rule as usize]);
            flag.append_value(v.flag as u8);
            score.append_value(v.score);
            value.append_option(v.value);
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(ts.finish()),
            Arc::new(tag.finish()),
            Arc::new(rule.finish()),
            Arc::new(flag.finish()),
            Arc::new(score.finish()),
            Arc::new(value.finish()),
        ];
        table.write(&batch(path, schema.clone(), columns)?)?;
    }
    table.finish()?;
    Ok(())
}

/// Writes `signals.parquet`, sorted by time, signal and number. `kinds` are those of each signal's fallbacks.
///
/// # Errors
/// When it can't be written.
pub fn write_signals(
    path: &Path,
    kinds: &[Vec<&'static str>],
    signals: &[&str],
    rows: &mut [ServedValue],
) -> Result<(), CommandError> {
    let signal_at = ranks(signals);
    rows.sort_by_key(|v| (v.ts, signal_at[v.group as usize], v.n));
    let schema = schema(&[
        ("ts", time(), false),
        ("signal", word(), false),
        ("n", DataType::UInt32, false),
        ("value", DataType::Float64, true),
        ("source", word(), false),
        ("lo", DataType::Float64, true),
        ("hi", DataType::Float64, true),
        ("coverage", DataType::Float64, true),
        ("status", DataType::UInt32, false),
        ("state", word(), false),
        ("horizon_s", DataType::Float64, false),
    ]);
    let mut table = ParquetTable::create(path, schema.clone())?;
    for chunk in rows.chunks(BATCH) {
        let mut ts = TimestampNanosecondBuilder::new().with_timezone("UTC");
        let words = StringDictionaryBuilder::<Int32Type>::new;
        let (mut signal, mut source, mut state) = (words(), words(), words());
        let (mut n, mut status) = (UInt32Builder::new(), UInt32Builder::new());
        let mut numbers: [Float64Builder; 4] = Default::default();
        let mut horizon = Float64Builder::new();
        for v in chunk {
            ts.append_value(v.ts);
            signal.append_value(signals[v.group as usize]);
            n.append_value(v.n);
            source.append_value(v.source.name(&kinds[v.group as usize]));
            status.append_value(v.status);
            state.append_value(v.state.name());
            horizon.append_value(v.horizon_ns as f64 / 1e9);
            for (builder, x) in numbers.iter_mut().zip([v.value, v.lo, v.hi, v.coverage]) {
                builder.append_option(x.is_finite().then_some(x));
            }
        }
        let [mut value, mut lo, mut hi, mut coverage] = numbers;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(ts.finish()),
            Arc::new(signal.finish()),
            Arc::new(n.finish()),
            Arc::new(value.finish()),
            Arc::new(source.finish()),
            Arc::new(lo.finish()),
            Arc::new(hi.finish()),
            Arc::new(coverage.finish()),
            Arc::new(status.finish()),
            Arc::new(state.finish()),
            Arc::new(horizon.finish()),
        ];
        table.write(&batch(path, schema.clone(), columns)?)?;
    }
    table.finish()?;
    Ok(())
}

fn batch(path: &Path, schema: SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch, CommandError> {
    RecordBatch::try_new(schema, columns)
        .map_err(|e| connectors::SinkError::Encode { path: path.into(), reason: e.to_string() }.into())
}
