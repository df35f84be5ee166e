//! Files as one log: Parquet, CSV, Arrow IPC and JSON lines.
//!
//! One file is read in its own order, as cheaply as its decoder allows. Several files are one log,
//! merged by the smallest time among each file's next three rows, then by the order of the files;
//! the order inside a file is kept. Everything is partition 0, and a row's offset is its number in
//! the merged log, bad rows included.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
    time::Duration,
};

use arrow_schema::SchemaRef;

use super::{
    merge::Merge,
    table::{Chunk, Plan, Rows, shape},
};
use crate::{
    Polled, Source, SourceError, Span,
    decode::{
        csv::{Fields, Lines},
        time::TimeUnit,
    },
};

mod columnar;
mod config;
mod text;

pub use config::{FilesConfig, Layout};

use columnar::{Columns, open_ipc, open_parquet};
use text::{open_csv, open_json};

/// Files read as one log.
pub struct FileSource {
    paths: Vec<PathBuf>,
    feed: Feed,
    next_offset: i64,
    rows_hint: Option<u64>,
}

impl std::fmt::Debug for FileSource {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("FileSource")
            .field("paths", &self.paths)
            .field("next_offset", &self.next_offset)
            .finish_non_exhaustive()
    }
}

enum Feed {
    One(Box<FileReader>),
    Several(Merge),
}

impl FileSource {
    /// Opens files, and directories as their files of a known ending by name. Batches have at most
    /// `batch_rows` rows.
    ///
    /// # Errors
    /// A path that cannot be read, a format that is unknown, a configured column that is missing or
    /// of a type that cannot be read, a number as time without `ts_unit`.
    ///
    /// # Panics
    /// When `batch_rows` is zero, a bug of the caller.
    pub fn open(paths: &[PathBuf], config: &FilesConfig, batch_rows: usize) -> Result<Self, SourceError> {
        assert!(batch_rows > 0, "a batch has at least one row");
        let found = expand(paths, &config.skip)?;
        let paths: Vec<PathBuf> = found.iter().map(|f| f.path.clone()).collect();
        if let [found] = found.as_slice() {
            let opened = FileReader::open(&found.path, config, batch_rows);
            let (reader, rows_hint) = opened.map_err(|error| found.explain(error))?;
            return Ok(FileSource { feed: Feed::One(Box::new(reader)), paths, next_offset: 0, rows_hint });
        }
        let mut readers = Vec::with_capacity(paths.len());
        let mut rows_hint = Some(0);
        for file in &found {
            let opened = FileReader::open(&file.path, config, batch_rows.max(MERGE_ROWS));
            let (reader, rows) = opened.map_err(|error| file.explain(error))?;
            rows_hint = rows_hint.zip(rows).map(|(sum, rows)| sum + rows);
            readers.push(reader);
        }
        let feed = Feed::Several(Merge::new(readers, batch_rows)?);
        Ok(FileSource { feed, paths, next_offset: 0, rows_hint })
    }

    /// The files, in the order that breaks ties between them.
    #[must_use]
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// About how many rows there are, for a progress display: exact for Parquet, from the length of
    /// the first lines for text, unknown as soon as one file is Arrow IPC.
    #[must_use]
    pub fn total_rows_hint(&self) -> Option<u64> {
        self.rows_hint
    }
}

impl Source for FileSource {
    fn poll(&mut self, _deadline: Duration) -> Result<Option<Polled>, SourceError> {
        let chunk = match &mut self.feed {
            Feed::One(reader) => reader.next_chunk()?,
            Feed::Several(merge) => merge.next_chunk()?,
        };
        Ok(chunk.map(|chunk| place(chunk, &mut self.next_offset)))
    }

    fn row_is_record(&self) -> bool {
        true
    }
}

/// Numbers rows and bad rows in log order. A bad cell has the offset of the row it is in.
fn place(chunk: Chunk, next_offset: &mut i64) -> Polled {
    let Chunk { batch, mut bad } = chunk;
    let mut spans = Vec::new();
    let mut placed_rows = 0;
    let mut span_up_to = |row: usize, next_offset: &mut i64| {
        if row > placed_rows {
            let rows = row - placed_rows;
            spans.push(Span { rows, offset: *next_offset, first_index: 0, record_ts: None });
            *next_offset += rows as i64;
            placed_rows = row;
        }
    };
    for record in &mut bad {
        if record.index.is_some() {
            // Its row is still to come, so no span may end here.
            record.offset = i64::MIN;
            continue;
        }
        span_up_to(record.before_row, next_offset);
        record.offset = *next_offset;
        *next_offset += 1;
    }
    span_up_to(batch.num_rows(), next_offset);
    let cells: Vec<usize> = (0..bad.len()).filter(|&i| bad[i].offset == i64::MIN).collect();
    let mut start = 0;
    let mut span = 0;
    for i in cells {
        let row = bad[i].before_row;
        while row >= start + spans[span].rows {
            start += spans[span].rows;
            span += 1;
        }
        bad[i].offset = spans[span].offset + (row - start) as i64;
    }
    Polled { partition: 0, batch, spans, bad }
}

/// A file to read.
struct Found {
    path: PathBuf,
    /// Whether a folder was named, and not this file.
    in_folder: bool,
}

impl Found {
    /// A file that a folder brought along may be no data at all: the way to say so belongs to the error.
    fn explain(&self, error: SourceError) -> SourceError {
        let strange = matches!(
            error,
            SourceError::NoColumn { .. } | SourceError::ColumnType { .. } | SourceError::NoTimeUnit { .. }
        );
        match self.path.file_name() {
            Some(name) if self.in_folder && strange => {
                SourceError::InFolder { name: name.to_string_lossy().into_owned(), source: Box::new(error) }
            }
            _ => error,
        }
    }
}

/// Directories become their files of a known ending, by name, without those to skip.
fn expand(paths: &[PathBuf], skip: &[String]) -> Result<Vec<Found>, SourceError> {
    let mut files = Vec::new();
    for path in paths {
        let refused = |source| SourceError::Io { path: path.clone(), source };
        if !fs::metadata(path).map_err(refused)?.is_dir() {
            files.push(Found { path: path.clone(), in_folder: false });
            continue;
        }
        let mut inside = BTreeSet::new();
        for entry in fs::read_dir(path).map_err(refused)? {
            let file = entry.map_err(refused)?.path();
            let skipped = file.file_name().is_some_and(|name| skip.iter().any(|s| name == s.as_str()));
            if file.is_file() && Format::of(&file).is_some() && !skipped {
                inside.insert(file);
            }
        }
        if inside.is_empty() {
            return Err(SourceError::NoFiles { path: path.clone() });
        }
        files.extend(inside.into_iter().map(|path| Found { path, in_folder: true }));
    }
    if files.is_empty() {
        return Err(SourceError::NoFiles { path: PathBuf::from(".") });
    }
    Ok(files)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Parquet,
    Csv { delimiter: u8 },
    Ipc,
    JsonLines,
}

impl Format {
    /// The format that the ending of the name tells.
    fn of(path: &Path) -> Option<Format> {
        Some(match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "parquet" => Format::Parquet,
            "csv" => Format::Csv { delimiter: b',' },
            "tsv" => Format::Csv { delimiter: b'\t' },
            "arrow" | "ipc" | "arrows" => Format::Ipc,
            "jsonl" | "ndjson" => Format::JsonLines,
            _ => return None,
        })
    }
}

/// One open file.
pub(super) struct FileReader {
    path: PathBuf,
    origin: String,
    plan: Plan,
    unit: TimeUnit,
    schema: SchemaRef,
    max_rows: usize,
    body: Reader,
}

enum Reader {
    Columns(Columns),
    Csv { lines: Lines<BufReader<File>>, fields: Fields, rows: Rows, first: bool },
    Json { lines: Lines<BufReader<File>>, rows: Rows, first: bool },
}

impl FileReader {
    fn open(
        path: &Path,
        config: &FilesConfig,
        max_rows: usize,
    ) -> Result<(FileReader, Option<u64>), SourceError> {
        let format = Format::of(path).ok_or_else(|| SourceError::UnknownFormat { path: path.to_owned() })?;
        let file = File::open(path).map_err(|source| SourceError::Io { path: path.to_owned(), source })?;
        let (plan, body, rows_hint) = match format {
            Format::Parquet => open_parquet(path, config, file, max_rows)?,
            Format::Ipc => open_ipc(path, config, file)?,
            Format::Csv { delimiter } => open_csv(path, config, file, delimiter)?,
            Format::JsonLines => open_json(path, config, file)?,
        };
        let reader = FileReader {
            origin: path.display().to_string(),
            path: path.to_owned(),
            schema: plan.schema(),
            plan,
            unit: config.ts_unit.clone(),
            max_rows,
            body,
        };
        Ok((reader, rows_hint))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The schema of its batches; text columns may also come as plain text instead of dictionaries.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next rows, at most `max_rows`; `None` at the end.
    pub(super) fn next_chunk(&mut self) -> Result<Option<Chunk>, SourceError> {
        match &mut self.body {
            Reader::Columns(columns) => {
                let Some((batch, first_row)) = columns.next(&self.path, self.max_rows)? else {
                    return Ok(None);
                };
                shape(&self.plan, &self.unit, &self.path, &batch, first_row).map(Some)
            }
            Reader::Csv { .. } => self.next_csv(),
            Reader::Json { .. } => self.next_json(),
        }
    }
}

/// What opening a file gives; about how many rows it has, if that is known.
type Opened = (Plan, Reader, Option<u64>);

fn broken(path: &Path, format: &'static str, reason: &dyn std::fmt::Display) -> SourceError {
    SourceError::Broken { path: path.to_owned(), format, reason: reason.to_string() }
}

/// Rows read at once from each of several files.
const MERGE_ROWS: usize = 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests;
