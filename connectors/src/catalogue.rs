//! The tag catalogue: what is known about each tag, from a CSV or Parquet table.

use std::{collections::HashSet, fs::File, path::Path};

use arrow_array::{Array, ArrayRef, cast::AsArray, types::Float64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::{
    SourceError, TAG,
    decode::csv::{Fields, Lines},
    source::table::{flat_text, numbers, words},
};

/// A catalogue by columns: each is as long as `tags`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CatalogueTable {
    /// The tags, each once.
    pub tags: Vec<String>,
    /// Columns in which every cell is a number, NaN where a cell is empty.
    pub numbers: Vec<(String, Vec<f64>)>,
    /// The other columns, empty text where a cell is empty.
    pub texts: Vec<(String, Vec<String>)>,
}

impl CatalogueTable {
    /// The numbers in a column, if there is one.
    #[must_use]
    pub fn numbers(&self, column: &str) -> Option<&[f64]> {
        self.numbers.iter().find(|(name, _)| name == column).map(|(_, cells)| cells.as_slice())
    }

    /// The texts in a column, if there is one.
    #[must_use]
    pub fn texts(&self, column: &str) -> Option<&[String]> {
        self.texts.iter().find(|(name, _)| name == column).map(|(_, cells)| cells.as_slice())
    }
}

/// Reads a catalogue: `.parquet`, or CSV whatever the name. The column `tag` is required.
///
/// # Errors
/// A file that cannot be read, no column `tag`, a row without a tag, a tag or a column that occurs twice.
pub fn read(path: &Path) -> Result<CatalogueTable, SourceError> {
    let is_parquet = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("parquet"));
    let table = if is_parquet { read_parquet(path)? } else { read_csv(path)? };
    if let Some(i) = table.tags.iter().position(String::is_empty) {
        return Err(broken(path, format!("row {} has no tag", i + 1)));
    }
    let mut seen = HashSet::with_capacity(table.tags.len());
    if let Some(twice) = table.tags.iter().find(|tag| !seen.insert(tag.as_str())) {
        return Err(broken(path, format!("tag `{twice}` occurs twice")));
    }
    Ok(table)
}

fn read_csv(path: &Path) -> Result<CatalogueTable, SourceError> {
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
    let mut read = CatalogueTable { tags: column(tag).map(str::to_owned).collect(), ..Default::default() };
    for (i, name) in names.iter().enumerate().filter(|(i, _)| *i != tag) {
        let number = |cell: &str| if cell.is_empty() { Some(f64::NAN) } else { cell.parse::<f64>().ok() };
        match column(i).map(number).collect::<Option<Vec<_>>>() {
            Some(cells) => read.numbers.push((name.clone(), cells)),
            None => read.texts.push((name.clone(), column(i).map(str::to_owned).collect())),
        }
    }
    Ok(read)
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

fn read_parquet(path: &Path) -> Result<CatalogueTable, SourceError> {
    let file = File::open(path).map_err(|source| SourceError::Io { path: path.to_owned(), source })?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(|builder| builder.build())
        .map_err(|error| broken(path, error.to_string()))?;
    let mut table = CatalogueTable::default();
    for batch in reader {
        let batch = batch.map_err(|error| broken(path, error.to_string()))?;
        let schema = batch.schema();
        let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let tag = tag_column(path, &names)?;
        for (i, (name, array)) in names.iter().zip(batch.columns()).enumerate() {
            add(path, name, array, i == tag, &mut table)?;
        }
    }
    Ok(table)
}

/// Adds a column of a batch to the table.
fn add(
    path: &Path,
    name: &str,
    array: &ArrayRef,
    is_tag: bool,
    table: &mut CatalogueTable,
) -> Result<(), SourceError> {
    if let Some(text) = words(array).and_then(|text| flat_text(&text)) {
        let cells = text.iter().map(|word| word.unwrap_or("").to_owned());
        if is_tag {
            table.tags.extend(cells);
        } else {
            grown(&mut table.texts, name).extend(cells);
        }
        return Ok(());
    }
    match numbers(array).filter(|_| !is_tag) {
        Some(column) => {
            let cells = column.as_primitive::<Float64Type>().iter().map(|x| x.unwrap_or(f64::NAN));
            grown(&mut table.numbers, name).extend(cells);
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

/// The column of a name, which a file's later batches go on with.
fn grown<'a, T>(columns: &'a mut Vec<(String, Vec<T>)>, name: &str) -> &'a mut Vec<T> {
    let at = columns.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
        columns.push((name.to_owned(), Vec::new()));
        columns.len() - 1
    });
    &mut columns[at].1
}

/// Where the tags are; no two columns may have one name.
fn tag_column(path: &Path, names: &[String]) -> Result<usize, SourceError> {
    if let Some((i, name)) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
        return Err(broken(path, format!("column {} is the second `{name}`", i + 1)));
    }
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
        let table = read(&path).unwrap();
        assert_eq!(table.tags, ["T1", "T2"]);
        assert_eq!(table.numbers("hi"), Some([80.0, 1000.0].as_slice()));
        let lo = table.numbers("lo").unwrap();
        assert!(lo[0] == -10.0 && lo[1].is_nan());
        assert_eq!(table.texts("code"), Some(["7".to_owned(), "A7".to_owned()].as_slice()));
        assert_eq!(table.texts("unit"), Some(["degC".to_owned(), String::new()].as_slice()));
        assert_eq!(table.numbers("code"), None);
    }

    /// Given catalogues without tags, or with a tag or a column twice, when read, then the error names the file.
    #[test]
    fn tags_are_required_and_names_are_unique() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tags.csv");
        for text in ["name,lo\nT1,1\n", "tag,lo\nT1,1\nT1,2\n", "tag,lo\n,1\n", "tag,lo,lo\nT1,1,2\n", ""] {
            std::fs::write(&path, text).unwrap();
            assert!(read(&path).unwrap_err().to_string().contains("tags.csv"), "{text}");
        }
    }
}
