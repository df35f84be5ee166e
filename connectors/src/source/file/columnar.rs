//! Files of columns: Parquet and Arrow IPC.

use std::{
    fs::File,
    io::{BufReader, Read, Seek},
    path::Path,
};

use arrow_array::RecordBatch;
use arrow_ipc::reader::{FileReader as IpcFileReader, StreamReader as IpcStreamReader};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use parquet::arrow::{
    ProjectionMask,
    arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
};

use super::{FilesConfig, Opened, Reader, broken};
use crate::{
    SourceError,
    source::table::{Body, Long, Plan, TagFrom, dictionary_type},
};

/// A columnar file as an iterator of its batches.
pub(super) struct Columns {
    batches: Batches,
    format: &'static str,
    /// What is left of a batch that was longer than wanted.
    pending: Option<RecordBatch>,
    next_row: u64,
}

impl Columns {
    /// The next rows as they are in the file, and the number of the first of them.
    pub(super) fn next(
        &mut self,
        path: &Path,
        max_rows: usize,
    ) -> Result<Option<(RecordBatch, u64)>, SourceError> {
        let batch = loop {
            let batch = match self.pending.take() {
                Some(batch) => batch,
                None => match self.batches.next() {
                    None => return Ok(None),
                    Some(batch) => batch.map_err(|error| broken(path, self.format, &error))?,
                },
            };
            if batch.num_rows() > 0 {
                break batch;
            }
        };
        let rows = batch.num_rows().min(max_rows);
        if rows < batch.num_rows() {
            self.pending = Some(batch.slice(rows, batch.num_rows() - rows));
        }
        let first_row = self.next_row;
        self.next_row += rows as u64;
        Ok(Some((batch.slice(0, rows), first_row)))
    }
}

pub(super) fn open_parquet(
    path: &Path,
    config: &FilesConfig,
    file: File,
    max_rows: usize,
) -> Result<Opened, SourceError> {
    let refused = |error| broken(path, "parquet", &error);
    let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(refused)?;
    let plan = Plan::new(config, path, names(metadata.schema()))?;
    // Repeated words are stored as a dictionary and are cheapest read as one.
    let metadata = match with_dictionaries(&plan, metadata.schema()) {
        None => metadata,
        Some(schema) => {
            let options = ArrowReaderOptions::new().with_schema(schema);
            ArrowReaderMetadata::try_new(metadata.metadata().clone(), options).map_err(refused)?
        }
    };
    let rows = u64::try_from(metadata.metadata().file_metadata().num_rows()).ok();
    let mask = ProjectionMask::roots(metadata.parquet_schema(), plan.used());
    let groups = metadata.metadata().num_row_groups();
    let long = rows.is_some_and(|rows| rows >= (groups * max_rows) as u64);
    let open = move |file: &File, groups: Option<usize>| {
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file.try_clone()?, metadata.clone())
            .with_projection(mask.clone())
            .with_batch_size(max_rows);
        match groups {
            Some(group) => builder.with_row_groups(vec![group]).build(),
            None => builder.build(),
        }
    };
    if !long {
        let reader = open(&file, None).map_err(refused)?;
        return Ok((plan, columns("parquet", Box::new(reader)), rows));
    }
    // A batch that reaches from one row group into the next has its words gathered anew, and all of them looked up anew:
    // of long groups each is read by itself.
    let batches = (0..groups).flat_map(move |group| match open(&file, Some(group)) {
        Ok(reader) => Box::new(reader) as Batches,
        Err(error) => Box::new(std::iter::once(Err(error.into()))),
    });
    Ok((plan, columns("parquet", Box::new(batches)), rows))
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

/// The schema with text columns that are read as dictionaries; `None` when there is none.
fn with_dictionaries(plan: &Plan, schema: &Schema) -> Option<SchemaRef> {
    let Body::Long(Long { tag, quality, .. }) = &plan.body else { return None };
    let tag = if let TagFrom::Column(tag) = tag { Some(*tag) } else { None };
    let is_text = |field: &Field| {
        matches!(field.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
    };
    let wanted = |i: usize, field: &Field| (tag == Some(i) || *quality == Some(i)) && is_text(field);
    let mut any = false;
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(i, field)| {
            let field = field.as_ref().clone();
            if !wanted(i, &field) {
                return field;
            }
            any = true;
            field.with_data_type(dictionary_type())
        })
        .collect();
    any.then(|| Schema::new_with_metadata(fields, schema.metadata().clone()).into())
}

pub(super) fn open_ipc(path: &Path, config: &FilesConfig, file: File) -> Result<Opened, SourceError> {
    let refused = |error| broken(path, "arrow ipc", &error);
    let mut input = BufReader::new(file);
    let mut magic = Vec::new();
    let read = (&mut input).take(IPC_FILE_MAGIC.len() as u64).read_to_end(&mut magic);
    read.and_then(|_| input.rewind()).map_err(|source| SourceError::Io { path: path.to_owned(), source })?;
    if magic.is_empty() {
        return Err(broken(path, "arrow ipc", &"the file is empty"));
    }
    if magic == IPC_FILE_MAGIC {
        let whole = IpcFileReader::try_new(&mut input, None).map_err(refused)?;
        let plan = Plan::new(config, path, names(&whole.schema()))?;
        let projection = plan.used().into_iter().collect();
        let reader = IpcFileReader::try_new(input, Some(projection)).map_err(refused)?;
        return Ok((plan, columns("arrow ipc", Box::new(reader)), None));
    }
    let whole = IpcStreamReader::try_new(&mut input, None).map_err(refused)?;
    let plan = Plan::new(config, path, names(&whole.schema()))?;
    input.rewind().map_err(|source| SourceError::Io { path: path.to_owned(), source })?;
    let projection = plan.used().into_iter().collect();
    let reader = IpcStreamReader::try_new(input, Some(projection)).map_err(refused)?;
    Ok((plan, columns("arrow ipc", Box::new(reader)), None))
}

fn columns(format: &'static str, batches: Batches) -> Reader {
    Reader::Columns(Columns { batches, format, pending: None, next_row: 0 })
}

fn names(schema: &Schema) -> Vec<String> {
    schema.fields().iter().map(|field| field.name().clone()).collect()
}

const IPC_FILE_MAGIC: &[u8] = b"ARROW1";
