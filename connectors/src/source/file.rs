//! Files as one log: Parquet, CSV, Arrow IPC and JSON lines.
//!
//! One file is read in its own order, as cheaply as its decoder allows. Several files are one log,
//! merged by the smallest time among each file's next three rows, then by the order of the files;
//! the order inside a file is kept. Everything is partition 0, and a row's offset is its number in
//! the merged log, bad rows included.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufRead, BufReader, Read, Seek},
    path::{Path, PathBuf},
    time::Duration,
};

use arrow_array::RecordBatch;
use arrow_ipc::reader::{FileReader as IpcFileReader, StreamReader as IpcStreamReader};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use parquet::arrow::{
    ProjectionMask,
    arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    merge::Merge,
    table::{Body, Cell, Chunk, Fault, Plan, Rows, TagFrom, bad_record, dictionary_type, shape},
};
use crate::{
    BadRecord, Polled, Source, SourceError, Span,
    decode::{
        NullCell,
        csv::{CsvConfig, Fields, Lines},
        time::TimeUnit,
    },
};

/// How files are read: the table `[source.files]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FilesConfig {
    /// The time column.
    pub ts: String,
    /// The tag column of the long layout.
    pub tag: String,
    /// The value column of the long layout.
    pub value: String,
    /// The quality column of the long layout. Absent: there is none.
    pub quality: Option<String>,
    /// The column of sequence numbers of the long layout. Absent: there is none.
    pub seq: Option<String>,
    /// Ending of the quality columns of the wide layout: with `"_q"`, `p1_q` holds the qualities of
    /// `p1`. Such a column without its tag is a tag like any other; with an ignored tag, it is ignored.
    pub quality_suffix: Option<String>,
    /// What an empty cell of the wide layout is.
    pub null: NullCell,
    /// How tags are laid out.
    pub layout: Layout,
    /// How times are written.
    pub ts_unit: TimeUnit,
    /// How CSV files are written.
    pub csv: CsvConfig,
    /// Files of a folder that are not data, by name: `skip = ["labels.csv"]`. A file that is named itself is read.
    pub skip: Vec<String>,
    /// Columns of the wide layout that are not tags: `ignore = ["anomaly", "changepoint"]`.
    pub ignore: Vec<String>,
    /// Put in front of every tag.
    pub tag_prefix: String,
    /// Whether `layout = "auto"` may take a file of only a time and a value column as one tag.
    pub tag_from_file: bool,
    /// The tag of the layout `single`. Absent: the file name without its ending.
    pub tag_name: Option<String>,
}

impl Default for FilesConfig {
    fn default() -> Self {
        FilesConfig {
            ts: "ts".to_owned(),
            tag: "tag".to_owned(),
            value: "value".to_owned(),
            quality: None,
            seq: None,
            quality_suffix: None,
            null: NullCell::NoSample,
            layout: Layout::Auto,
            ts_unit: TimeUnit::Auto,
            csv: CsvConfig::default(),
            skip: Vec::new(),
            ignore: Vec::new(),
            tag_prefix: String::new(),
            tag_from_file: true,
            tag_name: None,
        }
    }
}

/// How the tags of a file are laid out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Long when there are a tag and a value column, single when there are only a time and a value
    /// column (see `tag_from_file`), else wide.
    #[default]
    Auto,
    /// One row a sample: time, tag, value.
    Long,
    /// One row a time, one column a tag.
    Wide,
    /// One tag a file: time, value.
    Single,
}

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

/// A columnar file as an iterator of its batches.
struct Columns {
    batches: Batches,
    format: &'static str,
    /// What is left of a batch that was longer than wanted.
    pending: Option<RecordBatch>,
    next_row: u64,
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

    fn next_csv(&mut self) -> Result<Option<Chunk>, SourceError> {
        let FileReader { path, origin, plan, unit, schema, max_rows, body } = self;
        let Reader::Csv { lines, fields, rows, first } = body else { return Ok(None) };
        let mut bad = Vec::new();
        while rows.len() < *max_rows && bad.len() < *max_rows {
            let line =
                lines.next_record(true).map_err(|source| SourceError::Io { path: path.clone(), source })?;
            let Some(line) = line else { break };
            fields.cut(line);
            if fields.len() != plan.names.len() {
                let reason = format!("{} fields, the header has {}", fields.len(), plan.names.len());
                bad.push(bad_record(origin, rows.len(), "wrong_fields", reason, line.to_vec()));
                continue;
            }
            let cell = |i| match fields.get(i) {
                b"" => Cell::Absent,
                text => Cell::Plain(text),
            };
            if std::mem::take(first) {
                need_unit(path, plan, unit, cell(plan.ts))?;
            }
            let row = rows.len();
            note(rows.push(plan, unit, cell), row, line, origin, &mut bad);
        }
        Ok(chunk(rows, bad, schema))
    }

    fn next_json(&mut self) -> Result<Option<Chunk>, SourceError> {
        let FileReader { path, origin, plan, unit, schema, max_rows, body } = self;
        let Reader::Json { lines, rows, first } = body else { return Ok(None) };
        let mut bad = Vec::new();
        while rows.len() < *max_rows && bad.len() < *max_rows {
            let line =
                lines.next_record(false).map_err(|source| SourceError::Io { path: path.clone(), source })?;
            let Some(line) = line else { break };
            let row = rows.len();
            let object = match serde_json::from_slice(line) {
                Ok(serde_json::Value::Object(object)) => object,
                Ok(_) => {
                    let reason = "not a JSON object".to_owned();
                    bad.push(bad_record(origin, row, "wrong_type", reason, line.to_vec()));
                    continue;
                }
                Err(error) => {
                    let code = if std::str::from_utf8(line).is_ok() { "json_syntax" } else { "not_utf8" };
                    bad.push(bad_record(origin, row, code, error.to_string(), line.to_vec()));
                    continue;
                }
            };
            let cell = |i: usize| match object.get(&plan.names[i]) {
                None | Some(serde_json::Value::Null) => Cell::Absent,
                Some(serde_json::Value::String(text)) => Cell::Text(text),
                Some(serde_json::Value::Number(number)) => Cell::Number(number),
                Some(_) => Cell::Other,
            };
            if std::mem::take(first) {
                need_unit(path, plan, unit, cell(plan.ts))?;
            }
            note(rows.push(plan, unit, cell), row, line, origin, &mut bad);
        }
        Ok(chunk(rows, bad, schema))
    }
}

impl Columns {
    /// The next rows as they are in the file, and the number of the first of them.
    fn next(&mut self, path: &Path, max_rows: usize) -> Result<Option<(RecordBatch, u64)>, SourceError> {
        let batch = loop {
            let batch = match self.pending.take() {
                Some(batch) => batch,
                None => match self.batches.next() {
                    None => return Ok(None),
                    Some(batch) => batch.map_err(|error| broken(path, self.format, &error))?,
                },
            };
            if batch.num_rows() > 0 {
                break batch;
            }
        };
        let rows = batch.num_rows().min(max_rows);
        if rows < batch.num_rows() {
            self.pending = Some(batch.slice(rows, batch.num_rows() - rows));
        }
        let first_row = self.next_row;
        self.next_row += rows as u64;
        Ok(Some((batch.slice(0, rows), first_row)))
    }
}

/// Turns what was wrong with a row or its cells into bad records.
fn note(
    outcome: Result<Vec<(u32, Fault)>, Fault>,
    row: usize,
    line: &[u8],
    origin: &str,
    bad: &mut Vec<BadRecord>,
) {
    match outcome {
        Err(fault) => bad.push(bad_record(origin, row, fault.code, fault.reason, line.to_vec())),
        Ok(cells) => bad.extend(cells.into_iter().map(|(index, fault)| {
            let record = bad_record(origin, row, fault.code, fault.reason, line.to_vec());
            BadRecord { index: Some(index), ..record }
        })),
    }
}

/// What has been gathered; `None` when that is nothing.
fn chunk(rows: &mut Rows, bad: Vec<BadRecord>, schema: &SchemaRef) -> Option<Chunk> {
    (rows.len() > 0 || !bad.is_empty()).then(|| Chunk { batch: rows.finish(schema), bad })
}

/// Refuses a file whose times are numbers when no unit is configured, instead of every row of it.
fn need_unit(path: &Path, plan: &Plan, unit: &TimeUnit, ts: Cell<'_>) -> Result<(), SourceError> {
    let is_number = match ts {
        Cell::Number(_) => true,
        Cell::Plain(text) => std::str::from_utf8(text).is_ok_and(|text| text.parse::<f64>().is_ok()),
        Cell::Absent | Cell::Text(_) | Cell::Other => false,
    };
    if is_number && *unit == TimeUnit::Auto {
        return Err(SourceError::NoTimeUnit { path: path.to_owned(), column: plan.names[plan.ts].clone() });
    }
    Ok(())
}

type Opened = (Plan, Reader, Option<u64>);

fn open_parquet(
    path: &Path,
    config: &FilesConfig,
    file: File,
    max_rows: usize,
) -> Result<Opened, SourceError> {
    let refused = |error| broken(path, "parquet", &error);
    let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(refused)?;
    let plan = Plan::new(config, path, names(metadata.schema()))?;
    // Repeated words are stored as a dictionary and are cheapest read as one.
    let metadata = match with_dictionaries(&plan, metadata.schema()) {
        None => metadata,
        Some(schema) => {
            let options = ArrowReaderOptions::new().with_schema(schema);
            ArrowReaderMetadata::try_new(metadata.metadata().clone(), options).map_err(refused)?
        }
    };
    let rows = u64::try_from(metadata.metadata().file_metadata().num_rows()).ok();
    let mask = ProjectionMask::roots(metadata.parquet_schema(), plan.used());
    let groups = metadata.metadata().num_row_groups();
    let long = rows.is_some_and(|rows| rows >= (groups * max_rows) as u64);
    let open = move |file: &File, groups: Option<usize>| {
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file.try_clone()?, metadata.clone())
            .with_projection(mask.clone())
            .with_batch_size(max_rows);
        match groups {
            Some(group) => builder.with_row_groups(vec![group]).build(),
            None => builder.build(),
        }
    };
    if !long {
        let reader = open(&file, None).map_err(refused)?;
        return Ok((plan, columns("parquet", Box::new(reader)), rows));
    }
    // A batch that reaches from one row group into the next has its words gathered anew, and all of them looked up anew:
    // of long groups each is read by itself.
    let batches = (0..groups).flat_map(move |group| match open(&file, Some(group)) {
        Ok(reader) => Box::new(reader) as Batches,
        Err(error) => Box::new(std::iter::once(Err(error.into()))),
    });
    Ok((plan, columns("parquet", Box::new(batches)), rows))
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

/// The schema with text columns that are read as dictionaries; `None` when there is none.
fn with_dictionaries(plan: &Plan, schema: &Schema) -> Option<SchemaRef> {
    let Body::Long { tag, quality, .. } = &plan.body else { return None };
    let tag = if let TagFrom::Column(tag) = tag { Some(*tag) } else { None };
    let is_text = |field: &Field| {
        matches!(field.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
    };
    let wanted = |i: usize, field: &Field| (tag == Some(i) || *quality == Some(i)) && is_text(field);
    let mut any = false;
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(i, field)| {
            let field = field.as_ref().clone();
            if !wanted(i, &field) {
                return field;
            }
            any = true;
            field.with_data_type(dictionary_type())
        })
        .collect();
    any.then(|| Schema::new_with_metadata(fields, schema.metadata().clone()).into())
}

fn open_ipc(path: &Path, config: &FilesConfig, file: File) -> Result<Opened, SourceError> {
    let refused = |error| broken(path, "arrow ipc", &error);
    let mut input = BufReader::new(file);
    let mut magic = Vec::new();
    let read = (&mut input).take(IPC_FILE_MAGIC.len() as u64).read_to_end(&mut magic);
    read.and_then(|_| input.rewind()).map_err(|source| SourceError::Io { path: path.to_owned(), source })?;
    if magic.is_empty() {
        return Err(broken(path, "arrow ipc", &"the file is empty"));
    }
    if magic == IPC_FILE_MAGIC {
        let whole = IpcFileReader::try_new(&mut input, None).map_err(refused)?;
        let plan = Plan::new(config, path, names(&whole.schema()))?;
        let projection = plan.used().into_iter().collect();
        let reader = IpcFileReader::try_new(input, Some(projection)).map_err(refused)?;
        return Ok((plan, columns("arrow ipc", Box::new(reader)), None));
    }
    let whole = IpcStreamReader::try_new(&mut input, None).map_err(refused)?;
    let plan = Plan::new(config, path, names(&whole.schema()))?;
    input.rewind().map_err(|source| SourceError::Io { path: path.to_owned(), source })?;
    let projection = plan.used().into_iter().collect();
    let reader = IpcStreamReader::try_new(input, Some(projection)).map_err(refused)?;
    Ok((plan, columns("arrow ipc", Box::new(reader)), None))
}

fn columns(format: &'static str, batches: Batches) -> Reader {
    Reader::Columns(Columns { batches, format, pending: None, next_row: 0 })
}

fn open_csv(path: &Path, config: &FilesConfig, file: File, default: u8) -> Result<Opened, SourceError> {
    let refused = |source| SourceError::Io { path: path.to_owned(), source };
    let delimiter = ascii("csv.delimiter", config.csv.delimiter)?.unwrap_or(default);
    let comment = ascii("csv.comment", config.csv.comment)?;
    let bytes = file.metadata().map_err(refused)?.len();
    let mut input = BufReader::with_capacity(BUFFER_BYTES, file);
    let rows = lines_hint(input.fill_buf().map_err(refused)?, bytes);
    let mut lines = Lines::new(input, comment);
    for _ in 0..config.csv.skip_lines {
        lines.next_record(false).map_err(refused)?;
    }
    let mut fields = Fields::new(delimiter);
    let names = match &config.csv.columns {
        Some(columns) => columns.clone(),
        None => {
            let header = lines.next_record(true).map_err(refused)?;
            fields.cut(header.ok_or_else(|| broken(path, "csv", &"no header line"))?);
            (0..fields.len())
                .map(|i| std::str::from_utf8(fields.get(i)).map(str::to_owned))
                .collect::<Result<_, _>>()
                .map_err(|_| broken(path, "csv", &"the header is not UTF-8"))?
        }
    };
    let plan = Plan::new(config, path, names)?;
    let rows_builder = Rows::new(&plan);
    Ok((plan, Reader::Csv { lines, fields, rows: rows_builder, first: true }, Some(rows)))
}

fn ascii(field: &'static str, character: Option<char>) -> Result<Option<u8>, SourceError> {
    match character {
        Some(c) if !c.is_ascii() || matches!(c, '"' | '\n' | '\r') => {
            let want = "one ASCII character that is no quote or line end";
            Err(SourceError::Config { field, got: c.to_string(), want })
        }
        character => Ok(character.map(|c| c as u8)),
    }
}

fn open_json(path: &Path, config: &FilesConfig, file: File) -> Result<Opened, SourceError> {
    let refused = |source| SourceError::Io { path: path.to_owned(), source };
    let bytes = file.metadata().map_err(refused)?.len();
    let names = json_names(path, config)?;
    let plan = Plan::new(config, path, names)?;
    let mut input = BufReader::with_capacity(BUFFER_BYTES, file);
    let hint = lines_hint(input.fill_buf().map_err(refused)?, bytes);
    let rows = Rows::new(&plan);
    Ok((plan, Reader::Json { lines: Lines::new(input, None), rows, first: true }, Some(hint)))
}

/// The fields of a file of objects. Its first object with a time tells the layout; in the wide
/// layout every object may bring new tags, so the whole file is looked through.
fn json_names(path: &Path, config: &FilesConfig) -> Result<Vec<String>, SourceError> {
    let refused = |source| SourceError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(refused)?;
    let mut lines = Lines::new(BufReader::with_capacity(BUFFER_BYTES, file), None);
    let mut seen = BTreeSet::new();
    let mut layout = None;
    let mut without_ts = None;
    while let Some(line) = lines.next_record(false).map_err(refused)? {
        let Ok(serde_json::Value::Object(object)) = serde_json::from_slice(line) else { continue };
        if !object.contains_key(&config.ts) {
            without_ts.get_or_insert_with(|| object.keys().cloned().collect::<Vec<_>>());
            continue;
        }
        if layout.is_none() {
            let found = Plan::new(config, path, object.keys().cloned().collect());
            let single = matches!(&found, Ok(Plan { body: Body::Long { tag: TagFrom::Name(_), .. }, .. }));
            let long = config.layout == Layout::Long
                || config.layout == Layout::Auto
                    && object.contains_key(&config.tag)
                    && object.contains_key(&config.value);
            layout = Some(match (single, long) {
                (true, _) => Layout::Single,
                (_, true) => Layout::Long,
                _ if config.layout == Layout::Single => Layout::Single,
                _ => Layout::Wide,
            });
        }
        if layout != Some(Layout::Wide) {
            break;
        }
        for (name, _) in object {
            if name != config.ts {
                seen.insert(name);
            }
        }
    }
    let fixed = |names: &[&String]| {
        let names = names.iter().copied().chain(&config.quality).chain(&config.seq);
        names.cloned().collect::<Vec<_>>()
    };
    match (layout, without_ts) {
        (None, Some(found)) => {
            Err(SourceError::NoColumn { path: path.to_owned(), column: config.ts.clone(), found })
        }
        (Some(Layout::Wide), _) => Ok(std::iter::once(config.ts.clone()).chain(seen).collect()),
        (Some(Layout::Single), _) => Ok(fixed(&[&config.ts, &config.value])),
        _ => Ok(fixed(&[&config.ts, &config.tag, &config.value])),
    }
}

/// About how many lines a file of `bytes` has, judged by its beginning.
fn lines_hint(beginning: &[u8], bytes: u64) -> u64 {
    let lines = memchr::memchr_iter(b'\n', beginning).count().max(1) as u64;
    if beginning.len() as u64 >= bytes { lines } else { bytes * lines / beginning.len().max(1) as u64 }
}

fn names(schema: &Schema) -> Vec<String> {
    schema.fields().iter().map(|field| field.name().clone()).collect()
}

fn broken(path: &Path, format: &'static str, reason: &dyn std::fmt::Display) -> SourceError {
    SourceError::Broken { path: path.to_owned(), format, reason: reason.to_string() }
}

const IPC_FILE_MAGIC: &[u8] = b"ARROW1";

/// Bytes read at once from a text file.
const BUFFER_BYTES: usize = 256 * 1024;

/// Rows read at once from each of several files.
const MERGE_ROWS: usize = 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests;
