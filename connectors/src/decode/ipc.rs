//! Arrow IPC records: one stream of batches a record, long or wide, decoded without copying values
//! unless a record has several batches: these are joined, so that a record is read whole or not yet.
//!
//! A record is taken whole or not at all: when its stream is cut short, is not Arrow, or lacks a
//! column, the whole record is one bad record.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use arrow_array::{
    Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
    UInt32Array,
    cast::AsArray,
    types::{
        Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
        TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type,
        UInt32Type, UInt64Type,
    },
};
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_schema::{DataType, Field, Schema, TimeUnit as ArrowUnit};
use arrow_select::concat::concat_batches;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    NullCell,
    rows::{Fault, RecordContext, empty_batch},
    time::TimeUnit,
};
use crate::{LAYOUT_KEY, LAYOUT_WIDE, Polled, QUALITY, QUALITY_OF_KEY, SEQ, Span, TAG, TS, UTC, VALUE};

/// Which columns of an Arrow IPC record are the parts of a row.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IpcMapping {
    /// Column of the time: a timestamp, or whole numbers with `ts_unit`.
    pub ts: String,
    /// Column of the tag: text, or a dictionary of it.
    pub tag: String,
    /// Column of the value: any number.
    pub value: String,
    /// Column of the quality, whole numbers or text; need not be there.
    pub quality: String,
    /// Column of the sequence number; need not be there.
    pub seq: String,
    /// Unit of a time column of whole numbers: `s`, `ms`, `us` or `ns`.
    pub ts_unit: TimeUnit,
    /// One column a tag beside the time, all of them numbers, but for those whose field metadata
    /// `truegauge.quality_of` names the tag whose qualities they hold. Schema metadata
    /// `truegauge.layout = "wide"` says the same.
    pub wide: bool,
    /// What a null of the wide layout is.
    pub null: NullCell,
}

impl Default for IpcMapping {
    fn default() -> Self {
        Self {
            ts: TS.to_owned(),
            tag: TAG.to_owned(),
            value: VALUE.to_owned(),
            quality: QUALITY.to_owned(),
            seq: SEQ.to_owned(),
            ts_unit: TimeUnit::Auto,
            wide: false,
            null: NullCell::NoSample,
        }
    }
}

/// Decodes records by one mapping.
#[derive(Debug, Clone)]
pub struct IpcDecoder {
    mapping: IpcMapping,
}

impl IpcDecoder {
    /// A decoder for this mapping.
    #[must_use]
    pub fn new(mapping: &IpcMapping) -> Self {
        Self { mapping: mapping.clone() }
    }

    /// All rows of one record, or no rows and the bad record. Whoever has it has read the record to its end.
    #[must_use]
    pub fn decode(&self, partition: u32, payload: &[u8], ctx: RecordContext<'_>) -> Polled {
        // The reader checks what it reads, yet some of its checks are assertions: a record that
        // trips one is bad, not the end of the process.
        let decoded = catch_unwind(AssertUnwindSafe(|| self.rows(payload)))
            .unwrap_or_else(|_| Err(Fault::new("ipc_broken", "the reader gave the record up")));
        match decoded {
            Ok(batch) => {
                let rows = batch.num_rows();
                let span = Span { rows, offset: ctx.offset, first_index: 0, record_ts: ctx.record_ts };
                Polled { partition, batch, spans: vec![span], bad: Vec::new() }
            }
            Err(fault) => Polled {
                partition,
                batch: empty_batch(),
                spans: Vec::new(),
                bad: vec![ctx.bad(partition, None, fault, payload)],
            },
        }
    }

    fn rows(&self, payload: &[u8]) -> Result<RecordBatch, Fault> {
        if payload.is_empty() {
            return Err(Fault::new("empty", "the record has no bytes"));
        }
        let broken = |error: arrow_schema::ArrowError| Fault::new("ipc_broken", error.to_string());
        let mut buffer = Buffer::from(payload);
        let mut decoder = StreamDecoder::new();
        let mut batches = Vec::new();
        while !buffer.is_empty() {
            let before = buffer.len();
            match decoder.decode(&mut buffer).map_err(broken)? {
                Some(batch) if batch.num_rows() > 0 => batches.push(self.canonical(&batch)?),
                Some(_) => {}
                None if buffer.len() == before => {
                    return Err(Fault::new("ipc_broken", "bytes after the end of the stream"));
                }
                None => {}
            }
        }
        decoder.finish().map_err(|error| Fault::new("ipc_truncated", error.to_string()))?;
        if decoder.schema().is_none() {
            return Err(Fault::new("ipc_truncated", "the stream ends before its schema"));
        }
        match batches.as_slice() {
            [] => Err(Fault::new("empty", "the record has no rows")),
            [batch] => Ok(batch.clone()),
            [first, ..] => concat_batches(&first.schema(), &batches).map_err(broken),
        }
    }

    fn canonical(&self, batch: &RecordBatch) -> Result<RecordBatch, Fault> {
        let schema = batch.schema();
        let ts = times(column(batch, &self.mapping.ts)?, &self.mapping)?;
        let ts_field = Field::new(TS, ts.data_type().clone(), false);
        let wide = self.mapping.wide || schema.metadata().get(LAYOUT_KEY).is_some_and(|l| l == LAYOUT_WIDE);
        let (mut fields, mut columns) = (vec![ts_field], vec![ts]);
        if wide {
            for (field, array) in schema.fields().iter().zip(batch.columns()) {
                if field.metadata().contains_key(QUALITY_OF_KEY) {
                    let array = qualities(array, field.name())?;
                    let of = field.metadata().clone();
                    let field = Field::new(field.name(), array.data_type().clone(), true);
                    fields.push(field.with_metadata(of));
                    columns.push(array);
                } else if *field.name() != self.mapping.ts {
                    let array = self.mapping.null.settle(numbers(array, field.name())?);
                    fields.push(Field::new(field.name(), DataType::Float64, true));
                    columns.push(array);
                }
            }
            let metadata = [(LAYOUT_KEY.to_owned(), LAYOUT_WIDE.to_owned())].into();
            return assemble(Schema::new_with_metadata(fields, metadata), columns);
        }
        let tag = texts(column(batch, &self.mapping.tag)?, &self.mapping.tag)?;
        if tag.logical_null_count() > 0 {
            return Err(Fault::new("missing_field", format!("null in column `{}`", self.mapping.tag)));
        }
        fields.push(Field::new(TAG, tag.data_type().clone(), false));
        columns.push(tag);
        fields.push(Field::new(VALUE, DataType::Float64, true));
        columns.push(numbers(column(batch, &self.mapping.value)?, &self.mapping.value)?);
        if let Some(quality) = batch.column_by_name(&self.mapping.quality) {
            let quality = qualities(quality, &self.mapping.quality)?;
            fields.push(Field::new(QUALITY, quality.data_type().clone(), true));
            columns.push(quality);
        }
        if let Some(seq) = batch.column_by_name(&self.mapping.seq) {
            fields.push(Field::new(SEQ, DataType::Int64, true));
            columns.push(wholes(seq, &self.mapping.seq)?);
        }
        assemble(Schema::new(fields), columns)
    }
}

fn assemble(schema: Schema, columns: Vec<ArrayRef>) -> Result<RecordBatch, Fault> {
    RecordBatch::try_new(Arc::new(schema), columns)
        .map_err(|error| Fault::new("ipc_schema", error.to_string()))
}

fn column<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b ArrayRef, Fault> {
    batch.column_by_name(name).ok_or_else(|| Fault::new("ipc_schema", format!("no column `{name}`")))
}

fn other_type(name: &str, array: &dyn Array, want: &str) -> Fault {
    Fault::new("ipc_schema", format!("column `{name}` has type {}, want {want}", array.data_type()))
}

/// Times as nanoseconds; without a copy when they are so already.
fn times(array: &ArrayRef, mapping: &IpcMapping) -> Result<ArrayRef, Fault> {
    let name = &mapping.ts;
    if array.null_count() > 0 {
        return Err(Fault::new("bad_timestamp", format!("null in column `{name}`")));
    }
    let scaled = |values: &[i64], scale_ns: i64| {
        let scaled: Option<Vec<i64>> = values.iter().map(|value| value.checked_mul(scale_ns)).collect();
        let fault =
            || Fault::new("bad_timestamp", format!("column `{name}` does not fit 64-bit nanoseconds"));
        scaled.map(TimestampNanosecondArray::from).ok_or_else(fault)
    };
    let ns = match array.data_type() {
        DataType::Timestamp(ArrowUnit::Nanosecond, _) => {
            array.as_primitive::<TimestampNanosecondType>().clone()
        }
        DataType::Timestamp(ArrowUnit::Microsecond, _) => {
            scaled(array.as_primitive::<TimestampMicrosecondType>().values(), 1_000)?
        }
        DataType::Timestamp(ArrowUnit::Millisecond, _) => {
            scaled(array.as_primitive::<TimestampMillisecondType>().values(), 1_000_000)?
        }
        DataType::Timestamp(ArrowUnit::Second, _) => {
            scaled(array.as_primitive::<TimestampSecondType>().values(), 1_000_000_000)?
        }
        DataType::Int64 => {
            let no_unit =
                || Fault::new("ipc_schema", format!("column `{name}` holds plain numbers: set `ts_unit`"));
            let scale_ns = mapping.ts_unit.scale_ns().ok_or_else(no_unit)?;
            scaled(array.as_primitive::<Int64Type>().values(), scale_ns)?
        }
        _ => return Err(other_type(name, array, "a timestamp")),
    };
    Ok(Arc::new(ns.with_timezone(UTC)))
}

/// Numbers as 64-bit floats; without a copy when they are so already.
fn numbers(array: &ArrayRef, name: &str) -> Result<ArrayRef, Fault> {
    macro_rules! widen {
        ($type:ty) => {
            Arc::new(array.as_primitive::<$type>().unary::<_, Float64Type>(|value| value as f64))
        };
    }
    Ok(match array.data_type() {
        DataType::Float64 => array.clone(),
        DataType::Float32 => widen!(Float32Type),
        DataType::Int8 => widen!(Int8Type),
        DataType::Int16 => widen!(Int16Type),
        DataType::Int32 => widen!(Int32Type),
        DataType::Int64 => widen!(Int64Type),
        DataType::UInt8 => widen!(UInt8Type),
        DataType::UInt16 => widen!(UInt16Type),
        DataType::UInt32 => widen!(UInt32Type),
        DataType::UInt64 => widen!(UInt64Type),
        DataType::Null => Arc::new(Float64Array::new_null(array.len())),
        _ => return Err(other_type(name, array, "numbers")),
    })
}

/// Whole numbers, one by one, in 128 bits.
fn each_whole(array: &ArrayRef, name: &str) -> Result<Vec<Option<i128>>, Fault> {
    macro_rules! list {
        ($type:ty) => {
            array.as_primitive::<$type>().iter().map(|value| value.map(i128::from)).collect()
        };
    }
    Ok(match array.data_type() {
        DataType::Int8 => list!(Int8Type),
        DataType::Int16 => list!(Int16Type),
        DataType::Int32 => list!(Int32Type),
        DataType::Int64 => list!(Int64Type),
        DataType::UInt8 => list!(UInt8Type),
        DataType::UInt16 => list!(UInt16Type),
        DataType::UInt32 => list!(UInt32Type),
        DataType::UInt64 => list!(UInt64Type),
        DataType::Null => vec![None; array.len()],
        _ => return Err(other_type(name, array, "whole numbers")),
    })
}

/// A quality column: codes or text.
fn qualities(array: &ArrayRef, name: &str) -> Result<ArrayRef, Fault> {
    if array.data_type().is_integer() { codes(array, name) } else { texts(array, name) }
}

/// Quality codes as unsigned 32-bit numbers.
fn codes(array: &ArrayRef, name: &str) -> Result<ArrayRef, Fault> {
    if *array.data_type() == DataType::UInt32 {
        return Ok(array.clone());
    }
    let narrowed: Result<Vec<Option<u32>>, _> =
        each_whole(array, name)?.into_iter().map(|value| value.map(u32::try_from).transpose()).collect();
    let too_big = |_| Fault::new("wrong_type", format!("column `{name}` exceeds 32 bits without sign"));
    Ok(Arc::new(UInt32Array::from(narrowed.map_err(too_big)?)))
}

/// Sequence numbers as signed 64-bit numbers.
fn wholes(array: &ArrayRef, name: &str) -> Result<ArrayRef, Fault> {
    if *array.data_type() == DataType::Int64 {
        return Ok(array.clone());
    }
    let narrowed: Result<Vec<Option<i64>>, _> =
        each_whole(array, name)?.into_iter().map(|value| value.map(i64::try_from).transpose()).collect();
    let too_big = |_| Fault::new("wrong_type", format!("column `{name}` exceeds 64 bits"));
    Ok(Arc::new(Int64Array::from(narrowed.map_err(too_big)?)))
}

/// Text as `Utf8`, or as a 32-bit dictionary of it, which is passed on as it is.
fn texts(array: &ArrayRef, name: &str) -> Result<ArrayRef, Fault> {
    let text: StringArray = match array.data_type() {
        DataType::Utf8 => return Ok(array.clone()),
        DataType::LargeUtf8 => array.as_string::<i64>().iter().collect(),
        DataType::Utf8View => array.as_string_view().iter().collect(),
        DataType::Null => StringArray::new_null(array.len()),
        DataType::Dictionary(key, value) if **value == DataType::Utf8 => {
            if **key == DataType::Int32 {
                return Ok(array.clone());
            }
            let dictionary = array.as_any_dictionary();
            let values = dictionary.values().as_string::<i32>();
            if values.is_empty() {
                StringArray::new_null(array.len())
            } else {
                let keys = dictionary.normalized_keys();
                keys.iter()
                    .enumerate()
                    .map(|(row, key)| {
                        (array.is_valid(row) && values.is_valid(*key)).then(|| values.value(*key))
                    })
                    .collect()
            }
        }
        _ => return Err(other_type(name, array, "text")),
    };
    Ok(Arc::new(text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow_ipc::writer::StreamWriter;
    use proptest::prelude::*;

    use super::*;
    use crate::decode::rows::{NoHeaders, Quality, Row, RowBuilder};

    const CONTEXT: RecordContext<'static> =
        RecordContext { offset: 3, record_ts: Some(5), key: None, topic: "t", headers: &NoHeaders };

    fn batch() -> RecordBatch {
        let mut rows = RowBuilder::new(0);
        for i in 0..20 {
            let (tag, value, quality) = (["a", "b"][i as usize % 2], i as f64, Quality::Code(192));
            rows.push(&CONTEXT, Row { index: i, ts_ns: i.into(), tag, value, quality, seq: Some(i.into()) });
        }
        rows.finish().batch
    }

    fn stream(batches: &[RecordBatch]) -> Vec<u8> {
        let mut writer = StreamWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.into_inner().unwrap()
    }

    fn decode(mapping: &IpcMapping, payload: &[u8]) -> Polled {
        IpcDecoder::new(mapping).decode(0, payload, CONTEXT)
    }

    fn code(mapping: &IpcMapping, payload: &[u8]) -> &'static str {
        let polled = decode(mapping, payload);
        assert_eq!((polled.batch.num_rows(), polled.bad.len()), (0, 1));
        polled.bad[0].code
    }

    /// Given a stream of two batches, when decoded, then their rows come out as they are, as one batch.
    #[test]
    fn canonical_batches_come_out_as_they_are() {
        let polled = decode(&IpcMapping::default(), &stream(&[batch(), batch().slice(0, 7)]));
        assert_eq!(polled.batch.slice(0, 20), batch());
        assert_eq!(polled.batch.slice(20, 7), batch().slice(0, 7));
        assert_eq!(polled.spans, [Span { rows: 27, offset: 3, first_index: 0, record_ts: Some(5) }]);
    }

    /// Given a column a tag and whole-number times, when decoded as wide, then numbers are floats.
    #[test]
    fn wide_batches_are_marked_as_such() {
        let ts: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let a: ArrayRef = Arc::new(UInt32Array::from(vec![Some(1), None]));
        let wide = RecordBatch::try_from_iter([("time", ts), ("a", a)]).unwrap();
        let mapping = IpcMapping {
            ts: "time".to_owned(),
            wide: true,
            ts_unit: TimeUnit::Millis,
            ..IpcMapping::default()
        };
        let polled = decode(&mapping, &stream(std::slice::from_ref(&wide)));
        let got = &polled.batch;
        assert_eq!(got.schema().metadata()[LAYOUT_KEY], LAYOUT_WIDE);
        assert_eq!(got.column(0).as_primitive::<TimestampNanosecondType>().values(), &[1_000_000, 2_000_000]);
        assert_eq!(got.column(1).as_ref(), &Float64Array::from(vec![Some(1.0), None]) as &dyn Array);
        assert_eq!(code(&IpcMapping::default(), &stream(&[wide])), "ipc_schema");
    }

    /// Given a wide record whose sender marked a column as qualities, then it stays that; a null is what the mapping says.
    #[test]
    fn wide_qualities_and_nulls_are_kept_as_meant() {
        let of = [(QUALITY_OF_KEY.to_owned(), "a".to_owned())].into();
        let fields = vec![
            Field::new("a_q", DataType::Int64, true).with_metadata(of),
            Field::new("time", DataType::Int64, false),
            Field::new("a", DataType::Float64, true),
        ];
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![Some(192), None])),
            Arc::new(Int64Array::from(vec![1, 2])),
            Arc::new(Float64Array::from(vec![Some(1.0), None])),
        ];
        let wide = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        let mapping = IpcMapping {
            ts: "time".to_owned(),
            wide: true,
            null: NullCell::Missing,
            ts_unit: TimeUnit::Millis,
            ..IpcMapping::default()
        };
        let got = decode(&mapping, &stream(&[wide])).batch;
        assert_eq!(got.schema().field(1).metadata()[QUALITY_OF_KEY], "a");
        assert_eq!(got.column(1).as_ref(), &UInt32Array::from(vec![Some(192), None]) as &dyn Array);
        let a = got.column(2).as_primitive::<Float64Type>();
        assert!(a.value(0) == 1.0 && a.is_valid(1) && a.value(1).is_nan());
    }

    /// Given empty, foreign and cut records, when decoded, then each is one bad record.
    #[test]
    fn broken_records_are_one_bad_record_each() {
        let (mapping, whole) = (IpcMapping::default(), stream(&[batch()]));
        assert_eq!(code(&mapping, b""), "empty");
        assert_eq!(code(&mapping, &stream(&[batch().slice(0, 0)])), "empty");
        assert_eq!(code(&mapping, &whole[..whole.len() / 2]), "ipc_truncated");
        assert!(["ipc_broken", "ipc_truncated"].contains(&code(&mapping, b"{\"ts\":1}")));
    }

    proptest! {
        /// However a record is cut or a byte of it changed, there are rows or one bad record.
        #[test]
        fn damaged_records_never_panic(cut in 0usize..3000, at in 0usize..3000, byte in any::<u8>()) {
            let mut bytes = stream(&[batch(), batch()]);
            let n = bytes.len();
            bytes[at % n] = byte;
            if cut < n { bytes.truncate(cut); }
            let polled = decode(&IpcMapping::default(), &bytes);
            let (rows, bad) = (polled.batch.num_rows(), polled.bad.len());
            prop_assert_eq!(bad, usize::from(rows == 0));
        }
    }
}
