//! Columns of any type as columns of the canonical types.

use std::{path::Path, sync::Arc};

use arrow_array::{
    Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
    builder::StringDictionaryBuilder,
    cast::AsArray,
    types::{
        ArrowPrimitiveType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
        Int64Type, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
        TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    },
};
use arrow_schema::{DataType, Schema, TimeUnit as ArrowTimeUnit};

use super::{Fault, Plan};
use crate::{SourceError, UTC, decode::time::TimeUnit};

pub(in crate::source) fn dictionary_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

pub(super) fn ts_type() -> DataType {
    DataType::Timestamp(ArrowTimeUnit::Nanosecond, Some(UTC.into()))
}

pub(super) fn ts_array(values: arrow_buffer::ScalarBuffer<i64>) -> ArrayRef {
    Arc::new(TimestampNanosecondArray::new(values, None).with_timezone(UTC))
}

/// Bad rows of a columnar batch.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) rows: Vec<(usize, Fault)>,
}

impl Faults {
    pub(super) fn nulls(&mut self, array: &ArrayRef, name: &str) {
        if array.null_count() > 0 {
            let null = |row: &usize| array.is_null(*row);
            let fault = |row| (row, Fault::new("missing_field", format!("`{name}` is null")));
            self.rows.extend((0..array.len()).filter(null).map(fault));
        }
    }

    /// One fault a row, the first found, in row order.
    pub(super) fn sorted(mut self) -> Vec<(usize, Fault)> {
        self.rows.sort_by_key(|(row, _)| *row);
        self.rows.dedup_by_key(|(row, _)| *row);
        self.rows
    }
}

/// The time column in nanoseconds; rows without a time are added to `faults`.
pub(super) fn read_ts_column(
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
pub(super) fn wholes(array: &ArrayRef) -> Option<ArrayRef> {
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
pub(super) fn prefixed(array: &ArrayRef, prefix: &str) -> ArrayRef {
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
pub(super) fn qualities(array: &ArrayRef) -> Option<ArrayRef> {
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

/// A quality column made by [`qualities`] as a dictionary, so that columns of several files go together.
pub(in crate::source) fn quality_words(array: &ArrayRef) -> ArrayRef {
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
pub(in crate::source) fn with_dictionaries(batch: &RecordBatch) -> Option<RecordBatch> {
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
