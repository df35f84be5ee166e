//! What the client tells beside messages.

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use rdkafka::{
    ClientContext, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol},
    types::RDKafkaRespErr,
};

/// The consumer with its context.
pub(super) type Client = BaseConsumer<Context>;

/// What a group said: partitions by topic and number.
pub(super) enum Said {
    Assign(Vec<(String, i32)>),
    Revoke(Vec<(String, i32)>),
}

/// Hears of rebalances on the thread that polls, and only notes them: partitions begin and end when the caller says so, after it
/// has read or written their state. Until then the group waits.
#[derive(Default)]
pub(super) struct Context {
    said: Mutex<VecDeque<Said>>,
    /// The consumer is being closed: nobody will answer any more.
    closing: AtomicBool,
}

impl Context {
    /// What the group said, in order.
    pub(super) fn next(&self) -> Option<Said> {
        self.said.lock().ok()?.pop_front()
    }

    /// Whether it said something that was not taken yet.
    pub(super) fn has_said(&self) -> bool {
        self.said.lock().is_ok_and(|said| !said.is_empty())
    }

    /// From now on partitions are given back without asking.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }
}

impl ClientContext for Context {}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assigned = code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Relaxed) {
            answer(consumer, assigned, list);
            return;
        }
        let names = list.elements().iter().map(|e| (e.topic().to_owned(), e.partition())).collect();
        if let Ok(mut said) = self.said.lock() {
            said.push_back(if assigned { Said::Assign(names) } else { Said::Revoke(names) });
        }
    }
}

/// Answers the group while the consumer is being closed; what fails here fails because the group is left already.
pub(super) fn answer(consumer: &Client, assigned: bool, list: &TopicPartitionList) {
    let _ = match (consumer.rebalance_protocol(), assigned) {
        (RebalanceProtocol::Cooperative, true) => consumer.incremental_assign(list),
        (RebalanceProtocol::Cooperative, false) => consumer.incremental_unassign(list),
        (_, true) => consumer.assign(list),
        (_, false) => consumer.unassign(),
    };
}
