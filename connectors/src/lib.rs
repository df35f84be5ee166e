//! Bytes to record batches and back: Kafka, files, JSON, Arrow IPC, Parquet, CSV.
//!
//! A [`Source`] yields [`Polled`]s: a canonical [`RecordBatch`] of one partition, the [`Span`]s that
//! say which record its rows came from, and the [`BadRecord`]s that could not become rows.
//!
//! Canonical batches have one of two layouts:
//! - **long**: `ts` `Timestamp(Nanosecond, "UTC")` without nulls, `tag` `Utf8` or
//!   `Dictionary(Int32, Utf8)`, `value` `Float64` (null or NaN = missing), optional `quality`
//!   `UInt32` or `Utf8` (or a dictionary of it; [`NOT_GIVEN`]: good, null: bad), optional `seq`
//!   `Int64`;
//! - **wide**: schema metadata [`LAYOUT_KEY`] = [`LAYOUT_WIDE`]; `ts`, then one `Float64` column a
//!   tag, the field named after the tag (null = no sample, NaN = missing sample), and columns of
//!   qualities, of the same types, whose field metadata [`QUALITY_OF_KEY`] names the tag.
//!
//! Absent, and why: no type of the engine (this crate is usable without it and is built beside it),
//! no detectors, no threads (the driver owns them), and no log output: what is wrong with data is a
//! [`BadRecord`], what is wrong with a source or a sink is returned.

use std::{io, path::PathBuf, time::Duration};

use arrow_array::RecordBatch;

pub mod catalogue;
pub mod decode;
pub mod sink;
pub mod source;
pub mod store;

/// Name of the time column of a canonical batch.
pub const TS: &str = "ts";
/// Name of the tag column of a canonical long batch.
pub const TAG: &str = "tag";
/// Name of the value column of a canonical long batch.
pub const VALUE: &str = "value";
/// Name of the optional quality column of a canonical long batch.
pub const QUALITY: &str = "quality";
/// The quality of a row that was given none, beside rows that were.
pub const NOT_GIVEN: &str = "\0";
/// Name of the optional sequence number column of a canonical long batch.
pub const SEQ: &str = "seq";
/// Time zone of the time column.
pub const UTC: &str = "UTC";
/// Schema metadata key that tells the layout; absent means long.
pub const LAYOUT_KEY: &str = "truegauge.layout";
/// Field metadata key that marks a column of a wide batch as the qualities of the tag it names.
pub const QUALITY_OF_KEY: &str = "truegauge.quality_of";
/// Value of [`LAYOUT_KEY`] for wide batches.
pub const LAYOUT_WIDE: &str = "wide";

/// The rows of a batch that came from one record of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Number of rows of the batch it covers.
    pub rows: usize,
    /// Offset of the record; for files the row number in the merged log.
    ///
    /// A span of a file covers many offsets: its rows have consecutive offsets from this one, each
    /// with index 0.
    pub offset: i64,
    /// Index of the first row within its record.
    pub first_index: u32,
    /// Time the log gave the record, in milliseconds since 1970 UTC, if it did.
    pub record_ts: Option<i64>,
}

/// What one poll of a source brought: rows of one partition, in the order of its log.
#[derive(Debug, Clone)]
pub struct Polled {
    /// Partition of the log.
    pub partition: u32,
    /// Canonical batch; may have no rows when only bad records came.
    pub batch: RecordBatch,
    /// Where the rows came from; the `rows` of all spans sum to the rows of the batch.
    pub spans: Vec<Span>,
    /// What could not become rows, in log order.
    pub bad: Vec<BadRecord>,
}

/// A record, or a part of one, that could not become rows. Its siblings flow on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    /// Partition of the log.
    pub partition: u32,
    /// Offset of the record in its partition.
    pub offset: i64,
    /// Index of the sample within the record; `None`: the whole record.
    pub index: Option<u32>,
    /// Its place: before this row of the batch.
    pub before_row: usize,
    /// What is wrong, as a stable word: `missing_field`, `wrong_type`, `bad_timestamp`, ...
    pub code: &'static str,
    /// What is wrong, for a reader.
    pub reason: String,
    /// The bytes as they came.
    pub raw: Vec<u8>,
    /// File name or topic.
    pub origin: String,
    /// Key of the record.
    pub key: Option<Vec<u8>>,
    /// Headers of the record.
    pub headers: Vec<(String, Vec<u8>)>,
    /// How many samples it counts as.
    pub rows: u64,
}

/// A log that can be read in order.
pub trait Source {
    /// The next rows, waiting no longer than `deadline`. `Ok(None)` is the end of the input.
    ///
    /// A source that is still live but has nothing yet answers with an empty batch.
    fn poll(&mut self, deadline: Duration) -> Result<Option<Polled>, SourceError>;

    /// How the rows of a [`Span`] are numbered: `true`, every row is a record of its own, so row k
    /// of a span is at (`offset` + k, 0); `false`, all are of one record: (`offset`, `first_index` + k).
    fn row_is_record(&self) -> bool {
        false
    }
}

/// Why a source could not be opened or read on. What is wrong with data is a [`BadRecord`] instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A file could not be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No file to read: no path given, or a directory without readable files.
    #[error("no data file in {}", path.display())]
    NoFiles {
        /// The path that was searched.
        path: PathBuf,
    },
    /// A file name whose ending names no known format.
    #[error("{}: unknown file format (known endings: parquet, csv, tsv, arrow, ipc, arrows, jsonl, ndjson)", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// A file that is not what its name says, or is cut short.
    #[error("{}: broken {format} file: {reason}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// The format that was expected.
        format: &'static str,
        /// What the decoder said.
        reason: String,
    },
    /// A column that the configuration names and the file lacks.
    #[error("{}: no column `{column}`; the file has {}", path.display(), found.join(", "))]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// The column looked for.
        column: String,
        /// The columns there are.
        found: Vec<String>,
    },
    /// A file of a folder that does not look like data.
    #[error("{source}; if `{name}` is not data: `skip = [\"{name}\"]` in [source.files] leaves it out")]
    InFolder {
        /// Its name.
        name: String,
        /// What is wrong with it.
        source: Box<SourceError>,
    },
    /// A column of a type that cannot be read as what it is configured to be.
    #[error("{}: column `{column}` has type {got}, want {want}", path.display())]
    ColumnType {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// The type it has.
        got: String,
        /// What would do.
        want: &'static str,
    },
    /// An integer time column without a configured unit.
    #[error("{}: column `{column}` holds plain numbers: set `ts_unit` to s, ms, us or ns", path.display())]
    NoTimeUnit {
        /// The file.
        path: PathBuf,
        /// The time column.
        column: String,
    },
    /// Files of one log with different layouts or columns.
    #[error("{} and {} have different columns or layouts: read them in two runs", first.display(), second.display())]
    MixedFiles {
        /// A file.
        first: PathBuf,
        /// A file that does not go with it.
        second: PathBuf,
    },
    /// A configuration value that cannot be used.
    #[error("`{field}` = {got:?}: want {want}")]
    Config {
        /// The field, as the user writes it.
        field: &'static str,
        /// What was written.
        got: String,
        /// What would do.
        want: &'static str,
    },
    /// The broker, or the client of it, failed.
    #[error("kafka: {action}: {reason}")]
    Kafka {
        /// What was being done.
        action: &'static str,
        /// What the client said.
        reason: String,
    },
}

/// Why output could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// A file could not be written, synced or renamed (a full disk is this).
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Rows that do not fit the table.
    #[error("{}: cannot encode rows: {reason}", path.display())]
    Encode {
        /// The file.
        path: PathBuf,
        /// What the encoder said.
        reason: String,
    },
    /// The broker, or the client of it, failed.
    #[error("kafka: {action}: {reason}")]
    Kafka {
        /// What was being done.
        action: &'static str,
        /// What the client said.
        reason: String,
    },
}
