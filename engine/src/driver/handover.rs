//! Partitions that come and go, where a consumer group decides who reads what: the state follows the partition.
//!
//! Taken: the store lets nobody else at its state → its checkpoint is found → it is read from where that ends.
//! Given back: a checkpoint → offsets committed → the store lets others at its state → the group hears that it is free.
//! A member that was thrown out without hearing of it keeps the store's lock, so nobody goes on before it has let go.

use super::commit::recover_one;
use super::{Clock, Driver, DriverError, Failure, Inlet, NO_ANSWER_WAIT, Notice, Outlet, SHORT_WAIT, Store};
use crate::journal::Place;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a checkpoint of partitions that go waits for bulk outputs.
const HANDOVER_WAIT: Duration = Duration::from_secs(10);

/// Until a partition whose state is not free yet is tried again.
const CLAIM_EVERY: Duration = Duration::from_millis(200);

impl<I: Inlet, O: Outlet, S: Store, C: Clock> Driver<I, O, S, C> {
    /// Partitions that the group gave to this member.
    pub(super) fn assigned(&mut self, numbers: &[u32]) -> Result<(), Failure<I, O, S>> {
        self.awaited.extend(numbers.iter().map(|number| (*number, false)));
        self.next_claim = self.clock.elapsed();
        self.claim_awaited()
    }

    /// Goes on with partitions that were assigned, as far as their state is free.
    pub(super) fn claim_awaited(&mut self) -> Result<(), Failure<I, O, S>> {
        let now = self.clock.elapsed();
        if self.awaited.is_empty() || now < self.next_claim {
            return Ok(());
        }
        self.next_claim = now + CLAIM_EVERY;
        let mut free = Vec::new();
        for (number, told) in &mut self.awaited {
            let origin = &self.origins[*number as usize];
            let name = origin.to_string();
            // A disk that is full for a while is no reason to end, and for the next member neither.
            let refused = match self.store.claim(&name) {
                Ok(true) => None,
                Ok(false) => Some("another process still has its state".to_string()),
                Err(error) => Some(error.to_string()),
            };
            if let Some(why) = refused {
                if !std::mem::replace(told, true) {
                    self.notices.push(Notice::Awaits { partition: name, why });
                }
                continue;
            }
            let kept = recover_one(&mut self.store, &name)?;
            free.push((*number, kept.as_ref().map(|kept| kept.checkpoint.next.offset)));
            match kept {
                Some(kept) => self.kept.insert(origin.clone(), kept),
                None => self.kept.remove(origin),
            };
        }
        let begun = self.inlet.begin(&free).map_err(DriverError::Inlet)?;
        for (number, _) in free {
            if begun.contains(&number) {
                self.awaited.remove(&number);
                let new = !self.kept.contains_key(&self.origins[number as usize]);
                self.open(number)?;
                if !self.keep_start(number, new) && new {
                    let name = self.origins[number as usize].to_string();
                    self.notices.push(Notice::Begins { partition: name, next: Place::default() });
                }
            } else {
                let name = self.origins[number as usize].to_string();
                self.store.release(&name).map_err(DriverError::Store)?;
                // Asking takes time from the partitions that are read.
                self.next_claim = self.clock.elapsed() + NO_ANSWER_WAIT;
                let told = self.awaited.get_mut(&number).map(|told| std::mem::replace(told, true));
                if told == Some(false) {
                    let why = "no broker says where it stands".to_string();
                    self.notices.push(Notice::Awaits { partition: name, why });
                }
            }
        }
        Ok(())
    }

    /// Where a stream begins is kept from the first moment on, also if that is the beginning of an empty log: "latest" is somewhere
    /// else at the next start. `new` says that there is no checkpoint yet; false if the place needs no telling.
    pub(super) fn keep_start(&mut self, number: u32, new: bool) -> bool {
        let start = self.inlet.start(number);
        let Some(p) = self.partitions.get_mut(&number) else { return false };
        let later = start.filter(|start| *start > p.next.offset);
        if later.is_some() || new && start.is_some() {
            (p.dirty, self.next_checkpoint) = (true, self.clock.elapsed());
        }
        let Some(start) = later else { return false };
        p.next = Place { offset: start, index: 0 };
        self.notices.push(Notice::Begins { partition: p.name.clone(), next: p.next });
        true
    }

    /// Partitions that the group takes away.
    pub(super) fn revoked(&mut self, numbers: &[u32]) -> Result<(), Failure<I, O, S>> {
        let mine: Vec<u32> = numbers.iter().copied().filter(|n| self.partitions.contains_key(n)).collect();
        if !mine.is_empty() {
            let keeps = self.store.keeps();
            self.checkpoint(HANDOVER_WAIT)?;
            // Where nothing is kept, the offset is all that who takes over has: events must have arrived before it is committed.
            let until = self.clock.elapsed() + HANDOVER_WAIT;
            while !keeps && self.waits_for(&mine) && self.clock.elapsed() < until {
                self.collect(SHORT_WAIT)?;
            }
            let whole = |n: &u32| match self.partitions.get(n) {
                Some(p) if keeps => !p.dirty,
                _ => !self.waits_for(&[*n]),
            };
            let saved: Vec<u32> = mine.iter().copied().filter(whole).collect();
            let place = |n: &u32| self.partitions.get(n).map(|p| (p.origin.clone(), p.next.offset));
            let next: BTreeMap<_, _> = saved.iter().filter_map(place).collect();
            // With a checkpoint the offset is for people.
            if let Err(error) = self.inlet.commit(&next, !keeps) {
                self.notices.push(Notice::NoCommit(error.to_string()));
            }
            for number in &mine {
                let Some(p) = self.partitions.remove(number) else { continue };
                let saved = saved.contains(number);
                if keeps {
                    // Who takes over has them from the checkpoint, or finds them again after it.
                    self.events.retain(|_, unacked| unacked.partition != *number);
                }
                self.homes.retain(|_, home| home != number);
                self.store.release(&p.name).map_err(DriverError::Store)?;
                self.notices.push(Notice::GivenBack { partition: p.name, next: p.next, saved });
            }
        }
        self.awaited.retain(|number, _| !numbers.contains(number));
        self.inlet.release(numbers).map_err(DriverError::Inlet)
    }

    /// Whether events of these partitions, or anything else, are not acknowledged.
    fn waits_for(&self, numbers: &[u32]) -> bool {
        !self.bulk.is_empty() || self.events.values().any(|unacked| numbers.contains(&unacked.partition))
    }
}
