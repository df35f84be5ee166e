//! Kafka: the partitions of some topics as one log.
//!
//! By default partitions are assigned by hand; `assign = "group"` leaves that to the broker's consumer group. Where reading begins
//! is for the caller (its checkpoint) to say in both, so what was judged and what was read cannot differ.
//! Messages of a hand-made assignment come through librdkafka's batch call, which is
//! 1.4 to 1.9 times as fast as polling one at a time. Offsets are taken from messages only: the batch
//! call's own position has known faults.
//!
//! A broker that goes away is waited for: the client reconnects, polls answer with empty batches.
//!
//! Here is the consumer; `config.rs` has its settings, `offsets.rs` where it begins and how far it is, `sorter.rs` the way of a
//! message to its partition's rows, `batch.rs` the batch call, `context.rs` what else the client tells,
//! `group.rs` partitions that come and go.

use std::time::{Duration, Instant};

use rdkafka::{TopicPartitionList, consumer::Consumer, error::KafkaError};

use crate::{
    Polled, Source, SourceError,
    decode::{DecodeConfig, ipc::IpcDecoder, json::JsonDecoder, rows::empty_batch},
};

mod batch;
mod config;
mod context;
mod group;
pub mod mock;
mod offsets;
mod sorter;

pub(crate) use config::client_config;
pub use config::{Assign, From, KafkaConfig, KafkaSecurity, Wait};
pub use group::Change;
pub use offsets::{Offsets, Skipped};

use config::consumer_config;
use context::{Client, Context};
use offsets::find_partitions;
use sorter::{Decoder, Partition, Sorter};

/// A Kafka consumer. Partitions are numbered densely over (topic, partition), sorted.
pub struct KafkaSource {
    // Before the consumer: the queue must be given back while its client lives.
    queue: Option<batch::Queue>,
    consumer: Client,
    names: Vec<(String, i32)>,
    partitions: Vec<Partition>,
    decoder: Decoder,
    batch_rows: usize,
    max_wait: Duration,
    until_end: bool,
    assign: Assign,
    from: From,
    /// A member of a group that must not read pauses its partitions.
    paused: bool,
    cursor: usize,
    skipped: Vec<Skipped>,
    last_error: Option<String>,
}

impl KafkaSource {
    /// Connects and begins at `start`, or where the configuration says for partitions not in it.
    /// With `until_end` the input ends at what the topics held at this moment.
    ///
    /// # Errors
    /// A refused setting, a group that is to be read until the end, no broker within `connect_timeout`, a topic that is not there, an offset of `start` beyond
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
        if config.assign == Assign::Group && until_end {
            let want = "\"all\" to read until the end: a group's members don't know when all have reached it";
            return Err(SourceError::Config { field: "assign", got: "group".to_owned(), want });
        }
        let consumer: Client = consumer_config(config)?
            .create_with_context(Context::default())
            .map_err(failed("create the consumer"))?;
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
            assign: config.assign,
            from: config.from,
            paused: false,
            cursor: 0,
            skipped: Vec::new(),
            last_error: None,
        };
        match config.assign {
            Assign::All => {
                let list = source.find_start(config, start)?;
                source.consumer.assign(&list).map_err(failed("assign partitions"))?;
                source.queue = Some(batch::Queue::of(&source.consumer));
            }
            Assign::Group => {
                let topics: Vec<&str> = config.topics.iter().map(String::as_str).collect();
                source.consumer.subscribe(&topics).map_err(failed("join the group"))?;
            }
        }
        Ok(source)
    }

    /// Topic and partition of each dense partition number.
    #[must_use]
    pub fn partitions(&self) -> &[(String, i32)] {
        &self.names
    }

    /// What the client last complained about, such as a broker that is away. It recovers by itself.
    #[must_use]
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// Forgets the last complaint, because a broker has answered since.
    pub fn forget_error(&mut self) {
        self.last_error = None;
    }

    /// Waits up to `wait` for the first message, then takes what else is there.
    fn consume(&mut self, wait: Duration) -> Result<(), SourceError> {
        let Self { queue, consumer, names, partitions, decoder, last_error, batch_rows, until_end, .. } =
            self;
        let consumer = &*consumer;
        let mut sorter =
            Sorter { consumer, names, partitions, decoder, last_error, skipped: &mut self.skipped, last: 0 };
        let Some(queue) = queue else {
            // The batch call would swallow what a group says: its members poll.
            let mut wait = wait;
            for _ in 0..*batch_rows {
                match consumer.poll(std::mem::take(&mut wait)) {
                    Some(Ok(message)) => sorter.take_polled(&message),
                    // Says no topic; the end is seen by offsets.
                    Some(Err(KafkaError::PartitionEOF(_))) => {}
                    // A member that was fenced has lost its partitions and hears nothing more of them.
                    Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                        let reason = format!("the client can't go on: {code}");
                        return Err(SourceError::Kafka { action: "read as a member of the group", reason });
                    }
                    Some(Err(error)) => *sorter.last_error = Some(error.to_string()),
                    None => break,
                }
                if consumer.context().has_said() {
                    break;
                }
            }
            return Ok(());
        };
        // The batch call swallows complaints about brokers, a poll does not say which partition ended.
        let first = if *until_end {
            queue.consume(wait, 1, |message| sorter.take(message)) > 0
        } else {
            match consumer.poll(wait) {
                Some(Ok(message)) => sorter.take_polled(&message),
                Some(Err(KafkaError::PartitionEOF(_))) | None => {}
                Some(Err(error)) => *sorter.last_error = Some(error.to_string()),
            }
            true
        };
        if first {
            queue.consume(Duration::ZERO, *batch_rows, |message| sorter.take(message));
        }
        Ok(())
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
        self.wake()?;
        loop {
            let now = Instant::now();
            if self.consumer.context().has_said() {
                return Ok(Some(nothing()));
            }
            if let Some(polled) = self.take_due(now) {
                return Ok(Some(polled));
            }
            if self.until_end && self.partitions.iter().all(|partition| partition.ended) {
                return Ok(None);
            }
            if now >= until {
                return Ok(Some(nothing()));
            }
            let due = self.partitions.iter().filter_map(|partition| partition.waiting_since).min();
            let due = due.map_or(until, |since| until.min(since + self.max_wait));
            self.consume(due.saturating_duration_since(now))?;
        }
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        // Closing waits until the group has its partitions back, and nobody is left to give them.
        self.consumer.context().close();
        while let Some(said) = self.consumer.context().next() {
            context::answer(
                &self.consumer,
                matches!(said, context::Said::Assign(_)),
                &TopicPartitionList::new(),
            );
        }
    }
}

/// What a poll gives when nothing came.
fn nothing() -> Polled {
    Polled { partition: 0, batch: empty_batch(), spans: Vec::new(), bad: Vec::new() }
}

fn failed(action: &'static str) -> impl Fn(KafkaError) -> SourceError {
    move |error| SourceError::Kafka { action, reason: error.to_string() }
}
