//! The configuration file: sections for sources, the rest for the engine.
//!
//! Every error names the file; those of a place in it name line and column, what was expected, and the nearest key.

use connectors::sink::kafka::TopicKind;
use connectors::source::kafka::Assign;
use detectors::params::Span;
use engine::config::plan::nearest;
use engine::config::raw;
use engine::{Catalogue, ConfigError, EngineRaw, Plan};
use schemars::JsonSchema;
use serde::Deserialize;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FileConfig {
    /// Tag catalogue, CSV or Parquet with a column `tag`; relative to this file.
    pub tags: Option<PathBuf>,
    /// Where rows come from: `[source.files]`, `[source.kafka]`.
    pub source: SourceConfig,
    /// Where results of `run` go: `[sink.kafka]`.
    pub sink: SinkConfig,
    /// How `run` goes on after a stop, and how much may wait: `[run]`.
    pub run: RunConfig,
    /// Where a running stream can be read and steered: `[server]`.
    pub server: server::ServerConfig,
    /// Order and lateness: `[time]`.
    pub time: raw::TimeRaw,
    /// What quality codes mean: `[quality]`.
    pub quality: Option<raw::QualityRaw>,
    /// `[[sentinel]]`: values that stand for "no measurement".
    pub sentinel: Vec<raw::SentinelRaw>,
    /// `[[reporting]]`: tags that report only what changes.
    pub reporting: Vec<raw::ReportingRaw>,
    /// Bounds: `[limits]`.
    pub limits: raw::LimitsRaw,
    /// `[[rule]]`: a detector over a selection of tags.
    pub rule: Vec<raw::RuleRaw>,
    /// `[[group]]`: redundant tags with a voter.
    pub group: Vec<raw::GroupRaw>,
}

/// Where rows come from.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SourceConfig {
    /// How files are read.
    pub files: connectors::source::file::FilesConfig,
    /// How Kafka is read.
    pub kafka: Option<connectors::source::kafka::KafkaConfig>,
}

/// Where results of `run` go.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SinkConfig {
    /// Topics of Kafka; without it results go to standard output.
    pub kafka: Option<connectors::sink::kafka::KafkaSinkConfig>,
}

/// How `run` goes on after a stop, and how much may wait. Nothing here judges.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// Directory of checkpoints, journal and spilled events; relative to this file. Absent: nothing is kept, and a restart begins at
    /// `from`. Members of a consumer group (`assign = "group"`) share one.
    pub state_dir: Option<PathBuf>,
    /// Between checkpoints; default ten seconds. They take a tenth of the time at most, so large states wait longer.
    pub checkpoint_every: Span,
    /// What moves time when no rows come; default `wall`.
    pub clock: ClockSource,
    /// Events not acknowledged by the sink that are kept in memory and in the checkpoint, default 10,000; more go to the state
    /// directory's spill.
    pub pending_events: NonZeroU32,
    /// Other outputs not acknowledged, default 50,000; at this many nothing is read.
    pub pending_outputs: NonZeroU32,
}

impl Default for RunConfig {
    fn default() -> Self {
        RunConfig {
            state_dir: None,
            checkpoint_every: Span::from_ns(10_000_000_000),
            clock: ClockSource::Wall,
            pending_events: PENDING_EVENTS,
            pending_outputs: PENDING_OUTPUTS,
        }
    }
}

/// What moves time when no rows come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClockSource {
    /// The wall clock, while all that the broker has was read: silence is found without a row.
    #[default]
    Wall,
    /// Rows alone: for recorded or simulated times.
    Rows,
}

/// Why a configuration file was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It can't be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not as expected.
    #[error("{}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, column, what was expected, the nearest key.
        message: String,
    },
    /// It can't run as written.
    #[error("{}{}: {source}", path.display(), line.map_or(String::new(), |l| format!(", line {l}")))]
    Plan {
        /// The file.
        path: PathBuf,
        /// Where the culprit is named.
        line: Option<usize>,
        /// What is wrong.
        source: Box<ConfigError>,
    },
    /// The catalogue can't be read.
    #[error(transparent)]
    Catalogue(#[from] connectors::SourceError),
}

/// A configuration that can run.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// As written.
    pub file: FileConfig,
    /// As checked.
    pub plan: Plan,
    /// The state directory, taken from the directory of the file.
    pub state_dir: Option<PathBuf>,
    /// Listeners, the path of the control socket taken from the directory of the file; by default in the state directory.
    pub server: server::ServerConfig,
}

/// Reads and checks a configuration file.
///
/// # Errors
/// [`FileError`] for anything that can't run as written.
pub fn load(path: &Path) -> Result<Loaded, FileError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| FileError::Unreadable { path: path.into(), source })?;
    assemble(&text, path, |tags| catalogue(&directory(path).join(tags)))
}

/// Checks the text of a configuration; `path` is its name in errors, `catalogue` reads the catalogue that it names.
///
/// # Errors
/// [`FileError`] for anything that can't run as written.
pub fn assemble(
    text: &str,
    path: &Path,
    catalogue: impl FnOnce(&Path) -> Result<Catalogue, FileError>,
) -> Result<Loaded, FileError> {
    let file: FileConfig = toml::from_str(text)
        .map_err(|e| FileError::Syntax { path: path.into(), message: explain(&e.to_string()) })?;
    let catalogue = file.tags.as_deref().map(catalogue).transpose()?;
    // The transport's skew: rows of a stream are under way for a while, those of a file are there.
    let mut time = file.time.clone();
    if time.skew.is_none() && file.source.kafka.is_some() {
        time.skew = Some(KAFKA_SKEW);
    }
    let engine = EngineRaw {
        time,
        quality: file.quality.clone(),
        sentinel: file.sentinel.clone(),
        reporting: file.reporting.clone(),
        limits: file.limits.clone(),
        rule: file.rule.clone(),
        group: file.group.clone(),
    };
    let files = &file.source.files;
    if file.quality.is_none() && (files.quality.is_some() || files.quality_suffix.is_some()) {
        let line = text.lines().position(|l| l.trim_start().starts_with("quality")).map_or(1, |l| l + 1);
        let message = format!(
            "line {line}: files have qualities, but nothing says what they mean: add `[quality] scheme = \"opcua\"` (or \"opcda\", \
             \"qartod\", or lists of codes)"
        );
        return Err(FileError::Syntax { path: path.into(), message });
    }
    if let (Some(source), Some(sink)) = (&file.source.kafka, &file.sink.kafka)
        && let Some((kind, topic)) = sink.output_that_is_read(source)
    {
        let line = line_of_value(text, kind.key(), topic);
        let place = line.map_or(String::new(), |line| format!("line {line}: "));
        return Err(FileError::Syntax { path: path.into(), message: place + &read_again(kind, topic) });
    }
    let plan = Plan::new(engine, catalogue).map_err(|source| FileError::Plan {
        path: path.into(),
        line: line_of(text, &source),
        source: Box::new(source),
    })?;
    let mut server = file.server.clone();
    // Members of a group share the state directory, and a socket has one owner.
    let alone = file.source.kafka.as_ref().is_none_or(|kafka| kafka.assign == Assign::All);
    let beside_state = file.run.state_dir.as_ref().filter(|_| alone).map(|dir| dir.join(CONTROL));
    let control = server.control.or(beside_state).map(|control| directory(path).join(control));
    // A path that no socket can have is an error where somebody asked for it, and no socket where nobody did.
    let usable =
        |control: &PathBuf| file.server.control.is_some() || control.as_os_str().len() <= SOCKET_BYTES;
    server.control = control.filter(usable);
    let state_dir = file.run.state_dir.as_ref().map(|dir| directory(path).join(dir));
    Ok(Loaded { file, plan, state_dir, server })
}

/// What is wrong with an output that goes to a topic that is read.
pub(crate) fn read_again(kind: TopicKind, topic: &str) -> String {
    let key = kind.key();
    format!(
        "[sink.kafka] {key} goes to `{topic}`, which [source.kafka] reads: the stream would read what it writes"
    )
}

/// The first line that gives a key this text.
fn line_of_value(text: &str, key: &str, value: &str) -> Option<usize> {
    let wanted = [format!("{key}=\"{value}\""), format!("{key}='{value}'")];
    let squeezed = |line: &str| line.split_whitespace().collect::<String>();
    let found = text.lines().position(|line| wanted.iter().any(|wanted| squeezed(line).contains(wanted)));
    found.map(|line| line + 1)
}

/// Where the relative paths of a configuration file begin.
fn directory(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new("."))
}

fn catalogue(path: &Path) -> Result<Catalogue, FileError> {
    let mut table = connectors::catalogue::read(path)?;
    if let Some(modes) = table.texts("reporting") {
        let beats = table.numbers("heartbeat_s");
        let beat = |i: usize| beats.is_some_and(|cells| cells[i] > 0.0);
        for (i, (tag, mode)) in table.tags.iter().zip(modes).enumerate() {
            let problem = match mode.as_str() {
                "" | "periodic" => continue,
                "by_exception" if beat(i) => continue,
                "by_exception" => "by_exception, but `heartbeat_s` is not longer than zero",
                _ => "neither periodic nor by_exception",
            };
            let reason = format!("tag `{tag}`: `reporting` is {problem}");
            let broken = connectors::SourceError::Broken { path: path.into(), format: "catalogue", reason };
            return Err(broken.into());
        }
        let periodic: Vec<bool> = modes.iter().map(|mode| mode == "periodic").collect();
        for (_, cells) in table.numbers.iter_mut().filter(|(name, _)| name == "heartbeat_s") {
            for (cell, _) in cells.iter_mut().zip(&periodic).filter(|(_, periodic)| **periodic) {
                *cell = f64::NAN;
            }
        }
    }
    Ok(Catalogue::new(&table.tags, &table.numbers))
}

const PENDING_EVENTS: NonZeroU32 = NonZeroU32::new(10_000).unwrap();
const PENDING_OUTPUTS: NonZeroU32 = NonZeroU32::new(50_000).unwrap();
/// The control socket in the state directory, unless `[server] control` says otherwise.
const CONTROL: &str = "control.sock";
/// Longest path of a socket that every system takes.
const SOCKET_BYTES: usize = 100;
/// How long a row may be under way through Kafka, unless `[time] skew` says otherwise.
const KAFKA_SKEW: Span = Span::from_ns(2_000_000_000);

/// Adds the nearest known key to an error about an unknown one.
fn explain(message: &str) -> String {
    let message = message.trim_end();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let unknown = message.contains("unknown field") || message.contains("unknown variant");
    match (unknown, quoted.split_first()) {
        (true, Some((wanted, known))) => match nearest(wanted, known.iter().copied()) {
            Some(near) => format!("{message}; did you mean `{near}`?"),
            None => message.to_string(),
        },
        _ => message.to_string(),
    }
}

/// The first line that names the culprit.
fn line_of(text: &str, error: &ConfigError) -> Option<usize> {
    let name = match error {
        ConfigError::UnknownTag { tag, .. } => tag,
        ConfigError::DuplicateId { id } => id,
        ConfigError::Rule { rule, .. }
        | ConfigError::SelectsNothing { rule, .. }
        | ConfigError::NoCatalogue { rule } => rule,
        ConfigError::Group { group, .. } | ConfigError::Vote { group, .. } => group,
        _ => return None,
    };
    let quoted = [format!("\"{name}\""), format!("'{name}'")];
    text.lines().position(|line| quoted.iter().any(|q| line.contains(q))).map(|i| i + 1)
}
