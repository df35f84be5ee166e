//! A recording of a stream: what came in, partition by partition, so that it can be judged again.
//!
//! `recording.json` names the partitions; `NAME/rows.arrows` has the rows, long, with columns that say which record each came from, as Arrow
//! IPC streams one behind the other: a stream ends where the columns change, as they may at any batch; `NAME/bad.jsonl` has the records that could not be decoded; `journal.jsonl` the journal; `NAME/start` the
//! checkpoint that the stream began with, if it had one. A recording that was cut off is read up to where it is whole.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fs::{self, File, OpenOptions},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use arrow_array::{
    Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
    UInt32Array,
    cast::AsArray,
    types::{Float64Type, Int32Type, TimestampNanosecondType, UInt32Type},
};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use super::at;
use crate::{
    BadRecord, LAYOUT_KEY, LAYOUT_WIDE, NOT_GIVEN, Polled, QUALITY, QUALITY_OF_KEY, SinkError, Span, TAG, TS,
    UTC, VALUE, store::dir::make_private,
};

/// The file that makes a directory a recording.
pub const MANIFEST: &str = "recording.json";
/// Version of the form of a recording.
pub const VERSION: u32 = 2;
/// The oldest form that is read: it began a file of its own, `rows-N.arrows`, where the columns changed.
pub const OLDEST_VERSION: u32 = 1;
/// The file of a partition's rows.
pub const ROWS: &str = "rows.arrows";
/// Column of the record's offset.
pub const OFFSET: &str = "offset";
/// Column of the row's place in its record.
pub const INDEX: &str = "index";
/// Column of the record's timestamp, milliseconds since 1970 UTC.
pub const RECORD_TS: &str = "record_ts";

/// What `recording.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// From [`OLDEST_VERSION`] to [`VERSION`].
    pub version: u32,
    /// Topic and partition of each partition, by number.
    pub partitions: Vec<(String, i32)>,
}

/// The directory of a partition in a recording.
#[must_use]
pub fn directory(recording: &Path, (topic, partition): &(String, i32)) -> PathBuf {
    recording.join(format!("{topic}-{partition}"))
}

/// Writes a recording.
#[derive(Debug)]
pub struct Recorder {
    dir: PathBuf,
    partitions: Vec<(String, i32)>,
    rows: BTreeMap<u32, Rows>,
    bad: BTreeMap<u32, BufWriter<File>>,
    journal: File,
}

struct Rows {
    schema: SchemaRef,
    writer: StreamWriter<BufWriter<File>>,
}

impl Rows {
    /// Begins a stream where the file is.
    fn begin(file: BufWriter<File>, schema: SchemaRef, path: &Path) -> Result<Self, SinkError> {
        let writer = StreamWriter::try_new(file, &schema).map_err(|e| encode(path, &e))?;
        Ok(Rows { schema, writer })
    }

    /// Ends the stream; another may follow.
    fn end(self, path: &Path) -> Result<BufWriter<File>, SinkError> {
        self.writer.into_inner().map_err(|e| encode(path, &e))
    }
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Rows").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Recorder {
    /// Begins a recording of these partitions in a directory that has none yet. `start` gives the checkpoint that a partition begins
    /// with.
    ///
    /// # Errors
    /// The directory can't be made or holds a recording.
    pub fn create(
        dir: &Path,
        partitions: &[(String, i32)],
        start: impl Fn(&(String, i32)) -> Option<Vec<u8>>,
    ) -> Result<Self, SinkError> {
        make_private(dir).map_err(at(dir))?;
        // First of all: where there is a recording already, nothing of it is touched.
        let manifest = Manifest { version: VERSION, partitions: partitions.to_vec() };
        let path = dir.join(MANIFEST);
        let text = serde_json::to_vec(&manifest).map_err(|e| encode(&path, &e))?;
        File::create_new(&path).and_then(|mut file| file.write_all(&text)).map_err(at(&path))?;
        for partition in partitions {
            let path = directory(dir, partition);
            make_private(&path).map_err(at(&path))?;
            if let Some(bytes) = start(partition) {
                let path = path.join("start");
                fs::write(&path, bytes).map_err(at(&path))?;
            }
        }
        let path = dir.join("journal.jsonl");
        let journal = OpenOptions::new().create_new(true).append(true).open(&path).map_err(at(&path))?;
        Ok(Recorder {
            dir: dir.into(),
            partitions: partitions.to_vec(),
            rows: BTreeMap::new(),
            bad: BTreeMap::new(),
            journal,
        })
    }

    /// Adds what was polled.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write(&mut self, polled: &Polled) -> Result<(), SinkError> {
        let Some(partition) = self.partitions.get(polled.partition as usize) else { return Ok(()) };
        let dir = directory(&self.dir, partition);
        if polled.batch.num_rows() > 0 {
            let batch = long(&polled.batch, &polled.spans).map_err(|e| encode(&dir, &e))?;
            let path = dir.join(ROWS);
            let mut rows = match self.rows.remove(&polled.partition) {
                Some(rows) if rows.schema == batch.schema() => rows,
                Some(rows) => Rows::begin(rows.end(&path)?, batch.schema(), &path)?,
                None => {
                    let file = File::create_new(&path).map_err(at(&path))?;
                    Rows::begin(BufWriter::new(file), batch.schema(), &path)?
                }
            };
            rows.writer.write(&batch).map_err(|e| encode(&path, &e))?;
            self.rows.insert(polled.partition, rows);
        }
        if !polled.bad.is_empty() {
            let path = dir.join("bad.jsonl");
            let file = match self.bad.entry(polled.partition) {
                Entry::Occupied(file) => file.into_mut(),
                Entry::Vacant(place) => {
                    place.insert(BufWriter::new(File::create_new(&path).map_err(at(&path))?))
                }
            };
            for bad in &polled.bad {
                let mut line = serde_json::to_vec(&Bad::from(bad)).map_err(|e| encode(&path, &e))?;
                line.push(b'\n');
                file.write_all(&line).map_err(at(&path))?;
            }
        }
        Ok(())
    }

    /// Adds a line to the journal.
    ///
    /// # Errors
    /// It can't be written.
    pub fn journal(&mut self, line: &[u8]) -> Result<(), SinkError> {
        self.journal.write_all(line).map_err(at(&self.dir.join("journal.jsonl")))
    }

    /// Ends all files; without it the last rows may be missing.
    ///
    /// # Errors
    /// They can't be written.
    pub fn finish(mut self) -> Result<(), SinkError> {
        for (number, rows) in std::mem::take(&mut self.rows) {
            let path = directory(&self.dir, &self.partitions[number as usize]).join(ROWS);
            rows.end(&path)?.flush().map_err(at(&path))?;
        }
        for (number, mut file) in std::mem::take(&mut self.bad) {
            let path = directory(&self.dir, &self.partitions[number as usize]).join("bad.jsonl");
            file.flush().map_err(at(&path))?;
        }
        Ok(())
    }
}

/// A record that could not be decoded, as a line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Bad {
    offset: i64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    index: Option<u32>,
    code: String,
    reason: String,
    raw: String,
    origin: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    key: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    headers: Vec<(String, String)>,
    rows: u64,
}

impl From<&BadRecord> for Bad {
    fn from(bad: &BadRecord) -> Self {
        Bad {
            offset: bad.offset,
            index: bad.index,
            code: bad.code.into(),
            reason: bad.reason.clone(),
            raw: hex(&bad.raw),
            origin: bad.origin.clone(),
            key: bad.key.as_deref().map(hex),
            headers: bad.headers.iter().map(|(k, v)| (k.clone(), hex(v))).collect(),
            rows: bad.rows,
        }
    }
}

impl Bad {
    /// Back to a record; none if the line was tampered with.
    pub(crate) fn record(self, partition: u32) -> Option<BadRecord> {
        let headers = self.headers.into_iter().map(|(k, v)| Some((k, unhex(&v)?)));
        Some(BadRecord {
            partition,
            offset: self.offset,
            index: self.index,
            before_row: 0,
            code: known(&self.code),
            reason: self.reason,
            raw: unhex(&self.raw)?,
            origin: self.origin,
            key: match self.key {
                Some(key) => Some(unhex(&key)?),
                None => None,
            },
            headers: headers.collect::<Option<_>>()?,
            rows: self.rows,
        })
    }
}

/// The one copy of a code. Codes are words of the program; the few there are live as long as it.
fn known(code: &str) -> &'static str {
    static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.get(code).copied().unwrap_or_else(|| {
        let code = Box::leak(code.into());
        known.insert(code);
        code
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
    let digits = digits.filter(|d| d.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// The batch as long rows with the columns that tell where each came from.
fn long(batch: &RecordBatch, spans: &[Span]) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let rows = batch.num_rows();
    let (mut offset, mut index, mut record_ts) =
        (Vec::with_capacity(rows), Vec::with_capacity(rows), Vec::with_capacity(rows));
    for span in spans {
        for row in 0..span.rows as u32 {
            offset.push(span.offset);
            index.push(span.first_index + row);
            record_ts.push(span.record_ts);
        }
    }
    let wide = batch.schema_ref().metadata().get(LAYOUT_KEY).is_some_and(|layout| layout == LAYOUT_WIDE);
    let mut columns: Vec<(String, ArrayRef)> = if wide {
        let cells = melt(batch);
        offset = cells.rows.iter().map(|i| offset[*i]).collect();
        index = cells.rows.iter().map(|i| index[*i]).collect();
        record_ts = cells.rows.iter().map(|i| record_ts[*i]).collect();
        cells.columns
    } else {
        let names = batch.schema_ref().fields().iter().map(|f| f.name().clone());
        names.zip(batch.columns().iter().cloned()).collect()
    };
    columns.push((OFFSET.into(), Arc::new(Int64Array::from(offset))));
    columns.push((INDEX.into(), Arc::new(UInt32Array::from(index))));
    columns.push((RECORD_TS.into(), Arc::new(Int64Array::from(record_ts))));
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(name, array.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, array)| array).collect())
}

struct Cells {
    rows: Vec<usize>,
    columns: Vec<(String, ArrayRef)>,
}

/// The cells of a wide batch in the order in which the engine reads them: row by row; a null cell is no sample.
fn melt(batch: &RecordBatch) -> Cells {
    let (mut rows, mut ts, mut tag, mut value) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut quality: Vec<Option<String>> = Vec::new();
    let times = batch.column_by_name(TS).and_then(|c| c.as_primitive_opt::<TimestampNanosecondType>());
    let schema = batch.schema();
    let (mut tags, mut qualities) = (Vec::new(), BTreeMap::new());
    for (field, array) in schema.fields().iter().zip(batch.columns()) {
        if let Some(tag) = field.metadata().get(QUALITY_OF_KEY) {
            qualities.insert(tag.as_str(), array);
        } else if field.name() != TS
            && let Some(values) = array.as_primitive_opt::<Float64Type>()
        {
            tags.push((field.name().as_str(), values));
        }
    }
    for row in 0..batch.num_rows() {
        for (name, values) in tags.iter().filter(|(_, values)| values.is_valid(row)) {
            rows.push(row);
            ts.push(times.map_or(0, |t| t.value(row)));
            tag.push(*name);
            value.push(values.value(row));
            quality.push(qualities.get(name).map_or(Some(NOT_GIVEN.into()), |array| word(array, row)));
        }
    }
    let mut columns: Vec<(String, ArrayRef)> = vec![
        (TS.into(), Arc::new(TimestampNanosecondArray::from(ts).with_timezone(UTC))),
        (TAG.into(), Arc::new(StringArray::from(tag))),
        (VALUE.into(), Arc::new(Float64Array::from(value))),
    ];
    if !qualities.is_empty() {
        columns.push((QUALITY.into(), Arc::new(StringArray::from(quality))));
    }
    Cells { rows, columns }
}

/// A quality as a word; a number in decimal.
fn word(array: &ArrayRef, row: usize) -> Option<String> {
    if array.is_null(row) {
        return None;
    }
    if let Some(words) = array.as_string_opt::<i32>() {
        return Some(words.value(row).into());
    }
    if let Some(codes) = array.as_primitive_opt::<UInt32Type>() {
        return Some(codes.value(row).to_string());
    }
    let words = array.as_dictionary_opt::<Int32Type>()?;
    let code = usize::try_from(words.keys().value(row)).ok()?;
    Some(words.values().as_string_opt::<i32>()?.value(code).into())
}

fn encode(path: &Path, error: &dyn std::fmt::Display) -> SinkError {
    SinkError::Encode { path: path.into(), reason: error.to_string() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use arrow_schema::{DataType, TimeUnit};

    use super::*;
    use crate::{Source, source::recording::RecordingSource};

    fn polled(batch: RecordBatch, spans: Vec<Span>) -> Polled {
        Polled { partition: 0, batch, spans, bad: Vec::new() }
    }

    fn span(rows: usize, offset: i64) -> Span {
        Span { rows, offset, first_index: 0, record_ts: Some(5) }
    }

    /// Given a wide batch with qualities beside one of its tags, when it is recorded and read again, then each cell is a row with its
    /// quality and its place, in the order in which the engine reads a wide batch.
    #[test]
    fn wide_cells_come_back_with_their_qualities() {
        let time = DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into()));
        let of_a = HashMap::from([(QUALITY_OF_KEY.to_owned(), "a".to_owned())]);
        let fields = vec![
            Field::new(TS, time, false),
            Field::new("a", DataType::Float64, true),
            Field::new("a_q", DataType::UInt32, true).with_metadata(of_a),
            Field::new("b", DataType::Float64, true),
        ];
        let wide = HashMap::from([(LAYOUT_KEY.to_owned(), LAYOUT_WIDE.to_owned())]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampNanosecondArray::from(vec![1, 2]).with_timezone(UTC)),
            Arc::new(Float64Array::from(vec![Some(1.0), Some(2.0)])),
            Arc::new(UInt32Array::from(vec![Some(0), None])),
            Arc::new(Float64Array::from(vec![None, Some(3.0)])),
        ];
        let schema = Schema::new_with_metadata(fields, wide);
        let batch = RecordBatch::try_new(Arc::new(schema), columns).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::create(dir.path(), &[("t".into(), 0)], |_| None).unwrap();
        recorder.write(&polled(batch, vec![span(1, 7), span(1, 9)])).unwrap();
        recorder.finish().unwrap();
        let mut source = RecordingSource::open(dir.path(), 100).unwrap();
        let read = source.poll(Duration::MAX).unwrap().unwrap();
        let words = |name: &str| {
            let column = read.batch.column_by_name(name).unwrap().as_string::<i32>().clone();
            column.iter().map(|w| w.map(str::to_owned)).collect::<Vec<_>>()
        };
        let word = |w: &str| Some(w.to_owned());
        assert_eq!(words(TAG), [word("a"), word("a"), word("b")]);
        assert_eq!(words(QUALITY), [word("0"), None, word(NOT_GIVEN)]);
        let places: Vec<_> =
            read.spans.iter().map(|s| (s.offset, s.first_index, s.rows, s.record_ts)).collect();
        assert_eq!(places, [(7, 0, 1, Some(5)), (9, 0, 1, Some(5)), (9, 0, 1, Some(5))]);
        assert!(source.poll(Duration::MAX).unwrap().is_none());
    }

    /// Given a recording that was cut off in the middle of a batch, then it is read up to there, and said so.
    #[test]
    fn a_recording_that_was_cut_off_is_read_as_far_as_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::create(dir.path(), &[("t".into(), 0)], |_| None).unwrap();
        for offset in 0..3 {
            let columns: [(&str, ArrayRef); 3] = [
                (TS, Arc::new(TimestampNanosecondArray::from(vec![offset]).with_timezone(UTC))),
                (TAG, Arc::new(StringArray::from(vec!["x"]))),
                (VALUE, Arc::new(Float64Array::from(vec![1.0]))),
            ];
            let batch = RecordBatch::try_from_iter(columns).unwrap();
            recorder.write(&polled(batch, vec![span(1, offset)])).unwrap();
        }
        recorder.finish().unwrap();
        let path = dir.path().join("t-0/rows.arrows");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 60]).unwrap();
        let mut source = RecordingSource::open(dir.path(), 100).unwrap();
        let mut offsets = Vec::new();
        while let Some(read) = source.poll(Duration::MAX).unwrap() {
            offsets.extend(read.spans.iter().map(|s| s.offset));
        }
        assert_eq!(offsets, [0, 1]);
        assert_eq!(source.cut_off().len(), 1);
    }

    /// One row at an offset; the odd ones have a quality, those of every seventh a number.
    fn row(offset: i64) -> Polled {
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            (TS, Arc::new(TimestampNanosecondArray::from(vec![offset]).with_timezone(UTC))),
            (TAG, Arc::new(StringArray::from(vec!["x"]))),
            (VALUE, Arc::new(Float64Array::from(vec![offset as f64]))),
        ];
        if offset % 2 == 1 {
            columns.push((QUALITY, Arc::new(StringArray::from(vec!["bad"]))));
        } else if offset % 7 == 0 {
            columns.push((QUALITY, Arc::new(UInt32Array::from(vec![7]))));
        }
        polled(RecordBatch::try_from_iter(columns).unwrap(), vec![span(1, offset)])
    }

    /// Offsets and batches of a recording's only partition, and how many files were cut off.
    fn read(dir: &Path) -> (Vec<i64>, Vec<RecordBatch>, usize) {
        let mut source = RecordingSource::open(dir, 100).unwrap();
        let (mut offsets, mut batches) = (Vec::new(), Vec::new());
        while let Some(read) = source.poll(Duration::MAX).unwrap() {
            offsets.extend(read.spans.iter().map(|s| s.offset));
            batches.push(read.batch);
        }
        (offsets, batches, source.cut_off().len())
    }

    /// Given a source whose columns change with every batch, then its recording is one file a partition, and is read as it was
    /// written, up to where it is whole.
    #[test]
    fn columns_that_change_with_every_batch_make_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::create(dir.path(), &[("t".into(), 0)], |_| None).unwrap();
        for offset in 0..300 {
            recorder.write(&row(offset)).unwrap();
        }
        recorder.finish().unwrap();
        assert_eq!(fs::read_dir(dir.path().join("t-0")).unwrap().count(), 1);
        let (offsets, batches, cut_off) = read(dir.path());
        assert_eq!((offsets, cut_off), ((0..300).collect(), 0));
        for (offset, batch) in (0..).zip(&batches) {
            assert_eq!(batch.columns(), row(offset).batch.columns(), "{offset}");
        }
        let path = dir.path().join("t-0").join(ROWS);
        let bytes = fs::read(&path).unwrap();
        for kept in [bytes.len() - 100, bytes.len() / 2 - 100] {
            fs::write(&path, &bytes[..kept]).unwrap();
            let (offsets, _, cut_off) = read(dir.path());
            let whole = 300 * kept as i64 / bytes.len() as i64;
            assert!(offsets.len().abs_diff(whole as usize) < 5, "{} of {whole}", offsets.len());
            assert_eq!((offsets.clone(), cut_off), ((0..offsets.len() as i64).collect(), 1));
        }
    }

    /// Given many more records that could not be decoded than rows, then no more of them are polled at a time than rows are, and all come
    /// in order and before the rows behind them; codes are kept once.
    #[test]
    fn many_records_that_could_not_be_decoded_come_a_few_at_a_time() {
        let bad = |offset: i64| BadRecord {
            partition: 0,
            offset,
            index: None,
            before_row: 0,
            code: "json_syntax",
            reason: "no".into(),
            raw: b"\xff{".to_vec(),
            origin: "t".into(),
            key: None,
            headers: Vec::new(),
            rows: 1,
        };
        let dir = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::create(dir.path(), &[("t".into(), 0)], |_| None).unwrap();
        for first in (0..200).step_by(50) {
            let mut polled = row(first + 25);
            polled.bad = (first..first + 50).filter(|offset| *offset != first + 25).map(bad).collect();
            recorder.write(&polled).unwrap();
        }
        recorder.finish().unwrap();
        let mut source = RecordingSource::open(dir.path(), 10).unwrap();
        let (mut all, mut rows, mut codes) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(polled) = source.poll(Duration::MAX).unwrap() {
            assert!(polled.bad.len() <= 10, "{} at a time", polled.bad.len());
            all.extend(polled.bad.iter().map(|b| b.offset));
            codes.extend(polled.bad.iter().map(|b| b.code.as_ptr()));
            for span in &polled.spans {
                let before = all.iter().filter(|offset| **offset < span.offset).count() as i64;
                assert_eq!(before, span.offset - rows.len() as i64, "before {}", span.offset);
                rows.push(span.offset);
            }
        }
        assert_eq!(rows, [25, 75, 125, 175]);
        assert!(all.iter().copied().eq((0..200).filter(|offset| offset % 50 != 25)), "{all:?}");
        codes.dedup();
        assert_eq!(codes.len(), 1);
    }

    /// Given a recording of the form before, with a file wherever the columns changed, then it is read whole.
    #[test]
    fn a_recording_in_several_files_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t-0");
        for n in 0..3 {
            let part = tempfile::tempdir().unwrap();
            let mut recorder = Recorder::create(part.path(), &[("t".into(), 0)], |_| None).unwrap();
            recorder.write(&row(n)).unwrap();
            recorder.finish().unwrap();
            fs::create_dir_all(&path).unwrap();
            fs::copy(part.path().join("t-0").join(ROWS), path.join(format!("rows-{n:06}.arrows"))).unwrap();
        }
        let manifest = |version| Manifest { version, partitions: vec![("t".into(), 0)] };
        let write =
            |version| fs::write(dir.path().join(MANIFEST), serde_json::to_vec(&manifest(version)).unwrap());
        write(OLDEST_VERSION).unwrap();
        assert_eq!(read(dir.path()).0, [0, 1, 2]);
        write(VERSION + 1).unwrap();
        assert!(RecordingSource::open(dir.path(), 100).is_err());
    }

    /// Given a directory that is not there, when a recording is begun in it, then others can't read it.
    #[cfg(unix)]
    #[test]
    fn a_recording_is_for_this_user_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let recording = dir.path().join("recording");
        Recorder::create(&recording, &[("t".into(), 0)], |_| None).unwrap();
        for path in [recording.clone(), recording.join("t-0")] {
            assert_eq!(
                fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o700,
                "{}",
                path.display()
            );
        }
    }

    /// Given a directory with a recording, when another is begun in it, then it is refused and the first is as it was.
    #[test]
    fn a_recording_is_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let first = [("t".to_owned(), 0)];
        Recorder::create(dir.path(), &first, |_| Some(b"first".to_vec())).unwrap().finish().unwrap();
        let manifest = fs::read(dir.path().join(MANIFEST)).unwrap();
        let both = [("t".to_owned(), 0), ("u".to_owned(), 0)];
        assert!(Recorder::create(dir.path(), &both, |_| Some(b"second".to_vec())).is_err());
        assert_eq!(fs::read(dir.path().join("t-0/start")).unwrap(), b"first");
        assert_eq!(fs::read(dir.path().join(MANIFEST)).unwrap(), manifest);
        assert!(!dir.path().join("u-0").exists());
    }
}
