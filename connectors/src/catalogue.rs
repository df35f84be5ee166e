//! The tag catalogue: what is known about each tag, from a CSV or Parquet table.

use std::{fs::File, path::Path};

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
    pub numbers: Vec<(String, f64)>,
    /// Cells of the other columns, in the order of the columns.
    pub texts: Vec<(String, String)>,
}

impl CatalogueRow {
    /// The number in a column, if there is one.
    #[must_use]
    pub fn number(&self, column: &str) -> Option<f64> {
        self.numbers.iter().find(|(name, _)| name == column).map(|(_, number)| *number)
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
    let mut seen = std::collections::BTreeSet::new();
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
    let mut table: Vec<Vec<String>> = Vec::new();
    while let Some(line) = lines.next_record(true).map_err(refused)? {
        fields.cut(line);
        let row = (0..fields.len()).map(|i| std::str::from_utf8(fields.get(i)).map(str::to_owned)).collect();
        let row: Vec<String> = row_or(row, path, table.len() + 1)?;
        if table.first().is_some_and(|header| header.len() != row.len()) {
            return Err(broken(path, format!("line {} has {} fields", table.len() + 1, row.len())));
        }
        table.push(row);
    }
    if table.is_empty() {
        return Err(broken(path, "no header line".to_owned()));
    }
    let names = table.remove(0);
    let tag = tag_column(path, &names)?;
    let mut rows: Vec<CatalogueRow> =
        table.iter().map(|row| CatalogueRow { tag: row[tag].clone(), ..CatalogueRow::default() }).collect();
    for (i, name) in names.iter().enumerate().filter(|(i, _)| *i != tag) {
        let numeric = table.iter().all(|row| row[i].is_empty() || row[i].parse::<f64>().is_ok());
        let cells = table.iter().map(|row| row[i].as_str()).zip(&mut rows);
        for (cell, row) in cells.filter(|(cell, _)| !cell.is_empty()) {
            match cell.parse::<f64>() {
                Ok(number) if numeric && !number.is_nan() => row.numbers.push((name.clone(), number)),
                Ok(_) if numeric => {}
                _ => row.texts.push((name.clone(), cell.to_owned())),
            }
        }
    }
    Ok(rows)
}

fn row_or(
    row: Result<Vec<String>, std::str::Utf8Error>,
    path: &Path,
    line: usize,
) -> Result<Vec<String>, SourceError> {
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
            for (number, row) in column.as_primitive::<Float64Type>().iter().zip(rows) {
                row.numbers.extend(number.filter(|x| !x.is_nan()).map(|x| (name.to_owned(), x)));
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
        assert_eq!(rows[1].numbers, [("hi".to_owned(), 1000.0)]);
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
