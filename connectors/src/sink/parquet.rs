//! Parquet tables: record batches of one schema, in a file that appears only when it is complete.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::{
    arrow::ArrowWriter, basic::Compression, errors::ParquetError, file::properties::WriterProperties,
};

use super::{at, publish, unfinished};
use crate::SinkError;

/// Writes batches to a temporary name beside `path`; [`ParquetTable::finish`] gives the file its name.
///
/// Columns are dictionary-encoded where that pays and compressed with Snappy. Dropped without
/// `finish`, the unfinished file is removed.
pub struct ParquetTable {
    path: PathBuf,
    temporary: PathBuf,
    writer: ArrowWriter<File>,
    rows: u64,
    finished: bool,
}

impl ParquetTable {
    /// Starts a table with these columns that will be called `path`.
    pub fn create(path: &Path, schema: SchemaRef) -> Result<Self, SinkError> {
        let temporary = unfinished(path);
        let file = File::create(&temporary).map_err(at(path))?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_dictionary_enabled(true)
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_created_by("truegauge".to_owned())
            .build();
        let writer =
            ArrowWriter::try_new(file, schema, Some(properties)).map_err(|error| refused(path, error))?;
        Ok(ParquetTable { path: path.to_owned(), temporary, writer, rows: 0, finished: false })
    }

    /// Appends rows; the batch must have the columns of the table.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        self.writer.write(batch).map_err(|error| refused(&self.path, error))?;
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Rows written so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes the footer, syncs the file and gives it its name. Returns the number of rows.
    pub fn finish(mut self) -> Result<u64, SinkError> {
        self.writer.finish().map_err(|error| refused(&self.path, error))?;
        publish(self.writer.inner(), &self.temporary, &self.path)?;
        self.finished = true;
        Ok(self.rows)
    }
}

impl Drop for ParquetTable {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing can be done about a file that cannot be removed; it has no final name.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Tells a full disk from rows that do not fit.
fn refused(path: &Path, error: ParquetError) -> SinkError {
    let path = path.to_owned();
    match error {
        ParquetError::External(inner) => match inner.downcast::<std::io::Error>() {
            Ok(source) => SinkError::Io { path, source: *source },
            Err(inner) => SinkError::Encode { path, reason: inner.to_string() },
        },
        error => SinkError::Encode { path, reason: error.to_string() },
    }
}

/// Rows gathered in memory before they are written.
const ROW_GROUP_ROWS: usize = 256 * 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use std::sync::Arc;

    use arrow_array::Float64Array;
    use arrow_schema::{DataType, Field, Schema};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

    use super::*;

    /// Given a table, when batches are written and it is finished, then the file holds them.
    #[test]
    fn batches_come_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.parquet");
        let schema = Arc::new(Schema::new(vec![Field::new("x", DataType::Float64, false)]));
        let batch =
            RecordBatch::try_new(schema.clone(), vec![Arc::new(Float64Array::from(vec![1.0, 2.0]))]).unwrap();
        let mut table = ParquetTable::create(&path, schema).unwrap();
        table.write(&batch).unwrap();
        assert!(!path.exists());
        assert_eq!(table.finish().unwrap(), 2);
        let mut reader = ParquetRecordBatchReader::try_new(File::open(&path).unwrap(), 10).unwrap();
        assert_eq!(reader.next().unwrap().unwrap().num_rows(), 2);
    }
}
