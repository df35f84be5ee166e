//! The commit order: the only place where a checkpoint is made, offsets are committed and a checkpoint is found again.
//!
//! Bulk outputs so far acknowledged → snapshot with the place in the log and the events not yet acknowledged → published →
//! offsets committed. A crash between any two steps loses nothing: what was judged after the last published checkpoint is
//! judged again, with the same ids.

use super::{Clock, Driver, DriverError, Failure, Inlet, Notice, Origin, Outlet, SHORT_WAIT, Store};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::journal::{self, Record};
use std::collections::BTreeMap;
use std::time::Duration;

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
        if let Some(kept) = recover_one(store, &name)? {
            all.insert(origin, kept);
        }
    }
    Ok(all)
}

/// The newest usable checkpoint of one partition.
pub(super) fn recover_one<I: std::error::Error, O: std::error::Error, S: Store>(
    store: &mut S,
    name: &str,
) -> Result<Option<Kept>, DriverError<I, O, S::Error>> {
    let refused = |source| DriverError::Checkpoint { partition: name.into(), source };
    let mut passed_over = None;
    for bytes in store.checkpoints(name).map_err(DriverError::Store)? {
        match Checkpoint::from_bytes(&bytes) {
            Ok(checkpoint) => {
                if passed_over.is_some() {
                    // Else the next checkpoint would push the good one out.
                    store.set_aside(name).map_err(DriverError::Store)?;
                }
                return Ok(Some(Kept { checkpoint, passed_over }));
            }
            // An older one would be read as if it were the newest.
            Err(source @ CheckpointError::Version { .. }) => return Err(refused(source)),
            Err(error) => {
                passed_over.get_or_insert(error);
            }
        }
    }
    passed_over.map_or(Ok(None), |source| Err(refused(source)))
}

/// A journal longer than this is cut at the next checkpoint.
const JOURNAL_BYTES: u64 = 1024 * 1024;

impl<I: Inlet, O: Outlet, S: Store, C: Clock> Driver<I, O, S, C> {
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
            // One that fails leaves the others no worse.
            if let Err(error) = self.publish(number) {
                self.tallies.failures += 1;
                self.failure = Some(error.to_string());
                if !std::mem::replace(&mut self.unsaved, true) {
                    self.notices.push(Notice::NoCheckpoint(error.to_string()));
                }
            }
        }
        if self.failure.is_some() {
            return Ok(false);
        }
        if std::mem::take(&mut self.unsaved) {
            self.notices.push(Notice::CheckpointRecovered);
        }
        // Without a checkpoint the group's offset is where a restart begins: it may not pass events that have not arrived.
        if self.inlet.grouped() && !self.store.keeps() && !self.events.is_empty() {
            return Ok(false);
        }
        let next = self.partitions.values().map(|p| (p.origin.clone(), p.next.offset)).collect();
        if let Err(error) = self.inlet.commit(&next, false) {
            self.notices.push(Notice::NoCommit(error.to_string()));
        }
        let now = self.clock.elapsed();
        self.next_checkpoint = now + self.settings.checkpoint_every.max((now - began) * 10);
        Ok(true)
    }

    /// Makes the checkpoint of one partition durable; then goes what only the one before the last needed.
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
}
