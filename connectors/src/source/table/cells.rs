//! Rows from the cells of text formats.

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;

use super::{Body, Fault, Plan, columns::ts_array, long, wide};
use crate::decode::time::TimeUnit;

/// One cell of a text format.
#[derive(Debug, Clone, Copy)]
pub(in crate::source) enum Cell<'a> {
    /// Empty, null or not there.
    Absent,
    /// Text that stands for whatever the column holds (CSV).
    Plain(&'a [u8]),
    /// Text that is text (JSON).
    Text(&'a str),
    /// A number (JSON).
    Number(&'a serde_json::Number),
    /// A list, an object, a truth value.
    Other,
}

/// Builds canonical batches from cells.
pub(in crate::source) struct Rows {
    ts: Vec<i64>,
    columns: Builders,
}

#[expect(clippy::large_enum_variant, reason = "there is one of these a file")]
enum Builders {
    Long(long::Builders),
    Wide(wide::Builders),
}

impl Rows {
    pub(in crate::source) fn new(plan: &Plan) -> Rows {
        let columns = match &plan.body {
            Body::Long(body) => Builders::Long(long::Builders::new(body)),
            Body::Wide(body) => Builders::Wide(wide::Builders::new(body)),
        };
        Rows { ts: Vec::new(), columns }
    }

    pub(in crate::source) fn len(&self) -> usize {
        self.ts.len()
    }

    /// Appends one row. `Err`: the row is bad and nothing was appended. `Ok` carries the bad cells of
    /// a wide row (index among the tags), which become null.
    pub(in crate::source) fn push<'a>(
        &mut self,
        plan: &Plan,
        unit: &TimeUnit,
        cell: impl Fn(usize) -> Cell<'a>,
    ) -> Result<Vec<(u32, Fault)>, Fault> {
        let ts = read_ts(cell(plan.ts), unit, &plan.names[plan.ts])?;
        let bad = match (&plan.body, &mut self.columns) {
            (Body::Long(body), Builders::Long(builders)) => {
                builders.push(plan, body, cell)?;
                Vec::new()
            }
            (Body::Wide(body), Builders::Wide(builders)) => builders.push(plan, body, cell),
            _ => unreachable!("builders are made from the plan"),
        };
        self.ts.push(ts);
        Ok(bad)
    }

    /// The rows so far as a batch; the builder starts anew.
    pub(in crate::source) fn finish(&mut self, schema: &SchemaRef) -> RecordBatch {
        let mut arrays: Vec<ArrayRef> = vec![ts_array(std::mem::take(&mut self.ts).into())];
        match &mut self.columns {
            Builders::Long(builders) => builders.finish(&mut arrays),
            Builders::Wide(builders) => builders.finish(&mut arrays),
        }
        RecordBatch::try_new(schema.clone(), arrays).expect("builders and schema come from one plan")
    }
}

fn read_ts(cell: Cell<'_>, unit: &TimeUnit, name: &str) -> Result<i64, Fault> {
    let (ts, text) = match cell {
        Cell::Absent => return Err(Fault::new("missing_field", format!("`{name}` is empty"))),
        Cell::Plain(text) => (unit.parse(text), String::from_utf8_lossy(text).into_owned()),
        Cell::Text(text) => (unit.parse(text.as_bytes()), text.to_owned()),
        Cell::Number(number) => (number_ts(number, unit), number.to_string()),
        Cell::Other => return Err(Fault::new("wrong_type", format!("`{name}` is not a time"))),
    };
    ts.ok_or_else(|| Fault::new("bad_timestamp", format!("`{name}` = {text:?} is not a time")))
}

fn number_ts(number: &serde_json::Number, unit: &TimeUnit) -> Option<i64> {
    match number.as_i64() {
        Some(whole) => whole.checked_mul(unit.scale_ns()?),
        None => unit.parse_float(number.as_f64()?),
    }
}

pub(super) fn read_number(cell: Cell<'_>, name: &str) -> Result<Option<f64>, Fault> {
    let parsed = match cell {
        Cell::Absent => return Ok(None),
        Cell::Plain(text) => std::str::from_utf8(text)
            .map_err(|_| not_utf8(name))?
            .parse()
            .map_err(|_| String::from_utf8_lossy(text)),
        Cell::Text(text) => Err(text.into()),
        Cell::Number(number) => number.as_f64().ok_or_else(|| number.to_string().into()),
        Cell::Other => Err("a list, object or truth value".into()),
    };
    parsed.map(Some).map_err(|got| Fault::new("wrong_type", format!("`{name}` = {got:?} is not a number")))
}

pub(super) fn read_whole(cell: Cell<'_>, name: &str) -> Result<Option<i64>, Fault> {
    let parsed = match cell {
        Cell::Absent => return Ok(None),
        Cell::Plain(text) => std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()),
        Cell::Number(number) => number.as_i64(),
        Cell::Text(_) | Cell::Other => None,
    };
    parsed.map(Some).ok_or_else(|| Fault::new("wrong_type", format!("`{name}` is not a whole number")))
}

/// A word of a text column; numbers are kept as they are written.
pub(super) fn read_word<'a>(cell: Cell<'a>, name: &str) -> Result<Option<std::borrow::Cow<'a, str>>, Fault> {
    match cell {
        Cell::Absent => Ok(None),
        Cell::Plain(text) => {
            std::str::from_utf8(text).map(|text| Some(text.into())).map_err(|_| not_utf8(name))
        }
        Cell::Text("") => Ok(None),
        Cell::Text(text) => Ok(Some(text.into())),
        Cell::Number(number) => Ok(Some(number.to_string().into())),
        Cell::Other => Err(Fault::new("wrong_type", format!("`{name}` is not text"))),
    }
}

fn not_utf8(name: &str) -> Fault {
    Fault::new("not_utf8", format!("`{name}` is not UTF-8"))
}
