//! The tables of a run, row by row as they come.

use crate::cmd::CommandError;
use arrow_array::builder::{
    Float64Builder, StringDictionaryBuilder, TimestampNanosecondBuilder, UInt8Builder, UInt32Builder,
};
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, Int32Array, RecordBatch, StringArray};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use connectors::sink::parquet::ParquetTable;
use engine::{ServedValue, VerdictRow};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows in a batch of a table.
const BATCH_ROWS: usize = 65_536;

fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

fn word() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

fn schema(fields: &[(&str, DataType, bool)]) -> SchemaRef {
    Arc::new(Schema::new(
        fields.iter().map(|(n, t, null)| Field::new(*n, t.clone(), *null)).collect::<Vec<_>>(),
    ))
}

/// The place of each name among all of them in their order; equal names share one.
pub(super) fn ranks<S: AsRef<str>>(names: &[S]) -> Vec<u32> {
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_unstable_by_key(|i| names[*i].as_ref());
    let (mut ranks, mut rank) = (vec![0; names.len()], 0);
    for pair in order.windows(2) {
        rank += u32::from(names[pair[0]].as_ref() != names[pair[1]].as_ref());
        ranks[pair[1]] = rank;
    }
    ranks
}

/// A column of names that are known by number.
struct Names<'n, S> {
    names: &'n [S],
    /// Key of each name in this batch; -1: it is not there yet.
    key_of: Vec<i32>,
    used: Vec<u32>,
    keys: Vec<i32>,
}

impl<'n, S: AsRef<str>> Names<'n, S> {
    fn new(names: &'n [S]) -> Self {
        Names { names, key_of: vec![-1; names.len()], used: Vec::new(), keys: Vec::new() }
    }

    fn push(&mut self, number: u32) {
        let key = &mut self.key_of[number as usize];
        if *key < 0 {
            *key = self.used.len() as i32;
            self.used.push(number);
        }
        self.keys.push(*key);
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let words = self.used.iter().map(|number| self.names[*number as usize].as_ref());
        let words = StringArray::from_iter_values(words);
        for number in self.used.drain(..) {
            self.key_of[number as usize] = -1;
        }
        let keys = Int32Array::from(std::mem::take(&mut self.keys));
        Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(keys, Arc::new(words))?))
    }
}

/// Batches of a table's rows on their way into its file.
struct Batches {
    path: PathBuf,
    schema: SchemaRef,
    table: ParquetTable,
    /// Rows of the batch that is being filled.
    rows: usize,
}

impl Batches {
    fn create(path: &Path, schema: SchemaRef) -> Result<Self, CommandError> {
        let table = ParquetTable::create(path, schema.clone())?;
        Ok(Batches { path: path.into(), schema, table, rows: 0 })
    }

    /// Counts a row; true when the batch is full.
    fn count(&mut self) -> bool {
        self.rows += 1;
        self.rows == BATCH_ROWS
    }

    fn write(&mut self, columns: Result<Vec<ArrayRef>, ArrowError>) -> Result<(), CommandError> {
        self.rows = 0;
        let batch = columns.and_then(|columns| RecordBatch::try_new(self.schema.clone(), columns));
        let encode =
            |e: ArrowError| connectors::SinkError::Encode { path: self.path.clone(), reason: e.to_string() };
        Ok(self.table.write(&batch.map_err(encode)?)?)
    }
}

/// `verdicts.parquet`.
pub(super) struct VerdictTable<'n> {
    batches: Batches,
    ts: TimestampNanosecondBuilder,
    tag: Names<'n, String>,
    rule: Names<'n, &'n str>,
    flag: UInt8Builder,
    score: Float64Builder,
    value: Float64Builder,
}

impl<'n> VerdictTable<'n> {
    /// `tags` are names by number, `rules` the ids of rules, then groups.
    pub(super) fn create(
        path: &Path,
        tags: &'n [String],
        rules: &'n [&'n str],
    ) -> Result<Self, CommandError> {
        let schema = schema(&[
            ("ts", time(), false),
            ("tag", word(), false),
            ("rule", word(), false),
            ("flag", DataType::UInt8, false),
            ("score", DataType::Float64, false),
            ("value", DataType::Float64, true),
        ]);
        Ok(VerdictTable {
            batches: Batches::create(path, schema)?,
            ts: TimestampNanosecondBuilder::new().with_timezone("UTC"),
            tag: Names::new(tags),
            rule: Names::new(rules),
            flag: UInt8Builder::new(),
            score: Float64Builder::new(),
            value: Float64Builder::new(),
        })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// When the file can't be written.
    pub(super) fn push(&mut self, v: &VerdictRow) -> Result<(), CommandError> {
        self.ts.append_value(v.ts);
        self.tag.push(v.tag);
        self.rule.push(v.rule);
        self.flag.append_value(v.flag as u8);
        self.score.append_value(v.score);
        self.value.append_option(v.value);
        if self.batches.count() { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), CommandError> {
        let columns = self.columns();
        self.batches.write(columns)
    }

    fn columns(&mut self) -> Result<Vec<ArrayRef>, ArrowError> {
        Ok(vec![
            Arc::new(self.ts.finish()),
            self.tag.finish()?,
            self.rule.finish()?,
            Arc::new(self.flag.finish()),
            Arc::new(self.score.finish()),
            Arc::new(self.value.finish()),
        ])
    }

    /// Ends the file.
    ///
    /// # Errors
    /// When it can't be written.
    pub(super) fn finish(mut self) -> Result<(), CommandError> {
        if self.batches.rows > 0 {
            self.flush()?;
        }
        self.batches.table.finish()?;
        Ok(())
    }
}

/// `signals.parquet`.
pub(super) struct SignalTable<'n> {
    batches: Batches,
    kinds: &'n [Vec<&'static str>],
    ts: TimestampNanosecondBuilder,
    signal: Names<'n, &'n str>,
    n: UInt32Builder,
    /// Value, lower end, upper end, coverage.
    numbers: [Float64Builder; 4],
    source: StringDictionaryBuilder<Int32Type>,
    status: UInt32Builder,
    state: StringDictionaryBuilder<Int32Type>,
    horizon: Float64Builder,
}

impl<'n> SignalTable<'n> {
    /// `kinds` are those of each signal's fallbacks.
    pub(super) fn create(
        path: &Path,
        kinds: &'n [Vec<&'static str>],
        signals: &'n [&'n str],
    ) -> Result<Self, CommandError> {
        let schema = schema(&[
            ("ts", time(), false),
            ("signal", word(), false),
            ("n", DataType::UInt32, false),
            ("value", DataType::Float64, true),
            ("source", word(), false),
            ("lo", DataType::Float64, true),
            ("hi", DataType::Float64, true),
            ("coverage", DataType::Float64, true),
            ("status", DataType::UInt32, false),
            ("state", word(), false),
            ("horizon_s", DataType::Float64, false),
        ]);
        Ok(SignalTable {
            batches: Batches::create(path, schema)?,
            kinds,
            ts: TimestampNanosecondBuilder::new().with_timezone("UTC"),
            signal: Names::new(signals),
            n: UInt32Builder::new(),
            numbers: Default::default(),
            source: StringDictionaryBuilder::new(),
            status: UInt32Builder::new(),
            state: StringDictionaryBuilder::new(),
            horizon: Float64Builder::new(),
        })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// When the file can't be written.
    pub(super) fn push(&mut self, v: &ServedValue) -> Result<(), CommandError> {
        self.ts.append_value(v.ts);
        self.signal.push(v.group);
        self.n.append_value(v.n);
        self.source.append_value(v.source.name(&self.kinds[v.group as usize]));
        self.status.append_value(v.status);
        self.state.append_value(v.state.name());
        self.horizon.append_value(v.horizon_ns as f64 / 1e9);
        for (builder, x) in self.numbers.iter_mut().zip([v.value, v.lo, v.hi, v.coverage]) {
            builder.append_option(x.is_finite().then_some(x));
        }
        if self.batches.count() { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), CommandError> {
        let columns = self.columns();
        self.batches.write(columns)
    }

    fn columns(&mut self) -> Result<Vec<ArrayRef>, ArrowError> {
        let [value, lo, hi, coverage] = &mut self.numbers;
        Ok(vec![
            Arc::new(self.ts.finish()),
            self.signal.finish()?,
            Arc::new(self.n.finish()),
            Arc::new(value.finish()),
            Arc::new(self.source.finish()),
            Arc::new(lo.finish()),
            Arc::new(hi.finish()),
            Arc::new(coverage.finish()),
            Arc::new(self.status.finish()),
            Arc::new(self.state.finish()),
            Arc::new(self.horizon.finish()),
        ])
    }

    /// Ends the file.
    ///
    /// # Errors
    /// When it can't be written.
    pub(super) fn finish(mut self) -> Result<(), CommandError> {
        if self.batches.rows > 0 {
            self.flush()?;
        }
        self.batches.table.finish()?;
        Ok(())
    }
}
