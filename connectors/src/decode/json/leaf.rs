//! Cells to the parts of a row, and the bytes of a row for its dead letter.

use super::*;

pub(super) fn missing(name: &str) -> Fault {
    Fault::new("missing_field", format!("no `{name}`"))
}

pub(super) fn wrong_type(name: &str, got: Cell, want: &str) -> Fault {
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

pub(super) fn number(cell: Cell, name: &str) -> Result<f64, Fault> {
    match cell {
        Cell::F64(value) => Ok(value),
        Cell::U64(value) => Ok(value as f64),
        Cell::I64(value) => Ok(value as f64),
        Cell::Null => Ok(f64::NAN),
        Cell::Absent => Err(missing(name)),
        other => Err(wrong_type(name, other, "a number or null")),
    }
}

pub(super) fn time(cell: Cell, name: &str, unit: &TimeUnit, text: &str) -> Result<i64, Fault> {
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

pub(super) fn name_of(unit: &TimeUnit) -> String {
    String::from(unit.clone())
}

/// A time with decimals. The whole part is exact; the decimals are those a 64-bit number holds.
pub(super) fn decimal_ns(value: f64, scale_ns: i64) -> Option<i64> {
    let whole = value.floor();
    if whole.abs() >= 9.2e18 {
        return None;
    }
    let part_ns = ((value - whole) * scale_ns as f64).round() as i64;
    (whole as i64).checked_mul(scale_ns)?.checked_add(part_ns)
}

/// The bytes of the row at `ordinal`; the whole record when it is the only one or cannot be told.
pub(super) fn raw_row<'b>(plan: &Plan, scratch: &mut Scratch, body: &'b [u8], ordinal: usize) -> &'b [u8] {
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

pub(super) fn find_rows(plan: &Plan, body: &[u8], ranges: &mut Vec<Range<usize>>) -> Option<()> {
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
