//! Commands and clock ticks become entries of a partition's journal: written first, applied then, each at its place.

use super::{
    AFTER_OUTAGE, CLOCK_EVERY, Clock, Driver, Failure, Inlet, NO_ANSWER_WAIT, Notice, Outlet, Partition,
    Store,
};
use crate::config::plan::nearest;
use crate::control::{Accepted, Command, EntryRef, Refusal};
use crate::intake::{Content, JournalEntry};
use crate::journal::{self, Record};

impl<I: Inlet, O: Outlet, S: Store, C: Clock> Driver<I, O, S, C> {
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

    /// Applies journal entries whose place has come.
    pub(super) fn apply_due(&mut self, number: u32) {
        let Some(p) = self.partitions.get_mut(&number) else { return };
        if !p.script.is_empty() {
            p.script.apply_until(p.next, &mut p.pipeline, &mut self.out);
            p.dirty = true;
        }
    }

    /// Moves time by the clock in partitions that have been read to their end.
    pub(super) fn tick(&mut self) -> Result<(), Failure<I, O, S>> {
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
    pub(super) fn write(&mut self, number: u32, content: Content) -> Result<u64, S::Error> {
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
