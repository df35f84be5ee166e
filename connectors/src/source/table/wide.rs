//! The wide layout: one row a time, one column a tag, and perhaps one of qualities beside it.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef,
    builder::{Float64Builder, StringDictionaryBuilder},
    types::Int32Type,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::{
    Fault, Given, Plan,
    cells::{Cell, read_number, read_word},
    columns::ts_type,
};
use crate::{
    LAYOUT_KEY, LAYOUT_WIDE, QUALITY_OF_KEY, SourceError, TS, decode::NullCell, source::file::FilesConfig,
};

/// The columns of the wide layout beside the time.
#[derive(Debug, Clone)]
pub(in crate::source) struct Wide {
    pub(super) tags: Vec<usize>,
    /// Quality columns: position of the tag among `tags`, then the column; in the order of the tags.
    pub(super) qualities: Vec<(usize, usize)>,
    pub(super) null: NullCell,
}

impl Wide {
    /// Finds the columns of tags and of their qualities.
    pub(super) fn new(config: &FilesConfig, names: &[String], ts: usize) -> Result<Wide, SourceError> {
        let find = |column: &str| names.iter().position(|name| name == column);
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
        Ok(Wide { tags, qualities, null: config.null })
    }

    /// The canonical schema; `quality` gives the type of each quality column.
    pub(super) fn schema(&self, plan: &Plan, quality: impl Fn(usize) -> DataType) -> SchemaRef {
        let Wide { tags, qualities, .. } = self;
        let name = |i: usize| format!("{}{}", plan.prefix, plan.names[i]);
        let numbers = tags.iter().map(|&i| Field::new(name(i), DataType::Float64, true));
        let codes = qualities.iter().enumerate().map(|(k, &(tag, column))| {
            let of = [(QUALITY_OF_KEY.to_owned(), name(tags[tag]))].into();
            Field::new(name(column), quality(k), true).with_metadata(of)
        });
        wide_schema(numbers.chain(codes))
    }

    /// Shapes the columns of a batch behind the time.
    pub(super) fn shape(
        &self,
        given: &Given<'_>,
        ts: ArrayRef,
    ) -> Result<(SchemaRef, Vec<ArrayRef>), SourceError> {
        let Wide { tags, qualities, null } = self;
        let mut arrays = vec![ts];
        for &i in tags {
            arrays.push(null.settle(given.number(i)?));
        }
        for &(_, i) in qualities {
            arrays.push(given.qualities(i)?);
        }
        Ok((self.schema(given.plan, |k| arrays[1 + tags.len() + k].data_type().clone()), arrays))
    }
}

/// The canonical schema of wide batches.
pub(in crate::source) fn wide_schema(columns: impl Iterator<Item = Field>) -> SchemaRef {
    let ts = std::iter::once(Field::new(TS, ts_type(), false));
    let metadata = [(LAYOUT_KEY.to_owned(), LAYOUT_WIDE.to_owned())].into();
    Arc::new(Schema::new_with_metadata(ts.chain(columns).collect::<Vec<_>>(), metadata))
}

/// The columns of the rows so far.
pub(super) struct Builders {
    values: Vec<Float64Builder>,
    qualities: Vec<StringDictionaryBuilder<Int32Type>>,
}

impl Builders {
    pub(super) fn new(body: &Wide) -> Builders {
        Builders {
            values: body.tags.iter().map(|_| Float64Builder::new()).collect(),
            qualities: body.qualities.iter().map(|_| StringDictionaryBuilder::new()).collect(),
        }
    }

    /// Appends one row. What comes back are the bad cells (index among the tags), which become null.
    pub(super) fn push<'a>(
        &mut self,
        plan: &Plan,
        body: &Wide,
        cell: impl Fn(usize) -> Cell<'a>,
    ) -> Vec<(u32, Fault)> {
        let Builders { values, qualities } = self;
        let Wide { tags, qualities: from, null } = body;
        let mut bad = Vec::new();
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
        bad
    }

    pub(super) fn finish(&mut self, arrays: &mut Vec<ArrayRef>) {
        let Builders { values, qualities } = self;
        arrays.extend(values.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        arrays.extend(qualities.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
    }
}
