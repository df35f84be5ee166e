//! Several files as one log: by the smallest time among each file's next three rows, then by the
//! order of the files. A file with rows out of order thereby cannot hold up the others for long,
//! and the order inside it is kept.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow_array::{RecordBatch, cast::AsArray, new_null_array, types::TimestampNanosecondType};
use arrow_schema::{Field, SchemaRef};
use arrow_select::interleave::interleave_record_batch;

use super::{
    file::FileReader,
    table::{Chunk, quality_words, wide_schema, with_dictionaries},
};
use crate::{BadRecord, LAYOUT_KEY, QUALITY_OF_KEY, SourceError};

/// The merged log.
pub(super) struct Merge {
    first: PathBuf,
    cursors: Vec<Cursor>,
    /// Files with rows left: the smallest time of the next rows, then the file.
    heap: BinaryHeap<Reverse<(i64, usize)>>,
    schema: SchemaRef,
    max_rows: usize,
    started: bool,
    /// What could not be placed in a batch yet.
    bad: Vec<BadRecord>,
}

impl Merge {
    /// Merges files in this order; batches have at most `max_rows` rows.
    pub(super) fn new(readers: Vec<FileReader>, max_rows: usize) -> Result<Merge, SourceError> {
        let schema = common_schema(&readers)?;
        let first = readers[0].path().to_owned();
        let cursors = readers.into_iter().map(Cursor::new).collect();
        let heap = BinaryHeap::new();
        Ok(Merge { first, cursors, heap, schema, max_rows, started: false, bad: Vec::new() })
    }

    pub(super) fn next_chunk(&mut self) -> Result<Option<Chunk>, SourceError> {
        if !self.started {
            self.started = true;
            for file in 0..self.cursors.len() {
                self.queue(file, 0)?;
            }
        }
        let mut batches: Vec<RecordBatch> = Vec::new();
        let mut picked: Vec<(usize, usize)> = Vec::new();
        self.cursors.iter_mut().for_each(|cursor| cursor.slot = None);
        while picked.len() < self.max_rows {
            let Some(Reverse((_, file))) = self.heap.pop() else { break };
            let cursor = &mut self.cursors[file];
            self.bad.extend(cursor.bad_before_next(picked.len()));
            picked.push(cursor.take(&mut batches));
            self.queue(file, picked.len())?;
        }
        let bad = std::mem::take(&mut self.bad);
        if picked.is_empty() && bad.is_empty() {
            return Ok(None);
        }
        let batch = gather(&batches, &picked, &self.schema).map_err(|error| SourceError::Broken {
            path: self.first.clone(),
            format: "merge",
            reason: error.to_string(),
        })?;
        Ok(Some(Chunk { batch, bad }))
    }

    /// Queues a file by its next rows; at its end takes what was bad there.
    fn queue(&mut self, file: usize, before_row: usize) -> Result<(), SourceError> {
        let cursor = &mut self.cursors[file];
        cursor.fill(&self.schema, &self.first)?;
        match cursor.key() {
            Some(key) => self.heap.push(Reverse((key, file))),
            None => self.bad.extend(cursor.bad_before_next(before_row)),
        }
        Ok(())
    }
}

/// One file and the rows of it that are at hand.
struct Cursor {
    reader: FileReader,
    chunks: VecDeque<RecordBatch>,
    /// Next row within the first chunk.
    row: usize,
    rows_at_hand: usize,
    /// Rows of the file before the next one.
    taken: u64,
    /// Bad rows with the number of rows of the file before them.
    bad: VecDeque<(u64, BadRecord)>,
    ended: bool,
    /// Where the first chunk is among the batches being gathered.
    slot: Option<usize>,
}

impl Cursor {
    fn new(reader: FileReader) -> Cursor {
        Cursor {
            reader,
            chunks: VecDeque::new(),
            row: 0,
            rows_at_hand: 0,
            taken: 0,
            bad: VecDeque::new(),
            ended: false,
            slot: None,
        }
    }

    /// Reads on until the next three rows are at hand or the file ends.
    fn fill(&mut self, schema: &SchemaRef, first: &Path) -> Result<(), SourceError> {
        while self.rows_at_hand < LOOK_AHEAD_ROWS && !self.ended {
            let Some(Chunk { batch, bad }) = self.reader.next_chunk()? else {
                self.ended = true;
                break;
            };
            let before = self.taken + self.rows_at_hand as u64;
            self.bad.extend(bad.into_iter().map(|record| (before + record.before_row as u64, record)));
            if batch.num_rows() > 0 {
                let batch = adapt(&batch, schema).ok_or_else(|| SourceError::MixedFiles {
                    first: first.to_owned(),
                    second: self.reader.path().to_owned(),
                })?;
                self.rows_at_hand += batch.num_rows();
                self.chunks.push_back(batch);
            }
        }
        Ok(())
    }

    /// The smallest time among the next three rows.
    fn key(&self) -> Option<i64> {
        let first = self.chunks.front()?;
        let mut smallest = i64::MAX;
        let mut left = LOOK_AHEAD_ROWS;
        let mut from = self.row;
        for chunk in std::iter::once(first).chain(self.chunks.iter().skip(1)) {
            let ts = chunk.column(0).as_primitive::<TimestampNanosecondType>().values();
            for &t in ts[from..].iter().take(left) {
                smallest = smallest.min(t);
                left -= 1;
            }
            from = 0;
            if left == 0 {
                break;
            }
        }
        Some(smallest)
    }

    /// The bad rows between the last row taken and the next.
    fn bad_before_next(&mut self, before_row: usize) -> Vec<BadRecord> {
        let mut found = Vec::new();
        while let Some((_, mut record)) = self.bad.pop_front_if(|(row, _)| *row <= self.taken) {
            record.before_row = before_row;
            found.push(record);
        }
        found
    }

    /// Takes the next row: which of `batches` it is in, and where. There must be one.
    fn take(&mut self, batches: &mut Vec<RecordBatch>) -> (usize, usize) {
        let chunk = &self.chunks[0];
        let slot = *self.slot.get_or_insert_with(|| {
            batches.push(chunk.clone());
            batches.len() - 1
        });
        let place = (slot, self.row);
        self.row += 1;
        self.rows_at_hand -= 1;
        self.taken += 1;
        if self.row == chunk.num_rows() {
            self.chunks.pop_front();
            self.row = 0;
            self.slot = None;
        }
        place
    }
}

/// The picked rows as one batch; shared with the file when they follow each other there.
fn gather(
    batches: &[RecordBatch],
    picked: &[(usize, usize)],
    schema: &SchemaRef,
) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let Some(&(_, first)) = picked.first() else { return Ok(RecordBatch::new_empty(schema.clone())) };
    if let [batch] = batches {
        // One file only, and rows are taken in order: they follow each other.
        return Ok(batch.slice(first, picked.len()));
    }
    interleave_record_batch(&batches.iter().collect::<Vec<_>>(), picked)
}

/// One schema for all files: wide files bring their tags together, long files must agree.
fn common_schema(readers: &[FileReader]) -> Result<SchemaRef, SourceError> {
    let first = &readers[0];
    let is_wide = |reader: &FileReader| reader.schema().metadata().contains_key(LAYOUT_KEY);
    if let Some(other) = readers.iter().find(|reader| is_wide(reader) != is_wide(first)) {
        let (first, second) = (first.path().to_owned(), other.path().to_owned());
        return Err(SourceError::MixedFiles { first, second });
    }
    if !is_wide(first) {
        return Ok(first.schema().clone());
    }
    let mut columns: Vec<Field> = Vec::new();
    let mut seen = std::collections::BTreeMap::new();
    for reader in readers {
        for field in reader.schema().fields().iter().skip(1) {
            let known = *seen.entry(field.name().clone()).or_insert_with(|| {
                columns.push(field.as_ref().clone());
                columns.len() - 1
            });
            // The same name must not be a tag here and a quality there.
            if columns[known] != **field {
                let (first, second) = (first.path().to_owned(), reader.path().to_owned());
                return Err(SourceError::MixedFiles { first, second });
            }
        }
    }
    Ok(wide_schema(columns.into_iter()))
}

/// A batch of one file with the columns of all; `None` when they do not go together.
fn adapt(batch: &RecordBatch, schema: &SchemaRef) -> Option<RecordBatch> {
    if batch.schema_ref() == schema {
        return Some(batch.clone());
    }
    if !schema.metadata().contains_key(LAYOUT_KEY) {
        let batch = with_dictionaries(batch)?;
        return (batch.schema_ref() == schema).then_some(batch);
    }
    // A tag that a file does not have has no samples there.
    let column = |field: &Arc<Field>| match batch.column_by_name(field.name()) {
        Some(array) if field.metadata().contains_key(QUALITY_OF_KEY) => quality_words(array),
        Some(array) => array.clone(),
        None => new_null_array(field.data_type(), batch.num_rows()),
    };
    RecordBatch::try_new(schema.clone(), schema.fields().iter().map(column).collect()).ok()
}

/// How far ahead a row out of order is seen.
const LOOK_AHEAD_ROWS: usize = 3;
