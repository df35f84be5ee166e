//! JSON records to rows: one row, an array of rows, or a nested shape described by a mapping.
//!
//! A record is read once, front to back, without a tree of values; strings and rows land in buffers
//! that are kept between records. The plainest shape (flat rows with known keys) has a scanner of
//! its own; whatever it does not know it leaves to the general reader, so both accept the same.
//!
//! What is undecodable as a whole is one bad record. In an array each bad row is dead-lettered with
//! its index and its siblings flow. The tokens `NaN` and `Infinity`, which some writers emit, are not
//! JSON: `json_syntax`. Of a key written twice in one object the last counts.

use std::{borrow::Cow, collections::BTreeMap, fmt, ops::Range};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    rows::{Fault, Quality, RecordContext, Row, RowBuilder},
    time::TimeUnit,
};
use crate::SourceError;

mod flat;
mod leaf;
mod mapping;
mod read;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests;

pub use mapping::{JsonMapping, Preset};

use flat::FlatPlan;
use leaf::*;
use read::RecordSeed;

/// Decodes records by one mapping. Keeps its buffers, not its position.
#[derive(Debug)]
pub struct JsonDecoder {
    plan: Plan,
    flat: Option<FlatPlan>,
    scratch: Scratch,
}

impl JsonDecoder {
    /// Checks a mapping.
    ///
    /// # Errors
    /// A path with an empty part, a template with an unknown or unclosed brace, `value` beside
    /// `fields`, `tag` beside `tag_template`.
    pub fn new(mapping: &JsonMapping) -> Result<Self, SourceError> {
        let plan = Plan::new(mapping)?;
        let flat = plan.flat();
        Ok(Self { plan, flat, scratch: Scratch::default() })
    }

    /// Appends the rows of one record, and what is bad in it, to `out`.
    pub fn decode(&mut self, payload: &[u8], ctx: RecordContext<'_>, out: &mut RowBuilder) {
        let body = strip_confluent(payload);
        if body.iter().all(u8::is_ascii_whitespace) {
            out.push_bad(&ctx, None, Fault::new("empty", "the record has no bytes"), payload, 1);
            return;
        }
        let mark = out.mark();
        if let Some(flat) = &self.flat {
            if flat.decode(body, &ctx, out).is_some() {
                return;
            }
            out.truncate(mark);
        }
        if let Err(fault) = self.decode_general(body, &ctx, out) {
            out.truncate(mark);
            out.push_bad(&ctx, None, fault, payload, 1);
        }
    }

    fn decode_general(
        &mut self,
        body: &[u8],
        ctx: &RecordContext<'_>,
        out: &mut RowBuilder,
    ) -> Result<(), Fault> {
        let Self { plan, scratch, .. } = self;
        scratch.start_record();
        let mut reader = serde_json::Deserializer::from_slice(body);
        let mut record = Record { plan, scratch, body, ctx, out, fault: None };
        let read = RecordSeed { record: &mut record }.deserialize(&mut reader);
        let fault = record.fault.take();
        read.and_then(|()| reader.end()).map_err(|error| Fault::new("json_syntax", error.to_string()))?;
        if let Some(fault) = fault {
            return Err(fault);
        }
        if scratch.samples == 0 {
            return Err(Fault::new("empty", "the record has no rows"));
        }
        Ok(())
    }
}

/// The record without a Confluent frame (`0x00`, 4-byte schema id) in front of it.
fn strip_confluent(payload: &[u8]) -> &[u8] {
    match payload {
        [0, _, _, _, _, body @ ..] => body,
        _ => payload,
    }
}

// ---- Plan: the mapping, checked and resolved ----------------------------------------------------

#[derive(Debug)]
struct Plan {
    /// What is captured in a row.
    row: Tree,
    /// What is captured in the record around the rows; `None` when the record is the row.
    record: Option<Tree>,
    rows_path: Vec<String>,
    ts: Place,
    tag: TagPlan,
    value: Place,
    quality: Place,
    seq: Place,
    has_fields: bool,
    ts_unit: TimeUnit,
}

/// Slot of a part in the row and in the record around it.
#[derive(Debug, Clone)]
struct Place {
    name: String,
    row: usize,
    record: Option<usize>,
}

#[derive(Debug)]
enum TagPlan {
    Path(Place),
    Template(Vec<Part>),
}

#[derive(Debug)]
enum Part {
    Literal(String),
    Key,
    Topic,
    Field,
    Header(String),
    Path(Vec<Place>),
}

#[derive(Debug, Default)]
struct Tree {
    nodes: Vec<Node>,
    slots: usize,
}

#[derive(Debug, Default)]
struct Node {
    children: Vec<(String, usize)>,
    slots: Vec<usize>,
    is_fields: bool,
    is_rows: bool,
}

impl Tree {
    fn new() -> Self {
        Self { nodes: vec![Node::default()], slots: 0 }
    }

    fn node(&mut self, path: &[String]) -> usize {
        let mut at = 0;
        for key in path {
            at = match self.nodes[at].children.iter().find(|(k, _)| k == key) {
                Some(&(_, child)) => child,
                None => {
                    self.nodes.push(Node::default());
                    let child = self.nodes.len() - 1;
                    self.nodes[at].children.push((key.clone(), child));
                    child
                }
            };
        }
        at
    }

    fn slot(&mut self, path: &[String]) -> usize {
        let node = self.node(path);
        if let Some(&slot) = self.nodes[node].slots.first() {
            return slot;
        }
        let slot = self.slots;
        self.slots += 1;
        self.nodes[node].slots.push(slot);
        slot
    }
}

impl Plan {
    fn new(mapping: &JsonMapping) -> Result<Self, SourceError> {
        let telegraf = mapping.preset == Preset::Telegraf;
        let fields = match (&mapping.fields, &mapping.value) {
            (Some(_), Some(value)) => {
                return Err(refused("value", value, "either `value` or `fields`, not both"));
            }
            (Some(fields), None) => Some(fields.as_str()),
            (None, None) if telegraf => Some("fields"),
            (None, _) => None,
        };
        let template = match (&mapping.tag_template, &mapping.tag) {
            (Some(_), Some(tag)) => {
                return Err(refused("tag", tag, "either `tag` or `tag_template`, not both"));
            }
            (Some(template), None) => Some(template.as_str()),
            (None, None) if telegraf => Some("{tags.host}.{name}.{field}"),
            (None, None) if fields.is_some() => Some("{field}"),
            (None, _) => None,
        };
        let mut plan = Trees { row: Tree::new(), record: mapping.rows.as_ref().map(|_| Tree::new()) };
        let rows_path = match &mapping.rows {
            Some(rows) => split_path("rows", rows)?,
            None => Vec::new(),
        };
        if let Some(record) = &mut plan.record {
            let node = record.node(&rows_path);
            record.nodes[node].is_rows = true;
        }
        if let Some(fields) = fields {
            let node = plan.row.node(&split_path("fields", fields)?);
            plan.row.nodes[node].is_fields = true;
        }
        let default_ts = if telegraf { "timestamp" } else { "ts" };
        let ts = plan.place("ts", mapping.ts.as_deref().unwrap_or(default_ts))?;
        let value = plan.place("value", mapping.value.as_deref().unwrap_or("value"))?;
        let quality = plan.place("quality", mapping.quality.as_deref().unwrap_or("quality"))?;
        let seq = plan.place("seq", mapping.seq.as_deref().unwrap_or("seq"))?;
        let tag = match template {
            Some(template) => TagPlan::Template(plan.template(template)?),
            None => TagPlan::Path(plan.place("tag", mapping.tag.as_deref().unwrap_or("tag"))?),
        };
        let default_unit = if telegraf { TimeUnit::Seconds } else { TimeUnit::Auto };
        Ok(Self {
            row: plan.row,
            record: plan.record,
            rows_path,
            ts,
            tag,
            value,
            quality,
            seq,
            has_fields: fields.is_some(),
            ts_unit: mapping.ts_unit.clone().unwrap_or(default_unit),
        })
    }
}

impl Plan {
    /// The plan of the scanner, when rows are flat.
    fn flat(&self) -> Option<FlatPlan> {
        let TagPlan::Path(tag) = &self.tag else { return None };
        let keys = [&self.ts, tag, &self.value, &self.quality, &self.seq].map(|place| place.name.as_str());
        let flat = !self.has_fields && self.record.is_none() && !keys.iter().any(|key| key.contains('.'));
        let distinct = keys.iter().enumerate().all(|(i, key)| !keys[..i].contains(key));
        (flat && distinct).then(|| FlatPlan::new(keys, self.ts_unit.clone()))
    }
}

struct Trees {
    row: Tree,
    record: Option<Tree>,
}

impl Trees {
    fn place(&mut self, field: &'static str, path: &str) -> Result<Place, SourceError> {
        let keys = split_path(field, path)?;
        Ok(Place {
            name: path.to_owned(),
            row: self.row.slot(&keys),
            record: self.record.as_mut().map(|tree| tree.slot(&keys)),
        })
    }

    fn template(&mut self, template: &str) -> Result<Vec<Part>, SourceError> {
        const WANT: &str = "text with {path}, {field}, {key}, {topic} or {header:NAME} in it";
        let bad = || refused("tag_template", template, WANT);
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some(open) = rest.find(['{', '}']) {
            if rest.as_bytes().get(open) == Some(&b'}') {
                return Err(bad());
            }
            if open > 0 {
                parts.push(Part::Literal(rest[..open].to_owned()));
            }
            let close = rest.find('}').filter(|close| *close > open + 1).ok_or_else(bad)?;
            let name = &rest[open + 1..close];
            parts.push(match name {
                "key" => Part::Key,
                "topic" => Part::Topic,
                "field" => Part::Field,
                _ if name.starts_with("header:") => Part::Header(name[7..].to_owned()),
                _ if name.contains('{') => return Err(bad()),
                _ => {
                    let mut places = vec![self.place("tag_template", name)?];
                    if let Some(inner) = name.strip_prefix("payload.") {
                        places.push(self.place("tag_template", inner)?);
                    }
                    Part::Path(places)
                }
            });
            rest = &rest[close + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        if parts.is_empty() {
            return Err(bad());
        }
        Ok(parts)
    }
}

fn split_path(field: &'static str, path: &str) -> Result<Vec<String>, SourceError> {
    if path.split('.').any(str::is_empty) {
        return Err(refused(field, path, "keys joined by single dots"));
    }
    Ok(path.split('.').map(str::to_owned).collect())
}

fn refused(field: &'static str, got: &str, want: &'static str) -> SourceError {
    SourceError::Config { field, got: got.to_owned(), want }
}

// ---- Scratch: what one record holds -------------------------------------------------------------

/// A scalar as it was written; strings are ranges of [`Scratch::text`].
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cell {
    Absent,
    Null,
    Bool(bool),
    U64(u64),
    I64(i64),
    F64(f64),
    Text(usize, usize),
    Nested,
}

#[derive(Debug, Default)]
struct Scratch {
    text: String,
    cells: Vec<Cell>,
    record_cells: Vec<Cell>,
    fields: Vec<(usize, usize, Cell)>,
    rows: Vec<PendingRow>,
    tag: String,
    /// True when rows of this record are told apart by index.
    many: bool,
    /// Rows seen in this record, in document order.
    ordinal: usize,
    /// Index of the next sample.
    index: u32,
    /// Samples and bad samples.
    samples: usize,
    /// Where each row is in the record; found when a row of many is bad.
    ranges: Option<Vec<Range<usize>>>,
}

#[derive(Debug, Clone)]
struct PendingRow {
    is_object: bool,
    cells: usize,
    fields: Range<usize>,
}

impl Scratch {
    fn start_record(&mut self) {
        self.many = false;
        self.ordinal = 0;
        self.index = 0;
        self.samples = 0;
        self.ranges = None;
        self.start_rows();
    }

    fn start_rows(&mut self) {
        self.text.clear();
        self.cells.clear();
        self.record_cells.clear();
        self.fields.clear();
        self.rows.clear();
    }

    fn keep(&mut self, text: &str) -> Cell {
        let start = self.text.len();
        self.text.push_str(text);
        Cell::Text(start, self.text.len())
    }
}

/// One record being read.
struct Record<'a, 'c> {
    plan: &'a Plan,
    scratch: &'a mut Scratch,
    body: &'a [u8],
    ctx: &'a RecordContext<'c>,
    out: &'a mut RowBuilder,
    /// What is wrong with the record as a whole, though it is JSON.
    fault: Option<Fault>,
}

impl Record<'_, '_> {
    /// Starts a row; returns where its cells begin.
    fn start_row(&mut self, is_object: bool) -> usize {
        let cells = self.scratch.cells.len();
        self.scratch.cells.resize(cells + self.plan.row.slots, Cell::Absent);
        let fields = self.scratch.fields.len();
        self.scratch.rows.push(PendingRow { is_object, cells, fields: fields..fields });
        cells
    }

    fn end_row(&mut self) {
        let end = self.scratch.fields.len();
        if let Some(row) = self.scratch.rows.last_mut() {
            row.fields.end = end;
        }
    }

    /// Emits the rows that were read.
    fn emit(&mut self) {
        let rows = std::mem::take(&mut self.scratch.rows);
        for row in &rows {
            let ordinal = self.scratch.ordinal;
            self.scratch.ordinal += 1;
            if let Err((fault, index, count)) = self.emit_row(row) {
                self.scratch.samples += 1;
                let index = (self.scratch.many || self.plan.has_fields).then_some(index);
                let raw = raw_row(self.plan, self.scratch, self.body, ordinal);
                self.out.push_bad(self.ctx, index, fault, raw, count);
            }
        }
        self.scratch.rows = rows;
        self.scratch.start_rows();
    }

    /// Emits one row, or says what is wrong with it, at which index, for how many samples.
    fn emit_row(&mut self, row: &PendingRow) -> Result<(), (Fault, u32, u64)> {
        let first = self.scratch.index;
        let whole = |fault| (fault, first, 1);
        let parts = self.parts(row).map_err(|fault| {
            self.scratch.index += 1;
            whole(fault)
        })?;
        let (ts_ns, quality, seq) = parts;
        if !self.plan.has_fields {
            self.scratch.index += 1;
            let value = self.cell(row, &self.plan.value);
            let value = number(value, &self.plan.value.name).map_err(whole)?;
            self.push(row, first, None, ts_ns, value, quality, seq).map_err(whole)?;
            return Ok(());
        }
        if row.fields.is_empty() {
            self.scratch.index += 1;
            return Err(whole(Fault::new("missing_field", "no map of fields in the row")));
        }
        let mut bad: Option<(Fault, u32, u64)> = None;
        for i in row.fields.clone() {
            let (start, end, cell) = self.scratch.fields[i];
            if cell == Cell::Null {
                self.scratch.samples += 1;
                continue;
            }
            let index = self.scratch.index;
            self.scratch.index += 1;
            let pushed = number(cell, &self.scratch.text[start..end])
                .and_then(|value| self.push(row, index, Some(start..end), ts_ns, value, quality, seq));
            if let Err(fault) = pushed {
                bad.get_or_insert((fault, index, 0)).2 += 1;
            }
        }
        bad.map_or(Ok(()), Err)
    }

    fn parts(&self, row: &PendingRow) -> Result<(i64, QualityCell, Option<i64>), Fault> {
        if !row.is_object {
            return Err(Fault::new("wrong_type", "a row must be an object"));
        }
        let plan = self.plan;
        let text = &self.scratch.text;
        let ts_ns = time(self.cell(row, &plan.ts), &plan.ts.name, &plan.ts_unit, text)?;
        let quality = match self.cell(row, &plan.quality) {
            Cell::Absent | Cell::Null => QualityCell::Absent,
            Cell::Text(start, end) => QualityCell::Name(start, end),
            Cell::U64(code) if u32::try_from(code).is_ok() => QualityCell::Code(code as u32),
            other => return Err(wrong_type(&plan.quality.name, other, "a word or a 32-bit number")),
        };
        let seq = match self.cell(row, &plan.seq) {
            Cell::Absent | Cell::Null => None,
            Cell::U64(seq) if i64::try_from(seq).is_ok() => Some(seq as i64),
            Cell::I64(seq) => Some(seq),
            other => return Err(wrong_type(&plan.seq.name, other, "a 64-bit whole number")),
        };
        Ok((ts_ns, quality, seq))
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one row")]
    fn push(
        &mut self,
        row: &PendingRow,
        index: u32,
        field: Option<Range<usize>>,
        ts_ns: i64,
        value: f64,
        quality: QualityCell,
        seq: Option<i64>,
    ) -> Result<(), Fault> {
        let mut rendered = std::mem::take(&mut self.scratch.tag);
        rendered.clear();
        let text = &self.scratch.text;
        let tag = match &self.plan.tag {
            TagPlan::Path(place) => match self.cell(row, place) {
                Cell::Text(start, end) => Ok(&text[start..end]),
                Cell::Absent | Cell::Null => Err(missing(&place.name)),
                other => Err(wrong_type(&place.name, other, "a string")),
            },
            TagPlan::Template(parts) => {
                let field = field.map(|range| &text[range]);
                parts
                    .iter()
                    .try_for_each(|part| self.render(row, part, field, &mut rendered))
                    .map(|()| rendered.as_str())
            }
        };
        let result = tag.and_then(|tag| {
            if tag.is_empty() {
                return Err(Fault::new("missing_field", "the tag is empty"));
            }
            let quality = match quality {
                QualityCell::Absent => Quality::Absent,
                QualityCell::Code(code) => Quality::Code(code),
                QualityCell::Name(start, end) => Quality::Name(&text[start..end]),
            };
            self.out.push(self.ctx, Row { index, ts_ns, tag, value, quality, seq });
            Ok(())
        });
        self.scratch.tag = rendered;
        if result.is_ok() {
            self.scratch.samples += 1;
        }
        result
    }

    fn render(
        &self,
        row: &PendingRow,
        part: &Part,
        field: Option<&str>,
        to: &mut String,
    ) -> Result<(), Fault> {
        let text = |bytes: &[u8], what: &str| {
            std::str::from_utf8(bytes)
                .map(str::to_owned)
                .map_err(|_| Fault::new("wrong_type", format!("{what} is not UTF-8")))
        };
        match part {
            Part::Literal(literal) => to.push_str(literal),
            Part::Key => {
                let key = self.ctx.key.ok_or_else(|| missing("key"))?;
                to.push_str(&text(key, "the key")?);
            }
            Part::Topic => to.push_str(self.ctx.topic),
            Part::Field => to.push_str(field.ok_or_else(|| missing("field"))?),
            Part::Header(name) => {
                let value = self.ctx.headers.get(name);
                let value = value.ok_or_else(|| missing(&format!("header:{name}")))?;
                to.push_str(&text(value, "the header")?);
            }
            Part::Path(places) => {
                let cells = places.iter().map(|place| self.cell(row, place));
                let found = cells.into_iter().find(|cell| *cell != Cell::Absent);
                let name = &places[0].name;
                match found.unwrap_or(Cell::Absent) {
                    Cell::Absent | Cell::Null => return Err(missing(name)),
                    Cell::Text(start, end) => to.push_str(&self.scratch.text[start..end]),
                    Cell::U64(n) => to.push_str(&n.to_string()),
                    Cell::I64(n) => to.push_str(&n.to_string()),
                    other => return Err(wrong_type(name, other, "a string or a whole number")),
                }
            }
        }
        Ok(())
    }

    fn cell(&self, row: &PendingRow, place: &Place) -> Cell {
        let cell = self.scratch.cells.get(row.cells + place.row).copied();
        match (cell.unwrap_or(Cell::Absent), place.record) {
            (Cell::Absent, Some(slot)) => {
                self.scratch.record_cells.get(slot).copied().unwrap_or(Cell::Absent)
            }
            (cell, _) => cell,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum QualityCell {
    Absent,
    Code(u32),
    Name(usize, usize),
}
