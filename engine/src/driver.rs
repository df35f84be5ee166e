//! The loop of a running stream, and the one owner of the commit order.
//!
//! Rows come from an [`Inlet`], outputs go to an [`Outlet`], state is kept in a [`Store`], and only here is a [`Clock`] asked.
//! A checkpoint is made in this order, and nowhere else: bulk outputs so far acknowledged → snapshot with the place in the log
//! and the events not yet acknowledged → published → offsets committed. A crash between any two steps loses nothing: what was
//! judged after the last published checkpoint is judged again, with the same ids.
//!
//! Absent: threads, sockets, files. What fails for a while (a sink that does not answer, a disk that is full) is told as a
//! [`Notice`] and tried again; only what can't be right is an error.

use crate::checkpoint::{Checkpoint, CheckpointError, Spill};
use crate::columns::BatchError;
use crate::config::plan::{Plan, nearest};
use crate::control::{Accepted, Command, EntryRef, Refusal};
use crate::intake::{Content, JournalEntry, Span};
use crate::journal::{self, JournalError, Place, Record, Script};
use crate::metrics::{Metric, Reading, Readout, SignalReading};
use crate::output::{Event, Outputs, Transition, What};
use crate::payload::{self, Channel, Message};
use crate::pipeline::{Pipeline, RestoreError};
use arrow_array::RecordBatch;
use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
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
    /// Where the reading of a partition begins, if it is known.
    fn start(&self, partition: u32) -> Option<i64>;
    /// Waits no longer than `wait` for rows.
    ///
    /// # Errors
    /// When there is no hope of reading on.
    fn poll(&mut self, wait: Duration) -> Result<Input, Self::Error>;
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

/// How a stream is run. Nothing here judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Between checkpoints; they take a tenth of the time at most, so large states wait longer.
    pub checkpoint_every: Duration,
    /// Whether the clock moves time while the source is at its end.
    pub clock_ticks: bool,
    /// Events not acknowledged that are kept in memory; more go to the spill.
    pub pending_events: usize,
    /// Other outputs not acknowledged; at this many nothing is read.
    pub pending_bulk: usize,
}

/// What a person should know, and the loop goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A partition goes on from its checkpoint.
    Restored {
        /// The partition.
        partition: String,
        /// Where it goes on.
        next: Place,
        /// Events that are sent again.
        pending: usize,
    },
    /// The newest checkpoint was damaged; the one before was used.
    UsedPrevious {
        /// The partition.
        partition: String,
        /// What was wrong.
        why: CheckpointError,
    },
    /// A checkpoint could not be made; it is tried again.
    NoCheckpoint(String),
    /// Checkpoints are made again.
    CheckpointRecovered,
    /// The journal could not be written, so time does not move by the clock.
    NoJournal(String),
    /// Offsets could not be committed; nothing depends on them.
    NoCommit(String),
    /// A partition begins without a checkpoint.
    Begins {
        /// The partition.
        partition: String,
        /// Where.
        next: Place,
    },
    /// Records or rows were refused: how many since the last such notice, and the first of them.
    DeadLetters {
        /// How many.
        count: u64,
        /// Code and reason of the first.
        first: String,
    },
    /// Records were lost before they were read.
    Lost(String),
    /// The source does not answer.
    SourceAway(String),
    /// It answers again.
    SourceBack,
    /// A sink does not take what it gets; the first reason, then silence until it recovers.
    SinkStalled(String),
    /// It takes it again.
    SinkRecovered,
    /// An output that can never be delivered was given up.
    GivenUp(String),
    /// Outputs wait for the sink, so nothing is read.
    BackPressure,
    /// A tag came from a second partition: its state starts anew there.
    Moved {
        /// The tag.
        tag: String,
        /// Where it was first.
        from: String,
        /// Where it is too.
        to: String,
    },
    /// A declared tag has not been seen at all, longer than its `gap` rule allows.
    NeverSeen {
        /// The tag.
        tag: String,
    },
    /// More of the last kind than are told one by one.
    AndMore,
    /// The members of a group came from two partitions: its signal has failed in both.
    Split {
        /// The signal.
        signal: String,
    },
}

/// For a reader.
impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Restored { partition, next, pending } => {
                write!(f, "{partition} goes on at offset {} ({pending} events are sent again)", next.offset)
            }
            Notice::UsedPrevious { partition, why } => {
                write!(
                    f,
                    "{partition}: the newest checkpoint can't be used ({why}); going on from the one before"
                )
            }
            Notice::NoCheckpoint(why) => write!(f, "no checkpoint could be made, trying again: {why}"),
            Notice::CheckpointRecovered => write!(f, "checkpoints are made again"),
            Notice::NoJournal(why) => {
                write!(f, "the journal can't be written, the clock moves nothing: {why}")
            }
            Notice::NoCommit(why) => write!(f, "offsets could not be committed: {why}"),
            Notice::Begins { partition, next } => {
                write!(f, "{partition} has no checkpoint and begins at offset {}", next.offset)
            }
            Notice::DeadLetters { count, first } => write!(f, "{count} refused, the first: {first}"),
            Notice::Lost(what) => write!(f, "{what}"),
            Notice::SourceAway(why) => write!(f, "the source does not answer, waiting for it: {why}"),
            Notice::SourceBack => write!(f, "the source answers again"),
            Notice::SinkStalled(why) => write!(f, "a sink does not take outputs, they are kept: {why}"),
            Notice::SinkRecovered => write!(f, "the sink takes outputs again"),
            Notice::GivenUp(why) => write!(f, "an output was given up: {why}"),
            Notice::BackPressure => write!(f, "too many outputs wait for the sink; reading waits"),
            Notice::Moved { tag, from, to } => {
                write!(
                    f,
                    "{tag} came from {from} and now from {to}: it starts anew there; send a tag to one partition"
                )
            }
            Notice::NeverSeen { tag } => write!(f, "{tag} is declared and watched, but was never seen"),
            Notice::AndMore => write!(f, "and so on: the rest is not told one by one"),
            Notice::Split { signal } => write!(
                f,
                "members of {signal} come from two partitions: it has failed; send all members to one partition"
            ),
        }
    }
}

/// Why the loop ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError<I: std::error::Error, O: std::error::Error, S: std::error::Error> {
    /// The source.
    #[error(transparent)]
    Inlet(I),
    /// A sink.
    #[error(transparent)]
    Outlet(O),
    /// The store.
    #[error(transparent)]
    Store(S),
    /// The data lack what the configuration needs.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A checkpoint can't be used.
    #[error("partition {partition}: {source}")]
    Checkpoint {
        /// The partition.
        partition: String,
        /// What is wrong with the newest.
        source: CheckpointError,
    },
    /// State inside a checkpoint can't be used.
    #[error("partition {partition}: {source}")]
    Restore {
        /// The partition.
        partition: String,
        /// What is wrong.
        source: RestoreError,
    },
    /// A journal can't be used.
    #[error("partition {partition}: {source}")]
    Journal {
        /// The partition.
        partition: String,
        /// What is wrong.
        source: JournalError,
    },
    /// The last checkpoint could not be made.
    #[error("no checkpoint could be made: {reason}; the next start goes on from the one before")]
    NoCheckpoint {
        /// What the store said.
        reason: String,
    },
    /// Outputs were not acknowledged in time, so the last checkpoint is an older one.
    #[error(
        "{outputs} outputs were not acknowledged in time; the next start repeats what came after the last checkpoint"
    )]
    Unacknowledged {
        /// How many.
        outputs: usize,
    },
}

/// What the store kept of a partition.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The newest checkpoint that can be used.
    pub checkpoint: Checkpoint,
    /// What was wrong with a newer one.
    pub passed_over: Option<CheckpointError>,
}

/// The newest usable checkpoint of each partition in the store, so that a source can be opened where they end.
///
/// # Errors
/// When the store can't be read, or no checkpoint of a partition is whole.
pub fn recover<I: std::error::Error, O: std::error::Error, S: Store>(
    store: &mut S,
) -> Result<BTreeMap<Origin, Kept>, DriverError<I, O, S::Error>> {
    let mut all = BTreeMap::new();
    for name in store.names().map_err(DriverError::Store)? {
        let Some(origin) = Origin::parse(&name) else { continue };
        let mut first = None;
        let mut kept = None;
        for bytes in store.checkpoints(&name).map_err(DriverError::Store)? {
            match Checkpoint::from_bytes(&bytes) {
                Ok(checkpoint) => {
                    kept = Some(checkpoint);
                    break;
                }
                // An older one would be read as if it were the newest.
                Err(source @ CheckpointError::Version { .. }) => {
                    return Err(DriverError::Checkpoint { partition: name, source });
                }
                Err(error) => {
                    first.get_or_insert(error);
                }
            }
        }
        match (kept, first) {
            (Some(checkpoint), passed_over) => {
                if passed_over.is_some() {
                    // Else the next checkpoint would push the good one out.
                    store.set_aside(&name).map_err(DriverError::Store)?;
                }
                all.insert(origin, Kept { checkpoint, passed_over });
            }
            (None, Some(source)) => return Err(DriverError::Checkpoint { partition: name, source }),
            (None, None) => {}
        }
    }
    Ok(all)
}

/// One partition at run time.
struct Partition {
    origin: Origin,
    name: String,
    pipeline: Pipeline,
    script: Script,
    next: Place,
    /// Number of the last journal entry written.
    journaled: u64,
    /// Number applied in the checkpoint before the newest: entries above it are still needed.
    applied: [u64; 2],
    journal_bytes: u64,
    spill: Spill,
    /// Spills that the newest checkpoint no longer needs, and those that the one before doesn't either.
    drained: [Vec<u64>; 2],
    /// Changed since the last checkpoint.
    dirty: bool,
    /// When rows last came.
    heard: Duration,
}

/// A message that is not acknowledged.
struct Unacked {
    partition: u32,
    message: Message,
}

/// Drives all partitions.
pub struct Driver<I: Inlet, O: Outlet, S: Store, C: Clock> {
    plan: Arc<Plan>,
    settings: Settings,
    inlet: I,
    outlet: O,
    store: S,
    clock: C,
    origins: Vec<Origin>,
    kept: BTreeMap<Origin, Kept>,
    partitions: BTreeMap<u32, Partition>,
    out: Outputs,
    messages: Vec<Message>,
    tickets: u64,
    /// By ticket, so in the order they were made.
    events: BTreeMap<u64, Unacked>,
    bulk: BTreeMap<u64, Message>,
    waiting_events: VecDeque<u64>,
    waiting_bulk: VecDeque<u64>,
    again: Vec<(Duration, u64)>,
    acks: Vec<Ack>,
    stalled: bool,
    /// Why the last checkpoint could not be made.
    failure: Option<String>,
    /// When a source in trouble is asked again.
    next_probe: Duration,
    /// The broker did not answer when it was last asked.
    unanswered: bool,
    /// Since when the source is in trouble, and whether it was told.
    away: Option<(Duration, bool)>,
    /// Refused since it was last told: how many, and the first.
    refused: (u64, String),
    next_refused: Duration,
    /// It was told that no checkpoint could be made.
    unsaved: bool,
    /// It was told that the journal can't be written.
    mute: bool,
    held_back: bool,
    last_ack: Duration,
    next_checkpoint: Duration,
    next_tick: Duration,
    homes: BTreeMap<String, u32>,
    /// Groups of each member.
    groups_of: BTreeMap<String, Vec<usize>>,
    /// Declared tags that a `gap` rule watches and that were not seen yet, with when that becomes a fault.
    unseen: Vec<(String, Duration)>,
    /// How many operational events were told.
    told: usize,
    notices: Vec<Notice>,
    tallies: Tallies,
}

/// What the loop itself counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tallies {
    /// Alerts that fired.
    pub fired: u64,
    /// Alerts that ended.
    pub resolved: u64,
    /// Checkpoints published.
    pub checkpoints: u64,
    /// Checkpoints that could not be.
    pub failures: u64,
    /// Bytes of the last checkpoint of all partitions that changed.
    pub checkpoint_bytes: u64,
    /// Journal entries written.
    pub journaled: u64,
    /// Events that went to the spill.
    pub spilled: u64,
    /// Outputs given up.
    pub given_up: u64,
}

type Failure<I, O, S> = DriverError<<I as Inlet>::Error, <O as Outlet>::Error, <S as Store>::Error>;

impl<I: Inlet, O: Outlet, S: Store, C: Clock> Driver<I, O, S, C> {
    /// Goes on from what was kept; the inlet must begin where that ends.
    ///
    /// # Errors
    /// When state or journal of a partition can't be used.
    pub fn new(
        plan: Arc<Plan>,
        settings: Settings,
        (inlet, outlet, store, clock): (I, O, S, C),
        kept: BTreeMap<Origin, Kept>,
    ) -> Result<Self, Failure<I, O, S>> {
        let now = clock.elapsed();
        let mut driver = Driver {
            plan,
            settings,
            origins: inlet.partitions(),
            inlet,
            outlet,
            store,
            clock,
            kept,
            partitions: BTreeMap::new(),
            out: Outputs::default(),
            messages: Vec::new(),
            tickets: 0,
            events: BTreeMap::new(),
            bulk: BTreeMap::new(),
            waiting_events: VecDeque::new(),
            waiting_bulk: VecDeque::new(),
            again: Vec::new(),
            acks: Vec::new(),
            stalled: false,
            failure: None,
            next_probe: now,
            unanswered: false,
            away: None,
            refused: (0, String::new()),
            next_refused: now,
            unsaved: false,
            mute: false,
            held_back: false,
            last_ack: now,
            next_checkpoint: now + settings.checkpoint_every,
            next_tick: now + CLOCK_EVERY,
            homes: BTreeMap::new(),
            groups_of: BTreeMap::new(),
            unseen: Vec::new(),
            told: 0,
            notices: Vec::new(),
            tallies: Tallies::default(),
        };
        for (i, group) in driver.plan.groups.iter().enumerate() {
            for member in &group.raw.members {
                driver.groups_of.entry(member.clone()).or_default().push(i);
            }
        }
        let due = |max: i64| now + CLOCK_EVERY + Duration::from_nanos(max.unsigned_abs());
        driver.unseen = driver.plan.watched().into_iter().map(|(tag, max)| (tag, due(max))).collect();
        for number in 0..driver.origins.len() as u32 {
            let start = driver.inlet.start(number);
            if driver.kept.contains_key(&driver.origins[number as usize])
                || start.is_some() && driver.store.keeps()
            {
                driver.open(number)?;
            }
            // Where a stream begins is kept from the first moment on: "latest" is somewhere else at the next start.
            if let Some(p) = driver.partitions.get_mut(&number)
                && let Some(start) = start.filter(|start| *start > p.next.offset)
            {
                p.next = Place { offset: start, index: 0 };
                (p.dirty, driver.next_checkpoint) = (true, now);
                driver.notices.push(Notice::Begins { partition: p.name.clone(), next: p.next });
            }
        }
        Ok(driver)
    }

    /// One turn: takes what came, moves time, makes a checkpoint when it is due. False at the end of the input, when all
    /// is done.
    ///
    /// # Errors
    /// When it can't go on.
    pub fn step(&mut self, wait: Duration) -> Result<bool, Failure<I, O, S>> {
        self.collect(Duration::ZERO)?;
        if self.backed_up() {
            if !std::mem::replace(&mut self.held_back, true) {
                self.notices.push(Notice::BackPressure);
            }
            self.collect(wait)?;
        } else {
            self.held_back = false;
            match self.inlet.poll(wait).map_err(DriverError::Inlet)? {
                Input::Rows(fetched) => self.take(fetched)?,
                Input::Nothing => {}
                Input::End => {
                    self.finish()?;
                    return Ok(false);
                }
            }
        }
        self.unspill()?;
        let now = self.clock.elapsed();
        self.watch(now);
        if self.settings.clock_ticks && now >= self.next_tick {
            self.next_tick = now + CLOCK_EVERY;
            self.tick()?;
        }
        if now >= self.next_checkpoint {
            self.checkpoint(CHECKPOINT_WAIT)?;
        }
        Ok(true)
    }

    /// Writes a command to the journal of each partition that it concerns, and applies it.
    ///
    /// # Errors
    /// A [`Refusal`]; in the inner result, so that the loop goes on.
    pub fn ask(&mut self, command: &Command) -> Result<Result<Accepted, Refusal>, Failure<I, O, S>> {
        let (numbers, content) = match self.concerns(command) {
            Ok(found) => found,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let mut entries = Vec::new();
        for partition in numbers {
            match self.write(partition, content.clone()) {
                Ok(number) => entries.push(EntryRef { partition, number }),
                Err(error) => return Ok(Err(Refusal::Journal { reason: error.to_string() })),
            }
            self.send(partition)?;
        }
        Ok(Ok(Accepted { entries }))
    }

    /// Ends without an end of the input: nothing is flushed, a last checkpoint is made.
    ///
    /// # Errors
    /// When it could not be made in `wait`.
    pub fn stop(&mut self, wait: Duration) -> Result<(), Failure<I, O, S>> {
        let until = self.clock.elapsed() + wait;
        // What is acknowledged now need not be sent again; events that are not are kept in the checkpoint.
        let polite = if self.store.keeps() { POLITE_WAIT.min(wait) } else { wait };
        let early = self.clock.elapsed() + polite;
        while !(self.events.is_empty() && self.bulk.is_empty()) && self.clock.elapsed() < early {
            self.collect(SHORT_WAIT)?;
        }
        let lost = if self.store.keeps() { 0 } else { self.events.len() };
        let left = until.saturating_sub(self.clock.elapsed());
        let made = self.checkpoint(left)?;
        if let Some(reason) = self.failure.take().filter(|_| !made) {
            return Err(DriverError::NoCheckpoint { reason });
        }
        if !made || lost > 0 {
            let outputs = self.events.len() + self.bulk.len();
            return Err(DriverError::Unacknowledged { outputs });
        }
        Ok(())
    }

    /// Makes a checkpoint of every partition that changed. False if it could not be made now.
    ///
    /// # Errors
    /// When the loop can't go on.
    pub fn checkpoint(&mut self, wait: Duration) -> Result<bool, Failure<I, O, S>> {
        let began = self.clock.elapsed();
        self.failure = None;
        self.next_checkpoint = began + self.settings.checkpoint_every;
        if !self.partitions.values().any(|p| p.dirty) {
            return Ok(true);
        }
        let barrier = self.tickets;
        while self.bulk.range(..=barrier).next().is_some() {
            let left = (began + wait).saturating_sub(self.clock.elapsed());
            if left.is_zero() {
                return Ok(false);
            }
            self.collect(left.min(SHORT_WAIT))?;
        }
        let numbers: Vec<u32> = self.partitions.iter().filter(|(_, p)| p.dirty).map(|(n, _)| *n).collect();
        self.tallies.checkpoint_bytes = 0;
        for number in numbers {
            if let Err(error) = self.publish(number) {
                self.tallies.failures += 1;
                self.failure = Some(error.to_string());
                if !std::mem::replace(&mut self.unsaved, true) {
                    self.notices.push(Notice::NoCheckpoint(error.to_string()));
                }
                return Ok(false);
            }
        }
        if std::mem::take(&mut self.unsaved) {
            self.notices.push(Notice::CheckpointRecovered);
        }
        let next = self.partitions.values().map(|p| (p.origin.clone(), p.next.offset)).collect();
        if let Err(error) = self.inlet.commit(&next, false) {
            self.notices.push(Notice::NoCommit(error.to_string()));
        }
        let now = self.clock.elapsed();
        self.next_checkpoint = now + self.settings.checkpoint_every.max((now - began) * 10);
        Ok(true)
    }

    /// What a person should know since the last call.
    pub fn notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// The partitions' pipelines, by number.
    pub fn pipelines(&self) -> impl Iterator<Item = &Pipeline> {
        self.partitions.values().map(|p| &p.pipeline)
    }

    /// What the loop counted.
    pub fn tallies(&self) -> Tallies {
        self.tallies
    }

    /// What a server shows.
    pub fn readout(&self) -> Readout {
        let mut all = Readings::default();
        for p in self.partitions.values() {
            all.partition(&p.name, &p.pipeline, p.next.offset, self.plan.limits.tags);
        }
        let t = &self.tallies;
        let none = Vec::new;
        all.add(Metric::Alerts, vec![("transition", "firing".into())], t.fired as f64);
        all.add(Metric::Alerts, vec![("transition", "resolved".into())], t.resolved as f64);
        all.add(Metric::BuildInfo, vec![("version", env!("CARGO_PKG_VERSION").into())], 1.0);
        let numbers = [
            (Metric::EventsPending, self.events.len() as u64),
            (Metric::EventsPendingLimit, self.settings.pending_events as u64),
            (Metric::EventsSpilled, t.spilled),
            (Metric::BulkPending, self.bulk.len() as u64),
            (Metric::BulkPendingLimit, self.settings.pending_bulk as u64),
            (Metric::GivenUp, t.given_up),
            (Metric::Checkpoints, t.checkpoints),
            (Metric::CheckpointFailures, t.failures),
            (Metric::CheckpointBytes, t.checkpoint_bytes),
            (Metric::JournalEntries, t.journaled),
        ];
        for (metric, value) in numbers {
            all.add(metric, none(), value as f64);
        }
        all.finish()
    }

    /// Makes the partition, from its checkpoint if there is one.
    fn open(&mut self, number: u32) -> Result<(), Failure<I, O, S>> {
        let origin = self.origins[number as usize].clone();
        let name = origin.to_string();
        let kept = self.kept.remove(&origin);
        let mut partition = Partition {
            pipeline: Pipeline::new(self.plan.clone(), number),
            script: Script::default(),
            next: Place::default(),
            journaled: 0,
            applied: [0; 2],
            journal_bytes: 0,
            spill: Spill::default(),
            drained: [Vec::new(), Vec::new()],
            dirty: false,
            heard: self.clock.elapsed(),
            origin,
            name: name.clone(),
        };
        let mut pending = Vec::new();
        if let Some(Kept { checkpoint, passed_over }) = kept {
            let restored = Pipeline::restore(self.plan.clone(), number, &checkpoint.pipeline, &mut self.out);
            partition.pipeline =
                restored.map_err(|source| DriverError::Restore { partition: name.clone(), source })?;
            partition.next = checkpoint.next;
            partition.journaled = checkpoint.journaled;
            partition.spill = checkpoint.spill;
            partition.applied = [partition.pipeline.applied(); 2];
            pending = checkpoint.pending;
            if let Some(why) = passed_over {
                self.notices.push(Notice::UsedPrevious { partition: name.clone(), why });
            }
            let (next, pending) = (checkpoint.next, pending.len());
            self.notices.push(Notice::Restored { partition: name.clone(), next, pending });
        }
        let text = self.store.journal(&name).map_err(DriverError::Store)?;
        partition.journal_bytes = text.len() as u64;
        let records =
            journal::parse(&text).map_err(|source| DriverError::Journal { partition: name, source })?;
        let last = records.last().map_or(0, |r| r.entry.number);
        partition.journaled = partition.journaled.max(last);
        partition.script = Script::new(records, partition.pipeline.applied());
        for tag in partition.pipeline.heard_tags() {
            self.homes.entry(tag).or_insert(number);
        }
        self.partitions.insert(number, partition);
        // Before anything new: what the sink had not acknowledged, then what the restart itself has to say.
        for message in pending {
            self.keep_event(number, message);
        }
        self.send(number)?;
        self.apply_due(number);
        self.send(number)
    }

    fn take(&mut self, fetched: Fetched) -> Result<(), Failure<I, O, S>> {
        let number = fetched.partition;
        if !self.partitions.contains_key(&number) {
            self.open(number)?;
        }
        let now = self.clock.elapsed();
        let Some(partition) = self.partitions.get_mut(&number) else { return Ok(()) };
        partition.script.push(&mut partition.pipeline, &fetched.batch, &fetched.spans, &mut self.out)?;
        for (rows, letter) in fetched.dead {
            partition.pipeline.dead_letter(rows);
            self.messages.push(letter);
        }
        partition.next = Place { offset: fetched.next, index: 0 };
        (partition.dirty, partition.heard) = (true, now);
        self.apply_due(number);
        self.send(number)?;
        self.newcomers(number)
    }

    /// Applies journal entries whose place has come.
    fn apply_due(&mut self, number: u32) {
        let Some(p) = self.partitions.get_mut(&number) else { return };
        if !p.script.is_empty() {
            p.script.apply_until(p.next, &mut p.pipeline, &mut self.out);
            p.dirty = true;
        }
    }

    /// Tags that this partition saw for the first time: were they elsewhere?
    fn newcomers(&mut self, number: u32) -> Result<(), Failure<I, O, S>> {
        let Some(partition) = self.partitions.get_mut(&number) else { return Ok(()) };
        let tags = partition.pipeline.take_newcomers();
        if tags.is_empty() {
            return Ok(());
        }
        let mut signals = Vec::new();
        for tag in tags {
            if let Some(home) = self.homes.get(&tag).filter(|home| **home != number) {
                let (from, to) = (self.partitions[home].name.clone(), self.partitions[&number].name.clone());
                let at = self.partitions[&number].pipeline.progress().unwrap_or(0);
                self.report(at, "tag_moved", &tag, Notice::Moved { tag: tag.clone(), from, to });
            }
            let of_group =
                |(i, g): (usize, &crate::config::plan::GroupPlan)| g.raw.members.contains(&tag).then_some(i);
            signals.extend(self.plan.groups.iter().enumerate().filter_map(of_group));
            self.homes.entry(tag).or_insert(number);
        }
        self.send(number)?;
        signals.sort_unstable();
        signals.dedup();
        for group in signals {
            let hears = |p: &&u32| self.partitions[p].pipeline.hears(group);
            let homes: Vec<u32> = self.partitions.keys().filter(hears).copied().collect();
            if homes.len() < 2 {
                continue;
            }
            let signal = self.plan.groups[group].raw.id.clone();
            let at = self.partitions[&number].pipeline.progress().unwrap_or(0);
            self.report(at, "group_split", &signal, Notice::Split { signal: signal.clone() });
            for home in homes {
                if self.partitions[&home].pipeline.is_split(group) {
                    continue;
                }
                let content = Content::Split { signal: signal.clone() };
                if let Err(error) = self.write(home, content) {
                    self.notices.push(Notice::NoJournal(error.to_string()));
                }
                self.send(home)?;
            }
        }
        Ok(())
    }

    /// Tells what a person should know of source and refused rows: at once, then now and then.
    fn watch(&mut self, now: Duration) {
        if self.refused.0 > 0 && now >= self.next_refused {
            let (count, first) = std::mem::take(&mut self.refused);
            self.notices.push(Notice::DeadLetters { count, first });
            self.next_refused = now + REFUSED_EVERY;
        }
        self.notices.extend(self.inlet.lost().into_iter().map(Notice::Lost));
        match (self.inlet.trouble(), self.away) {
            (Some(_), None) => self.away = Some((now, false)),
            (Some(why), Some((since, told))) if now >= self.next_probe.max(since + AWAY_AFTER) => {
                self.next_probe = now + NO_ANSWER_WAIT;
                // A connection that was idle and closed is no trouble; who answers takes its complaint back.
                if self.inlet.at_end(0).is_none() && !told {
                    self.away = Some((since, true));
                    self.notices.push(Notice::SourceAway(why));
                }
            }
            (Some(_), Some(_)) => {}
            (None, Some((_, told))) => {
                self.away = None;
                // Who sends to the source needs a while too: what was kept back is no silence.
                self.next_tick = self.next_tick.max(now + AFTER_OUTAGE);
                if told {
                    self.notices.push(Notice::SourceBack);
                }
            }
            (None, None) => {}
        }
    }

    /// Tells something about the program's own work as an event and as a notice; only so many, then that there are more.
    fn report(&mut self, at: i64, code: &str, subject: &str, notice: Notice) {
        self.told += 1;
        match self.told.cmp(&TOLD) {
            Ordering::Less => {
                self.out.events.push(Event::operational(at, code, subject, notice.to_string()));
                self.notices.push(notice);
            }
            Ordering::Equal => self.notices.push(Notice::AndMore),
            Ordering::Greater => {}
        }
    }

    /// Declared tags that nobody has seen: no partition can find that, because they have no row.
    fn tell_unseen(&mut self, now: i64) -> Result<(), Failure<I, O, S>> {
        let elapsed = self.clock.elapsed();
        let Some((&first, _)) = self.partitions.iter().next() else { return Ok(()) };
        if !self.unseen.iter().any(|(_, due)| *due < elapsed) {
            return Ok(());
        }
        let all = std::mem::take(&mut self.unseen);
        let (due, later): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, due)| *due < elapsed);
        self.unseen = later;
        let unseen: Vec<String> =
            due.into_iter().map(|(tag, _)| tag).filter(|tag| !self.homes.contains_key(tag)).collect();
        if unseen.is_empty() {
            return Ok(());
        }
        // A backlog may still hold them.
        let numbers: Vec<u32> = self.partitions.keys().copied().collect();
        if !numbers.into_iter().all(|number| self.inlet.at_end(number) == Some(true)) {
            self.unseen.extend(unseen.into_iter().map(|tag| (tag, elapsed)));
            return Ok(());
        }
        for tag in unseen {
            self.report(now, "tag_never_seen", &tag, Notice::NeverSeen { tag: tag.clone() });
        }
        self.send(first)
    }

    /// Moves time by the clock in partitions that have been read to their end.
    fn tick(&mut self) -> Result<(), Failure<I, O, S>> {
        let (now, elapsed) = (self.clock.now_ns(), self.clock.elapsed());
        let due = |p: &Partition| {
            p.script.is_empty()
                && elapsed.saturating_sub(p.heard) >= CLOCK_EVERY
                && p.pipeline.next_wake().is_some_and(|wake| wake < now)
        };
        let numbers: Vec<u32> = self.partitions.iter().filter(|(_, p)| due(p)).map(|(n, _)| *n).collect();
        for number in numbers {
            match self.inlet.at_end(number) {
                Some(_) if std::mem::take(&mut self.unanswered) => {
                    self.next_tick = self.clock.elapsed() + AFTER_OUTAGE;
                    return Ok(());
                }
                Some(true) => {}
                Some(false) => continue,
                // Nor will it answer for the others; each question costs time that rows may need.
                None => {
                    self.next_tick = self.clock.elapsed() + NO_ANSWER_WAIT;
                    self.unanswered = true;
                    return Ok(());
                }
            }
            if let Err(error) = self.write(number, Content::ClockTick { time: now }) {
                if !std::mem::replace(&mut self.mute, true) {
                    self.notices.push(Notice::NoJournal(error.to_string()));
                }
                return Ok(());
            }
            self.mute = false;
            self.send(number)?;
        }
        self.tell_unseen(now)
    }

    /// Makes an entry durable, then applies it at its place.
    fn write(&mut self, number: u32, content: Content) -> Result<u64, S::Error> {
        let written = self.clock.now_ns();
        let Some(p) = self.partitions.get_mut(&number) else { return Ok(0) };
        let entry = JournalEntry { number: p.journaled + 1, content };
        let before = p.script.place(p.next);
        let line = Record { partition: p.name.clone(), before, written, entry: entry.clone() }.line();
        if let Err(error) = self.store.append(&p.name, &line) {
            // It may be there all the same: an entry that a restart would find must be applied, and its number not be used again.
            let text = self.store.journal(&p.name).unwrap_or_default();
            let there = journal::parse(&text).unwrap_or_default();
            if !there.iter().any(|r| r.entry.number == entry.number) {
                return Err(error);
            }
        }
        p.journaled += 1;
        p.journal_bytes += line.len() as u64;
        p.dirty = true;
        self.tallies.journaled += 1;
        p.script.add(before, entry);
        p.script.apply_until(p.next, &mut p.pipeline, &mut self.out);
        Ok(p.journaled)
    }

    /// The end of the input: a checkpoint before it, then the end as a clock tick of the journal.
    fn finish(&mut self) -> Result<(), Failure<I, O, S>> {
        let numbers: Vec<u32> = self.partitions.keys().copied().collect();
        for number in &numbers {
            if let Some(p) = self.partitions.get_mut(number) {
                p.script.apply_all(&mut p.pipeline, &mut self.out);
            }
            self.send(*number)?;
        }
        self.checkpoint(END_WAIT)?;
        let whole = self.partitions.values().filter_map(|p| p.pipeline.progress()).max();
        for number in &numbers {
            if let Some(time) = whole {
                self.write(*number, Content::ClockTick { time }).map_err(DriverError::Store)?;
            }
            if let Some(p) = self.partitions.get_mut(number) {
                p.pipeline.end(whole, &mut self.out);
            }
            self.send(*number)?;
        }
        crate::pipeline::tell_idle_rules(self.partitions.values().map(|p| &p.pipeline), &mut self.out);
        if let Some(first) = numbers.first() {
            self.send(*first)?;
        }
        let until = self.clock.elapsed() + END_WAIT;
        self.unspill()?;
        while !(self.events.is_empty() && self.bulk.is_empty()) {
            if self.clock.elapsed() >= until {
                return Err(DriverError::Unacknowledged { outputs: self.events.len() + self.bulk.len() });
            }
            self.collect(SHORT_WAIT)?;
            self.unspill()?;
        }
        Ok(())
    }

    /// Turns what a partition put out into messages under way.
    fn send(&mut self, number: u32) -> Result<(), Failure<I, O, S>> {
        let Some(p) = self.partitions.get(&number) else { return Ok(()) };
        for event in &self.out.events {
            match event.what {
                What::Alert { transition: Transition::Firing, .. } => self.tallies.fired += 1,
                What::Alert { transition: Transition::Resolved, .. } => self.tallies.resolved += 1,
                _ => {}
            }
        }
        let origin = (p.origin.topic.as_str(), p.origin.partition);
        payload::messages(&self.plan, &p.pipeline, origin, &mut self.out, &mut self.messages);
        if self.messages.is_empty() {
            return Ok(());
        }
        if self.events.is_empty() && self.bulk.is_empty() {
            self.last_ack = self.clock.elapsed();
        }
        for message in std::mem::take(&mut self.messages) {
            if message.channel == Channel::DeadLetters {
                if self.refused.0 == 0 {
                    self.refused.1 = describe(&message);
                }
                self.refused.0 += 1;
            }
            if message.channel == Channel::Events {
                self.add_event(number, message);
            } else {
                self.tickets += 1;
                self.bulk.insert(self.tickets, message);
                self.waiting_bulk.push_back(self.tickets);
            }
        }
        self.offer()
    }

    /// Keeps an event in memory, or in the spill when there are too many.
    fn add_event(&mut self, number: u32, message: Message) {
        let full = self.events.len() >= self.settings.pending_events;
        let spilling = self.partitions.get(&number).is_some_and(|p| p.spill.from < p.spill.to);
        if (full || spilling) && self.store.keeps() && self.try_spill(number, &message) {
            return;
        }
        self.keep_event(number, message);
    }

    fn keep_event(&mut self, number: u32, message: Message) {
        self.tickets += 1;
        self.events.insert(self.tickets, Unacked { partition: number, message });
        self.waiting_events.push_back(self.tickets);
    }

    fn try_spill(&mut self, number: u32, message: &Message) -> bool {
        let Some(p) = self.partitions.get_mut(&number) else { return false };
        let body = postcard::to_stdvec(message).expect("plain data always encodes");
        let bytes = [&(body.len() as u32).to_le_bytes()[..], &body].concat();
        match self.store.spill(&p.name, p.spill.generation, p.spill.to, &bytes) {
            Ok(()) => {
                p.spill.to += bytes.len() as u64;
                self.tallies.spilled += 1;
                true
            }
            Err(error) => {
                self.stall(error.to_string());
                false
            }
        }
    }

    /// Takes events back from the spill while there is room.
    fn unspill(&mut self) -> Result<(), Failure<I, O, S>> {
        let spilled = |p: &Partition| p.spill.from < p.spill.to;
        if self.events.len() * 2 > self.settings.pending_events || !self.partitions.values().any(spilled) {
            return Ok(());
        }
        let numbers: Vec<u32> = self.partitions.iter().filter(|(_, p)| spilled(p)).map(|(n, _)| *n).collect();
        for number in numbers {
            while self.events.len() < self.settings.pending_events {
                let Some(p) = self.partitions.get_mut(&number).filter(|p| spilled(p)) else { break };
                let head = self.store.unspill(&p.name, p.spill.generation, p.spill.from, 4);
                let head = head.map_err(DriverError::Store)?;
                let len = <[u8; 4]>::try_from(head.as_slice()).map_or(0, u32::from_le_bytes) as usize;
                let body = self.store.unspill(&p.name, p.spill.generation, p.spill.from + 4, len);
                let body = body.map_err(DriverError::Store)?;
                match postcard::from_bytes::<Message>(&body) {
                    Ok(message) if head.len() == 4 && body.len() == len => {
                        p.spill.from += 4 + len as u64;
                        self.keep_event(number, message);
                    }
                    // A spill is removed only when all of it was acknowledged: one that is gone holds nothing new.
                    _ => p.spill.from = p.spill.to,
                }
            }
            let drained = self.partitions.get_mut(&number).filter(|p| !spilled(p));
            if let Some(p) = drained {
                p.drained[0].push(p.spill.generation);
                p.spill = Spill { generation: p.spill.generation + 1, from: 0, to: 0 };
                p.dirty = true;
            }
        }
        self.offer()
    }

    /// Offers what waits, as far as the outlet takes it.
    fn offer(&mut self) -> Result<(), Failure<I, O, S>> {
        while let Some(ticket) = self.waiting_events.front() {
            if let Some(unacked) = self.events.get(ticket)
                && !self.outlet.offer(*ticket, &unacked.message).map_err(DriverError::Outlet)?
            {
                break;
            }
            self.waiting_events.pop_front();
        }
        while let Some(ticket) = self.waiting_bulk.front() {
            if let Some(message) = self.bulk.get(ticket)
                && !self.outlet.offer(*ticket, message).map_err(DriverError::Outlet)?
            {
                break;
            }
            self.waiting_bulk.pop_front();
        }
        Ok(())
    }

    /// Takes acknowledgements, offers again what failed and what waits.
    fn collect(&mut self, wait: Duration) -> Result<(), Failure<I, O, S>> {
        let mut acks = std::mem::take(&mut self.acks);
        let idle = self.events.is_empty() && self.bulk.is_empty();
        self.outlet
            .collect(if idle { Duration::ZERO } else { wait }, &mut acks)
            .map_err(DriverError::Outlet)?;
        let now = self.clock.elapsed();
        for ack in acks.drain(..) {
            match ack {
                Ack::Done(ticket) => {
                    self.settle(ticket);
                    self.last_ack = now;
                    if std::mem::take(&mut self.stalled) {
                        self.notices.push(Notice::SinkRecovered);
                    }
                }
                Ack::Again(ticket, why) => {
                    self.again.push((now + RETRY_AFTER, ticket));
                    self.stall(why);
                }
                Ack::Never(ticket, why) => {
                    self.settle(ticket);
                    self.tallies.given_up += 1;
                    self.notices.push(Notice::GivenUp(why));
                }
            }
        }
        self.acks = acks;
        let idle = self.events.is_empty() && self.bulk.is_empty();
        if !idle && now.saturating_sub(self.last_ack) > STALLED_AFTER {
            self.stall(format!("no answer for {} s", STALLED_AFTER.as_secs()));
        }
        if idle {
            self.last_ack = now;
        }
        let (events, bulk) = (&mut self.waiting_events, &mut self.waiting_bulk);
        self.again.retain(|(at, ticket)| {
            let due = *at <= now;
            if due && self.events.contains_key(ticket) {
                events.push_back(*ticket);
            } else if due {
                bulk.push_back(*ticket);
            }
            !due
        });
        self.offer()
    }

    fn settle(&mut self, ticket: u64) {
        if let Some(unacked) = self.events.remove(&ticket) {
            if let Some(p) = self.partitions.get_mut(&unacked.partition) {
                p.dirty = true;
            }
        } else {
            self.bulk.remove(&ticket);
        }
    }

    fn stall(&mut self, why: String) {
        if !std::mem::replace(&mut self.stalled, true) {
            self.notices.push(Notice::SinkStalled(why));
        }
    }

    /// Whether reading must wait for the sinks.
    fn backed_up(&self) -> bool {
        // Events are spilled; only where nothing can be spilled do they hold the reading back.
        self.bulk.len() >= self.settings.pending_bulk || self.events.len() > self.settings.pending_events * 2
    }

    fn publish(&mut self, number: u32) -> Result<(), S::Error> {
        let pending =
            self.events.values().filter(|u| u.partition == number).map(|u| u.message.clone()).collect();
        let Some(p) = self.partitions.get_mut(&number) else { return Ok(()) };
        let checkpoint = Checkpoint {
            next: p.next,
            journaled: p.journaled,
            pipeline: p.pipeline.snapshot(),
            pending,
            spill: p.spill,
        };
        let bytes = checkpoint.to_bytes();
        self.store.publish(&p.name, &bytes)?;
        p.dirty = false;
        self.tallies.checkpoints += 1;
        self.tallies.checkpoint_bytes += bytes.len() as u64;
        p.applied = [p.pipeline.applied(), p.applied[0]];
        // The checkpoint before the newest may still be needed, and its spill with it.
        for generation in std::mem::take(&mut p.drained[1]) {
            self.store.forget(&p.name, generation)?;
        }
        p.drained[1] = std::mem::take(&mut p.drained[0]);
        if p.journal_bytes > JOURNAL_BYTES {
            // The checkpoint before the newest may still be needed.
            let text = self.store.journal(&p.name)?;
            // One that can't be read is left for a person to look at.
            if let Ok(records) = journal::parse(&text) {
                let needed = records.iter().filter(|r| r.entry.number > p.applied[1]);
                let tail: Vec<u8> = needed.flat_map(Record::line).collect();
                self.store.trim(&p.name, &tail)?;
                p.journal_bytes = tail.len() as u64;
            }
        }
        Ok(())
    }

    /// Partitions that a command concerns, and what is written to their journals.
    fn concerns(&self, command: &Command) -> Result<(Vec<u32>, Content), Refusal> {
        let unknown = |what, name: &str, known: &mut dyn Iterator<Item = &str>| Refusal::Unknown {
            what,
            name: name.into(),
            nearest: nearest(name, known),
        };
        let group = |signal: &str| {
            let at = self.plan.groups.iter().position(|g| g.raw.id == signal);
            at.ok_or_else(|| {
                unknown("signal", signal, &mut self.plan.groups.iter().map(|g| g.raw.id.as_str()))
            })
        };
        let (numbers, content): (Vec<u32>, _) = match command {
            Command::Hold { signal } | Command::Release { signal } => {
                let at = group(signal)?;
                let signal = signal.clone();
                let content = match command {
                    Command::Hold { .. } => Content::Hold { signal },
                    _ => Content::Release { signal },
                };
                let hears = self.partitions.iter().filter(|(_, p)| p.pipeline.hears(at));
                (hears.map(|(n, _)| *n).collect(), content)
            }
            Command::Rebaseline { rule, tag } => {
                if !self.plan.rules.iter().any(|r| r.raw.id == *rule) {
                    return Err(unknown(
                        "rule",
                        rule,
                        &mut self.plan.rules.iter().map(|r| r.raw.id.as_str()),
                    ));
                }
                let knows = self.partitions.iter().filter(|(_, p)| p.pipeline.has_heard(tag));
                let knows: Vec<u32> = knows.map(|(n, _)| *n).collect();
                if knows.is_empty() && !self.homes.is_empty() {
                    return Err(unknown("tag", tag, &mut self.homes.keys().map(String::as_str)));
                }
                (knows, Content::Rebaseline { rule: rule.clone(), tag: tag.clone() })
            }
        };
        if numbers.is_empty() {
            return Err(Refusal::Nowhere);
        }
        Ok((numbers, content))
    }
}

/// Code, reason and place of a dead letter, for a reader.
fn describe(letter: &Message) -> String {
    let header = |name: &str| {
        let found = letter.headers.iter().find(|(n, _)| n == name);
        found.map_or("", |(_, value)| std::str::from_utf8(value).unwrap_or(""))
    };
    let (topic, partition, offset) = (header("topic"), header("partition"), header("offset"));
    format!("{} ({}) at {topic}-{partition} offset {offset}", header("reason"), header("code"))
}

/// Gathers readings so that those of one metric stand together.
#[derive(Default)]
struct Readings {
    by_metric: BTreeMap<Metric, Vec<Reading>>,
    signals: Vec<SignalReading>,
}

impl Readings {
    fn add(&mut self, metric: Metric, labels: Vec<(&'static str, String)>, value: f64) {
        self.by_metric.entry(metric).or_default().push(Reading { metric, labels, value });
    }

    fn partition(&mut self, name: &str, pipeline: &Pipeline, next: i64, tags_limit: u32) {
        let of = |more: &[(&'static str, &str)]| {
            let mut labels = vec![("partition", name.to_string())];
            labels.extend(more.iter().map(|(k, v)| (*k, (*v).to_string())));
            labels
        };
        let c = pipeline.counters();
        let fates = [
            ("in", c.rows_in),
            ("processed", c.processed),
            ("late", c.late),
            ("dead_letter", c.dead_letters),
            ("duplicate", c.duplicates),
            ("shed", c.shed),
        ];
        for (fate, n) in fates {
            self.add(Metric::Rows, of(&[("fate", fate)]), n as f64);
        }
        let (switches, recoveries) = pipeline.switches();
        let numbers = [
            (Metric::RowsHeld, c.held),
            (Metric::MissedTick, c.missed_tick),
            (Metric::FutureRows, c.future),
            (Metric::EarlyReleases, c.early),
            (Metric::ForgottenSamples, c.forgotten),
            (Metric::Tags, pipeline.tag_count() as u64),
            (Metric::TagsLimit, u64::from(tags_limit)),
            (Metric::Switches, switches),
            (Metric::Recoveries, recoveries),
        ];
        for (metric, n) in numbers {
            self.add(metric, of(&[]), n as f64);
        }
        if let Some(progress) = pipeline.progress() {
            self.add(Metric::Progress, of(&[]), progress as f64 / 1e9);
        }
        self.add(Metric::NextOffset, of(&[]), next as f64);
        for (rule, f) in pipeline.flags() {
            let flags = [
                ("good", f.good),
                ("not_evaluated", f.not_evaluated),
                ("suspect", f.suspect),
                ("fail", f.fail),
                ("missing", f.missing),
            ];
            for (flag, n) in flags {
                self.add(Metric::Verdicts, of(&[("rule", &rule), ("flag", flag)]), n as f64);
            }
        }
        for (rule, severity, n) in pipeline.alerts_firing() {
            self.add(Metric::AlertsFiring, of(&[("rule", rule), ("severity", severity)]), n as f64);
        }
        for (i, (signal, state)) in pipeline.signals().into_iter().enumerate() {
            if pipeline.hears(i) {
                self.add(Metric::SignalState, of(&[("signal", &signal), ("state", state.name())]), 1.0);
                self.signals.push(SignalReading {
                    signal,
                    partition: pipeline.partition(),
                    state: state.name(),
                });
            }
        }
    }

    fn finish(self) -> Readout {
        Readout { readings: self.by_metric.into_values().flatten().collect(), signals: self.signals }
    }
}

/// Operational events that are told one by one.
const TOLD: usize = 1_000;
/// Between looks at the clock.
const CLOCK_EVERY: Duration = Duration::from_secs(1);
/// Between notices of refused rows.
const REFUSED_EVERY: Duration = Duration::from_secs(60);
/// A source in trouble for so long is told.
const AWAY_AFTER: Duration = Duration::from_secs(10);
/// How long the clock waits after an outage, so that those who send can catch up.
const AFTER_OUTAGE: Duration = Duration::from_secs(15);
/// Until the next look when no broker answered.
const NO_ANSWER_WAIT: Duration = Duration::from_secs(5);
/// How long a checkpoint waits for bulk outputs before it is put off.
const CHECKPOINT_WAIT: Duration = Duration::from_millis(500);
/// How long the end of the input waits for the sinks.
const END_WAIT: Duration = Duration::from_secs(30);
/// How long a stop waits for what need not be sent again.
const POLITE_WAIT: Duration = Duration::from_secs(2);
/// One wait for acknowledgements.
const SHORT_WAIT: Duration = Duration::from_millis(50);
/// How long until a message that failed is offered again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// A sink without any answer for so long is stalled.
const STALLED_AFTER: Duration = Duration::from_secs(10);
/// A journal longer than this is cut at the next checkpoint.
const JOURNAL_BYTES: u64 = 1024 * 1024;
