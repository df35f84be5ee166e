//! Kafka: the partitions of some topics as one log.
//!
//! By default partitions are assigned by hand and offsets come from the caller (its checkpoint), so
//! what was judged and what was read cannot differ; `assign = "group"` leaves both to the broker's
//! consumer group. Messages of a hand-made assignment come through librdkafka's batch call, which is
//! 1.4 to 1.9 times as fast as polling one at a time. Offsets are taken from messages only: the batch
//! call's own position has known faults.
//!
//! A broker that goes away is waited for: the client reconnects, polls answer with empty batches.

use std::{
    collections::{BTreeMap, VecDeque},
    env,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer},
    message::{BorrowedMessage, Headers as _},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Polled, Source, SourceError,
    decode::{
        DecodeConfig,
        ipc::IpcDecoder,
        json::JsonDecoder,
        rows::{Headers, RecordContext, RowBuilder, empty_batch},
    },
};

mod batch;
pub mod mock;

/// The table `[source.kafka]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Brokers to ask first: `["host:9092"]`.
    pub brokers: Vec<String>,
    /// Topics to read.
    pub topics: Vec<String>,
    /// Consumer group that offsets are committed under.
    #[serde(default = "default_group")]
    pub group: String,
    /// Who says which partitions are read.
    #[serde(default)]
    pub assign: Assign,
    /// How records are decoded.
    #[serde(default)]
    pub decode: DecodeConfig,
    /// Where to begin without a known offset.
    #[serde(default)]
    pub from: From,
    /// A batch is handed on at this many rows.
    #[serde(default = "default_batch_rows")]
    pub batch_rows: usize,
    /// A batch is handed on when its first row has waited this long: `"50ms"`.
    #[serde(default = "default_max_wait")]
    pub max_wait: Wait,
    /// How long to look for the brokers at start: `"10s"`.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: Wait,
    /// Encryption and login.
    #[serde(default)]
    pub security: KafkaSecurity,
    /// Settings of librdkafka, by their names there. Those this page has a field for are refused.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}

/// Who says which partitions are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Assign {
    /// All partitions of the topics, at the caller's offsets.
    #[default]
    All,
    /// The consumer group, at its committed offsets. Slower: messages are polled one by one.
    Group,
}

/// Where to begin without a known offset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum From {
    /// At the oldest record kept.
    #[default]
    Earliest,
    /// At what is written from now on.
    Latest,
}

/// Encryption and login. Secrets stand in environment variables; here are their names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaSecurity {
    /// `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`.
    pub protocol: Option<String>,
    /// `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`.
    pub mechanism: Option<String>,
    /// Name of the environment variable with the user name.
    pub username_env: Option<String>,
    /// Name of the environment variable with the password.
    pub password_env: Option<String>,
    /// File with the certificates to trust.
    pub ca_location: Option<String>,
}

/// A waiting time as the user writes it: a whole number and `ms`, `s` or `m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Wait(Duration);

impl Wait {
    /// A wait of this many milliseconds.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// As a duration.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl TryFrom<String> for Wait {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (count, unit) = text.split_at(split);
        let scale_ms = match unit {
            "ms" => Some(1),
            "s" => Some(1_000),
            "m" => Some(60_000),
            _ => None,
        };
        let ms = scale_ms.and_then(|scale| count.parse::<u64>().ok()?.checked_mul(scale));
        ms.filter(|ms| *ms <= 3_600_000)
            .map(Self::from_millis)
            .ok_or_else(|| format!("a wait of up to an hour such as \"50ms\" or \"10s\", got {text:?}"))
    }
}

impl std::convert::From<Wait> for String {
    fn from(wait: Wait) -> String {
        format!("{}ms", wait.0.as_millis())
    }
}

fn default_group() -> String {
    "truegauge".to_owned()
}

fn default_batch_rows() -> usize {
    8192
}

fn default_max_wait() -> Wait {
    Wait::from_millis(50)
}

fn default_connect_timeout() -> Wait {
    Wait::from_millis(10_000)
}

/// A broker is asked about the gaps of a partition at most this often, and waited for so long.
const GAP_WAIT: Duration = Duration::from_secs(1);

/// Offsets by topic and partition.
pub type Offsets = BTreeMap<(String, i32), i64>;

/// A Kafka consumer. Partitions are numbered densely over (topic, partition), sorted.
pub struct KafkaSource {
    // Before the consumer: the queue must be given back while its client lives.
    queue: Option<batch::Queue>,
    consumer: BaseConsumer,
    names: Vec<(String, i32)>,
    partitions: Vec<Partition>,
    decoder: Decoder,
    batch_rows: usize,
    max_wait: Duration,
    until_end: bool,
    cursor: usize,
    skipped: Vec<Skipped>,
    last_error: Option<String>,
}

/// Records that were asked for and are no longer kept by the broker. Offsets in between that never were a record of their own
/// (transactions, compaction) are among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Partition, as numbered here.
    pub partition: u32,
    /// Offset that was asked for.
    pub wanted: i64,
    /// Oldest offset there is; reading begins here.
    pub oldest: i64,
}

enum Decoder {
    Json(Box<JsonDecoder>),
    Ipc(IpcDecoder),
}

struct Partition {
    rows: RowBuilder,
    ready: VecDeque<Polled>,
    waiting_since: Option<Instant>,
    next_offset: Option<i64>,
    /// High watermark at start, when reading until the end.
    end: Option<i64>,
    ended: bool,
    /// Offsets that no message came for, from and up to: the most since the broker was asked about them.
    gap: Option<(i64, i64)>,
    asked: Option<Instant>,
}

impl KafkaSource {
    /// Connects and begins at `start`, or where the configuration says for partitions not in it.
    /// With `until_end` the input ends at what the topics held at this moment.
    ///
    /// # Errors
    /// A refused setting, no broker within `connect_timeout`, a topic that is not there, an offset of `start` beyond
    /// the end of its partition.
    pub fn open(config: &KafkaConfig, start: &Offsets, until_end: bool) -> Result<Self, SourceError> {
        let decoder = match &config.decode {
            DecodeConfig::Json(mapping) => Decoder::Json(Box::new(JsonDecoder::new(mapping)?)),
            DecodeConfig::Ipc(mapping) => Decoder::Ipc(IpcDecoder::new(mapping)),
        };
        if config.batch_rows == 0 {
            let (field, got) = ("batch_rows", "0".to_owned());
            return Err(SourceError::Config { field, got, want: "at least 1" });
        }
        let consumer: BaseConsumer =
            consumer_config(config)?.create().map_err(failed("create the consumer"))?;
        let names = find_partitions(&consumer, config)?;
        let mut source = Self {
            queue: None,
            partitions: (0..names.len())
                .map(|i| Partition::new(u32::try_from(i).unwrap_or(u32::MAX)))
                .collect(),
            consumer,
            names,
            decoder,
            batch_rows: config.batch_rows,
            max_wait: config.max_wait.get(),
            until_end,
            cursor: 0,
            skipped: Vec::new(),
            last_error: None,
        };
        source.seek(config, start)?;
        Ok(source)
    }

    /// Topic and partition of each dense partition number.
    #[must_use]
    pub fn partitions(&self) -> &[(String, i32)] {
        &self.names
    }

    /// Where the reading of a partition goes on, if it is known.
    #[must_use]
    pub fn next_offset(&self, partition: u32) -> Option<i64> {
        self.partitions.get(partition as usize)?.next_offset
    }

    /// Records that the broker no longer kept when they were asked for, at start or because reading fell behind. Grows while reading.
    #[must_use]
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// What the client last complained about, such as a broker that is away. It recovers by itself.
    #[must_use]
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// Whether all of a partition has been read, as its broker says just now. None when no broker answers within `wait`, so a
    /// backlog after an outage is never taken for silence.
    #[must_use]
    pub fn at_end(&self, partition: u32, wait: Duration) -> Option<bool> {
        let at = partition as usize;
        let ((topic, number), state) = (self.names.get(at)?, self.partitions.get(at)?);
        if state.waiting_since.is_some() || !state.ready.is_empty() {
            return Some(false);
        }
        let (low, high) = self.consumer.fetch_watermarks(topic, *number, wait).ok()?;
        Some(state.next_offset.map_or(low == high, |next| next >= high))
    }

    /// Forgets the last complaint, because a broker has answered since.
    pub fn forget_error(&mut self) {
        self.last_error = None;
    }

    /// Commits the next offset to read of each partition; with `wait` until the broker has it.
    ///
    /// # Errors
    /// The broker refuses, or (with `wait`) is away.
    pub fn commit(&self, positions: &Offsets, wait: bool) -> Result<(), SourceError> {
        let mut list = TopicPartitionList::new();
        for ((topic, partition), offset) in positions {
            list.add_partition_offset(topic, *partition, Offset::Offset(*offset))
                .map_err(failed("commit offsets"))?;
        }
        let mode = if wait { CommitMode::Sync } else { CommitMode::Async };
        self.consumer.commit(&list, mode).map_err(failed("commit offsets"))
    }

    fn seek(&mut self, config: &KafkaConfig, start: &Offsets) -> Result<(), SourceError> {
        let mut list = TopicPartitionList::new();
        for (i, (topic, number)) in self.names.iter().enumerate() {
            let wanted = start.get(&(topic.clone(), *number)).copied();
            let partition = &mut self.partitions[i];
            if config.assign == Assign::All || self.until_end {
                let (low, high) = self
                    .consumer
                    .fetch_watermarks(topic, *number, config.connect_timeout.get())
                    .map_err(failed("ask for the offsets of a partition"))?;
                if let Some(wanted) = wanted.filter(|wanted| *wanted > high) {
                    let action = "begin at the checkpoint";
                    let reason = format!(
                        "{topic}-{number}: the checkpoint is ahead of the log: it goes on at offset {wanted}, the log ends at {high}; \
                         was the topic made anew? begin with an empty state directory, or give the topic its records back"
                    );
                    return Err(SourceError::Kafka { action, reason });
                }
                if let Some(wanted) = wanted.filter(|wanted| *wanted < low) {
                    let partition = u32::try_from(i).unwrap_or(u32::MAX);
                    self.skipped.push(Skipped { partition, wanted, oldest: low });
                }
                let first = match (wanted, config.from) {
                    (Some(wanted), _) => wanted.max(low),
                    (None, From::Earliest) => low,
                    (None, From::Latest) => high,
                };
                partition.end = self.until_end.then_some(high);
                partition.ended = self.until_end && config.assign == Assign::All && first >= high;
                partition.next_offset = Some(first);
            }
            let offset = match (partition.next_offset, config.from) {
                (Some(first), _) => Offset::Offset(first),
                (None, From::Earliest) => Offset::Beginning,
                (None, From::Latest) => Offset::End,
            };
            list.add_partition_offset(topic, *number, offset).map_err(failed("assign partitions"))?;
        }
        match config.assign {
            Assign::All => {
                self.consumer.assign(&list).map_err(failed("assign partitions"))?;
                self.queue = Some(batch::Queue::of(&self.consumer));
            }
            Assign::Group => {
                let topics: Vec<&str> = config.topics.iter().map(String::as_str).collect();
                self.consumer.subscribe(&topics).map_err(failed("join the group"))?;
            }
        }
        Ok(())
    }

    /// Waits up to `wait` for the first message, then takes what else is there.
    fn consume(&mut self, wait: Duration) {
        let Self { queue, consumer, names, partitions, decoder, last_error, batch_rows, until_end, .. } =
            self;
        let consumer = &*consumer;
        let mut sorter =
            Sorter { consumer, names, partitions, decoder, last_error, skipped: &mut self.skipped, last: 0 };
        let Some(queue) = queue else {
            // A rebalance that arrives in the batch call is answered by giving all partitions back:
            // members of a group poll.
            let mut next = consumer.poll(wait);
            for _ in 0..*batch_rows {
                match next {
                    Some(Ok(message)) => sorter.take_polled(&message),
                    // Says no topic; the end is seen by offsets.
                    Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => {}
                    Some(Err(error)) => *sorter.last_error = Some(error.to_string()),
                    None => break,
                }
                next = consumer.poll(Duration::ZERO);
            }
            return;
        };
        // The batch call swallows complaints about brokers, a poll does not say which partition ended.
        let first = if *until_end {
            queue.consume(wait, 1, |message| sorter.take(message)) > 0
        } else {
            match consumer.poll(wait) {
                Some(Ok(message)) => sorter.take_polled(&message),
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) | None => {}
                Some(Err(error)) => *sorter.last_error = Some(error.to_string()),
            }
            true
        };
        if first {
            queue.consume(Duration::ZERO, *batch_rows, |message| sorter.take(message));
        }
    }

    /// A batch that is full, has waited, or is the last of its partition.
    fn take_due(&mut self, now: Instant) -> Option<Polled> {
        let n = self.partitions.len();
        for step in 0..n {
            let at = (self.cursor + step) % n;
            let partition = &mut self.partitions[at];
            if let Some(polled) = partition.take_due(now, self.batch_rows, self.max_wait) {
                self.cursor = (at + 1) % n;
                return Some(polled);
            }
        }
        None
    }
}

impl Source for KafkaSource {
    fn poll(&mut self, deadline: Duration) -> Result<Option<Polled>, SourceError> {
        let until = Instant::now() + deadline;
        loop {
            let now = Instant::now();
            if let Some(polled) = self.take_due(now) {
                return Ok(Some(polled));
            }
            if self.until_end && self.partitions.iter().all(|partition| partition.ended) {
                return Ok(None);
            }
            if now >= until {
                let nothing =
                    Polled { partition: 0, batch: empty_batch(), spans: Vec::new(), bad: Vec::new() };
                return Ok(Some(nothing));
            }
            let due = self.partitions.iter().filter_map(|partition| partition.waiting_since).min();
            let due = due.map_or(until, |since| until.min(since + self.max_wait));
            self.consume(due.saturating_duration_since(now));
        }
    }
}

impl Partition {
    fn new(number: u32) -> Self {
        Self {
            rows: RowBuilder::new(number),
            ready: VecDeque::new(),
            waiting_since: None,
            next_offset: None,
            end: None,
            ended: false,
            gap: None,
            asked: None,
        }
    }

    fn take_due(&mut self, now: Instant, batch_rows: usize, max_wait: Duration) -> Option<Polled> {
        if let Some(polled) = self.ready.pop_front() {
            return Some(polled);
        }
        let since = self.waiting_since?;
        let full = self.rows.rows() + self.rows.bad().len() >= batch_rows;
        if !full && !self.ended && now.saturating_duration_since(since) < max_wait {
            return None;
        }
        self.waiting_since = None;
        (!self.rows.is_empty()).then(|| self.rows.finish())
    }

    fn advance(&mut self, next_offset: i64) {
        self.next_offset = Some(next_offset);
        self.ended |= self.end.is_some_and(|end| next_offset >= end);
    }
}

/// Brings messages to their partitions.
struct Sorter<'s> {
    consumer: &'s BaseConsumer,
    names: &'s [(String, i32)],
    partitions: &'s mut [Partition],
    decoder: &'s mut Decoder,
    last_error: &'s mut Option<String>,
    skipped: &'s mut Vec<Skipped>,
    /// Partition of the message before, which mostly is that of the next.
    last: usize,
}

impl Sorter<'_> {
    fn find(&mut self, topic: &str, number: i32) -> Option<usize> {
        if self.names.get(self.last).is_some_and(|(t, n)| *n == number && t == topic) {
            return Some(self.last);
        }
        let found = self.search(topic, number);
        self.last = found.unwrap_or(self.last);
        found
    }

    fn search(&self, topic: &str, number: i32) -> Option<usize> {
        self.names.binary_search_by(|(t, n)| t.as_str().cmp(topic).then(n.cmp(&number))).ok()
    }

    fn take(&mut self, message: &batch::Fetched) {
        let Some(at) = self.find(message.topic(), message.partition()) else {
            if let Some(error) = message.error() {
                *self.last_error = Some(error);
            }
            return;
        };
        if message.is_end() {
            let partition = &mut self.partitions[at];
            partition.ended |= partition.end.is_some_and(|end| message.offset() >= end);
            return;
        }
        if let Some(error) = message.error() {
            *self.last_error = Some(error);
            return;
        }
        let ctx = RecordContext {
            offset: message.offset(),
            record_ts: message.timestamp_ms(),
            key: message.key(),
            topic: message.topic(),
            headers: message,
        };
        self.decode(at, message.payload(), ctx);
    }

    fn take_polled(&mut self, message: &BorrowedMessage<'_>) {
        let Some(at) = self.find(message.topic(), message.partition()) else { return };
        let headers = PolledHeaders(message);
        let ctx = RecordContext {
            offset: message.offset(),
            record_ts: message.timestamp().to_millis(),
            key: message.key(),
            topic: message.topic(),
            headers: &headers,
        };
        self.decode(at, message.payload().unwrap_or_default(), ctx);
    }

    fn decode(&mut self, at: usize, payload: &[u8], ctx: RecordContext<'_>) {
        let partition = &mut self.partitions[at];
        let beyond = partition.end.is_some_and(|end| ctx.offset >= end);
        let again = partition.next_offset.is_some_and(|next| ctx.offset < next);
        if beyond || again {
            partition.ended |= beyond;
            return;
        }
        if let Some(next) = partition.next_offset.filter(|next| ctx.offset > *next) {
            if partition.gap.is_none_or(|(from, to)| ctx.offset - next > to - from) {
                partition.gap = Some((next, ctx.offset));
            }
            self.look_into_gap(at);
        }
        let partition = &mut self.partitions[at];
        match self.decoder {
            Decoder::Json(decoder) => {
                decoder.decode(payload, ctx, &mut partition.rows);
                if partition.waiting_since.is_none() && !partition.rows.is_empty() {
                    partition.waiting_since = Some(Instant::now());
                }
            }
            Decoder::Ipc(decoder) => {
                // One record is one `Polled`: its consumer takes the record for read.
                partition.ready.push_back(decoder.decode(partition.rows.partition(), payload, ctx));
            }
        }
        partition.advance(ctx.offset + 1);
        *self.last_error = None;
    }

    /// Remembers what of a gap the broker no longer keeps. Transactions and compaction make gaps too, so it is asked, and seldom.
    fn look_into_gap(&mut self, at: usize) {
        let (partition, (topic, number)) = (&mut self.partitions[at], &self.names[at]);
        let (Some((from, to)), now) = (partition.gap, Instant::now()) else { return };
        if partition.asked.is_some_and(|asked| now.saturating_duration_since(asked) < GAP_WAIT) {
            return;
        }
        partition.asked = Some(now);
        let Ok((low, _)) = self.consumer.fetch_watermarks(topic, *number, GAP_WAIT) else { return };
        partition.gap = None;
        if low > from {
            let partition = u32::try_from(at).unwrap_or(u32::MAX);
            self.skipped.push(Skipped { partition, wanted: from, oldest: low.min(to) });
        }
    }
}

struct PolledHeaders<'m>(&'m BorrowedMessage<'m>);

impl Headers for PolledHeaders<'_> {
    fn get(&self, name: &str) -> Option<&[u8]> {
        let headers = self.0.headers()?;
        let found = (0..headers.count()).rev().map(|i| headers.get(i)).find(|header| header.key == name)?;
        found.value
    }

    fn to_vec(&self) -> Vec<(String, Vec<u8>)> {
        let headers = self.0.headers().into_iter().flat_map(|headers| headers.iter());
        headers.map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec())).collect()
    }
}

/// All partitions of the configured topics, sorted.
fn find_partitions(consumer: &BaseConsumer, config: &KafkaConfig) -> Result<Vec<(String, i32)>, SourceError> {
    let action = "look for the topics";
    // All topics are asked for: some brokers create a topic that is asked for by name.
    let metadata = consumer.fetch_metadata(None, config.connect_timeout.get()).map_err(|error| {
        let brokers = config.brokers.join(", ");
        let reason = format!("no answer from {brokers} within {:?}: {error}", config.connect_timeout.get());
        SourceError::Kafka { action, reason }
    })?;
    let mut names = Vec::new();
    for topic in &config.topics {
        let found = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none());
        let Some(found) = found.filter(|found| !found.partitions().is_empty()) else {
            let mut known: Vec<&str> = metadata.topics().iter().map(|topic| topic.name()).collect();
            known.sort_unstable();
            known.truncate(20);
            let reason = format!("no topic `{topic}`; the brokers have: {}", known.join(", "));
            return Err(SourceError::Kafka { action, reason });
        };
        names.extend(found.partitions().iter().map(|partition| (topic.clone(), partition.id())));
    }
    names.sort();
    names.dedup();
    Ok(names)
}

fn consumer_config(config: &KafkaConfig) -> Result<ClientConfig, SourceError> {
    if config.topics.is_empty() {
        let (field, got) = ("topics", "[]".to_owned());
        return Err(SourceError::Config { field, got, want: "at least one topic" });
    }
    let mut client = client_config(&config.brokers, &config.security, &config.properties)?;
    // By hand, the beginning is given; the client resets only where the log has lost its place, and what is kept is read.
    let reset =
        if config.from == From::Earliest || config.assign == Assign::All { "earliest" } else { "latest" };
    client
        .set("group.id", &config.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", reset);
    Ok(client)
}

/// Settings that sources and sinks share. The values of secrets go into the client and nowhere else.
pub(crate) fn client_config(
    brokers: &[String],
    security: &KafkaSecurity,
    properties: &BTreeMap<String, String>,
) -> Result<ClientConfig, SourceError> {
    const OWN: [&str; 9] = [
        "bootstrap.servers",
        "metadata.broker.list",
        "group.id",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.partition.eof",
        "auto.offset.reset",
        "sasl.username",
        "security.protocol",
    ];
    if brokers.is_empty() {
        let (field, got) = ("brokers", "[]".to_owned());
        return Err(SourceError::Config { field, got, want: "at least one host:port" });
    }
    let mut client = ClientConfig::new();
    // The client writes its log to the terminal; what matters is returned or in `last_error`.
    client.set_log_level(RDKafkaLogLevel::Emerg);
    client.set("bootstrap.servers", brokers.join(","));
    for (name, value) in properties {
        if OWN.contains(&name.as_str()) || is_secret(name) {
            let want = "no setting that has a field of its own, and no secret (see `security`)";
            return Err(SourceError::Config { field: "properties", got: name.clone(), want });
        }
        client.set(name, value);
    }
    let plain = [
        ("security.protocol", &security.protocol),
        ("sasl.mechanism", &security.mechanism),
        ("ssl.ca.location", &security.ca_location),
    ];
    for (name, value) in plain {
        if let Some(value) = value {
            client.set(name, value);
        }
    }
    let secret = [
        ("sasl.username", "security.username_env", &security.username_env),
        ("sasl.password", "security.password_env", &security.password_env),
    ];
    for (name, field, variable) in secret {
        if let Some(variable) = variable {
            let want = "the name of an environment variable that is set";
            let value =
                env::var(variable).map_err(|_| SourceError::Config { field, got: variable.clone(), want })?;
            client.set(name, value);
        }
    }
    Ok(client)
}

/// Whether a setting of librdkafka holds a secret. A file that holds one is none.
fn is_secret(name: &str) -> bool {
    const PARTS: [&str; 8] = [
        "password",
        "passphrase",
        "secret",
        "private",
        "key.pem",
        "ssl_key",
        "oauthbearer.config",
        "oauthbearer.extensions",
    ];
    let file = name.ends_with(".file") || name.ends_with(".location");
    !file && PARTS.iter().any(|part| name.contains(part))
}

fn failed(action: &'static str) -> impl Fn(rdkafka::error::KafkaError) -> SourceError {
    move |error| SourceError::Kafka { action, reason: error.to_string() }
}
