//! Files of lines: CSV and JSON.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use arrow_schema::SchemaRef;

use super::{FileReader, FilesConfig, Layout, Opened, Reader, broken};
use crate::{
    BadRecord, SourceError,
    decode::{
        csv::{Fields, Lines},
        time::TimeUnit,
    },
    source::table::{Body, Cell, Chunk, Fault, Long, Plan, Rows, TagFrom, bad_record},
};

impl FileReader {
    pub(super) fn next_csv(&mut self) -> Result<Option<Chunk>, SourceError> {
        let FileReader { path, origin, plan, unit, schema, max_rows, body } = self;
        let Reader::Csv { lines, fields, rows, first } = body else { return Ok(None) };
        let mut bad = Vec::new();
        while rows.len() < *max_rows && bad.len() < *max_rows {
            let line =
                lines.next_record(true).map_err(|source| SourceError::Io { path: path.clone(), source })?;
            let Some(line) = line else { break };
            fields.cut(line);
            if fields.len() != plan.names.len() {
                let reason = format!("{} fields, the header has {}", fields.len(), plan.names.len());
                bad.push(bad_record(origin, rows.len(), "wrong_fields", reason, line.to_vec()));
                continue;
            }
            let cell = |i| match fields.get(i) {
                b"" => Cell::Absent,
                text => Cell::Plain(text),
            };
            if std::mem::take(first) {
                need_unit(path, plan, unit, cell(plan.ts))?;
            }
            let row = rows.len();
            note(rows.push(plan, unit, cell), row, line, origin, &mut bad);
        }
        Ok(chunk(rows, bad, schema))
    }

    pub(super) fn next_json(&mut self) -> Result<Option<Chunk>, SourceError> {
        let FileReader { path, origin, plan, unit, schema, max_rows, body } = self;
        let Reader::Json { lines, rows, first } = body else { return Ok(None) };
        let mut bad = Vec::new();
        while rows.len() < *max_rows && bad.len() < *max_rows {
            let line =
                lines.next_record(false).map_err(|source| SourceError::Io { path: path.clone(), source })?;
            let Some(line) = line else { break };
            let row = rows.len();
            let object = match serde_json::from_slice(line) {
                Ok(serde_json::Value::Object(object)) => object,
                Ok(_) => {
                    let reason = "not a JSON object".to_owned();
                    bad.push(bad_record(origin, row, "wrong_type", reason, line.to_vec()));
                    continue;
                }
                Err(error) => {
                    let code = if std::str::from_utf8(line).is_ok() { "json_syntax" } else { "not_utf8" };
                    bad.push(bad_record(origin, row, code, error.to_string(), line.to_vec()));
                    continue;
                }
            };
            let cell = |i: usize| match object.get(&plan.names[i]) {
                None | Some(serde_json::Value::Null) => Cell::Absent,
                Some(serde_json::Value::String(text)) => Cell::Text(text),
                Some(serde_json::Value::Number(number)) => Cell::Number(number),
                Some(_) => Cell::Other,
            };
            if std::mem::take(first) {
                need_unit(path, plan, unit, cell(plan.ts))?;
            }
            note(rows.push(plan, unit, cell), row, line, origin, &mut bad);
        }
        Ok(chunk(rows, bad, schema))
    }
}

/// Turns what was wrong with a row or its cells into bad records.
fn note(
    outcome: Result<Vec<(u32, Fault)>, Fault>,
    row: usize,
    line: &[u8],
    origin: &str,
    bad: &mut Vec<BadRecord>,
) {
    match outcome {
        Err(fault) => bad.push(bad_record(origin, row, fault.code, fault.reason, line.to_vec())),
        Ok(cells) => bad.extend(cells.into_iter().map(|(index, fault)| {
            let record = bad_record(origin, row, fault.code, fault.reason, line.to_vec());
            BadRecord { index: Some(index), ..record }
        })),
    }
}

/// What has been gathered; `None` when that is nothing.
fn chunk(rows: &mut Rows, bad: Vec<BadRecord>, schema: &SchemaRef) -> Option<Chunk> {
    (rows.len() > 0 || !bad.is_empty()).then(|| Chunk { batch: rows.finish(schema), bad })
}

/// Refuses a file whose times are numbers when no unit is configured, instead of every row of it.
fn need_unit(path: &Path, plan: &Plan, unit: &TimeUnit, ts: Cell<'_>) -> Result<(), SourceError> {
    let is_number = match ts {
        Cell::Number(_) => true,
        Cell::Plain(text) => std::str::from_utf8(text).is_ok_and(|text| text.parse::<f64>().is_ok()),
        Cell::Absent | Cell::Text(_) | Cell::Other => false,
    };
    if is_number && *unit == TimeUnit::Auto {
        return Err(SourceError::NoTimeUnit { path: path.to_owned(), column: plan.names[plan.ts].clone() });
    }
    Ok(())
}

pub(super) fn open_csv(
    path: &Path,
    config: &FilesConfig,
    file: File,
    default: u8,
) -> Result<Opened, SourceError> {
    let refused = |source| SourceError::Io { path: path.to_owned(), source };
    let delimiter = ascii("csv.delimiter", config.csv.delimiter)?.unwrap_or(default);
    let comment = ascii("csv.comment", config.csv.comment)?;
    let bytes = file.metadata().map_err(refused)?.len();
    let mut input = BufReader::with_capacity(BUFFER_BYTES, file);
    let rows = lines_hint(input.fill_buf().map_err(refused)?, bytes);
    let mut lines = Lines::new(input, comment);
    for _ in 0..config.csv.skip_lines {
        lines.next_record(false).map_err(refused)?;
    }
    let mut fields = Fields::new(delimiter);
    let names = match &config.csv.columns {
        Some(columns) => columns.clone(),
        None => {
            let header = lines.next_record(true).map_err(refused)?;
            fields.cut(header.ok_or_else(|| broken(path, "csv", &"no header line"))?);
            (0..fields.len())
                .map(|i| std::str::from_utf8(fields.get(i)).map(str::to_owned))
                .collect::<Result<_, _>>()
                .map_err(|_| broken(path, "csv", &"the header is not UTF-8"))?
        }
    };
    let plan = Plan::new(config, path, names)?;
    let rows_builder = Rows::new(&plan);
    Ok((plan, Reader::Csv { lines, fields, rows: rows_builder, first: true }, Some(rows)))
}

fn ascii(field: &'static str, character: Option<char>) -> Result<Option<u8>, SourceError> {
    match character {
        Some(c) if !c.is_ascii() || matches!(c, '"' | '\n' | '\r') => {
            let want = "one ASCII character that is no quote or line end";
            Err(SourceError::Config { field, got: c.to_string(), want })
        }
        character => Ok(character.map(|c| c as u8)),
    }
}

pub(super) fn open_json(path: &Path, config: &FilesConfig, file: File) -> Result<Opened, SourceError> {
    let refused = |source| SourceError::Io { path: path.to_owned(), source };
    let bytes = file.metadata().map_err(refused)?.len();
    let names = json_names(path, config)?;
    let plan = Plan::new(config, path, names)?;
    let mut input = BufReader::with_capacity(BUFFER_BYTES, file);
    let hint = lines_hint(input.fill_buf().map_err(refused)?, bytes);
    let rows = Rows::new(&plan);
    Ok((plan, Reader::Json { lines: Lines::new(input, None), rows, first: true }, Some(hint)))
}

/// The fields of a file of objects. Its first object with a time tells the layout; in the wide
/// layout every object may bring new tags, so the whole file is looked through.
fn json_names(path: &Path, config: &FilesConfig) -> Result<Vec<String>, SourceError> {
    let refused = |source| SourceError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(refused)?;
    let mut lines = Lines::new(BufReader::with_capacity(BUFFER_BYTES, file), None);
    let mut seen = BTreeSet::new();
    let mut layout = None;
    let mut without_ts = None;
    while let Some(line) = lines.next_record(false).map_err(refused)? {
        let Ok(serde_json::Value::Object(object)) = serde_json::from_slice(line) else { continue };
        if !object.contains_key(&config.ts) {
            without_ts.get_or_insert_with(|| object.keys().cloned().collect::<Vec<_>>());
            continue;
        }
        if layout.is_none() {
            let found = Plan::new(config, path, object.keys().cloned().collect());
            let single =
                matches!(&found, Ok(Plan { body: Body::Long(Long { tag: TagFrom::Name(_), .. }), .. }));
            let long = config.layout == Layout::Long
                || config.layout == Layout::Auto
                    && object.contains_key(&config.tag)
                    && object.contains_key(&config.value);
            layout = Some(match (single, long) {
                (true, _) => Layout::Single,
                (_, true) => Layout::Long,
                _ if config.layout == Layout::Single => Layout::Single,
                _ => Layout::Wide,
            });
        }
        if layout != Some(Layout::Wide) {
            break;
        }
        for (name, _) in object {
            if name != config.ts {
                seen.insert(name);
            }
        }
    }
    let fixed = |names: &[&String]| {
        let names = names.iter().copied().chain(&config.quality).chain(&config.seq);
        names.cloned().collect::<Vec<_>>()
    };
    match (layout, without_ts) {
        (None, Some(found)) => {
            Err(SourceError::NoColumn { path: path.to_owned(), column: config.ts.clone(), found })
        }
        (Some(Layout::Wide), _) => Ok(std::iter::once(config.ts.clone()).chain(seen).collect()),
        (Some(Layout::Single), _) => Ok(fixed(&[&config.ts, &config.value])),
        _ => Ok(fixed(&[&config.ts, &config.tag, &config.value])),
    }
}

/// About how many lines a file of `bytes` has, judged by its beginning.
fn lines_hint(beginning: &[u8], bytes: u64) -> u64 {
    let lines = memchr::memchr_iter(b'\n', beginning).count().max(1) as u64;
    if beginning.len() as u64 >= bytes { lines } else { bytes * lines / beginning.len().max(1) as u64 }
}

/// Bytes read at once from a text file.
const BUFFER_BYTES: usize = 256 * 1024;
