//! What decoders share: where a record came from, what can be wrong with it, and the builder of
//! canonical rows.

use std::{ops::Range, sync::Arc};

use arrow_array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt32Array,
};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, Schema, TimeUnit};

use crate::{BadRecord, NOT_GIVEN, Polled, QUALITY, SEQ, Span, TAG, TS, UTC, VALUE};

/// Headers of a record, looked at only when they are needed.
pub trait Headers {
    /// Value of the last header of this name.
    fn get(&self, name: &str) -> Option<&[u8]>;
    /// All headers, copied.
    fn to_vec(&self) -> Vec<(String, Vec<u8>)>;
}

/// No headers.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHeaders;

impl Headers for NoHeaders {
    fn get(&self, _name: &str) -> Option<&[u8]> {
        None
    }

    fn to_vec(&self) -> Vec<(String, Vec<u8>)> {
        Vec::new()
    }
}

impl Headers for Vec<(String, Vec<u8>)> {
    fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.as_slice())
    }

    fn to_vec(&self) -> Vec<(String, Vec<u8>)> {
        self.clone()
    }
}

/// Where a record came from.
#[derive(Clone, Copy)]
pub struct RecordContext<'a> {
    /// Offset in its partition.
    pub offset: i64,
    /// Time the log gave it, in milliseconds since 1970 UTC.
    pub record_ts: Option<i64>,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Topic, or file name.
    pub topic: &'a str,
    /// Its headers.
    pub headers: &'a dyn Headers,
}

impl RecordContext<'_> {
    /// A [`BadRecord`] of this record, counted as one sample, before the first row.
    #[must_use]
    pub fn bad(&self, partition: u32, index: Option<u32>, fault: Fault, raw: &[u8]) -> BadRecord {
        BadRecord {
            partition,
            offset: self.offset,
            index,
            before_row: 0,
            code: fault.code,
            reason: fault.reason,
            raw: raw.to_vec(),
            origin: self.topic.to_owned(),
            key: self.key.map(<[u8]>::to_vec),
            headers: self.headers.to_vec(),
            rows: 1,
        }
    }
}

/// Why bytes could not become a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Stable word.
    pub code: &'static str,
    /// For a reader.
    pub reason: String,
}

impl Fault {
    /// A fault of this code.
    #[must_use]
    pub fn new(code: &'static str, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

/// Quality of one row as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quality<'a> {
    /// Not given.
    Absent,
    /// A number, such as an OPC UA status code.
    Code(u32),
    /// A word.
    Name(&'a str),
}

/// One row in canonical form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row<'a> {
    /// Index of the sample within its record.
    pub index: u32,
    /// Time, nanoseconds since 1970 UTC.
    pub ts_ns: i64,
    /// Tag.
    pub tag: &'a str,
    /// Value; NaN = missing.
    pub value: f64,
    /// Quality.
    pub quality: Quality<'a>,
    /// Sequence number.
    pub seq: Option<i64>,
}

/// Builds a canonical long batch of one partition, row by row.
///
/// A `quality` or `seq` column is there when at least one row of the batch has it. Quality is
/// `UInt32` when all rows of the batch have a number, else `Utf8`: numbers in decimal, and
/// [`NOT_GIVEN`] where there was none, so that a row means the same in whatever batch it comes.
#[derive(Debug)]
pub struct RowBuilder {
    partition: u32,
    ts: Vec<i64>,
    tag_bytes: Vec<u8>,
    tag_ends: Vec<i32>,
    value: Vec<f64>,
    /// Empty until the first row with a quality; then one for each row up to the last such row.
    quality: Vec<QualityCell>,
    quality_text: String,
    /// As `quality`.
    seq: Vec<Option<i64>>,
    spans: Vec<Span>,
    bad: Vec<BadRecord>,
}

#[derive(Debug, Clone)]
enum QualityCell {
    Absent,
    Code(u32),
    Name(Range<usize>),
}

/// A state of a [`RowBuilder`] to go back to.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    rows: usize,
    tag_bytes: usize,
    quality: usize,
    quality_text: usize,
    seq: usize,
    spans: usize,
    last_span_rows: usize,
    bad: usize,
}

impl RowBuilder {
    /// An empty builder for a partition.
    #[must_use]
    pub fn new(partition: u32) -> Self {
        Self {
            partition,
            ts: Vec::new(),
            tag_bytes: Vec::new(),
            tag_ends: vec![0],
            value: Vec::new(),
            quality: Vec::new(),
            quality_text: String::new(),
            seq: Vec::new(),
            spans: Vec::new(),
            bad: Vec::new(),
        }
    }

    /// Partition the rows belong to.
    #[must_use]
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// Rows so far.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.ts.len()
    }

    /// Bad records so far.
    #[must_use]
    pub fn bad(&self) -> &[BadRecord] {
        &self.bad
    }

    /// True without rows and without bad records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ts.is_empty() && self.bad.is_empty()
    }

    /// Appends a row of the record `ctx`.
    #[inline]
    pub fn push(&mut self, ctx: &RecordContext<'_>, row: Row<'_>) {
        let rows = self.ts.len();
        self.tag_bytes.extend_from_slice(row.tag.as_bytes());
        let end = i32::try_from(self.tag_bytes.len()).expect("a batch holds less than 2 GiB of tags");
        self.ts.push(row.ts_ns);
        self.tag_ends.push(end);
        self.value.push(row.value);
        if row.quality != Quality::Absent {
            self.push_quality(rows, row.quality);
        }
        if row.seq.is_some() {
            self.seq.resize(rows, None);
            self.seq.push(row.seq);
        }
        match self.spans.last_mut() {
            Some(span)
                if span.offset == ctx.offset
                    && span.first_index as usize + span.rows == row.index as usize =>
            {
                span.rows += 1;
            }
            _ => self.spans.push(Span {
                rows: 1,
                offset: ctx.offset,
                first_index: row.index,
                record_ts: ctx.record_ts,
            }),
        }
    }

    /// Dead-letters a part (`index`) or the whole of the record `ctx`, counted as `rows` samples.
    pub fn push_bad(
        &mut self,
        ctx: &RecordContext<'_>,
        index: Option<u32>,
        fault: Fault,
        raw: &[u8],
        rows: u64,
    ) {
        let bad = ctx.bad(self.partition, index, fault, raw);
        self.bad.push(BadRecord { before_row: self.ts.len(), rows, ..bad });
    }

    /// The present state, for [`Self::truncate`].
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark {
            rows: self.ts.len(),
            tag_bytes: self.tag_bytes.len(),
            quality: self.quality.len(),
            quality_text: self.quality_text.len(),
            seq: self.seq.len(),
            spans: self.spans.len(),
            last_span_rows: self.spans.last().map_or(0, |span| span.rows),
            bad: self.bad.len(),
        }
    }

    /// Takes back what was pushed since `mark`.
    pub fn truncate(&mut self, mark: Mark) {
        self.ts.truncate(mark.rows);
        self.tag_bytes.truncate(mark.tag_bytes);
        self.tag_ends.truncate(mark.rows + 1);
        self.value.truncate(mark.rows);
        self.quality.truncate(mark.quality);
        self.quality_text.truncate(mark.quality_text);
        self.seq.truncate(mark.seq);
        self.spans.truncate(mark.spans);
        if let Some(span) = self.spans.last_mut() {
            span.rows = mark.last_span_rows;
        }
        self.bad.truncate(mark.bad);
    }

    /// Takes everything out as one [`Polled`]; the builder is empty again.
    #[must_use]
    pub fn finish(&mut self) -> Polled {
        let rows = self.ts.len();
        let mut fresh_ends = Vec::with_capacity(rows + 1);
        fresh_ends.push(0);
        let fresh_bytes = Vec::with_capacity(self.tag_bytes.len());
        let ts = std::mem::replace(&mut self.ts, Vec::with_capacity(rows));
        let tag_bytes = std::mem::replace(&mut self.tag_bytes, fresh_bytes);
        let tag_ends = std::mem::replace(&mut self.tag_ends, fresh_ends);
        let value = std::mem::replace(&mut self.value, Vec::with_capacity(rows));

        let tag = StringArray::new(OffsetBuffer::new(ScalarBuffer::from(tag_ends)), tag_bytes.into(), None);
        let ts = TimestampNanosecondArray::new(ScalarBuffer::from(ts), None).with_timezone(UTC);
        let value = Float64Array::new(ScalarBuffer::from(value), None);
        let mut fields = long_fields();
        let mut columns: Vec<ArrayRef> = vec![Arc::new(ts), Arc::new(tag), Arc::new(value)];
        if let Some(quality) = self.finish_quality(rows) {
            fields.push(Field::new(QUALITY, quality.data_type().clone(), true));
            columns.push(quality);
        }
        if !self.seq.is_empty() {
            self.seq.resize(rows, None);
            fields.push(Field::new(SEQ, DataType::Int64, true));
            columns.push(Arc::new(Int64Array::from_iter(self.seq.drain(..))));
        }
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
            .expect("columns of one builder have one length and the types of the schema");
        Polled {
            partition: self.partition,
            batch,
            spans: std::mem::take(&mut self.spans),
            bad: std::mem::take(&mut self.bad),
        }
    }

    fn push_quality(&mut self, rows: usize, quality: Quality<'_>) {
        self.quality.resize(rows, QualityCell::Absent);
        self.quality.push(match quality {
            Quality::Absent => QualityCell::Absent,
            Quality::Code(code) => QualityCell::Code(code),
            Quality::Name(name) => {
                let start = self.quality_text.len();
                self.quality_text.push_str(name);
                QualityCell::Name(start..self.quality_text.len())
            }
        });
    }

    fn finish_quality(&mut self, rows: usize) -> Option<ArrayRef> {
        if self.quality.is_empty() {
            return None;
        }
        self.quality.resize(rows, QualityCell::Absent);
        let text = &self.quality_text;
        let numbers: Option<Vec<u32>> = self
            .quality
            .iter()
            .map(|cell| match cell {
                QualityCell::Code(code) => Some(*code),
                QualityCell::Absent | QualityCell::Name(_) => None,
            })
            .collect();
        let array: ArrayRef = match numbers {
            Some(numbers) => Arc::new(UInt32Array::from(numbers)),
            None => Arc::new(StringArray::from_iter_values(self.quality.iter().map(|cell| match cell {
                QualityCell::Absent => NOT_GIVEN.to_owned(),
                QualityCell::Code(code) => code.to_string(),
                QualityCell::Name(range) => text.get(range.clone()).unwrap_or_default().to_owned(),
            }))),
        };
        self.quality.clear();
        self.quality_text.clear();
        Some(array)
    }
}

/// An empty canonical long batch.
#[must_use]
pub fn empty_batch() -> RecordBatch {
    RecordBatch::new_empty(Arc::new(Schema::new(long_fields())))
}

fn long_fields() -> Vec<Field> {
    vec![
        Field::new(TS, DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into())), false),
        Field::new(TAG, DataType::Utf8, false),
        Field::new(VALUE, DataType::Float64, true),
    ]
}
