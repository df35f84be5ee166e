//! The loop of a running stream.
//!
//! Rows come from an [`Inlet`], outputs go to an [`Outlet`], state is kept in a [`Store`], and only here is a [`Clock`] asked
//! (`ports.rs`). [`Driver::step`] is one turn of the loop; what it calls is told in the files beside this one:
//! - `entries.rs`: commands and clock ticks, through the journal
//! - `outbox.rs`: outputs under way to their sinks, until they are acknowledged
//! - `commit.rs`: the commit order, of which it is the one owner: checkpoint, offsets, and what a start finds
//! - `notice.rs`: what a person should know
//! - `readout.rs`: what a server shows
//!
//! Absent: threads, sockets, files. What fails for a while (a sink that does not answer, a disk that is full) is told as a
//! [`Notice`] and tried again; only what can't be right is an error.

mod commit;
mod entries;
mod handover;
mod notice;
mod outbox;
mod ports;
mod readout;

pub use commit::{Kept, recover};
pub use notice::Notice;
pub use ports::{Ack, Clock, Fetched, Inlet, Input, Origin, Outlet, Store};
pub use readout::Tallies;

use crate::checkpoint::{CheckpointError, Spill};
use crate::columns::BatchError;
use crate::config::plan::Plan;
use crate::intake::Content;
use crate::journal::{self, JournalError, Place, Script};
use crate::output::Outputs;
use crate::payload::Message;
use crate::pipeline::{Pipeline, RestoreError};
use outbox::Unacked;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

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
    /// Partitions that a consumer group gave us and whose state is not free yet; whether that was told.
    awaited: BTreeMap<u32, bool>,
    next_claim: Duration,
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
            awaited: BTreeMap::new(),
            next_claim: now,
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
        let all = if driver.inlet.grouped() { 0 } else { driver.origins.len() as u32 };
        for number in 0..all {
            let starts = driver.inlet.start(number).is_some() && driver.store.keeps();
            let new = !driver.kept.contains_key(&driver.origins[number as usize]);
            if starts || !new {
                driver.open(number)?;
            }
            driver.keep_start(number, new);
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
        }
        let input = if self.held_back && self.backed_up() {
            self.inlet.idle()
        } else {
            self.held_back = false;
            self.inlet.poll(wait)
        };
        match input.map_err(DriverError::Inlet)? {
            Input::Rows(fetched) => self.take(fetched)?,
            Input::Nothing => {}
            Input::Assigned(numbers) => self.assigned(&numbers)?,
            Input::Revoked(numbers) => self.revoked(&numbers)?,
            Input::End => {
                self.finish()?;
                return Ok(false);
            }
        }
        self.claim_awaited()?;
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

    /// The partitions' pipelines, by number.
    pub fn pipelines(&self) -> impl Iterator<Item = &Pipeline> {
        self.partitions.values().map(|p| &p.pipeline)
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
}

/// Between looks at the clock.
const CLOCK_EVERY: Duration = Duration::from_secs(1);
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
