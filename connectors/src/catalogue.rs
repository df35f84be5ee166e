//! The tag catalogue: what is known about each tag, from a CSV or Parquet table.

use std::{fs::File, path::Path, sync::Arc};

use arrow_array::{Array, ArrayRef, cast::AsArray, types::Float64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::{
    SourceError, TAG,
    decode::csv::{Fields, Lines},
    source::table::{flat_text, numbers, words},
};

/// What the catalogue says about one tag. Empty cells are left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CatalogueRow {
    /// The tag.
    pub tag: String,
    /// Cells of columns in which every cell is a number, in the order of the columns.
    pub numbers: Vec<(Arc<str>, f64)>,
    /// Cells of the other columns, in the order of the columns.
    pub texts: Vec<(String, String)>,
}

impl CatalogueRow {
    /// The number in a column, if there is one.
    #[must_use]
    pub fn number(&self, column: &str) -> Option<f64> {
        self.numbers.iter().find(|(name, _)| **name == *column).map(|(_, number)| *number)
    }

    /// The text in a column, if there is one.
    #[must_use]
    pub fn text(&self, column: &str) -> Option<&str> {
        self.texts.iter().find(|(name, _)| name == column).map(|(_, text)| text.as_str())
    }
}

/// Reads a catalogue: `.parquet`, or CSV whatever the name. The column `tag` is required.
///
/// # Errors
/// A file that cannot be read, no column `tag`, a row without a tag, a tag that occurs twice.
pub fn read(path: &Path) -> Result<Vec<CatalogueRow>, SourceError> {
    let is_parquet = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("parquet"));
    let rows = if is_parquet { read_parquet(path)? } else { read_csv(path)? };
    let mut seen = std::collections::HashSet::with_capacity(rows.len());
    for (i, row) in rows.iter().enumerate() {
        if row.tag.is_empty() {
            return Err(broken(path, format!("row {} has no tag", i + 1)));
        }
        if !seen.insert(&row.tag) {
            return Err(broken(path, format!("tag `{}` occurs twice", row.tag)));
        }
    }
    Ok(rows)
}

fn read_csv(path: &Path) -> Result<Vec<CatalogueRow>, SourceError> {
    let refused = |source| SourceError::Io { path: path.to_owned(), source };
    let text = std::fs::read(path).map_err(refused)?;
    let delimiter = if path.extension().is_some_and(|ending| ending == "tsv") { b'\t' } else { b',' };
    let mut lines = Lines::new(text.as_slice(), None);
    let mut fields = Fields::new(delimiter);
    let mut names: Option<Vec<String>> = None;
    let mut table = Table::default();
    let mut lines_read = 0;
    while let Some(line) = lines.next_record(true).map_err(refused)? {
        fields.cut(line);
        lines_read += 1;
        let mut cells = (0..fields.len()).map(|i| std::str::from_utf8(fields.get(i)));
        let Some(header) = &names else {
            let header: Result<_, _> = cells.map(|cell| cell.map(str::to_owned)).collect();
            names = Some(row_or(header, path, lines_read)?);
            continue;
        };
        if header.len() != fields.len() {
            return Err(broken(path, format!("line {lines_read} has {} fields", fields.len())));
        }
        let row = cells.try_for_each(|cell| cell.map(|cell| table.push(cell)));
        row_or(row, path, lines_read)?;
    }
    let Some(names) = names else { return Err(broken(path, "no header line".to_owned())) };
    let tag = tag_column(path, &names)?;
    let column = |i: usize| {
        (0..lines_read - 1).map({
            let (table, width) = (&table, names.len());
            move |row| table.cell(row * width + i)
        })
    };
    let row = |tag: &str| CatalogueRow { tag: tag.to_owned(), ..CatalogueRow::default() };
    let mut rows: Vec<CatalogueRow> = column(tag).map(row).collect();
    for (i, name) in names.iter().enumerate().filter(|(i, _)| *i != tag) {
        let number =
            |cell: &str| if cell.is_empty() { Some(None) } else { cell.parse::<f64>().ok().map(Some) };
        match column(i).map(number).collect::<Option<Vec<_>>>() {
            Some(numbers) => {
                let name: Arc<str> = name.as_str().into();
                for (number, row) in numbers.into_iter().zip(&mut rows) {
                    row.numbers.extend(number.filter(|x| !x.is_nan()).map(|x| (name.clone(), x)));
                }
            }
            None => {
                for (cell, row) in column(i).zip(&mut rows).filter(|(cell, _)| !cell.is_empty()) {
                    row.texts.push((name.clone(), cell.to_owned()));
                }
            }
        }
    }
    Ok(rows)
}

/// Cells of a table in one piece of memory.
#[derive(Default)]
struct Table {
    text: String,
    ends: Vec<usize>,
}

impl Table {
    fn push(&mut self, cell: &str) {
        self.text.push_str(cell);
        self.ends.push(self.text.len());
    }

    fn cell(&self, i: usize) -> &str {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.text[start..self.ends[i]]
    }
}

fn row_or<T>(row: Result<T, std::str::Utf8Error>, path: &Path, line: usize) -> Result<T, SourceError> {
    row.map_err(|_| broken(path, format!("line {line} is not UTF-8")))
}

fn read_parquet(path: &Path) -> Result<Vec<CatalogueRow>, SourceError> {
    let file = File::open(path).map_err(|source| SourceError::Io { path: path.to_owned(), source })?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(|builder| builder.build())
        .map_err(|error| broken(path, error.to_string()))?;
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|error| broken(path, error.to_string()))?;
        let schema = batch.schema();
        let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let tag = tag_column(path, &names)?;
        let first = rows.len();
        rows.resize(first + batch.num_rows(), CatalogueRow::default());
        for (i, (name, array)) in names.iter().zip(batch.columns()).enumerate() {
            fill(path, name, array, i == tag, &mut rows[first..])?;
        }
    }
    Ok(rows)
}

/// Puts one column into the rows.
fn fill(
    path: &Path,
    name: &str,
    array: &ArrayRef,
    is_tag: bool,
    rows: &mut [CatalogueRow],
) -> Result<(), SourceError> {
    if let Some(text) = words(array).and_then(|text| flat_text(&text)) {
        for (word, row) in text.iter().zip(rows) {
            match word {
                Some(word) if is_tag => row.tag = word.to_owned(),
                Some(word) if !word.is_empty() => row.texts.push((name.to_owned(), word.to_owned())),
                _ => {}
            }
        }
        return Ok(());
    }
    match numbers(array).filter(|_| !is_tag) {
        Some(column) => {
            let name: Arc<str> = name.into();
            for (number, row) in column.as_primitive::<Float64Type>().iter().zip(rows) {
                row.numbers.extend(number.filter(|x| !x.is_nan()).map(|x| (name.clone(), x)));
            }
            Ok(())
        }
        None => Err(SourceError::ColumnType {
            path: path.to_owned(),
            column: name.to_owned(),
            got: array.data_type().to_string(),
            want: if is_tag { "text" } else { "text or numbers" },
        }),
    }
}

fn tag_column(path: &Path, names: &[String]) -> Result<usize, SourceError> {
    names.iter().position(|name| name == TAG).ok_or_else(|| SourceError::NoColumn {
        path: path.to_owned(),
        column: TAG.to_owned(),
        found: names.to_vec(),
    })
}

fn broken(path: &Path, reason: String) -> SourceError {
    SourceError::Broken { path: path.to_owned(), format: "catalogue", reason }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    /// Given a CSV catalogue, when read, then numeric columns are numbers and empty cells are gone.
    #[test]
    fn columns_are_numbers_or_text() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tags.csv");
        std::fs::write(&path, "tag,unit,lo,hi,code\nT1,degC,-10,80,7\nT2,,,1e3,A7\n").unwrap();
        let rows = read(&path).unwrap();
        assert_eq!(rows[0].number("lo"), Some(-10.0));
        assert_eq!(rows[0].text("code"), Some("7"));
        assert_eq!(rows[1].numbers, [("hi".into(), 1000.0)]);
        assert_eq!(rows[1].texts, [("code".to_owned(), "A7".to_owned())]);
    }

    /// Given catalogues without tags or with one twice, when read, then the error names the file.
    #[test]
    fn tags_are_required_and_unique() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tags.csv");
        for text in ["name,lo\nT1,1\n", "tag,lo\nT1,1\nT1,2\n", "tag,lo\n,1\n", ""] {
            std::fs::write(&path, text).unwrap();
            assert!(read(&path).unwrap_err().to_string().contains("tags.csv"), "{text}");
        }
    }
}
