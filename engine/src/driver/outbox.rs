//! The way of an output to its sink: a ticket, offered until it is acknowledged, an event in the spill when there are too many.

use super::notice::describe;
use super::{Ack, Clock, Driver, DriverError, Failure, Inlet, Notice, Outlet, Partition, Store};
use crate::checkpoint::Spill;
use crate::output::{Transition, What};
use crate::payload::{self, Channel, Message};
use std::time::Duration;

/// A message that is not acknowledged.
pub(super) struct Unacked {
    pub(super) partition: u32,
    pub(super) message: Message,
}

/// How long until a message that failed is offered again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A sink without any answer for so long is stalled.
const STALLED_AFTER: Duration = Duration::from_secs(10);

impl<I: Inlet, O: Outlet, S: Store, C: Clock> Driver<I, O, S, C> {
    /// Turns what a partition put out into messages under way.
    pub(super) fn send(&mut self, number: u32) -> Result<(), Failure<I, O, S>> {
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

    pub(super) fn keep_event(&mut self, number: u32, message: Message) {
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
    pub(super) fn unspill(&mut self) -> Result<(), Failure<I, O, S>> {
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
    pub(super) fn collect(&mut self, wait: Duration) -> Result<(), Failure<I, O, S>> {
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
    pub(super) fn backed_up(&self) -> bool {
        // Events are spilled; only where nothing can be spilled do they hold the reading back.
        self.bulk.len() >= self.settings.pending_bulk || self.events.len() > self.settings.pending_events * 2
    }
}
