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
    flat::FlatPlan,
    rows::{Fault, Quality, RecordContext, Row, RowBuilder},
    time::TimeUnit,
};
use crate::SourceError;

/// Where in a JSON record the parts of a row are. Paths are keys joined by dots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonMapping {
    /// Names for a common shape; every other field changes one of them.
    #[serde(default)]
    pub preset: Preset,
    /// Path of the array of rows in the record: `"payload.samples"`. Absent: the record is a row, or
    /// an array of rows. Parts missing in a row are looked for in the record around it.
    pub rows: Option<String>,
    /// Path of the time. Default `ts` (`timestamp` for telegraf).
    pub ts: Option<String>,
    /// Path of the tag. Default `tag`.
    pub tag: Option<String>,
    /// Path of the value: a number, or null for a missing sample. Default `value`.
    pub value: Option<String>,
    /// Path of the quality, a whole number or a word; need not be in every row. Default `quality`.
    pub quality: Option<String>,
    /// Path of the sequence number; need not be in every row. Default `seq`.
    pub seq: Option<String>,
    /// Path of a map of values, each a sample of its own: `{"fields": {"a": 1.0, "b": 2.0}}`. A null
    /// in it is no sample. Takes the place of `value`. Default `fields` for telegraf.
    pub fields: Option<String>,
    /// How a tag is put together: `"{device}.{field}"`. In braces: a path in the row or the record
    /// around it (`{payload.device}` is that path, or `device` when there is no such), `{field}` (the
    /// key in `fields`), `{key}`, `{topic}`, `{header:NAME}`. Takes the place of `tag`.
    pub tag_template: Option<String>,
    /// How the time is written: `auto` (RFC 3339 and its like; plain numbers are refused), `rfc3339`,
    /// `s`, `ms`, `us`, `ns`, or a pattern. Default `auto` (`s` for telegraf).
    pub ts_unit: Option<TimeUnit>,
}

/// A common shape of JSON telemetry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// `{"ts": .., "tag": "..", "value": ..}`.
    #[default]
    Flat,
    /// `{"name": "..", "tags": {"host": ".."}, "fields": {"a": 1.0}, "timestamp": 1700000000}`, tags
    /// named `{tags.host}.{name}.{field}`.
    Telegraf,
}

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

// ---- Reading with serde -------------------------------------------------------------------------

/// The record: an object or an array of objects.
struct RecordSeed<'r, 'a, 'c> {
    record: &'r mut Record<'a, 'c>,
}

impl<'de> DeserializeSeed<'de> for RecordSeed<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl RecordSeed<'_, '_, '_> {
    fn not_an_object<E>(self) -> Result<(), E> {
        if self.record.scratch.many {
            self.record.start_row(false);
            self.record.emit();
        } else {
            let fault = Fault::new("wrong_type", "a record must be an object or an array");
            self.record.fault = Some(fault);
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for RecordSeed<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let plan = self.record.plan;
        match &plan.record {
            None => {
                let base = self.record.start_row(true);
                read_map(map, self.record, Target::Row(base), 0)?;
                self.record.end_row();
            }
            Some(tree) => {
                self.record.scratch.record_cells.resize(tree.slots, Cell::Absent);
                let before = self.record.scratch.rows.len();
                let seen = read_map(map, self.record, Target::Record, 0)?;
                if self.record.scratch.rows.len() == before && !seen {
                    self.record.fault = Some(Fault::new(
                        "missing_field",
                        format!("no rows at `{}`", plan.rows_path.join(".")),
                    ));
                }
            }
        }
        self.record.emit();
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if self.record.scratch.many {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return self.not_an_object();
        }
        self.record.scratch.many = true;
        while seq.next_element_seed(RecordSeed { record: self.record })?.is_some() {}
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.not_an_object()
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.not_an_object()
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.not_an_object()
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.not_an_object()
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.not_an_object()
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        self.not_an_object()
    }
}

/// Whose slots are being filled.
#[derive(Clone, Copy)]
enum Target {
    /// A row, whose cells begin here.
    Row(usize),
    /// The record around the rows.
    Record,
}

impl Target {
    fn tree(self, plan: &Plan) -> &Tree {
        match self {
            Target::Row(_) => &plan.row,
            Target::Record => plan.record.as_ref().unwrap_or(&plan.row),
        }
    }
}

/// Reads an object at a node; tells whether the array of rows was in it.
fn read_map<'de, A: MapAccess<'de>>(
    mut map: A,
    record: &mut Record<'_, '_>,
    target: Target,
    node: usize,
) -> Result<bool, A::Error> {
    let plan = record.plan;
    let children = &target.tree(plan).nodes[node].children;
    let mut rows_seen = false;
    while let Some(child) = map.next_key_seed(KeySeed { children })? {
        match child {
            Some(child) => {
                rows_seen |= map.next_value_seed(NodeSeed { record, target, node: child })?;
            }
            None => {
                map.next_value::<IgnoredAny>()?;
            }
        }
    }
    Ok(rows_seen)
}

struct KeySeed<'p> {
    children: &'p [(String, usize)],
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.children.iter().find(|(k, _)| k == key).map(|(_, child)| *child))
    }
}

/// A value at a node of the plan. Its outcome tells whether the array of rows was in it.
struct NodeSeed<'r, 'a, 'c> {
    record: &'r mut Record<'a, 'c>,
    target: Target,
    node: usize,
}

impl NodeSeed<'_, '_, '_> {
    fn set(&mut self, cell: Cell) {
        let slots = &self.target.tree(self.record.plan).nodes[self.node].slots;
        for &slot in slots {
            let cells = match self.target {
                Target::Row(base) => self.record.scratch.cells.get_mut(base + slot),
                Target::Record => self.record.scratch.record_cells.get_mut(slot),
            };
            if let Some(place) = cells {
                *place = cell;
            }
        }
    }

    fn scalar<E>(mut self, cell: Cell) -> Result<bool, E> {
        self.set(cell);
        let node = &self.target.tree(self.record.plan).nodes[self.node];
        if node.is_rows && cell != Cell::Null {
            self.record.fault = Some(Fault::new("wrong_type", "the rows must be an array"));
        }
        Ok(node.is_rows && cell != Cell::Null)
    }
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_, '_, '_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_, '_, '_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        self.scalar(Cell::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<bool, E> {
        self.scalar(Cell::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<bool, E> {
        self.scalar(Cell::I64(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<bool, E> {
        self.scalar(Cell::U64(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<bool, E> {
        self.scalar(Cell::F64(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<bool, E> {
        let cell = self.record.scratch.keep(value);
        self.scalar(cell)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<bool, A::Error> {
        self.set(Cell::Nested);
        let node = &self.target.tree(self.record.plan).nodes[self.node];
        if node.is_rows {
            self.record.scratch.many = true;
            let base = self.record.start_row(true);
            read_map(map, self.record, Target::Row(base), 0)?;
            self.record.end_row();
            return Ok(true);
        }
        if node.is_fields {
            let from = self.record.scratch.rows.last().map_or(0, |row| row.fields.start);
            self.record.scratch.fields.truncate(from);
            while map.next_key_seed(FieldKeySeed { scratch: self.record.scratch })?.is_some() {
                map.next_value_seed(FieldSeed { scratch: self.record.scratch })?;
            }
            return Ok(false);
        }
        read_map(map, self.record, self.target, self.node)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<bool, A::Error> {
        self.set(Cell::Nested);
        let is_rows = self.target.tree(self.record.plan).nodes[self.node].is_rows;
        if !is_rows {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(false);
        }
        self.record.scratch.many = true;
        while seq.next_element_seed(RowSeed { record: self.record })?.is_some() {}
        Ok(true)
    }
}

/// A row inside the array of rows.
struct RowSeed<'r, 'a, 'c> {
    record: &'r mut Record<'a, 'c>,
}

impl RowSeed<'_, '_, '_> {
    fn not_an_object<E>(self) -> Result<(), E> {
        self.record.start_row(false);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for RowSeed<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let base = self.record.start_row(true);
        read_map(map, self.record, Target::Row(base), 0)?;
        self.record.end_row();
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        self.not_an_object()
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.not_an_object()
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.not_an_object()
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.not_an_object()
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.not_an_object()
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.not_an_object()
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        self.not_an_object()
    }
}

/// A key of the map of fields, kept as text.
struct FieldKeySeed<'s> {
    scratch: &'s mut Scratch,
}

impl<'de> DeserializeSeed<'de> for FieldKeySeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldKeySeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<(), E> {
        let start = self.scratch.text.len();
        self.scratch.text.push_str(key);
        self.scratch.fields.push((start, self.scratch.text.len(), Cell::Absent));
        Ok(())
    }
}

/// A value of the map of fields.
struct FieldSeed<'s> {
    scratch: &'s mut Scratch,
}

impl FieldSeed<'_> {
    fn set<E>(self, cell: Cell) -> Result<(), E> {
        if let Some(field) = self.scratch.fields.last_mut() {
            field.2 = cell;
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for FieldSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FieldSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.set(Cell::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.set(Cell::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.set(Cell::I64(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.set(Cell::U64(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.set(Cell::F64(value))
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        self.set(Cell::Text(0, 0))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.set(Cell::Nested)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        self.set(Cell::Nested)
    }
}

// ---- Leaves -------------------------------------------------------------------------------------

fn missing(name: &str) -> Fault {
    Fault::new("missing_field", format!("no `{name}`"))
}

fn wrong_type(name: &str, got: Cell, want: &str) -> Fault {
    let got = match got {
        Cell::Absent => "nothing",
        Cell::Null => "null",
        Cell::Bool(_) => "a boolean",
        Cell::U64(_) | Cell::I64(_) | Cell::F64(_) => "a number",
        Cell::Text(..) => "a string",
        Cell::Nested => "an object or an array",
    };
    Fault::new("wrong_type", format!("`{name}` is {got}, want {want}"))
}

fn number(cell: Cell, name: &str) -> Result<f64, Fault> {
    match cell {
        Cell::F64(value) => Ok(value),
        Cell::U64(value) => Ok(value as f64),
        Cell::I64(value) => Ok(value as f64),
        Cell::Null => Ok(f64::NAN),
        Cell::Absent => Err(missing(name)),
        other => Err(wrong_type(name, other, "a number or null")),
    }
}

fn time(cell: Cell, name: &str, unit: &TimeUnit, text: &str) -> Result<i64, Fault> {
    let bad = |what: &str| Fault::new("bad_timestamp", format!("`{name}` {what}"));
    let out_of_range = || bad("does not fit 64-bit nanoseconds");
    match cell {
        Cell::Absent | Cell::Null => Err(missing(name)),
        Cell::Bool(_) | Cell::Nested => Err(wrong_type(name, cell, "a time")),
        Cell::Text(start, end) => {
            let text = &text[start..end];
            let shown = || text.chars().take(40).collect::<String>();
            unit.parse(text.as_bytes())
                .ok_or_else(|| bad(&format!("= {:?} is no time of the form `{}`", shown(), name_of(unit))))
        }
        Cell::U64(_) | Cell::I64(_) | Cell::F64(_) => {
            let Some(scale_ns) = unit.scale_ns() else {
                return Err(bad("is a number: set `ts_unit` to s, ms, us or ns"));
            };
            match cell {
                Cell::U64(whole) => i64::try_from(whole).ok().and_then(|whole| whole.checked_mul(scale_ns)),
                Cell::I64(whole) => whole.checked_mul(scale_ns),
                Cell::F64(value) => decimal_ns(value, scale_ns),
                _ => None,
            }
            .ok_or_else(out_of_range)
        }
    }
}

fn name_of(unit: &TimeUnit) -> String {
    String::from(unit.clone())
}

/// A time with decimals. The whole part is exact; the decimals are those a 64-bit number holds.
fn decimal_ns(value: f64, scale_ns: i64) -> Option<i64> {
    let whole = value.floor();
    if whole.abs() >= 9.2e18 {
        return None;
    }
    let part_ns = ((value - whole) * scale_ns as f64).round() as i64;
    (whole as i64).checked_mul(scale_ns)?.checked_add(part_ns)
}

/// The bytes of the row at `ordinal`; the whole record when it is the only one or cannot be told.
fn raw_row<'b>(plan: &Plan, scratch: &mut Scratch, body: &'b [u8], ordinal: usize) -> &'b [u8] {
    if !scratch.many {
        return body;
    }
    let ranges = scratch.ranges.get_or_insert_with(|| {
        let mut ranges = Vec::new();
        find_rows(plan, body, &mut ranges).unwrap_or_default();
        ranges
    });
    ranges.get(ordinal).and_then(|range| body.get(range.clone())).unwrap_or(body)
}

fn find_rows(plan: &Plan, body: &[u8], ranges: &mut Vec<Range<usize>>) -> Option<()> {
    let text = std::str::from_utf8(body).ok()?;
    let range = |raw: &str| {
        let start = raw.as_ptr() as usize - text.as_ptr() as usize;
        start..start + raw.len()
    };
    let is_array = text.trim_start().starts_with('[');
    let messages: Vec<&RawValue> = match is_array {
        true => serde_json::from_str(text).ok()?,
        false => vec![serde_json::from_str(text).ok()?],
    };
    for message in messages {
        if plan.record.is_none() || !message.get().starts_with('{') {
            ranges.push(range(message.get()));
            continue;
        }
        let mut at = message;
        for key in &plan.rows_path {
            let mut map: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(at.get()).ok()?;
            at = map.remove(key.as_str())?;
        }
        if at.get().starts_with('[') {
            let rows: Vec<&RawValue> = serde_json::from_str(at.get()).ok()?;
            ranges.extend(rows.iter().map(|row| range(row.get())));
        } else {
            ranges.push(range(at.get()));
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow_array::{cast::AsArray, types::*};
    use proptest::prelude::*;

    use super::*;
    use crate::{Polled, decode::rows::NoHeaders};

    fn mapping(json: &str) -> JsonMapping {
        serde_json::from_str(json).unwrap()
    }

    fn context(offset: i64) -> RecordContext<'static> {
        RecordContext { offset, record_ts: None, key: Some(b"k"), topic: "t", headers: &NoHeaders }
    }

    fn decode(mapping: &JsonMapping, payload: &[u8]) -> Polled {
        let mut out = RowBuilder::new(0);
        JsonDecoder::new(mapping).unwrap().decode(payload, context(7), &mut out);
        out.finish()
    }

    fn decode_generally(mapping: &JsonMapping, payload: &[u8]) -> Polled {
        let mut out = RowBuilder::new(0);
        let mut decoder = JsonDecoder::new(mapping).unwrap();
        decoder.flat = None;
        decoder.decode(payload, context(7), &mut out);
        out.finish()
    }

    fn rows(polled: &Polled) -> Vec<(i64, String, f64)> {
        let batch = &polled.batch;
        let ts = batch.column(0).as_primitive::<TimestampNanosecondType>();
        let (tag, value) =
            (batch.column(1).as_string::<i32>(), batch.column(2).as_primitive::<Float64Type>());
        (0..batch.num_rows()).map(|i| (ts.value(i), tag.value(i).to_owned(), value.value(i))).collect()
    }

    fn codes(polled: &Polled) -> Vec<(Option<u32>, &'static str)> {
        polled.bad.iter().map(|bad| (bad.index, bad.code)).collect()
    }

    /// Given flat rows, alone and in an array, when decoded, then each is a row in its place.
    #[test]
    fn flat_rows_alone_and_in_an_array_are_rows() {
        let ms = mapping(r#"{"ts_unit":"ms"}"#);
        let one = decode(&ms, br#"{"ts":1000,"tag":"a","value":1.5,"seq":3,"quality":192}"#);
        assert_eq!(rows(&one), [(1_000_000_000, "a".to_owned(), 1.5)]);
        assert_eq!(one.batch.column_by_name("seq").unwrap().as_primitive::<Int64Type>().value(0), 3);
        assert_eq!(one.batch.column_by_name("quality").unwrap().as_primitive::<UInt32Type>().value(0), 192);
        let two = decode(&ms, br#" [{"ts":1,"tag":"a","value":1},{"value":null,"tag":"b","ts":2}] "#);
        assert_eq!(two.spans.len(), 1);
        assert_eq!(two.spans[0].rows, 2);
        assert!(rows(&two)[1].2.is_nan());
        let auto = decode(&JsonMapping::default(), br#"{"ts":"1970-01-01T00:00:01Z","tag":"a","value":-2}"#);
        assert_eq!(rows(&auto), [(1_000_000_000, "a".to_owned(), -2.0)]);
        let framed = decode(&ms, b"\0\0\0\0\x07{\"ts\":1000,\"tag\":\"a\",\"value\":1}");
        assert_eq!(rows(&framed).len(), 1);
    }

    /// Given bad rows in an array, when decoded, then each is dead-lettered with its index and its
    /// own bytes, and its siblings flow.
    #[test]
    fn bad_rows_do_not_hold_their_siblings() {
        let text = br#"[{"ts":1,"tag":"a","value":1},{"ts":1,"tag":"a"}, 5,{"ts":1,"tag":"a","value":"x"},{"ts":true,"tag":"a","value":1},{"ts":"x","tag":"a","value":1},{"ts":9,"tag":"b","value":2}]"#;
        let polled = decode(&mapping(r#"{"ts_unit":"ns"}"#), text);
        assert_eq!(rows(&polled), [(1, "a".to_owned(), 1.0), (9, "b".to_owned(), 2.0)]);
        let want = [
            (Some(1), "missing_field"),
            (Some(2), "wrong_type"),
            (Some(3), "wrong_type"),
            (Some(4), "wrong_type"),
            (Some(5), "bad_timestamp"),
        ];
        assert_eq!(codes(&polled), want);
        assert_eq!(polled.bad[0].raw, br#"{"ts":1,"tag":"a"}"#);
        assert_eq!(polled.bad[0].before_row, 1);
        assert_eq!(polled.spans[1].first_index, 6);
    }

    /// Given what is no JSON or holds nothing, when decoded, then it is one bad record.
    #[test]
    fn undecodable_records_are_one_bad_record_each() {
        let ns = mapping(r#"{"ts_unit":"ns"}"#);
        for (text, code) in [
            (&b""[..], "empty"),
            (b"[]", "empty"),
            (b"hello", "json_syntax"),
            (br#"{"ts":1,"tag":"a","value":NaN}"#, "json_syntax"),
            (br#"{"ts":1,"tag":"a","value":1e999}"#, "json_syntax"),
            (br#"[{"ts":1,"tag":"a","value":1},{"ts":2"#, "json_syntax"),
            (br#"{"ts":1,"tag":"a","value":1} x"#, "json_syntax"),
            (b"5", "wrong_type"),
            (br#"{"ts":1,"tag":"","value":1}"#, "missing_field"),
            (br#"{"ts":1.5e300,"tag":"a","value":1}"#, "bad_timestamp"),
        ] {
            let polled = decode(&ns, text);
            assert_eq!(codes(&polled), [(None, code)], "{}", String::from_utf8_lossy(text));
            assert_eq!((polled.batch.num_rows(), &polled.bad[0].raw[..]), (0, text));
        }
        let plain = decode(&JsonMapping::default(), br#"{"ts":1,"tag":"a","value":1}"#);
        assert_eq!(codes(&plain), [(None, "bad_timestamp")]);
    }

    /// Given a Telegraf message, when decoded with its preset, then each number is a sample, a null
    /// is none, and what is no number is dead-lettered.
    #[test]
    fn telegraf_fields_are_samples() {
        let text =
            br#"{"fields":{"a":1.5,"b":"x","c":null,"d":2},"name":"cpu","tags":{"host":"h"},"timestamp":2}"#;
        let polled = decode(&mapping(r#"{"preset":"telegraf"}"#), text);
        let want = [(2_000_000_000, "h.cpu.a".to_owned(), 1.5), (2_000_000_000, "h.cpu.d".to_owned(), 2.0)];
        assert_eq!(rows(&polled), want);
        assert_eq!(codes(&polled), [(Some(1), "wrong_type")]);
        assert_eq!(
            polled.spans.iter().map(|span| (span.first_index, span.rows)).collect::<Vec<_>>(),
            [(0, 1), (2, 1)]
        );
    }

    /// Given rows deep in a record and the device behind them, when decoded with a template, then
    /// the tag is put together from both, the key and the topic.
    #[test]
    fn exploded_rows_take_parts_of_the_record_around_them() {
        let config = mapping(
            r#"{"rows":"payload.samples","ts":"at.t","ts_unit":"s","value":"v","tag_template":"{topic}/{key}/{payload.device}.{n}"}"#,
        );
        let text =
            br#"{"payload":{"samples":[{"at":{"t":1},"v":1,"n":"x"},{"at":{"t":2},"n":"y"}],"device":"d"}}"#;
        let polled = decode(&config, text);
        assert_eq!(rows(&polled), [(1_000_000_000, "t/k/d.x".to_owned(), 1.0)]);
        assert_eq!(codes(&polled), [(Some(1), "missing_field")]);
        assert_eq!(polled.bad[0].raw, br#"{"at":{"t":2},"n":"y"}"#);
        assert_eq!(codes(&decode(&config, b"{}")), [(None, "missing_field")]);
    }

    /// Given mappings that cannot be meant, when a decoder is made, then they are refused.
    #[test]
    fn contradictory_mappings_are_refused() {
        for text in [
            r#"{"ts":"a..b"}"#,
            r#"{"value":"v","fields":"f"}"#,
            r#"{"tag":"t","tag_template":"{key}"}"#,
            r#"{"tag_template":"{"}"#,
            r#"{"tag_template":"a}b"}"#,
        ] {
            assert!(JsonDecoder::new(&mapping(text)).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<JsonMapping>(r#"{"tagg":"t"}"#).is_err());
    }

    fn same(a: &Polled, b: &Polled) -> bool {
        let batches = format!("{:?}", a.batch) == format!("{:?}", b.batch);
        batches && a.spans == b.spans && a.bad == b.bad
    }

    proptest! {
        /// Whatever bytes come, every decoder answers with rows or one bad record.
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for config in [r#"{}"#, r#"{"preset":"telegraf"}"#, r#"{"rows":"a.b"}"#] {
                let polled = decode(&mapping(config), &bytes);
                prop_assert!(polled.batch.num_rows() + polled.bad.len() > 0);
            }
        }

        /// The scanner of flat rows and the general reader answer the same, also on broken text.
        #[test]
        fn the_scanner_agrees_with_the_general_reader(
            value in "(-?[0-9]{1,20}(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?|null|true|\"x\"|-0|01|1\\.)",
            tag in "[a-zäö\\\\\"nu ]{0,6}",
            ts in "(-?[0-9]{1,20}|\"[0-9]{4}\"|1\\.5)",
            cut in 0usize..120,
            array in any::<bool>(),
        ) {
            let row = format!(r#"{{"ts":{ts}, "x":[{{}}],"tag":"{tag}","value":{value},"seq":1}}"#);
            let plain = format!(r#"{{"ts":{ts}, "tag":"{tag}","value":{value},"quality":"good"}}"#);
            for row in [row, plain] {
                let text = if array { format!("[{row},{row}]") } else { row };
                let mut bytes = text.into_bytes();
                if cut < 20 { bytes.truncate(cut * 5); }
                let config = mapping(r#"{"ts_unit":"us"}"#);
                let (a, b) = (decode(&config, &bytes), decode_generally(&config, &bytes));
                prop_assert!(same(&a, &b), "{}\n{a:?}\n{b:?}", String::from_utf8_lossy(&bytes));
            }
        }
    }
}
