//! Kafka: alerts, signals, dead letters and late rows as messages.
//!
//! Delivery is idempotent unless `properties` says otherwise: a message that is sent again after a
//! lost answer is kept once. The queue is bounded, and a full one says so: nothing here waits.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
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
    source::kafka::{KafkaConfig, KafkaSecurity, client_config},
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

impl TopicKind {
    /// Every output, in the order of the configuration.
    pub const ALL: [TopicKind; 4] =
        [TopicKind::Alerts, TopicKind::Signals, TopicKind::DeadLetters, TopicKind::Late];

    /// The key of its topic in the table `[sink.kafka]`.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            TopicKind::Alerts => "alerts",
            TopicKind::Signals => "signals",
            TopicKind::DeadLetters => "dead_letters",
            TopicKind::Late => "late",
        }
    }
}

impl KafkaSinkConfig {
    /// The first output that goes to a topic of the source, with that topic: what is written would be read again. Lists of
    /// brokers without one in common are taken for those of two clusters.
    #[must_use]
    pub fn output_that_is_read(&self, source: &KafkaConfig) -> Option<(TopicKind, &str)> {
        let apart = self.brokers.as_ref().is_some_and(|own| !own.iter().any(|b| source.brokers.contains(b)));
        let mut outputs = TopicKind::ALL.into_iter().filter_map(|kind| Some((kind, self.topic(kind)?)));
        outputs.find(|(_, topic)| !apart && source.topics.iter().any(|read| read == topic))
    }

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
}

/// What became of a message under its ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The ticket.
    pub ticket: u64,
    /// How it went.
    pub outcome: Outcome,
}

/// How a delivery went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The broker has it.
    Delivered,
    /// It was given up for now, and can be offered again.
    Failed(String),
    /// It will never be taken: too large.
    Refused(String),
}

/// What became of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// It is queued; its delivery comes later.
    Queued,
    /// The queue is full just now.
    Full,
    /// Its output has no topic, so it goes nowhere.
    NoTopic,
    /// It will never be taken: too large.
    Refused(String),
}

#[derive(Debug, Clone, Default)]
struct Deliveries(Arc<Mutex<Vec<Delivery>>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<u64>) {
        let outcome = match result {
            Ok(_) => Outcome::Delivered,
            Err((error, _)) if too_large(error) => Outcome::Refused(error.to_string()),
            Err((error, _)) => Outcome::Failed(error.to_string()),
        };
        let delivery = Delivery { ticket: *ticket, outcome };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(delivery);
    }
}

/// What becomes of a message that the client did not queue.
#[derive(Debug, PartialEq, Eq)]
enum Unsent {
    /// There is no room just now.
    Full,
    /// It will never be taken.
    Refused(String),
    /// It can be offered again: what is wrong with its topic can be put right while the stream runs.
    Again(String),
    /// This client sends nothing any more.
    Dead(String),
}

fn unsent(topic: &str, error: &KafkaError) -> Unsent {
    use RDKafkaErrorCode::{BrokerDestroy, Fatal, QueueFull, State};
    match error.rdkafka_error_code() {
        Some(QueueFull) => Unsent::Full,
        Some(_) if too_large(error) => Unsent::Refused(error.to_string()),
        Some(Fatal | BrokerDestroy | State) | None => Unsent::Dead(error.to_string()),
        Some(_) => Unsent::Again(format!("topic `{topic}`: {error}")),
    }
}

fn too_large(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    code == Some(RDKafkaErrorCode::MessageSizeTooLarge) || code == Some(RDKafkaErrorCode::InvalidMessageSize)
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
        Ok(Self { config: config.clone(), producer, deliveries })
    }

    /// Outputs whose topic the brokers don't have, or don't show to this client, each with that topic. Waits up to `wait`; no topic
    /// is made by asking.
    ///
    /// # Errors
    /// No broker answers.
    pub fn missing_topics(&self, wait: Duration) -> Result<Vec<(TopicKind, &str)>, SinkError> {
        // All topics are asked for: some brokers create a topic that is asked for by name.
        let metadata = self.producer.client().fetch_metadata(None, wait).map_err(|error| {
            SinkError::Kafka { action: "look for the topics of [sink.kafka]", reason: error.to_string() }
        })?;
        let there = |topic: &str| metadata.topics().iter().any(|t| t.name() == topic && t.error().is_none());
        let outputs = TopicKind::ALL.into_iter().filter_map(|kind| Some((kind, self.config.topic(kind)?)));
        Ok(outputs.filter(|(_, topic)| !there(topic)).collect())
    }

    /// Queues a message under a ticket. Never waits. A topic that takes nothing just now is told by the delivery, which
    /// fails.
    ///
    /// # Errors
    /// The client can send nothing any more.
    pub fn offer(
        &self,
        ticket: u64,
        kind: TopicKind,
        key: &[u8],
        payload: &[u8],
        headers: &[(String, Vec<u8>)],
    ) -> Result<Offer, SinkError> {
        let Some(topic) = self.config.topic(kind) else { return Ok(Offer::NoTopic) };
        let mut record = BaseRecord::with_opaque_to(topic, Box::new(ticket)).key(key).payload(payload);
        if !headers.is_empty() {
            let fresh = OwnedHeaders::new_with_capacity(headers.len());
            record = record.headers(
                headers
                    .iter()
                    .fold(fresh, |headers, (key, value)| headers.insert(Header { key, value: Some(value) })),
            );
        }
        let Err((error, _)) = self.producer.send(record) else { return Ok(Offer::Queued) };
        match unsent(topic, &error) {
            Unsent::Full => Ok(Offer::Full),
            Unsent::Refused(why) => Ok(Offer::Refused(why)),
            Unsent::Again(why) => {
                self.report(ticket, Outcome::Failed(why));
                Ok(Offer::Queued)
            }
            Unsent::Dead(reason) => Err(SinkError::Kafka { action: "send", reason }),
        }
    }

    /// Adds an outcome to those of the next [`deliveries`](Self::deliveries): of a message that needs no broker.
    pub fn report(&self, ticket: u64, outcome: Outcome) {
        let delivery = Delivery { ticket, outcome };
        self.deliveries.0.lock().unwrap_or_else(PoisonError::into_inner).push(delivery);
    }

    /// What became of messages since the last call; waits up to `wait` for the first.
    pub fn deliveries(&self, wait: Duration) -> Vec<Delivery> {
        let known = !self.deliveries.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        self.producer.poll(if known { Duration::ZERO } else { wait });
        std::mem::take(&mut *self.deliveries.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Messages queued or under way.
    #[must_use]
    pub fn pending(&self) -> usize {
        usize::try_from(self.producer.in_flight_count()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Given what a send can answer, then only a client that is done for ends the stream.
    #[test]
    fn a_topic_at_fault_does_not_end_the_stream() {
        use RDKafkaErrorCode as Code;
        let of = |code| unsent("alerts", &KafkaError::MessageProduction(code));
        assert_eq!(of(Code::QueueFull), Unsent::Full);
        assert!(matches!(of(Code::MessageSizeTooLarge), Unsent::Refused(_)));
        for code in [
            Code::UnknownTopic,
            Code::UnknownPartition,
            Code::UnknownTopicOrPartition,
            Code::TopicAuthorizationFailed,
            Code::InvalidArgument,
        ] {
            assert!(matches!(of(code), Unsent::Again(why) if why.contains("alerts")), "{code:?}");
        }
        for code in [Code::Fatal, Code::BrokerDestroy, Code::State] {
            assert!(matches!(of(code), Unsent::Dead(_)), "{code:?}");
        }
    }
}
