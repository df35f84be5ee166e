//! The configuration file: sections for sources, the rest for the engine.
//!
//! Every error names the file; those of a place in it name line and column, what was expected, and the nearest key.

use engine::config::plan::nearest;
use engine::config::raw;
use engine::{Catalogue, ConfigError, EngineRaw, Plan};
use schemars::JsonSchema;
use serde::Deserialize;
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
    /// Order and lateness: `[time]`.
    pub time: raw::TimeRaw,
    /// What quality codes mean: `[quality]`.
    pub quality: Option<raw::QualityRaw>,
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
}

/// Reads and checks a configuration file.
///
/// # Errors
/// [`FileError`] for anything that can't run as written.
pub fn load(path: &Path) -> Result<Loaded, FileError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| FileError::Unreadable { path: path.into(), source })?;
    assemble(&text, path, |tags| catalogue(&path.parent().unwrap_or(Path::new(".")).join(tags)))
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
    let engine = EngineRaw {
        time: file.time.clone(),
        quality: file.quality.clone(),
        limits: file.limits.clone(),
        rule: file.rule.clone(),
        group: file.group.clone(),
    };
    let plan = Plan::new(engine, catalogue).map_err(|source| FileError::Plan {
        path: path.into(),
        line: line_of(text, &source),
        source: Box::new(source),
    })?;
    Ok(Loaded { file, plan })
}

fn catalogue(path: &Path) -> Result<Catalogue, FileError> {
    let rows = connectors::catalogue::read(path)?;
    let rows = rows.into_iter().map(|mut row| {
        // The order of the columns means nothing.
        row.numbers.sort_by(|a, b| a.0.cmp(&b.0));
        (row.tag, row.numbers)
    });
    Ok(Catalogue { rows: rows.collect() })
}

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
