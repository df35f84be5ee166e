//! From the columns of a file to the columns of a canonical batch.
//!
//! [`Plan`] says which column is what; [`Rows`] builds batches from cells of text formats, and
//! [`shape`] turns batches of columnar formats into canonical ones, without copying where it can.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use arrow_array::{
    Array, ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray, TimestampNanosecondArray,
    builder::{Float64Builder, Int64Builder, StringDictionaryBuilder},
    cast::AsArray,
    types::{
        ArrowPrimitiveType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
        Int64Type, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
        TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    },
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit as ArrowTimeUnit};
use arrow_select::filter::filter_record_batch;

use super::file::{FilesConfig, Layout};
use crate::{
    BadRecord, LAYOUT_KEY, LAYOUT_WIDE, QUALITY, QUALITY_OF_KEY, SEQ, SourceError, TAG, TS, UTC, VALUE,
    decode::{NullCell, time::TimeUnit},
};

/// Which column of a file is what. Columns are indices into `names`.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) names: Vec<String>,
    pub(super) ts: usize,
    pub(super) body: Body,
    pub(super) prefix: String,
}

/// The columns beside the time.
#[derive(Debug, Clone)]
pub(super) enum Body {
    Long {
        tag: TagFrom,
        value: usize,
        quality: Option<usize>,
        seq: Option<usize>,
    },
    Wide {
        tags: Vec<usize>,
        /// Quality columns: position of the tag among `tags`, then the column; in the order of the tags.
        qualities: Vec<(usize, usize)>,
        null: NullCell,
    },
}

/// Where the tag of a long row is found.
#[derive(Debug, Clone)]
pub(super) enum TagFrom {
    Column(usize),
    /// The same for all rows of the file.
    Name(String),
}

impl Plan {
    /// Decides the layout from the names of the columns.
    pub(super) fn new(config: &FilesConfig, path: &Path, names: Vec<String>) -> Result<Plan, SourceError> {
        let mut seen = BTreeSet::new();
        if let Some(twice) = names.iter().find(|&name| !name.is_empty() && !seen.insert(name)) {
            let reason = format!("column `{twice}` occurs twice");
            return Err(SourceError::Broken { path: path.to_owned(), format: "table", reason });
        }
        let find = |column: &str| names.iter().position(|name| name == column);
        let need = |column: &str| {
            find(column).ok_or_else(|| SourceError::NoColumn {
                path: path.to_owned(),
                column: column.to_owned(),
                found: names.clone(),
            })
        };
        let optional = |column: &Option<String>| column.as_deref().map(need).transpose();
        let ts = need(&config.ts)?;
        let known = |name: &String| {
            *name == config.ts
                || *name == config.value
                || config.quality.as_ref() == Some(name)
                || config.seq.as_ref() == Some(name)
                || config.ignore.contains(name)
        };
        let layout = match config.layout {
            Layout::Auto if find(&config.value).is_some() && find(&config.tag).is_some() => Layout::Long,
            Layout::Auto
                if config.tag_from_file && find(&config.value).is_some() && names.iter().all(known) =>
            {
                Layout::Single
            }
            Layout::Auto => Layout::Wide,
            layout => layout,
        };
        let body = match layout {
            Layout::Long | Layout::Single => {
                let tag = if layout == Layout::Long {
                    TagFrom::Column(need(&config.tag)?)
                } else {
                    let stem = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                    let name = config.tag_name.clone().unwrap_or_else(stem);
                    TagFrom::Name(format!("{}{name}", config.tag_prefix))
                };
                if let Some(got) = config.quality_suffix.clone() {
                    let want = "none, because the file has the long layout: use `quality`";
                    return Err(SourceError::Config { field: "quality_suffix", got, want });
                }
                let value = need(&config.value)?;
                Body::Long { tag, value, quality: optional(&config.quality)?, seq: optional(&config.seq)? }
            }
            Layout::Wide | Layout::Auto => {
                for (field, column) in [("quality", &config.quality), ("seq", &config.seq)] {
                    if let Some(got) = column {
                        let want = "no such column, because the file has the wide layout";
                        return Err(SourceError::Config { field, got: got.clone(), want });
                    }
                }
                // A column without a name is the row number that data frames export, or a trailing delimiter.
                let suffix = config.quality_suffix.as_deref();
                if suffix == Some("") {
                    let want = "an ending, such as \"_q\"";
                    return Err(SourceError::Config { field: "quality_suffix", got: String::new(), want });
                }
                // The tag column whose qualities a column holds.
                let tag_of = |i: usize| find(names[i].strip_suffix(suffix?)?).filter(|tag| *tag != ts);
                let is_tag = |&i: &usize| {
                    let named = i != ts && !names[i].is_empty() && !config.ignore.contains(&names[i]);
                    named && tag_of(i).is_none()
                };
                let tags: Vec<usize> = (0..names.len()).filter(is_tag).collect();
                let not_ignored = |i: &usize| *i != ts && !config.ignore.contains(&names[*i]);
                let of = |i: usize| Some((tags.binary_search(&tag_of(i)?).ok()?, i));
                let mut qualities: Vec<_> = (0..names.len()).filter(not_ignored).filter_map(of).collect();
                qualities.sort_unstable();
                Body::Wide { tags, qualities, null: config.null }
            }
        };
        Ok(Plan { names, ts, body, prefix: config.tag_prefix.clone() })
    }

    /// The columns that are read, in ascending order.
    pub(super) fn used(&self) -> BTreeSet<usize> {
        let mut used = BTreeSet::from([self.ts]);
        match &self.body {
            Body::Long { tag, value, quality, seq } => {
                if let TagFrom::Column(tag) = tag {
                    used.insert(*tag);
                }
                used.insert(*value);
                used.extend(quality.iter().chain(seq));
            }
            Body::Wide { tags, qualities, .. } => {
                used.extend(tags);
                used.extend(qualities.iter().map(|(_, column)| column));
            }
        }
        used
    }

    /// The canonical schema when text columns are dictionaries.
    pub(super) fn schema(&self) -> SchemaRef {
        match &self.body {
            Body::Long { quality, seq, .. } => {
                let quality = quality.map(|_| dictionary_type());
                long_schema(dictionary_type(), quality, seq.is_some())
            }
            Body::Wide { .. } => self.wide_schema(|_| dictionary_type()),
        }
    }

    /// The canonical schema of the wide layout; `quality` gives the type of each quality column.
    fn wide_schema(&self, quality: impl Fn(usize) -> DataType) -> SchemaRef {
        let Body::Wide { tags, qualities, .. } = &self.body else { unreachable!("asked for wide only") };
        let name = |i: usize| format!("{}{}", self.prefix, self.names[i]);
        let numbers = tags.iter().map(|&i| Field::new(name(i), DataType::Float64, true));
        let codes = qualities.iter().enumerate().map(|(k, &(tag, column))| {
            let of = [(QUALITY_OF_KEY.to_owned(), name(tags[tag]))].into();
            Field::new(name(column), quality(k), true).with_metadata(of)
        });
        wide_schema(numbers.chain(codes))
    }
}

/// The canonical schema of long batches.
fn long_schema(tag: DataType, quality: Option<DataType>, seq: bool) -> SchemaRef {
    let mut fields = vec![
        Field::new(TS, ts_type(), false),
        Field::new(TAG, tag, false),
        Field::new(VALUE, DataType::Float64, true),
    ];
    fields.extend(quality.map(|quality| Field::new(QUALITY, quality, true)));
    if seq {
        fields.push(Field::new(SEQ, DataType::Int64, true));
    }
    Arc::new(Schema::new(fields))
}

/// The canonical schema of wide batches.
pub(super) fn wide_schema(columns: impl Iterator<Item = Field>) -> SchemaRef {
    let ts = std::iter::once(Field::new(TS, ts_type(), false));
    let metadata = [(LAYOUT_KEY.to_owned(), LAYOUT_WIDE.to_owned())].into();
    Arc::new(Schema::new_with_metadata(ts.chain(columns).collect::<Vec<_>>(), metadata))
}

pub(super) fn dictionary_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

fn ts_type() -> DataType {
    DataType::Timestamp(ArrowTimeUnit::Nanosecond, Some(UTC.into()))
}

/// Rows of one file with what could not become rows between them.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    pub(super) batch: RecordBatch,
    /// In order; `before_row` counts rows of `batch`.
    pub(super) bad: Vec<BadRecord>,
}

/// A bad record of a file; its offset is given when the place in the log is known.
pub(super) fn bad_record(
    origin: &str,
    before_row: usize,
    code: &'static str,
    reason: String,
    raw: Vec<u8>,
) -> BadRecord {
    BadRecord {
        partition: 0,
        offset: 0,
        index: None,
        before_row,
        code,
        reason,
        raw,
        origin: origin.to_owned(),
        key: None,
        headers: Vec::new(),
        rows: 1,
    }
}

/// One cell of a text format.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cell<'a> {
    /// Empty, null or not there.
    Absent,
    /// Text that stands for whatever the column holds (CSV).
    Plain(&'a [u8]),
    /// Text that is text (JSON).
    Text(&'a str),
    /// A number (JSON).
    Number(&'a serde_json::Number),
    /// A list, an object, a truth value.
    Other,
}

/// What is wrong with a row: code and reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) code: &'static str,
    pub(super) reason: String,
}

impl Fault {
    fn new(code: &'static str, reason: impl Into<String>) -> Fault {
        Fault { code, reason: reason.into() }
    }
}

/// Builds canonical batches from cells.
pub(super) struct Rows {
    ts: Vec<i64>,
    columns: Builders,
}

#[expect(clippy::large_enum_variant, reason = "there is one of these a file")]
enum Builders {
    Long {
        tag: StringDictionaryBuilder<Int32Type>,
        value: Float64Builder,
        quality: Option<StringDictionaryBuilder<Int32Type>>,
        seq: Option<Int64Builder>,
    },
    Wide {
        values: Vec<Float64Builder>,
        qualities: Vec<StringDictionaryBuilder<Int32Type>>,
    },
}

impl Rows {
    pub(super) fn new(plan: &Plan) -> Rows {
        let columns = match &plan.body {
            Body::Long { quality, seq, .. } => Builders::Long {
                tag: StringDictionaryBuilder::new(),
                value: Float64Builder::new(),
                quality: quality.map(|_| StringDictionaryBuilder::new()),
                seq: seq.map(|_| Int64Builder::new()),
            },
            Body::Wide { tags, qualities, .. } => Builders::Wide {
                values: tags.iter().map(|_| Float64Builder::new()).collect(),
                qualities: qualities.iter().map(|_| StringDictionaryBuilder::new()).collect(),
            },
        };
        Rows { ts: Vec::new(), columns }
    }

    pub(super) fn len(&self) -> usize {
        self.ts.len()
    }

    /// Appends one row. `Err`: the row is bad and nothing was appended. `Ok` carries the bad cells of
    /// a wide row (index among the tags), which become null.
    pub(super) fn push<'a>(
        &mut self,
        plan: &Plan,
        unit: &TimeUnit,
        cell: impl Fn(usize) -> Cell<'a>,
    ) -> Result<Vec<(u32, Fault)>, Fault> {
        let ts = read_ts(cell(plan.ts), unit, &plan.names[plan.ts])?;
        let mut bad = Vec::new();
        match (&plan.body, &mut self.columns) {
            (
                Body::Long { tag: from, value: v, quality: q, seq: s },
                Builders::Long { tag, value, quality, seq },
            ) => {
                let x = read_number(cell(*v), &plan.names[*v])?;
                let seq_number = s.map(|s| read_whole(cell(s), &plan.names[s])).transpose()?.flatten();
                let word = q.map(|q| read_word(cell(q), &plan.names[q])).transpose()?.flatten();
                match from {
                    TagFrom::Name(name) => tag.append_value(name),
                    TagFrom::Column(column) => {
                        let name = &plan.names[*column];
                        let Some(text) = read_word(cell(*column), name)? else {
                            return Err(Fault::new("missing_field", format!("`{name}` is empty")));
                        };
                        if plan.prefix.is_empty() {
                            tag.append_value(text);
                        } else {
                            tag.append_value(format!("{}{text}", plan.prefix));
                        }
                    }
                }
                value.append_option(x);
                if let Some(quality) = quality {
                    quality.append_option(word);
                }
                if let Some(seq) = seq {
                    seq.append_option(seq_number);
                }
            }
            (Body::Wide { tags, qualities: from, null }, Builders::Wide { values, qualities }) => {
                let empty = (*null == NullCell::Missing).then_some(f64::NAN);
                let mut codes = from.iter().zip(qualities).peekable();
                for (k, (&column, builder)) in tags.iter().zip(values).enumerate() {
                    let mut x = read_number(cell(column), &plan.names[column]).map(|x| x.or(empty));
                    if let Some((&(_, column), builder)) = codes.next_if(|((tag, _), _)| *tag == k) {
                        let word = read_word(cell(column), &plan.names[column]).unwrap_or_else(|fault| {
                            x = Err(fault);
                            None
                        });
                        builder.append_option(word);
                    }
                    builder.append_option(x.unwrap_or_else(|fault| {
                        bad.push((k as u32, fault));
                        None
                    }));
                }
            }
            _ => unreachable!("builders are made from the plan"),
        }
        self.ts.push(ts);
        Ok(bad)
    }

    /// The rows so far as a batch; the builder starts anew.
    pub(super) fn finish(&mut self, schema: &SchemaRef) -> RecordBatch {
        let mut arrays: Vec<ArrayRef> = vec![ts_array(std::mem::take(&mut self.ts).into())];
        match &mut self.columns {
            Builders::Long { tag, value, quality, seq } => {
                arrays.push(Arc::new(tag.finish()));
                arrays.push(Arc::new(value.finish()));
                if let Some(quality) = quality {
                    arrays.push(Arc::new(quality.finish()));
                }
                if let Some(seq) = seq {
                    arrays.push(Arc::new(seq.finish()));
                }
            }
            Builders::Wide { values, qualities } => {
                arrays.extend(values.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
                arrays.extend(qualities.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
            }
        }
        RecordBatch::try_new(schema.clone(), arrays).expect("builders and schema come from one plan")
    }
}

fn ts_array(values: arrow_buffer::ScalarBuffer<i64>) -> ArrayRef {
    Arc::new(TimestampNanosecondArray::new(values, None).with_timezone(UTC))
}

fn read_ts(cell: Cell<'_>, unit: &TimeUnit, name: &str) -> Result<i64, Fault> {
    let (ts, text) = match cell {
        Cell::Absent => return Err(Fault::new("missing_field", format!("`{name}` is empty"))),
        Cell::Plain(text) => (unit.parse(text), String::from_utf8_lossy(text).into_owned()),
        Cell::Text(text) => (unit.parse(text.as_bytes()), text.to_owned()),
        Cell::Number(number) => (number_ts(number, unit), number.to_string()),
        Cell::Other => return Err(Fault::new("wrong_type", format!("`{name}` is not a time"))),
    };
    ts.ok_or_else(|| Fault::new("bad_timestamp", format!("`{name}` = {text:?} is not a time")))
}

fn number_ts(number: &serde_json::Number, unit: &TimeUnit) -> Option<i64> {
    match number.as_i64() {
        Some(whole) => whole.checked_mul(unit.scale_ns()?),
        None => unit.parse_float(number.as_f64()?),
    }
}

fn read_number(cell: Cell<'_>, name: &str) -> Result<Option<f64>, Fault> {
    let parsed = match cell {
        Cell::Absent => return Ok(None),
        Cell::Plain(text) => std::str::from_utf8(text)
            .map_err(|_| not_utf8(name))?
            .parse()
            .map_err(|_| String::from_utf8_lossy(text)),
        Cell::Text(text) => Err(text.into()),
        Cell::Number(number) => number.as_f64().ok_or_else(|| number.to_string().into()),
        Cell::Other => Err("a list, object or truth value".into()),
    };
    parsed.map(Some).map_err(|got| Fault::new("wrong_type", format!("`{name}` = {got:?} is not a number")))
}

fn read_whole(cell: Cell<'_>, name: &str) -> Result<Option<i64>, Fault> {
    let parsed = match cell {
        Cell::Absent => return Ok(None),
        Cell::Plain(text) => std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()),
        Cell::Number(number) => number.as_i64(),
        Cell::Text(_) | Cell::Other => None,
    };
    parsed.map(Some).ok_or_else(|| Fault::new("wrong_type", format!("`{name}` is not a whole number")))
}

/// A word of a text column; numbers are kept as they are written.
fn read_word<'a>(cell: Cell<'a>, name: &str) -> Result<Option<std::borrow::Cow<'a, str>>, Fault> {
    match cell {
        Cell::Absent => Ok(None),
        Cell::Plain(text) => {
            std::str::from_utf8(text).map(|text| Some(text.into())).map_err(|_| not_utf8(name))
        }
        Cell::Text("") => Ok(None),
        Cell::Text(text) => Ok(Some(text.into())),
        Cell::Number(number) => Ok(Some(number.to_string().into())),
        Cell::Other => Err(Fault::new("wrong_type", format!("`{name}` is not text"))),
    }
}

fn not_utf8(name: &str) -> Fault {
    Fault::new("not_utf8", format!("`{name}` is not UTF-8"))
}

/// Turns a batch of a columnar file into a canonical one. `first_row` numbers its rows in the file.
///
/// Columns that have the canonical type already are shared, not copied.
pub(super) fn shape(
    plan: &Plan,
    unit: &TimeUnit,
    path: &Path,
    batch: &RecordBatch,
    first_row: u64,
) -> Result<Chunk, SourceError> {
    let column = |i: usize| -> Result<&ArrayRef, SourceError> {
        let name = &plan.names[i];
        batch.column_by_name(name).ok_or_else(|| SourceError::NoColumn {
            path: path.to_owned(),
            column: name.clone(),
            found: batch.schema().fields().iter().map(|field| field.name().clone()).collect(),
        })
    };
    let wrong = |i: usize, got: &DataType, want: &'static str| SourceError::ColumnType {
        path: path.to_owned(),
        column: plan.names[i].clone(),
        got: got.to_string(),
        want,
    };
    let number = |i: usize| -> Result<ArrayRef, SourceError> {
        let array = column(i)?;
        numbers(array)
            .ok_or_else(|| wrong(i, array.data_type(), "numbers (columns to leave out go in `ignore`)"))
    };
    let quality_of = |i: usize| -> Result<ArrayRef, SourceError> {
        let array = column(i)?;
        qualities(array)
            .ok_or_else(|| wrong(i, array.data_type(), "text or whole numbers from 0 to 2^32 - 1"))
    };
    let mut faults = Faults::default();
    let ts = read_ts_column(plan, unit, path, column(plan.ts)?, &mut faults)?;
    let rows = batch.num_rows();
    let (schema, arrays) = match &plan.body {
        Body::Long { tag, value, quality, seq } => {
            let tag = match tag {
                TagFrom::Name(name) => {
                    let keys = Int32Array::from(vec![0; rows]);
                    let values = Arc::new(StringArray::from(vec![name.as_str()]));
                    Arc::new(DictionaryArray::new(keys, values)) as ArrayRef
                }
                TagFrom::Column(i) => {
                    let array = column(*i)?;
                    let tags = words(array).ok_or_else(|| wrong(*i, array.data_type(), "text"))?;
                    faults.nulls(&tags, &plan.names[*i]);
                    prefixed(&tags, &plan.prefix)
                }
            };
            let mut arrays = vec![ts, tag, number(*value)?];
            if let Some(i) = quality {
                arrays.push(quality_of(*i)?);
            }
            if let Some(i) = seq {
                let array = column(*i)?;
                arrays.push(wholes(array).ok_or_else(|| wrong(*i, array.data_type(), "whole numbers"))?);
            }
            let quality = quality.map(|_| arrays[3].data_type().clone());
            (long_schema(arrays[1].data_type().clone(), quality, seq.is_some()), arrays)
        }
        Body::Wide { tags, qualities, null } => {
            let mut arrays = vec![ts];
            for &i in tags {
                arrays.push(null.settle(number(i)?));
            }
            for &(_, i) in qualities {
                arrays.push(quality_of(i)?);
            }
            (plan.wide_schema(|k| arrays[1 + tags.len() + k].data_type().clone()), arrays)
        }
    };
    let broken = |error: arrow_schema::ArrowError| SourceError::Broken {
        path: path.to_owned(),
        format: "table",
        reason: error.to_string(),
    };
    if faults.rows.is_empty() {
        let batch = RecordBatch::try_new(schema, arrays).map_err(broken)?;
        return Ok(Chunk { batch, bad: Vec::new() });
    }
    // Null tags are about to be filtered out, but the schema would refuse them before that.
    let nullable: Vec<Field> =
        schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    let keep: BooleanArray = {
        let mut keep = vec![true; rows];
        faults.rows.iter().for_each(|(row, _)| keep[*row] = false);
        keep.into()
    };
    let all = RecordBatch::try_new(Arc::new(Schema::new(nullable)), arrays).map_err(broken)?;
    let kept = filter_record_batch(&all, &keep).map_err(broken)?;
    let kept = RecordBatch::try_new(schema, kept.columns().to_vec()).map_err(broken)?;
    let origin = path.display().to_string();
    let bad = faults
        .sorted()
        .into_iter()
        .enumerate()
        .map(|(already_bad, (row, fault))| {
            let raw = format!("row {}", first_row + row as u64).into_bytes();
            bad_record(&origin, row - already_bad, fault.code, fault.reason, raw)
        })
        .collect();
    Ok(Chunk { batch: kept, bad })
}

/// Bad rows of a columnar batch.
#[derive(Debug, Default)]
struct Faults {
    rows: Vec<(usize, Fault)>,
}

impl Faults {
    fn nulls(&mut self, array: &ArrayRef, name: &str) {
        if array.null_count() > 0 {
            let null = |row: &usize| array.is_null(*row);
            let fault = |row| (row, Fault::new("missing_field", format!("`{name}` is null")));
            self.rows.extend((0..array.len()).filter(null).map(fault));
        }
    }

    /// One fault a row, the first found, in row order.
    fn sorted(mut self) -> Vec<(usize, Fault)> {
        self.rows.sort_by_key(|(row, _)| *row);
        self.rows.dedup_by_key(|(row, _)| *row);
        self.rows
    }
}

/// The time column in nanoseconds; rows without a time are added to `faults`.
fn read_ts_column(
    plan: &Plan,
    unit: &TimeUnit,
    path: &Path,
    array: &ArrayRef,
    faults: &mut Faults,
) -> Result<ArrayRef, SourceError> {
    let name = &plan.names[plan.ts];
    faults.nulls(array, name);
    let scaled = |per_unit_ns: i64, values: &arrow_buffer::ScalarBuffer<i64>, faults: &mut Faults| {
        // Bounds first, in a loop that vectorises; the product then needs no check.
        let bound = i64::MAX / per_unit_ns;
        let beyond = |x: i64| (x > bound) | (x < -bound);
        if values.iter().fold(false, |any, &x| any | beyond(x)) {
            for (row, _) in values.iter().enumerate().filter(|(row, x)| beyond(**x) && array.is_valid(*row)) {
                faults.rows.push((row, Fault::new("bad_timestamp", format!("`{name}` is out of range"))));
            }
        }
        values.iter().map(|x| x.wrapping_mul(per_unit_ns)).collect::<Vec<i64>>().into()
    };
    let mut each = |parse: &dyn Fn(usize) -> Option<i64>| -> arrow_buffer::ScalarBuffer<i64> {
        let read = |row| {
            if array.is_null(row) {
                return 0;
            }
            parse(row).unwrap_or_else(|| {
                faults.rows.push((row, Fault::new("bad_timestamp", format!("`{name}` is not a time"))));
                0
            })
        };
        (0..array.len()).map(read).collect::<Vec<i64>>().into()
    };
    let no_unit = || SourceError::NoTimeUnit { path: path.to_owned(), column: name.clone() };
    let values = match array.data_type() {
        DataType::Timestamp(ArrowTimeUnit::Nanosecond, _) => {
            array.as_primitive::<TimestampNanosecondType>().values().clone()
        }
        DataType::Timestamp(ArrowTimeUnit::Microsecond, _) => {
            scaled(1_000, array.as_primitive::<TimestampMicrosecondType>().values(), faults)
        }
        DataType::Timestamp(ArrowTimeUnit::Millisecond, _) => {
            scaled(1_000_000, array.as_primitive::<TimestampMillisecondType>().values(), faults)
        }
        DataType::Timestamp(ArrowTimeUnit::Second, _) => {
            scaled(1_000_000_000, array.as_primitive::<TimestampSecondType>().values(), faults)
        }
        kind if kind.is_integer() => {
            let scale_ns = unit.scale_ns().ok_or_else(no_unit)?;
            let whole = wholes(array).ok_or_else(|| SourceError::ColumnType {
                path: path.to_owned(),
                column: name.clone(),
                got: kind.to_string(),
                want: "a time",
            })?;
            scaled(scale_ns, whole.as_primitive::<Int64Type>().values(), faults)
        }
        DataType::Float64 => {
            unit.scale_ns().ok_or_else(no_unit)?;
            let seconds = array.as_primitive::<Float64Type>();
            each(&|row| unit.parse_float(seconds.value(row)))
        }
        kind => {
            let text =
                words(array).and_then(|text| flat_text(&text)).ok_or_else(|| SourceError::ColumnType {
                    path: path.to_owned(),
                    column: name.clone(),
                    got: kind.to_string(),
                    want: "a timestamp, text or a number with `ts_unit`",
                })?;
            each(&|row| unit.parse(text.value(row).as_bytes()))
        }
    };
    Ok(ts_array(values))
}

/// Any numeric column as `Float64`; the column itself if it is that.
pub(crate) fn numbers(array: &ArrayRef) -> Option<ArrayRef> {
    fn cast<T: ArrowPrimitiveType>(array: &ArrayRef, to: impl Fn(T::Native) -> f64) -> ArrayRef {
        Arc::new(array.as_primitive::<T>().unary::<_, Float64Type>(to))
    }
    Some(match array.data_type() {
        DataType::Float64 => array.clone(),
        DataType::Float32 => cast::<Float32Type>(array, f64::from),
        DataType::Int8 => cast::<Int8Type>(array, f64::from),
        DataType::Int16 => cast::<Int16Type>(array, f64::from),
        DataType::Int32 => cast::<Int32Type>(array, f64::from),
        DataType::Int64 => cast::<Int64Type>(array, |x| x as f64),
        DataType::UInt8 => cast::<UInt8Type>(array, f64::from),
        DataType::UInt16 => cast::<UInt16Type>(array, f64::from),
        DataType::UInt32 => cast::<UInt32Type>(array, f64::from),
        DataType::UInt64 => cast::<UInt64Type>(array, |x| x as f64),
        DataType::Decimal128(_, scale) if (0..=22).contains(scale) => {
            // Powers of ten up to 10^22 are exact, so the quotient is rounded once.
            let divisor = (0..*scale).fold(1.0_f64, |power, _| power * 10.0);
            cast::<Decimal128Type>(array, |x| x as f64 / divisor)
        }
        DataType::Null => Arc::new(Float64Array::new_null(array.len())),
        _ => return None,
    })
}

/// Any integer column as `Int64`.
fn wholes(array: &ArrayRef) -> Option<ArrayRef> {
    fn cast<T: ArrowPrimitiveType>(array: &ArrayRef) -> Option<ArrayRef>
    where
        i64: From<T::Native>,
    {
        let whole: Int64Array = array.as_primitive::<T>().unary(i64::from);
        Some(Arc::new(whole))
    }
    match array.data_type() {
        DataType::Int64 => Some(array.clone()),
        DataType::Int8 => cast::<Int8Type>(array),
        DataType::Int16 => cast::<Int16Type>(array),
        DataType::Int32 => cast::<Int32Type>(array),
        DataType::UInt8 => cast::<UInt8Type>(array),
        DataType::UInt16 => cast::<UInt16Type>(array),
        DataType::UInt32 => cast::<UInt32Type>(array),
        DataType::UInt64 => {
            let wide = array.as_primitive::<UInt64Type>();
            let fits = wide.iter().flatten().all(|x| i64::try_from(x).is_ok());
            let whole: Int64Array = wide.unary(|x| x as i64);
            fits.then(|| Arc::new(whole) as ArrayRef)
        }
        _ => None,
    }
}

/// Any text column as `Utf8` or `Dictionary(Int32, Utf8)` whose entries are not null.
pub(crate) fn words(array: &ArrayRef) -> Option<ArrayRef> {
    fn gather<'a>(words: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
        let mut builder = StringDictionaryBuilder::<Int32Type>::new();
        words.for_each(|word| builder.append_option(word));
        Arc::new(builder.finish())
    }
    Some(match array.data_type() {
        DataType::Utf8 => array.clone(),
        DataType::LargeUtf8 => gather(array.as_string::<i64>().iter()),
        DataType::Utf8View => gather(array.as_string_view().iter()),
        DataType::Dictionary(_, _) => {
            let dictionary = array.as_any_dictionary();
            let plain = *array.data_type() == dictionary_type() && dictionary.values().null_count() == 0;
            if plain {
                return Some(array.clone());
            }
            let values = words(dictionary.values()).and_then(|values| flat_text(&values))?;
            if values.is_empty() {
                return Some(gather((0..array.len()).map(|_| None)));
            }
            let keys = dictionary.normalized_keys();
            gather(
                keys.iter().enumerate().map(|(row, &key)| {
                    (array.is_valid(row) && values.is_valid(key)).then(|| values.value(key))
                }),
            )
        }
        _ => return None,
    })
}

/// A column made by [`words`] as plain text.
pub(crate) fn flat_text(array: &ArrayRef) -> Option<StringArray> {
    match array.as_string_opt::<i32>() {
        Some(text) => Some(text.clone()),
        None => {
            let dictionary = array.as_dictionary_opt::<Int32Type>()?;
            Some(dictionary.downcast_dict::<StringArray>()?.into_iter().collect())
        }
    }
}

/// A column made by [`words`] with `prefix` in front of every word.
fn prefixed(array: &ArrayRef, prefix: &str) -> ArrayRef {
    if prefix.is_empty() {
        return array.clone();
    }
    let add = |text: &StringArray| -> StringArray {
        text.iter().map(|word| word.map(|word| format!("{prefix}{word}"))).collect()
    };
    match array.as_string_opt::<i32>() {
        Some(text) => Arc::new(add(text)),
        None => {
            let dictionary = array.as_dictionary::<Int32Type>();
            Arc::new(dictionary.with_values(Arc::new(add(dictionary.values().as_string::<i32>()))))
        }
    }
}

/// A quality column: text stays text, whole numbers become `UInt32`.
fn qualities(array: &ArrayRef) -> Option<ArrayRef> {
    if *array.data_type() == DataType::UInt32 {
        return Some(array.clone());
    }
    words(array).or_else(|| {
        let whole = wholes(array)?;
        let whole = whole.as_primitive::<Int64Type>();
        let fits = whole.iter().flatten().all(|x| u32::try_from(x).is_ok());
        fits.then(|| Arc::new(whole.unary::<_, UInt32Type>(|x| x as u32)) as ArrayRef)
    })
}

/// A quality column made by [`shape`] as a dictionary, so that columns of several files go together.
pub(super) fn quality_words(array: &ArrayRef) -> ArrayRef {
    let mut builder = StringDictionaryBuilder::<Int32Type>::new();
    if let Some(codes) = array.as_primitive_opt::<UInt32Type>() {
        codes.iter().for_each(|code| builder.append_option(code.map(|code| code.to_string())));
    } else if let Some(text) = array.as_string_opt::<i32>() {
        text.iter().for_each(|word| builder.append_option(word));
    } else {
        return array.clone();
    }
    Arc::new(builder.finish())
}

/// A long batch whose text columns are dictionaries, so that batches of several files go together.
pub(super) fn with_dictionaries(batch: &RecordBatch) -> Option<RecordBatch> {
    let schema = batch.schema();
    let mut fields = Vec::with_capacity(schema.fields().len());
    let mut arrays = Vec::with_capacity(schema.fields().len());
    for (field, array) in schema.fields().iter().zip(batch.columns()) {
        let array = match array.as_string_opt::<i32>() {
            Some(text) => {
                let mut builder = StringDictionaryBuilder::<Int32Type>::new();
                text.iter().for_each(|word| builder.append_option(word));
                Arc::new(builder.finish())
            }
            None => array.clone(),
        };
        fields.push(field.as_ref().clone().with_data_type(array.data_type().clone()));
        arrays.push(array);
    }
    let schema = Schema::new_with_metadata(fields, schema.metadata().clone());
    RecordBatch::try_new(Arc::new(schema), arrays).ok()
}
