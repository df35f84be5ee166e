//! The one file that names both engine and connectors: what a source polled, as the engine takes it, and the ports of the
//! driver on Kafka, standard output and a state directory.

use connectors::sink::kafka::{KafkaSink, Offer, Outcome, TopicKind};
use connectors::sink::recording::Recorder;
use connectors::source::kafka::{Change, KafkaSource, Offsets, Skipped};
use connectors::store::{StoreError, dir::DirStore};
use connectors::{BadRecord, Polled, SinkError, Source, SourceError};
use engine::driver::{Ack, Clock, Fetched, Inlet, Input, Origin, Outlet, Store};
use engine::journal::Script;
use engine::payload::{Channel, Message, dead_headers};
use engine::{BatchError, Outputs, Pipeline, Span};
use serde::Serialize;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Pushes what a source polled into a partition, and journal entries at their places; undecodable records come back with
/// their accounting done.
///
/// # Errors
/// When the batch lacks a column; nothing was taken then.
pub fn push(
    pipeline: &mut Pipeline,
    script: &mut Script,
    polled: &Polled,
    out: &mut Outputs,
) -> Result<(), BatchError> {
    if polled.batch.num_rows() > 0 {
        let spans = spans(polled);
        if script.is_empty() {
            pipeline.push_rows(&polled.batch, &spans, out)?;
        } else {
            script.push(pipeline, &polled.batch, &spans, out)?;
        }
    }
    for bad in &polled.bad {
        pipeline.dead_letter(bad.rows);
    }
    Ok(())
}

fn spans(polled: &Polled) -> Vec<Span> {
    let span = |s: &connectors::Span| Span {
        rows: s.rows,
        offset: s.offset,
        first_index: s.first_index,
        record_ts: s.record_ts.map(|ms| ms.saturating_mul(1_000_000)),
    };
    polled.spans.iter().map(span).collect()
}

/// A recording that the inlet and the store write together.
pub type SharedRecorder = Rc<RefCell<Option<Recorder>>>;

/// Why a port of the driver failed for good.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// The source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A sink, or the recording.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// Standard output.
    #[error("standard output: {0}")]
    Output(std::io::Error),
    /// The state.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Kafka as the driver's source.
pub struct KafkaInlet {
    source: KafkaSource,
    recorder: SharedRecorder,
    /// Skipped stretches that were told.
    told: usize,
}

impl KafkaInlet {
    /// With a recording, if one is wanted.
    pub fn new(source: KafkaSource, recorder: SharedRecorder) -> Self {
        KafkaInlet { source, recorder, told: 0 }
    }

    fn change(&mut self) -> Result<Option<Input>, PortError> {
        Ok(self.source.next_change()?.map(|change| match change {
            Change::Assigned(partitions) => Input::Assigned(partitions),
            Change::Revoked(partitions) => Input::Revoked(partitions),
        }))
    }
}

impl Inlet for KafkaInlet {
    type Error = PortError;

    fn partitions(&self) -> Vec<Origin> {
        let origin =
            |(topic, partition): &(String, i32)| Origin { topic: topic.clone(), partition: *partition };
        self.source.partitions().iter().map(origin).collect()
    }

    fn grouped(&self) -> bool {
        self.source.grouped()
    }

    fn start(&self, partition: u32) -> Option<i64> {
        self.source.next_offset(partition)
    }

    fn poll(&mut self, wait: Duration) -> Result<Input, PortError> {
        if let Some(change) = self.change()? {
            return Ok(change);
        }
        let Some(polled) = self.source.poll(wait)? else { return Ok(Input::End) };
        let last = polled.spans.iter().map(|s| s.offset).chain(polled.bad.iter().map(|b| b.offset)).max();
        let Some(last) = last else { return Ok(Input::Nothing) };
        if let Some(recorder) = self.recorder.borrow_mut().as_mut() {
            recorder.write(&polled)?;
        }
        let (topic, partition) = &self.source.partitions()[polled.partition as usize];
        let dead = polled.bad.iter().map(|bad| (bad.rows, letter(topic, *partition, bad))).collect();
        let spans = spans(&polled);
        Ok(Input::Rows(Fetched {
            partition: polled.partition,
            batch: polled.batch,
            spans,
            dead,
            next: last + 1,
        }))
    }

    fn idle(&mut self) -> Result<Input, PortError> {
        self.source.idle()?;
        Ok(self.change()?.unwrap_or(Input::Nothing))
    }

    fn begin(&mut self, partitions: &[(u32, Option<i64>)]) -> Result<Vec<u32>, PortError> {
        Ok(self.source.begin(partitions)?)
    }

    fn release(&mut self, partitions: &[u32]) -> Result<(), PortError> {
        Ok(self.source.release(partitions)?)
    }

    fn at_end(&mut self, partition: u32) -> Option<bool> {
        let answer = self.source.at_end(partition, AT_END_WAIT);
        if answer.is_some() {
            self.source.forget_error();
        }
        answer
    }

    fn lost(&mut self) -> Vec<String> {
        let skipped = &self.source.skipped()[self.told..];
        self.told += skipped.len();
        let tell = |s: &Skipped| {
            let (topic, partition) = &self.source.partitions()[s.partition as usize];
            let last = s.oldest - 1;
            format!(
                "{topic}-{partition}: offsets {} to {last} are no longer kept by the broker and were not judged",
                s.wanted
            )
        };
        skipped.iter().map(tell).collect()
    }

    fn trouble(&self) -> Option<String> {
        self.source.last_error().map(str::to_owned)
    }

    fn commit(&mut self, next: &BTreeMap<Origin, i64>, wait: bool) -> Result<(), PortError> {
        let next: Offsets = next.iter().map(|(o, at)| ((o.topic.clone(), o.partition), *at)).collect();
        Ok(self.source.commit(&next, wait)?)
    }
}

/// A record that could not be decoded, as a message: its own key, bytes and headers, and where it came from.
fn letter(topic: &str, partition: i32, bad: &BadRecord) -> Message {
    let mut headers = dead_headers((topic, partition, bad.offset, bad.index), bad.code, &bad.reason);
    if bad.rows != 1 {
        headers.push((ROWS.into(), bad.rows.to_string().into()));
    }
    headers.extend(bad.headers.iter().map(|(name, value)| (format!("original.{name}"), value.clone())));
    let key = bad.key.clone().unwrap_or_default();
    Message { channel: Channel::DeadLetters, key, payload: bad.raw.clone(), headers }
}

/// Header of a dead letter that counts as more than one row, or none: how many.
const ROWS: &str = "rows";

/// Dead letters by code, which the outlet counts and the summary tells.
pub type SharedCodes = Rc<RefCell<DeadCodes>>;

/// A stream's outputs on their way; dead letters are counted as they leave.
pub struct StreamOutlet {
    to: Target,
    codes: SharedCodes,
    /// Ticket of the last dead letter that was counted: one that is offered again has the same.
    counted: u64,
}

impl StreamOutlet {
    /// Sends outputs there.
    pub fn new(to: Target, codes: SharedCodes) -> Self {
        StreamOutlet { to, codes, counted: 0 }
    }
}

/// Where a stream's outputs go.
pub enum Target {
    /// Topics.
    Kafka(Box<KafkaSink>),
    /// Lines on standard output; what was written.
    Lines(Vec<Ack>),
    /// Nowhere: only the summary is wanted.
    Nowhere(Vec<Ack>),
}

impl Outlet for StreamOutlet {
    type Error = PortError;

    fn offer(&mut self, ticket: u64, message: &Message) -> Result<bool, PortError> {
        if message.channel == Channel::DeadLetters && ticket > self.counted {
            self.counted = ticket;
            let rows = header(message, ROWS).and_then(|rows| rows.parse().ok()).unwrap_or(1);
            self.codes.borrow_mut().add(&letter_of(message), rows);
        }
        match &mut self.to {
            Target::Kafka(sink) => {
                let kind = match message.channel {
                    Channel::Events => TopicKind::Alerts,
                    Channel::Signals => TopicKind::Signals,
                    Channel::Late => TopicKind::Late,
                    Channel::DeadLetters => TopicKind::DeadLetters,
                };
                let offer = sink.offer(ticket, kind, &message.key, &message.payload, &message.headers)?;
                match offer {
                    Offer::Queued => {}
                    Offer::Full => return Ok(false),
                    Offer::NoTopic => sink.report(ticket, Outcome::Delivered),
                    Offer::Refused(why) => sink.report(ticket, Outcome::Refused(why)),
                }
            }
            Target::Lines(acks) => {
                let mut text = line(message);
                text.push(b'\n');
                std::io::stdout().write_all(&text).map_err(PortError::Output)?;
                acks.push(Ack::Done(ticket));
            }
            Target::Nowhere(acks) => acks.push(Ack::Done(ticket)),
        }
        Ok(true)
    }

    fn collect(&mut self, wait: Duration, acks: &mut Vec<Ack>) -> Result<(), PortError> {
        match &mut self.to {
            Target::Kafka(sink) => acks.extend(sink.deliveries(wait).into_iter().map(|d| match d.outcome {
                Outcome::Delivered => Ack::Done(d.ticket),
                Outcome::Failed(why) => Ack::Again(d.ticket, why),
                Outcome::Refused(why) => Ack::Never(d.ticket, why),
            })),
            Target::Lines(done) | Target::Nowhere(done) => acks.append(done),
        }
        Ok(())
    }
}

/// A message as a line: a JSON payload with its kind in front, a dead letter with where it came from.
fn line(message: &Message) -> Vec<u8> {
    let kind = match message.channel {
        Channel::Events => "event",
        Channel::Signals => "signal",
        Channel::Late => "late",
        Channel::DeadLetters => return dead_line(message),
    };
    let mut text = format!("{{\"kind\":\"{kind}\",").into_bytes();
    text.extend(message.payload.get(1..).unwrap_or_default());
    text
}

fn dead_line(message: &Message) -> Vec<u8> {
    #[derive(Serialize)]
    struct Line<'a> {
        kind: &'static str,
        #[serde(flatten)]
        letter: DeadLetter<'a>,
    }
    let (raw, raw_hex) = raw(&message.payload);
    let letter = DeadLetter { raw, raw_hex, ..letter_of(message) };
    serde_json::to_vec(&Line { kind: "dead_letter", letter }).unwrap_or_default()
}

fn header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    let found = message.headers.iter().find(|(n, _)| n == name);
    found.and_then(|(_, v)| std::str::from_utf8(v).ok())
}

/// What the headers of a message say of a dead letter.
fn letter_of(message: &Message) -> DeadLetter<'_> {
    let header = |name| header(message, name);
    DeadLetter {
        code: header("code").unwrap_or_default(),
        reason: header("reason").unwrap_or_default(),
        origin: header("topic").unwrap_or_default(),
        partition: header("partition").and_then(|p| p.parse().ok()).unwrap_or_default(),
        offset: header("offset").and_then(|p| p.parse().ok()).unwrap_or_default(),
        index: header("index").and_then(|p| p.parse().ok()),
        tag: None,
        ts: None,
        value: None,
        raw: None,
        raw_hex: None,
    }
}

/// Where a stream's state is kept: a directory or nowhere; with a recording, its journal goes there too.
pub struct StreamStore {
    dir: Option<DirStore>,
    recorder: SharedRecorder,
}

impl StreamStore {
    /// With a recording, if one is wanted.
    pub fn new(dir: Option<DirStore>, recorder: SharedRecorder) -> Self {
        StreamStore { dir, recorder }
    }
}

impl Store for StreamStore {
    type Error = PortError;

    fn keeps(&self) -> bool {
        self.dir.is_some()
    }
    fn claim(&mut self, name: &str) -> Result<bool, PortError> {
        Ok(self.dir.as_mut().map_or(Ok(true), |dir| dir.claim(name))?)
    }
    fn release(&mut self, name: &str) -> Result<(), PortError> {
        if let Some(dir) = &mut self.dir {
            dir.release(name);
        }
        Ok(())
    }
    fn names(&mut self) -> Result<Vec<String>, PortError> {
        Ok(self.dir.as_ref().map_or(Ok(Vec::new()), DirStore::names)?)
    }
    fn checkpoints(&mut self, name: &str) -> Result<Vec<Vec<u8>>, PortError> {
        Ok(self.dir.as_ref().map_or(Ok(Vec::new()), |dir| dir.checkpoints(name))?)
    }
    fn publish(&mut self, name: &str, bytes: &[u8]) -> Result<(), PortError> {
        Ok(self.dir.as_mut().map_or(Ok(()), |dir| dir.publish(name, bytes))?)
    }
    fn set_aside(&mut self, name: &str) -> Result<(), PortError> {
        Ok(self.dir.as_mut().map_or(Ok(()), |dir| dir.set_aside(name))?)
    }
    fn journal(&mut self, name: &str) -> Result<Vec<u8>, PortError> {
        Ok(self.dir.as_ref().map_or(Ok(Vec::new()), |dir| dir.journal(name))?)
    }
    fn append(&mut self, name: &str, line: &[u8]) -> Result<(), PortError> {
        if let Some(dir) = &mut self.dir {
            dir.append(name, line)?;
        }
        if let Some(recorder) = self.recorder.borrow_mut().as_mut() {
            recorder.journal(line)?;
        }
        Ok(())
    }
    fn trim(&mut self, name: &str, tail: &[u8]) -> Result<(), PortError> {
        Ok(self.dir.as_mut().map_or(Ok(()), |dir| dir.trim(name, tail))?)
    }
    fn spill(&mut self, name: &str, generation: u64, at: u64, bytes: &[u8]) -> Result<(), PortError> {
        Ok(self.dir.as_mut().map_or(Err(StoreError::None), |dir| dir.spill(name, generation, at, bytes))?)
    }
    fn unspill(&mut self, name: &str, generation: u64, at: u64, len: usize) -> Result<Vec<u8>, PortError> {
        Ok(self.dir.as_ref().map_or(Ok(Vec::new()), |dir| dir.unspill(name, generation, at, len))?)
    }
    fn forget(&mut self, name: &str, generation: u64) -> Result<(), PortError> {
        Ok(self.dir.as_mut().map_or(Ok(()), |dir| dir.forget(name, generation))?)
    }
}

/// The clock of the machine.
pub struct SystemClock(Instant);

impl SystemClock {
    /// Begins now.
    pub fn start() -> Self {
        SystemClock(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now_ns(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    }
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
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
        let (raw, raw_hex) = raw(&bad.raw);
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

/// Rows that became dead letters, by code, each code with its first letter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadCodes(BTreeMap<String, (u64, String)>);

impl DeadCodes {
    /// Counts a letter, which stands for so many rows.
    pub fn add(&mut self, letter: &DeadLetter<'_>, rows: u64) {
        match self.0.get_mut(letter.code) {
            Some((n, _)) => *n += rows,
            None => {
                self.0.insert(letter.code.to_owned(), (rows, first_of(letter)));
            }
        }
    }

    /// Counts what a source could not decode, and what was refused of its rows.
    pub fn add_all(&mut self, polled: &Polled, refused: &[engine::DeadRow], row_is_record: bool) {
        for bad in &polled.bad {
            self.add(&DeadLetter::undecodable(bad), bad.rows);
        }
        self.add_refused(refused, polled.partition, row_is_record);
    }

    /// Counts rows that were refused.
    pub fn add_refused(&mut self, rows: &[engine::DeadRow], partition: u32, row_is_record: bool) {
        for row in rows {
            self.add(&DeadLetter::refused(row, partition, row_is_record), 1);
        }
    }

    /// Rows of a code.
    pub fn rows(&self, code: &str) -> u64 {
        self.0.get(code).map_or(0, |(n, _)| *n)
    }
}

/// Code and rows; the examples are for readers.
impl Serialize for DeadCodes {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(code, (n, _))| (code, n)))
    }
}

/// A line a code.
impl std::fmt::Display for DeadCodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (code, (n, first)) in &self.0 {
            writeln!(f, "  dead letters, {code}: {n}, the first {first}")?;
        }
        Ok(())
    }
}

/// Reason and place of a letter in one short line.
fn first_of(letter: &DeadLetter<'_>) -> String {
    let place = match letter.tag {
        Some(tag) => format!("{tag} at {}", letter.ts.unwrap_or_default()),
        None => format!("offset {} of {}", letter.offset, letter.origin),
    };
    let whole = format!("{place}: {}", letter.reason);
    let shown = whole.chars().map(|c| if c.is_control() { ' ' } else { c });
    shown.take(EXAMPLE_CHARS).collect()
}

/// Longest example of a dead letter.
const EXAMPLE_CHARS: usize = 200;

/// Bytes as text, or in hex.
fn raw(bytes: &[u8]) -> (Option<&str>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(_) => (None, Some(bytes.iter().map(|b| format!("{b:02x}")).collect())),
    }
}

/// How long the broker may take to say where a partition ends.
const AT_END_WAIT: Duration = Duration::from_millis(500);
