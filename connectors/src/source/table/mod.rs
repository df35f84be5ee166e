//! From the columns of a file to the columns of a canonical batch.
//!
//! [`Plan`] says which column is what; [`Rows`] builds batches from cells of text formats, and
//! [`shape`] turns batches of columnar formats into canonical ones, without copying where it can.
//! What differs between the layouts is in `long.rs` and `wide.rs`.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use arrow_select::filter::filter_record_batch;

use super::file::{FilesConfig, Layout};
use crate::{BadRecord, SourceError, decode::time::TimeUnit};

mod cells;
mod columns;
mod long;
mod wide;

pub(super) use cells::{Cell, Rows};
pub(super) use columns::{dictionary_type, quality_words, with_dictionaries};
pub(crate) use columns::{flat_text, numbers, words};
pub(super) use long::{Long, TagFrom};
pub(super) use wide::{Wide, wide_schema};

use columns::{Faults, qualities, read_ts_column};

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
    Long(Long),
    Wide(Wide),
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
            Layout::Long | Layout::Single => Body::Long(Long::new(config, path, layout, need)?),
            Layout::Wide | Layout::Auto => Body::Wide(Wide::new(config, &names, ts)?),
        };
        Ok(Plan { names, ts, body, prefix: config.tag_prefix.clone() })
    }

    /// The columns that are read, in ascending order.
    pub(super) fn used(&self) -> BTreeSet<usize> {
        let mut used = BTreeSet::from([self.ts]);
        match &self.body {
            Body::Long(Long { tag, value, quality, seq }) => {
                if let TagFrom::Column(tag) = tag {
                    used.insert(*tag);
                }
                used.insert(*value);
                used.extend(quality.iter().chain(seq));
            }
            Body::Wide(Wide { tags, qualities, .. }) => {
                used.extend(tags);
                used.extend(qualities.iter().map(|(_, column)| column));
            }
        }
        used
    }

    /// The canonical schema when text columns are dictionaries.
    pub(super) fn schema(&self) -> SchemaRef {
        match &self.body {
            Body::Long(Long { quality, seq, .. }) => {
                let quality = quality.map(|_| dictionary_type());
                long::schema(dictionary_type(), quality, seq.is_some())
            }
            Body::Wide(wide) => wide.schema(self, |_| dictionary_type()),
        }
    }
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

/// A batch of a columnar file as it was read.
struct Given<'b> {
    plan: &'b Plan,
    path: &'b Path,
    batch: &'b RecordBatch,
}

impl Given<'_> {
    fn column(&self, i: usize) -> Result<&ArrayRef, SourceError> {
        let name = &self.plan.names[i];
        self.batch.column_by_name(name).ok_or_else(|| SourceError::NoColumn {
            path: self.path.to_owned(),
            column: name.clone(),
            found: self.batch.schema().fields().iter().map(|field| field.name().clone()).collect(),
        })
    }

    fn wrong(&self, i: usize, got: &DataType, want: &'static str) -> SourceError {
        SourceError::ColumnType {
            path: self.path.to_owned(),
            column: self.plan.names[i].clone(),
            got: got.to_string(),
            want,
        }
    }

    fn number(&self, i: usize) -> Result<ArrayRef, SourceError> {
        let array = self.column(i)?;
        let want = "numbers (columns to leave out go in `ignore`)";
        numbers(array).ok_or_else(|| self.wrong(i, array.data_type(), want))
    }

    fn qualities(&self, i: usize) -> Result<ArrayRef, SourceError> {
        let array = self.column(i)?;
        let want = "text or whole numbers from 0 to 2^32 - 1";
        qualities(array).ok_or_else(|| self.wrong(i, array.data_type(), want))
    }
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
    let given = Given { plan, path, batch };
    let mut faults = Faults::default();
    let ts = read_ts_column(plan, unit, path, given.column(plan.ts)?, &mut faults)?;
    let rows = batch.num_rows();
    let (schema, arrays) = match &plan.body {
        Body::Long(long) => long.shape(&given, ts, &mut faults)?,
        Body::Wide(wide) => wide.shape(&given, ts)?,
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
