//! The one file that names both engine and connectors: what a source polled, as the engine takes it.

use connectors::{BadRecord, Polled};
use engine::{BatchError, Outputs, Pipeline, Span};
use serde::Serialize;

/// Pushes what a source polled into a partition; undecodable records come back with their accounting done.
///
/// # Errors
/// When the batch lacks a column; nothing was taken then.
pub fn push(pipeline: &mut Pipeline, polled: &Polled, out: &mut Outputs) -> Result<(), BatchError> {
    let spans: Vec<Span> = polled
        .spans
        .iter()
        .map(|s| Span {
            rows: s.rows,
            offset: s.offset,
            first_index: s.first_index,
            record_ts: s.record_ts.map(|ms| ms.saturating_mul(1_000_000)),
        })
        .collect();
    if polled.batch.num_rows() > 0 {
        pipeline.push_rows(&polled.batch, &spans, out)?;
    }
    for bad in &polled.bad {
        pipeline.dead_letter(bad.rows);
    }
    Ok(())
}

/// A dead letter as it is written.
#[derive(Debug, Serialize)]
pub struct DeadLetter<'a> {
    /// What is wrong, as a stable word.
    pub code: &'a str,
    /// What is wrong, for a reader.
    pub reason: &'a str,
    /// Where it came from.
    pub origin: &'a str,
    /// Partition of the log.
    pub partition: u32,
    /// Offset of the record.
    pub offset: i64,
    /// Place in the record; absent: the whole record.
    pub index: Option<u32>,
    /// The tag, if it was known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<&'a str>,
    /// The row's time, if it was known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ts: Option<i64>,
    /// The row's value, if it was known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The bytes as they came, when they are text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<&'a str>,
    /// The bytes as they came, in hex, when they are not text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_hex: Option<String>,
}

impl<'a> DeadLetter<'a> {
    /// A record that could not be decoded.
    pub fn undecodable(bad: &'a BadRecord) -> Self {
        let raw = std::str::from_utf8(&bad.raw).ok();
        let raw_hex = raw.is_none().then(|| bad.raw.iter().map(|b| format!("{b:02x}")).collect());
        DeadLetter {
            code: bad.code,
            reason: &bad.reason,
            origin: &bad.origin,
            partition: bad.partition,
            offset: bad.offset,
            index: bad.index,
            tag: None,
            ts: None,
            value: None,
            raw,
            raw_hex,
        }
    }

    /// A row that was refused after it had been decoded. Rows of files are records of their own.
    pub fn refused(dead: &'a engine::DeadRow, partition: u32, row_is_record: bool) -> Self {
        let shift = if row_is_record { i64::from(dead.index) } else { 0 };
        DeadLetter {
            code: dead.code,
            reason: &dead.reason,
            origin: "",
            partition,
            offset: dead.offset + shift,
            index: (!row_is_record).then_some(dead.index),
            tag: Some(&dead.tag),
            ts: Some(dead.ts),
            value: dead.value,
            raw: None,
            raw_hex: None,
        }
    }
}
