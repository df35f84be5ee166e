//! The run directory: what a run leaves behind, in a canonical order, so that two runs compare.

use crate::cmd::CommandError;
use crate::wiring::DeadCodes;
use engine::{Counters, Event, FlagCounts, Pipeline, Transition, What};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;

mod in_order;
mod sorted;
mod tables;

pub use in_order::InOrder;
pub use sorted::SortLimits;

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
    let strange = names.iter().find(|name| !FILES.iter().any(|file| belongs(name, file)));
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
    let old = FILES.iter().flat_map(|file| names.iter().filter(move |name| belongs(name, file)));
    for path in old.map(|name| dir.join(name)) {
        std::fs::remove_file(&path).map_err(refused(&path))?;
    }
    Ok(true)
}

fn refused(path: &Path) -> impl Fn(std::io::Error) -> CommandError {
    let path = path.to_owned();
    move |source| CommandError::Io { path: path.clone(), source }
}

/// Whether a name is that of an output, or of what an output was while it was made.
fn belongs(name: &str, file: &str) -> bool {
    let Some(rest) = name.strip_prefix(file) else { return false };
    let level = rest.strip_prefix(sorted::SORTING);
    rest.is_empty() || rest == ".partial" || level.is_some_and(|n| n.parse::<usize>().is_ok())
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
