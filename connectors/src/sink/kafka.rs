//! Kafka: alerts, signals, dead letters and late rows as messages.
//!
//! Delivery is idempotent unless `properties` says otherwise: a message that is sent again after a
//! lost answer is kept once. The queue is bounded; when it is full, `send` waits.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    SinkError,
    source::kafka::{KafkaSecurity, client_config},
};

/// The table `[sink.kafka]`. An output without a topic is not sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaSinkConfig {
    /// Brokers to ask first. Absent: those of the source.
    pub brokers: Option<Vec<String>>,
    /// Topic of alerts.
    pub alerts: Option<String>,
    /// Topic of signals.
    pub signals: Option<String>,
    /// Topic of dead letters.
    pub dead_letters: Option<String>,
    /// Topic of late rows.
    pub late: Option<String>,
    /// Encryption and login.
    pub security: KafkaSecurity,
    /// Settings of librdkafka, by their names there.
    pub properties: BTreeMap<String, String>,
}

/// Which output a message belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicKind {
    /// Alerts.
    Alerts,
    /// Signals.
    Signals,
    /// Dead letters.
    DeadLetters,
    /// Late rows.
    Late,
}

impl KafkaSinkConfig {
    /// Topic of an output.
    #[must_use]
    pub fn topic(&self, kind: TopicKind) -> Option<&str> {
        match kind {
            TopicKind::Alerts => self.alerts.as_deref(),
            TopicKind::Signals => self.signals.as_deref(),
            TopicKind::DeadLetters => self.dead_letters.as_deref(),
            TopicKind::Late => self.late.as_deref(),
        }
    }
}

/// A Kafka producer.
pub struct KafkaSink {
    config: KafkaSinkConfig,
    producer: BaseProducer<Deliveries>,
    deliveries: Deliveries,
    max_block: Duration,
}

#[derive(Debug, Clone, Default)]
struct Deliveries {
    delivered: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = if result.is_ok() { &self.delivered } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl KafkaSink {
    /// Prepares a producer; the connection is made in the background. `source_brokers` stand in for
    /// brokers the configuration lacks.
    ///
    /// # Errors
    /// A refused setting.
    pub fn open(config: &KafkaSinkConfig, source_brokers: &[String]) -> Result<Self, SinkError> {
        let brokers = config.brokers.as_deref().unwrap_or(source_brokers);
        let action = "configure the producer";
        let mut client = client_config(brokers, &config.security, &config.properties)
            .map_err(|error| SinkError::Kafka { action, reason: error.to_string() })?;
        let defaults = [
            ("enable.idempotence", "true"),
            ("linger.ms", "5"),
            ("queue.buffering.max.messages", "100000"),
            ("queue.buffering.max.kbytes", "65536"),
        ];
        for (name, value) in defaults {
            if !config.properties.contains_key(name) {
                client.set(name, value);
            }
        }
        let deliveries = Deliveries::default();
        let producer = client
            .create_with_context(deliveries.clone())
            .map_err(|error| SinkError::Kafka { action, reason: error.to_string() })?;
        Ok(Self { config: config.clone(), producer, deliveries, max_block: MAX_BLOCK })
    }

    /// Queues a message; answers `false` when its output has no topic. Waits while the queue is full.
    ///
    /// # Errors
    /// The queue stays full for half a minute, or the client refuses the message (too large).
    pub fn send(
        &self,
        kind: TopicKind,
        key: &[u8],
        payload: &[u8],
        headers: &[(&str, &[u8])],
    ) -> Result<bool, SinkError> {
        let Some(topic) = self.config.topic(kind) else { return Ok(false) };
        let mut record = BaseRecord::to(topic).key(key).payload(payload);
        if !headers.is_empty() {
            let fresh = OwnedHeaders::new_with_capacity(headers.len());
            record =
                record.headers(headers.iter().fold(fresh, |headers, (key, value)| {
                    headers.insert(Header { key, value: Some(*value) })
                }));
        }
        let until = Instant::now() + self.max_block;
        self.producer.poll(Duration::ZERO);
        loop {
            let (error, refused) = match self.producer.send(record) {
                Ok(()) => return Ok(true),
                Err(refused) => refused,
            };
            let full = matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
            if !full || Instant::now() >= until {
                return Err(SinkError::Kafka { action: "send", reason: error.to_string() });
            }
            record = refused;
            self.producer.poll(Duration::from_millis(50));
        }
    }

    /// Lets the client report deliveries; call it now and then when nothing is sent.
    pub fn tick(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// Waits until all that was sent is delivered or has failed (see [`Self::failed`]).
    ///
    /// # Errors
    /// Not within `timeout`.
    pub fn flush(&self, timeout: Duration) -> Result<(), SinkError> {
        self.producer
            .flush(timeout)
            .map_err(|error| SinkError::Kafka { action: "flush", reason: error.to_string() })
    }

    /// Messages the broker has.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.deliveries.delivered.load(Ordering::Relaxed)
    }

    /// Messages that were given up.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.deliveries.failed.load(Ordering::Relaxed)
    }

    /// Messages queued or under way.
    #[must_use]
    pub fn pending(&self) -> usize {
        usize::try_from(self.producer.in_flight_count()).unwrap_or(0)
    }
}

/// How long a full queue is waited for.
const MAX_BLOCK: Duration = Duration::from_secs(30);
