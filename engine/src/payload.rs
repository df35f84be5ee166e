//! What leaves as a message: JSON without wall time, offset or host, so that a restart repeats the bytes.
//!
//! Where a dead letter came from is not in its payload but in its headers.

use crate::config::plan::Plan;
use crate::output::{DeadRow, Outputs, ServedValue, What};
use crate::pipeline::Pipeline;
use serde::{Deserialize, Serialize};

/// Which output a message belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Channel {
    /// Alert transitions, changes of signals and members: never lost, kept in the checkpoint until acknowledged.
    Events,
    /// Served values.
    Signals,
    /// Late rows.
    Late,
    /// Dead letters.
    DeadLetters,
}

/// An output in its final form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Where it goes.
    pub channel: Channel,
    /// What it is about: the target, signal or tag.
    pub key: Vec<u8>,
    /// The bytes; JSON, but for the raw bytes of a record that could not be decoded.
    pub payload: Vec<u8>,
    /// What is known beside the payload.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// Drains `out` into messages, events in the order of time and id; verdicts are dropped. `topic` and `partition` are
/// where the rows came from.
pub fn messages(
    plan: &Plan,
    pipeline: &Pipeline,
    (topic, partition): (&str, i32),
    out: &mut Outputs,
    to: &mut Vec<Message>,
) {
    out.verdicts.clear();
    out.events.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
    let mut add = |channel, key: &str, payload, headers| {
        to.push(Message { channel, key: key.as_bytes().to_vec(), payload, headers });
    };
    for event in out.events.drain(..) {
        add(Channel::Events, subject(&event.what), json(&event), Vec::new());
    }
    for value in out.values.drain(..) {
        let signal = &plan.groups[value.group as usize].raw.id;
        add(Channel::Signals, signal, json(&Served::new(&value, signal, pipeline)), Vec::new());
    }
    for row in out.late.drain(..) {
        add(Channel::Late, &row.tag, json(&row), Vec::new());
    }
    for row in out.dead.drain(..) {
        let place = (topic, partition, row.offset, Some(row.index));
        add(
            Channel::DeadLetters,
            &row.tag,
            json(&Refused::new(&row)),
            dead_headers(place, row.code, &row.reason),
        );
    }
}

/// Headers of a dead letter: where it came from (topic, partition, offset, index) and why it is dead.
pub fn dead_headers(
    (topic, partition, offset, index): (&str, i32, i64, Option<u32>),
    code: &str,
    reason: &str,
) -> Vec<(String, Vec<u8>)> {
    let mut headers: Vec<(String, Vec<u8>)> = vec![
        ("topic".into(), topic.into()),
        ("partition".into(), partition.to_string().into()),
        ("offset".into(), offset.to_string().into()),
        ("code".into(), code.into()),
        ("reason".into(), reason.into()),
    ];
    headers.extend(index.map(|i| ("index".into(), i.to_string().into())));
    headers
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings and finite numbers always encode")
}

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
        Refused { tag: &row.tag, ts: row.ts, value: row.value.filter(|x| x.is_finite()) }
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
