//! What leaves as a message or a line: JSON without wall time, offset or host, so that a restart repeats the bytes.
//!
//! Where a dead letter came from is not in its payload but beside it.

use engine::{DeadRow, Pipeline, ServedValue, What};
use serde::Serialize;

/// A served value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Served {
    /// The signal.
    pub signal: String,
    /// Time of the tick.
    pub ts: i64,
    /// Counts the values at this time.
    pub n: u32,
    /// The value; null: none.
    pub value: Option<f64>,
    /// `voted`, `measured`, `hold`, `model:KIND`, `none`.
    pub source: String,
    /// Lower end of the interval.
    pub lo: Option<f64>,
    /// Upper end of the interval.
    pub hi: Option<f64>,
    /// Share of true values the interval should cover.
    pub coverage: Option<f64>,
    /// OPC UA status code.
    pub status: u32,
    /// State of the signal.
    pub state: &'static str,
    /// How far ahead of the last trusted value it was predicted, in seconds.
    pub horizon_s: f64,
}

impl Served {
    /// With names for numbers.
    pub fn new(value: &ServedValue, signal: &str, pipeline: &Pipeline) -> Self {
        let finite = |x: f64| x.is_finite().then_some(x);
        Served {
            signal: signal.into(),
            ts: value.ts,
            n: value.n,
            value: finite(value.value),
            source: value.source.name(pipeline.fallback_kinds(value.group)),
            lo: finite(value.lo),
            hi: finite(value.hi),
            coverage: finite(value.coverage),
            status: value.status,
            state: value.state.name(),
            horizon_s: value.horizon_ns as f64 / 1e9,
        }
    }
}

/// A row that was refused after it had been decoded; its bytes are gone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Refused<'a> {
    /// The tag.
    pub tag: &'a str,
    /// The row's time.
    pub ts: i64,
    /// Its value, if any.
    pub value: Option<f64>,
}

impl<'a> Refused<'a> {
    /// Without its provenance.
    pub fn new(row: &'a DeadRow) -> Self {
        Refused { tag: &row.tag, ts: row.ts, value: row.value }
    }
}

/// What an event is about: the key of its message.
pub fn subject(what: &What) -> &str {
    match what {
        What::Alert { target, .. } => target,
        What::Signal { signal, .. } => signal,
        What::Member { group, .. } => group,
        What::Future { tag, .. } => tag,
        What::Operational { subject, .. } => subject,
    }
}

/// A line on standard output: a payload and its kind.
#[derive(Debug, Serialize)]
pub struct Line<T: Serialize> {
    /// `event`, `signal`, `late`, `dead_letter`.
    pub kind: &'static str,
    /// The payload.
    #[serde(flatten)]
    pub payload: T,
}
