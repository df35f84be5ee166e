//! The long layout: one row a sample. A file of one tag is long too.

use std::{path::Path, sync::Arc};

use arrow_array::{
    Array, ArrayRef, DictionaryArray, Int32Array, StringArray,
    builder::{Float64Builder, Int64Builder, StringDictionaryBuilder},
    types::Int32Type,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::{
    Fault, Given, Plan,
    cells::{Cell, read_number, read_whole, read_word},
    columns::{Faults, prefixed, ts_type, wholes, words},
};
use crate::{
    QUALITY, SEQ, SourceError, TAG, TS, VALUE,
    source::file::{FilesConfig, Layout},
};

/// The columns of the long layout beside the time.
#[derive(Debug, Clone)]
pub(in crate::source) struct Long {
    pub(in crate::source) tag: TagFrom,
    pub(super) value: usize,
    pub(in crate::source) quality: Option<usize>,
    pub(super) seq: Option<usize>,
}

/// Where the tag of a long row is found.
#[derive(Debug, Clone)]
pub(in crate::source) enum TagFrom {
    Column(usize),
    /// The same for all rows of the file.
    Name(String),
}

impl Long {
    /// Finds the columns; `need` gives one that has to be there.
    pub(super) fn new(
        config: &FilesConfig,
        path: &Path,
        layout: Layout,
        need: impl Fn(&str) -> Result<usize, SourceError>,
    ) -> Result<Long, SourceError> {
        let optional = |column: &Option<String>| column.as_deref().map(&need).transpose();
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
        Ok(Long { tag, value, quality: optional(&config.quality)?, seq: optional(&config.seq)? })
    }

    /// Shapes the columns of a batch behind the time.
    pub(super) fn shape(
        &self,
        given: &Given<'_>,
        ts: ArrayRef,
        faults: &mut Faults,
    ) -> Result<(SchemaRef, Vec<ArrayRef>), SourceError> {
        let Given { plan, batch, .. } = given;
        let Long { tag, value, quality, seq } = self;
        let tag = match tag {
            TagFrom::Name(name) => {
                let keys = Int32Array::from(vec![0; batch.num_rows()]);
                let values = Arc::new(StringArray::from(vec![name.as_str()]));
                Arc::new(DictionaryArray::new(keys, values)) as ArrayRef
            }
            TagFrom::Column(i) => {
                let array = given.column(*i)?;
                let tags = words(array).ok_or_else(|| given.wrong(*i, array.data_type(), "text"))?;
                faults.nulls(&tags, &plan.names[*i]);
                prefixed(&tags, &plan.prefix)
            }
        };
        let mut arrays = vec![ts, tag, given.number(*value)?];
        if let Some(i) = quality {
            arrays.push(given.qualities(*i)?);
        }
        if let Some(i) = seq {
            let array = given.column(*i)?;
            arrays.push(wholes(array).ok_or_else(|| given.wrong(*i, array.data_type(), "whole numbers"))?);
        }
        let quality = quality.map(|_| arrays[3].data_type().clone());
        Ok((schema(arrays[1].data_type().clone(), quality, seq.is_some()), arrays))
    }
}

/// The canonical schema of long batches.
pub(super) fn schema(tag: DataType, quality: Option<DataType>, seq: bool) -> SchemaRef {
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

/// The columns of the rows so far.
pub(super) struct Builders {
    tag: StringDictionaryBuilder<Int32Type>,
    value: Float64Builder,
    quality: Option<StringDictionaryBuilder<Int32Type>>,
    seq: Option<Int64Builder>,
}

impl Builders {
    pub(super) fn new(body: &Long) -> Builders {
        Builders {
            tag: StringDictionaryBuilder::new(),
            value: Float64Builder::new(),
            quality: body.quality.map(|_| StringDictionaryBuilder::new()),
            seq: body.seq.map(|_| Int64Builder::new()),
        }
    }

    /// Appends one row, or nothing when it is bad.
    pub(super) fn push<'a>(
        &mut self,
        plan: &Plan,
        body: &Long,
        cell: impl Fn(usize) -> Cell<'a>,
    ) -> Result<(), Fault> {
        let Builders { tag, value, quality, seq } = self;
        let Long { tag: from, value: v, quality: q, seq: s } = body;
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
        Ok(())
    }

    pub(super) fn finish(&mut self, arrays: &mut Vec<ArrayRef>) {
        let Builders { tag, value, quality, seq } = self;
        arrays.push(Arc::new(tag.finish()));
        arrays.push(Arc::new(value.finish()));
        if let Some(quality) = quality {
            arrays.push(Arc::new(quality.finish()));
        }
        if let Some(seq) = seq {
            arrays.push(Arc::new(seq.finish()));
        }
    }
}
