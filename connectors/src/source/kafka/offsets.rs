//! Offsets: where reading begins, what the broker no longer keeps, how far it has come, and what is committed.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer},
};

use super::{From, KafkaConfig, KafkaSource, context::Client, failed, sorter::Sorter};
use crate::SourceError;

/// Offsets by topic and partition.
pub type Offsets = BTreeMap<(String, i32), i64>;

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

impl KafkaSource {
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

    /// Decides where each partition begins, and with `until_end` where it ends.
    pub(super) fn find_start(
        &mut self,
        config: &KafkaConfig,
        start: &Offsets,
    ) -> Result<TopicPartitionList, SourceError> {
        let mut list = TopicPartitionList::new();
        for at in 0..self.names.len() {
            let wanted = start.get(&self.names[at]).copied();
            let (topic, number) = &self.names[at];
            let (low, high) = self
                .consumer
                .fetch_watermarks(topic, *number, config.connect_timeout.get())
                .map_err(failed("ask for the offsets of a partition"))?;
            let first = self.start_at(at, wanted, (low, high))?;
            let ((topic, number), partition) = (&self.names[at], &mut self.partitions[at]);
            partition.read = true;
            partition.end = self.until_end.then_some(high);
            partition.ended = self.until_end && first >= high;
            let added = list.add_partition_offset(topic, *number, Offset::Offset(first));
            added.map_err(failed("assign partitions"))?;
        }
        Ok(list)
    }

    /// Decides where a partition begins, given what its broker keeps.
    pub(super) fn start_at(
        &mut self,
        at: usize,
        wanted: Option<i64>,
        (low, high): (i64, i64),
    ) -> Result<i64, SourceError> {
        let (topic, number) = &self.names[at];
        if let Some(wanted) = wanted.filter(|wanted| *wanted > high) {
            let action = "begin at the checkpoint";
            let reason = format!(
                "{topic}-{number}: the checkpoint is ahead of the log: it goes on at offset {wanted}, the log ends at {high}; \
                 was the topic made anew? begin with an empty state directory, or give the topic its records back"
            );
            return Err(SourceError::Kafka { action, reason });
        }
        if let Some(wanted) = wanted.filter(|wanted| *wanted < low) {
            let partition = u32::try_from(at).unwrap_or(u32::MAX);
            self.skipped.push(Skipped { partition, wanted, oldest: low });
        }
        let first = match (wanted, self.from) {
            (Some(wanted), _) => wanted.max(low),
            (None, From::Earliest) => low,
            (None, From::Latest) => high,
        };
        self.partitions[at].next_offset = Some(first);
        Ok(first)
    }
}

impl Sorter<'_> {
    /// Remembers what of a gap the broker no longer keeps. Transactions and compaction make gaps too, so it is asked, and seldom.
    pub(super) fn look_into_gap(&mut self, at: usize) {
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

/// All partitions of the configured topics, sorted.
pub(super) fn find_partitions(
    consumer: &Client,
    config: &KafkaConfig,
) -> Result<Vec<(String, i32)>, SourceError> {
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

/// A broker is asked about the gaps of a partition at most this often, and waited for so long.
const GAP_WAIT: Duration = Duration::from_secs(1);
