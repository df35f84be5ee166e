//! A recording as a source: each partition's rows with the places they had, so that a journal fits.
//!
//! What is written is described in [`crate::sink::recording`]. Partitions come one after the other.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Lines, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use arrow_array::{
    Array, RecordBatch,
    cast::AsArray,
    types::{Int64Type, UInt32Type},
};
use arrow_ipc::reader::StreamReader;

use crate::{
    BadRecord, Polled, Source, SourceError, Span,
    decode::rows::empty_batch,
    sink::recording::{
        Bad, INDEX, MANIFEST, Manifest, OFFSET, OLDEST_VERSION, RECORD_TS, ROWS, VERSION, directory,
    },
};

/// A recording that is read.
pub struct RecordingSource {
    dir: PathBuf,
    partitions: Vec<(String, i32)>,
    at: usize,
    open: Option<Partition>,
    batch_rows: usize,
    cut_off: Vec<String>,
}

struct Partition {
    files: std::vec::IntoIter<PathBuf>,
    reader: Option<Rows>,
    bad: BadRecords,
    rest: Option<RecordBatch>,
}

/// A file of rows and the stream in it that is read.
struct Rows {
    path: PathBuf,
    stream: StreamReader<BufReader<File>>,
}

impl RecordingSource {
    /// Whether a path is a recording.
    #[must_use]
    pub fn is_recording(path: &Path) -> bool {
        path.join(MANIFEST).is_file()
    }

    /// Opens a recording. What is polled at a time has at most `batch_rows` rows, and as many records that could not be decoded.
    ///
    /// # Errors
    /// It can't be read, or is of another version.
    ///
    /// # Panics
    /// When `batch_rows` is zero, a bug of the caller.
    pub fn open(dir: &Path, batch_rows: usize) -> Result<Self, SourceError> {
        assert!(batch_rows > 0, "a batch has at least one row");
        let path = dir.join(MANIFEST);
        let text = fs::read(&path).map_err(at(&path))?;
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|e| broken(&path, &e))?;
        if !(OLDEST_VERSION..=VERSION).contains(&manifest.version) {
            let reason = format!(
                "its version is {}, this program reads {OLDEST_VERSION} to {VERSION}",
                manifest.version
            );
            return Err(broken(&path, &reason));
        }
        let partitions = manifest.partitions;
        Ok(RecordingSource {
            dir: dir.into(),
            partitions,
            at: 0,
            open: None,
            batch_rows,
            cut_off: Vec::new(),
        })
    }

    /// Topic and partition of each partition number.
    #[must_use]
    pub fn partitions(&self) -> &[(String, i32)] {
        &self.partitions
    }

    /// The checkpoint that a partition began with.
    ///
    /// # Errors
    /// It is there and can't be read.
    pub fn start(&self, partition: u32) -> Result<Option<Vec<u8>>, SourceError> {
        let Some(name) = self.partitions.get(partition as usize) else { return Ok(None) };
        let path = directory(&self.dir, name).join("start");
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at(&path)(error)),
        }
    }

    /// Files that end in the middle of a batch: the stream was cut off while it was recorded.
    #[must_use]
    pub fn cut_off(&self) -> &[String] {
        &self.cut_off
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        let Some(open) = &mut self.open else { return Ok(None) };
        if let Some(rest) = open.rest.take() {
            return Ok(Some(rest));
        }
        loop {
            let (path, file) = match open.reader.take() {
                Some(mut rows) => match rows.stream.next() {
                    Some(Ok(batch)) => {
                        open.reader = Some(rows);
                        return Ok(Some(batch));
                    }
                    Some(Err(error)) => {
                        self.cut_off.push(format!("{}: {error}", rows.path.display()));
                        continue;
                    }
                    None => match rows.behind()? {
                        Some(next) => next,
                        None => continue,
                    },
                },
                None => {
                    let Some(path) = open.files.next() else { return Ok(None) };
                    let file = BufReader::new(File::open(&path).map_err(at(&path))?);
                    (path, file)
                }
            };
            match StreamReader::try_new(file, None) {
                Ok(stream) => open.reader = Some(Rows { path, stream }),
                Err(error) => self.cut_off.push(format!("{}: {error}", path.display())),
            }
        }
    }
}

impl Source for RecordingSource {
    fn poll(&mut self, _deadline: Duration) -> Result<Option<Polled>, SourceError> {
        loop {
            let Some(name) = self.partitions.get(self.at) else { return Ok(None) };
            let partition = self.at as u32;
            if self.open.is_none() {
                self.open = Some(Partition::open(&directory(&self.dir, name), partition)?);
            }
            let next = self.next_batch()?;
            let Some(open) = &mut self.open else { return Ok(None) };
            let Some(whole) = next else {
                let bad = open.bad.until(i64::MAX, self.batch_rows)?;
                if bad.is_empty() {
                    (self.open, self.at) = (None, self.at + 1);
                    continue;
                }
                return Ok(Some(Polled { partition, batch: empty_batch(), spans: Vec::new(), bad }));
            };
            let rows = whole.num_rows().min(self.batch_rows);
            let (batch, spans) = self.split(&whole.slice(0, rows))?;
            let Some(open) = &mut self.open else { return Ok(None) };
            let last = spans.last().map_or(i64::MIN, |s| s.offset);
            let bad = open.bad.until(last, self.batch_rows)?;
            if bad.len() == self.batch_rows {
                // There may be more of them than should be in memory at a time: the rows wait.
                open.rest = Some(whole);
                return Ok(Some(Polled { partition, batch: empty_batch(), spans: Vec::new(), bad }));
            }
            if rows < whole.num_rows() {
                open.rest = Some(whole.slice(rows, whole.num_rows() - rows));
            }
            return Ok(Some(Polled { partition, batch, spans, bad }));
        }
    }
}

impl RecordingSource {
    /// Takes the columns that tell places off the batch.
    fn split(&self, batch: &RecordBatch) -> Result<(RecordBatch, Vec<Span>), SourceError> {
        let missing = || broken(&self.dir, &"a column of the recording is missing");
        let offset = batch.column_by_name(OFFSET).and_then(|c| c.as_primitive_opt::<Int64Type>());
        let index = batch.column_by_name(INDEX).and_then(|c| c.as_primitive_opt::<UInt32Type>());
        let record_ts = batch.column_by_name(RECORD_TS).and_then(|c| c.as_primitive_opt::<Int64Type>());
        let (offset, index) = (offset.ok_or_else(missing)?, index.ok_or_else(missing)?);
        let record_ts = record_ts.ok_or_else(missing)?;
        let mut spans: Vec<Span> = Vec::new();
        for row in 0..batch.num_rows() {
            let (offset, first_index) = (offset.value(row), index.value(row));
            let record_ts = record_ts.is_valid(row).then(|| record_ts.value(row));
            match spans.last_mut() {
                Some(span)
                    if span.offset == offset
                        && span.record_ts == record_ts
                        && span.first_index + span.rows as u32 == first_index =>
                {
                    span.rows += 1;
                }
                _ => spans.push(Span { rows: 1, offset, first_index, record_ts }),
            }
        }
        let own = [OFFSET, INDEX, RECORD_TS];
        let keep: Vec<usize> = (0..batch.num_columns())
            .filter(|i| !own.contains(&batch.schema_ref().field(*i).name().as_str()))
            .collect();
        let batch = batch.project(&keep).map_err(|e| broken(&self.dir, &e))?;
        Ok((batch, spans))
    }
}

impl Rows {
    /// The file behind the end of this stream; none if nothing follows.
    fn behind(mut self) -> Result<Option<(PathBuf, BufReader<File>)>, SourceError> {
        let place = self.stream.get_mut().stream_position();
        let file = self.stream.get_ref().get_ref().try_clone();
        let next = place.and_then(|place| {
            let mut file = BufReader::new(file?);
            file.seek(SeekFrom::Start(place))?;
            Ok((!file.fill_buf()?.is_empty()).then_some(file))
        });
        Ok(next.map_err(at(&self.path))?.map(|file| (self.path, file)))
    }
}

impl Partition {
    fn open(dir: &Path, partition: u32) -> Result<Self, SourceError> {
        let mut files = Vec::new();
        for entry in fs::read_dir(dir).map_err(at(dir))? {
            let path = entry.map_err(at(dir))?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if name == ROWS || name.starts_with("rows-") && name.ends_with(".arrows") {
                files.push(path);
            }
        }
        files.sort();
        let bad = BadRecords::open(dir.join("bad.jsonl"), partition)?;
        Ok(Partition { files: files.into_iter(), reader: None, bad, rest: None })
    }
}

/// The records of a partition that could not be decoded, read as they are wanted.
struct BadRecords {
    path: PathBuf,
    partition: u32,
    lines: Option<Lines<BufReader<File>>>,
    next: Option<BadRecord>,
}

impl BadRecords {
    /// Opens them; a partition may have none.
    fn open(path: PathBuf, partition: u32) -> Result<Self, SourceError> {
        let lines = match File::open(&path) {
            Ok(file) => Some(BufReader::new(file).lines()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(at(&path)(error)),
        };
        Ok(BadRecords { path, partition, lines, next: None })
    }

    /// The next ones up to an offset, at most so many.
    fn until(&mut self, last: i64, most: usize) -> Result<Vec<BadRecord>, SourceError> {
        let mut found = Vec::new();
        while found.len() < most {
            let next = match self.next.take() {
                Some(next) => next,
                None => {
                    let Some(line) = self.lines.as_mut().and_then(Iterator::next) else { break };
                    let line = line.map_err(at(&self.path))?;
                    let bad = serde_json::from_str::<Bad>(&line).ok();
                    // Only a last line can be torn, and then nobody missed it.
                    let Some(next) = bad.and_then(|bad| bad.record(self.partition)) else { continue };
                    next
                }
            };
            if next.offset > last {
                self.next = Some(next);
                break;
            }
            found.push(next);
        }
        Ok(found)
    }
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> SourceError {
    let path = path.to_owned();
    move |source| SourceError::Io { path: path.clone(), source }
}

fn broken(path: &Path, reason: &dyn std::fmt::Display) -> SourceError {
    SourceError::Broken { path: path.into(), format: "recording", reason: reason.to_string() }
}
