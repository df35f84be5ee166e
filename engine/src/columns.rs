//! A record batch, long or wide, as flat columns in the order of the log.

use crate::config::plan::{Class, Plan};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampNanosecondType, UInt32Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_buffer::ScalarBuffer;
use arrow_schema::DataType;
use std::collections::BTreeMap;

/// Why a batch can't be read: a fault of the source, not of the data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// A column is absent or of another type.
    #[error("column `{column}` must be {expected}, got {got}")]
    Column {
        /// The column.
        column: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        got: String,
    },
    /// A column that is never null has nulls.
    #[error("column `{column}` has nulls; rows without it must not reach the engine")]
    Null {
        /// The column.
        column: &'static str,
    },
    /// The batch has qualities, but the configuration does not say what they mean.
    #[error(
        "the data has a quality column; say what its codes mean: `[quality] scheme = \"opcua\"` (or \"opcda\", \"qartod\", or lists of codes)"
    )]
    NoScheme,
}

/// Key of the schema metadata that marks a wide batch.
pub const LAYOUT: &str = "truegauge.layout";

/// Key of the field metadata that marks a column of a wide batch as the qualities of the tag it names.
pub const QUALITY_OF: &str = "truegauge.quality_of";

/// The quality of a row that was given none, beside rows that were: good, as in a batch without qualities.
pub(crate) const NOT_GIVEN: &str = "\0";

/// Flat columns; one slot a sample.
#[derive(Default)]
pub(crate) struct Flat {
    /// Tag number, or [`UNKNOWN`] with the row's name in `refused`.
    pub(crate) tag: Vec<u32>,
    /// Mostly the batch's own memory.
    pub(crate) ts: ScalarBuffer<i64>,
    /// NaN where missing.
    pub(crate) value: Vec<f64>,
    pub(crate) class: Vec<Class>,
    /// Empty without such a column; `None` for a row that has none.
    pub(crate) seq: Vec<Option<i64>>,
    /// Row of the batch; empty when slots are rows.
    pub(crate) row: Vec<u32>,
    /// Names of the slots whose tag was refused.
    pub(crate) refused: Vec<(u32, String)>,
}

/// A tag that got no number: the limit was reached, or its name is too long.
pub(crate) const UNKNOWN: u32 = u32::MAX;

/// Remembers which codes of a dictionary are which tags.
#[derive(Default)]
pub(crate) struct Codes {
    values: Option<ArrayRef>,
    ids: Vec<u32>,
}

/// Qualities that are looked at together.
const STRETCH: usize = 64;

const UNSEEN: u32 = u32::MAX - 1;

impl Flat {
    fn clear(&mut self) {
        self.tag.clear();
        self.ts = ScalarBuffer::default();
        self.value.clear();
        self.class.clear();
        self.seq.clear();
        self.row.clear();
        self.refused.clear();
    }

    /// Reads a batch; `intern` gives a name its number.
    pub(crate) fn read(
        &mut self,
        batch: &RecordBatch,
        plan: &Plan,
        codes: &mut Codes,
        mut intern: impl FnMut(&str) -> u32,
    ) -> Result<(), BatchError> {
        self.clear();
        let ts = column(batch, "ts", "Timestamp(ns)", &DataType::is_temporal)?;
        let ts = ts.as_primitive_opt::<TimestampNanosecondType>();
        let ts = ts.ok_or_else(|| wrong("ts", "Timestamp(ns)", batch))?;
        if ts.null_count() > 0 {
            return Err(BatchError::Null { column: "ts" });
        }
        if batch.schema_ref().metadata().get(LAYOUT).is_some_and(|l| l == "wide") {
            return self.read_wide(batch, ts.values(), plan, intern);
        }
        self.ts = ts.values().clone();
        let tag = column(batch, "tag", "Utf8 or Dictionary(Int32, Utf8)", &|_| true)?;
        if tag.logical_null_count() > 0 {
            return Err(BatchError::Null { column: "tag" });
        }
        if let Some(names) = tag.as_string_opt::<i32>() {
            for name in names.iter() {
                self.tag.push(intern(name.unwrap_or("")));
            }
        } else if let Some(dictionary) = tag.as_dictionary_opt::<Int32Type>() {
            let names = dictionary.values().as_string_opt::<i32>();
            let names = names.ok_or_else(|| wrong("tag", "Utf8 or Dictionary(Int32, Utf8)", batch))?;
            codes.look_at(dictionary.values());
            let keys = dictionary.keys().values();
            self.tag.extend(keys.iter().map(|code| codes.ids[*code as usize]));
            if self.tag.contains(&UNSEEN) {
                for (id, &code) in self.tag.iter_mut().zip(keys).filter(|(id, _)| **id == UNSEEN) {
                    let known = &mut codes.ids[code as usize];
                    if *known == UNSEEN {
                        *known = intern(names.value(code as usize));
                    }
                    *id = *known;
                }
            }
        } else {
            return Err(wrong("tag", "Utf8 or Dictionary(Int32, Utf8)", batch));
        }
        // Codes that nobody said the meaning of are not guessed: their rows are refused, and their siblings flow.
        if let Some(quality) = batch.column_by_name("quality").filter(|_| plan.quality.is_none()) {
            for i in 0..self.tag.len() {
                if quality.is_null(i) || name_at(quality, i) != NOT_GIVEN {
                    self.tag[i] = UNKNOWN;
                }
            }
        }
        if self.tag.contains(&UNKNOWN) {
            for i in 0..self.tag.len() {
                if self.tag[i] == UNKNOWN {
                    self.refused.push((i as u32, name_at(tag, i).to_string()));
                }
            }
        }
        let value =
            column(batch, "value", "Float64", &|t| *t == DataType::Float64)?.as_primitive::<Float64Type>();
        self.value.extend_from_slice(value.values());
        if let Some(nulls) = value.nulls().filter(|n| n.null_count() > 0) {
            for (i, x) in self.value.iter_mut().enumerate() {
                if nulls.is_null(i) {
                    *x = f64::NAN;
                }
            }
        }
        self.read_quality(batch, plan)?;
        if let Some(seq) = batch.column_by_name("seq") {
            let seq = seq.as_primitive_opt::<Int64Type>().ok_or_else(|| wrong("seq", "Int64", batch))?;
            self.seq.extend(seq.iter());
        }
        Ok(())
    }

    /// Makes samples missing whose value stands for "no measurement"; `of` holds those values by tag.
    pub(crate) fn silence(&mut self, of: &[Box<[f64]>]) {
        for (x, tag) in self.value.iter_mut().zip(&self.tag) {
            if of.get(*tag as usize).is_some_and(|values| values.contains(x)) {
                *x = f64::NAN;
            }
        }
    }

    fn read_quality(&mut self, batch: &RecordBatch, plan: &Plan) -> Result<(), BatchError> {
        let Some(quality) = batch.column_by_name("quality").filter(|_| plan.quality.is_some()) else {
            self.class.resize(self.ts.len(), Class::Good);
            return Ok(());
        };
        classes(quality, plan, batch, &mut self.class)?;
        for (x, class) in self.value.chunks_mut(STRETCH).zip(self.class.chunks(STRETCH)) {
            if class.iter().fold(false, |bad, class| bad | (*class == Class::Bad)) {
                for (x, _) in x.iter_mut().zip(class).filter(|(_, class)| **class == Class::Bad) {
                    *x = f64::NAN;
                }
            }
        }
        Ok(())
    }

    /// Row by row, cell by cell; a null cell is no sample.
    fn read_wide(
        &mut self,
        batch: &RecordBatch,
        ts: &[i64],
        plan: &Plan,
        mut intern: impl FnMut(&str) -> u32,
    ) -> Result<(), BatchError> {
        let (mut columns, mut qualities) = (Vec::new(), BTreeMap::new());
        for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            if let Some(tag) = field.metadata().get(QUALITY_OF) {
                let mut class_of = Vec::new();
                classes(array, plan, batch, &mut class_of)?;
                qualities.insert(tag.as_str(), class_of);
                continue;
            }
            if field.name() == "ts" {
                continue;
            }
            let values =
                array.as_primitive_opt::<Float64Type>().ok_or_else(|| wrong("value", "Float64", batch))?;
            columns.push((field.name().as_str(), values, None, None));
        }
        for (name, _, _, class_of) in &mut columns {
            *class_of = qualities.get(name);
        }
        let mut times = Vec::new();
        for (row, &t) in ts.iter().enumerate() {
            for (name, values, id, class_of) in &mut columns {
                if values.is_null(row) {
                    continue;
                }
                let id = *id.get_or_insert_with(|| intern(name));
                if id == UNKNOWN {
                    self.refused.push((times.len() as u32, (*name).to_string()));
                }
                self.tag.push(id);
                times.push(t);
                let class = class_of.map_or(Class::Good, |of| of[row]);
                self.value.push(if class == Class::Bad { f64::NAN } else { values.value(row) });
                if !qualities.is_empty() {
                    self.class.push(class);
                }
                self.row.push(row as u32);
            }
        }
        self.ts = times.into();
        self.class.resize(self.ts.len(), Class::Good);
        Ok(())
    }
}

impl Codes {
    /// Starts afresh when the dictionary is another one.
    fn look_at(&mut self, values: &ArrayRef) {
        if !self.values.as_ref().is_some_and(|known| same_words(known, values)) {
            self.ids.clear();
            self.ids.resize(values.len(), UNSEEN);
            self.values = Some(values.clone());
        }
    }
}

/// The quality class of each row; null is bad.
fn classes(
    quality: &ArrayRef,
    plan: &Plan,
    batch: &RecordBatch,
    class_of: &mut Vec<Class>,
) -> Result<(), BatchError> {
    let scheme = plan.quality.as_ref().ok_or(BatchError::NoScheme)?;
    if let Some(numbers) = quality.as_primitive_opt::<UInt32Type>() {
        let (mut last, mut class) = (0, scheme.class(0));
        for stretch in numbers.values().chunks(STRETCH) {
            // Mostly one code follows the other unchanged.
            if stretch.iter().fold(true, |same, code| same & (*code == last)) {
                class_of.resize(class_of.len() + stretch.len(), class);
                continue;
            }
            for &code in stretch {
                if code != last {
                    (last, class) = (code, scheme.class(code));
                }
                class_of.push(class);
            }
        }
        if numbers.null_count() > 0 {
            let first = class_of.len() - numbers.len();
            for (i, class) in class_of[first..].iter_mut().enumerate() {
                if numbers.is_null(i) {
                    *class = Class::Bad;
                }
            }
        }
    } else {
        let words = quality.data_type() == &DataType::Utf8
            || matches!(quality.data_type(), DataType::Dictionary(_, _));
        if !words {
            return Err(wrong("quality", "UInt32 or Utf8", batch));
        }
        for i in 0..quality.len() {
            class_of.push(if quality.is_null(i) {
                Class::Bad
            } else {
                match name_at(quality, i) {
                    NOT_GIVEN => Class::Good,
                    word => scheme.class_of_word(word),
                }
            });
        }
    }
    Ok(())
}

/// Whether two dictionaries hold the same words: most readers wrap the same memory anew for every batch.
fn same_words(a: &ArrayRef, b: &ArrayRef) -> bool {
    let (Some(a), Some(b)) = (a.as_string_opt::<i32>(), b.as_string_opt::<i32>()) else { return false };
    let same = |a: &[u8], b: &[u8]| std::ptr::eq(a, b) || a == b;
    a.len() == b.len()
        && (a.value_offsets().as_ptr() == b.value_offsets().as_ptr()
            || a.value_offsets() == b.value_offsets())
        && same(a.value_data(), b.value_data())
}

fn name_at(array: &ArrayRef, i: usize) -> &str {
    if let Some(names) = array.as_string_opt::<i32>() {
        return names.value(i);
    }
    match array
        .as_dictionary_opt::<Int32Type>()
        .map(|d| (d.values().as_string_opt::<i32>(), d.keys().value(i)))
    {
        Some((Some(names), code)) => names.value(code as usize),
        _ => "",
    }
}

fn column<'a>(
    batch: &'a RecordBatch,
    name: &'static str,
    expected: &'static str,
    fits: &dyn Fn(&DataType) -> bool,
) -> Result<&'a ArrayRef, BatchError> {
    let array = batch.column_by_name(name).filter(|a| fits(a.data_type()));
    array.ok_or_else(|| wrong(name, expected, batch))
}

fn wrong(column: &'static str, expected: &'static str, batch: &RecordBatch) -> BatchError {
    let got = batch.column_by_name(column).map_or("nothing".into(), |c| c.data_type().to_string());
    BatchError::Column { column, expected, got }
}
