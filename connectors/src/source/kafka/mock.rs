//! A broker inside the process, for demos and tests. It keeps at most 100,000 messages or 5 MB a
//! partition and drops the oldest.

use std::time::Duration;

use rdkafka::{
    ClientConfig,
    mocking::MockCluster,
    producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer},
    types::RDKafkaRespErr,
};

use super::failed;
use crate::SourceError;

/// A mock broker; it ends with this value.
pub struct MockBroker {
    cluster: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
}

impl MockBroker {
    /// Starts a broker with these topics, each with so many partitions.
    ///
    /// # Errors
    /// The mock cluster cannot be started.
    pub fn start(topics: &[(&str, i32)]) -> Result<Self, SourceError> {
        let cluster = MockCluster::new(1).map_err(failed("start the mock broker"))?;
        for (topic, partitions) in topics {
            cluster.create_topic(topic, *partitions, 1).map_err(failed("create a mock topic"))?;
        }
        let producer = ClientConfig::new()
            .set("bootstrap.servers", cluster.bootstrap_servers())
            .set("linger.ms", "1")
            .create()
            .map_err(failed("connect to the mock broker"))?;
        Ok(Self { cluster, producer })
    }

    /// Address to give as `brokers`.
    #[must_use]
    pub fn brokers(&self) -> Vec<String> {
        self.cluster.bootstrap_servers().split(',').map(str::to_owned).collect()
    }

    /// Queues a message for a partition; see [`Self::flush`].
    ///
    /// # Errors
    /// The broker does not take it.
    pub fn send(&self, topic: &str, partition: i32, key: &[u8], payload: &[u8]) -> Result<(), SourceError> {
        let mut record = BaseRecord::to(topic).partition(partition).key(key).payload(payload);
        for _ in 0..100 {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((_, refused)) => record = refused,
            }
            self.producer.poll(Duration::from_millis(100));
        }
        let reason = "the queue stays full".to_owned();
        Err(SourceError::Kafka { action: "send to the mock broker", reason })
    }

    /// Waits until the broker has all that was sent.
    ///
    /// # Errors
    /// Not within ten seconds.
    pub fn flush(&self) -> Result<(), SourceError> {
        self.producer.flush(Duration::from_secs(10)).map_err(failed("send to the mock broker"))
    }

    /// Says from now on that there is no such topic, or tells of it again.
    ///
    /// # Errors
    /// The mock cluster refuses.
    pub fn set_known(&self, topic: &str, known: bool) -> Result<(), SourceError> {
        let error = if known {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
        } else {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
        };
        self.cluster.topic_error(topic, error).map_err(failed("hide a mock topic"))
    }

    /// Cuts the broker off, or brings it back.
    ///
    /// # Errors
    /// The mock cluster refuses.
    pub fn set_reachable(&self, reachable: bool) -> Result<(), SourceError> {
        let done = if reachable { self.cluster.broker_up(1) } else { self.cluster.broker_down(1) };
        done.map_err(failed("switch the mock broker"))
    }
}
