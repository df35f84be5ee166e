//! The four ports of the loop: where rows come from, where outputs go, where state is kept, and the clock.

use crate::intake::Span;
use crate::payload::Message;
use arrow_array::RecordBatch;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A partition of the log by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
}

impl Origin {
    /// From the name that [`Display`](fmt::Display) gives.
    pub fn parse(name: &str) -> Option<Origin> {
        let (topic, partition) = name.rsplit_once('-')?;
        Some(Origin { topic: topic.into(), partition: partition.parse().ok()? })
    }
}

/// `topic-3`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// What an inlet brought.
#[derive(Debug)]
pub enum Input {
    /// Rows of one partition, in the order of its log.
    Rows(Fetched),
    /// Nothing yet.
    Nothing,
    /// A consumer group gave these partitions to this member: each is read once [`Inlet::begin`] says from where.
    Assigned(Vec<u32>),
    /// The group takes these away, and waits until they are [released](Inlet::release).
    Revoked(Vec<u32>),
    /// The end of all partitions.
    End,
}

/// Rows of one partition, and the records that could not be decoded.
#[derive(Debug)]
pub struct Fetched {
    /// Number of the partition.
    pub partition: u32,
    /// The rows.
    pub batch: RecordBatch,
    /// Where they came from.
    pub spans: Vec<Span>,
    /// Undecodable records as dead letters, each with the rows that it counts as.
    pub dead: Vec<(u64, Message)>,
    /// Offset of the next record to read.
    pub next: i64,
}

/// Where rows come from.
pub trait Inlet {
    /// What can go wrong for good.
    type Error: std::error::Error;
    /// All partitions, by number.
    fn partitions(&self) -> Vec<Origin>;
    /// Whether a consumer group decides which of them are read here.
    fn grouped(&self) -> bool;
    /// Where the reading of a partition begins, if it is known.
    fn start(&self, partition: u32) -> Option<i64>;
    /// Waits no longer than `wait` for rows.
    ///
    /// # Errors
    /// When there is no hope of reading on.
    fn poll(&mut self, wait: Duration) -> Result<Input, Self::Error>;
    /// Instead of `poll` while rows must wait: heeds a group, brings no rows.
    ///
    /// # Errors
    /// When there is no hope of reading on.
    fn idle(&mut self) -> Result<Input, Self::Error>;
    /// Begins to read assigned partitions, each at an offset or, without one, where the group or the configuration says. Gives
    /// those that are read now; the others may be tried again.
    ///
    /// # Errors
    /// When an offset can't be right.
    fn begin(&mut self, partitions: &[(u32, Option<i64>)]) -> Result<Vec<u32>, Self::Error>;
    /// Reads partitions no longer, and tells the group so.
    ///
    /// # Errors
    /// When there is no hope of reading on.
    fn release(&mut self, partitions: &[u32]) -> Result<(), Self::Error>;
    /// Whether everything in the partition has been read, as its broker says just now; none when it does not answer.
    fn at_end(&mut self, partition: u32) -> Option<bool>;
    /// Records that were lost before they were read, since the last call: for a reader.
    fn lost(&mut self) -> Vec<String>;
    /// Why nothing comes, if the source is in trouble.
    fn trouble(&self) -> Option<String>;
    /// Tells the broker what was read, for people and lag monitors; nothing depends on it.
    fn commit(&mut self, next: &BTreeMap<Origin, i64>, wait: bool) -> Result<(), Self::Error>;
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ack {
    /// It arrived.
    Done(u64),
    /// It did not, and should be offered again.
    Again(u64, String),
    /// It never will: it is given up and counted.
    Never(u64, String),
}

/// Where outputs go.
pub trait Outlet {
    /// What can go wrong for good.
    type Error: std::error::Error;
    /// Queues a message under a ticket; false when the queue is full just now.
    ///
    /// # Errors
    /// When there is no hope of sending anything.
    fn offer(&mut self, ticket: u64, message: &Message) -> Result<bool, Self::Error>;
    /// Adds what became of messages since the last call, waiting no longer than `wait` for the first.
    ///
    /// # Errors
    /// When there is no hope of sending anything.
    fn collect(&mut self, wait: Duration, acks: &mut Vec<Ack>) -> Result<(), Self::Error>;
}

/// Where state is kept; everything is by the name of the partition.
pub trait Store {
    /// What can go wrong.
    type Error: std::error::Error;
    /// Whether anything is kept at all.
    fn keeps(&self) -> bool;
    /// Takes a partition's state for this process alone; false while another has it.
    ///
    /// # Errors
    /// When it can't be told.
    fn claim(&mut self, name: &str) -> Result<bool, Self::Error>;
    /// Lets others at a partition's state.
    ///
    /// # Errors
    /// When they can't be let.
    fn release(&mut self, name: &str) -> Result<(), Self::Error>;
    /// Partitions that have something kept.
    ///
    /// # Errors
    /// When it can't be read.
    fn names(&mut self) -> Result<Vec<String>, Self::Error>;
    /// Checkpoints as bytes, the newest first.
    ///
    /// # Errors
    /// When they can't be read.
    fn checkpoints(&mut self, name: &str) -> Result<Vec<Vec<u8>>, Self::Error>;
    /// Makes a checkpoint durable under its name; the one before is kept.
    ///
    /// # Errors
    /// When it is not durable.
    fn publish(&mut self, name: &str, bytes: &[u8]) -> Result<(), Self::Error>;
    /// Takes the newest checkpoint, which is damaged, out of the way.
    ///
    /// # Errors
    /// When it can't be.
    fn set_aside(&mut self, name: &str) -> Result<(), Self::Error>;
    /// The journal.
    ///
    /// # Errors
    /// When it can't be read.
    fn journal(&mut self, name: &str) -> Result<Vec<u8>, Self::Error>;
    /// Adds a line to the journal; it is durable when this returns.
    ///
    /// # Errors
    /// When it is not durable.
    fn append(&mut self, name: &str, line: &[u8]) -> Result<(), Self::Error>;
    /// Replaces the journal by its tail.
    ///
    /// # Errors
    /// When it is not durable.
    fn trim(&mut self, name: &str, tail: &[u8]) -> Result<(), Self::Error>;
    /// Writes to a spill at a place; durable at the next [`publish`](Self::publish).
    ///
    /// # Errors
    /// When it can't be written.
    fn spill(&mut self, name: &str, generation: u64, at: u64, bytes: &[u8]) -> Result<(), Self::Error>;
    /// Reads up to `len` bytes of a spill; fewer at its end, none if it is gone.
    ///
    /// # Errors
    /// When it can't be read.
    fn unspill(&mut self, name: &str, generation: u64, at: u64, len: usize) -> Result<Vec<u8>, Self::Error>;
    /// Removes a spill.
    ///
    /// # Errors
    /// When it can't be removed.
    fn forget(&mut self, name: &str, generation: u64) -> Result<(), Self::Error>;
}

/// The only clock.
pub trait Clock {
    /// Wall time, nanoseconds since 1970 UTC.
    fn now_ns(&self) -> i64;
    /// Time since the start, which never goes back.
    fn elapsed(&self) -> Duration;
}
