//! A member of a consumer group: partitions come and go as the group says, and are read from where the caller says.
//!
//! A rebalance is answered by the caller, not by the client: one that goes is given back by [`KafkaSource::release`], after its
//! state was written; one that comes is read after [`KafkaSource::begin`]. Both of the group's protocols are spoken: eager, where
//! all partitions go before any comes, and cooperative, where only those that move do.

use std::time::Duration;

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{Consumer, RebalanceProtocol},
};

use super::{Assign, KafkaSource, context::Said, failed, sorter::Partition};
use crate::SourceError;

/// What a consumer group did, by the numbers of the partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// These are this member's now; each is read after [`KafkaSource::begin`].
    Assigned(Vec<u32>),
    /// These are to be given back: the group waits for [`KafkaSource::release`]. No more of their rows come.
    Revoked(Vec<u32>),
}

impl KafkaSource {
    /// Whether a group decides which partitions are read.
    #[must_use]
    pub fn grouped(&self) -> bool {
        self.assign == Assign::Group
    }

    /// The group's next change. To be asked before each poll: polls bring nothing while there is one.
    ///
    /// # Errors
    /// The client refuses the assignment.
    pub fn next_change(&mut self) -> Result<Option<Change>, SourceError> {
        let Some(said) = self.consumer.context().next() else { return Ok(None) };
        let number = |name: &(String, i32)| u32::try_from(self.names.binary_search(name).ok()?).ok();
        if let Said::Assign(names) = &said
            && let Some((topic, partition)) = names.iter().find(|name| number(name).is_none())
        {
            // Numbers are dense over what was there at start; one that is read by nobody would lose its rows.
            let reason = format!("{topic}-{partition} was made after this start: start again to read it");
            return Err(SourceError::Kafka { action: "take a partition from the group", reason });
        }
        let numbers = |names: &[(String, i32)]| names.iter().filter_map(number).collect::<Vec<u32>>();
        Ok(Some(match said {
            Said::Assign(names) => {
                let numbers = numbers(&names);
                // The group goes on at once; reading begins later.
                self.read_begun(&[])?;
                Change::Assigned(numbers)
            }
            Said::Revoke(names) => {
                let numbers = numbers(&names);
                for number in &numbers {
                    // What was read ahead is read again by who takes over.
                    let partition = &mut self.partitions[*number as usize];
                    let read = partition.read;
                    *partition = Partition { read, leaving: true, ..Partition::new(*number) };
                }
                Change::Revoked(numbers)
            }
        }))
    }

    /// Begins to read assigned partitions: at the given offsets, else where the group committed, else where the configuration
    /// says. Gives those that are read now: a broker that does not answer for the others can be asked again.
    ///
    /// # Errors
    /// An offset beyond the end of its partition; the client refuses.
    pub fn begin(&mut self, wanted: &[(u32, Option<i64>)]) -> Result<Vec<u32>, SourceError> {
        let mut begun = Vec::new();
        for (number, wanted) in wanted {
            let at = *number as usize;
            let Some((topic, partition)) = self.names.get(at) else { continue };
            let committed = match wanted {
                Some(_) => Ok(None),
                None => self.committed(topic, *partition),
            };
            let answer = committed.and_then(|committed| {
                Ok((committed, self.consumer.fetch_watermarks(topic, *partition, ANSWER_WAIT)?))
            });
            match answer {
                Ok((committed, (low, high))) => {
                    // A topic that was made anew is behind what the group committed of the old one.
                    let wanted = wanted.or(committed.filter(|committed| *committed <= high));
                    self.partitions[at] = Partition::new(*number);
                    self.start_at(at, wanted, (low, high))?;
                    self.partitions[at].read = true;
                    begun.push(*number);
                }
                Err(error) => {
                    // Nor may the brokers of the others answer; each question takes time from the partitions that are read.
                    self.last_error = Some(error.to_string());
                    break;
                }
            }
        }
        if !begun.is_empty() {
            self.read_begun(&begun)?;
        }
        Ok(begun)
    }

    /// Gives partitions back to the group.
    ///
    /// # Errors
    /// The client refuses.
    pub fn release(&mut self, numbers: &[u32]) -> Result<(), SourceError> {
        // The client keeps what is paused paused, also when it comes back.
        self.wake()?;
        let mut list = TopicPartitionList::new();
        for number in numbers {
            let partition = &mut self.partitions[*number as usize];
            if partition.read {
                let (topic, number) = &self.names[*number as usize];
                list.add_partition(topic, *number);
            }
            *partition = Partition::new(*number);
        }
        let done = match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.consumer.incremental_unassign(&list),
            _ => self.consumer.unassign(),
        };
        done.map_err(failed("give partitions back"))
    }

    /// Hears of the group without reading: for when rows must wait. A member that does not poll for long is thrown out.
    ///
    /// # Errors
    /// The client refuses to pause.
    pub fn idle(&mut self) -> Result<(), SourceError> {
        if !self.grouped() || self.consumer.context().has_said() {
            return Ok(());
        }
        if !self.paused {
            let list = self.consumer.assignment().map_err(failed("pause"))?;
            self.consumer.pause(&list).map_err(failed("pause"))?;
            self.paused = true;
        }
        self.consume(Duration::ZERO)
    }

    /// Reads again after [`idle`](Self::idle).
    pub(super) fn wake(&mut self) -> Result<(), SourceError> {
        if self.paused {
            let list = self.consumer.assignment().map_err(failed("go on"))?;
            self.consumer.resume(&list).map_err(failed("go on"))?;
            self.paused = false;
        }
        Ok(())
    }

    /// Tells the client what is read now; `new` is what is read for the first time.
    fn read_begun(&mut self, new: &[u32]) -> Result<(), SourceError> {
        self.wake()?;
        let cooperative = matches!(self.consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let mut list = TopicPartitionList::new();
        for (i, (partition, (topic, number))) in self.partitions.iter().zip(&self.names).enumerate() {
            let wanted = !cooperative || new.iter().any(|n| *n as usize == i);
            if let Some(next) = partition.next_offset.filter(|_| partition.read && wanted) {
                let at = list.add_partition_offset(topic, *number, Offset::Offset(next));
                at.map_err(failed("assign partitions"))?;
            }
        }
        let done =
            if cooperative { self.consumer.incremental_assign(&list) } else { self.consumer.assign(&list) };
        done.map_err(failed("assign partitions"))
    }

    /// The offset that the group committed.
    fn committed(&self, topic: &str, number: i32) -> Result<Option<i64>, rdkafka::error::KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, number);
        let found = self.consumer.committed_offsets(list, ANSWER_WAIT)?;
        let Some(element) = found.elements().into_iter().next() else { return Ok(None) };
        // What could not be looked up is not "nothing committed".
        element.error()?;
        Ok(element.offset().to_raw().filter(|offset| *offset >= 0))
    }
}

/// How long a broker may take to say where a partition begins.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
